"""Events as every reader outside sees them, and the ids that stay the same for ever."""

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewd.model.event import Event, as_record, span_id, trace_id

AT = 1_767_225_600.25
names = st.text(min_size=1, max_size=20)


def test_trace_and_span_ids_are_those_that_were_published() -> None:
    assert trace_id("run-1") == "8b22ad48d117810497ab5c3a5878a5b0"
    assert span_id("run-1", "a", 1) == "3be10d230cb33803"
    assert span_id("run-1", "a", 2) == "497cad3e771ef4b5"


def test_an_event_about_an_attempt_is_laid_out_in_this_order() -> None:
    event = Event("task.started", AT, {"task_type": "review"}, "run-1", "a", 2, "pi_crew", "night", seq=7)
    assert list(as_record(event).items()) == [
        ("v", 1),
        ("seq", 7),
        ("ts", "2026-01-01T00:00:00.250Z"),
        ("type", "task.started"),
        ("run_id", "run-1"),
        ("task_id", "a"),
        ("attempt", 2),
        ("runtime", "pi_crew"),
        ("crew", "night"),
        ("trace_id", "8b22ad48d117810497ab5c3a5878a5b0"),
        ("span_id", "497cad3e771ef4b5"),
        ("actor", "daemon"),
        ("data", {"task_type": "review"}),
    ]


def test_what_an_event_is_not_about_is_left_out() -> None:
    assert list(as_record(Event("daemon.started", AT, seq=1))) == ["v", "seq", "ts", "type", "actor", "data"]
    of_a_run = as_record(Event("run.started", AT, run_id="run-1", runtime="beat", seq=2))
    assert list(of_a_run) == ["v", "seq", "ts", "type", "run_id", "runtime", "trace_id", "actor", "data"]


def test_an_event_about_a_task_before_its_first_attempt_belongs_to_the_first_span() -> None:
    record = as_record(Event("deadletter.added", AT, run_id="run-1", task_id="a"))
    assert "attempt" not in record
    assert record["span_id"] == span_id("run-1", "a", 1)


def test_who_did_it_is_told() -> None:
    assert as_record(Event("deadletter.discarded", AT, actor="operator:ann"))["actor"] == "operator:ann"


@settings(deadline=None)
@given(run_id=names, task_id=names, attempt=st.integers(min_value=1, max_value=99))
def test_ids_follow_from_names_alone(run_id: str, task_id: str, attempt: int) -> None:
    trace, span = trace_id(run_id), span_id(run_id, task_id, attempt)
    assert (len(trace), len(span)) == (32, 16)
    assert int(trace, 16) >= 0
    assert int(span, 16) >= 0
    assert (trace, span) == (trace_id(run_id), span_id(run_id, task_id, attempt))
    assert span != span_id(run_id, task_id, attempt + 1)


@settings(deadline=None)
@given(
    run_id=st.just("") | names,
    task_id=st.just("") | names,
    data=st.dictionaries(names, st.none() | st.booleans() | st.integers(-(2**53), 2**53) | names, max_size=3),
)
def test_every_record_is_one_line_of_json(run_id: str, task_id: str, data: dict[str, object]) -> None:
    record = as_record(Event("run.started", AT, data, run_id, task_id))
    line = msgspec.json.encode(record)
    assert b"\n" not in line
    assert json.loads(line) == record


def test_an_event_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Event("run.started", AT).seq = 3  # type: ignore[misc]
