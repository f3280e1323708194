"""Output of tasks: from the daemon and from the attempt's folder, whole, last lines, and followed."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.cli.contract import Contract, attempt, managed, one_after_the_other, serving, task
from tests.cli.managed_ledger import write_managed
from tests.cli.world import crewd

RUN = "GET /api/v1/runs/r-1/managed"
OUTPUT = "GET /api/v1/runs/r-1/tasks/a/output"


def output(*attempts: bytes, over: int = 99, piece: int = 7) -> Any:
    """Serve what attempts wrote, a few bytes at a time; those up to number `over` have ended."""

    def answer(query: dict[str, str], _: Any) -> Any:
        number, offset = int(query["attempt"]), int(query["offset"])
        if not 1 <= number <= len(attempts):
            return 404, {"error": {"message": "no such output"}}
        whole = attempts[number - 1] if query["stream"] == "stdout" else b"complaint\n"
        data = whole[offset : offset + piece]
        ended = number <= over and offset + len(data) == len(whole)
        headers = {"X-Crewd-Next-Offset": str(offset + len(data)), "X-Crewd-Ended": "true" if ended else "false"}
        return 200, data, headers

    return answer


def logs(tmp_path: Path, contract: Contract, *arguments: str) -> Result:
    with serving(tmp_path, contract, tcp=True):
        return crewd("logs", "r-1", "a", *arguments, "--state-dir", str(tmp_path), folder=tmp_path)


def ended(*attempts: bytes) -> Contract:
    body = managed("completed", task("a", "completed", *(attempt(n) for n in range(1, len(attempts) + 1))))
    return Contract({RUN: body, OUTPUT: output(*attempts)})


def test_the_newest_attempt_is_printed_byte_by_byte(tmp_path: Path) -> None:
    result = logs(tmp_path, ended(b"old\n", b"\xff\x1b[1mnew\r\nlonger than a piece\n"))
    assert result.stdout_bytes == b"\xff\x1b[1mnew\r\nlonger than a piece\n"
    assert result.stderr == ""


def test_an_attempt_and_a_stream_can_be_named(tmp_path: Path) -> None:
    contract = ended(b"old\n", b"new\n")
    assert logs(tmp_path, contract, "--attempt", "1").stdout == "old\n"
    assert logs(tmp_path, contract, "--stderr").stdout == "complaint\n"


@pytest.mark.parametrize(
    ("wrote", "remedy"),
    [
        ((b"1\n", b"2\n"), "r-1/a has no attempt 9; there are attempts 1 to 2: leave --attempt out for the newest"),
        ((b"old\n",), "r-1/a has no attempt 9; there is only attempt 1: leave --attempt out for the newest"),
        ((), "r-1/a has no attempt 9: none was started yet; `crewd why r-1` says why it waits"),
    ],
)
@pytest.mark.parametrize("more", [(), ("--tail", "3"), ("-f",)])
def test_who_asks_for_an_attempt_that_never_was_is_told_which_there_are(
    tmp_path: Path, wrote: tuple[bytes, ...], remedy: str, more: tuple[str, ...]
) -> None:
    contract = ended(*wrote) if wrote else Contract({RUN: managed("queued", task("a", "waiting")), OUTPUT: output()})
    result = logs(tmp_path, contract, "--attempt", "9", *more)
    assert (result.exit_code, result.stderr.strip()) == (3, f"crewd: {remedy}")


def test_an_attempt_of_which_nothing_is_kept_is_told_apart_from_one_that_never_was(tmp_path: Path) -> None:
    body = managed("completed", task("a", "completed", attempt(1), attempt(2)))
    result = logs(tmp_path, Contract({RUN: body, OUTPUT: output()}), "--attempt", "1")
    assert result.exit_code == 3
    assert "nothing is kept of attempt 1 of r-1/a in" in result.stderr
    assert "tasks.keep_days" in result.stderr


def test_without_a_daemon_the_ledger_says_which_attempts_there_are(tmp_path: Path) -> None:
    write_managed(tmp_path)
    (tmp_path / "runs").mkdir(exist_ok=True)
    asked = crewd("logs", "r-1", "build", "--attempt", "9", "--state-dir", str(tmp_path), folder=tmp_path)
    assert asked.exit_code == 3
    assert "r-1/build has no attempt 9; there " in asked.stderr


@pytest.mark.parametrize(("lines", "printed"), [(0, ""), (1, "4"), (2, "3\n4"), (4, "1\n2\n3\n4"), (9, "1\n2\n3\n4")])
def test_the_last_lines(tmp_path: Path, lines: int, printed: str) -> None:
    assert logs(tmp_path, ended(b"1\n2\n3\n4"), "--tail", str(lines)).stdout == printed


def test_a_task_that_never_started_has_no_output(tmp_path: Path) -> None:
    contract = Contract({RUN: managed("queued", task("a", "waiting")), OUTPUT: output()})
    result = logs(tmp_path, contract)
    assert result.exit_code == 3
    assert "no attempt of r-1/a was started yet" in result.stderr


def test_following_goes_over_retries_to_the_end_of_the_task(tmp_path: Path) -> None:
    first, second = attempt(1), attempt(2, None)
    bodies = one_after_the_other(
        managed("running", task("a", "running")),
        managed("running", task("a", "retry_wait", first, why="tries again in 1 s")),
        managed("running", task("a", "running", first) | {"attempt": 2}),
        managed("completed", task("a", "completed", first, second)),
    )
    result = logs(tmp_path, Contract({RUN: bodies, OUTPUT: output(b"one\n", b"two\n")}), "-f")
    assert result.stdout == "one\ntwo\n"
    assert result.stderr.splitlines() == [
        "crewd: retry_wait: tries again in 1 s; waiting for the next attempt",
        "crewd: attempt 2",
        "crewd: a is completed",
    ]


def test_following_a_named_attempt_ends_with_it(tmp_path: Path) -> None:
    contract = Contract({RUN: managed("running", task("a", "running")), OUTPUT: output(b"one\n")})
    assert logs(tmp_path, contract, "-f", "--attempt", "1", "--tail", "5").stdout == "one\n"


def test_without_a_daemon_the_folder_is_read_and_secrets_are_left_out(tmp_path: Path) -> None:
    write_managed(tmp_path, "a")
    folder = tmp_path / "runs/r-1/a/2"
    folder.mkdir(parents=True)
    (folder / "stdout").write_bytes(b"\0\0\0\0kept\nAPI_TOKEN=abcdefgh12345\n" + b"x" * 300_000 + b"\nend")
    arguments = ("logs", "r-1", "a", "--state-dir", str(tmp_path))
    result = crewd(*arguments, folder=tmp_path)
    assert result.stdout.startswith("kept\nAPI_TOKEN=***\nxxx")
    assert result.stdout.endswith("x\nend")
    assert result.stdout.count("x") == 300_000
    assert "reading the attempt's folder" in result.stderr
    assert crewd(*arguments, "-f", folder=tmp_path).stdout.endswith("x\nend")
    assert crewd(*arguments, "--tail", "1", folder=tmp_path).stdout == "end"
    # The line before begins far in front of where the end is looked for first.
    assert crewd(*arguments, "--tail", "2", folder=tmp_path).stdout == "x" * 300_000 + "\nend"
    assert crewd(*arguments, "--attempt", "1", folder=tmp_path).exit_code == 3


def test_a_link_in_the_place_of_output_is_not_followed(tmp_path: Path) -> None:
    write_managed(tmp_path, "a")
    folder = tmp_path / "runs/r-1/a/2"
    folder.mkdir(parents=True)
    (tmp_path / "secret").write_text("theirs")
    (folder / "stdout").symlink_to(tmp_path / "secret")
    result = crewd("logs", "r-1", "a", "--state-dir", str(tmp_path), folder=tmp_path)
    assert result.exit_code == 1
    assert "theirs" not in result.output
    climbing = crewd("logs", "r-1", "../..", "--attempt", "1", "--state-dir", str(tmp_path), folder=tmp_path)
    assert climbing.exit_code != 0


AGENT = (
    b'{"type":"system","subtype":"init","session_id":"s-1","model":"m"}\n'
    b'{"type":"assistant","message":{"id":"a","content":'
)


def agent(*attempts: bytes) -> Contract:
    contract = ended(*attempts)
    contract.routes[RUN]["tasks"][0]["profile"] = "claude"
    return contract


def test_an_agent_is_told_in_words_where_that_is_wanted_and_byte_by_byte_elsewhere(tmp_path: Path) -> None:
    said = AGENT + b'"I am done"}}\n'
    contract = agent(said)
    assert logs(tmp_path, contract, "--pretty").stdout == "* session s-1, model m\nI am done\n"
    assert logs(tmp_path, contract, "--pretty", "-f").stdout == "* session s-1, model m\nI am done\n"
    assert logs(tmp_path, contract).stdout_bytes == said
    assert logs(tmp_path, contract, "--raw").stdout_bytes == said
    assert logs(tmp_path, contract, "--pretty", "--raw").exit_code == 2
    assert logs(tmp_path, contract, "--pretty", "--stderr").stdout == "complaint\n"


def test_a_line_that_is_still_being_written_is_told_too(tmp_path: Path) -> None:
    assert logs(tmp_path, agent(AGENT + b'"half'), "--pretty").stdout.startswith("* session s-1, model m\n")


def test_each_attempt_of_an_agent_is_told_on_its_own(tmp_path: Path) -> None:
    contract = agent(AGENT + b'"one"}}\n', AGENT + b'"two"}}\n')
    after = contract.routes[RUN]
    before = {**after, "tasks": [{**after["tasks"][0], "attempt": 1}]}
    contract.routes[RUN] = one_after_the_other(before, before, after)
    printed = logs(tmp_path, contract, "--pretty", "-f")
    assert printed.stdout == "* session s-1, model m\none\n* session s-1, model m\ntwo\n"
    assert "attempt 2" in printed.stderr


def test_what_is_no_agent_stays_as_it_is(tmp_path: Path) -> None:
    assert logs(tmp_path, ended(b"{}\n"), "--pretty").stdout_bytes == b"{}\n"
