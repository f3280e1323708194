"""Why a run stands where it stands, over HTTP; and where the workers of a crew stood in the last hour."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from crewd.model.run import RunStatus, TaskStatus
from crewd.model.verdict import Level
from tests.cli.contract import attempt, managed, task
from tests.telemetry.pictures import report, snapshot, view, worker
from tests.web.world import Deeds, State, ask

WHY = "/api/v1/runs/r1/why"


class Failed(Deeds):
    """A managed run in which one task gave up."""

    def managed(self, run_id: str) -> Mapping[str, Any] | None:
        if run_id != "r1":
            return None
        return managed(
            "failed",
            task("a", "completed"),
            task("b", "dead_lettered", attempt(2), depends_on=["a"], why="was given up"),
            task("c", "skipped", depends_on=["b"]),
        ) | {"run_id": "r1"}


def test_of_a_managed_run_the_first_cause_is_told_with_what_it_means_and_what_comes_next() -> None:
    state = State()
    state.actions = Failed()
    told = ask(state, WHY).json()
    cause = told["cause"]
    assert (cause["tasks"], cause["state"], cause["dependents"]) == (["b"], "dead_lettered", ["c"])
    assert cause["guidance"] and cause["next_action"].startswith("crewd logs r1 b --stderr")
    assert told["other_causes"] == []


def test_a_managed_run_that_nobody_has_looked_at_yet_is_told_too() -> None:
    state = State(snapshot())
    state.actions = Failed()
    assert ask(state, WHY).json()["workers"] == []


def test_of_an_observed_run_the_workers_that_do_not_get_on_are_told_the_worst_first() -> None:
    state = State(snapshot(view("r1", "blue", worker("t1"), worker("t2", Level.WARN), worker("t3", Level.DEAD))))
    state.actions = None
    told = ask(state, WHY).json()
    assert [each["task"] for each in told["workers"]] == ["t3", "t2"]
    assert all(each["because"] and each["remedy"] for each in told["workers"])
    assert told["cause"] is None


def test_a_failed_task_of_an_observed_run_is_its_cause() -> None:
    seen = view("r1", "blue", status=RunStatus.FAILED)
    tasks = (msgspec.structs.replace(seen.run.tasks[0], status=TaskStatus.FAILED, error="no such file"),)
    state = State(snapshot(msgspec.structs.replace(seen, run=msgspec.structs.replace(seen.run, tasks=tasks))))
    state.actions = None
    cause = ask(state, WHY).json()["cause"]
    assert cause["why"] == "no such file" and cause["next_action"].startswith("crewd explain r1 ")


@pytest.mark.parametrize("run", ["r9", "nobody"])
def test_a_run_that_nobody_has_seen_is_not_found(run: str) -> None:
    assert ask(State(), f"/api/v1/runs/{run}/why").status_code == 404


def test_secrets_are_taken_out() -> None:
    state = State(secrets=["hunter4-hunter4"])

    class Loud(Failed):
        def managed(self, run_id: str) -> Mapping[str, Any] | None:
            return managed("failed", task("a", "dead_lettered", attempt(1, "unknown", "hunter4-hunter4")))

    state.actions = Loud()
    assert "hunter4" not in ask(state, WHY).text


def test_the_last_hour_is_told_crew_by_crew() -> None:
    state = State()
    picture = snapshot(view("r1", "blue", worker("t1", Level.DEAD), worker("t2")), view("r2", "red"))
    state.hour.on_round(report(), picture)
    told = ask(state, "/api/v1/crews").json()
    assert [each["crew"] for each in told["crews"]] == ["blue", "red"] and told["left_off"] == 0
    blue, red = told["crews"]
    assert [point["levels"] for point in blue["points"]] == [{"dead": 1, "healthy": 1}]
    assert [point["levels"] for point in red["points"]] == [{}] and blue["seconds"] == 30


def test_the_rules_are_told_beside_the_evidence_and_only_there() -> None:
    told = ask(State(), "/api/v1/runs/r1/tasks/t1").json()
    assert (told["table"] is None) == (told["explain"] is None)
