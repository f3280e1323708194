"""The stream: the daemon is killed under a reader that follows, which comes back and misses nothing."""

import contextlib
import http.client
import json
import threading
import time
from pathlib import Path

import pytest

from tests.end_to_end.running import Crewd, Worker, crewd, events, eventually

pytestmark = [pytest.mark.slow, pytest.mark.real_time]


class Follower(threading.Thread):
    """Reads the stream, and comes back with the last id whenever it ends, as a browser does."""

    def __init__(self, state: Path) -> None:
        super().__init__(daemon=True)
        self.state = state
        self.seqs: list[int] = []
        self.connections = 0
        self.over = threading.Event()
        self._last = "0"

    def run(self) -> None:
        while not self.over.is_set():
            try:
                self._follow()
            except (OSError, ValueError, http.client.HTTPException):
                time.sleep(0.1)

    def _follow(self) -> None:
        url = json.loads((self.state / "daemon.json").read_bytes())["url"]
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
        with contextlib.closing(connection):
            headers = {"Accept": "text/event-stream", "Last-Event-ID": self._last}
            connection.request("GET", "/api/v1/events", headers=headers)
            with contextlib.closing(connection.getresponse()) as answer:
                self._read(answer)

    def _read(self, answer: http.client.HTTPResponse) -> None:
        assert answer.status == 200
        self.connections += 1
        number = ""
        while line := answer.readline().decode():
            if not line.endswith("\n"):
                return  # cut within a line
            if line.startswith("id: "):
                number = line[4:].strip()
            elif line.startswith("data: "):
                assert json.loads(line[6:])["seq"] == int(number)
                self.seqs.append(int(number))
            elif line == "\n":
                self._last = number or self._last


def test_a_reader_whose_crewd_is_killed_comes_back_and_hears_everything_once(tmp_path: Path) -> None:
    root, beats, state = tmp_path / "project" / ".crew", tmp_path / "beats", tmp_path / "state"
    root.mkdir(parents=True)
    beats.mkdir()
    follower = Follower(state)
    workers: list[Worker] = []

    def begin(daemon: Crewd, runs: int) -> None:
        """Let runs begin, so that there is something to tell when the kill comes."""
        for _ in range(runs):
            workers.append(Worker(beats, f"run-{len(workers)}", "one"))
            time.sleep(0.05)
        eventually(
            lambda: f"run-{len(workers) - 2}" in str(daemon.get("/api/v1/events?limit=1000")[1]), daemon.process
        )

    try:
        with crewd(state, root.parent, "--beat-root", str(beats)) as daemon:
            daemon.wait_ready()
            follower.start()
            begin(daemon, 6)
            daemon.kill()
        with crewd(state, root.parent, "--beat-root", str(beats)) as daemon:
            daemon.wait_ready()
            begin(daemon, 6)
            last = daemon.get("/api/v1/events?newest=true&limit=1")[1]["next_after"]
            eventually(lambda: bool(follower.seqs) and follower.seqs[-1] >= last, daemon.process)
            began = time.monotonic()
            assert daemon.stop() == 0
            assert time.monotonic() - began < 5
    finally:
        follower.over.set()
        if follower.ident is not None:
            follower.join(30)
        for worker in workers:
            worker.end()
    assert follower.connections >= 2
    assert follower.seqs == [*range(1, len(follower.seqs) + 1)]
    assert {line["seq"] for line in events(state)} >= set(follower.seqs)
