"""The life of a recovery plan as a table with no empty cell, and what counts as an interruption."""

from itertools import product
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.model.failure import ErrorClass
from crewd.model.process import ProcessClaim, ProcessSeen, ProcessState
from crewd.model.recovery import Cause, Interruption, LogSeen, PlanState
from crewd.model.run import Run, RunStatus, Task, TaskStatus, Waiting
from crewd.model.verdict import Level
from crewd.policy.recovery import (
    REFUSED,
    STAYS,
    TABLE,
    Cell,
    Moves,
    RunSeen,
    Step,
    Unsure,
    after,
    failure_of,
    fill,
    interrupted,
    mark_of,
    offers_of,
    plan_id_of,
    project_of,
)

_, R = STAYS, REFUSED
P, A, D, X, V, F, W = (
    PlanState.PLANNED, PlanState.APPROVED, PlanState.DECLINED, PlanState.APPLIED, PlanState.VERIFIED,
    PlanState.FAILED, PlanState.WITHDRAWN,
)  # fmt: skip
# Written a second time and otherwise: a row for each step, a column for each state.
EXPECTED = {
    #                      P  A  D  X  V  F  W
    Step.FOUND:           (_, _, _, _, _, _, _),
    Step.APPROVE:         (A, R, R, R, R, A, R),
    Step.DECLINE:         (D, D, R, R, R, R, R),
    Step.APPLY:           (R, X, R, R, R, R, R),
    Step.MOVED:           (W, W, _, V, _, _, _),
    Step.RUN_ENDED:       (W, W, _, V, _, _, _),
    Step.VANISHED:        (W, W, _, W, _, _, _),
    Step.SPAWN_FAILED:    (_, _, _, F, _, _, _),
    Step.EXITED_NONZERO:  (_, _, _, F, _, _, _),
    Step.TIMED_OUT:       (_, _, _, F, _, _, _),
    Step.RETRY:           (_, _, _, A, _, _, _),
    Step.DEADLINE:        (_, _, _, F, _, _, _),
}  # fmt: skip
COLUMNS = (P, A, D, X, V, F, W)


@pytest.mark.parametrize(("state", "step"), list(product(PlanState, Step)))
def test_every_cell_of_the_table_says_what_follows(state: PlanState, step: Step) -> None:
    assert after(state, step) == EXPECTED[step][COLUMNS.index(state)]


def test_the_table_has_every_state_and_every_step_and_nothing_else() -> None:
    assert set(TABLE) == set(PlanState) == set(COLUMNS)
    assert all(set(row) == set(Step) for row in TABLE.values())
    assert set(EXPECTED) == set(Step)


def test_nothing_but_a_word_leads_from_planned_to_a_command() -> None:
    to_approved = {(state, step) for state, step in product(PlanState, Step) if after(state, step) is A}
    assert to_approved == {(P, Step.APPROVE), (F, Step.APPROVE), (X, Step.RETRY)}
    assert {(state, step) for state, step in product(PlanState, Step) if after(state, step) is X} == {(A, Step.APPLY)}


@given(st.lists(st.sampled_from(list(Step)), max_size=60))
def test_a_plan_that_nobody_approved_is_never_applied(steps: list[Step]) -> None:
    state, approved = P, False
    for step in steps:
        follows = after(state, step)
        if isinstance(follows, Cell):
            continue
        approved = approved or step is Step.APPROVE
        state = follows
        assert state is not X or approved
    assert state in PlanState


def task(task_id: str, status: TaskStatus = TaskStatus.RUNNING, **more: Any) -> Task:
    return Task(task_id, status, status.value, **more)


RUN = Run(
    "r", "pi_crew", "crew", RunStatus.RUNNING, "running", "/p/.crew/state/runs/r",
    (task("a", TaskStatus.COMPLETED), task("b"), task("c", TaskStatus.QUEUED)),
    runner=ProcessClaim(10, 5.0),
)  # fmt: skip
GONE = ProcessSeen(ProcessState.EXITED, "pid 10 is gone")
DEAD = [("b", Level.DEAD, ProcessState.EXITED)]
SEEN = RunSeen(RUN, GONE, True, DEAD, True)


def test_a_run_is_interrupted_when_all_of_it_holds() -> None:
    found = interrupted(SEEN, "", "")
    assert isinstance(found, Interruption)
    assert (found.cause, found.resumable, found.preserved) == (Cause.ALL_EXITED, ("b", "c"), ("a",))
    assert "pid 10 is gone" in found.because and "b" in found.because


@pytest.mark.parametrize(
    ("seen", "hold", "brake", "kind"),
    [
        (SEEN, "crewd has just started", "", Unsure),
        (SEEN, "", "many fell silent", Unsure),
        (SEEN._replace(is_read=False), "", "", Unsure),
        (SEEN._replace(runner_confirmed=False), "", "", Unsure),
        (SEEN._replace(runner=ProcessSeen(ProcessState.ALIVE, "alive")), "", "", Moves),
        (SEEN._replace(runner=ProcessSeen(ProcessState.STOPPED, "stopped")), "", "", Moves),
        (SEEN._replace(runner=ProcessSeen(ProcessState.HIDDEN, "no process is named")), "", "", Unsure),
        (SEEN._replace(run=msgspec.structs.replace(RUN, status=RunStatus.FAILED)), "", "", Moves),
        (SEEN._replace(run=msgspec.structs.replace(RUN, status=RunStatus.BLOCKED)), "", "", Moves),
        (SEEN._replace(run=msgspec.structs.replace(RUN, status=RunStatus.UNKNOWN)), "", "", Moves),
        (SEEN._replace(run=msgspec.structs.replace(RUN, waiting=Waiting("human"))), "", "", Moves),
        (SEEN._replace(run=msgspec.structs.replace(RUN, tasks=RUN.tasks[:1])), "", "", Moves),
        (SEEN._replace(workers=[("b", Level.STALE, ProcessState.ALIVE)]), "", "", Moves),
        (SEEN._replace(workers=[("b", Level.DEAD, ProcessState.ALIVE)]), "", "", Moves),  # hung, and an orphan
        (SEEN._replace(workers=[("b", Level.STALE, ProcessState.STOPPED)]), "", "", Moves),
        (SEEN._replace(workers=[("b", Level.WAITING, ProcessState.HIDDEN)]), "", "", Moves),
        (SEEN._replace(workers=[("b", Level.UNREADABLE, ProcessState.HIDDEN)]), "", "", Unsure),
        (SEEN._replace(workers=[("b", Level.HEALTHY, ProcessState.EXITED)]), "", "", Unsure),
        (SEEN._replace(workers=[*DEAD, ("c", Level.WARN, ProcessState.HIDDEN)]), "", "", Unsure),
    ],
)
def test_whatever_is_not_so_is_no_interruption(seen: RunSeen, hold: str, brake: str, kind: type) -> None:
    assert isinstance(interrupted(seen, hold, brake), kind)


def test_the_cause_says_who_is_gone_and_who_is_only_silent() -> None:
    for workers, cause in (
        ([], Cause.RUNNER_EXITED),
        (DEAD, Cause.ALL_EXITED),
        ([*DEAD, ("c", Level.DEAD, ProcessState.HIDDEN)], Cause.WORKERS_SILENT),
    ):
        found = interrupted(SEEN._replace(workers=workers), "", "")
        assert isinstance(found, Interruption) and found.cause is cause


def test_a_log_that_cannot_be_read_offers_only_the_cancel() -> None:
    assert offers_of(LogSeen(None, why="torn")) == ("cancel",)
    assert offers_of(LogSeen(3)) == ("resume", "cancel")


def test_an_interruption_has_one_id_and_another_one_has_another() -> None:
    assert plan_id_of(RUN, 7) == plan_id_of(msgspec.structs.replace(RUN, goal="else"), 7)
    again = msgspec.structs.replace(RUN, runner=ProcessClaim(11, 9.0))
    others = {plan_id_of(RUN, 8), plan_id_of(again, 7), plan_id_of(msgspec.structs.replace(RUN, run_id="s"), 7)}
    assert len(others | {plan_id_of(RUN, 7)}) == 4


@pytest.mark.parametrize(
    "moved",
    [
        msgspec.structs.replace(RUN, updated_at=1.0),
        msgspec.structs.replace(RUN, status_text="completed"),
        msgspec.structs.replace(RUN, runner=ProcessClaim(12, 5.0)),
        msgspec.structs.replace(RUN, tasks=(task("a"), *RUN.tasks[1:])),
        msgspec.structs.replace(RUN, tasks=(*RUN.tasks[:2], task("c", beat_at=3.0))),
    ],
)
def test_whatever_moves_in_a_run_moves_its_mark(moved: Run) -> None:
    assert mark_of(RUN, 7) == mark_of(msgspec.structs.replace(RUN), 7)
    assert len({mark_of(RUN, 7), mark_of(RUN, 8), mark_of(moved, 7)}) == 3


def test_placeholders_are_filled_once_and_other_braces_stay() -> None:
    values = {"run": "r-{folder}", "folder": "/p"}
    filled = fill(("x", "{run}", "--in={folder}/{run}", "{other} {", "}{}", "{{run}"), values)
    assert filled == ("x", "r-{folder}", "--in=/p/r-{folder}", "{other} {", "}{}", "{r-{folder}")


def test_the_project_is_the_folder_above_the_crews_own() -> None:
    assert project_of("/p/a/.crew/state/runs/r", "pi_crew:/p/a") == "/p/a"
    assert project_of("/p/a/.pi/teams/state/runs/r", "pi_crew:/p") == "/p/a"
    assert project_of("/srv/runs/r", "beat:/srv/runs") == "/srv/runs"


def test_a_machine_that_was_short_of_something_is_no_reason_to_give_up() -> None:
    assert failure_of(Step.SPAWN_FAILED, "no memory", passing=True).retryable is True
    assert failure_of(Step.SPAWN_FAILED, "no such program", passing=False).retryable is None
    assert failure_of(Step.TIMED_OUT, "", passing=False).error_class is ErrorClass.TIMEOUT
    assert failure_of(Step.EXITED_NONZERO, "", passing=False).error_class is ErrorClass.WORKER_CRASH
