"""What agents printed, in words: genuine runs of each program, and hostile ones."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import crewd.demo
from crewd.cli.spoken import Spoken, is_understood

CASES = Path(crewd.demo.__file__).parent / "agent_cases"


def told(profile: str, lines: list[bytes]) -> list[str]:
    spoken = Spoken(profile)
    return [*(said for line in lines for said in spoken.hear(line)), *spoken.end()]


def case(profile: str, name: str) -> list[str]:
    records = [json.loads(line) for line in (CASES / profile / f"{name}.jsonl").read_text().splitlines()]
    return told(profile, [each["l"].encode() for each in records if each.get("s") == "out"])


USED = {"claude": "used 4,315 tokens, 0.0245 USD", "codex": "used 4,315 tokens", "gemini": "used 4,347 tokens"}


@pytest.mark.parametrize(
    ("profile", "name", "tool"),
    [
        ("claude", "ok_partial", "Bash"),
        ("codex", "ok", "command_execution"),
        ("gemini", "ok", "run_shell_command"),
        ("pi", "ok", "bash"),
    ],
)
def test_a_run_is_told_in_a_few_lines(profile: str, name: str, tool: str) -> None:
    lines = case(profile, name)
    assert lines[0].startswith("* session ")
    assert any(line.startswith(f"  > {tool}: ") and "echo hello-from-worker" in line for line in lines)
    assert f"  < {tool} ok" in lines
    assert lines.count("Done: the command printed hello-from-worker. Task complete.") == 1
    assert lines[-2] == "= done"
    assert lines[-1].startswith(USED.get(profile, "used 4,315 tokens, 0.0067 USD"))
    assert lines[-1].endswith(", 22,528 more from a cache")
    assert len(lines) < 9


@pytest.mark.parametrize(
    ("profile", "name", "line"),
    [
        ("claude", "perm", "  < Bash was not allowed: This Bash command"),
        ("claude", "max_turns", "= failed: task_error: Reached maximum number of turns (3)"),
        (
            "claude",
            "401",
            "  ! refused: auth_error: the provider refused a request: authentication_failed (HTTP 401)",
        ),
        ("codex", "ctx", "= failed: context_exhausted: Codex ran out of room"),
        ("gemini", "429", "= failed: rate_limited: "),
        ("pi", "500", "  ! refused: provider_error: 500: "),
    ],
)
def test_what_went_wrong_is_said(profile: str, name: str, line: str) -> None:
    assert any(each.startswith(line) for each in case(profile, name)), case(profile, name)


def test_every_recorded_run_is_told_without_json() -> None:
    for path in sorted(CASES.glob("*/*.jsonl")):
        lines = case(path.parent.name, path.stem)
        assert lines, path
        assert not any(line.startswith("{") for line in lines), path


def test_a_line_that_is_no_event_stays_as_it_is_and_hostile_words_act_on_nothing() -> None:
    event = {"type": "assistant", "message": {"id": "m", "content": [{"type": "text", "text": "a\x1b[2Jb\x07\nc"}]}}
    lines = told("claude", [b"npm warn \x1b[31mold", json.dumps(event).encode()])
    assert lines[0].startswith("npm warn")
    assert len(lines) == 3
    assert not set("\x1b\x07") & set("".join(lines))


@given(st.sampled_from(["claude", "codex", "gemini", "pi"]), st.lists(st.binary(max_size=60), max_size=5))
def test_whatever_is_printed_nothing_fails(profile: str, lines: list[bytes]) -> None:
    assert all("\x1b" not in line and "\n" not in line for line in told(profile, lines))


def test_other_programs_are_not_put_in_words() -> None:
    assert [name for name in ("claude", "plain", "", "other") if is_understood(name)] == ["claude"]
