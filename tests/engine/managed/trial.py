"""A trial: hostile workers in one workshop, all at once, and what an onlooker outside of crewd sees of each."""

import asyncio
import contextlib
import gc
import os
import re
import resource
import signal
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import structlog

from crewd.engine.managed import output
from crewd.host.proc_stat import read_stat
from crewd.host.subreaper import children
from crewd.model.event import Event
from crewd.model.failure import ErrorClass
from crewd.model.look import DeadLetter
from crewd.model.managed import AttemptRecord, ManagedTask, name_of
from crewd.model.plan import TaskPlan
from crewd.telemetry.redact import Redactor
from tests.engine.managed.workshop import Workshop, opened

TICK = 0.005  # seconds between two beats of the event loop
# What the loop may compute between two beats for one worker; beside each other, for all that begin or end just then.
# Whoever else wants the processors hardly changes that.
BUSY_MAX = 0.05
BUSY_MAX_BESIDE = 0.1
# What may pass between two beats without the time that the kernel let threads of ours wait for a processor. 50 ms are
# promised; the rest is for what cannot be told apart on a machine with other work to do.
LAG_MAX = 0.5  # other tests run beside this one, and wait for the same disk
TRIM_EVERY = 0.05  # the daemon looks every two seconds; here nobody runs for so long
TASK = "t"
OK = ""  # the class of an attempt that succeeded

Check = Callable[["Seen"], None]
Meanwhile = Callable[[Workshop, str], Awaitable[None]]


@dataclass(frozen=True, eq=False)
class Case:
    """One hostile worker, and how it has to end. `what` goes on from "a worker that"."""

    what: str
    plan: TaskPlan = field(repr=False)  # without a cwd of its own it works in a fresh folder
    classes: tuple[ErrorClass | str, ...]  # of its attempts, oldest first
    code: str | None = None  # the finer word of its last attempt; None: any
    also: tuple[Check, ...] = ()
    meanwhile: Meanwhile | None = None  # what is done to it
    state: str = ""  # "": completed or dead_lettered, as the last attempt has it
    within: float = 20.0  # seconds; the bound of what must be quick is in `also`

    @property
    def run_id(self) -> str:
        # What another trial may have left behind must not be taken for this one's.
        return f"{re.sub(r'[^a-zA-Z0-9]+', '-', self.what)[:100]}-{os.getpid()}"

    @property
    def state_due(self) -> str:
        return self.state or ("completed" if self.classes[-1] == OK else "dead_lettered")


@dataclass(frozen=True, eq=False)
class Seen:
    """What was seen of one worker once its run had ended."""

    case: Case
    task: ManagedTask
    events: Sequence[Event]
    letter: DeadLetter | None
    work: Path  # its working folder
    left: Sequence[str]  # what lives of it, however it hid

    @property
    def last(self) -> AttemptRecord:
        return self.task.attempts[-1]

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(str(each.error_class) if each.error_class else OK for each in self.task.attempts)

    @property
    def state(self) -> str:
        return name_of(self.task.state)

    def told(self, type: str) -> list[Event]:
        return [event for event in self.events if event.type == type]


@dataclass
class Pulse:
    """How long the event loop was away, at worst. Seconds."""

    wall: float = 0.0  # all of it
    lag: float = 0.0  # without the time that it, or who held the interpreter, waited for a processor
    busy: float = 0.0  # computing

    async def beat(self) -> None:
        while True:
            began, starved, computed = time.perf_counter(), _starved(), time.thread_time()
            await asyncio.sleep(TICK)
            away = time.perf_counter() - began - TICK
            self.wall = max(self.wall, away)
            waited = max(after - starved.get(thread, 0) for thread, after in _starved().items()) / 1e9
            self.lag = max(self.lag, away - waited)
            self.busy = max(self.busy, time.thread_time() - computed)

    def __str__(self) -> str:
        figures = ", ".join(f"{name} {value * 1000:.0f} ms" for name, value in vars(self).items())
        return f"the loop was away for at worst: {figures}"


@dataclass
class Trial:
    """What is known after all workers of a trial have ended."""

    seen: dict[str, Seen] = field(default_factory=dict, repr=False)  # by Case.what
    pulse: Pulse = field(default_factory=Pulse)
    grown: int = 0  # bytes that this process grew by, at its peak
    seconds: float = 0.0
    violated: list[str] = field(default_factory=list)
    unsettled: list[str] = field(default_factory=list)  # runs that never ended
    strangers: list[str] = field(default_factory=list)  # children of this process that were not there before
    defects: list[str] = field(default_factory=list)  # what crewd itself logged as an error
    descriptors: list[str] = field(default_factory=list)  # the same of descriptors


def play(cases: Iterable[Case], state: Path) -> Trial:
    """Let these workers work beside each other, and watch."""
    children_before, open_before = set(children()), set(descriptors())
    trial = Trial()
    _forget_peak()
    before = _peak()
    began = time.monotonic()
    gc.collect()
    gc.freeze()  # to look through what the tests hold takes long, and is not crewd's doing
    with _errors_into(trial.defects):
        asyncio.run(_play(list(cases), state, trial))
    gc.unfreeze()
    trial.seconds = time.monotonic() - began
    trial.grown = _peak() - before
    trial.strangers = _end(lambda: set(children()) - children_before)
    trial.descriptors = [told for number, told in descriptors().items() if number not in open_before]
    return trial


def descriptors() -> dict[int, str]:
    """What this process has open."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one through which the folder is listed
            found[int(name)] = f"{name} -> {os.readlink(f'/proc/self/fd/{name}')}"
    return found


def _end(strangers: Callable[[], set[int]]) -> list[str]:
    """End whom crewd left to us, and tell who that was: what hangs below them becomes ours as well."""
    found = []
    while pids := strangers():
        for pid in pids:
            found.append(_portrait(pid))
            os.kill(pid, signal.SIGKILL)  # our own child, dead or alive, until it is waited for
            os.waitpid(pid, 0)
    return found


async def _play(cases: list[Case], state: Path, trial: Trial) -> None:
    secrets = state / "credentials"
    secrets.mkdir(parents=True)
    (secrets / "password").write_text("swordfish-of-the-seas\n")
    async with (
        opened(state / "s", max_parallel=16, retries_per_hour=0, secrets_folder=str(secrets)) as workshop,
        _beside(trial.pulse.beat()),
        _beside(_trim(workshop)),
    ):
        redactor = Redactor()
        workshop.conductor.redact, workshop.conductor.learn = redactor.text, redactor.learn
        async with asyncio.TaskGroup() as trying:
            for case in cases:
                work = state / "work" / case.run_id
                await _submit(case, workshop, work)
                trying.create_task(_watch(case, workshop, work, trial), name=case.what)
        trial.violated = list(workshop.violated)


async def _submit(case: Case, workshop: Workshop, work: Path) -> None:
    work.mkdir(parents=True)
    plan = case.plan
    plan = msgspec.structs.replace(
        plan, task_id=TASK, cwd=str(work) if plan.cwd == "/" else plan.cwd, provider=plan.provider or case.run_id
    )
    await workshop.submit(case.run_id, plan)


async def _watch(case: Case, workshop: Workshop, work: Path, trial: Trial) -> None:
    try:
        async with asyncio.timeout(case.within * 4):  # they share the machine, and wait for each other's slots
            if case.meanwhile is not None:
                await case.meanwhile(workshop, case.run_id)
            await workshop.ended(case.run_id)
    except TimeoutError:
        trial.unsettled.append(f"{case.what}: {workshop.state_of(case.run_id, TASK)}")
    else:
        left = await asyncio.to_thread(_left, case.run_id, work)
        letters = [each for each in workshop.letters.open.values() if each.run_id == case.run_id]
        trial.seen[case.what] = Seen(
            case=case,
            task=workshop.task(case.run_id, TASK),
            events=[event for event in workshop.events if event.run_id == case.run_id],
            letter=letters[0] if letters else None,
            work=work,
            left=left,
        )


def _left(run_id: str, work: Path) -> list[str]:
    """Who carries the mark of an attempt of this run, works in its folder, or stands in the file `pids`."""
    return [_portrait(pid) for pid in _pids() if _lives(pid) and _belongs(pid, run_id, work)]


def _belongs(pid: int, run_id: str, work: Path) -> bool:
    pids = work / "pids"
    with contextlib.suppress(OSError):
        # A number is given anew soon enough; whoever was born after it was written is somebody else.
        if str(pid) in pids.read_text().split() and _age(pid) > time.time() - pids.stat().st_mtime - 0.1:
            return True
    with contextlib.suppress(OSError):
        if f"CREWD_ATTEMPT={run_id}/".encode() in Path(f"/proc/{pid}/environ").read_bytes():
            return True
        return os.readlink(f"/proc/{pid}/cwd").startswith(str(work))
    return False


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _lives(pid: int) -> bool:
    found = read_stat("/proc", pid)
    return found is not None and not found.is_over


def _age(pid: int) -> float:
    """Seconds since a process was born."""
    found = read_stat("/proc", pid)
    born = found.start_ticks / os.sysconf("SC_CLK_TCK") if found is not None else float("inf")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - born


def _portrait(pid: int) -> str:
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return f"{pid} {Path(f'/proc/{pid}/stat').read_text().split(')')[1][1]} {words[:200]}"
    return str(pid)


@contextlib.asynccontextmanager
async def _beside(work: Any) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.contextmanager
def _errors_into(found: list[str]) -> Iterator[None]:
    """Keep what is logged as an error, with where it came from, and let nothing be printed."""

    def keep(_: Any, method: str, entry: MutableMapping[str, Any]) -> Any:
        if method in ("error", "critical", "exception"):
            found.append(f"{entry} {traceback.format_exc(-3) if entry.get('exc_info') else ''}"[:2000])
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[keep])
    try:
        yield
    finally:
        structlog.configure(**before)


async def _trim(workshop: Workshop) -> None:
    while True:
        await asyncio.to_thread(output.trim, list(workshop.conductor.attempts.values()))
        await asyncio.sleep(TRIM_EVERY)


def _starved() -> dict[str, int]:
    """Nanoseconds that each thread of ours was ready to run, and had no processor (sched-stats, run_delay)."""
    waited = {}
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):
            waited[thread] = int(Path(f"/proc/self/task/{thread}/schedstat").read_text().split()[1])
    return waited


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")  # proc_pid_clear_refs(5): VmHWM begins anew


def _peak() -> int:
    """The most memory that this process held since its peak was forgotten."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
