import pytest
from structlog.testing import capture_logs

from crewd.telemetry.log_listener import LogListener, level_of
from tests.telemetry.pictures import event, report, snapshot


@pytest.mark.parametrize(
    ("type", "data", "level"),
    [
        ("worker.level_changed", {"to_level": "dead"}, "error"),
        ("worker.level_changed", {"to_level": "stale"}, "warning"),
        ("worker.level_changed", {"to_level": "healthy"}, "info"),
        ("verdict.opened", {}, "warning"),
        ("verdict.refuted", {}, "warning"),
        ("verdict.confirmed", {}, "info"),
        ("incident.opened", {"severity": "critical"}, "error"),
        ("incident.opened", {"severity": "info"}, "info"),
        ("incident.opened", {}, "warning"),
        ("incident.opened", {"severity": "critical", "damped": True}, "info"),
        ("incident.opened", {"severity": "critical", "damped": False}, "error"),
        ("incident.updated", {}, "info"),
        ("incident.acknowledged", {}, "info"),
        ("incident.snoozed", {}, "info"),
        ("incident.resolved", {}, "info"),
        ("daemon.started", {}, "info"),
        ("daemon.degraded", {}, "error"),
        ("daemon.brake_engaged", {}, "error"),
        ("deadletter.threshold_exceeded", {}, "error"),
        ("run.failed", {}, "warning"),
        ("run.started", {}, "info"),
        ("run.discovered", {}, "debug"),
        ("task.progressed", {}, "debug"),
        ("usage.recorded", {}, "debug"),
        ("something.new", {}, "debug"),
    ],
)
def test_an_event_is_as_loud_as_it_deserves(type: str, data: dict[str, object], level: str) -> None:
    assert level_of(event(type, 1, data=data)) == level


def test_a_line_carries_what_joins_it_to_traces_and_metrics() -> None:
    with capture_logs() as captured:
        LogListener().on_events([event("worker.level_changed", 7, data={"to_level": "dead", "because": "it exited"})])
    (line,) = captured
    assert line["event"] == "worker.level_changed" and line["log_level"] == "error"
    assert (line["seq"], line["run_id"], line["task_id"], line["crew"]) == (7, "r1", "t1", "blue")
    assert len(line["trace_id"]) == 32 and len(line["span_id"]) == 16
    assert line["because"] == "it exited"


def test_data_cannot_replace_what_a_line_is_about() -> None:
    data = {"event": "x", "level": "x", "run_id": "x", "exc_info": "x", "self": "x"}
    with capture_logs() as captured:
        LogListener().on_events([event("run.failed", 1, data=data)])
    assert captured[0]["event"] == "run.failed" and captured[0]["run_id"] == "r1"
    assert captured[0]["data_run_id"] == "x"


def test_a_round_is_told_by_metrics_and_not_by_lines() -> None:
    with capture_logs() as captured:
        LogListener().on_round(report(), snapshot())
    assert captured == []
