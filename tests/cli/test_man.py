"""Manual pages: one a command, sound roff, and what they say is what the commands and the reference page say."""

import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crewd.cli import man, roff
from crewd.cli.main import COMMANDS, cli
from tests.cli.world import crewd

PAGE = (Path(__file__).parents[2] / "docs/reference/commands.md").read_text()


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    root = click.Context(cli, info_name="crewd")
    return {name: man.page(root, name, "2026-11-21") for name in ("", *COMMANDS)}


@pytest.fixture(scope="module")
def files(pages: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("man")
    for name, page in pages.items():
        (folder / f"crewd-{name}.1").write_text(page)
    return [str(path) for path in sorted(folder.iterdir())]


def test_mandoc_has_nothing_to_complain_of(files: list[str]) -> None:
    if shutil.which("mandoc") is None:
        pytest.skip("mandoc is not installed: the manual pages are not linted")
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", *files], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_man_has_nothing_to_complain_of(files: list[str]) -> None:
    if shutil.which("man") is None or shutil.which("groff") is None:
        pytest.skip("man or groff is not installed: the manual pages are not laid out")
    command = ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", *files]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_option_of_a_command_is_on_its_page(pages: dict[str, str]) -> None:
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        inner = [command, *command.commands.values()] if isinstance(command, click.Group) else [command]
        for each in inner:
            for parameter in each.params:
                if isinstance(parameter, click.Option):
                    assert all(roff.escaped(option) in pages[name] for option in parameter.opts), (name, parameter)


def test_exit_codes_are_those_of_the_reference_page(pages: dict[str, str]) -> None:
    told = re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)
    assert [code for code, _ in man.EXIT_CODES] == told
    for heading in ("EXIT STATUS", "FILES", "ENVIRONMENT", "EXAMPLES"):
        assert f'.SH "{heading}"' in pages[""]


def test_examples_are_of_commands_that_there_are() -> None:
    assert man.EXAMPLES.keys() - {""} <= COMMANDS.keys()
    for lines in man.EXAMPLES.values():
        for _, line in lines:
            assert re.search(r"crewd ([\w-]+)", line).group(1) in COMMANDS  # type: ignore[union-attr]


def test_pages_are_printed_and_written_and_the_same_day_gives_the_same_bytes(tmp_path: Path) -> None:
    day = {"SOURCE_DATE_EPOCH": "1767225600"}
    printed = crewd("man", "why", folder=tmp_path, environ=day)
    assert printed.exit_code == 0
    assert '.TH "CREWD\\-WHY" 1 "2026-01-01"' in printed.stdout
    result = crewd("man", "--write", str(tmp_path / "man"), folder=tmp_path, environ=day)
    assert result.exit_code == 0, result.output
    assert {path.name for path in (tmp_path / "man").iterdir()} == {
        "crewd.1",
        *(f"crewd-{each}.1" for each in COMMANDS),
    }
    assert (tmp_path / "man" / "crewd-why.1").read_text() == printed.stdout
    assert crewd("man", "nothing", folder=tmp_path).exit_code == 3
    (tmp_path / "file").write_text("")
    assert crewd("man", "--write", str(tmp_path / "file"), folder=tmp_path).exit_code == 1


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"])))
@example(".so /etc/passwd")
@example("'br")
@example("x `.so` \\fB -- \u00fc")
def test_no_text_becomes_a_command_of_roff(text: str) -> None:
    for line in [*roff.running(text), *roff.example([text])][:-1]:
        assert line in (".EX", ".EE") or not line.startswith((".", "'"))
        assert line.isascii()
