"""Everybody asks at once: 100 readers of the runs, 32 streams and 10 scrapes a second, while 1,000 workers beat.

The daemon is a real one; who beats, who reads and who listens are processes of their own. Lag is as crewd itself
measures it (crewd_event_loop_lag_seconds), once a second.
"""

import asyncio
import http.client
import json
import re
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.crews import MEMORY
from bench.result import Result, main
from bench.serving import Serving
from bench.timing import milliseconds

READERS, STREAMS, SCRAPES = 100, 32, 10  # the last: a second
RUNS, TASKS = 100, 10
BEAT_EVERY = 5.0  # seconds from one beat of a worker to its next
RUN_EVERY = 1.0  # seconds from the end of one run, and the beginning of another, to the next
SETTLING, SECONDS = 12.0, 30.0
PATIENCE = 60.0
LAG_MAX = 0.050
BUCKET = re.compile(r'crewd_event_loop_lag_seconds_bucket\{le="([^"]+)"\} (\S+)')
WORKER = {"v": 1, "crew": "many", "host": "elsewhere"}


def compare() -> list[Result]:
    """Measure with everybody at it, after a while with the workers alone."""
    with TemporaryDirectory(prefix="crewd-bench-", dir=MEMORY if MEMORY.is_dir() else None) as name:
        folder = Path(name)
        beats = folder / "beats"
        beats.mkdir()
        with _Child("beat", str(beats)) as beating:
            beating.wait_ready()
            daemon = Serving(folder, SOURCES__BEAT_ROOTS=json.dumps([str(beats)]))
            try:
                daemon.wait_ready()
                return _measure(daemon)
            finally:
                daemon.stop()


def _measure(daemon: Serving) -> list[Result]:
    port = int(json.loads((daemon.state / "daemon.json").read_bytes())["url"].rpartition(":")[2])
    time.sleep(SETTLING)
    idle = _lags(port)
    time.sleep(SETTLING)
    before = _lags(port)
    with _Child("listen", str(port)) as listening, _Child("read", str(port)) as reading:
        listening.wait_ready()
        heard, read = listening.answer(), reading.answer()
    after = _lags(port)
    alone, loaded = _minus(before, idle), _minus(after, before)
    p99 = _quantile(loaded, 0.99)
    missing = heard["expected"] * STREAMS - heard["events"]
    return [
        Result(
            f"loop lag p99, {READERS} readers, {STREAMS} streams, {SCRAPES} scrapes/s, {RUNS * TASKS:,} workers",
            f"<= {milliseconds(p99)}", f"the workers alone: <= {milliseconds(_quantile(alone, 0.99))}", None,
            f"< {milliseconds(LAG_MAX)}", p99 <= LAG_MAX,
            f"p50 <= {milliseconds(_quantile(loaded, 0.5))}; {loaded[-1][1]:.0f} samples, by the buckets' bounds",
        ),
        Result(
            f"answers of {READERS} readers, one after the other", f"{read['answers'] / SECONDS:,.0f} a second", "",
            None, "", None,
            f"p50 {milliseconds(read['p50'])}, p99 {milliseconds(read['p99'])}; {read['bytes']:,} bytes each; "
            f"{read['failures']} failed; {heard['scrapes']} scrapes, p99 {milliseconds(heard['scrape_p99'])}",
        ),
        Result(
            f"events of {heard['expected']:,} to {STREAMS} streams", f"{heard['events']:,} received", "", None,
            "all, in order", missing == 0 and not heard["gaps"] and not read["failures"],
            f"{missing} missing, {heard['gaps']} out of order, {heard['ended']} streams ended early",
        ),
    ]  # fmt: skip


class _Child:
    """A process of this module. It prints "ready", and at its end an answer."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "bench.operate", *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def wait_ready(self) -> None:
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{self._process.args!r}: ended before it was ready")

    def answer(self) -> dict[str, Any]:
        """Wait for its answer."""
        told, _ = self._process.communicate(timeout=SECONDS + PATIENCE)
        answer: dict[str, Any] = json.loads(told.splitlines()[-1])
        return answer

    def __enter__(self) -> "_Child":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()


Lags = list[tuple[float, float]]


def _lags(port: int) -> Lags:
    """Read the histogram: (bound, samples at or below it), ascending."""
    text = _get(port, "/metrics?name[]=crewd_event_loop_lag_seconds").decode()
    return [(float(bound), float(count)) for bound, count in BUCKET.findall(text)]


def _minus(after: Lags, before: Lags) -> Lags:
    return [(bound, count - former) for (bound, count), (_, former) in zip(after, before, strict=True)]


def _quantile(lags: Lags, part: float) -> float:
    """Return the bound of the bucket that holds the nearest rank."""
    rank = max(1.0, part * lags[-1][1])
    return next(bound for bound, count in lags if count >= rank)


def _get(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("GET", path)
    try:
        return connection.getresponse().read()
    finally:
        connection.close()


# The processes.


def beat(root: Path) -> None:
    """Let workers beat for ever; every second one run ends and another begins."""
    runs = [_write_run(root, f"run-{number:05d}", 0, "running") for number in range(RUNS)]
    print("ready", flush=True)
    began, step, newest = time.monotonic(), 0, RUNS
    while True:
        step += 1
        _write_run(root, runs[step % RUNS], step, "running")
        if step % int(RUN_EVERY * RUNS / BEAT_EVERY) == 0:
            _write_run(root, runs[step % RUNS], step, "completed")
            runs[step % RUNS] = _write_run(root, f"run-{newest:05d}", step, "running")
            newest += 1
        time.sleep(max(0.0, began + step * BEAT_EVERY / RUNS - time.monotonic()))


def _write_run(root: Path, run: str, seq: int, status: str) -> str:
    """Let all workers of a run beat."""
    folder = root / run
    folder.mkdir(exist_ok=True)
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    for number in range(TASKS):
        path = folder / f"t{number}.json"
        record = {**WORKER, "run": run, "task": path.stem, "seq": seq, "at": at, "status": status}
        path.with_suffix(".tmp").write_text(json.dumps(record))
        path.with_suffix(".tmp").rename(path)
    return run


async def listen(port: int) -> dict[str, Any]:
    """Open the streams and scrape; compare what each heard with what the ledger has at the end."""
    heard: list[list[int]] = [[] for _ in range(STREAMS)]
    first = json.loads(_get(port, "/api/v1/events?newest=true&limit=1"))["next_after"]
    streams = [asyncio.create_task(_stream(port, first, each)) for each in heard]
    await asyncio.sleep(1)
    print("ready", flush=True)
    scrapes = await _scrape(port)
    last = json.loads(await asyncio.to_thread(_get, port, "/api/v1/events?newest=true&limit=1"))["next_after"]
    ends = time.monotonic() + PATIENCE
    while any(not each or each[-1] < last for each in heard) and time.monotonic() < ends:
        await asyncio.sleep(0.1)
    ended = sum(stream.done() for stream in streams)
    for stream in streams:
        stream.cancel()
    await asyncio.gather(*streams, return_exceptions=True)
    return {
        "expected": last - first,
        "events": sum(sum(seq <= last for seq in each) for each in heard),
        "gaps": sum(after != before + 1 for each in heard for before, after in pairwise([first, *each])),
        "ended": ended,
        "scrapes": len(scrapes),
        "scrape_p99": _rank(scrapes, 0.99),
    }


async def _stream(port: int, after: int, heard: list[int]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"GET /api/v1/events?after={after} HTTP/1.0\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n"
    writer.write(head.encode())
    await reader.readuntil(b"\r\n\r\n")
    seq = 0
    while line := await reader.readline():
        if line.startswith(b"id: "):
            seq = int(line[4:])
        elif line.startswith(b'data: {"v"'):
            heard.append(seq)


async def _scrape(port: int) -> list[float]:
    took: list[float] = []
    began = time.monotonic()
    while (due := began + len(took) / SCRAPES) < began + SECONDS:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        asked = time.perf_counter()
        await asyncio.to_thread(_get, port, "/metrics")
        took.append(time.perf_counter() - asked)
        if time.monotonic() > began + SECONDS:
            break
    return took


async def read(port: int) -> dict[str, Any]:
    """Ask with all readers, each again as soon as it has its answer."""
    took: list[float] = []
    sizes: set[int] = set()
    ends = time.monotonic() + SECONDS
    outcomes = await asyncio.gather(
        *(_reader(port, ends, took, sizes) for _ in range(READERS)), return_exceptions=True
    )
    failures = sum(outcome is not None for outcome in outcomes)
    return {
        "answers": len(took), "failures": failures, "bytes": max(sizes, default=0),
        "p50": _rank(took, 0.5), "p99": _rank(took, 0.99),
    }  # fmt: skip


async def _reader(port: int, ends: float, took: list[float], sizes: set[int]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
    while time.monotonic() < ends:
        asked = time.perf_counter()
        writer.write(b"GET /api/v1/runs HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head.partition(b"\r\n")[0]:
            raise RuntimeError(head.decode())
        size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(size)
        took.append(time.perf_counter() - asked)
        sizes.add(size)
    writer.close()


def _rank(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(part * len(values)))] if values else 0.0


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["beat", root]:
            beat(Path(root))
        case ["listen", port]:
            print(json.dumps(asyncio.run(listen(int(port)))))
        case ["read", port]:
            print(json.dumps(asyncio.run(read(int(port)))))
        case _:
            main(compare, __doc__)
