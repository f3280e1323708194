"""Commands of the operator's: whoever aborts one ends no process but its own, and waits for nothing."""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from crewd.host.commands import CannotRun, Commands

pytestmark = pytest.mark.real_time
ENVIRON = {"PATH": os.defpath}


def test_who_aborts_does_not_wait_for_what_the_kernel_holds_on_to(monkeypatch: pytest.MonkeyPatch) -> None:
    reaping, go_on = threading.Event(), threading.Event()
    genuine = subprocess.Popen.wait

    def slow(process: "subprocess.Popen[bytes]", timeout: float | None = None) -> int:
        reaping.set()
        go_on.wait(10)
        return genuine(process, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", slow)
    commands = Commands()
    thread = threading.Thread(target=commands.run, args=(("true",), ENVIRON, b"", 10.0), daemon=True)
    thread.start()
    assert reaping.wait(10)
    began = time.monotonic()
    aborting = threading.Thread(target=commands.abort, daemon=True)
    aborting.start()
    aborting.join(2)
    waited = time.monotonic() - began
    go_on.set()
    thread.join(10)
    assert waited < 2 and not thread.is_alive()


def test_a_number_that_was_given_back_is_nobody_to_be_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "killpg", lambda group, signal: ended.append(group))
    commands = Commands()
    assert commands.run(("sh", "-c", "exit 3"), ENVIRON, b"", 10.0) == 3
    commands.abort()
    assert ended == [], "it ended by itself: its number may be another's by now"
    with pytest.raises(CannotRun, match="crewd is stopping"):
        commands.run(("true",), ENVIRON, b"", 10.0)


def test_one_that_tarries_is_ended_while_its_number_is_still_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    genuine, letters = os.killpg, []

    def look(group: int, number: signal.Signals) -> None:
        letters.append(Path(f"/proc/{group}/stat").read_text().rpartition(")")[2].split()[0])
        genuine(group, number)

    monkeypatch.setattr(os, "killpg", look)
    assert Commands().run(("sleep", "60"), ENVIRON, b"", 0.05) is None
    assert len(letters) == 1 and letters[0] in "RSD"
