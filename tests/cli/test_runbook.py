"""`crewd runbook`: one section, the list, and what is nearest to a name that nobody has."""

import json
import re
import sys
from pathlib import Path

import pytest

from crewd.cli import runbook
from crewd.host.runbooks import Section, find, runbooks, sections
from tests.cli.world import crewd

TEXT = """# Runbooks

What stands before is no section.

## CrewdDown

The daemon is **gone**. More of
it here.

```sh
## no heading
crewd doctor
```

### What to do

- start it

See [the other](#crewdworkerdead) and [the web](https://prometheus.io/)

> ## CrewdQuoted

## CrewdWorkerDead

One line without an end
"""


def test_a_page_is_taken_apart_at_the_names_of_alerts() -> None:
    found = sections(TEXT)
    assert [each.alert for each in found] == ["CrewdDown", "CrewdWorkerDead"]
    assert found[0].line == "The daemon is gone." and found[1].line == "One line without an end"
    assert found[0].text.startswith("## CrewdDown\n") and "## no heading" in found[0].text
    assert "### What to do" in found[0].text and "CrewdWorkerDead" not in found[0].text
    assert "".join(each.text.strip() for each in found) in TEXT.replace(
        "\n\n## CrewdWorkerDead", "## CrewdWorkerDead"
    )
    assert sections("# Nothing\n") == []


def test_a_name_is_found_in_letters_of_any_size_as_in_the_fragment_of_an_address() -> None:
    found = sections(TEXT)
    for name in ("CrewdDown", "crewddown", "CREWDDOWN", " CrewdDown "):
        assert find(found, name) is found[0]
    assert find(found, "CrewdDow") is None


def test_every_shipped_section_can_be_read_and_has_a_first_sentence(tmp_path: Path) -> None:
    found = sections(runbooks())
    assert "CrewdWorkerDead" in {each.alert for each in found}
    listed = crewd("runbook", folder=tmp_path)
    assert listed.exit_code == 0
    for each in found:
        assert 10 < len(each.line) < 300, each.alert
        assert each.alert in listed.stdout and len(each.text) > 100
    one = crewd("runbook", "crewdworkerdead", folder=tmp_path)
    assert one.stdout == next(each.text for each in found if each.alert == "CrewdWorkerDead")
    told = json.loads(crewd("runbook", "CrewdWorkerDead", "--json", folder=tmp_path).stdout)
    assert told == {"alert": "CrewdWorkerDead", "anchor": "crewdworkerdead", "markdown": one.stdout}
    assert {each["alert"] for each in json.loads(crewd("runbook", "--json", folder=tmp_path).stdout)} == {
        each.alert for each in found
    }


def test_a_typing_error_is_answered_with_what_was_meant(tmp_path: Path) -> None:
    result = crewd("runbook", "CrewdWorkrDead", folder=tmp_path)
    assert result.exit_code == 3 and "did you mean CrewdWorkerDead?" in result.stderr
    result = crewd("runbook", "x" * 500 + "\x1b[2J", folder=tmp_path)
    assert result.exit_code == 3 and "names them all" in result.stderr and "\x1b" not in result.stderr


def test_an_installation_that_is_not_whole_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> str:
        raise FileNotFoundError("runbooks.md: missing from this installation; install crewd again")

    monkeypatch.setattr(runbook, "runbooks", missing)
    result = crewd("runbook", "CrewdDown", folder=tmp_path)
    assert result.exit_code == 1 and "install crewd again" in result.stderr


def test_on_a_terminal_it_is_laid_out(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    runbook.show(sections(TEXT)[0])
    shown = capsys.readouterr().out
    shown = re.sub(r"\x1b\[[\d;]*m", "", shown)
    assert "CrewdDown" in shown and "• start it" in shown
    assert "See the other and the web (https://prometheus.io/)" in " ".join(shown.split())
    assert not re.search(r"\*\*|```|crewdworkerdead", shown)
    # Lines longer than that are hard to read, however wide the terminal.
    monkeypatch.setenv("COLUMNS", "300")
    runbook.show(Section("CrewdDown", "## CrewdDown\n\n" + "word " * 100))
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 100 + len("\x1b[0m") * 4
