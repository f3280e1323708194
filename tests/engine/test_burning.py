"""What observed agents use against what they do: burns, circles and budgets, as incidents and nothing more."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewd.engine.burning import CALLS_KNOWN_MAX, Budgets, Burning
from crewd.model.plan import BudgetPlan, WatchPlan
from crewd.model.run import Run, RunStatus, Task, TaskStatus, Usage
from crewd.policy.spending import Spent
from tests.engine.stage import Stage, play
from tests.engine.stage import run as staged_run
from tests.engine.stage import task as staged_task
from tests.engine.values import run, task

WALL = 1_767_225_600.0
MIN = WatchPlan().burn_tokens_min
FOLLOWED = MIN // 4


def calls(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4, "big") for number in numbers)


def used(tokens: int, *made: int, **more: Any) -> Task:
    more.setdefault("usage", Usage(input=tokens))
    return task(calls=calls(*made), **more)


def told(burning: Burning, *tasks: Task, **more: Any) -> dict[str, list[str]]:
    """Causes of the open incidents by subject, after a look at the run."""
    return {
        subject: [each.cause for each in wanted]
        for subject, wanted, _ in burning.follow(run(*tasks, **more), WALL)
    }  # fmt: skip


SUBJECT = "run-1/task-1"


# --- burns


def test_tokens_without_a_new_call_burn_and_a_new_call_ends_it() -> None:
    burning = Burning()
    assert told(burning, used(1_000_000, 1)) == {SUBJECT: []}  # what it used before crewd came is no burn
    assert told(burning, used(1_000_000 + MIN, 1, 1)) == {SUBJECT: []}
    assert told(burning, used(1_000_001 + MIN, 1, 1)) == {SUBJECT: ["burn"]}
    assert told(burning, used(1_500_000, 1, 2)) == {SUBJECT: []}


def test_who_has_used_little_is_not_followed_yet() -> None:
    burning = Burning()
    assert told(burning, used(100, 1)) == {} and not burning.knows(SUBJECT)
    assert told(burning, used(FOLLOWED - 1, 1)) == {}
    assert told(burning, used(FOLLOWED, 1)) == {SUBJECT: []}
    assert told(burning, used(FOLLOWED + MIN, 1)) == {SUBJECT: []}
    assert told(burning, used(FOLLOWED + MIN + 1, 1)) == {SUBJECT: ["burn"]}


def test_who_always_needs_much_for_one_step_burns_only_far_beyond_that() -> None:
    burning, tokens = Burning(), 0
    for number in range(7):
        tokens = (number + 1) * 100_000
        told(burning, used(tokens, *range(number + 1)))
    assert told(burning, used(tokens + 800_000, *range(7))) == {SUBJECT: []}
    assert told(burning, used(tokens + 800_001, *range(7))) == {SUBJECT: ["burn"]}


def test_what_came_from_a_cache_burns_nothing() -> None:
    burning = Burning()
    told(burning, used(MIN, 1))
    assert told(burning, used(0, 1, usage=Usage(input=MIN, cache_read=10 * MIN))) == {SUBJECT: []}
    assert told(burning, used(0, 1, usage=Usage(input=MIN, output=MIN, cache_write=1))) == {SUBJECT: ["burn"]}


def test_calls_that_alternate_are_nothing_new() -> None:
    burning = Burning()
    for number in range(30):
        found = told(burning, used(MIN + number * 10_000, 1 + number % 2))
    assert found == {SUBJECT: ["burn"]}


def test_another_attempt_begins_anew() -> None:
    burning = Burning()
    told(burning, used(MIN, 1))
    assert told(burning, used(2 * MIN + 1, 1)) == {SUBJECT: ["burn"]}
    assert told(burning, used(9 * MIN, 1, attempt=2)) == {SUBJECT: []}
    assert told(burning, used(100, 1, attempt=3)) == {SUBJECT: []}
    assert told(burning, used(200, 1, attempt=3)) == {}


@pytest.mark.parametrize(
    "ended",
    [
        [used(2 * MIN + 1, 1, status=TaskStatus.COMPLETED)],
        [used(2 * MIN + 1, 1, status=TaskStatus.QUEUED)],
        [],
    ],
)
def test_whoever_is_at_work_no_more_burns_no_more(ended: list[Task]) -> None:
    burning = Burning()
    told(burning, used(MIN, 1))
    assert told(burning, used(2 * MIN + 1, 1)) == {SUBJECT: ["burn"]}
    assert told(burning, *ended) == {SUBJECT: []}
    assert told(burning, *ended) == {} and not burning.knows(SUBJECT)


def test_a_run_that_ended_or_is_gone_burns_no_more() -> None:
    burning = Burning()
    told(burning, used(MIN, 1))
    assert told(burning, used(2 * MIN + 1, 1), status=RunStatus.FAILED) == {SUBJECT: []}
    told(burning, used(MIN, 1))
    assert burning.forget("run-1") == [SUBJECT]
    assert burning.forget("run-1") == [] and burning.live == {}


@pytest.mark.parametrize("silent", [task(usage=Usage(input=9 * MIN)), task(calls=calls(1), usage=None)])
def test_where_the_files_tell_of_no_calls_or_no_use_nothing_is_said(silent: Task) -> None:
    burning = Burning()
    assert told(burning, silent) == {}
    assert told(burning, silent) == {}


def test_a_count_that_is_corrected_downwards_is_no_burn_and_no_debt() -> None:
    burning = Burning()
    told(burning, used(MIN, 1))
    assert told(burning, used(2 * MIN, 1)) == {SUBJECT: []}
    assert told(burning, used(10, 1, 2)) == {SUBJECT: []}
    assert told(burning, used(3 * MIN, 1)) == {SUBJECT: []}
    assert told(burning, used(3 * MIN + 1, 1)) == {SUBJECT: ["burn"]}


def test_of_endless_calls_only_the_latest_are_remembered() -> None:
    burning = Burning()
    for number in range(0, 3 * CALLS_KNOWN_MAX, 25):
        told(burning, used(MIN + number, *range(number, number + 25)))
    assert told(burning, used(number + 2 * MIN + 1, number)) == {SUBJECT: ["burn"]}
    assert told(burning, used(number + 2 * MIN + 1, 0)) == {SUBJECT: []}  # forgotten, so new


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.lists(st.integers(0, 3), max_size=5)), max_size=30))
def test_nobody_burns_less_than_the_least_that_counts(steps: list[tuple[int, list[int]]]) -> None:
    burning, tokens, since, known = Burning(), 0, 0, set[int]()
    for more, made in steps:
        tokens += more
        since = since + more if known.issuperset(made) else 0
        known.update(made)
        causes = told(burning, used(tokens, *made)).get(SUBJECT, [])
        assert "burn" not in causes or since > MIN


# --- circles


@pytest.mark.parametrize("tokens", [5, MIN])
@pytest.mark.parametrize(
    ("made", "circles"),
    [((1, 1, 1, 1), False), ((2, 1, 1, 1, 1, 1), True), ((1, 1, 1, 1, 1, 2), False), ((), False)],
)
def test_one_call_again_and_again_is_a_circle(tokens: int, made: tuple[int, ...], circles: bool) -> None:
    found = told(Burning(), used(tokens, *made))
    assert found.get(SUBJECT, []) == (["loop"] if circles else [])


def test_it_is_told_once_as_an_event_of_which_nothing_follows() -> None:
    burning = Burning()
    events = []
    for tokens in (MIN, 2 * MIN + 1, 3 * MIN, 4 * MIN):
        for _, _, news in burning.follow(run(used(tokens, *[1] * 25)), WALL):
            events += news
    assert [(event.type, event.data["then"]) for event in events] == [
        ("worker.looping", "warn"),
        ("worker.burning", "warn"),
    ]
    assert (events[0].run_id, events[0].task_id, events[0].crew) == ("run-1", "task-1", "night")


# --- budgets


def budgets(burning: Burning, wall: float = WALL) -> dict[str, str]:
    return {each.cause: each.crew for each in burning.incidents(wall)}


def test_what_is_at_work_counts_beside_what_was_told() -> None:
    burning = Burning(budgets=lambda: Budgets(crew=BudgetPlan(tokens=1000), day=BudgetPlan(tokens=10_000)))
    burning.spending.add("night", Usage(input=500), WALL)
    assert budgets(burning) == {}
    told(burning, used(299, 1))
    assert budgets(burning) == {}
    told(burning, used(300, 1))
    assert budgets(burning) == {"budget:night": "night"}
    assert burning.used("night") == Spent(300)
    burning.spending.add("day", Usage(input=7200), WALL)
    assert budgets(burning) == {"budget": "", "budget:day": "day", "budget:night": "night"}
    # A new day.
    told(burning)
    burning.begin()
    assert budgets(burning, WALL + 86_400) == {}


def test_what_has_just_ended_counts_until_it_is_told_and_then_once() -> None:
    burning = Burning(budgets=lambda: Budgets(crew=BudgetPlan(tokens=1000)))
    burning.begin()
    told(burning, used(1000, 1))
    assert budgets(burning) == {"budget:night": "night"}
    burning.begin()
    told(burning, used(1000, 1, status=TaskStatus.COMPLETED))
    assert burning.used("night") == Spent(1000) and budgets(burning) == {"budget:night": "night"}
    burning.spending.add("night", Usage(input=1000), WALL)
    burning.begin()
    assert burning.used("night") == Spent() and burning.live == {}
    assert budgets(burning) == {"budget:night": "night"}


def test_without_budgets_nothing_is_said_of_them() -> None:
    burning = Burning()
    told(burning, used(10**12, 1))
    assert burning.incidents(WALL) == []


def test_a_cost_counts_where_it_is_known() -> None:
    burning = Burning(budgets=lambda: Budgets(day=BudgetPlan(cost_usd=1.0)))
    told(burning, used(1, 1), used(1, 1, task_id="b", usage=Usage(input=1, cost_usd=1.5)))
    [incident] = burning.incidents(WALL)
    assert incident.severity == "warning" and "1.5" in incident.summary


# --- in a patrol


def staged(tokens: int, *made: int, **more: Any) -> Run:
    return staged_run(staged_task(beat=tokens, usage=Usage(input=tokens), calls=calls(*made), **more))


def opened(stage: Stage, type: str = "incident.opened") -> list[str]:
    return [event.data["cause"] for event in stage.told(type)]


def test_an_incident_lasts_as_long_as_the_burn_whatever_the_standing_is() -> None:
    async def scene(stage: Stage) -> None:
        stage.source.put(staged(MIN, 1))
        await stage.rounds(3)
        stage.source.put(staged(2 * MIN + 1, 1))
        await stage.rounds(1)
        assert opened(stage) == ["burn"]
        assert [event.type for event in stage.told("worker.burning")] == ["worker.burning"]
        await stage.seconds(400)
        assert opened(stage) == ["burn", "dead"]
        stage.source.put(staged(2 * MIN + 2, 1, 2))
        await stage.rounds(1)

    stage = play(scene)
    assert sorted(opened(stage, "incident.resolved")) == ["burn", "dead"]


@pytest.mark.parametrize(
    "again", [staged(2 * MIN + 5, 1, 2), staged(2 * MIN + 5, 1, status=TaskStatus.COMPLETED), None]
)
def test_a_burn_outlives_crewd_until_something_new_is_done_or_nobody_is_there(again: Run | None) -> None:
    async def scene(stage: Stage) -> None:
        stage.source.put(staged(MIN, 1))
        await stage.rounds(3)
        stage.source.put(staged(2 * MIN + 1, 1))
        await stage.rounds(1)
        stage.restart()
        await stage.seconds(60)
        stage.source.put(staged(2 * MIN + 2, 1))
        await stage.rounds(1)
        assert opened(stage) == ["burn"] and opened(stage, "incident.resolved") == []
        if again is None:
            del stage.source.runs["r"]
        else:
            stage.source.put(again)
        await stage.rounds(1)

    stage = play(scene)
    assert opened(stage, "incident.resolved") == ["burn"] and len(stage.told("worker.burning")) == 1


def test_nothing_is_over_before_a_new_crewd_has_read_who_is_at_work() -> None:
    async def scene(stage: Stage) -> None:
        stage.source.put(staged(MIN, 1))
        await stage.rounds(3)
        stage.source.put(staged(2 * MIN + 1, 1))
        await stage.rounds(1)
        stage.restart()
        stage.source.complete = False
        await stage.rounds(2)
        stage.source.complete = True
        await stage.seconds(60)

    stage = play(scene)
    assert opened(stage) == ["burn"] and opened(stage, "incident.resolved") == []


def test_a_burn_of_a_task_that_ended_while_crewd_was_down_is_over() -> None:
    async def scene(stage: Stage) -> None:
        stage.source.put(staged(MIN, 1))
        await stage.rounds(3)
        stage.source.put(staged(2 * MIN + 1, 1))
        await stage.rounds(1)
        stage.restart()
        stage.source.put(staged(2 * MIN + 1, 1, status=TaskStatus.COMPLETED))
        await stage.seconds(60)

    assert opened(play(scene), "incident.resolved") == ["burn"]


def test_a_budget_is_an_incident_of_crewd() -> None:
    async def scene(stage: Stage) -> None:
        stage.patrol.burning.budgets = lambda: Budgets(crew=BudgetPlan(tokens=1000))
        stage.source.put(staged(1000, 1))
        await stage.rounds(1)
        assert [(e.data["subject"], e.data["cause"]) for e in stage.told("incident.opened")] == [
            ("crewd", "budget:crew")
        ]
        stage.clock.step(86_400)
        stage.source.put(staged(1001, 1, status=TaskStatus.CANCELLED))
        await stage.rounds(2)

    assert opened(play(scene), "incident.resolved") == ["budget:crew"]


def test_managed_runs_have_a_book_of_their_own() -> None:
    async def scene(stage: Stage) -> None:
        stage.source.tells_itself = True
        stage.source.put(staged(MIN, 1))
        await stage.rounds(1)
        stage.source.put(staged(2 * MIN + 1, *[1] * 25))
        await stage.rounds(1)

    assert opened(play(scene)) == []


def test_a_run_keeps_its_calls_when_it_is_written_down() -> None:
    assert msgspec.json.decode(msgspec.json.encode(staged(5, 1, 2)), type=Run) == staged(5, 1, 2)
