"""A real rsyslog with the shipped file ships every line: through midnights, a catch-up, and its own restart."""

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from crewd.host.assets import asset
from tests.telemetry.sinks.tailing import MIDNIGHT, PATIENCE, World, seq_of, until
from tests.telemetry.sinks.world import DAY

RSYSLOGD = shutil.which("rsyslogd") or shutil.which("rsyslogd", path="/usr/sbin:/sbin")
pytestmark = [
    pytest.mark.real_time,
    pytest.mark.skipif(
        RSYSLOGD is None, reason="rsyslogd is not installed (Debian: rsyslog): nothing is shipped by it"
    ),
]


class Rsyslog:
    """rsyslog with deploy/logs/rsyslog.conf, reading one folder and writing one file."""

    def __init__(self, folder: Path, logs: Path) -> None:
        self.output = folder / "shipped.jsonl"
        self._folder = folder
        text = asset("logs/rsyslog.conf").read_text()
        text = re.sub(r'file="/var/log/crewd/\*/', f'file="{logs}/', text)
        text = re.sub(r'file="/var/log/crewd-events.jsonl"', f'file="{self.output}"', text)
        assert str(logs) in text and str(self.output) in text
        (folder / "work").mkdir()
        self._config = folder / "rsyslog.conf"
        self._config.write_text(f'global(workDirectory="{folder}/work")\n{text}')

    def check(self) -> str:
        assert RSYSLOGD is not None
        done = subprocess.run([RSYSLOGD, "-N1", "-f", str(self._config)], capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        return done.stderr

    @contextmanager
    def running(self) -> Iterator[None]:
        assert RSYSLOGD is not None
        command = [RSYSLOGD, "-n", "-f", str(self._config), "-i", str(self._folder / "pid")]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield
        finally:
            process.terminate()
            process.wait(PATIENCE)

    def told(self) -> list[int]:
        if not self.output.exists():
            return []
        return [seq for line in self.output.read_bytes().splitlines() if (seq := seq_of(line))]


def test_every_line_is_shipped_once_through_midnights_a_catch_up_and_a_restart(tmp_path: Path) -> None:
    world, rsyslog = World(tmp_path / "logs", linger=0.01), Rsyslog(tmp_path, tmp_path / "logs")
    assert not re.search(r"error|warning", rsyslog.check())
    world.tell(50, MIDNIGHT - 10)
    with rsyslog.running():
        until(lambda: len(rsyslog.told()) == 50)
        for day in range(3):
            world.tell(100, MIDNIGHT + day * DAY - 0.001)
            world.tell(100, MIDNIGHT + day * DAY)
            world.clean_up()
        for day in range(4, 8):  # the disk was full for days: now all of them are written at once
            world.log.add(20, MIDNIGHT + day * DAY)
        world.log.add(1, MIDNIGHT + 8 * DAY, error="x" * 60_000)
        world.tell(1, MIDNIGHT + 8 * DAY)
        until(lambda: set(rsyslog.told()) == set(world.everything))
        time.sleep(0.2)  # for what might come twice
    world.tell(30, MIDNIGHT + 8 * DAY + 1)  # rsyslog is away, and midnight passes
    world.tell(30, MIDNIGHT + 9 * DAY)
    world.clean_up()
    with rsyslog.running():
        until(lambda: set(rsyslog.told()) == set(world.everything))
    assert len(rsyslog.told()) == len(world.everything)
