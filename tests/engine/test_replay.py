"""A recorded period under two sets of rules: the same twice differ in nothing."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.detection.options import Override, Thresholds
from crewd.engine.replay import Context, Rules, as_json, replay
from crewd.model.event import Event
from crewd.model.failure import ErrorClass
from crewd.model.plan import Jitter, RetryPolicy
from crewd.model.run import Expectation
from crewd.policy.notifying import Route

BASE = Rules(
    routes={"pager": Route("critical")}, retries={"default": RetryPolicy(), "x": RetryPolicy(max_attempts=2)}
)


def event(
    type: str, at: float, task_id: str = "t", crew: str = "blue", runtime: str = "pi_crew", **data: Any
) -> Event:
    return Event(type, at, data, "r" if task_id else "", task_id, 1, runtime, crew)


def silent(at: float, to: str, silence: float, reason: str = "silent", row: int = 9, task_id: str = "t") -> Event:
    told: dict[str, Any] = {
        "to_level": to,
        "reason": reason,
        "silence_seconds": silence,
        "row": row,
        "because": "no process is named",
    }
    return event("worker.level_changed", at, task_id, **told)


PRESUMED = [silent(100, "warn", 31, row=8), silent(140, "stale", 61), silent(400, "dead", 305, "presumed", 13)]
INCIDENT = event("incident.opened", 50.0, "", subject="crewd", cause="sink", severity="warning", opened_at=50.0)


def kinds(events: list[Event], new: Rules, context: Context | None = None) -> list[tuple[str, str, str]]:
    return [(each.kind, each.base, each.new) for each in replay(events, BASE, new, context).differences]


def test_a_longer_threshold_takes_a_verdict_back_with_its_incident_and_its_notification() -> None:
    later = Rules(Thresholds(dead_after=600), routes=BASE.routes, retries=BASE.retries)
    assert kinds(PRESUMED, later) == [
        ("incident", "dead", "nothing"),
        ("notification", "sent (critical)", "nothing"),
        ("verdict", "dead(presumed) after 300 s", "stale(silent)"),
    ]


def test_an_override_counts_only_for_whom_it_fits() -> None:
    def rules(crew: str) -> Rules:
        override = Override(Thresholds(dead_after=600), crew=crew)
        return Rules(overrides=(override,), routes=BASE.routes, retries=BASE.retries)

    assert kinds(PRESUMED, rules("red")) == []
    assert len(kinds(PRESUMED, rules("blue"))) == 3


def test_an_override_by_task_type_takes_the_type_from_what_is_known_beside() -> None:
    override = Override(Thresholds(dead_after=600), task_type="explorer")
    new = Rules(overrides=(override,), routes=BASE.routes, retries=BASE.retries)
    assert kinds(PRESUMED, new) == []
    assert len(kinds(PRESUMED, new, Context(task_types={("r", "t"): "explorer"}))) == 3


def test_what_a_task_says_of_its_own_silence_stays() -> None:
    later = Rules(Thresholds(dead_after=250), routes=BASE.routes, retries=BASE.retries)
    own = Context(expectations={("r", "t"): Expectation(dead_after=300)})
    assert kinds(PRESUMED, later, own) == []


def test_a_silence_whose_length_is_not_known_makes_no_certain_difference() -> None:
    events = [silent(140, "stale", 61), event("task.failed", 700)]
    found = replay(events, BASE, Rules(Thresholds(dead_after=600), routes=BASE.routes, retries=BASE.retries))
    assert {each.certain for each in found.differences} == {False}


def test_another_route_tells_others() -> None:
    new = Rules(routes={"pager": Route("warning"), "chat": Route("info")}, retries=BASE.retries)
    assert kinds([INCIDENT], new) == [("notification", "nothing", "sent (warning)")] * 2


def failing(*classes: ErrorClass) -> list[Event]:
    told = [event("attempt.started", 0.0, runtime="managed", executor="x")]
    for at, each in enumerate(classes, 1):
        told.append(event("attempt.finished", at, runtime="managed", error_class=each.value, error=""))
        told.append(event("task.retry_scheduled", at, runtime="managed", delay_seconds=1.0))
    told[-1] = event("task.dead_lettered", len(classes), runtime="managed", reason="max-retries")
    return told


def test_retries_of_an_executor_change_and_those_of_a_run_file_do_not() -> None:
    new = Rules(routes=BASE.routes, retries={"x": RetryPolicy(max_attempts=5, jitter=Jitter.NONE)})
    crash = ErrorClass.WORKER_CRASH
    assert ("retry", "given up (max-retries)", "retry in 10.0 s") in kinds(failing(crash, crash), new)
    own = Context(policies={("r", "t"): RetryPolicy(max_attempts=2, base=7.0)})
    assert kinds(failing(crash, crash), new, own) == []


def test_a_record_that_the_base_does_not_lead_to_is_told() -> None:
    found = replay(PRESUMED, Rules(Thresholds(dead_after=900)), Rules(Thresholds(dead_after=900)))
    assert found.differences == ()
    assert "recorded as dead" in found.disagreements[0]


def test_dead_letters_against_another_threshold() -> None:
    letters = [event("deadletter.added", float(at)) for at in range(3)]
    new = Rules(routes=BASE.routes, retries=BASE.retries, letters_per_hour=2)
    assert kinds(letters, new) == [("dead_letters", "nothing", "alarm")]


def test_what_no_record_can_tell_is_said() -> None:
    words = replay([], BASE, Rules(Thresholds(warn_after=5))).unknown
    assert any("unknown below 30 s" in each for each in words)
    assert replay([], BASE, BASE).unknown == ()


@pytest.mark.parametrize(
    ("new", "left_out"),
    [
        (Rules(Thresholds(warn_after=45), routes=BASE.routes, retries=BASE.retries), ["incidents.reopen_window"]),
        (Rules(routes={}, retries=BASE.retries), ["incidents.reopen_window"]),
        (Rules(routes=BASE.routes, retries={"default": RetryPolicy(max_attempts=9)}), ["tasks.retries_per_hour"]),
        (Rules(routes=BASE.routes, retries=BASE.retries, apart={"tasks.retries_per_hour": 9}),
         ["tasks.retries_per_hour"]),
        (Rules(routes=BASE.routes, retries=BASE.retries, apart={"patrol.waiting_alert_after": 9}),
         ["patrol.waiting_alert_after"]),
        (Rules(routes=BASE.routes, retries=BASE.retries, apart={"incidents.damp_above": 9}),
         ["incidents.reopen_window"]),
    ],
)  # fmt: skip
def test_rules_that_go_by_what_events_do_not_hold_are_named_as_left_out(new: Rules, left_out: list[str]) -> None:
    words = [each.removeprefix("not replayed: ") for each in replay([], BASE, new).unknown if "not replayed" in each]
    assert [each.split(":")[0].split(",")[0] for each in words] == left_out


@pytest.mark.parametrize("field", ["at", "kind", "certain"])
def test_a_difference_is_laid_out_for_programs(field: str) -> None:
    (first, *_) = replay(PRESUMED, BASE, Rules(Thresholds(dead_after=600))).differences
    assert field in as_json(first)


any_rules = st.builds(
    Rules,
    thresholds=st.builds(
        lambda warn, more, much, most: Thresholds(warn, warn + more, warn + more + much, warn + more + much + most),
        *[st.floats(1, 300)] * 4,
    ),
    retries=st.fixed_dictionaries({"x": st.builds(RetryPolicy, max_attempts=st.integers(1, 4))}),
    routes=st.fixed_dictionaries({"pager": st.builds(Route, st.sampled_from(["info", "warning", "critical"]))}),
    letters_per_hour=st.integers(1, 4),
)
any_events = st.lists(
    st.one_of(
        st.builds(
            silent,
            st.floats(0, 9_000),
            st.sampled_from(["healthy", "warn", "stale", "dead", "waiting", "odd"]),
            st.floats(0, 2_000),
            st.sampled_from(["silent", "presumed", "hung", "stopped", "exited", "busy", "odd"]),
            st.integers(0, 14),
            st.sampled_from(["a", "b"]),
        ),
        st.builds(event, st.sampled_from(["task.failed", "deadletter.added", "daemon.started"]), st.floats(0, 9_000)),
        st.just(INCIDENT),
        st.sampled_from(failing(ErrorClass.WORKER_CRASH, ErrorClass.TIMEOUT)),
    ),
    max_size=25,
)


@given(any_events, any_rules)
def test_the_same_rules_differ_in_nothing(events: list[Event], rules: Rules) -> None:
    found = replay(events, rules, rules)
    assert (found.differences, found.unknown) == ((), ())


@given(any_events, any_rules, any_rules)
def test_any_record_and_any_rules_make_an_answer_and_turned_around_its_mirror(
    events: list[Event], one: Rules, other: Rules
) -> None:
    there, back = replay(events, one, other), replay(events, other, one)

    def levels(found: Any, turned: bool) -> list[tuple[object, ...]]:
        told = [each for each in found.differences if each.kind in ("verdict", "incident", "notification")]
        return sorted((x.kind, x.at, x.task_id, x.why, *([x.base, x.new][:: -1 if turned else 1])) for x in told)

    assert levels(there, turned=False) == levels(back, turned=True)
