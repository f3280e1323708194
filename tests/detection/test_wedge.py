"""Why a living worker is silent: the classes from the strongest evidence to the weakest, and a remedy for each."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewd.detection.options import Patience
from crewd.detection.wedge import REMEDIES, diagnose
from crewd.model.process import Activity, ProcessSeen
from crewd.model.run import Waiting
from crewd.model.verdict import Wedge
from tests.detection.evidence import ALIVE, ELSEWHERE, STOPPED, alive, processes, waits

PATIENCE = Patience()
HINT_OF_ALL = "ENOSPC; 401 Unauthorized; 429 Too Many Requests; prompt is too long; continue? [y/n]"
EVERYTHING = Activity(cpu_ticks_per_second=99.0, io_chars_per_second=0.0, tools=("pytest",), sockets=3)


def wedge(process: ProcessSeen, **more: Any) -> Wedge:
    known: dict[str, Any] = {"waiting": None, "tool": "", "hint": "", "disk_full": False, **more}
    return diagnose(process, patience=PATIENCE, **known)


def test_the_strongest_evidence_names_the_class() -> None:
    # All kinds of evidence at once; then, one after the other, the strongest is taken away.
    more: dict[str, Any] = {"waiting": Waiting("human"), "disk_full": True, "tool": "bash", "hint": HINT_OF_ALL}
    assert wedge(STOPPED, **more) is Wedge.STOPPED
    assert wedge(alive(EVERYTHING), **more) is Wedge.WAITING_HUMAN
    more["waiting"] = None
    assert wedge(alive(EVERYTHING), **more) is Wedge.DISK_FULL
    more["disk_full"] = False
    assert wedge(alive(EVERYTHING), **more) is Wedge.TOOL_RUNNING
    without_tools = alive(Activity(cpu_ticks_per_second=99.0, sockets=3))
    by_hint = []
    for word in more["hint"].split("; "):
        by_hint.append(wedge(without_tools, **more))
        more["hint"] = more["hint"].replace(word, "")
    assert by_hint == [
        Wedge.DISK_FULL, Wedge.AUTH_EXPIRED, Wedge.RATE_LIMITED, Wedge.CONTEXT_EXHAUSTED, Wedge.WAITING_HUMAN
    ]  # fmt: skip
    assert wedge(without_tools, **more) is Wedge.CPU_LOOP
    quiet = alive(Activity(cpu_ticks_per_second=0.2, sockets=3))
    assert wedge(quiet, **more) is Wedge.TOOL_RUNNING  # by its own word
    more["tool"] = ""
    assert wedge(quiet, **more) is Wedge.API_STREAM_HANG
    assert wedge(alive(Activity(sockets=0)), **more) is Wedge.UNKNOWN


def test_a_wait_for_the_provider_is_a_rate_limit() -> None:
    assert wedge(ALIVE, waiting=Waiting("throttled")) is Wedge.RATE_LIMITED


@pytest.mark.parametrize("process", [alive(activity=None), ELSEWHERE])
def test_of_a_process_that_was_not_looked_at_only_words_say_something(process: ProcessSeen) -> None:
    assert wedge(process) is Wedge.UNKNOWN
    assert wedge(process, tool="bash") is Wedge.UNKNOWN
    assert wedge(process, hint="Error: 429 rate_limit_error") is Wedge.RATE_LIMITED


def test_sockets_that_may_not_be_read_are_no_open_connection() -> None:
    assert wedge(alive(Activity(sockets=None))) is Wedge.UNKNOWN


STREAMS = [
    # an agent whose every word is followed: its process, its open tool, its last words, and what follows
    (alive(Activity(sockets=1)), "", "", Wedge.API_STREAM_HANG),
    (alive(Activity(sockets=0)), "", "", Wedge.API_STREAM_HANG),
    (alive(Activity(sockets=None)), "", "", Wedge.API_STREAM_HANG),
    (alive(activity=None), "", "", Wedge.API_STREAM_HANG),
    (ELSEWHERE, "", "", Wedge.API_STREAM_HANG),
    (alive(Activity(tools=("bash",))), "", "", Wedge.TOOL_RUNNING),
    (alive(Activity(tools=("bash",))), "Bash", "", Wedge.TOOL_RUNNING),
    (alive(Activity(sockets=1)), "WebFetch", "", Wedge.TOOL_RUNNING),
    (alive(activity=None), "WebFetch", "", Wedge.UNKNOWN),
    (alive(Activity(sockets=1)), "", "429 Too Many Requests", Wedge.RATE_LIMITED),
    (alive(Activity(sockets=1)), "", "401 Unauthorized", Wedge.AUTH_EXPIRED),
    (alive(Activity(cpu_ticks_per_second=99.0)), "", "", Wedge.CPU_LOOP),
    (alive(Activity(io_chars_per_second=999.0, sockets=1)), "", "", Wedge.API_STREAM_HANG),
]


@pytest.mark.parametrize(("process", "tool", "hint", "named"), STREAMS)
def test_an_agent_outside_of_a_tool_waits_for_its_model(
    process: ProcessSeen, tool: str, hint: str, named: Wedge
) -> None:
    assert wedge(process, tool=tool, hint=hint, streams=True) is named


def test_a_connection_on_which_something_moves_does_not_hang() -> None:
    assert wedge(alive(Activity(sockets=1, io_chars_per_second=999.0))) is Wedge.UNKNOWN


@pytest.mark.parametrize(("ticks", "loops"), [(0.4, False), (2.1, False), (20.0, False), (20.1, True), (99.0, True)])
def test_a_loop_is_far_more_than_an_agents_own_timers(ticks: float, loops: bool) -> None:
    assert (wedge(alive(Activity(cpu_ticks_per_second=ticks))) is Wedge.CPU_LOOP) is loops


@pytest.mark.parametrize(
    ("hint", "named"),
    [
        ("write /x: no space left on device", Wedge.DISK_FULL),
        ("EDQUOT: Disk quota exceeded", Wedge.DISK_FULL),
        ("API Error: 401 token has expired", Wedge.AUTH_EXPIRED),
        ("Invalid API key · Please run /login", Wedge.AUTH_EXPIRED),
        ("HTTP 429", Wedge.RATE_LIMITED),
        ("You have hit your usage limit.", Wedge.RATE_LIMITED),
        ("overloaded_error", Wedge.RATE_LIMITED),
        ("input exceeds the context window", Wedge.CONTEXT_EXHAUSTED),
        ("Prompt is too long", Wedge.CONTEXT_EXHAUSTED),
        ("Do you want to proceed?", Wedge.WAITING_HUMAN),
        ("overwrite? (y/N)", Wedge.WAITING_HUMAN),
        ("read 14290 lines, id 4017", Wedge.UNKNOWN),
        ("all is well", Wedge.UNKNOWN),
        ("", Wedge.UNKNOWN),
    ],
)
def test_what_the_last_words_of_a_worker_hint_at(hint: str, named: Wedge) -> None:
    assert wedge(alive(), hint=hint) is named


def test_every_class_has_its_own_remedy() -> None:
    assert set(REMEDIES) == set(Wedge)
    assert len(set(REMEDIES.values())) == len(Wedge)


@settings(deadline=None)
@given(
    process=processes,
    waiting=st.none() | waits,
    tool=st.sampled_from(["", "bash"]),
    hint=st.text(max_size=200),
    disk_full=st.booleans(),
    streams=st.booleans(),
)
def test_any_evidence_gets_some_class(
    process: ProcessSeen, waiting: Waiting | None, tool: str, hint: str, disk_full: bool, streams: bool
) -> None:
    more: dict[str, Any] = {"waiting": waiting, "tool": tool, "hint": hint, "disk_full": disk_full}
    assert wedge(process, **more, streams=streams) in REMEDIES
