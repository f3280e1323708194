"""Where a session's file is looked for: as the genuine runs left it, and never outside of its folder."""

import json
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.sources.agents.session_files import PLACES, SessionPlace, is_of, where
from tests.sources.agents.recorded import lines_of, run_folder

HOME = {"HOME": "/home/user"}
SESSION = "01a1fbaf-df07-77e0-a8f3-da6161c64ae5"


@pytest.mark.parametrize(
    ("profile", "env", "place"),
    [
        ("claude", {}, SessionPlace("/home/user/.claude", ("projects", "*", f"{SESSION}.jsonl"))),
        ("claude", {"CLAUDE_CONFIG_DIR": "/c/"}, SessionPlace("/c", ("projects", "*", f"{SESSION}.jsonl"))),
        ("codex", {}, SessionPlace("/home/user/.codex", ("sessions", "*", "*", "*", f"rollout-*-{SESSION}.jsonl"))),
        (
            "codex",
            {"CODEX_HOME": "/c"},
            SessionPlace("/c", ("sessions", "*", "*", "*", f"rollout-*-{SESSION}.jsonl")),
        ),
        ("gemini", {}, SessionPlace("/home/user", (".gemini", "tmp", "*", "chats", "session-*-01a1fbaf.jsonl"))),
        (
            "gemini",
            {"GEMINI_CLI_HOME": "/g"},
            SessionPlace("/g", (".gemini", "tmp", "*", "chats", "session-*-01a1fbaf.jsonl")),
        ),
        ("pi", {}, SessionPlace("/home/user/.pi/agent", ("sessions", "*", f"*_{SESSION}.jsonl"))),
        ("pi", {"PI_CODING_AGENT_DIR": "/p"}, SessionPlace("/p", ("sessions", "*", f"*_{SESSION}.jsonl"))),
        ("pi", {"PI_CODING_AGENT_SESSION_DIR": "/s"}, SessionPlace("/s", ("*", f"*_{SESSION}.jsonl"))),
        (
            "codex",
            {"CODEX_HOME": ""},
            SessionPlace("/home/user/.codex", ("sessions", "*", "*", "*", f"rollout-*-{SESSION}.jsonl")),
        ),
        # What says nothing that could be relied on.
        ("plain", {}, None),
        ("", {}, None),
        ("codex", {"HOME": ""}, None),
        ("codex", {"CODEX_HOME": "below/the/task"}, None),
        ("codex", {"CODEX_HOME": "/a\0b"}, None),
    ],
)
def test_each_program_has_its_place(profile: str, env: dict[str, str], place: SessionPlace | None) -> None:
    assert where(profile, HOME | env, SESSION) == place


@pytest.mark.parametrize(
    "session",
    ["", "abc", "../../etc/passwd", "*" * 36, SESSION.upper(), f"{SESSION}\n", f"{SESSION}/x", "a" * 65, "١" * 36],
)
def test_what_is_no_id_never_becomes_part_of_a_name(session: str) -> None:
    assert {where(profile, HOME, session) for profile in PLACES} == {None}


@given(
    profile=st.sampled_from([*PLACES, "plain"]),
    session=st.text(max_size=70) | st.text("0123456789abcdef-*/.", min_size=6, max_size=70),
)
def test_no_id_leads_out_of_the_folder(profile: str, session: str) -> None:
    place = where(profile, HOME, session)
    if place is None:
        return
    assert place.root.startswith("/home/user")
    for part in place.parts:
        assert part not in ("", ".", "..")
        assert not set(part) & set("/\0?[]\\")


GENUINE = (
    [("codex", case) for case in ("ok", "resume", "sigkill_tool")]
    + [("gemini", case) for case in ("ok", "resume", "sigkill_tool")]
    + [("pi", case) for case in ("ok", "resume", "sigkill_tool")]
    + [("claude", "sigkill_tool"), ("claude", "resume")]
)


@pytest.mark.parametrize(("profile", "case"), GENUINE)
def test_the_file_of_a_genuine_run_is_found_and_known(profile: str, case: str) -> None:
    home = run_folder(f"{profile}/{case}") / "home"
    files = [path.relative_to(home) for path in home.rglob("*.jsonl")]
    told = session_told_by(profile, case)
    place = where(profile, HOME, told)
    assert place is not None
    found = [path for path in files if fits(PurePosixPath("/home/user") / path, place)]
    assert files, "its session file is not in the corpus"
    assert len(found) == 1
    first = lines_of(home / found[0])[0]
    assert is_of(profile, first, told)
    if profile in ("codex", "gemini"):
        assert not is_of(profile, first, told[:-1] + ("0" if told[-1] != "0" else "1"))


def session_told_by(profile: str, case: str) -> str:

    names = {"codex": "thread_id", "gemini": "session_id", "claude": "session_id", "pi": "id"}
    for line in lines_of(run_folder(f"{profile}/{case}") / "stdout.jsonl"):
        event = json.loads(line)
        if isinstance(event.get(names[profile]), str):
            told: str = event[names[profile]]
            return told
    raise AssertionError(f"no session is told in {profile}/{case}")


def fits(path: PurePosixPath, place: SessionPlace) -> bool:
    """Walk the levels as whoever opens them would."""
    try:
        names = path.relative_to(place.root).parts
    except ValueError:
        return False
    return len(names) == len(place.parts) and all(map(fnmatchcase, names, place.parts))


@pytest.mark.parametrize("line", [b"", b"{}", b"[1]", b'{"sessionId":7,"payload":[]}', b"\xff"])
def test_a_file_that_begins_otherwise_is_of_no_session(line: bytes) -> None:
    assert not is_of("codex", line, SESSION)
    assert not is_of("gemini", line, SESSION)
