"""The page's files: what is served, how, and what may never stand in one of them."""

import re
import shutil
import subprocess
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import pytest

import crewd
from crewd.web.assets import TYPES, media_type, read_assets
from crewd.web.guard import SECURITY
from tests.web.world import State, ask

FOUND = read_assets()
SCRIPTS = sorted(name for name in FOUND if name.endswith(".js"))
TEXTS = {name: data.decode() for name, data in FOUND.items()}
FOLDER = Path(crewd.__file__).parent / "web" / "assets"
POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    "img-src": "'self' data:",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
# What makes markup or code of a text, or would need the policy to be looser.
FORBIDDEN = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\s*\(|new\s+Function|srcdoc|DOMParser"
    r"|createContextualFragment|setTimeout\(\s*[\"'`]|setInterval\(\s*[\"'`]|javascript:|\.cssText|localStorage"
)
NAMESPACE = "http://www.w3.org/2000/svg"  # a name, which nobody asks anybody for


class Markup(HTMLParser):
    """What an HTML file asks a browser for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if data.strip() and self.tags:
            self.inside.append((self.tags[-1][0], data))


def headers(path: str) -> dict[str, str]:
    return dict(ask(State(), path).headers)


@pytest.mark.parametrize("name", sorted(FOUND))
def test_every_file_is_served_as_what_it_is(name: str) -> None:
    answer = ask(State(), f"/assets/{name}")
    assert (answer.status_code, answer.content) == (200, FOUND[name])
    assert answer.headers["content-type"] == TYPES[name[name.rindex(".") :]]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"


def test_the_page_stands_at_the_root_and_the_one_without_scripts_beside_it() -> None:
    assert ask(State(), "/").content == FOUND["index.html"]
    plain = ask(State(), "/plain")
    assert plain.status_code == 200 and "r1" in plain.text
    assert '<a href="/plain">' in TEXTS["index.html"].partition("<noscript>")[2].partition("</noscript>")[0]


@pytest.mark.parametrize("path", ["/", "/plain", "/assets/app.js", "/assets/nothing.js", "/api/v1/status"])
def test_every_answer_lets_a_browser_load_from_here_alone_and_run_nothing_inline(path: str) -> None:
    parts = (each.strip().partition(" ") for each in headers(path)["content-security-policy"].split(";"))
    assert {name: value for name, _, value in parts} == POLICY
    assert "unsafe" not in dict(SECURITY)[b"content-security-policy"].decode()


@pytest.mark.parametrize(
    "name",
    ["nothing.js", "../page.py", "..%2fpage.py", "%2e%2e/page.py", "app.js/", "app.js%00", "APP.JS", ".", "index"],
)
def test_what_is_no_file_of_the_page_is_not_looked_for(name: str) -> None:
    answer = ask(State(), f"/assets/{name}")
    assert answer.status_code in (400, 404) and answer.headers["content-type"] == "application/json"


def test_a_query_is_refused_here_too() -> None:
    assert ask(State(), "/assets/app.js?v=1").status_code == 400
    assert ask(State(), "/?next=x").status_code == 400


def test_every_file_of_the_folder_has_a_known_type_and_is_part_of_the_package() -> None:
    there = {path.name for path in FOLDER.iterdir()}
    assert there == set(FOUND) and all(map(media_type, there))
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    # A package is taken into the wheel with all that lies in it, unless something is left out by name.
    assert wheel["packages"] == ["crewd"] and not {"include", "exclude", "only-include"} & wheel.keys()
    ignored = (Path(__file__).parents[2] / ".gitignore").read_text().splitlines()
    assert not [
        line for line in ignored if line.rstrip("/").split("/")[-1] in ("assets", "*.js", "*.css", "*.svg", "*.html")
    ]


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_makes_markup_or_code_of_a_text(name: str) -> None:
    assert FORBIDDEN.findall(TEXTS[name]) == []


@pytest.mark.parametrize("name", sorted(FOUND))
def test_no_file_names_an_address_elsewhere(name: str) -> None:
    text = TEXTS[name].replace(NAMESPACE, "")
    assert re.findall(r"(?:https?:|wss?:|ftp:)//|[\"'`(]//|@import|url\(", text) == []


@pytest.mark.parametrize("name", sorted(name for name in FOUND if name.endswith((".html", ".svg"))))
def test_no_markup_has_script_style_or_handlers_inline(name: str) -> None:
    read = Markup(TEXTS[name])
    for tag, attributes in read.tags:
        assert not [each for each in attributes if each.startswith("on") or each == "style"], tag
        if tag in ("script", "link"):
            address = attributes.get("src") or attributes.get("href") or ""
            assert address.removeprefix("/assets/") in FOUND, address
    assert not [data for tag, data in read.inside if tag in ("script", "style")]
    assert "<style" not in TEXTS[name]


def test_no_element_is_given_a_style_from_a_text() -> None:
    """A style attribute would be refused by the policy, and a reader would see a page without it."""
    for name in SCRIPTS:
        assert not re.findall(r"[{,]\s*style:", TEXTS[name]), name


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_a_script_imports_is_there(name: str) -> None:
    for module in re.findall(r"(?:from|import\()\s*[\"'`]([^\"'`]+)[\"'`]", TEXTS[name]):
        if "${" not in module:
            assert module.removeprefix("./") in FOUND, module
    shared = {
        each: set(re.findall(r"^export (?:async )?(?:const|function|class) (\w+)", TEXTS[each], re.M))
        for each in SCRIPTS
    }
    for names, module in re.findall(r"^import \{([^}]*)\} from \"\./([^\"]+)\"", TEXTS[name], re.M):
        wanted = {each.split(" as ")[0].strip() for each in names.split(",") if each.strip()}
        assert wanted <= shared[module], (module, wanted - shared[module])
        used = re.sub(r"^import .*$", "", TEXTS[name], flags=re.M)
        assert not [each for each in sorted(wanted) if not re.search(rf"\b{each}\b", used)], "imported, and not used"


def test_every_view_that_can_be_gone_to_is_there() -> None:
    table = TEXTS["app.js"].partition("const VIEWS = [")[2].partition("];")[0]
    names = {line.split('"')[7] for line in table.splitlines() if line.count('"') >= 8} | {"run", "task"}
    assert len(names) > 5
    for name in names:
        assert re.search(r"^export async function show\(", TEXTS[f"views-{name}.js"], re.M), name


def test_scripts_are_ones() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not here")
    for name in SCRIPTS:
        told = subprocess.run(
            [node, "--input-type=module", "--check"], input=FOUND[name], capture_output=True, timeout=30, check=False
        )
        assert told.returncode == 0, f"{name}: {told.stderr.decode()}"
