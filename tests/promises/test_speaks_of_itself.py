"""The project speaks of itself alone: no text names the machine it was made on, or an index it was fetched from."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
THIS = Path(__file__).relative_to(ROOT).as_posix()
NOT_OURS = {".git", ".venv", ".agents", ".grafana", "__pycache__", "build", "dist", ".hypothesis"}

# Folders of a machine. A home of an invented person, in an example, is none.
MACHINE_PATH = re.compile(
    r"(?<![\w.~-])/(?:work|root|Users|mnt|workspaces?)/[\w.-]|(?<![\w.~-])/tmp/[\w.-]"
    r"|(?<![\w.~-])/home/(?!(?:you|user|ann|x)\b)\w"
)
# Where packages come from is the business of whoever installs them.
INDEX_ADDRESS = re.compile(
    r"(?<!no-emit-)(?:extra-)?index[-_]url|find-links|trusted-host|\[\[tool\.uv\.index|\[\[index\]\]"
    r"|pythonhosted\.org|://[^\s\"')>]*/simple\b|://(?:[^\s/@]+@)?pypi\.",
    re.IGNORECASE,
)


def texts() -> Iterator[tuple[str, str]]:
    """Every text file of the project: those under version control, or, without it, those in the folder."""
    for name in sorted(_names()):
        data = (ROOT / name).read_bytes()
        if b"\0" not in data[:8192]:
            yield name, data.decode("utf-8", errors="replace")


def _names() -> set[str]:
    git = shutil.which("git")
    if git is not None and (ROOT / ".git").exists():
        listed = subprocess.run([git, "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
        return {name for name in listed.split("\0") if name and (ROOT / name).is_file()}
    files = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file() and not path.is_symlink())
    return {file.as_posix() for file in files if not any(_is_not_ours(part) for part in file.parts)}


def _is_not_ours(part: str) -> bool:
    return part in NOT_OURS or part.endswith((".egg-info", "_cache"))


def found(pattern: re.Pattern[str], name: str, text: str) -> list[str]:
    """Name every line in which the pattern is found."""
    lines = text.split("\n")
    return [f"{name}:{number}: {line.strip()[:160]}" for number, line in enumerate(lines, 1) if pattern.search(line)]


def found_anywhere(pattern: re.Pattern[str]) -> list[str]:
    return [line for name, text in texts() if name != THIS for line in found(pattern, name, text)]


def test_there_is_something_to_look_at() -> None:
    assert {"README.md", "pyproject.toml", "crewd/__init__.py"} <= {name for name, _ in texts()}


def test_no_file_names_a_folder_of_the_machine_it_was_made_on() -> None:
    assert found_anywhere(MACHINE_PATH) == []


def test_no_file_names_the_folder_that_it_lies_in() -> None:
    if len(ROOT.parts) < 3:
        pytest.skip(f"{ROOT} is too short a path to be told from others")
    assert found_anywhere(re.compile(r"(?<![\w.~-])" + re.escape(str(ROOT)) + r"\b")) == []


def test_no_file_names_an_index_of_packages() -> None:
    assert found_anywhere(INDEX_ADDRESS) == []


@pytest.mark.parametrize("lock", sorted(path.name for path in ROOT.glob("requirements*.lock")))
def test_a_lock_pins_every_package_by_hash_and_says_nothing_else(lock: str) -> None:
    lines = (ROOT / lock).read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==\S+( +;[^#]*?)?(\s+--hash=sha256:[0-9a-f]{64})+\s*", line), line[:120]


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (MACHINE_PATH, "see /" + "work/somewhere/README.md"),
        (MACHINE_PATH, 'root = "/root/crew"'),
        (MACHINE_PATH, "`/tmp/crewd/notes.md`"),
        (MACHINE_PATH, "file:///home/builder/x"),
        (MACHINE_PATH, "(/Users/someone)"),
        (INDEX_ADDRESS, "--index-" + "url https://mirror.example/root/pypi"),
        (INDEX_ADDRESS, "PIP_EXTRA_INDEX_URL=https://mirror.example"),
        (INDEX_ADDRESS, "--find-links wheels"),
        (INDEX_ADDRESS, "https://files.pythonhosted.org/packages/x.whl"),
        (INDEX_ADDRESS, "https://mirror.example/api/pypi/simple"),
        (INDEX_ADDRESS, "[[tool.uv.index]]"),
        (INDEX_ADDRESS, "https://user:secret@pypi.example/"),
    ],
)
def test_what_must_not_be_written_is_found(pattern: re.Pattern[str], text: str) -> None:
    assert found(pattern, "page.md", f"first line\n{text}\n") == [f"page.md:2: {text}"]


@pytest.mark.parametrize(
    "text",
    [
        "~/projects/*/.crew",
        "/home/you/.config/crewd/crewd.toml",
        "$XDG_STATE_HOME/crewd, /var/lib/crewd, /etc/crewd, /run/crewd",
        "/proc/PID/stat, /proc/self/mountinfo",
        "/crew/run-1/tmp/x, tests/work/x, state/root/x",
        "uv pip compile --no-emit-index-url",
        "https://prometheus.io/docs/",
        "a simple index",
    ],
)
def test_what_may_be_written_is_left_alone(text: str) -> None:
    assert not MACHINE_PATH.search(text)
    assert not INDEX_ADDRESS.search(text)
