"""Fed line by line at the recorded times, every run is judged rightly at every moment.

A judging each second of recorded time, as the patrol does it: silence since the last word, processes as /proc showed
them (proc.json of each run), and what an agent is expected to do: `warn_after` is its profile's `silent_after`,
`stale_after` is `watch.stream_hang_after`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from crewd.detection.gradient import FREE, follow
from crewd.detection.liveness import Evidence, judge
from crewd.detection.options import Patience, Thresholds
from crewd.detection.wedge import diagnose
from crewd.model.agent import AgentView, Profile
from crewd.model.failure import ErrorClass
from crewd.model.plan import WatchPlan
from crewd.model.process import Activity, Identity, ProcessSeen, ProcessState
from crewd.model.run import Expectation, Waiting
from crewd.model.verdict import Level, Reason, Standing, Wedge
from crewd.policy.profiles import PROFILES
from crewd.sources.agents.signs import Finished, Refused
from tests.agents.cases import CASES, GENUINE, Case
from tests.agents.test_cases import story_of

PATIENCE = Patience()
IDENTITY = Identity(pid=700, start_ticks=12_345, boot_id="boot-1", pid_namespace=1)
SILENT = (Level.STALE, Level.DEAD)
# Their model says nothing, and neither do they: 240 s after its last word each must be known to hang.
HANGS = (
    "claude/hang", "claude/hdr_hang", "codex/hang", "codex/hdr_hang", "gemini/hang", "pi/hang", "pi/hdr_hang",
)  # fmt: skip
LONG_TOOLS = ("claude/long", "codex/long", "gemini/long", "pi/long")
KILLED_IN_TOOLS = ("claude/sigkill_tool", "codex/sigkill_tool", "gemini/sigkill_tool", "pi/sigkill_tool")


@dataclass(frozen=True)
class Moment:
    """How a run stands at one second."""

    at: float
    view: AgentView
    standing: Standing
    silence: float


def expected_of(profile: Profile) -> Thresholds:
    return Thresholds().expecting(Expectation(profile.silent_after, WatchPlan().stream_hang_after))


def moments(case: Case, until: float | None = None) -> Iterator[Moment]:
    """Judge the run once a second, to its end, or beyond it: as if it lived on as it was, without another word."""
    story, waiting = story_of(case), list(reversed(case.heard))
    thresholds, standing = expected_of(PROFILES[case.profile]), Standing()
    said: tuple[int, int] = (0, 0)
    silence, fresh = 0.0, True
    for second in range(1, int(until or case.seconds) + 1):
        now = float(second)
        while waiting and waiting[-1].at <= now:
            each = waiting.pop()
            story.hear(each.stream, each.line, each.at, case.wall + each.at)
        view = story.view(now)
        progressed = (view.moves, view.beats) != said
        said = (view.moves, view.beats)
        fresh = fresh and not progressed
        declared = Waiting("throttled") if view.throttled_until is not None else None
        # While it waits the silence clock stands still, and it begins anew where the wait ends.
        silence = 0.0 if progressed or declared is not None else silence + 1.0
        process = seen(case, now, view)
        tool = view.tools[-1].name if view.tools else ""
        evidence = Evidence(silence, process, waiting=declared, tool=tool, fresh=fresh, streams=True)
        verdict = judge(evidence, thresholds, PATIENCE)
        standing = follow(standing, verdict, FREE, PATIENCE, now, case.wall + now, progressed)
        if standing.level in SILENT:
            hint = view.refused.message if view.refused is not None else ""
            wedge = diagnose(process, declared, tool, hint, False, PATIENCE, streams=True)
            standing = Standing(**{**{name: getattr(standing, name) for name in FIELDS}, "wedge": wedge})
        yield Moment(now, view, standing, silence)


FIELDS = Standing.__struct_fields__


def seen(case: Case, now: float, view: AgentView) -> ProcessSeen:
    """What the kernel showed around this second: of the agent itself, and of what lived below it."""
    before = [look for look in case.looks if look["t"] <= now]
    latest = before[-1] if before else None
    agent = latest["procs"][0] if latest is not None and latest["procs"] else None
    # Looks are seconds apart: a tool that is open now is alive below it if any look found one.
    below = tuple(name(process) for look in case.looks for process in look["procs"][1:]) if view.tools else ()
    activity = Activity(
        cpu_ticks_per_second=ticks(before),
        io_chars_per_second=8.0,  # wake-ups of its event loop
        tools=tuple(dict.fromkeys(below)),
        sockets=latest.get("established", 1) if latest is not None else 1,
        wait_channel=agent["wchan"] if agent is not None else "",
    )
    return ProcessSeen(ProcessState.ALIVE, "pid 700 is alive", IDENTITY, "S", activity)


def name(process: dict[str, Any]) -> str:
    return str(process["cmd"]).split(" ")[0].rpartition("/")[2]


def ticks(looks: list[dict[str, Any]]) -> float:
    """Clock ticks a second between the latest two looks at the agent."""
    if len(looks) < 2:
        return 0.0
    one, other = looks[-2], looks[-1]
    if other["t"] - one["t"] < 1.0:
        return 0.0
    spent = [sum(look["procs"][0][kind] for kind in ("utime_ticks", "stime_ticks")) for look in (one, other)]
    return float(spent[1] - spent[0]) / float(other["t"] - one["t"])


def worst(case: Case, until: float | None = None) -> list[str]:
    """The moments at which it stood worse than `busy`."""
    return [
        f"{case.name} at {moment.at:g} s: {moment.standing.level.value}({moment.standing.reason.value}), "
        f"{moment.standing.because}; silent for {moment.silence:g} s"
        for moment in moments(case, until)
        if moment.standing.level is Level.DEAD
        or (moment.standing.level is Level.STALE and moment.standing.reason is not Reason.BUSY)
    ]


HEALTHY = [case for case in GENUINE if case.name not in HANGS]


@pytest.mark.parametrize("case", HEALTHY, ids=lambda case: case.name)
def test_no_run_that_works_is_ever_stale_beyond_busy(case: Case) -> None:
    assert not worst(case)


@pytest.mark.parametrize("name", LONG_TOOLS)
def test_a_long_tool_is_inside_its_tool_and_well(name: str) -> None:
    inside = [moment for moment in moments(CASES[name]) if moment.view.tools]
    assert len(inside) > 50
    assert {moment.standing.level for moment in inside} == {Level.HEALTHY}
    assert all(len(moment.view.tools) == 1 for moment in inside)


@pytest.mark.parametrize("name", KILLED_IN_TOOLS)
def test_a_silent_tool_whose_process_runs_warns_nobody_for_minutes(name: str) -> None:
    *_, last = moments(CASES[name], until=280)
    assert last.silence > 240
    assert {moment.standing.level for moment in moments(CASES[name], until=280)} == {Level.HEALTHY}
    assert last.standing.reason is Reason.BUSY


@pytest.mark.parametrize("name", KILLED_IN_TOOLS)
def test_a_tool_that_runs_for_hours_is_never_more_than_busy(name: str) -> None:
    """Recorded until the tool had begun; then it goes on in silence, with its process alive."""
    case = CASES[name]
    assert not worst(case, until=3 * 3600)
    *_, last = moments(case, until=3 * 3600)
    assert (last.standing.level, last.standing.reason) in {
        (Level.STALE, Reason.BUSY),
        (Level.HEALTHY, Reason.BUSY),
    }
    assert last.standing.wedge in (Wedge.TOOL_RUNNING, None)


@pytest.mark.parametrize("name", HANGS)
def test_a_model_that_falls_silent_is_named_before_the_program_reacts(name: str) -> None:
    """All four react at 300 s of silence at the earliest; by then it is known, and nobody is thought dead for it."""
    case = CASES[name]
    first: dict[Wedge | None, Moment] = {}
    for moment in moments(case):
        assert moment.standing.level is not Level.DEAD, moment
        if moment.standing.level is Level.STALE:
            first.setdefault(moment.standing.wedge, moment)
    assert Wedge.API_STREAM_HANG in first, f"{name} was never known to hang; what it was: {first}"
    hang = first[Wedge.API_STREAM_HANG]
    assert 240.0 <= hang.at <= 260.0, f"{name} was known to hang at {hang.at:g} s"
    assert min(moment.at for moment in first.values()) == hang.at, f"{name} was something else before: {first}"


@pytest.mark.parametrize("name", HANGS)
def test_a_hung_agent_is_not_dead_however_long_its_process_lives_on(name: str) -> None:
    assert Level.DEAD not in {moment.standing.level for moment in moments(CASES[name], until=4 * 3600)}


def test_failing_fetches_of_gemini_are_told_by_itself_long_before_they_could_be_called_a_hang() -> None:
    """It gives each request 60 s, and says on stderr that it failed: no silence is long, and the reason known."""
    case = CASES["gemini/hdr_hang"]
    told = [moment for moment in moments(case) if moment.at > 67]
    assert all(moment.view.refused is not None for moment in told)
    assert {moment.view.refused.error_class for moment in told if moment.view.refused} == {ErrorClass.PROVIDER_ERROR}
    assert not worst(case)


# What each program announces before it waits, in the words of its own lines: seconds, None where it does not say.
ANNOUNCED = {
    "claude": re.compile(rb'"subtype":"api_retry".*?"retry_delay_ms":(\d+)'),
    "gemini": re.compile(rb"Retrying after (\d+)ms"),
    "pi": re.compile(rb'"type":"auto_retry_start".*?"delayMs":(\d+)'),
    "codex": re.compile(rb"Reconnecting\.\.\. ()"),
}


def announced(case: Case) -> list[tuple[float, float]]:
    """The waits that it announced: from, to. Without a number: to its next word."""
    lines = [each for each in case.heard if each.stream != "session"]
    found: list[tuple[float, float]] = []
    for number, each in enumerate(lines):
        if told := ANNOUNCED[case.profile].search(each.line):
            next_at = lines[number + 1].at
            found.append((each.at, each.at + float(told[1]) / 1000 if told[1] else next_at))
    return found


@pytest.mark.parametrize("name", ["claude/429", "codex/429", "gemini/429", "pi/429"])
def test_whoever_announced_a_wait_for_its_provider_waits_throttled(name: str) -> None:
    case = CASES[name]
    waits = announced(case)
    assert case.refusals is not None and len(waits) == case.refusals.count
    seconds = 0
    for moment in moments(case):
        if any(begun < moment.at < ended for begun, ended in waits):
            seconds += 1
            level, reason = moment.standing.level, moment.standing.reason
            assert (level, reason) == (Level.WAITING, Reason.THROTTLED), (moment, waits)
    assert seconds >= sum(ended - begun for begun, ended in waits) - len(waits)
    *_, last = moments(case)
    assert last.standing.level is not Level.DEAD


@pytest.mark.parametrize("name", ["claude/429", "codex/429", "gemini/429", "pi/429"])
def test_a_throttled_agent_knows_until_when(name: str) -> None:
    case = CASES[name]
    for begun, ended in announced(case):
        story = story_of(case)
        for each in case.heard:
            if each.at <= begun and each.stream != "session":
                story.hear(each.stream, each.line, each.at, case.wall + each.at)
        until = story.view(begun).throttled_until
        assert until is not None and until >= ended - 0.001, (begun, ended, until)


# The second at which it was first printed that the credential is refused, of the seconds that the program went on.
REFUSED_AT = {"claude/401": 6.048, "codex/401": 1.174, "gemini/401": 11.184, "pi/401": 9.243}


@pytest.mark.parametrize("name", REFUSED_AT)
def test_a_refused_credential_ends_an_attempt_at_its_first_word(name: str) -> None:
    case = CASES[name]
    story = story_of(case)
    for each in case.heard:
        for sign in story.hear(each.stream, each.line, each.at, case.wall + each.at):
            failure = story.is_permanent(sign)
            if failure is None and isinstance(sign, Finished):
                failure = sign.failure  # gemini and pi do not repeat it: they end at once
            if failure is not None:
                assert failure.error_class is ErrorClass.AUTH_ERROR
                assert each.at <= REFUSED_AT[name]
                if name in ("claude/401", "codex/401"):
                    assert (each.at, isinstance(sign, Refused)) == (REFUSED_AT[name], True)
                return
    pytest.fail(f"{name}: nothing says that its credential is refused")


def test_a_limit_with_a_number_ends_nobody_at_its_first_word() -> None:
    for name in (
        "claude/429",
        "codex/429",
        "gemini/429",
        "pi/429",
        "claude/500",
        "codex/500",
        "gemini/500",
        "pi/500",
    ):
        case = CASES[name]
        story = story_of(case)
        for each in case.heard:
            for sign in story.hear(each.stream, each.line, each.at, case.wall + each.at):
                assert story.is_permanent(sign) is None, (name, each)


def test_the_recorded_looks_show_tools_where_tools_ran() -> None:
    """What these tests rest on: nothing runs below a hung agent, and a connection is open; a tool has processes."""
    for name in HANGS:
        assert all(len(look["procs"]) == 1 for look in CASES[name].looks), name
        assert all(look.get("established", 1) for look in CASES[name].looks if look["t"] > 10), name
    for name in LONG_TOOLS:
        assert any(len(look["procs"]) > 1 for look in CASES[name].looks), name
