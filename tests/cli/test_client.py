"""By which door the daemon is asked, and what becomes of each refusal."""

from pathlib import Path
from typing import Any

import pytest

from crewd.cli.client import ConnectionLost, Daemon
from crewd.cli.refusals import DaemonBusy, RequestRefused
from crewd.errors import CrewdError, DaemonUnreachable, NothingMatched, Refused
from tests.cli.contract import Contract, dead_socket, refusal, serving

DONE = {"what": "done", "ids": [], "details": {}}


def daemon_of(state: Path, url: str = "", token: str = "") -> Daemon:
    return Daemon(url, state / "crewd.sock", token)


def url_of(state: Path) -> str:
    import json

    return str(json.loads((state / "daemon.json").read_text())["url"])


def test_reading_goes_over_tcp_where_there_is_tcp_and_changes_through_the_socket(tmp_path: Path) -> None:
    contract = Contract({"GET /x": {"n": 1}, "POST /y": DONE})
    with serving(tmp_path, contract, tcp=True), daemon_of(tmp_path, url_of(tmp_path)) as daemon:
        assert daemon.json("/x") == {"n": 1}
        assert daemon.post("/y", {"a": 1}) == DONE
    hosts = [headers["host"] for _, _, _, headers in contract.asked]
    assert hosts[0].startswith("127.0.0.1:")
    assert hosts[1] == "localhost"
    assert contract.asked[1][2] == {"a": 1}
    assert contract.asked[1][3]["content-type"] == "application/json"


def test_the_socket_answers_questions_where_tcp_is_off(tmp_path: Path) -> None:
    with serving(tmp_path, Contract({"GET /x": {"n": 1}})), daemon_of(tmp_path) as daemon:
        assert daemon.json("/x", {"a": None}) == {"n": 1}


def test_the_token_goes_out_only_with_changes_and_only_over_tcp(tmp_path: Path) -> None:
    contract = Contract({"GET /x": 1, "POST /y": DONE}, token="t0ken")
    with serving(tmp_path, contract, unix=False, tcp=True), daemon_of(tmp_path, url_of(tmp_path), "t0ken") as daemon:
        daemon.json("/x")
        daemon.post("/y", {})
    assert [headers.get("authorization") for _, _, _, headers in contract.asked] == [None, "Bearer t0ken"]
    contract.asked.clear()
    with serving(tmp_path, contract, tcp=True), daemon_of(tmp_path, url_of(tmp_path), "t0ken") as daemon:
        daemon.post("/y", {})
    assert "authorization" not in contract.asked[0][3]


def test_without_socket_and_token_a_change_is_refused(tmp_path: Path) -> None:
    with (
        serving(tmp_path, Contract({"POST /y": DONE}, token="t"), unix=False, tcp=True),
        daemon_of(tmp_path, url_of(tmp_path)) as daemon,
        pytest.raises(Refused, match="this token is not crewd's"),
    ):
        daemon.post("/y", {})


def test_what_tcp_may_not_tell_is_asked_through_the_socket(tmp_path: Path) -> None:
    with (
        serving(tmp_path, Contract({"GET /output": 7}), tcp=True),
        daemon_of(tmp_path, url_of(tmp_path)) as daemon,
    ):
        assert daemon.json("/output") == 7


def test_a_socket_that_nobody_answers_at_is_passed_over(tmp_path: Path) -> None:
    with serving(tmp_path, Contract({"POST /y": DONE}, token="t"), unix=False, tcp=True):
        dead_socket(tmp_path)
        with daemon_of(tmp_path, url_of(tmp_path), "t") as daemon:
            assert daemon.post("/y", {}) == DONE


def test_without_any_door_it_says_at_which_it_knocked(tmp_path: Path) -> None:
    with pytest.raises(DaemonUnreachable, match="it is not running"):
        daemon_of(tmp_path)
    dead_socket(tmp_path)
    with pytest.raises(
        DaemonUnreachable, match=r"at http://127.0.0.1:1: .*; at unix:.*crewd.sock: Connection refused"
    ):
        daemon_of(tmp_path, "http://127.0.0.1:1").json("/x")


def test_a_change_whose_answer_does_not_come_may_have_been_done(tmp_path: Path) -> None:
    contract = Contract({"POST /y": DONE}, hang_up=1)
    with serving(tmp_path, contract), daemon_of(tmp_path) as daemon:
        with pytest.raises(ConnectionLost):
            daemon.post("/y", {})
        assert daemon.post("/y", {}) == DONE, "the conversation can go on"
    assert len(contract.asked) == 2, "nothing is sent twice unasked"


@pytest.mark.parametrize(
    ("status", "kind", "exit_code"),
    [
        (400, RequestRefused, 2),
        (401, Refused, 77),
        (403, Refused, 77),
        (404, NothingMatched, 3),
        (409, Refused, 77),
        (413, RequestRefused, 2),
        (422, RequestRefused, 2),
        (500, CrewdError, 1),
        (503, DaemonBusy, 69),
    ],
)
def test_every_refusal_has_its_exit_code_and_its_words(
    tmp_path: Path, status: int, kind: type[CrewdError], exit_code: int
) -> None:
    detail = {"code": "c", "path": "/a/0", "message": "b is no number", "next_action": "write 1"}
    body = refusal("c", "not so\x1b[2J", detail)
    with (
        serving(tmp_path, Contract({"POST /y": (status, body)})),
        daemon_of(tmp_path) as daemon,
        pytest.raises(CrewdError, match="not so") as caught,
    ):
        daemon.post("/y", {})
    assert type(caught.value) is kind
    assert caught.value.exit_code == exit_code
    assert "\x1b" not in str(caught.value)
    if kind is RequestRefused:
        assert str(caught.value).split("\n")[1:] == ["  /a/0: b is no number -> write 1"]
    elif status not in (404, 500):
        assert "b is no number (write 1)" in str(caught.value)


@pytest.mark.parametrize(
    "answer", [b"", b"<html>", b"[]", b'{"error": 3}', b'{"error": {"message": 1, "details": 5}}']
)
@pytest.mark.parametrize("status", [200, 400, 404, 503])
def test_an_answer_that_makes_no_sense_is_an_error_and_no_crash(tmp_path: Path, status: int, answer: Any) -> None:
    with serving(tmp_path, Contract({"POST /y": (status, answer)})), daemon_of(tmp_path) as daemon:
        try:
            daemon.post("/y", {})
        except CrewdError as error:
            assert str(error)


def test_a_refusal_is_told_once_and_without_the_paths_of_the_api(tmp_path: Path) -> None:
    detail = {"code": "c", "path": "", "message": "it has ended", "next_action": "see /api/v1/runs"}
    with (
        serving(tmp_path, Contract({"POST /y": (409, refusal("c", "it has ended", detail))})),
        daemon_of(tmp_path) as daemon,
        pytest.raises(Refused, match=r"^it has ended$"),
    ):
        daemon.post("/y", {})
