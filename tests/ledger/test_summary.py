"""Summaries of a real ledger, held against counting in Python."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import crewd.ledger.summary
from crewd.errors import UsageProblem
from crewd.ledger import history_rows, schema
from crewd.ledger.errors import LedgerError
from crewd.ledger.opening import NAME
from crewd.ledger.reader import Reader
from crewd.ledger.summary import summary
from crewd.model.history import OUTCOMES, TREND_SLOTS, AttemptRow, HistoryQuery, Quantiles, SummaryGroup
from crewd.model.run import Usage
from tests.ledger.past import NOW, attempt, task, write_past

HOUR = 3600.0


def asked(rows: Sequence[AttemptRow], *group_by: str, **query: Any) -> list[SummaryGroup]:
    """Sum up rows in a ledger of their own, in memory."""
    connection = apsw.Connection("")
    try:
        schema.history_tables(connection)
        connection.executemany(history_rows.INSERT_ATTEMPT, map(history_rows.attempt_row, rows))
        return summary(connection, NOW - HOUR, NOW, "attempt", group_by, HistoryQuery(**query))
    finally:
        connection.close()


def test_no_records_are_no_outcomes_and_no_quantiles() -> None:
    (whole,) = asked([], "model", "variant")
    assert whole == SummaryGroup(key={}, trend_completed=(0,) * TREND_SLOTS, trend_unsuccessful=(0,) * TREND_SLOTS)


def test_what_completed_and_all_that_ended_have_quantiles_of_their_own() -> None:
    rows = [*(attempt(n) for n in range(1, 9)), attempt(9, "timed_out", 900), attempt(10, "timed_out", 900)]
    (whole,) = asked(rows)
    assert whole.outcomes == {"completed": 8, "timed_out": 2}
    assert (whole.completed, whole.ended) == (Quantiles(8, 10, 10), Quantiles(10, 10, 900))


@pytest.mark.parametrize(
    ("seconds", "p50", "p95"),
    [([7], 7, 7), ([9, 7], 7, 9), (list(range(20, 0, -1)), 10, 19), (list(range(100, 0, -1)), 50, 95)],
)
def test_quantiles_are_of_the_nearest_rank(seconds: list[float], p50: float, p95: float) -> None:
    (whole,) = asked([attempt(n, seconds=each) for n, each in enumerate(seconds, start=1)])
    assert whole.completed == Quantiles(len(seconds), p50, p95)


def test_a_record_at_the_edge_is_in_the_window_that_it_begins() -> None:
    rows = [attempt(1, ended_at=NOW - HOUR), attempt(2, ended_at=NOW), attempt(3, ended_at=NOW - HOUR - 0.001)]
    (whole,) = asked(rows)
    assert whole.outcomes == {"completed": 1}
    assert whole.trend_completed == (1, *[0] * (TREND_SLOTS - 1))


def test_what_is_at_work_is_not_counted() -> None:
    (whole,) = asked([attempt(1), attempt(2, "", ended_at=None)])
    assert whole.outcomes == {"completed": 1}


def test_usage_is_that_of_those_who_reported_it() -> None:
    rows = [attempt(n, usage=Usage(10, 5) if n <= 3 else None) for n in range(1, 11)]
    (whole,) = asked(rows)
    assert (whole.with_usage, whole.with_cost, whole.usage) == (3, 0, Usage(30, 15))
    (whole,) = asked([*rows, attempt(11, usage=Usage(1, 1, cost_usd=0.5)), attempt(12, usage=Usage(cost_usd=0.0))])
    assert (whole.with_usage, whole.with_cost, whole.usage.cost_usd) == (5, 2, 0.5)


def test_groups_lie_within_groups_and_what_has_no_value_is_unknown() -> None:
    rows = [
        attempt(1, task_type="code", executor="x"),
        attempt(2, "failed", task_type="code", error_class="timeout"),
        attempt(3),
    ]
    told = asked(rows, "task_type", "executor")
    assert [dict(each.key) for each in told] == [
        {},
        {"task_type": "code"},
        {"task_type": "unknown"},
        {"task_type": "code", "executor": "unknown"},
        {"task_type": "code", "executor": "x"},
        {"task_type": "unknown", "executor": "unknown"},
    ]
    assert told[1].outcomes == {"completed": 1, "failed": 1}
    assert told[1].error_classes == {"timeout": 1}


def test_an_error_class_that_is_not_there_is_none_and_not_unknown() -> None:
    told = asked([attempt(1), attempt(2, "failed", error_class="unknown")], "error_class")
    assert [each.key["error_class"] for each in told[1:]] == ["none", "unknown"]


def test_variants_are_one_value_whatever_their_order() -> None:
    rows = [
        attempt(1, variants={"prompt": "b", "model": "opus"}),
        attempt(2, variants={"model": "opus", "prompt": "b"}),
        attempt(3),
    ]
    told = asked(rows, "variant")
    assert {each.key["variant"]: each.outcomes["completed"] for each in told[1:]} == {
        "model=opus,prompt=b": 2,
        "unknown": 1,
    }


@pytest.mark.parametrize("name", ["crew", "runtime", "executor", "model", "task_type"])
def test_the_query_narrows(name: str) -> None:
    rows = [attempt(1, **{name: "a' OR 1"}), attempt(2, **{name: "b"})]
    (whole,) = asked(rows, **{name: "a' OR 1"})
    assert whole.outcomes == {"completed": 1}


NAMES = ("task_type", "executor")
ROWS = st.lists(
    st.tuples(
        st.sampled_from((*OUTCOMES, "")),
        st.none() | st.integers(0, 20).map(float),
        st.none() | st.integers(0, 5).map(float),
        st.sampled_from(("", "code", "test")),
        st.sampled_from(("", "x", "y")),
        st.sampled_from((NOW - 2 * HOUR, NOW - HOUR, NOW - 1, NOW, NOW + 1)),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_every_figure_is_what_counting_in_python_comes_to(drawn: list[tuple[Any, ...]]) -> None:
    rows = [
        attempt(
            n, outcome, seconds, queue_seconds=queue, task_type=kind, executor=by, ended_at=at if outcome else None
        )
        for n, (outcome, seconds, queue, kind, by, at) in enumerate(drawn, start=1)
    ]
    told = {tuple(each.key.values()): each for each in asked(rows, *NAMES)}
    counted = [row for row in rows if row.ended_at is not None and NOW - HOUR <= row.ended_at < NOW]
    groups = {(), *(key[:depth] for row in counted for key in (_key(row),) for depth in (1, 2))}
    assert told.keys() == groups
    for key, group in told.items():
        own = [row for row in counted if _key(row)[: len(key)] == key]
        assert group.outcomes == {name: n for name in OUTCOMES if (n := sum(row.outcome == name for row in own))}
        assert group.completed == _quantiles(row.duration_seconds for row in own if row.outcome == "completed")
        assert group.ended == _quantiles(row.duration_seconds for row in own)
        assert group.queue == _quantiles(row.queue_seconds for row in own)
        assert sum(group.trend_completed) == sum(row.outcome == "completed" for row in own)
        assert sum(group.trend_unsuccessful) == sum(row.outcome in ("failed", "timed_out") for row in own)


def _key(row: AttemptRow) -> tuple[str, ...]:
    return tuple(getattr(row, name) or "unknown" for name in NAMES)


def _quantiles(values: Iterator[float | None]) -> Quantiles:
    ordered = sorted(each for each in values if each is not None)
    return Quantiles(len(ordered), _quantile(ordered, 50), _quantile(ordered, 95))


def _quantile(ordered: list[float], percent: int) -> float | None:
    """The smallest value that at least so many percent do not exceed, counted one by one."""
    covered = (each for each in ordered if 100 * sum(other <= each for other in ordered) >= percent * len(ordered))
    return next(covered, None)


def test_a_task_that_completed_at_last_is_one_and_half_of_its_attempts(tmp_path: Path) -> None:
    tries = [
        attempt(1, "failed", run_id="r", attempt=1),
        attempt(2, "completed", run_id="r", attempt=2),
    ]
    write_past(tmp_path, tries, [task(1, attempts=2)])
    with Reader.open(tmp_path) as reader:
        (by_task,) = reader.summary(NOW - HOUR, NOW, "task")
        (by_attempt,) = reader.summary(NOW - HOUR, NOW, "attempt")
        again = reader.summary(NOW - HOUR, NOW, "attempt")  # nothing of a question stays behind
    assert by_task.outcomes == {"completed": 1}
    assert by_attempt.outcomes == {"completed": 1, "failed": 1}
    assert again == [by_attempt]


def test_a_ledger_that_cannot_be_read_is_an_error_and_not_zero(tmp_path: Path) -> None:
    write_past(tmp_path, [attempt(n) for n in range(1, 200)])
    with Reader.open(tmp_path) as reader:
        path = tmp_path / NAME
        path.write_bytes(path.read_bytes()[:4096] + b"\xff" * (path.stat().st_size - 4096))
        with pytest.raises(LedgerError):
            reader.summary(NOW - HOUR, NOW)


@pytest.mark.slow
def test_very_many_kinds_of_rows_have_marks_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crewd.ledger.summary, "KINDS_MAX", 10**6)
    many = 0xD800 - 64 + 50  # beyond the surrogates, which are no characters
    rows = [attempt(n, seconds=float(n), model=f"m{n}") for n in range(1, many + 1)]
    told = asked(rows, "model")
    assert told[0].completed == Quantiles(many, -(-many * 50 // 100), -(-many * 95 // 100))


def test_more_groups_than_anybody_reads_are_refused_before_they_take_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [attempt(n, task_type=f"type-{n}") for n in range(1, 12)]
    monkeypatch.setattr(crewd.ledger.summary, "KINDS_MAX", 10)
    assert len(asked(rows[1:], "task_type")) == 11
    with pytest.raises(UsageProblem, match=r"by task_type what ended falls into 11 groups.*10 are told"):
        asked(rows, "task_type")
