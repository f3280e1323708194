"""Deliveries other than webhooks: a command, a popup, a line in the log."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog

from crewd.host.clock import SystemClock
from crewd.host.outgoing import NoAnswer, Outgoing, address, is_open
from crewd.model.notice import Notice, trial_notice
from crewd.telemetry.notify.delivery import Delivery, NotDelivered
from crewd.telemetry.notify.options import ChannelOptions
from crewd.telemetry.redact import Redactor
from tests.fakes.receiver import FLOOD, Receiver

pytestmark = pytest.mark.real_time
NOON = 1_767_268_800.0
DEAD = Notice(
    "opened", "r1/t1", "dead", "critical", "--help <b>hunter2secret</b> $(touch x)", NOON, NOON, "blue", "r1"
)
PATH = {"PATH": "/usr/bin:/bin"}


def deliver(*notices: Notice, **options: object) -> None:
    given = ChannelOptions("x", **options)  # type: ignore[arg-type]  # one of several fields, by name
    Delivery(given, SystemClock(), Redactor(("hunter2secret",))).deliver(notices or (DEAD,))


def test_a_command_gets_json_on_stdin_and_no_shell(tmp_path: Path) -> None:
    to = tmp_path / "got"
    command = (sys.executable, "-c", "import sys; open(sys.argv[1], 'w').write(sys.stdin.read())", str(to), "$(x)")
    deliver(kind="command", command=command, environ=PATH)
    told = json.loads(to.read_text())
    assert told["notices"][0]["cause"] == "dead"
    assert "hunter2secret" not in to.read_text()


@pytest.mark.parametrize(
    ("command", "passing", "words"),
    [
        (("no-such-program-of-anybody",), False, "No such file"),
        (("false",), True, "left with 1"),
        (("sleep", "30"), True, "did not end within"),
        (("sh", "-c", "sleep 30 & sleep 30"), True, "did not end within"),
    ],
)
def test_a_command_that_fails_is_told_and_one_that_tarries_is_ended_with_all_it_started(
    command: tuple[str, ...], passing: bool, words: str
) -> None:
    began = time.monotonic()
    with pytest.raises(NotDelivered, match=words) as caught:
        deliver(kind="command", command=command, environ=PATH, timeout=0.3)
    assert caught.value.passing is passing
    assert time.monotonic() - began < 5


def test_a_command_that_does_not_read_its_stdin_is_no_failure() -> None:
    big = Notice("opened", "r1", "dead", "critical", "x" * 900, NOON, NOON)
    deliver(*[big] * 200, kind="command", command=("true",), environ=PATH)


def test_a_popup_is_given_words_and_no_markup(tmp_path: Path) -> None:
    program = tmp_path / "notify-send"
    program.write_text(f'#!/bin/sh\nfor each in "$@"; do echo "$each"; done > {tmp_path}/got\n')
    program.chmod(0o755)
    (tmp_path / "bin").mkdir()
    deliver(kind="command", command=(str(program),), environ=PATH)
    options = ChannelOptions("x", kind="desktop", environ={"PATH": f"{tmp_path}:/bin"})
    # Popen looks a program up in the PATH that it is given itself.
    Delivery(options, SystemClock(), Redactor(("hunter2secret",))).deliver([DEAD])
    got = (tmp_path / "got").read_text().splitlines()
    assert got[:4] == ["--app-name=crewd", "--urgency=critical", "--", "crewd: critical: dead of r1/t1"]
    assert got[4] == "--help &lt;b&gt;***&lt;/b&gt; $(touch x)"


def test_the_log_has_a_line_for_each() -> None:
    with structlog.testing.capture_logs() as lines:
        deliver(DEAD, trial_notice(NOON), kind="log")
    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("notification.opened", "error"),
        ("notification.test", "info"),
    ]
    assert "hunter2secret" not in str(lines)


@pytest.mark.parametrize(
    ("url", "ok"),
    [
        ("https://h/x", True),
        ("http://[::1]:80/x?y", True),
        ("ftp://h", False),
        ("https://", False),
        ("https://user:pass@h/", False),
        ("https://h:99999/", False),
        ("https://h/a b", False),
        ("https://h/a\r\nX: y", False),
        ("file:///etc/passwd", False),
    ],
)
def test_only_addresses_of_http_are_asked_and_no_complaint_shows_one(url: str, ok: bool) -> None:
    if ok:
        assert address(url).hostname
        return
    with pytest.raises(ValueError, match=r"^(is no address|holds a)") as caught:
        address(url)
    assert "pass@" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "open"),
    [
        ("https://h/", False),
        ("http://127.0.0.1:1/", False),
        ("http://localhost/", False),
        ("http://[::1]/", False),
        ("http://h/", True),
        ("http://10.0.0.1/", True),
    ],
)
def test_http_to_another_machine_is_open_to_others(url: str, open: bool) -> None:
    assert is_open(url) is open


def test_no_answer_names_no_part_of_the_address_but_its_host() -> None:
    with Receiver() as receiver:
        url = receiver.url
    with pytest.raises(NoAnswer) as caught:
        Outgoing().ask("POST", f"{url}/services/T0KEN", {}, b"", 1.0)
    assert str(caught.value) == "127.0.0.1: Connection refused"


def test_a_large_answer_is_hung_up_on() -> None:
    with Receiver(FLOOD) as receiver:
        assert Outgoing().ask("GET", receiver.url, {}, b"", 5.0).status == 200


def test_tls_is_verified() -> None:
    with Receiver() as receiver, pytest.raises(NoAnswer):
        Outgoing().ask("GET", receiver.url.replace("http:", "https:"), {}, b"", 2.0)


def test_a_command_at_hand_ends_with_its_channel_and_with_all_that_it_started(tmp_path: Path) -> None:
    started = tmp_path / "pids"
    script = f"sleep 60 & echo $$ $! > {started}.tmp; mv {started}.tmp {started}; wait"
    options = ChannelOptions("x", kind="command", command=("sh", "-c", script), environ=PATH, timeout=60.0)
    delivery = Delivery(options, SystemClock(), Redactor())
    found: list[Exception] = []

    def deliver_one() -> None:
        try:
            delivery.deliver([DEAD])
        except NotDelivered as error:
            found.append(error)

    thread = threading.Thread(target=deliver_one, daemon=True)
    thread.start()
    wait_until(started.exists)
    began = time.monotonic()
    delivery.abort()
    thread.join(5)
    assert not thread.is_alive() and time.monotonic() - began < 5 and len(found) == 1
    wait_until(lambda: not any(is_alive(int(pid)) for pid in started.read_text().split()))
    with pytest.raises(NotDelivered, match="crewd is stopping"):
        delivery.deliver([DEAD])


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


@pytest.mark.skipif(shutil.which("dbus-run-session") is None, reason="dbus-run-session is not installed")
def test_a_popup_goes_over_a_real_session_bus(tmp_path: Path) -> None:
    """The stand-in for notify-send is started where a session bus is, and sees its address."""
    program = tmp_path / "notify-send"
    program.write_text(f'#!/bin/sh\necho "$DBUS_SESSION_BUS_ADDRESS" > {tmp_path}/bus\nexit 0\n')
    program.chmod(0o755)
    code = (
        "import os, sys; from tests.telemetry.notify.test_delivery import DEAD;"
        "from crewd.host.clock import SystemClock; from crewd.telemetry.redact import Redactor;"
        "from crewd.telemetry.notify.delivery import Delivery;"
        "from crewd.telemetry.notify.options import ChannelOptions;"
        "Delivery(ChannelOptions('x', kind='desktop', environ=dict(os.environ)), SystemClock(), Redactor())"
        ".deliver([DEAD])"
    )
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["dbus-run-session", "--", sys.executable, "-c", code],
        env=environ,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "bus").read_text().startswith("unix:")
