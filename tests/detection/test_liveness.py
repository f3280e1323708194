"""The evidence table: an example for every row, their order, and what must hold for any evidence at all."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewd.detection.liveness import TABLE, Evidence, judge, moves
from crewd.detection.options import Patience, Thresholds
from crewd.model.process import Activity, ProcessSeen, ProcessState
from crewd.model.run import Waiting
from crewd.model.verdict import RANK, Level, Reason, Verdict
from tests.detection.evidence import ALIVE, ELSEWHERE, EXITED, STILL, STOPPED, alive, evidences, seconds, thresholds

USUAL = Thresholds()  # 30, 60, 300, 900, grace 30
PATIENCE = Patience()
TOOL_BELOW = Activity(tools=("pytest",))
COMPUTES = Activity(cpu_ticks_per_second=2.1)
WRITES = Activity(io_chars_per_second=50.1)


def verdict_on(silence: float, process: ProcessSeen, **more: Any) -> Verdict:
    return judge(Evidence(silence, process, **more), USUAL, PATIENCE)


ROWS = [
    # silence, process, more, level, reason, row
    (0.0, ALIVE, {"waiting": Waiting("human")}, Level.WAITING, Reason.HUMAN, 1),
    (9999.0, ELSEWHERE, {"waiting": Waiting("throttled")}, Level.WAITING, Reason.THROTTLED, 1),
    (9999.0, STOPPED, {"waiting": Waiting("parked")}, Level.WAITING, Reason.PARKED, 1),
    (0.0, ALIVE, {"waiting": Waiting("a word from the future")}, Level.WAITING, Reason.PARKED, 1),
    (0.0, EXITED, {"exit_confirmed": True}, Level.DEAD, Reason.EXITED, 2),
    (9999.0, EXITED, {"exit_confirmed": True}, Level.DEAD, Reason.EXITED, 2),
    (0.0, ALIVE, {"unread": "torn", "unread_rounds": 3}, Level.UNREADABLE, Reason.UNREADABLE, 3),
    (9999.0, ELSEWHERE, {"unread": "io_error", "unread_rounds": 9}, Level.UNREADABLE, Reason.UNREADABLE, 3),
    (0.0, STOPPED, {}, Level.WARN, Reason.STOPPED, 4),
    (59.9, STOPPED, {}, Level.WARN, Reason.STOPPED, 4),
    (60.0, STOPPED, {}, Level.STALE, Reason.STOPPED, 4),
    (1e6, STOPPED, {}, Level.STALE, Reason.STOPPED, 4),
    (0.0, ALIVE, {"lease_left": 600.0}, Level.HEALTHY, Reason.LEASED, 5),
    (0.0, ELSEWHERE, {"lease_left": 0.1, "tool": "bash"}, Level.HEALTHY, Reason.LEASED, 5),
    (0.0, ALIVE, {}, Level.HEALTHY, Reason.BEATING, 6),
    (29.9, ALIVE, {}, Level.HEALTHY, Reason.BEATING, 6),
    (29.9, ELSEWHERE, {}, Level.HEALTHY, Reason.BEATING, 6),
    (30.0, alive(TOOL_BELOW), {"tool": "bash"}, Level.HEALTHY, Reason.BUSY, 7),
    (299.9, alive(TOOL_BELOW), {"tool": "bash", "streams": True}, Level.HEALTHY, Reason.BUSY, 7),
    (30.0, ALIVE, {}, Level.WARN, Reason.SILENT, 8),
    (30.0, alive(), {"tool": "bash"}, Level.WARN, Reason.SILENT, 8),
    (59.9, alive(TOOL_BELOW), {}, Level.WARN, Reason.SILENT, 8),
    (59.9, alive(TOOL_BELOW), {"tool": "bash", "above": True}, Level.WARN, Reason.SILENT, 8),
    (59.9, ELSEWHERE, {}, Level.WARN, Reason.SILENT, 8),
    (60.0, ALIVE, {}, Level.STALE, Reason.SILENT, 9),
    (299.9, ELSEWHERE, {}, Level.STALE, Reason.SILENT, 9),
    (299.9, alive(), {"streams": True}, Level.STALE, Reason.SILENT, 9),
    (299.9, alive(TOOL_BELOW), {"tool": "bash", "above": True}, Level.STALE, Reason.SILENT, 9),
    (60.0, alive(WRITES), {"streams": True, "tool": "Bash"}, Level.STALE, Reason.BUSY, 10),
    (60.0, alive(WRITES), {"streams": True}, Level.STALE, Reason.SILENT, 9),
    (299.9, alive(WRITES), {}, Level.STALE, Reason.SILENT, 9),
    (300.0, alive(TOOL_BELOW), {}, Level.STALE, Reason.BUSY, 10),
    (300.0, alive(TOOL_BELOW), {"tool": "bash"}, Level.STALE, Reason.BUSY, 10),
    (300.0, alive(COMPUTES), {}, Level.STALE, Reason.BUSY, 10),
    (1e6, alive(WRITES), {}, Level.STALE, Reason.BUSY, 10),
    (300.0, alive(), {}, Level.STALE, Reason.SILENT, 11),
    (899.9, alive(), {}, Level.STALE, Reason.SILENT, 11),
    (1e6, alive(), {"streams": True}, Level.STALE, Reason.SILENT, 11),
    (900.0, alive(), {}, Level.DEAD, Reason.HUNG, 12),
    (900.0, alive(letter="R"), {}, Level.DEAD, Reason.HUNG, 12),
    (300.0, ELSEWHERE, {}, Level.DEAD, Reason.PRESUMED, 13),
    (1e6, ELSEWHERE, {}, Level.DEAD, Reason.PRESUMED, 13),
]


@pytest.mark.parametrize(("silence", "process", "more", "level", "reason", "row"), ROWS)
def test_each_row_of_the_table_fits_its_examples(
    silence: float, process: ProcessSeen, more: dict[str, Any], level: Level, reason: Reason, row: int
) -> None:
    verdict = verdict_on(silence, process, **more)
    assert (verdict.level, verdict.reason, verdict.row) == (level, reason, row)


def test_every_row_has_an_example_and_a_line_for_people() -> None:
    numbers = [row.number for row in TABLE]
    assert numbers == list(range(1, 14))  # in this order: explain shows a row by its place
    assert numbers == sorted({row for *_, row in ROWS})


ORDER = [
    # Evidence that several rows fit: the first of them wins.
    (1, EXITED, {"waiting": Waiting("human"), "exit_confirmed": True, "unread": "torn", "unread_rounds": 3}),
    (1, STOPPED, {"waiting": Waiting("human"), "unread": "torn", "unread_rounds": 3, "lease_left": 9.0}),
    (2, EXITED, {"exit_confirmed": True, "unread": "torn", "unread_rounds": 3, "lease_left": 9.0}),
    (3, STOPPED, {"unread": "torn", "unread_rounds": 3, "lease_left": 9.0}),
    (3, ELSEWHERE, {"unread": "torn", "unread_rounds": 3}),
    (4, STOPPED, {"lease_left": 9.0}),
    (5, ELSEWHERE, {"lease_left": 9.0}),
    (5, alive(), {"lease_left": 9.0, "tool": "bash"}),
    (10, alive(TOOL_BELOW), {}),
    (12, alive(), {}),
]


@pytest.mark.parametrize(("row", "process", "more"), ORDER)
def test_the_first_row_that_fits_wins(row: int, process: ProcessSeen, more: dict[str, Any]) -> None:
    assert verdict_on(5000.0, process, **more).row == row


def test_an_exit_is_nothing_until_it_is_confirmed() -> None:
    assert verdict_on(0.0, EXITED).level is Level.HEALTHY
    late = verdict_on(5000.0, EXITED)
    assert (late.level, late.row) == (Level.STALE, 9)  # and no haste about silence either


def test_an_unconfirmed_mark_on_a_living_process_kills_nobody() -> None:
    assert verdict_on(0.0, ALIVE, exit_confirmed=True).level is Level.HEALTHY


def test_files_are_unreadable_only_after_enough_rounds() -> None:
    assert verdict_on(0.0, ALIVE, unread="torn", unread_rounds=2).level is Level.HEALTHY
    patient = judge(Evidence(0.0, ALIVE, unread="torn", unread_rounds=4), USUAL, PATIENCE, unreadable_after=5)
    assert patient.level is Level.HEALTHY


def test_an_attempt_that_has_not_moved_yet_has_a_grace() -> None:
    assert verdict_on(59.9, ALIVE, fresh=True).level is Level.HEALTHY
    assert verdict_on(59.9, ALIVE, fresh=False).level is Level.WARN
    assert verdict_on(60.0, ALIVE, fresh=True).level is Level.STALE


def test_a_declared_tool_delays_hung_to_twice_its_time() -> None:
    assert verdict_on(900.0, alive(), tool="bash").row == 11
    assert "inside bash" in verdict_on(900.0, alive(), tool="bash").because
    assert verdict_on(1799.9, alive(), tool="bash").level is Level.STALE
    assert verdict_on(1800.0, alive(), tool="bash").reason is Reason.HUNG


def test_it_says_which_process_its_tool_is_and_when_it_waits_for_its_model() -> None:
    inside = verdict_on(200.0, alive(TOOL_BELOW), tool="Bash")
    assert inside.because == "inside Bash, whose process runs: pytest"
    assert inside.until_silence == USUAL.dead_after
    assert "its model says nothing" in verdict_on(100.0, alive(), streams=True).because
    assert "its model" not in verdict_on(100.0, alive(), streams=True, tool="WebFetch").because
    assert "its model" not in verdict_on(100.0, alive()).because


@pytest.mark.parametrize("silence", [300.0, 900.0, 1800.0, 1e6])
@pytest.mark.parametrize("process", [alive(), alive(activity=None), alive(Activity(sockets=3)), alive(COMPUTES)])
def test_an_agent_that_waits_for_its_model_is_never_hung(silence: float, process: ProcessSeen) -> None:
    assert verdict_on(silence, process, streams=True).level is Level.STALE


def test_an_agent_that_hangs_inside_a_tool_is_judged_as_others_are() -> None:
    assert verdict_on(1799.9, alive(), streams=True, tool="WebFetch").level is Level.STALE
    assert verdict_on(1800.0, alive(), streams=True, tool="WebFetch").reason is Reason.HUNG


@pytest.mark.parametrize(
    "process",
    [
        alive(activity=None),  # nothing was looked at
        alive(Activity(io_chars_per_second=None)),  # another user's: input and output may not be read
        alive(letter="D"),  # uninterruptible: waits for a disk or a network filesystem
    ],
)
def test_what_cannot_be_seen_to_stand_still_is_never_hung(process: ProcessSeen) -> None:
    verdict = verdict_on(1e6, process)
    assert (verdict.level, verdict.row) == (Level.STALE, 11)
    assert "cannot be seen" in verdict.because


@pytest.mark.parametrize(
    ("activity", "sign"),
    [
        (None, ""),
        (Activity(), ""),
        (Activity(cpu_ticks_per_second=0.4), ""),  # an agent's own timers in a dead wait
        (Activity(cpu_ticks_per_second=2.0), ""),
        (Activity(io_chars_per_second=50.0), ""),  # event-loop wake-ups
        (Activity(io_chars_per_second=None), ""),
        (Activity(sockets=9), ""),  # an open connection is no movement
        (Activity(wait_channel="ep_poll"), ""),
        (TOOL_BELOW, "pytest"),
        (COMPUTES, "computes"),
        (WRITES, "reads or writes"),
        (Activity(cpu_ticks_per_second=9.0, io_chars_per_second=None), "computes"),
    ],
)
def test_which_activity_is_a_sign_of_life(activity: Activity | None, sign: str) -> None:
    said = moves(activity, PATIENCE)
    assert sign in said
    assert bool(said) == bool(sign)


@pytest.mark.parametrize("waits", [Waiting("human", detail="may it delete the folder?"), Waiting("human")])
def test_a_wait_says_what_for_and_that_its_process_is_gone(waits: Waiting) -> None:
    verdict = verdict_on(0.0, EXITED, waiting=waits, exit_confirmed=True)
    assert (waits.detail or "human") in verdict.because
    assert "gone" in verdict.because


@pytest.mark.parametrize(
    ("waits", "because"),
    [
        (Waiting("human", detail="plan approval"), "waits for a human: plan approval"),
        (Waiting("human"), "waits for a human"),
        (Waiting("throttled", detail="until 12:00"), "throttled by its provider: until 12:00"),
        (Waiting("parked"), "parked"),
    ],
)
def test_a_wait_is_told_in_words(waits: Waiting, because: str) -> None:
    assert verdict_on(0.0, ALIVE, waiting=waits).because == because


# --- for any evidence at all


@settings(deadline=None)
@given(evidence=evidences, longer=seconds, limits=thresholds())
def test_older_is_never_healthier(evidence: Evidence, longer: float, limits: Thresholds) -> None:
    silences = sorted((evidence.silence, longer))
    younger, older = (judge(msgspec.structs.replace(evidence, silence=s), limits, PATIENCE) for s in silences)
    if younger.level in RANK and older.level in RANK:
        assert RANK[younger.level] <= RANK[older.level]
    else:
        assert younger.level is older.level


@settings(deadline=None)
@given(evidence=evidences, later=seconds, limits=thresholds())
def test_a_verdict_stands_until_the_silence_that_it_names(
    evidence: Evidence, later: float, limits: Thresholds
) -> None:
    verdict = judge(evidence, limits, PATIENCE)
    if evidence.process.state is ProcessState.EXITED:
        return  # judged in every round until it is confirmed
    if verdict.until_silence is None:
        then = max(evidence.silence, later)
    else:
        assert verdict.until_silence > evidence.silence
        then = min(max(evidence.silence, later), _just_below(verdict.until_silence))
        due = judge(msgspec.structs.replace(evidence, silence=verdict.until_silence), limits, PATIENCE)
        assert (due.row, due.level, due.until_silence) != (verdict.row, verdict.level, verdict.until_silence)
    same = judge(msgspec.structs.replace(evidence, silence=then), limits, PATIENCE)
    assert (same.level, same.reason, same.row) == (verdict.level, verdict.reason, verdict.row)


def _just_below(seconds: float) -> float:
    return seconds * (1 - 2**-52)


@settings(deadline=None)
@given(evidence=evidences, limits=thresholds())
def test_dead_needs_a_proven_exit_a_hung_process_or_a_long_silence_of_one_unseen(
    evidence: Evidence, limits: Thresholds
) -> None:
    verdict = judge(evidence, limits, PATIENCE)
    if verdict.level is not Level.DEAD:
        return
    match verdict.reason:
        case Reason.EXITED:
            assert evidence.process.state is ProcessState.EXITED
            assert evidence.exit_confirmed
        case Reason.PRESUMED:
            assert evidence.process.state is ProcessState.HIDDEN
            assert evidence.silence >= limits.dead_after
        case reason:
            assert reason is Reason.HUNG
            assert evidence.process.state is ProcessState.ALIVE
            assert evidence.silence >= limits.hung_after
            assert evidence.process.letter != "D"
            assert evidence.tool or not evidence.streams
            activity = evidence.process.activity
            assert activity is not None
            assert activity.io_chars_per_second is not None
            assert not moves(activity, PATIENCE)


@settings(deadline=None)
@given(evidence=evidences, limits=thresholds())
def test_a_living_process_is_never_presumed_dead(evidence: Evidence, limits: Thresholds) -> None:
    if evidence.process.state in (ProcessState.ALIVE, ProcessState.STOPPED):
        assert judge(evidence, limits, PATIENCE).reason not in (Reason.PRESUMED, Reason.EXITED)


@settings(deadline=None)
@given(evidence=evidences, limits=thresholds(), factor=st.floats(min_value=1.0, max_value=10.0))
def test_stretched_thresholds_make_no_one_worse(evidence: Evidence, limits: Thresholds, factor: float) -> None:
    plain = judge(evidence, limits, PATIENCE)
    stretched = judge(evidence, limits.stretched(factor), PATIENCE)
    if plain.level in RANK:
        assert RANK[stretched.level] <= RANK[plain.level]
    else:
        assert stretched.level is plain.level


@settings(deadline=None)
@given(evidence=evidences, limits=thresholds())
def test_every_verdict_says_why_and_names_a_row(evidence: Evidence, limits: Thresholds) -> None:
    verdict = judge(evidence, limits, PATIENCE)
    assert verdict.because
    assert verdict.row in {row.number for row in TABLE}


def test_a_still_process_shows_no_sign_of_life() -> None:
    assert moves(STILL, PATIENCE) == ""
