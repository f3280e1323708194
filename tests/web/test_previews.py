"""What a run will do, and how attempts of one task differ; and what only whoever may change a run is told of it."""

from typing import Any, NoReturn

import msgspec
import pytest

from crewd.ledger.errors import LedgerFailed
from crewd.model.history import AttemptRow
from crewd.model.look import DeadLetter
from crewd.model.managed import AttemptRecord
from crewd.model.plan import RunPlan, Success, TaskPlan
from crewd.model.run import Usage
from tests.web.world import ANNA, WITH_TOKEN, State, ask, ask_all

PLAN = "/api/v1/runs/r1/plan"
ATTEMPTS = "/api/v1/runs/r1/tasks/t1/attempts"


def planned() -> State:
    state = State(secrets=["hunter4-hunter4"])
    assert state.actions is not None
    state.actions.planned = RunPlan(
        run_id="r1",
        crew="blue",
        name="nightly",
        tasks=(
            TaskPlan(
                task_id="build",
                command=("make", "--api-key", "hunter3", "all"),
                cwd="/srv/blue",
                env={"COLOUR": "hunter4-hunter4", "GITHUB_TOKEN": "hunter5", "LEVEL": "7"},
                secrets={"CODEX_API_KEY": "openai-team-a"},
                success=Success(command=("check", "--token", "hunter6")),
            ),
            TaskPlan(task_id="test", command=("true",), cwd="/", depends_on=("build",), timeout=60.0),
        ),
    )
    return state


def attempted() -> State:
    state = State()
    assert state.actions is not None
    state.actions.records = [
        record(1, "worker_crash", exit={"code": None, "signal": 11}, tail="one\ntwo\n", output_bytes=8),
        record(2, "unknown", exit={"code": 3, "signal": None}, tail="one\nthree\n", output_bytes=10),
        record(3, None, details={"model": "m-2"}),
    ]
    rows = [
        AttemptRow(
            run_id="r1", task_id="t1", attempt=number, first_seq=number, last_seq=number, executor="writer",
            model="m-1", outcome="failed", duration_seconds=float(number), usage=Usage(input=number * 10),
        )
        for number in (2, 1)
    ]  # fmt: skip
    state.history.attempts_kept = rows
    return state


def record(attempt: int, error_class: str | None, **more: Any) -> dict[str, Any]:
    return {"attempt": attempt, "error_class": error_class, "error": "", "interrupted": False, **more}


def trusted(state: State, path: str) -> Any:
    return ask(state, path, headers=WITH_TOKEN).json()


def test_the_plan_tells_the_whole_command_and_every_rule() -> None:
    told = trusted(planned(), PLAN)
    build, test = told["tasks"]
    assert (told["run_id"], told["crew"], told["name"], told["values"]) == ("r1", "blue", "nightly", True)
    assert build["command"] == ["make", "--api-key", "***", "all"]
    assert build["success"]["command"] == ["check", "--token", "***"]
    assert (build["cwd"], test["depends_on"], test["timeout"]) == ("/srv/blue", ["build"], 60.0)
    assert build["stop"] == [{"signal": "TERM", "wait": 5.0}]
    assert build["retry"]["max_attempts"] == 3


def test_values_of_the_environment_are_for_whoever_may_change_the_run() -> None:
    state = planned()
    names = ["COLOUR", "GITHUB_TOKEN", "LEVEL"]
    by_token = trusted(state, PLAN)["tasks"][0]["env"]
    by_socket = ask_all(state, [("GET", PLAN, {})], ANNA)[0].json()["tasks"][0]["env"]
    assert by_token == by_socket == {"COLOUR": "***", "GITHUB_TOKEN": "***", "LEVEL": "7"}
    open_door = ask(state, PLAN).json()
    assert open_door["tasks"][0]["env"] == dict.fromkeys(names)
    assert open_door["values"] is False


@pytest.mark.parametrize("headers", [{}, WITH_TOKEN])
def test_no_secret_is_part_of_a_plan_and_a_credential_is_told_by_its_file(headers: dict[str, str]) -> None:
    answer = ask(planned(), PLAN, headers=headers)
    for secret in ("hunter3", "hunter4", "hunter5", "hunter6"):
        assert secret not in answer.text
    assert answer.json()["tasks"][0]["env_from_credentials"] == [{"name": "CODEX_API_KEY", "file": "openai-team-a"}]


def test_a_run_that_crewd_does_not_run_has_no_plan() -> None:
    assert ask(planned(), "/api/v1/runs/r2/plan").json()["error"]["details"][0]["code"] == "run_unknown"
    state = planned()
    state.actions = None
    assert ask(state, PLAN).status_code == 404


def test_attempts_come_newest_first_from_both_places_that_know_of_them() -> None:
    told = trusted(attempted(), ATTEMPTS)
    assert [each["attempt"] for each in told["attempts"]] == [3, 2, 1]
    third, second, first = told["attempts"]
    assert (third["outcome"], third["model"], third["usage"]) == ("completed", "m-2", None)
    assert (second["outcome"], second["exit_code"], second["executor"]) == ("failed", 3, "writer")
    assert (first["signal"], first["usage"]["input"], first["tail"]) == (11, 10, "one\ntwo\n")


def test_the_newest_two_are_compared_or_those_that_are_named() -> None:
    state = attempted()
    newest = trusted(state, ATTEMPTS)["difference"]
    assert (newest["base"], newest["other"]) == (2, 3)
    told = trusted(state, f"{ATTEMPTS}?base=1&other=2")["difference"]
    fields = {each["field"]: (each["base"], each["other"], each["change"]) for each in told["fields"]}
    assert fields["error_class"] == ("worker_crash", "unknown", None)
    assert fields["duration_seconds"] == (1.0, 2.0, 1.0)
    assert fields["usage.input"] == (10, 20, 10)
    assert "attempt" not in fields and "tail" not in fields
    assert [each["sign"] + each["text"] for each in told["tail"]] == ["@", " one", "-two", "+three"]


def test_what_workers_wrote_is_for_whoever_may_change_the_run() -> None:
    told = ask(attempted(), f"{ATTEMPTS}?base=1&other=2").json()
    assert {each["tail"] for each in told["attempts"]} == {None}
    assert told["difference"]["tail"] is None
    assert told["difference"]["fields"]


def test_one_attempt_is_compared_with_nothing() -> None:
    state = attempted()
    assert state.actions is not None
    state.actions.records, state.history.attempts_kept = state.actions.records[:1], []
    told = trusted(state, ATTEMPTS)
    assert (len(told["attempts"]), told["difference"]) == (1, None)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (f"{ATTEMPTS}?base=9&other=8", 404),
        ("/api/v1/runs/r1/tasks/t9/attempts", 404),
        ("/api/v1/runs/r9/tasks/t1/attempts", 404),
        (f"{ATTEMPTS}?base=0", 400),
        (f"{ATTEMPTS}?base=1&base=2", 400),
        (f"{ATTEMPTS}?limit=101", 400),
        (f"{ATTEMPTS}?nonsense=1", 400),
        (f"{PLAN}?nonsense=1", 400),
    ],
)
def test_what_is_not_there_or_makes_no_sense_is_refused(path: str, code: int) -> None:
    answer = ask(attempted(), path)
    assert answer.status_code == code
    assert all(each["next_action"] for each in answer.json()["error"]["details"])


def test_a_history_that_cannot_be_read_is_no_empty_one() -> None:
    state = attempted()

    def fails(query: object) -> NoReturn:
        raise LedgerFailed("disk I/O error")

    state.history.attempts = fails  # type: ignore[method-assign]  # a stand-in
    answer = ask(state, ATTEMPTS)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "history_unreadable")


def test_both_attempts_that_are_not_there_are_named_at_once() -> None:
    details = ask(attempted(), f"{ATTEMPTS}?base=9&other=8").json()["error"]["details"]
    assert [each["path"] for each in details] == ["query.base", "query.other"]


def test_a_recovery_plan_tells_the_exact_command_of_each_offer() -> None:
    (plan, _) = ask(State(), "/api/v1/recoveries").json()["recoveries"]
    assert plan["commands"] == {"resume": ["agent", "resume", "r1", "--api-key", "***"], "cancel": []}
    one = ask(State(), f"/api/v1/recoveries/{plan['plan_id']}").json()
    assert one["commands"] == plan["commands"]


@pytest.mark.parametrize("path", ["/api/v1/deadletters", "/api/v1/deadletter?key=r1/t1"])
def test_last_words_in_a_dead_letter_are_for_whoever_may_change_the_run(path: str) -> None:
    state = State()
    deeds = state.actions
    assert deeds is not None
    # As the ledger lays them out: the attempts are a tuple.
    told = msgspec.to_builtins(
        DeadLetter("r1", "t1", "manual", "", 1, "", None, "managed", "k", history=(an_attempt("my last words"),))
    )
    assert isinstance(told["history"], tuple)
    deeds.letters = lambda **_: [told]  # type: ignore[method-assign]  # a stand-in
    deeds.letter = lambda key: told  # type: ignore[method-assign]  # a stand-in
    assert "my last words" in ask(state, path, headers=WITH_TOKEN).text
    assert "my last words" not in ask(state, path).text


def an_attempt(tail: str) -> AttemptRecord:
    return AttemptRecord(1, 1, 0.0, 1.0, tail=tail)
