"""Write the generated parts of the reference pages: `python docs/generate.py`, or `--check` to be told what differs.

settings.md, run-file.md and the example file are generated whole. Of metrics.md, events.md, commands.md and http.md
it is what stands between `<!-- generated: ... -->` and `<!-- end -->`; around that people write. The words are those
of the code: help of a metric, meaning of an event, help of a command, docstring of a route. A path such as
docs/history.md#traces in them becomes a link. A command that has no section yet gets one.
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import click
from fastapi import FastAPI
from fastapi.routing import APIRoute

from crewd.cli.main import COMMANDS, cli
from crewd.cli.options import config_option, json_option, state_option
from crewd.config import pages as settings_pages
from crewd.config.run_file import page as run_file_page
from crewd.model.catalogue import EVENTS
from crewd.telemetry.families import FAMILIES, LIBRARY, Family
from crewd.web.app import routes

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs/reference"
BLOCK = re.compile(r"(<!-- generated: ([a-z -]+?) -->\n).*?(<!-- end -->)", re.DOTALL)
NAMED_PAGE = re.compile(r"docs/(reference/)?([\w-]+)\.md(?:#([\w-]+))?")
LARGE = 2**31 - 1  # bounds from here on only keep numbers within what the ledger can hold


def main(arguments: list[str]) -> str | None:
    """Write what differs, or with --check only name it; returns what to leave with."""
    old = {path: path.read_text() for path in generated()}
    new = generated()
    differing = [path for path in new if new[path] != old[path]]
    if "--check" in arguments:
        names = ", ".join(str(path.relative_to(ROOT)) for path in differing)
        return f"{names}: not what the code says; run `python docs/generate.py`" if differing else None
    for path in differing:
        path.write_text(new[path])
        sys.stdout.write(f"{path.relative_to(ROOT)} written\n")
    return None


def generated() -> dict[Path, str]:
    """Lay out every page that is generated, whole or in part, as it should be."""
    example, settings, run_files = _whole_pages()
    made = {
        ROOT / "config/crewd.toml": example,
        REFERENCE / "settings.md": settings,
        REFERENCE / "run-file.md": run_files,
    }
    for name in ("metrics", "events", "commands", "http"):
        path = REFERENCE / f"{name}.md"
        text = path.read_text()
        made[path] = renewed(with_every_command(text) if name == "commands" else text)
    return made


@cache
def _whole_pages() -> tuple[str, str, str]:
    return settings_pages.as_toml(), settings_pages.as_markdown(), run_file_page.as_markdown()


def renewed(page: str) -> str:
    """Write the generated parts of a page anew. Raises ValueError for one that nothing is known of."""

    def renew(block: re.Match[str]) -> str:
        kind, _, rest = block[2].partition(" ")
        if kind not in PARTS:
            raise ValueError(f"<!-- generated: {block[2]} -->: give one of {', '.join(PARTS)}")
        return "\n".join([block[1], *PARTS[kind](rest), "", block[3]])

    return BLOCK.sub(renew, page)


def metrics(which: str) -> Iterator[str]:
    """Tell the families whose name begins so; "process": those of the library."""
    chosen = LIBRARY if which == "process" else [each for each in FAMILIES if each.name.startswith(f"{which}_")]
    yield from table(("name", "type", "labels", "meaning"), map(_family, chosen))


def _family(family: Family) -> tuple[str, ...]:
    kind = family.kind.value
    if family.buckets:
        kind += f" (buckets {family.buckets[0]:g} to {family.buckets[-1]:g})"
    was = f" Was: {_code(family.dotted)}." if family.dotted else ""
    return f"`{family.name}`", kind, _code(family.labels) or "-", family.help + was


def events(_: str) -> Iterator[str]:
    yield from table(("type", "meaning"), ((f"`{name}`", meaning) for name, meaning in EVENTS.items()))


def with_every_command(page: str) -> str:
    """Add a section for each command that has none."""
    for name in COMMANDS:
        if not re.search(rf"^## crewd {name}\b(?!-)", page, re.MULTILINE):
            words = "\n\n".join(_paragraphs(_command(name)[1].help or ""))
            page += f"\n## crewd {name}\n\n{words}\n\n<!-- generated: command {name} -->\n<!-- end -->\n"
        elif f"<!-- generated: command {name} -->" not in page:
            raise ValueError(f"## crewd {name} has no <!-- generated: command {name} --> with <!-- end --> below it")
    return page


def index(_: str) -> Iterator[str]:
    """Name every command with what it is for, and lead to its section."""
    headings = re.findall(r"^## (crewd (\S+).*)$", (REFERENCE / "commands.md").read_text(), re.MULTILINE)
    anchors = {name: re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading, name in headings}
    rows = (
        (f"[`crewd {name}`](#{anchors.get(name, f'crewd-{name}')})", what) for name, (_, what) in COMMANDS.items()
    )
    yield from table(("command", ""), rows)


def command(name: str) -> Iterator[str]:
    """Tell how a command is called, and its options; of a group, those of each command in it."""
    context, found = _command(name)
    if not isinstance(found, click.Group) or found.invoke_without_command:
        yield from _called(context, found)
    if isinstance(found, click.Group):
        for number, word in enumerate(found.list_commands(context)):
            inner = found.get_command(context, word)
            assert inner is not None
            if number or found.invoke_without_command:
                yield ""
            yield f"### crewd {name} {word}"
            yield ""
            yield "\n\n".join(_paragraphs(inner.help or ""))
            yield ""
            yield from _called(click.Context(inner, info_name=word, parent=context), inner)


def _command(name: str) -> tuple[click.Context, click.Command]:
    root = click.Context(cli, info_name="crewd")
    found = cli.get_command(root, name)
    assert found is not None
    return click.Context(found, info_name=name, parent=root), found


def _called(context: click.Context, found: click.Command) -> Iterator[str]:
    yield f"    {context.command_path} {' '.join(found.collect_usage_pieces(context))}"
    options = [each for each in found.params if isinstance(each, click.Option)]
    shared = [each for each in options if (tuple(each.opts), each.help) in SHARED]
    own = [row for each in options if each not in shared if (row := _option(context, each))]
    if own:
        yield ""
        yield from table(("option", ""), own)
    if shared:
        names = ", ".join(f"`{each.opts[0]}`" for each in shared)
        yield ""
        yield f"{'Also ' if own else ''}{names}."


def _option(context: click.Context, option: click.Option) -> tuple[str, str] | None:
    record = option.get_help_record(context)
    if record is None:
        return None
    spelt = re.sub(r"\b(INTEGER|FLOAT)( RANGE)?\b", "N", record[0]).replace("[", "").replace("]", "")
    words, _, extra = record[1].rpartition("  [") if record[1].endswith("]") else (record[1], "", "")
    if not words and record[1].startswith("["):
        extra = record[1][1:]
    bounds = f"({_spoken(extra[:-1])})" if extra else ""
    names = spelt.replace(" / ", ", ").split(", ")
    return ", ".join(f"`{name}`" for name in names), " ".join(filter(None, (words, bounds)))


def _spoken(bounds: str) -> str:
    """Say click's `default: 5.0; 0.0<=x<=600.0` in words."""
    said = re.sub(r"([\d.]+)<=x<=([\d.]+)", r"\1 to \2", bounds)
    return re.sub(r"x>=([\d.]+)", r"from \1", said).replace("default: ", "default ").replace(".0", "")


def _shared() -> set[tuple[tuple[str, ...], str | None]]:
    @json_option
    @state_option
    @config_option
    def nothing() -> None: ...

    options: list[click.Option] = nothing.__click_params__  # type: ignore[attr-defined]  # where click keeps them
    return {(tuple(each.opts), each.help) for each in options}


def reads(_: str) -> Iterator[str]:
    rows = (
        (f"`{path}`", _linked(_words(operation)), _statuses(operation))
        for path, operation in _operations("get")
    )  # fmt: skip
    yield from table(("route", "answers", "status"), rows)


def changes(_: str) -> Iterator[str]:
    rows = (
        (f"`{path}`", _fields(operation), _linked(_words(operation)))
        for path, operation in _operations("post")
    )  # fmt: skip
    yield from table(("route", "body", "does"), rows)


def parameters(method: str) -> Iterator[str]:
    """Tell what may be said with a request of a method, each parameter of one meaning once."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for path, operation in _operations("post" if method == "changes" else "get"):
        for name, schema, words in _inputs(operation):
            found.setdefault((name, _kind(schema), words), []).append(f"`{path}`")
    rows = ((f"`{name}`", kind, words, ", ".join(of)) for (name, kind, words), of in sorted(found.items()))
    yield from table(("field" if method == "changes" else "parameter", "", "meaning", "of"), rows)


def _operations(method: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    app, description = _application()
    hidden: dict[str, Mapping[str, Any]] = {
        route.path: {"description": inspect.getdoc(route.endpoint), "responses": {"200": {}}}
        for route in app.routes
        if isinstance(route, APIRoute) and not route.include_in_schema and method.upper() in (route.methods or ())
    }
    told = {path: each[method] for path, each in description["paths"].items() if method in each}
    schemas = description["components"]["schemas"]
    for path, operation in sorted({**hidden, **told}.items()):
        yield path, {**operation, "schemas": schemas}


@cache
def _application() -> tuple[FastAPI, Mapping[str, Any]]:
    app = routes(MagicMock())  # nothing is asked of it
    return app, app.openapi()


def _words(operation: Mapping[str, Any]) -> str:
    return " ".join(operation["description"].split())


def _statuses(operation: Mapping[str, Any]) -> str:
    return ", ".join(sorted(code for code in operation["responses"] if code.isdigit()))


def _body(operation: Mapping[str, Any]) -> Mapping[str, Any]:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
    found: Mapping[str, Any] = operation["schemas"].get(name, {})
    return found


def _fields(operation: Mapping[str, Any]) -> str:
    body = _body(operation)
    needed = body.get("required", ())
    return ", ".join(f"**`{name}`**" if name in needed else f"`{name}`" for name in body.get("properties", ())) or "-"


def _inputs(operation: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    for each in operation.get("parameters", ()):
        if each["in"] == "query":
            yield each["name"], each["schema"], each.get("description", "")
    for name, schema in _body(operation).get("properties", {}).items():
        yield name, schema, schema.get("description", "")


def _kind(schema: Mapping[str, Any]) -> str:
    """Say what a value may be, and what it is where it is left out."""
    chosen = next((each for each in schema.get("anyOf", ()) if each.get("type") != "null"), schema)
    default = schema.get("default")
    item = chosen.get("items", {}) if chosen.get("type") == "array" else chosen
    words = [_code(item["enum"])] if "enum" in item else [_span(item)]
    if default not in (None, "", [], False):
        words.append(f"`{default}` by default")
    return "; ".join(word for word in words if word)


def _span(schema: Mapping[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    match schema.get("type"):
        case "boolean":
            return "`true` or `false`"
        case "integer" | "number" if high is not None and high < LARGE:
            return f"{low:g} to {high:.0f}"
        case "integer" | "number":
            return f"{low:g} or more" if low is not None else "a number"
        case "object":
            return "an object"
    return ""


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Lay out a table of Markdown."""
    names = list(head)
    yield _row(names)
    yield "|" + "---|" * len(names)
    yield from map(_row, rows)


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _linked(words: str) -> str:
    def link(found: re.Match[str]) -> str:
        inside, page, anchor = found.groups()
        where = "" if inside and page == "http" and anchor else f"{'' if inside else '../'}{page}.md"
        return f"[{anchor or page}]({where}{f'#{anchor}' if anchor else ''})"

    return NAMED_PAGE.sub(link, words)


def _paragraphs(words: str) -> list[str]:
    return [" ".join(each.split()) for each in re.split(r"\n\s*\n", inspect.cleandoc(words).replace("\b", ""))]


SHARED = _shared()
PARTS: Mapping[str, Callable[[str], Iterator[str]]] = {
    "metrics": metrics,
    "events": events,
    "command": command,
    "index": index,
    "reads": reads,
    "changes": changes,
    "parameters": parameters,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
