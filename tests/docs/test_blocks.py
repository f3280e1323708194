"""Every example on the pages works: commands are run or at least fit, files are what they are said to be."""

import configparser
import json
import re
import shlex
import shutil
import subprocess
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.lines import commands, complaint, lines, programs
from tests.docs.pages import PAGES, ROOT, Block, blocks
from tests.docs.reasons import FOLLOWS, LEAVES_WITH, NOT_RUN, STAND_INS
from tests.docs.world import Outcome, World, with_names, world

pytestmark = pytest.mark.xdist_group("docs")  # one daemon for all pages
# What a test may run besides crewd: it changes nothing outside of the home that it is given.
HARMLESS = {
    "cat",
    "cd",
    "chmod",
    "crewd",
    "curl",
    "date",
    "echo",
    "head",
    "jq",
    "ls",
    "mkdir",
    "openssl",
    "printf",
    "umask",
}
HARMLESS |= {"amtool", "promtool", "sort", "sqlite3", "tail", "uniq", "zcat"}
BUILT_IN = {"cd", "crewd", "umask"}
NOTHING_MATCHED = 3
PATIENCE = 10.0
PICTURES = {"", "text", "mermaid"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("docs")) as made:
        yield made


def of_language(page: str, *languages: str) -> list[Block]:
    return [block for block in blocks(page) if block.language in languages]


def row(rows: dict[str, Any], line: str) -> str:
    """Which row of a table speaks of a line."""
    return next((pattern for pattern in rows if re.search(pattern, line)), "")


def is_run(line: str) -> bool:
    """Whether a line is run: nothing speaks against it, and all that it calls is known to do no harm."""
    return not row(NOT_RUN, line) and set(programs(line)) <= HARMLESS


# ---- commands


@pytest.mark.parametrize("page", [page for page in PAGES if of_language(page, "sh")])
def test_every_command_of_a_page_works(page: str, shared: World, tmp_path: Path) -> None:
    home = tmp_path
    write_files(page, home, shared.daemon.state / "logs")
    names = shared.names(page, "\n".join(block.text for block in of_language(page, "sh")))
    where = home
    wrong: list[str] = []
    missing: set[str] = set()
    for block in of_language(page, "sh"):
        for number, line in lines(block.text):
            if not is_run(line):
                continue
            if gone := [name for name in programs(line) if name not in BUILT_IN and not shutil.which(name)]:
                missing.update(gone)
                continue
            if line.startswith("cd "):
                where = Path(where, Path(shlex.split(line, comments=True)[1].replace("~", str(home))))
                if where.is_dir():
                    (where / "worker.pid").write_text(str(shared.idle.pid))
                continue
            if any(re.search(pattern, line) for pattern in FOLLOWS):
                if not shared.follow(with_names(line, names), home, where):
                    wrong.append(f"{page}:{block.line + 1 + number}: {line}\n  says nothing")
                continue
            outcome = run(line, shared, names, home, where)
            expected = LEAVES_WITH[row(LEAVES_WITH, line)][0] if row(LEAVES_WITH, line) else {0}
            if outcome[0] not in expected:
                wrong.append(
                    f"{page}:{block.line + 1 + number}: {line}\n  left with {outcome[0]}: {outcome[1][-600:]}"
                )
    assert wrong == [], "\n".join(wrong)
    if missing:
        pytest.skip(f"install {', '.join(sorted(missing))}: the other lines of {page} were run")


def run(line: str, shared: World, names: dict[str, str], home: Path, where: Path) -> tuple[int, str]:
    """Run a line; again for a while where it found nothing, as what was just written is seen with the next round."""
    line = with_names(stand_in(line), names)
    deadline = time.monotonic() + PATIENCE
    while (outcome := run_once(line, shared, home, where)).code == NOTHING_MATCHED and time.monotonic() < deadline:
        if row(LEAVES_WITH, line):
            break
        time.sleep(0.3)
    return outcome.code, outcome.output


def run_once(line: str, shared: World, home: Path, where: Path) -> Outcome:
    simple = commands(line)
    if len(simple) == 1 and simple[0][0] == "crewd" and not re.search(r"[$~<>]", line):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(where)
            return shared.crewd(simple[0][1:], home)
    return shared.shell(line, home, where)


def stand_in(line: str) -> str:
    if "--dry-run" in line:
        return line
    return re.sub(rf"\b({'|'.join(map(re.escape, STAND_INS))})\b", r"stand-in/\1", line)


def write_files(page: str, home: Path, logs: Path) -> None:
    """Lay down what the page calls by a name: its own files, the daily files, and what stands in for run files."""
    for block in blocks(page):
        if found := re.match(r"# ([\w.-]+\.(?:toml|yaml))\n", block.text):
            (home / found[1]).write_text(block.text)
    for path in logs.iterdir():
        (home / path.name).symlink_to(path)
    (home / "stand-in").mkdir()
    for name, tasks in STAND_INS.items():
        text = "".join(
            f'[[tasks]]\nid = "{task}"\ncommand = ["/bin/sh", "-c", "echo done > {file}"]\n'
            f'success.files = ["{file}"]\n'
            for task, file in tasks
        )
        (home / "stand-in" / name).write_text(f'name = "{Path(name).stem}"\n{text}')


@pytest.mark.parametrize("page", [page for page in PAGES if of_language(page, "sh")])
def test_every_command_of_crewd_that_is_not_run_fits_the_commands_that_there_are(page: str) -> None:
    wrong = []
    for block in of_language(page, "sh"):
        for number, line in lines(block.text):
            for words in commands(line):
                told = complaint([word.replace("$$", "4242") for word in words[1:]]) if words[0] == "crewd" else ""
                if told:
                    wrong.append(f"{page}:{block.line + 1 + number}: {line}: {told}")
    assert wrong == []


def test_every_command_in_a_transcript_fits_the_commands_that_there_are() -> None:
    typed = [
        (block.where, line[2:])
        for page in PAGES
        for block in of_language(page, *PICTURES)
        for line in block.text.splitlines()
        if line.startswith("$ crewd ")
    ]
    assert typed
    assert [(where, line) for where, line in typed if complaint(commands(line)[0][1:])] == []


@pytest.mark.parametrize("page", [page for page in PAGES if of_language(page, "sh")])
def test_a_shell_can_read_every_block_of_commands(page: str) -> None:
    for block in of_language(page, "sh"):
        done = subprocess.run(["/bin/sh", "-n"], input=block.text.encode(), capture_output=True, check=False)
        assert done.returncode == 0, f"{block.where}: {done.stderr.decode()}"


def test_every_line_that_is_not_run_has_a_reason_and_every_reason_a_line() -> None:
    met, strange = set(), []
    for page in PAGES:
        for block in of_language(page, "sh"):
            for number, line in lines(block.text):
                if pattern := row(NOT_RUN, line):
                    met.add(pattern)
                elif unknown := set(programs(line)) - HARMLESS:
                    strange.append(
                        f"{page}:{block.line + 1 + number}: {line}: not run, and no reason is given for {unknown}"
                    )
    assert strange == []
    assert sorted(set(NOT_RUN) - met) == []


def test_every_test_that_a_reason_names_is_there() -> None:
    named = {path for why in NOT_RUN.values() for path in re.findall(r"tests/[\w/.]*\w", why)}
    assert sorted(path for path in named if not (ROOT / path).exists()) == []


# ---- files


def all_blocks(*languages: str) -> list[Any]:
    return [pytest.param(block, id=block.where) for page in PAGES for block in of_language(page, *languages)]


@pytest.mark.parametrize("block", all_blocks("toml"))
def test_every_toml_is_a_run_file_or_a_part_of_the_settings(block: Block, shared: World, tmp_path: Path) -> None:
    document = tomllib.loads(block.text)
    assert check_run_file(block.text, document, "toml", shared, tmp_path) == ""


@pytest.mark.parametrize("block", all_blocks("yaml"))
def test_every_yaml_is_what_it_is_said_to_be(block: Block, shared: World, tmp_path: Path) -> None:
    for document in yaml.safe_load_all(block.text):
        assert document is not None, block.where
        if isinstance(document, dict) and "tasks" in document:
            assert check_run_file(block.text, document, "yaml", shared, tmp_path) == ""
        else:
            assert check_by_its_program(document, tmp_path) == ""


def check_run_file(text: str, document: dict[str, Any], kind: str, shared: World, folder: Path) -> str:
    if "tasks" not in document:
        path = folder / "crewd.toml"
        path.write_text(text)
        outcome = shared.crewd(["config", "check", str(path)], folder, **secrets(document, folder))
        return "" if outcome.code == 0 else outcome.output
    path = folder / f"run.{kind}"
    path.write_text(text if "name" in document else f'name = "part"\n{text}')
    outcome = shared.crewd(["submit", str(path), "--dry-run"], folder)
    return "" if outcome.code == 0 else outcome.output


def secrets(document: dict[str, Any], folder: Path) -> dict[str, str]:
    """Lay down the addresses that a page says to keep in the credentials folder."""
    for name, channel in document.get("notifications", {}).get("channels", {}).items():
        if channel.get("kind", "webhook") == "webhook" and "url" not in channel:
            (folder / f"notifications__channels__{name}__url").write_text("http://127.0.0.1:9/")
    return {"CREDENTIALS_DIRECTORY": str(folder)} if list(folder.glob("*__*")) else {}


def check_by_its_program(document: Any, folder: Path) -> str:
    """Let promtool or amtool judge a part of a configuration; "" also where there is no such program."""
    path = folder / "part.yml"
    if isinstance(document, list) and document and "job_name" in document[0]:
        document = {"scrape_configs": document}
    if not isinstance(document, dict):
        return ""
    path.write_text(yaml.safe_dump(document))
    if "groups" in document:
        return judged("promtool", "check", "rules", str(path))
    if "scrape_configs" in document and "rule_files" not in document:
        return judged("promtool", "check", "config", "--syntax-only", str(path))
    if "route" in document and "receivers" in document:
        return judged("amtool", "check-config", str(path))
    return ""


def judged(program: str, *arguments: str) -> str:
    if shutil.which(program) is None:
        return ""
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def as_lines(text: str) -> None:
    for line in text.splitlines():
        json.loads(line)


READ: dict[str, Callable[[str], Any]] = {
    "json": json.loads,
    "jsonl": as_lines,
    "python": lambda text: compile(text, "example", "exec"),
    "ini": lambda text: configparser.ConfigParser(strict=False, interpolation=None).read_string(text),
}


@pytest.mark.parametrize("block", all_blocks(*READ))
def test_every_other_file_can_be_read(block: Block) -> None:
    READ[block.language](block.text)


def test_every_block_is_of_a_language_that_is_looked_at() -> None:
    known = {"sh", "toml", "yaml", *READ, *PICTURES}
    assert [b.where for page in PAGES for b in blocks(page) if b.language not in known] == []
