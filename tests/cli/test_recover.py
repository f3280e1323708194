"""`crewd recover`: plans of the daemon and of the ledger it left behind, and a person's word on them."""

import asyncio
import json
from pathlib import Path
from typing import Any

from click.testing import Result

from crewd.ledger.batch import Batch
from crewd.ledger.ledger import Ledger
from crewd.model.recovery import PlanState, portrait
from tests.cli.contract import Contract, serving
from tests.cli.world import NOW, crewd
from tests.fakes.clock import FakeClock
from tests.web.world import a_plan

PLAN = a_plan().plan_id
LIST, APPROVE = "GET /api/v1/recoveries", f"POST /api/v1/recoveries/{PLAN}/approve"
TOLD = {"recoveries": [portrait(a_plan()), portrait(a_plan("00000000000000ff", PlanState.VERIFIED))]}
DONE = {"what": "recovery plan is approved", "ids": [PLAN], "details": {}}


def ask(tmp_path: Path, contract: Contract, *arguments: str) -> Result:
    with serving(tmp_path, contract):
        return crewd("recover", *arguments, "--state-dir", str(tmp_path), folder=tmp_path)


def test_list_and_show_tell_what_is_to_be_decided(tmp_path: Path) -> None:
    result = ask(tmp_path, Contract({LIST: TOLD}), "list")
    assert result.exit_code == 0, result.output
    assert "planned" in result.stdout and "1 to do, 1 done" in result.stdout
    for name in (PLAN, "r1"):
        shown = ask(tmp_path, Contract({LIST: TOLD}), "show", name).stdout
        assert "all_exited: its runner is gone" in shown and f"crewd recover approve {PLAN} --by NAME" in shown
    assert ask(tmp_path, Contract({LIST: TOLD}), "show", "nobody").exit_code == 3
    whole = {LIST: TOLD, f"GET /api/v1/recoveries/{PLAN}": {**portrait(a_plan()), "output": "it said this"}}
    assert "it said this" in ask(tmp_path, Contract(whole), "show", PLAN).stdout


def test_the_same_is_told_of_the_ledger_while_the_daemon_is_down(tmp_path: Path) -> None:
    async def write() -> None:
        ledger = Ledger.open(tmp_path, FakeClock(NOW))
        await ledger.commit(Batch(recoveries=(a_plan(), a_plan("00000000000000ff", PlanState.DECLINED))))
        await ledger.close()

    asyncio.run(write())

    def read(*words: str) -> Any:
        result = crewd("recover", *words, "--json", "--state-dir", str(tmp_path), folder=tmp_path)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    told = read("list", "--state", "declined")
    assert told["source"] == "ledger" and [plan["plan_id"] for plan in told["recoveries"]] == ["00000000000000ff"]
    shown = read("show", PLAN)
    assert shown["resumable"] == ["t1"] and "abcdefghijkl" not in shown["output"]
    refused = crewd("recover", "approve", PLAN, "--by", "ann", "--state-dir", str(tmp_path), folder=tmp_path)
    assert refused.exit_code == 69


def test_a_word_needs_a_name_and_reaches_the_daemon(tmp_path: Path) -> None:
    contract = Contract({LIST: TOLD, APPROVE: DONE})
    assert ask(tmp_path, contract, "approve", PLAN).exit_code == 2
    result = ask(tmp_path, contract, "approve", "r1", "--by", "ann", "--reason", "go", "--action", "cancel")
    assert result.exit_code == 0, result.output
    assert "approved" in result.stdout
    assert ask(tmp_path, contract, "decline", PLAN, "--reason", "x").exit_code == 2
