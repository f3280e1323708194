"""Interrupted runs where people look: `status`, `show` and `why` name the plan and the command that comes next."""

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from crewd.cli.rescue import plans_by_run
from crewd.ledger.batch import Batch
from crewd.ledger.ledger import Ledger
from crewd.model.recovery import PlanState, portrait
from crewd.model.run import TaskStatus
from crewd.model.snapshot import RunView
from crewd.model.verdict import Incident, Level
from tests.cli.world import NOW, crewd, daemon, run, snapshot, task, worker, write_ledger
from tests.fakes.clock import FakeClock
from tests.web.world import a_plan

PLAN = a_plan()
APPROVE = f"crewd recover approve {PLAN.plan_id} --by NAME"
INCIDENTS = (
    Incident("r1", "interrupted", "warning", "r1 was interrupted", NOW, "blue", "r1"),
    Incident("r1/t1", "dead", "critical", "the worker of t1 is dead", NOW, "blue", "r1", "t1"),
    Incident("r10", "interrupted", "warning", "another one", NOW, "blue", "r10"),
)


def picture() -> Any:
    views = (
        RunView(run("r1", task("t1"), task("t0", TaskStatus.COMPLETED)), "root", (worker("t1", Level.DEAD, 400.0),)),
        RunView(run("r10", task("t1")), "root", (worker("t1"),)),
    )
    return msgspec.structs.replace(snapshot(*views), incidents=INCIDENTS, recoveries={"planned": 1, "approved": 0})


def left_behind(folder: Path) -> None:
    write_ledger(folder, picture())

    async def write() -> None:
        ledger = Ledger.open(folder, FakeClock(NOW))
        await ledger.commit(Batch(recoveries=(PLAN,), incidents=INCIDENTS))
        await ledger.close()

    asyncio.run(write())


def read(folder: Path, *words: str) -> str:
    done = crewd(*words, "--state-dir", str(folder), folder=folder)
    assert done.exit_code == 0, done.output
    return done.stdout


def check(folder: Path) -> None:
    told = read(folder, "status")
    assert "1 recovery plan waits" in told and "3 open incidents" in told and APPROVE in told
    told = json.loads(read(folder, "status", "--json"))
    assert told["incidents_open"] == 3 and told["recoveries"]["planned"] == 1
    by_run = {each["run_id"]: each["recovery"] for each in told["runs"]}
    assert by_run["r10"] is None
    short = {"plan_id": PLAN.plan_id, "state": "planned", "cause": "all_exited", "next_action": APPROVE}
    assert by_run["r1"] == short
    assert APPROVE in read(folder, "show", "r1") and "approve" not in read(folder, "show", "r10")
    assert json.loads(read(folder, "show", "r1", "--json"))["recovery"] == short
    why = read(folder, "why", "r1")
    assert APPROVE in why and "2 open incidents" in why and "another one" not in why
    told = json.loads(read(folder, "why", "r1", "--json"))
    assert told["recovery"] == short
    assert [(each["task_id"], each["cause"]) for each in told["incidents"]] in (
        [("t1", "dead"), (None, "interrupted")],
        [(None, "interrupted"), ("t1", "dead")],
    )


def test_a_daemon_is_asked(tmp_path: Path) -> None:
    left_behind(tmp_path)
    with daemon(tmp_path, picture()):
        check(tmp_path)


def test_and_its_ledger_while_it_is_down(tmp_path: Path) -> None:
    left_behind(tmp_path)
    check(tmp_path)


@pytest.mark.parametrize(
    ("state", "offers", "ends"),
    [
        ("planned", ("resume", "cancel"), APPROVE),
        ("planned", ("cancel",), f"{APPROVE} --action cancel"),
        ("failed", ("resume", "cancel"), APPROVE),
        ("approved", ("resume",), f"crewd recover show {PLAN.plan_id}"),
        ("applied", ("resume",), f"crewd recover show {PLAN.plan_id}"),
    ],
)
def test_the_command_that_comes_next_fits_the_plan(state: str, offers: tuple[str, ...], ends: str) -> None:
    plan = msgspec.structs.replace(PLAN, state=PlanState(state), offers=offers)
    assert plans_by_run([portrait(plan)])["r1"]["next_action"] == ends


def test_only_the_newest_plan_of_a_run_counts() -> None:
    newer, older = portrait(a_plan("00000000000000ff", PlanState.VERIFIED)), portrait(PLAN)
    assert plans_by_run([newer, older]) == {} and list(plans_by_run([older, newer])) == ["r1"]
