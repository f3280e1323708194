"""Who starts now: the best first, no limit ever passed, nobody held up by one who is held, and a reason for each.

And what a plan makes of tasks whose dependencies ended: through all generations in one call, and back again.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewd.model.failure import ErrorClass
from crewd.model.managed import AnyState, Blocked, ManagedTask, Pause, Skipped, Waiting, name_of
from crewd.model.plan import RunPlan
from crewd.policy.lifecycle import Step, step
from crewd.policy.schedule import (
    REASONS_MAX,
    ROOTS_MAX,
    Busy,
    Fate,
    Key,
    Ready,
    Slots,
    can_start,
    choose,
    fate,
    startable,
)
from tests.policy.states import RUN, STATES, run_plan, simply, task_plan

IDLE = Busy()
MANY = Slots(total=100)


def task(name: str, **more: Any) -> Ready:
    return Ready((RUN, name), **more)


def names(keys: tuple[Key, ...]) -> str:
    return " ".join(name for _, name in keys)


def start(*ready: Ready, busy: Busy = IDLE, slots: Slots = MANY, **more: Any) -> tuple[str, dict[str, str]]:
    """The names in the order of starting, and why the others wait."""
    chosen = choose(ready, busy, slots, **{"pauses": (), "circuits": {}, "now_mono": 1000.0, **more})
    return names(chosen.keys), {name: why for (_, name), why in chosen.held.items()}


def test_priority_comes_first_then_age_then_the_order_of_the_plan() -> None:
    ready = [
        task("late", since=9.0), task("second", since=5.0, order=2), task("urgent", priority=5, since=99.0),
        task("first", since=5.0, order=1), task("idle", priority=-1, since=1.0),
    ]  # fmt: skip
    assert start(*ready) == ("urgent first second late idle", {})
    assert start(*ready, slots=Slots(2))[0] == "urgent first"


def test_every_slot_that_is_taken_counts_also_those_taken_just_now() -> None:
    ready = [task("a"), task("b", order=1), task("c", order=2)]
    held = "4 of 4 slots are busy"
    assert start(*ready, busy=Busy(total=2), slots=Slots(4)) == ("a b", {"c": held})
    assert start(*ready, busy=Busy(total=4), slots=Slots(4)) == ("", {"a": held, "b": held, "c": held})
    assert start(*ready, slots=Slots(0))[0] == ""


def test_an_executor_has_its_own_slots() -> None:
    ready = [task("a", executor="claude"), task("b", executor="claude", order=1), task("c", executor="pi", order=2)]
    chosen = start(*ready, busy=Busy(1, executors={"claude": 1}), slots=Slots(9, {"claude": 2}))
    assert chosen == ("a c", {"b": "the executor claude has 2 of 2 slots busy"})


def test_tasks_of_one_key_share_what_the_key_allows_in_all_runs() -> None:
    ready = [
        task("a", concurrency_key="repo", concurrency_max=2),
        Ready(("run-2", "b"), concurrency_key="repo", concurrency_max=2, order=1),
        task("c", concurrency_key="other", order=2),
        task("d", order=3),
        task("e", order=4),
    ]
    chosen = start(*ready, busy=Busy(1, keys={"repo": 1, "": 50}))
    assert chosen == ("a c d e", {"b": "2 of 2 tasks with the concurrency key repo are at work"})


def test_a_run_has_its_own_bound() -> None:
    ready = [task("a", run_parallel_max=1), task("b", run_parallel_max=1, order=1), Ready(("run-2", "c"), order=2)]
    assert start(*ready) == ("a c", {"b": "the run has 1 of 1 tasks at work"})
    assert start(*ready, busy=Busy(1, runs={RUN: 1}))[0] == "c"
    assert start(*ready, busy=Busy(1, runs={"run-2": 1}))[0] == "a c"


def test_a_circuit_is_asked_how_many_more_it_lets_through() -> None:
    def ramp(name: str, busy: int) -> tuple[bool, str, float | None]:
        return (busy < 2, f"{name} recovers: 2 at one time", None)

    ready = [task(each, circuit="anthropic", order=number) for number, each in enumerate("abc")]
    held = "anthropic recovers: 2 at one time"
    assert start(*ready, circuits=ramp) == ("a b", {"c": held})
    chosen = start(*ready, task("d", circuit="openai"), busy=Busy(1, circuits={"anthropic": 1}), circuits=ramp)
    assert chosen == ("a d", {"b": held, "c": held})


def test_an_open_circuit_holds_its_own_and_says_when_to_look_again() -> None:
    ready = [task("a", circuit="anthropic"), task("b", circuit="openai"), task("c", circuit="local"), task("d")]
    circuits = {"anthropic": (False, "", 30.0), "openai": (False, "it asked to wait", 7.0)}
    chosen = choose(ready, Busy(), MANY, pauses=(), circuits=circuits, now_mono=0.0)
    assert names(chosen.keys) == "c d"
    assert chosen.held == {(RUN, "a"): "the circuit anthropic is open", (RUN, "b"): "it asked to wait"}
    assert chosen.look_in == 7.0
    late = choose(ready[:1], Busy(), MANY, pauses=(), circuits={"anthropic": (False, "", -3.0)}, now_mono=0.0)
    assert late.look_in == 0.0


def test_while_every_slot_is_taken_time_alone_lets_nobody_start() -> None:
    held_by_circuit = task("a", circuit="x")
    asked: dict[str, Any] = {"pauses": (), "circuits": {"x": (False, "", 5.0)}, "now_mono": 0.0}
    assert choose([held_by_circuit, task("b")], Busy(), Slots(1), **asked).look_in is None
    assert choose([held_by_circuit], Busy(), Slots(1), **asked).look_in == 5.0
    assert choose([task("a")], Busy(1), Slots(1, start_rate=1.0, recent_starts=(0.0,)), **asked).look_in is None


def test_a_held_task_blocks_nobody_behind_it() -> None:
    first = task("first", priority=9, executor="claude")
    assert start(first, task("other"), slots=Slots(5, {"claude": 0}))[0] == "other"


@pytest.mark.parametrize(
    ("scope", "chosen"),
    [("daemon", ""), ("crew:nightly", "other"), ("executor:claude", "other"), ("crew:x", "mine other")],
)
def test_a_pause_holds_all_in_its_scope(scope: str, chosen: str) -> None:
    ready = [task("mine", crew="nightly", executor="claude"), task("other", crew="daily", executor="pi", order=1)]
    assert start(*ready, pauses=[Pause(scope)])[0] == chosen


def test_a_pause_holds_also_retries_and_a_drain_lets_them_finish() -> None:
    ready = [task("fresh"), task("again", is_retry=True)]
    assert start(*ready, pauses=[Pause("daemon")])[0] == ""
    assert start(*ready, pauses=[Pause("daemon", mode="drain")])[0] == "again"
    both = [Pause("daemon", mode="drain"), Pause("executor:default")]
    assert start(*ready, pauses=both)[0] == ""


def test_a_pause_says_whose_it_is_and_why() -> None:
    fresh = task("a", crew="nightly", executor="claude")
    for pause, why in {
        Pause("daemon", reason="disk"): "crewd is paused (disk)",
        Pause("crew:nightly"): "the crew nightly is paused",
        Pause("executor:claude", mode="drain"): "the executor claude is draining: what has not begun waits",
    }.items():
        assert start(fresh, pauses=[pause])[1] == {"a": why}


def test_what_a_person_did_is_named_before_what_passes_by_itself() -> None:
    everything: dict[str, Any] = {
        "busy": Busy(9, {"default": 9}, {"k": 9}, {RUN: 9}, {"c": 9}),
        "slots": Slots(9, {"default": 9}, start_rate=1.0, recent_starts=(1000.0,)),
        "pauses": [Pause("daemon")],
        "circuits": {"c": (False, "the circuit", None)},
    }
    reasons = []
    change: dict[str, Any]
    for change in (
        {}, {"pauses": ()}, {"circuits": {}}, {"busy": Busy(9, {"default": 9}, {}, {RUN: 9})},
        {"busy": Busy(9, {"default": 9})}, {"busy": Busy(9)}, {"busy": Busy()},
    ):  # fmt: skip
        everything |= change
        reasons.append(start(task("a", concurrency_key="k", run_parallel_max=9, circuit="c"), **everything)[1]["a"])
    assert reasons == [
        "crewd is paused",
        "the circuit",
        "9 of 1 tasks with the concurrency key k are at work",
        "the run has 9 of 9 tasks at work",
        "the executor default has 9 of 9 slots busy",
        "9 of 9 slots are busy",
        "starts are paced at 1 a second: the next in 1.0 s",
    ]


def test_no_more_than_a_burst_starts_within_its_time() -> None:
    ready = [task(each, order=number) for number, each in enumerate("abcde")]

    def paced(*recent: float) -> tuple[str, float | None]:
        slots = Slots(100, start_rate=0.5, start_burst=3, recent_starts=recent)
        chosen = choose(ready, Busy(), slots, pauses=(), circuits={}, now_mono=100.0)
        return names(chosen.keys), chosen.look_in

    assert paced() == ("a b c", 6.0)
    assert paced(99.0) == ("a b", 5.0)
    assert paced(95.0, 99.0) == ("a", 1.0)
    assert paced(95.0, 96.0, 97.0) == ("", 1.0)
    assert paced(94.0, 96.0, 97.0) == ("a", 2.0)
    assert paced(1.0, 2.0, 3.0, 4.0) == ("a b c", 6.0)
    assert paced(1.0, 95.0, 96.0, 97.0) == ("", 1.0)


def test_a_pace_that_holds_nobody_asks_for_no_look() -> None:
    slots = Slots(100, start_rate=1.0)
    chosen = choose([task("a")], Busy(), slots, pauses=(), circuits={}, now_mono=0.0)
    assert (names(chosen.keys), chosen.look_in) == ("a", None)
    paused = choose([task("a")], Busy(), msgspec.structs.replace(slots, recent_starts=(0.0,)),
                    pauses=[Pause("daemon")], circuits={}, now_mono=0.0)  # fmt: skip
    assert paused.look_in is None


def test_a_paced_start_waits_no_less_than_its_pace_whatever_a_circuit_does() -> None:
    slots = Slots(100, start_rate=0.1, recent_starts=(0.0,))
    ready = [task("a", circuit="x"), task("b")]
    chosen = choose(ready, Busy(), slots, pauses=(), circuits={"x": (False, "", 2.0)}, now_mono=1.0)
    assert chosen.look_in == 9.0


def test_of_a_long_queue_the_first_are_told_why_and_whoever_can_start_does() -> None:
    ready = [task(f"t{number}", executor="claude", order=number) for number in range(REASONS_MAX + 50)]
    last = task("last", executor="pi", order=10**6)
    chosen, held = start(*ready, last, slots=Slots(9, {"claude": 0}))
    assert chosen == "last"
    assert list(held) == [f"t{number}" for number in range(REASONS_MAX)]


@pytest.mark.parametrize(
    "shut",
    [
        {"busy": Busy(total=1), "slots": Slots(1)},
        {"pauses": [Pause("daemon")]},
        {"slots": Slots(9, start_rate=1.0, recent_starts=(1000.0,))},
        {"slots": Slots(9, {"default": 0})},
    ],
)
def test_a_long_queue_before_a_shut_door_is_not_walked_through(shut: dict[str, Any]) -> None:
    asked: list[str] = []

    def circuits(name: str, busy: int) -> tuple[bool, str, float | None]:
        asked.append(name)
        return True, "", None

    ready = [task(f"t{number}", circuit=f"c{number}", order=number) for number in range(REASONS_MAX + 500)]
    chosen, held = start(*ready, circuits=circuits, **shut)
    assert (chosen, len(held)) == ("", REASONS_MAX)
    assert len(asked) <= REASONS_MAX + 1


def test_a_drain_does_not_end_the_search_for_a_retry() -> None:
    ready = [task(f"t{number}", order=number) for number in range(REASONS_MAX + 5)]
    retry = task("again", order=10**6, is_retry=True)
    assert start(*ready, retry, pauses=[Pause("daemon", mode="drain")])[0] == "again"


few = st.integers(min_value=0, max_value=3)
ready_tasks = st.lists(
    st.builds(
        lambda run, **fields: (run, fields),
        run=st.sampled_from(["run-1", "run-2"]),
        executor=st.sampled_from(["claude", "pi"]),
        priority=st.integers(min_value=-1, max_value=1),
        concurrency_key=st.sampled_from(["", "repo", "site"]),
        circuit=st.sampled_from(["", "anthropic"]),
        crew=st.sampled_from(["nightly", "daily"]),
        since=st.integers(min_value=0, max_value=3).map(float),
        is_retry=st.booleans(),
    ),
    max_size=12,
)


@settings(deadline=None, max_examples=300)
@given(
    drawn=ready_tasks, total=st.integers(min_value=0, max_value=8), claude=few, busy=few, circuit_max=few,
    key_max=st.integers(min_value=1, max_value=3), run_max=st.none() | few, rate=st.none() | st.just(1.0), burst=few,
    pauses=st.lists(
        st.builds(
            Pause, st.sampled_from(["daemon", "crew:nightly", "executor:pi"]), st.sampled_from(["pause", "drain"])
        ),
        max_size=2, unique_by=lambda pause: pause.scope,
    ),
)  # fmt: skip
def test_no_limit_is_ever_passed_and_nobody_waits_without_a_reason_that_holds(
    drawn: list[tuple[str, dict[str, Any]]], total: int, claude: int, busy: int, circuit_max: int, key_max: int,
    run_max: int | None, rate: float | None, burst: int, pauses: list[Pause],
) -> None:  # fmt: skip
    ready = [
        Ready((run, f"t{number}"), order=number, concurrency_max=key_max, run_parallel_max=run_max, **fields)
        for number, (run, fields) in enumerate(drawn)
    ]
    at_work = Busy(busy, {"claude": busy}, {"repo": busy}, {"run-1": busy}, {"anthropic": busy})
    chosen = choose(
        ready, at_work, Slots(total, {"claude": claude}, rate, burst), pauses=pauses,
        circuits=lambda _, number: (number < circuit_max, "the circuit", None), now_mono=0.0,
    )  # fmt: skip
    by_key = {each.key: each for each in ready}
    started = [by_key[key] for key in chosen.keys]
    assert len(chosen.keys) == len(set(chosen.keys))
    assert set(chosen.keys) | set(chosen.held) == set(by_key)
    assert not set(chosen.keys) & set(chosen.held)
    assert started == sorted(started, key=lambda each: (-each.priority, each.since, each.order))

    executors = Counter(each.executor for each in started) + Counter({"claude": busy})
    keys = Counter(each.concurrency_key for each in started) + Counter({"repo": busy})
    runs = Counter(each.key[0] for each in started) + Counter({"run-1": busy})
    circuits = Counter(each.circuit for each in started) + Counter({"anthropic": busy})

    def barred(each: Ready, room: int) -> bool:
        """Whether a limit is reached (room 0: before it) for one more of its kind."""
        return (
            busy + len(started) + room > total
            or (each.executor == "claude" and executors["claude"] + room > claude)
            or (each.concurrency_key != "" and keys[each.concurrency_key] + room > key_max)
            or (run_max is not None and runs[each.key[0]] + room > run_max)
            or (each.circuit != "" and circuits[each.circuit] + room > circuit_max)
            or (rate is not None and len(started) + room > max(burst, 1))
        )

    def closed(each: Ready) -> bool:
        here = {"daemon", f"crew:{each.crew}", f"executor:{each.executor}"}
        return any(pause.scope in here and (pause.mode == "pause" or not each.is_retry) for pause in pauses)

    assert not any(barred(each, 0) or closed(each) for each in started)
    # Whoever is held meets a limit that is reached in the end too: nobody could have gone and did not.
    assert all(barred(by_key[key], 1) or closed(by_key[key]) for key in chosen.held)
    assert all(chosen.held.values())


# ---- what a plan makes of its tasks

DIAMOND = run_plan(task_plan("a"), task_plan("b", "a"), task_plan("c", "a"), task_plan("d", "b", "c"))


def tasks_of(plan: RunPlan, **states: AnyState | str) -> dict[str, ManagedTask]:
    return {each.task_id: simply(each.task_id, states.get(each.task_id, "waiting")) for each in plan.tasks}


def test_a_task_can_start_once_all_that_it_depends_on_is_completed() -> None:
    assert can_start(DIAMOND, "a", tasks_of(DIAMOND))
    assert not can_start(DIAMOND, "b", tasks_of(DIAMOND))
    tasks = tasks_of(DIAMOND, a="completed", b="completed")
    assert can_start(DIAMOND, "c", tasks)
    assert not can_start(DIAMOND, "d", tasks)
    assert can_start(DIAMOND, "d", tasks | {"c": simply("c", "completed")})


@pytest.mark.parametrize("name", sorted(STATES))
def test_only_a_completed_dependency_opens_the_way(name: str) -> None:
    plan = run_plan(task_plan("a"), task_plan("b", "a"))
    assert can_start(plan, "b", tasks_of(plan, a=name)) is (name == "completed")


@pytest.mark.parametrize("name", sorted(STATES))
def test_only_what_waits_can_start(name: str) -> None:
    plan = run_plan(task_plan("a"))
    assert can_start(plan, "a", tasks_of(plan, a=name)) is (name in {"waiting", "retry_wait"})


def test_of_what_nothing_is_known_nothing_starts() -> None:
    plan = run_plan(task_plan("b", "a"), task_plan("a"))
    assert not can_start(plan, "b", {"b": simply("b", "waiting")})
    assert not can_start(plan, "b", {"a": simply("a", "completed")})
    with pytest.raises(KeyError):
        can_start(plan, "zzz", {})


def test_all_that_can_start_are_named_as_the_plan_orders_them() -> None:
    plan = run_plan(task_plan("z"), task_plan("b", "a"), task_plan("a"), task_plan("c", "z"))
    assert startable(plan, tasks_of(plan)) == ("z", "a")
    tasks = tasks_of(plan, z="completed", a="retry_wait")
    assert startable(plan, tasks) == ("a", "c")
    assert set(startable(plan, tasks)) == {each for each in tasks if can_start(plan, each, tasks)}


def short(fates: list[Fate]) -> dict[str, tuple[str, str, str]]:
    return {each.task_id: (str(each.step), " ".join(each.on), " ".join(each.root)) for each in fates}


@pytest.mark.parametrize("name", ["waiting", "starting", "running", "ending", "retry_wait", "completed"])
def test_what_can_still_complete_bars_nobody(name: str) -> None:
    assert fate(DIAMOND, tasks_of(DIAMOND, a=name)) == []


@pytest.mark.parametrize("name", ["dead_lettered", "cancelled"])
def test_a_lost_dependency_skips_all_generations_behind_it(name: str) -> None:
    fates = fate(DIAMOND, tasks_of(DIAMOND, a=name))
    assert short(fates) == {"b": ("skip", "a", "a"), "c": ("skip", "a", "a"), "d": ("skip", "b c", "a")}
    assert [each.task_id for each in fates][-1] == "d"
    assert fates[0].reason == "a did not complete"


def test_one_lost_dependency_is_enough() -> None:
    tasks = tasks_of(DIAMOND, a="completed", b="running", c="dead_lettered")
    assert short(fate(DIAMOND, tasks)) == {"d": ("skip", "c", "c")}


def test_a_plan_may_want_its_task_blocked_instead() -> None:
    plan = run_plan(
        task_plan("a"), task_plan("b", "a", on_dependency_failure="block"), task_plan("c", "b"), task_plan("d", "a")
    )
    fates = fate(plan, tasks_of(plan, a="dead_lettered"))
    assert short(fates) == {"b": ("block", "a", "a"), "d": ("skip", "a", "a"), "c": ("block", "b", "a")}
    assert {each.task_id: each.reason for each in fates}["b"] == "it needs a"


def test_behind_a_blocked_task_everything_is_blocked_by_its_root() -> None:
    ids = [f"t{number}" for number in range(1, 11)]
    plan = run_plan(*(task_plan(each, *ids[max(number - 1, 0) : number]) for number, each in enumerate(ids)))
    tasks = tasks_of(plan, t1="completed", t2="completed", t3="blocked")
    assert short(fate(plan, tasks)) == {f"t{n}": ("block", f"t{n - 1}", "t3") for n in range(4, 11)}


def test_a_blocked_branch_leaves_the_other_alone() -> None:
    tasks = tasks_of(DIAMOND, a="completed", c="blocked")
    assert short(fate(DIAMOND, tasks)) == {"d": ("block", "c", "c")}


def test_a_lost_dependency_counts_more_than_a_blocked_one() -> None:
    tasks = tasks_of(DIAMOND, a="completed", b="cancelled", c="blocked")
    assert short(fate(DIAMOND, tasks)) == {"d": ("skip", "b", "b")}
    waits = run_plan(*DIAMOND.tasks[:3], task_plan("d", "b", "c", on_dependency_failure="block"))
    assert short(fate(waits, tasks)) == {"d": ("block", "b c", "b c")}


def test_what_blocks_a_task_is_kept_up_to_date() -> None:
    plan = run_plan(task_plan("a"), task_plan("b"), task_plan("c", "a", "b", on_dependency_failure="block"))
    blocked = Blocked(1.0, "it needs a", on=("a",), root=("a",))
    assert fate(plan, tasks_of(plan, a="cancelled", c=blocked)) == []
    assert short(fate(plan, tasks_of(plan, a="cancelled", b="cancelled", c=blocked))) == {
        "c": ("block", "a b", "a b")
    }


def test_a_blocked_task_whose_dependency_is_lost_now_is_skipped() -> None:
    plan = run_plan(task_plan("a"), task_plan("b", "a"))
    blocked = Blocked(1.0, "it needs a", on=("a",), root=("a",))
    assert short(fate(plan, tasks_of(plan, a="cancelled", b=blocked))) == {"b": ("skip", "a", "a")}


@pytest.mark.parametrize("block", ["skip", "block"])
def test_what_a_redrive_brings_back_waits_again_with_all_behind_it(block: str) -> None:
    plan = run_plan(*(msgspec.structs.replace(each, on_dependency_failure=block) for each in DIAMOND.tasks))
    lost = apply(plan, tasks_of(plan, a="dead_lettered"))
    redriven = lost | {"a": step(lost["a"], Step.REDRIVE, Waiting(2.0))}
    fates = fate(plan, redriven)
    assert short(fates) == dict.fromkeys("bcd", ("unblock", "", ""))
    assert fates[0].reason == "what it depends on can complete again"
    assert {type(each.state) for each in apply(plan, redriven).values()} == {Waiting}


def test_a_skipped_task_comes_back_only_when_nothing_stands_in_its_way() -> None:
    tasks = tasks_of(DIAMOND, a="completed", b="waiting", c="blocked", d="skipped")
    assert fate(DIAMOND, tasks) == []
    assert short(fate(DIAMOND, tasks | {"c": simply("c", "running")})) == {"d": ("unblock", "", "")}
    assert fate(DIAMOND, tasks | {"c": simply("c", "cancelled")}) == []


def test_who_is_blocked_by_a_gate_or_skipped_for_another_reason_is_left_alone() -> None:
    plan = run_plan(
        task_plan("a"), task_plan("b", "a"), task_plan("c", "a"), task_plan("d"), task_plan("e", "c"),
        task_plan("f", "d"),
    )  # fmt: skip
    tasks = tasks_of(
        plan, a="completed", b="blocked", c=Skipped(1.0, "not wanted", ErrorClass.CANCELLED), d="skipped", e="waiting"
    )
    assert short(fate(plan, tasks)) == {"e": ("skip", "c", "c"), "f": ("skip", "d", "d")}


def test_a_cause_behind_a_cause_is_the_root() -> None:
    plan = run_plan(task_plan("a"), task_plan("b", "a"), task_plan("c", "b"), task_plan("x", "c"))
    skipped = tasks_of(plan, a="dead_lettered", b="skipped", c="skipped")
    assert short(fate(plan, skipped)) == {"x": ("skip", "c", "a")}
    blocked = Blocked(1.0, "it needs b", on=("b",), root=("b",))
    gated = tasks_of(plan, a="completed", b="blocked", c=blocked)
    assert short(fate(plan, gated)) == {"x": ("block", "c", "b")}


def test_the_root_of_a_skipped_task_is_what_was_lost_not_what_is_blocked_beside_it() -> None:
    plan = run_plan(
        task_plan("a"), task_plan("b"), task_plan("c", "a", "b"), task_plan("d", "c", on_dependency_failure="block")
    )
    tasks = tasks_of(plan, a="cancelled", b="blocked")
    assert short(fate(plan, tasks)) == {"c": ("skip", "a", "a"), "d": ("block", "c", "a")}
    assert fate(plan, apply(plan, tasks)) == []


def test_tasks_need_not_be_written_in_their_order() -> None:
    plan = run_plan(*reversed(DIAMOND.tasks))
    assert short(fate(plan, tasks_of(plan, a="cancelled"))) == {
        "b": ("skip", "a", "a"),
        "c": ("skip", "a", "a"),
        "d": ("skip", "b c", "a"),
    }


def test_a_task_that_is_not_there_bars_nobody_and_gets_no_fate() -> None:
    tasks = tasks_of(DIAMOND, b="cancelled")
    del tasks["a"], tasks["d"]
    assert fate(DIAMOND, tasks) == []
    unknown = run_plan(task_plan("b", "elsewhere"), task_plan("c"))
    assert short(fate(unknown, tasks_of(unknown, c="cancelled"))) == {}


def test_a_chain_of_ten_thousand_is_no_deeper_than_one_of_two() -> None:
    ids = [f"t{number}" for number in range(10_000)]
    plan = run_plan(*(task_plan(each, *ids[max(number - 1, 0) : number]) for number, each in enumerate(ids)))
    fates = fate(plan, tasks_of(plan, t0="dead_lettered"))
    assert len(fates) == 9_999
    assert fates[-1] == Fate("t9999", Step.SKIP, "t9998 did not complete", ("t9998",), ("t0",))


def test_of_many_causes_some_are_named() -> None:
    ids = [f"t{number}" for number in range(100)]
    plan = run_plan(*map(task_plan, ids), task_plan("z", *ids))
    only = fate(plan, tasks_of(plan, **dict.fromkeys(ids, "cancelled")))[0]
    assert (only.on, only.root) == (tuple(ids), tuple(ids[:ROOTS_MAX]))
    assert only.reason == "t0, t1, t2 and 97 more did not complete"
    three = run_plan(*map(task_plan, "abc"), task_plan("z", *"abc"))
    assert fate(three, tasks_of(three, **dict.fromkeys("abc", "cancelled")))[0].reason == "a, b, c did not complete"


def apply(plan: RunPlan, tasks: Mapping[str, ManagedTask]) -> dict[str, ManagedTask]:
    """Take the step of every fate, one after the other."""
    after = dict(tasks)
    for each in fate(plan, tasks):
        state: AnyState
        match each.step:
            case Step.SKIP:
                state = Skipped(2.0, each.reason)
            case Step.BLOCK:
                state = Blocked(2.0, each.reason, each.on, each.root)
            case _:
                state = Waiting(2.0, each.reason)
        after[each.task_id] = step(after[each.task_id], each.step, state)
    return after


@st.composite
def graphs(draw: st.DrawFn) -> tuple[RunPlan, dict[str, ManagedTask]]:
    count = draw(st.integers(min_value=1, max_value=9))
    ids = [f"t{number}" for number in range(count)]
    plans = [
        task_plan(
            each,
            *draw(st.lists(st.sampled_from(ids[:number]), unique=True, max_size=3) if number else st.just([])),
            on_dependency_failure=draw(st.sampled_from(["skip", "block"])),
        )
        for number, each in enumerate(ids)
    ]
    plan = run_plan(*draw(st.permutations(plans)))
    named = st.sampled_from(["waiting", "running", "completed", "dead_lettered", "cancelled", "blocked", "skipped"])
    blocked = st.just(Blocked(1.0, "it needs t0", on=("t0",), root=("t0",)))
    return plan, {each: simply(each, draw(named | blocked)) for each in ids}


@settings(deadline=None, max_examples=300)
@given(graphs())
def test_fates_applied_leave_nothing_more_to_do(drawn: tuple[RunPlan, dict[str, ManagedTask]]) -> None:
    plan, tasks = drawn
    assert fate(plan, apply(plan, tasks)) == []


@settings(deadline=None, max_examples=300)
@given(graphs())
def test_afterwards_everyone_stands_as_what_is_before_him_lets_him(
    drawn: tuple[RunPlan, dict[str, ManagedTask]],
) -> None:
    plan, tasks = drawn
    after = apply(plan, tasks)
    barring = {"dead_lettered", "cancelled", "skipped", "blocked"}
    for each in plan.tasks:
        barred = tuple(other for other in each.depends_on if name_of(after[other].state) in barring)
        state = after[each.task_id].state
        match state:
            case Waiting():
                assert not barred
            case Blocked(on=on) if on:
                assert on == barred
            case Skipped() if each.depends_on:
                assert barred
            case Skipped() | Blocked():
                assert state is tasks[each.task_id].state
            case _:
                assert after[each.task_id] is tasks[each.task_id]
