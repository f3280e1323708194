"""`crewd explain`: every state has a page that names its signals, the row that fitted and the rule that held back."""

import json
from itertools import product

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewd.detection.explain import Explanation, explain
from crewd.detection.liveness import TABLE
from crewd.detection.wedge import REMEDIES
from crewd.model.look import ReadResult
from crewd.model.process import Activity, ProcessSeen
from crewd.model.run import Run, RunStatus
from crewd.model.snapshot import Health, RunView, Snapshot, WorkerView
from crewd.model.verdict import Level, Reason, Standing, Verdict, Wedge
from tests.detection.evidence import ALIVE, POSSIBLE, alive, processes, verdict, verdicts

TAKEN_AT = 1_767_225_600.0
ROOT = "beat:/crew"
RUN = Run("run-1", "beat", "night", RunStatus.RUNNING, "running", "/crew/run-1")


def page(
    standing: Standing = Standing(),  # noqa: B008  # frozen
    said: Verdict = verdict(Level.HEALTHY, Reason.BEATING, 6),  # noqa: B008  # frozen
    process: ProcessSeen = ALIVE,
    health: Health = Health(),  # noqa: B008  # frozen
    silence: float = 42.0,
    tool: str = "",
    progress_at: float | None = TAKEN_AT - 50.0,
    unread: ReadResult | None = None,
) -> Explanation:
    worker = WorkerView(
        task_id="task-1",
        attempt=2,
        standing=standing,
        verdict=said,
        heard_at=1000.0 - silence,
        progress_at=progress_at,
        process=process,
        tool=tool,
        first_seen_at=TAKEN_AT - 600.0,
    )
    view = RunView(RUN, ROOT, (worker,), unread=unread, unread_rounds=4 if unread else 0)
    return explain(view, worker, Snapshot(TAKEN_AT, health, {"run-1": view}, {ROOT: 1000.0}))


def signals(explanation: Explanation) -> dict[str, str]:
    return {signal.name: signal.value for signal in explanation.signals}


def test_it_says_who_where_and_since_when() -> None:
    shown = page(Standing(Level.WARN, Reason.SILENT, "silent for 42 s", since=TAKEN_AT - 12.5))
    assert (shown.run_id, shown.task_id, shown.attempt) == ("run-1", "task-1", 2)
    assert (shown.runtime, shown.crew) == ("beat", "night")
    assert (shown.level, shown.reason, shown.because) == ("warn", "silent", "silent for 42 s")
    assert shown.since == "2025-12-31T23:59:47.500Z"
    assert shown.silence_seconds == 42.0
    assert page(Standing()).since == ""


def test_it_names_the_row_that_fitted_and_the_rule_that_held_back() -> None:
    shown = page(Standing(held_by="hold: the machine slept 60 s"), verdict(Level.DEAD, Reason.PRESUMED, 13))
    assert shown.row == 13
    assert shown.rule.endswith(TABLE[shown.row - 1].verdict)
    assert shown.verdict.startswith("dead(presumed): ")
    assert shown.held_by == "hold: the machine slept 60 s"
    assert shown.level == "healthy"


@pytest.mark.parametrize("wedge", list(Wedge))
def test_a_diagnosis_comes_with_its_remedy(wedge: Wedge) -> None:
    shown = page(Standing(Level.STALE, Reason.SILENT, wedge=wedge))
    assert (shown.wedge, shown.remedy) == (wedge.value, REMEDIES[wedge])


def test_without_a_diagnosis_there_is_no_remedy() -> None:
    shown = page()
    assert (shown.wedge, shown.remedy) == ("", "")


def test_each_signal_is_shown_with_its_value() -> None:
    busy = Activity(1.25, 512.0, ("bash", "pytest"), 3, "ep_poll")
    shown = signals(page(process=alive(busy), tool="bash"))
    assert shown["silence"] == "42.0 s of observed time"
    assert shown["process"] == "alive: pid 700 is alive"
    assert shown["cpu"] == "1.25 ticks/s"
    assert shown["input and output"] == "512 bytes/s"
    assert shown["processes below it"] == "bash, pytest"
    assert shown["connections"] == "3"
    assert shown["waits in"] == "ep_poll"
    assert shown["tool"] == "says it is inside bash"


def test_what_may_not_be_read_is_not_shown_as_nothing() -> None:
    shown = signals(page(process=alive(Activity(io_chars_per_second=None, sockets=None))))
    assert shown["input and output"] == shown["connections"] == "may not be read"


def test_crewds_own_doubts_are_signals_too() -> None:
    doubting = Health(hold="crewd has just started", hold_seconds_left=12.0, brake="9 fell silent", local_health=2.5)
    flapping = Standing(flapping_until=2000.0)
    shown = signals(page(flapping, health=doubting, unread=ReadResult.TORN))
    assert shown["hold"] == "crewd has just started, 12 s left"
    assert shown["mass brake"] == "9 fell silent"
    assert shown["local health"] == "thresholds x 2.50"
    assert shown["files"] == "unread for 4 rounds: torn"
    assert "doubled" in shown["flapping"]


def test_with_nothing_to_doubt_it_says_so() -> None:
    shown = signals(page())
    assert (shown["hold"], shown["mass brake"], shown["files"], shown["lease"]) == ("off", "off", "readable", "none")
    assert "flapping" not in shown


def test_a_lease_is_shown_with_what_is_left_of_it() -> None:
    shown = page(silence=-90.0)
    assert signals(shown)["lease"] == "90 s left"
    assert shown.silence_seconds == 0.0
    assert signals(page(silence=0.0))["lease"] == "none"


def test_the_time_of_the_latest_progress_is_shown_or_that_there_was_none() -> None:
    seen = {signal.name: signal for signal in page().signals}["progress"]
    assert (seen.value, seen.seen) == ("its token changed", "2025-12-31T23:59:10.000Z")
    never = {signal.name: signal for signal in page(progress_at=None).signals}["progress"]
    assert (never.value, never.seen) == ("none since crewd first saw it", "2025-12-31T23:50:00.000Z")


def test_every_standing_has_a_page_whatever_the_verdict_of_the_round() -> None:
    held = ("", "hysteresis", "hold: h", "brake: b")
    for level, (said_level, reason, row), held_by in product(Level, POSSIBLE, held):
        standing = Standing(level, reason, held_by=held_by)
        shown = page(standing, verdict(said_level, reason, row))
        assert (shown.level, shown.row, shown.held_by) == (level.value, row, held_by)
        assert shown.verdict.startswith(f"{said_level.value}({reason.value})")


@settings(deadline=None)
@given(
    standing=st.builds(
        Standing,
        level=st.sampled_from(Level),
        reason=st.sampled_from(Reason),
        since=st.floats(min_value=0.0, max_value=4e9),
        flapping_until=st.none() | st.floats(min_value=0.0, max_value=1e6),
        held_by=st.text(max_size=20),
        wedge=st.none() | st.sampled_from(Wedge),
    ),
    said=verdicts,
    process=processes,
    silence=st.floats(min_value=-1e6, max_value=1e6),
    tool=st.text(max_size=20),
    unread=st.none() | st.sampled_from(ReadResult),
)
def test_any_state_can_be_shown_and_sent(
    standing: Standing,
    said: Verdict,
    process: ProcessSeen,
    silence: float,
    tool: str,
    unread: ReadResult | None,
) -> None:
    shown = page(standing, said, process, silence=silence, tool=tool, unread=unread)
    assert shown.row in {row.number for row in TABLE}
    assert shown.silence_seconds >= 0.0
    sent = json.loads(msgspec.json.encode(shown))
    assert sent["held_by"] == standing.held_by
    assert all(signal["name"] and isinstance(signal["value"], str) for signal in sent["signals"])
