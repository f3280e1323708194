"""Recovery plans are kept with the events that tell them, come back whole, and a damaged one is not believed."""

import asyncio
import shutil
from pathlib import Path

import apsw
import msgspec
import pytest

from crewd.ledger import recall, schema
from crewd.ledger.batch import Batch
from crewd.ledger.errors import LedgerDamaged
from crewd.ledger.ledger import Ledger
from crewd.ledger.reader import Reader
from crewd.model.event import Event
from crewd.model.recovery import Cause, PlanState, RecoveryPlan
from tests.fakes.clock import FakeClock
from tests.ledger.values import a_run

FROZEN = Path(__file__).parent / "frozen"
PATH = "ledger.sqlite3"
AT = 1_767_225_600.25


def a_plan(plan_id: str = "0123456789abcdef", state: PlanState = PlanState.APPLIED) -> RecoveryPlan:
    return RecoveryPlan(
        plan_id=plan_id,
        run_id="run-1",
        runtime="pi_crew",
        root="pi_crew:/srv/grün",
        crew="grün",
        folder="/srv/grün/.crew/state/runs/run-1",
        cause=Cause.ALL_EXITED,
        because="its runner is gone (pid 7 is gone); dead: build",
        state=state,
        resumable=("build", "test"),
        preserved=("plan",),
        event_seq=83,
        offers=("resume", "cancel"),
        mark="00ff00ff00ff00ff",
        created_at=AT,
        action="resume",
        decided_at=AT + 60,
        decided_by="ann",
        applied_at=AT + 61.5,
        first_applied_at=AT + 61.5,
        attempts=1,
        output="é",
    )


def told(plan: RecoveryPlan) -> Event:
    return Event(f"recovery.{plan.state.value}", AT, {"plan_id": plan.plan_id}, plan.run_id)


def keep(folder: Path, *plans: RecoveryPlan) -> None:
    async def write() -> None:
        ledger = Ledger.open(folder, FakeClock())
        for plan in plans:
            await ledger.commit(Batch(events=(told(plan),), recoveries=(plan,)))
        await ledger.close()

    asyncio.run(write())


def recalled(folder: Path) -> tuple[RecoveryPlan, ...]:
    ledger = Ledger.open(folder, FakeClock())
    try:
        return ledger.recall().recoveries
    finally:
        asyncio.run(ledger.close())


def test_the_newest_word_on_a_plan_is_recalled_and_read_by_state(tmp_path: Path) -> None:
    first, other = a_plan(state=PlanState.PLANNED), a_plan("ffffffffffffffff", PlanState.DECLINED)
    other = msgspec.structs.replace(other, created_at=AT + 5)
    keep(tmp_path, first, other, a_plan())
    assert recalled(tmp_path) == (a_plan(), other)
    with Reader.open(tmp_path) as reader:
        assert reader.recoveries() == [other, a_plan()]
        assert reader.recoveries("applied") == [a_plan()] and reader.recoveries("planned") == []
        assert reader.recoveries(limit=1) == [other]
        assert reader.recovery(first.plan_id) == a_plan() and reader.recovery("none") is None
        assert [event.type for event in reader.events()] == [
            "recovery.planned", "recovery.declined", "recovery.applied",
        ]  # fmt: skip


def test_of_settled_plans_only_the_latest_are_recalled_and_every_open_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recall, "PLANS_MAX", 2)
    settled = [
        msgspec.structs.replace(a_plan(f"{number:016x}", PlanState.DECLINED), ended_at=AT + number)
        for number in range(5)
    ]
    opened = [a_plan("ffffffffffffffff", PlanState.PLANNED), a_plan("fffffffffffffffe", PlanState.APPLIED)]
    keep(tmp_path, opened[0], *settled, opened[1])
    assert recalled(tmp_path) == (opened[0], *settled[3:], opened[1])
    with Reader.open(tmp_path) as reader:
        assert reader.recovery(settled[0].plan_id) == settled[0]  # whether there was one is known all the same


def test_a_damaged_plan_is_not_believed(tmp_path: Path) -> None:
    keep(tmp_path, a_plan(state=PlanState.DECLINED))
    connection = apsw.Connection(str(tmp_path / PATH))
    connection.execute("UPDATE recoveries SET body = replace(body, 'declined', 'approved')")
    connection.close()
    with pytest.raises(LedgerDamaged, match="0123456789abcdef"):
        recalled(tmp_path)


def test_a_settled_plan_is_forgotten_once_its_run_is_gone(tmp_path: Path) -> None:
    settled = msgspec.structs.replace(a_plan("ffffffffffffffff", PlanState.VERIFIED), run_id="run-2")
    keep(tmp_path, a_plan(), settled, a_plan("eeeeeeeeeeeeeeee", PlanState.DECLINED))

    async def prune(batch: Batch) -> None:
        ledger = Ledger.open(tmp_path, FakeClock())
        await ledger.commit(batch)
        await ledger.prune(AT + 1)
        await ledger.close()

    asyncio.run(prune(Batch(runs=(a_run("run-1"), a_run("run-2")))))
    assert len(recalled(tmp_path)) == 3
    asyncio.run(prune(Batch(vanished=("run-2",))))
    assert {plan.plan_id for plan in recalled(tmp_path)} == {a_plan().plan_id, "eeeeeeeeeeeeeeee"}
    asyncio.run(prune(Batch(vanished=("run-1",))))
    assert recalled(tmp_path) == (a_plan(),)  # of which something may still come


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_an_older_ledger_is_brought_forward_and_then_holds_plans(version: str, tmp_path: Path) -> None:
    shutil.copytree(FROZEN / version, tmp_path / "state")
    keep(tmp_path / "state", a_plan())
    assert recalled(tmp_path / "state") == (a_plan(),)
    connection = apsw.Connection(str(tmp_path / "state" / PATH))
    assert schema.differences(connection, schema.MIGRATIONS) == ""
    connection.close()


def test_a_ledger_of_version_3_left_by_a_killed_daemon_still_opens(tmp_path: Path) -> None:
    # frozen/v3 is never made anew either.
    shutil.copytree(FROZEN / "v3", tmp_path / "state")
    assert recalled(tmp_path / "state") == (a_plan(), a_plan("ffffffffffffffff", PlanState.DECLINED))
