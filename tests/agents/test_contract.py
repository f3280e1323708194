"""What holds of every reader, whichever program it understands."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from crewd.model.agent import AgentView
from crewd.model.failure import ErrorClass, Exit, Failure
from crewd.policy.profiles import PROFILES
from crewd.sources.agents.readers import READERS
from crewd.sources.agents.story import NotUnderstood, Story
from crewd.sources.managed.framing import Lines
from tests.agents.cases import Case, Heard, here
from tests.agents.test_cases import Told, story_of, tell

BY_NAME = {case.name: case for case in here()}
ENDS_BADLY = (Exit(0), Exit(1), Exit(130), Exit(143), Exit(173), Exit(signal=9), Exit(signal=15), Exit())
STRANGER = {"type": "nobody_knows", "subtype": "nobody_knows", "id": "x", "item": {"type": "x"}, "message": "x"}
AGENTS = ("claude", "codex", "gemini", "pi")

each_case = pytest.mark.parametrize("case", here(), ids=lambda case: case.name)


def timeless(view: AgentView) -> AgentView:
    """The view without the moments at which things were heard."""
    tools = tuple(replace(tool, began=0.0) for tool in view.tools)
    return replace(view, tools=tools, throttled_until=None, refused=None)


def outcome_of(told: Told) -> object:
    """The class alone, where it failed: how long to wait depends on when it was heard."""
    return told.outcome.error_class if isinstance(told.outcome, Failure) else told.outcome


def test_there_is_a_reader_for_every_profile() -> None:
    assert set(READERS) == set(PROFILES)


@each_case
def test_a_successor_that_hears_all_from_the_beginning_knows_the_same(case: Case) -> None:
    """crewd was started anew: the same lines, all of them at once and an hour later."""
    first = tell(case, case.heard)
    again = tell(case, case.heard)
    later = tell(case, [Heard(3600.0 + case.seconds, each.stream, each.line) for each in case.heard])
    assert again == first
    assert timeless(later.view) == timeless(first.view)
    assert outcome_of(later) == outcome_of(first)


@settings(max_examples=150)
@given(data=st.data(), name=st.sampled_from(sorted(BY_NAME)), newline=st.sampled_from([b"\n", b"\r\n"]))
def test_bytes_cut_into_pieces_anywhere_say_the_same(data: st.DataObject, name: str, newline: bytes) -> None:
    case = BY_NAME[name]
    stdout = [each.line for each in case.heard if each.stream == "stdout"]
    whole = b"".join(line + newline for line in stdout)
    cuts = sorted(data.draw(st.lists(st.integers(min_value=0, max_value=len(whole)), max_size=30)))
    one, other, lines = story_of(case), story_of(case), Lines()
    for line in stdout:
        one.hear("stdout", line, 1.0, 1.0)
    for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        for each in lines.feed(whole[begin:end]):
            other.hear("stdout", each, 1.0, 1.0)
    assert other.view(2.0) == one.view(2.0)
    assert other.outcome(case.exit) == one.outcome(case.exit)


@settings(max_examples=150)
@given(name=st.sampled_from(sorted(BY_NAME)), chance=st.randoms(use_true_random=False))
def test_how_streams_are_read_one_after_the_other_changes_no_class(name: str, chance: Any) -> None:
    """Each stream keeps its order; which is read first is chance, once stdout has named the session."""
    case = BY_NAME[name]
    queues = [[each for each in case.heard if each.stream == stream] for stream in ("stdout", "stderr", "session")]
    mixed: list[Heard] = [queues[0].pop(0)] if queues[0] else []
    while any(queues):
        mixed.append(chance.choice([queue for queue in queues if queue]).pop(0))
    told = tell(case, mixed)
    expected = tell(case, case.heard)
    assert outcome_of(told) == outcome_of(expected)
    assert told.view.usage == expected.view.usage
    assert told.tools == expected.tools


@each_case
def test_whoever_did_not_tell_its_end_never_succeeded(case: Case) -> None:
    """Every beginning of every run that stops before its terminal event, whatever its exit."""
    story = story_of(case)
    if case.profile == "plain":
        return
    for each in case.heard:
        if each.stream == "stdout":
            assert story.view(each.at).ended or all(story.outcome(exit) is not None for exit in ENDS_BADLY)
        story.hear(each.stream, each.line, each.at, case.wall + each.at)
    assert story.view(0.0).ended is case.told


@each_case
def test_a_bad_exit_is_never_success(case: Case) -> None:
    story = story_of(case)
    for each in case.heard:
        story.hear(each.stream, each.line, each.at, case.wall + each.at)
    for exit in ENDS_BADLY:
        if exit not in (Exit(0), Exit()):  # the last of them: nobody could record it
            assert story.outcome(exit) is not None, exit


def with_strangers(case: Case) -> list[Heard]:
    line = json.dumps(STRANGER).encode()
    stdout = [each for each in case.heard if each.stream == "stdout"]
    places = {id(each) for each in stdout}
    return [
        heard
        for each in case.heard
        for heard in ((Heard(each.at, "stdout", line), each) if id(each) in places else (each,))
    ]


@each_case
def test_events_of_types_that_nobody_knows_are_counted_and_change_nothing(case: Case) -> None:
    plainly, strangely = tell(case, case.heard), tell(case, with_strangers(case))
    count = sum(each.stream == "stdout" for each in case.heard)
    assert sum(strangely.view.unknown.values()) == sum(plainly.view.unknown.values()) + count
    assert not count or any("nobody_knows" in name for name in strangely.view.unknown)
    expected = replace(plainly.view, unknown={}, lines=0, beats=0)
    assert replace(strangely.view, unknown={}, lines=0, beats=0) == expected
    assert strangely.view.beats == plainly.view.beats + count  # whatever it says, it is a sign of life
    if case.told:
        assert strangely.outcome == plainly.outcome


@pytest.mark.parametrize("name", ["gemini/sigterm_tool", "gemini/sigterm_stream", "gemini/529", "gemini/hang"])
def test_a_program_that_was_stopped_and_exits_0_did_not_succeed_because_it_knows_new_events(name: str) -> None:
    """SIGTERM makes gemini exit 0. One event type more in its next version must not make that a success."""
    case = BY_NAME[name]
    outcome = tell(case, with_strangers(case)).outcome
    assert isinstance(outcome, Failure), outcome  # judged as any command, exit 0 would be success
    assert outcome.error_class is case.ends


@each_case
def test_of_what_a_genuine_run_prints_nothing_is_unknown(case: Case) -> None:
    view = tell(case, case.heard).view
    assert (view.unknown, view.noise) == ({}, 0)


def renamed(value: Any, is_key: bool) -> Any:
    """The same document in another version's words: every type renamed, or every key."""
    if isinstance(value, dict):
        return {f"{key}V2" if is_key else key: _renamed(key, each, is_key) for key, each in value.items()}
    if isinstance(value, list):
        return [renamed(each, is_key) for each in value]
    return value


def _renamed(key: str, value: Any, is_key: bool) -> Any:
    if not is_key and key in ("type", "subtype", "role") and isinstance(value, str):
        return f"{value}.v2"
    return renamed(value, is_key)


@pytest.mark.parametrize("is_key", [False, True], ids=["types", "keys"])
@each_case
def test_another_format_is_not_understood_and_never_judged_wrongly(case: Case, is_key: bool) -> None:
    told = tell(
        case,
        [
            Heard(each.at, each.stream, json.dumps(renamed(json.loads(each.line), is_key)).encode())
            for each in case.heard
            if each.stream == "stdout"
        ],
    )
    if not told.view.lines:
        return
    assert not told.view.understood
    assert isinstance(told.outcome, NotUnderstood) and told.outcome.why
    assert not told.refusals and told.view.throttled_until is None and not told.view.tools


@pytest.mark.parametrize("profile", AGENTS)
@pytest.mark.parametrize("other", AGENTS)
def test_the_output_of_another_program_is_never_taken_for_success_or_failure(profile: str, other: str) -> None:
    """The wrong profile was named: whatever it reads, it may not conclude anything that is not so."""
    if profile == other:
        return
    story = Story(PROFILES[profile])
    for each in BY_NAME[f"{other}/ok"].heard:
        if each.stream == "stdout":
            story.hear("stdout", each.line, each.at, 0.0)
    outcome = story.outcome(Exit(0))
    assert outcome is None or isinstance(outcome, NotUnderstood), outcome


OWN_OK_FIELDS = {"claude": ("is_error", "subtype", "terminal_reason"), "gemini": ("status",)}


@pytest.mark.parametrize("profile", OWN_OK_FIELDS)
def test_a_terminal_event_without_its_own_ok_field_proves_neither_success_nor_failure(profile: str) -> None:
    case = BY_NAME[f"{profile}/ok"]
    *before, last = [each for each in case.heard if each.stream == "stdout"]
    told = json.loads(last.line)
    left = {key: value for key, value in told.items() if key not in OWN_OK_FIELDS[profile]}
    outcome = tell(case, [*before, Heard(last.at, "stdout", json.dumps(left).encode())]).outcome
    assert isinstance(outcome, NotUnderstood), outcome


@pytest.mark.parametrize("exit", ENDS_BADLY, ids=str)
def test_plain_concludes_nothing(exit: Exit) -> None:
    story = Story(PROFILES["plain"])
    for line in (b"working", b'{"type":"result","is_error":false}', b"429 Too Many Requests", b"done"):
        story.hear("stdout", line, 1.0, 1.0)
        story.hear("stderr", line, 1.0, 1.0)
    assert isinstance(story.outcome(exit), NotUnderstood)
    assert story.view(1.0).lines == 4


@pytest.mark.parametrize(
    ("profile", "stream", "line"),
    [
        ("claude", "stdout", b'{"type":"result","is_error":true,"subtype":"error_during_execution",'
                             b'"errors":["No conversation found with session ID: 1"]}'),
        ("codex", "stderr", b"Error: thread/resume: thread/resume failed: no rollout found for thread id 1"),
        ("gemini", "stderr", b"Error resuming session: No previous sessions found for this project."),
        ("pi", "stderr", b"No session found matching '1'"),
    ],
)  # fmt: skip
def test_a_session_that_is_gone_is_told_apart_so_that_the_next_attempt_begins_afresh(
    profile: str, stream: Any, line: bytes
) -> None:
    story = Story(PROFILES[profile])
    story.hear(stream, line, 1.0, 1.0)
    outcome = story.outcome(Exit(1))
    assert isinstance(outcome, Failure)
    assert outcome.code == "session_unknown"
    assert outcome.retryable


def test_whoever_never_asked_his_model_has_done_nothing() -> None:
    """`/help` as a prompt: Claude Code answers by itself, with success and exit 0."""
    story = Story(PROFILES["claude"])
    usage = {"input_tokens": 0, "output_tokens": 0, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}
    end = {"type": "result", "subtype": "success", "is_error": False, "terminal_reason": "completed", "usage": usage}
    for event in ({"type": "system", "subtype": "init", "session_id": "s"}, end):
        story.hear("stdout", json.dumps(event).encode(), 1.0, 1.0)
    outcome = story.outcome(Exit(0))
    assert isinstance(outcome, Failure)
    assert (outcome.error_class, outcome.code) == (ErrorClass.OUTPUT_EMPTY, "no_answer")
