"""One cause, whom it holds up, and why others wait. Tables, and one property."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from crewd.policy.causes import BAD, causes, waits
from tests.cli.contract import attempt, managed, task


def test_a_chain_behind_one_failure_has_one_cause_and_a_count() -> None:
    chain = [task(str(n), "blocked", depends_on=[str(n - 1)]) for n in range(4, 11)]
    body = managed(
        "blocked",
        task("1", "completed"),
        task("2", "completed", depends_on=["1"]),
        task("3", "blocked", depends_on=["2"], why="gate sha256: mismatch of k"),
        *chain,
    )
    (cause,) = causes(body)
    assert (cause.task, cause.why, len(cause.dependents)) == ("3", "gate sha256: mismatch of k", 7)


def test_a_task_that_gave_up_comes_before_one_that_was_cancelled_and_the_first_before_the_later() -> None:
    body = managed(
        "failed",
        task("cancelled", "cancelled", why="by hand"),
        task("late", "dead_lettered", attempt(9, "timeout", "too long")),
        task("early", "dead_lettered", attempt(2)),
    )
    assert [cause.task for cause in causes(body)] == ["early", "late", "cancelled"]


def test_tasks_that_failed_alike_are_one_cause() -> None:
    alike = [task(name, "dead_lettered", attempt(1), attempt(3)) for name in "abc"]
    (cause,) = causes(managed("failed", *alike, task("d", "skipped", depends_on=["b"])))
    assert (cause.tasks, cause.attempts, cause.dependents) == (("a", "b", "c"), 2, ("d",))


def test_an_interrupted_attempt_is_no_error_and_does_not_count() -> None:
    broken = attempt(2, None, interrupted=True)
    (cause,) = causes(managed("failed", task("a", "dead_lettered", attempt(1, error="exit 3"), broken)))
    assert (cause.error_class, cause.error, cause.attempts) == ("worker_crash", "exit 3", 1)


def test_waiting_tasks_are_told_by_reason_and_the_scheduler_knows_best() -> None:
    body = managed(
        "running",
        task("a", "waiting", why="waits for its turn"),
        task("b", "waiting", why="waits for its turn"),
        task("c", "waiting", why="waits for its turn"),
        task("d", "retry_wait", attempt(1, "rate_limited", "429")),
        task("e", "running"),
        task("f", "waiting", depends_on=["e"]),
        held={"a": "circuit anthropic is open"},
    )
    assert waits(body) == [
        ("waits for its turn", ("b", "c")),
        ("circuit anthropic is open", ("a",)),
        ("attempt 1 failed: rate_limited: 429", ("d",)),
        ("needs e", ("f",)),
    ]


STATES = ("completed", "running", "waiting", "retry_wait", *BAD)


@given(st.lists(st.tuples(st.sampled_from(STATES), st.sets(st.integers(0, 19), max_size=3)), max_size=20))
def test_every_task_that_went_wrong_is_a_cause_or_behind_one(made: list[tuple[str, set[int]]]) -> None:
    tasks = [
        task(str(n), state, depends_on=[str(other) for other in needed if other < n])
        for n, (state, needed) in enumerate(made)
    ]
    found = causes(managed("failed", *tasks))
    told = {name for cause in found for name in (*cause.tasks, *cause.dependents)}
    assert {each["task_id"] for each in tasks if each["state"] in BAD} <= told
    assert not {each["task_id"] for each in tasks if each["state"] == "completed"} & told


class Counted(dict[str, Any]):
    """A task that counts how often it is looked at."""

    looks = 0

    def __getitem__(self, name: str) -> Any:
        Counted.looks += 1
        return super().__getitem__(name)


def test_what_it_takes_grows_with_the_run_and_not_with_its_square() -> None:
    many = 300
    waiting = [Counted(task(f"w{n}", "waiting", depends_on=[f"w{n - 1}"] if n else [])) for n in range(many)]
    alike = [Counted(task(f"d{n}", "dead_lettered", attempt(1))) for n in range(many)]
    behind = [Counted(task(f"s{n}", "skipped", depends_on=["d0", f"d{n}"])) for n in range(many)]
    chained = [Counted(task(f"c{n}", "skipped", depends_on=[f"c{n - 1}" if n else "s0"])) for n in range(many)]
    body = managed("failed", *waiting, *alike, *behind, *chained)
    Counted.looks = 0
    (cause,) = causes(body)
    assert len(cause.dependents) == 2 * many
    assert sum(len(tasks) for _, tasks in waits(body)) == many
    assert Counted.looks < 30 * 4 * many
