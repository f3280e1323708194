"""The life of a task: every pair of state and step has a cell, and every cell has a test (I25)."""

from typing import get_args

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from crewd.model.managed import (
    AnyState,
    Completed,
    DeadLettered,
    Ending,
    ManagedTask,
    RetryWait,
    Running,
    Starting,
    Waiting,
    name_of,
)
from crewd.policy.invariants import violations
from crewd.policy.lifecycle import STATES as NAMES
from crewd.policy.lifecycle import TABLE, Step, TransitionRefused, step
from tests.policy.states import AT_WORK, ONE_TASK, OTHER, RUN, SHIM, STATES, record, task_in

replace = msgspec.structs.replace

# Written by hand from docs/guarantees.md, "The life of a task": whoever changes the table changes this too.
ALLOWED = """
    waiting        pull       starting
    waiting        give_up    dead_lettered
    waiting        cancel     cancelled
    waiting        skip       skipped
    waiting        block      blocked
    starting       run        running
    starting       end        ending
    starting       requeue    waiting
    running        end        ending
    ending         end        ending
    ending         complete   completed
    ending         retry      retry_wait
    ending         give_up    dead_lettered
    ending         requeue    waiting
    ending         cancel     cancelled
    retry_wait     pull       starting
    retry_wait     due        waiting
    retry_wait     give_up    dead_lettered
    retry_wait     cancel     cancelled
    blocked        unblock    waiting
    blocked        block      blocked
    blocked        skip       skipped
    blocked        cancel     cancelled
    blocked        give_up    dead_lettered
    dead_lettered  redrive    waiting
    dead_lettered  discard    dead_lettered
    skipped        unblock    waiting
"""
BY_HAND = {(line.split()[0], Step(line.split()[1])): line.split()[2] for line in ALLOWED.strip().splitlines()}
CELLS = sorted(TABLE)


def successor(name: str) -> AnyState:
    """A state that a task with attempt 2 behind fence 7 may go into: a new attempt has the next numbers."""
    return Starting(101.0, attempt=3, fence=8) if name == "starting" else STATES[name]


def test_every_pair_of_state_and_step_has_a_cell() -> None:
    assert set(TABLE) == {(name, each) for name in STATES for each in Step}
    assert set(NAMES) == set(STATES) == {name_of(state) for state in STATES.values()}
    assert len(NAMES) == len(get_args(AnyState)) == 10


def test_the_table_is_what_was_written_by_hand() -> None:
    assert {cell: after for cell, after in TABLE.items() if after is not None} == BY_HAND


@pytest.mark.parametrize(("name", "taken"), CELLS)
def test_a_step_leads_where_the_list_says_or_is_refused(name: str, taken: Step) -> None:
    task = task_in(name)
    wanted = BY_HAND.get((name, taken))
    if wanted is not None:
        after = step(task, taken, successor(wanted))
        assert name_of(after.state) == wanted
        assert (after.run_id, after.task_id, after.attempts) == (task.run_id, task.task_id, task.attempts)
        return
    for each in STATES:
        with pytest.raises(TransitionRefused) as refused:
            step(task, taken, successor(each))
        assert (refused.value.run_id, refused.value.task_id) == (RUN, "a")
        assert (refused.value.state, refused.value.step) == (name, taken)


@pytest.mark.parametrize(("name", "taken"), sorted(BY_HAND))
def test_a_step_leads_nowhere_else(name: str, taken: Step) -> None:
    for other in set(STATES) - {BY_HAND[name, taken]}:
        with pytest.raises(TransitionRefused, match=f"it leads to {BY_HAND[name, taken]}, not to {other}"):
            step(task_in(name), taken, successor(other))


def test_a_refusal_names_the_task_the_step_the_state_and_what_is_possible() -> None:
    with pytest.raises(
        TransitionRefused,
        match=r"^run-1/a: `complete` is refused in the state running: possible are `end`$",
    ) as refused:
        step(task_in("running"), Step.COMPLETE, STATES["completed"])
    assert refused.value.why == "possible are `end`"
    with pytest.raises(TransitionRefused, match="no steps at all: it is final"):
        step(task_in("completed"), Step.REDRIVE, STATES["waiting"])
    assert issubclass(TransitionRefused, ValueError)


def refused(task: ManagedTask, taken: Step, after: AnyState) -> str:
    with pytest.raises(TransitionRefused) as error:
        step(task, taken, after)
    return error.value.why


@pytest.mark.parametrize("name", ["waiting", "retry_wait"])
def test_a_new_attempt_has_a_fence_and_a_number_above_all_before(name: str) -> None:
    task = task_in(name)
    assert step(task, Step.PULL, Starting(101.0, attempt=3, fence=8)).fence == 8
    assert "fence 7 is not above 7" in refused(task, Step.PULL, Starting(101.0, attempt=3, fence=7))
    assert "fence 6 is not above 7" in refused(task, Step.PULL, Starting(101.0, attempt=3, fence=6))
    assert "attempt 2 is not above 2" in refused(task, Step.PULL, Starting(101.0, attempt=2, fence=8))


def test_an_attempt_whose_record_is_not_there_yet_is_not_made_twice() -> None:
    task = task_in("retry_wait", attempts=(record(1),))
    assert "attempt 2 is not above 2" in refused(task, Step.PULL, Starting(101.0, attempt=2, fence=8))


def test_a_start_that_came_to_nothing_takes_its_number_again_behind_a_new_fence() -> None:
    again = step(task_in("starting"), Step.REQUEUE, Waiting(101.0, "crewd went down before it was spawned"))
    assert (again.attempt, again.fence) == (1, 7)
    assert step(again, Step.PULL, Starting(102.0, attempt=2, fence=8)).fence == 8


@pytest.mark.parametrize(
    ("name", "taken", "to"),
    [
        ("starting", Step.RUN, "running"),
        ("starting", Step.END, "ending"),
        ("running", Step.END, "ending"),
        ("ending", Step.END, "ending"),
        ("ending", Step.RETRY, "retry_wait"),
    ],
)
@pytest.mark.parametrize("change", [{"attempt": 1}, {"attempt": 3}, {"fence": 6}, {"fence": 8}])
def test_an_attempt_keeps_its_number_and_its_fence_to_the_end(
    name: str, taken: Step, to: str, change: dict[str, int]
) -> None:
    assert step(task_in(name), taken, STATES[to]).fence == 7
    assert "attempt 2 behind fence 7 is at work" in refused(task_in(name), taken, replace(STATES[to], **change))


@pytest.mark.parametrize("name", ["running", "ending"])
def test_a_process_that_was_recorded_is_never_forgotten(name: str) -> None:
    end = STATES["ending"]
    assert isinstance(end, Ending)
    assert "no process is named now" in refused(task_in(name), Step.END, replace(end, process=None))
    assert "process 4712 is named now" in refused(task_in(name), Step.END, replace(end, process=OTHER))


def test_a_process_may_become_known_after_the_end_began() -> None:
    unknown = Ending(100.0, attempt=2, fence=7, process=None, folder="/a", why="crewd went down")
    ending = step(task_in("starting"), Step.END, unknown)
    assert step(ending, Step.END, replace(unknown, process=SHIM)).state == replace(unknown, process=SHIM)


@pytest.mark.parametrize(("taken", "to"), [(Step.COMPLETE, "completed"), (Step.GIVE_UP, "dead_lettered")])
def test_what_is_final_names_the_newest_attempt(taken: Step, to: str) -> None:
    state = STATES[to]
    assert isinstance(state, Completed | DeadLettered)
    for number in (1, 3):
        assert f"its newest attempt is 2, not {number}" in refused(
            task_in("ending"), taken, replace(state, attempt=number)
        )


@pytest.mark.parametrize("name", ["waiting", "retry_wait", "blocked"])
def test_a_task_that_is_given_up_without_another_start_names_its_newest_attempt(name: str) -> None:
    letter = STATES["dead_lettered"]
    assert isinstance(letter, DeadLettered)
    assert "its newest attempt is 2, not 3" in refused(task_in(name), Step.GIVE_UP, replace(letter, attempt=3))
    never = task_in("waiting", attempts=(), fence=0)
    assert step(never, Step.GIVE_UP, replace(letter, attempt=0)).state == replace(letter, attempt=0)


def test_a_redrive_opens_a_new_budget_and_keeps_what_was() -> None:
    task = task_in("dead_lettered", first_started_at=12.0, late=1)
    assert task.counted == 2
    after = step(task, Step.REDRIVE, Waiting(200.0, "redriven"))
    assert (after.counted, after.budget_from, after.first_started_at) == (0, 2, None)
    assert (after.attempts, after.late, after.fence) == (task.attempts, 1, 7)


def test_nothing_but_a_redrive_opens_a_new_budget() -> None:
    task = task_in("skipped", first_started_at=12.0)
    assert step(task, Step.UNBLOCK, Waiting(200.0)).first_started_at == 12.0
    assert step(task, Step.UNBLOCK, Waiting(200.0)).counted == 2


def test_a_discarded_letter_changes_nothing_about_its_task() -> None:
    task = task_in("dead_lettered")
    assert step(task, Step.DISCARD, task.state) == task
    assert "changes nothing" in refused(task, Step.DISCARD, replace(task.state, since=1.0))


class Life(RuleBasedStateMachine):
    """Whatever steps are taken: what the table allows breaks no invariant, and completed is final."""

    def __init__(self) -> None:
        super().__init__()
        self.task = ManagedTask(RUN, "a", Waiting(0.0))
        self.broken: list[object] = []
        self.finals: list[AnyState] = []

    def take(self, taken: Step, after: AnyState, *, recorded: bool = False, interrupted: bool = False) -> None:
        before = self.task
        task = step(before, taken, after)
        if recorded:
            assert isinstance(before.state, Ending)
            made = record(before.state.attempt, before.state.fence, interrupted=interrupted)
            task = replace(task, attempts=(*task.attempts, made))
        self.broken += violations(before, task, ONE_TASK)
        self.task = task
        if isinstance(task.state, Completed):
            self.finals.append(task.state)

    @precondition(lambda self: isinstance(self.task.state, Waiting | RetryWait) and self.task.counted < 3)
    @rule(gap=st.integers(min_value=1, max_value=3))
    def pull(self, gap: int) -> None:
        attempt = self.task.attempts[-1].attempt + 1 if self.task.attempts else 1
        self.take(Step.PULL, Starting(1.0, attempt=attempt, fence=self.task.fence + gap))

    @precondition(lambda self: isinstance(self.task.state, Starting))
    @rule(step_taken=st.sampled_from([Step.RUN, Step.END, Step.REQUEUE]))
    def leave_starting(self, step_taken: Step) -> None:
        state = self.task.state
        assert isinstance(state, Starting)
        match step_taken:
            case Step.RUN:
                self.take(step_taken, Running(2.0, state.attempt, state.fence, SHIM, 2.0, "/a"))
            case Step.END:
                self.take(step_taken, Ending(2.0, state.attempt, state.fence, None, "/a", "no such command"))
            case _:
                self.take(step_taken, Waiting(2.0))

    @precondition(lambda self: isinstance(self.task.state, Running | Ending))
    @rule(why=st.sampled_from(["exited", "cancelled"]))
    def end(self, why: str) -> None:
        state = self.task.state
        assert isinstance(state, Running | Ending)
        self.take(Step.END, Ending(3.0, state.attempt, state.fence, state.process, "/a", why))

    @precondition(lambda self: isinstance(self.task.state, Ending))
    @rule(step_taken=st.sampled_from([Step.COMPLETE, Step.RETRY, Step.GIVE_UP, Step.REQUEUE, Step.CANCEL]))
    def leave_ending(self, step_taken: Step) -> None:
        state = self.task.state
        assert isinstance(state, Ending)
        leads_to = {
            Step.COMPLETE: replace(STATES["completed"], attempt=state.attempt),
            Step.RETRY: replace(STATES["retry_wait"], attempt=state.attempt, fence=state.fence),
            Step.GIVE_UP: replace(STATES["dead_lettered"], attempt=state.attempt),
            Step.REQUEUE: Waiting(4.0),
            Step.CANCEL: STATES["cancelled"],
        }
        self.take(step_taken, leads_to[step_taken], recorded=True, interrupted=step_taken is Step.REQUEUE)

    @rule(taken=st.sampled_from(Step), name=st.sampled_from(sorted(STATES)))
    def try_anything(self, taken: Step, name: str) -> None:
        if name in AT_WORK or isinstance(self.task.state, Ending):
            return  # the rules above walk there, with the records that belong to it
        try:
            self.take(taken, STATES[name])
        except TransitionRefused:
            assert self.task.state is not None

    @invariant()
    def nothing_is_broken(self) -> None:
        assert self.broken == []

    @invariant()
    def completed_is_final(self) -> None:
        assert not self.finals or self.task.state == self.finals[0]


Life.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestLife = Life.TestCase
