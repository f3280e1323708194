"""Genuine runs of agents, judged by the whole patrol at the times at which they wrote: right at every moment.

What an open tool and a wait look like in each program's lines is read here as simply as it goes: the readers have
tests of their own. Processes below the agent, their CPU time and connections are those of the snapshots of /proc.
"""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from crewd.engine.lookout import Lookout
from crewd.engine.patrol import Patrol
from crewd.engine.witness import Witness
from crewd.model.process import Identity
from crewd.model.run import Expectation, Run, RunStatus, Task, TaskStatus, Waiting
from crewd.model.verdict import Level, Reason, Wedge
from crewd.sources.managed.source import ManagedSource, View, Watched
from tests.engine.stage import MemoryLedger
from tests.fakes.clock import FakeClock
from tests.fakes.processes import FakeProcesses
from tests.genuine_agents import CORPUS

CASES = sorted(f"{each.parent.name}/{each.name}" for each in CORPUS.glob("*/*") if each.is_dir())
# Whose model was silent for 240 s. gemini tells each of its tries while no headers come: that is life.
HANGS = {
    "claude/hang", "claude/hdr_hang", "codex/hang", "codex/hdr_hang", "gemini/hang", "pi/hang", "pi/hdr_hang",
}  # fmt: skip
WARN_AFTER, HANG_AFTER, INTERVAL = 60.0, 240.0, 5.0
PATIENCE = 2 * INTERVAL  # a level gets worse in the third round in a row that says so
PID = 700


@dataclass(frozen=True)
class Line:
    """One line, and what was true from then on."""

    at: float
    tools: tuple[tuple[str, str], ...]  # id, name
    wait: float = 0.0  # seconds for which it said that it would wait


@dataclass(frozen=True)
class Looked:
    """What /proc showed at one moment."""

    at: float
    below: tuple[str, ...]
    cpu_ticks: int
    sockets: int


@dataclass(frozen=True)
class Story:
    """One genuine run."""

    lines: tuple[Line, ...]
    looks: tuple[Looked, ...]
    seconds: float

    def latest(self, now: float) -> Line:
        return next((line for line in reversed(self.lines) if line.at <= now), Line(0.0, ()))

    def below(self, now: float) -> tuple[str, ...]:
        """What ran below it: as long as the tool in which it was seen was open."""
        tools = self.latest(now).tools
        return next((look.below for look in self.looks if tools and self.latest(look.at).tools == tools), ())

    def cpu_ticks(self, now: float) -> int:
        before, after = Looked(0.0, (), 0, 0), None
        for look in self.looks:
            if look.at > now:
                after = look
                break
            before = look
        if after is None:
            return before.cpu_ticks
        part = (now - before.at) / (after.at - before.at)
        return round(before.cpu_ticks + part * (after.cpu_ticks - before.cpu_ticks))

    def sockets(self, now: float) -> int:
        return next((look.sockets for look in reversed(self.looks) if look.at <= now), 0)


def story(case: str) -> Story:
    folder = CORPUS / case
    spoken = sorted([*_stdout(folder), *_stderr(folder)], key=lambda line: line[0])
    tools: dict[str, str] = {}
    lines = []
    for at, event in spoken:
        for opened, name in _opened(event):
            tools[opened] = name
        for closed in _closed(event):
            tools.pop(closed, None)
        lines.append(Line(at, tuple(tools.items()), event.get("retry_delay_ms", 0) / 1000))
    looks = [_looked(each) for each in json.loads((folder / "proc.json").read_text())]
    return Story(tuple(lines), tuple(looks), json.loads((folder / "exit.json").read_text())["seconds"])


def _stdout(folder: Path) -> Iterator[tuple[float, dict[str, Any]]]:
    times = [float(row.split("\t")[1]) for row in (folder / "timing.tsv").read_text().splitlines()]
    lines = (folder / "stdout.jsonl").read_text().splitlines()
    assert len(times) == len(lines)
    yield from zip(times, map(json.loads, lines), strict=True)


def _stderr(folder: Path) -> Iterator[tuple[float, dict[str, Any]]]:
    for row in (folder / "stderr_timing.tsv").read_text().splitlines():
        yield float(row.split("\t")[1]), {}


def _content(event: dict[str, Any], kind: str) -> Iterator[dict[str, Any]]:
    content = event["message"].get("content", []) if isinstance(event.get("message"), dict) else []
    yield from (part for part in content if isinstance(part, dict) and part.get("type") == kind)


def _opened(event: dict[str, Any]) -> Iterator[tuple[str, str]]:
    match event:
        case {"type": "assistant"}:
            yield from ((part["id"], part["name"]) for part in _content(event, "tool_use"))
        case {"type": "item.started", "item": {"id": str(id), "type": "command_execution"}}:
            yield id, "command_execution"
        case {"type": "tool_use", "tool_id": str(id), "tool_name": str(name)}:
            yield id, name
        case {"type": "tool_execution_start", "toolCallId": str(id), "toolName": str(name)}:
            yield id, name


def _closed(event: dict[str, Any]) -> Iterator[str]:
    match event:
        case {"type": "user"}:
            yield from (part["tool_use_id"] for part in _content(event, "tool_result"))
        case {"type": "item.completed", "item": {"id": str(id)}}:
            yield id
        case {"type": "tool_result", "tool_id": str(id)} | {"type": "tool_execution_end", "toolCallId": str(id)}:
            yield id


def _looked(seen: dict[str, Any]) -> Looked:
    agent, *below = seen["procs"]
    return Looked(
        seen["t"],
        tuple(Path(each["cmd"].split()[0]).name for each in below),
        agent["utime_ticks"] + agent["stime_ticks"],
        seen.get("established") or 0,
    )


@dataclass(frozen=True)
class Judged:
    """What the patrol made of one moment."""

    at: float
    line: Line
    waits: bool
    below: tuple[str, ...]
    silence: float
    said: tuple[Level, Reason]
    stands: tuple[Level, Reason]
    wedge: Wedge | None


def judged(told: Story, phase: float, folder: Path) -> list[Judged]:
    """Patrol over one run from `phase` seconds after its start until it ends."""
    clock = FakeClock()
    processes = FakeProcesses(clock)
    shim = processes.add(PID)
    source = ManagedSource(str(folder), proc=str(folder / "proc"))  # nothing below the shim: it is the agent itself

    async def play() -> list[Judged]:
        patrol = Patrol(
            clock=clock,
            lookout=Lookout(lambda before: [source], 30.0, lambda path: 1 << 30),
            witness=Witness(processes, "here", lambda: None),
            ledger=MemoryLedger(),
            listeners=(),
        )
        patrol.pace.hold = type(patrol.pace.hold)()  # this crewd has been up for long
        seen = []
        try:
            now = phase
            clock.advance(phase)
            while now < told.seconds:
                seen.append(await _round(patrol, source, told, now, shim, processes))
                clock.advance(INTERVAL)
                now += INTERVAL
        finally:
            patrol.witness.close()
            patrol.lookout.close()
            processes.close()
        return seen

    return asyncio.run(play())


async def _round(
    patrol: Patrol, source: ManagedSource, told: Story, now: float, shim: Identity, processes: FakeProcesses
) -> Judged:
    line = told.latest(now)
    waits = line.at + line.wait > now
    process = processes.process(PID)
    process.tools, process.sockets = told.below(now), told.sockets(now)
    process.cpu_ticks = told.cpu_ticks(now)
    watched = Watched(
        task_id="t",
        folder=source.folder,
        shim=shim,
        output_counts=False,
        said=(sum(each.at <= now for each in told.lines),),
        tool=line.tools[-1][1] if line.tools else "",
        waiting=Waiting("throttled", detail=f"until {line.at + line.wait:.0f}") if waits else None,
        streams=True,
    )
    source.publish({"r": View(_run(), (watched,))})
    snapshot = await patrol.round()
    view = snapshot.runs["r"]
    worker = view.workers[0]
    return Judged(
        now,
        line,
        waits,
        process.tools,
        snapshot.silence(view, worker),
        (worker.verdict.level, worker.verdict.reason),
        (worker.standing.level, worker.standing.reason),
        worker.standing.wedge,
    )


def _run() -> Run:
    expected = Expectation(warn_after=WARN_AFTER, stale_after=HANG_AFTER)
    task = Task("t", TaskStatus.RUNNING, "running", expectation=expected)
    return Run("r", "managed", "shop", RunStatus.RUNNING, "running", "", (task,))


@pytest.mark.parametrize("case", CASES)
def test_the_verdict_is_right_at_every_moment(case: str, tmp_path: Path) -> None:
    told = story(case)
    hung = set()
    for phase in (0.1, 1.8, 3.4):
        for each in judged(told, phase, tmp_path):
            _check(each)
            hung.add(each.wedge is Wedge.API_STREAM_HANG)
    assert (True in hung) == (case in HANGS)


def _check(each: Judged) -> None:
    level = each.said[0]
    assert Level.DEAD not in (level, each.stands[0]), each
    if each.waits:
        assert each.said == each.stands == (Level.WAITING, Reason.THROTTLED), each
        return
    assert each.silence <= each.at - each.line.at + INTERVAL, each  # a wait, and what lay before it, never counts
    if each.below:
        assert level is Level.HEALTHY and each.stands[0] is Level.HEALTHY, each
        return
    if abs(each.silence - HANG_AFTER) < 0.001:
        return  # two sums of the same seconds differ in their last digits: either word is right
    if each.silence < HANG_AFTER:
        assert level is not Level.STALE and each.stands[0] is not Level.STALE, each
        assert each.wedge is None, each
        return
    assert each.said == (Level.STALE, Reason.SILENT), each
    if each.silence >= HANG_AFTER + PATIENCE:
        assert each.stands == (Level.STALE, Reason.SILENT), each
        assert each.wedge is Wedge.API_STREAM_HANG, each


def test_the_runs_in_which_it_matters_are_there() -> None:
    assert set(CASES) >= HANGS | {"claude/long", "codex/long", "gemini/long", "pi/long", "claude/slow", "claude/429"}
