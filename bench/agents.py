"""What understanding agents costs: their lines against bare JSON, a working tree against lstat, eight at once."""

import asyncio
import json
import os
import random
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from bench.crews import MEMORY
from bench.result import Result, main
from bench.timing import interleaved, milliseconds
from crewd.demo.agent_cases import load
from crewd.engine.managed.attempt import Attempt
from crewd.engine.managed.listening import READ_MAX, Listening
from crewd.engine.managed.places import Opening
from crewd.host import tree
from crewd.host.attempt_folder import STDERR, STDOUT
from crewd.host.clock import SystemClock
from crewd.host.tails import Follow
from crewd.model.managed import ManagedRun
from crewd.model.plan import RunPlan, TaskPlan
from crewd.model.run import RunStatus
from crewd.model.work import Lease
from crewd.policy.profiles import PROFILES
from crewd.sources.agents.story import Story

TURNS = 5
SHORT_BYTES, LARGE_BYTES = 4 << 20, 32 << 20  # of lines to understand, of each kind and program
LARGE_LINE = 1 << 16
FILES, FILES_IN_FOLDER = 10_000, 50
AGENTS, FLOOD_BYTES = 8, 8 << 20  # of each
SHORT_MAX, LARGE_MAX, TREE_MAX = 6.0, 2.0, 2.0
# A line of each program that repeats while its model writes (codex tells whole messages only), and one that carries
# what a tool printed: the case, what stands in the line, and the field that is filled.
SHORT = {
    "claude": ("claude/ok_partial", '"text_delta"'),
    "codex": ("codex/ok", '"agent_message"'),
    "gemini": ("gemini/ok", '"delta":true'),
    "pi": ("pi/ok", '"text_delta"'),
}
LARGE = {
    "claude": ("claude/ok_partial", '"type":"tool_result"', ("message", "content", 0, "content")),
    "codex": ("codex/ok", '"exit_code":0', ("item", "aggregated_output")),
    "gemini": ("gemini/ok", '"type":"tool_result"', ("output",)),
    "pi": ("pi/ok", '"tool_execution_end"', ("result", "content", 0, "text")),
}


def compare() -> list[Result]:
    """Measure one after the other; each against its floor, in turns."""
    results = []
    for cli in SHORT:
        results.append(_understood(cli, "pieces of text", _short_lines(cli), SHORT_MAX))
    for cli in LARGE:
        results.append(_understood(cli, "lines of 64 KiB", _large_lines(cli), LARGE_MAX))
    return [*results, _tree(), _floods()]


def _understood(cli: str, what: str, lines: Sequence[bytes], most: float) -> Result:
    """Hear lines as an attempt is heard, against decoding the same into Python's own objects."""
    profile = PROFILES[cli]

    def hear() -> None:
        story = Story(profile)
        for number, line in enumerate(lines):
            story.hear("stdout", line, number, number)
        assert story.view(0.0).beats > 0

    def decode() -> None:
        loads = msgspec.json.decode
        for line in lines:
            loads(line)

    seconds = interleaved(TURNS, clock=time.thread_time, hear=hear, decode=decode)
    size = sum(map(len, lines)) / 1e6
    ratio = seconds["hear"] / seconds["decode"]
    return Result(
        f"{cli}, {what}, understood", f"{size / seconds['hear']:.0f} MB/s",
        f"msgspec.json.decode: {size / seconds['decode']:.0f} MB/s", ratio, f"<= {most:g}x the time", ratio <= most,
        f"{len(lines) / seconds['hear']:,.0f} lines/s",
    )  # fmt: skip


def _tree() -> Result:
    """Digest a working tree, against naming its files and asking for each."""
    with TemporaryDirectory(prefix="crewd-bench-", dir=MEMORY if MEMORY.is_dir() else None) as name:
        for number in range(FILES // FILES_IN_FOLDER):
            folder = Path(name, f"part{number:03d}")
            folder.mkdir()
            for file in range(FILES_IN_FOLDER):
                (folder / f"file{file:02d}.py").write_bytes(b"x" * (number + file))

        def walk() -> None:
            for folder, _, files in os.walk(name):
                for file in files:
                    os.lstat(os.path.join(folder, file))

        assert tree.digest(name) == tree.digest(name) is not None
        seconds = interleaved(TURNS, digest=lambda: tree.digest(name), walk=walk)
    ratio = seconds["digest"] / seconds["walk"]
    return Result(
        f"digest of a working tree of {FILES:,} files", milliseconds(seconds["digest"]),
        f"os.walk and os.lstat: {milliseconds(seconds['walk'])}", ratio, f"<= {TREE_MAX:g}x", ratio <= TREE_MAX,
    )  # fmt: skip


def _floods() -> Result:
    """Listen to agents that wrote as much as they could, against reading their files and parting the lines."""
    lines = _short_lines("claude")
    text = b"".join(line + b"\n" for line in lines)
    text *= FLOOD_BYTES // len(text) + 1
    with TemporaryDirectory(prefix="crewd-bench-", dir=MEMORY if MEMORY.is_dir() else None) as name:
        for number in range(AGENTS):
            folder = Path(name, str(number))
            folder.mkdir()
            (folder / STDOUT).write_bytes(text)
            (folder / STDERR).write_bytes(b"")
        wanted = AGENTS * text.count(b"\n")
        heard: list[int] = []
        lags: list[float] = []
        seconds = interleaved(
            3,
            listen=lambda: _listen(name, heard, lags),
            follow=lambda: [_followed(f"{name}/{number}/{STDOUT}") for number in range(AGENTS)],
        )
    assert set(heard) == {wanted}, f"lines were lost: {heard} of {wanted}"
    size = AGENTS * len(text) / 1e6
    ratio = seconds["listen"] / seconds["follow"]
    return Result(
        f"{AGENTS} agents that flood, {size:.0f} MB, heard without loss", f"{size / seconds['listen']:.0f} MB/s",
        f"their files followed line by line: {size / seconds['follow']:.0f} MB/s", ratio, "", None,
        f"worst lag of the loop meanwhile {milliseconds(median(lags))}",
    )  # fmt: skip


def _listen(folder: str, heard: list[int], lags: list[float]) -> None:
    async def everyone() -> None:
        voices = [_listening(f"{folder}/{number}", number) for number in range(AGENTS)]
        for voice in voices:
            voice.open(True)
        lag = asyncio.create_task(_worst_lag())
        await asyncio.gather(*(voice.drain() for voice in voices))
        lag.cancel()
        lags.append(await lag)
        heard.append(sum(voice.view().lines for voice in voices))
        for voice in voices:
            voice.close()

    asyncio.run(everyone())


async def _worst_lag() -> float:
    loop, worst = asyncio.get_running_loop(), 0.0
    try:
        while True:
            before = loop.time()
            await asyncio.sleep(0)
            worst = max(worst, loop.time() - before)
    except asyncio.CancelledError:
        return worst


def _listening(folder: str, number: int) -> Listening:
    plan = TaskPlan(task_id=str(number), command=("claude",), cwd="/", profile="claude")
    run = ManagedRun(RunPlan(run_id="r", crew="bench", tasks=(plan,)), RunStatus.RUNNING, 0.0)
    attempt = Attempt(run, plan, Lease(plan.task_id, "bench", 1, None), 1, f"r/{number}/1", folder, folder=folder)

    async def nothing(*_: object) -> None:
        return None

    return Listening(
        attempt=attempt,
        profile=PROFILES["claude"],
        opening=Opening(),
        clock=SystemClock(),
        poll=0.25,
        environ={},
        redact=lambda text: text,
        alarms=lambda attempt, view: (),
        note=nothing,
        tell=nothing,
        note_iterations=nothing,
    )


def _followed(path: str) -> int:
    found, rest = 0, b""
    follow = Follow.open(path)
    try:
        while data := follow.read(READ_MAX):
            *lines, rest = (rest + data).split(b"\n")
            found += len(lines)
    finally:
        follow.close()
    return found


def _short_lines(cli: str) -> list[bytes]:
    """Recorded pieces of text, each with other words, until there are enough."""
    case, mark = SHORT[cli]
    line = next(line.text for line in load(case).lines if mark in line.text)
    chance = random.Random(cli)
    return [line.replace("Done", f"{chance.randrange(10**9):x}").encode() for _ in range(SHORT_BYTES // len(line))]


def _large_lines(cli: str) -> list[bytes]:
    """Recorded ends of tools, with 64 KiB of what a tool may print."""
    case, mark, path = LARGE[cli]
    event = json.loads(next(line.text for line in load(case).lines if mark in line.text))
    chance = random.Random(cli)
    words = [f'line {number}: {chance.randrange(10**12):x}\t"ok"' for number in range(2000)]
    _fill(event, path, "\n".join(words)[:LARGE_LINE])
    line = json.dumps(event, separators=(",", ":")).encode()
    return [line] * (LARGE_BYTES // len(line))


def _fill(event: Any, path: Sequence[str | int], text: str) -> None:
    *above, last = path
    for key in above:
        event = event[key]
    assert isinstance(event[last], str), f"{path} is no text in this event any more"
    event[last] = text


if __name__ == "__main__":
    main(compare, __doc__)
