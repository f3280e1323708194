"""The packed cases are the recorded ones after the cutting that `packing` describes, small, and fit to be shown."""

import json
import re
from collections import Counter

import msgspec
import pytest

from crewd.demo.agent_cases import CaseMissing, load, names
from crewd.model.failure import ErrorClass, Exit
from crewd.model.run import Usage
from crewd.policy.profiles import profile_of
from crewd.sources.agents.story import NotUnderstood, Story
from tests.demo.packing import BYTES_MAX, CHOSEN, LONG, RECORDED_HOME, Chosen, cut, packed, path_of

SECRET = re.compile(r"sk-[A-Za-z0-9]{8}|AIza[A-Za-z0-9_-]{8}|Bearer [A-Za-z0-9]|-----BEGIN")
OUTSIDE = re.compile(r"(?<![\w.~-])/(?:home/(?!user\b)\w|root/\w|work/\w|tmp/\w)")


@pytest.mark.parametrize("chosen", CHOSEN, ids=lambda chosen: chosen.name)
def test_a_packed_case_is_the_recorded_one_after_the_same_cutting(chosen: Chosen) -> None:
    assert path_of(chosen.name).read_bytes() == packed(chosen)


def test_all_that_was_chosen_is_there_and_nothing_else() -> None:
    assert names() == tuple(sorted(chosen.name for chosen in CHOSEN))
    assert sum(path_of(name).stat().st_size for name in names()) <= BYTES_MAX


def test_every_program_is_there_with_a_success_and_with_failures() -> None:
    cases = [load(name) for name in names()]
    assert Counter(case.cli for case in cases if case.expected_class is None).keys() == {
        "claude",
        "codex",
        "gemini",
        "pi",
    }
    assert Counter(case.cli for case in cases if case.expected_class).keys() == {"claude", "codex", "gemini", "pi"}


@pytest.mark.parametrize("name", names())
def test_a_case_is_told_in_the_order_of_time_and_ends_after_its_last_line(name: str) -> None:
    case = load(name)
    assert case.name == name
    times = [line.at for line in case.lines]
    assert times == sorted(times)
    # The recorder may note the last line of a program that has ended a moment late.
    assert times[-1] <= case.seconds + 0.1
    assert (case.exit.code is None) != (case.exit.signal is None)


@pytest.mark.parametrize("name", names())
def test_a_case_holds_no_secret_and_no_folder_of_a_machine(name: str) -> None:
    text = path_of(name).read_text(encoding="utf-8")
    assert not SECRET.search(text)
    assert not OUTSIDE.search(text)


def test_what_a_case_says_of_itself_is_read() -> None:
    case = load("claude/long")
    assert (case.version, case.exit, case.stopped, case.paced) == ("2.1.329", Exit(0), False, False)
    assert case.tool == (3.278, 63.406)
    assert case.expected_usage == Usage(74, 145, 22528, 4096, 0.0245154)
    assert load("pi/429").expected_class is ErrorClass.RATE_LIMITED
    assert load("codex/sigkill_tool").exit == Exit(None, 9)
    assert load("codex/sigkill_tool").tool == (1.176, None)


def test_a_name_that_no_case_has_is_told_with_those_there_are() -> None:
    with pytest.raises(CaseMissing, match=r"'claude/../../x'; there are claude/401, "):
        load("claude/../../x")


@pytest.mark.parametrize("name", names())
def test_a_case_means_what_its_header_says_it_means(name: str) -> None:
    case = load(name)
    story = Story(profile_of(case.cli))
    for line in case.lines:
        for sign in story.hear("stdout" if line.stream == "out" else "stderr", line.text.encode(), line.at, line.at):
            if permanent := story.is_permanent(sign):
                assert permanent.error_class is case.expected_class
                return  # the program is ended here
    outcome = story.outcome(case.exit)
    assert not isinstance(outcome, NotUnderstood)
    assert (outcome.error_class if outcome else None) is case.expected_class
    if case.expected_usage is not None:
        used = story.view(case.seconds).usage or Usage()
        assert msgspec.structs.replace(used, model="", cost_usd=case.expected_usage.cost_usd) == case.expected_usage
        if case.expected_usage.cost_usd:
            assert used.cost_usd == pytest.approx(case.expected_usage.cost_usd)


def test_long_texts_are_cut_within_an_event_and_what_is_short_stays_as_it_was_printed() -> None:
    short = '{"a": "b",  "c":1.50}'
    assert cut(short) == short
    event = json.loads(cut(json.dumps({"keep": [1.5, None], "text": "x" * (LONG + 1)})))
    assert event == {"keep": [1.5, None], "text": "x" * 240 + " ...[61 more characters]"}
    assert len(cut("no event " * 100)) < LONG
    assert cut(f"at {RECORDED_HOME}/a and {'/tmp'}/b") == "at /home/user/a and /var/tmp/b"
