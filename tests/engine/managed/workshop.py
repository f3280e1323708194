"""A workshop: the whole second ring over a real ledger and real processes, without the daemon around it."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from crewd.config.run_file import TaskDefaults
from crewd.engine.managed import recovery, transitions
from crewd.engine.managed.actions import TaskActions
from crewd.engine.managed.board import Board
from crewd.engine.managed.circuits import Circuits
from crewd.engine.managed.conduct import Conductor
from crewd.engine.managed.dead_letters import DeadLetters, Loaded
from crewd.engine.managed.hands import SystemHands
from crewd.engine.managed.options import TaskOptions
from crewd.engine.managed.purse import Purse
from crewd.engine.managed.register import Register
from crewd.engine.managed.scheduler import Scheduler
from crewd.host import attempt_folder
from crewd.host.chance import mint_run_id
from crewd.host.clock import SystemClock
from crewd.host.processes import ProcProcesses
from crewd.host.subreaper import become_subreaper
from crewd.ledger.batch import Batch
from crewd.ledger.ledger import Ledger
from crewd.ledger.reader import Reader
from crewd.ledger.work import LedgerWork
from crewd.model.event import Event
from crewd.model.managed import ManagedRun, ManagedTask, name_of
from crewd.model.plan import Mode, RetryPolicy, RunPlan, StopPlan, StopStep, TaskPlan
from crewd.model.run import RUN_ENDED, RunStatus

PATIENCE = 30.0
AT_ONCE = RetryPolicy(base=0.05, cap=0.1)
QUICK_STOP = StopPlan(grace=0.5, steps=(StopStep("TERM", 0.5),), drain=0.5)


def task(task_id: str, *command: str, cwd: str = "/", **more: Any) -> TaskPlan:
    """A task that retries at once and is stopped quickly."""
    more = {"retry": AT_ONCE, "stop": QUICK_STOP, **more}
    return TaskPlan(task_id=task_id, command=command, cwd=cwd, **more)


def shell(task_id: str, script: str, **more: Any) -> TaskPlan:
    return task(task_id, "/bin/sh", "-c", script, **more)


def python(task_id: str, script: str, **more: Any) -> TaskPlan:
    return task(task_id, sys.executable, "-c", script, **more)


def protocol(task_id: str, script: str, **more: Any) -> TaskPlan:
    return python(task_id, script, mode=Mode.PROTOCOL, **more)


class Workshop:
    """One crewd's second ring, from `opened` to the end of the block."""

    def __init__(self, state: Path, **options: Any) -> None:
        self.state = state
        clock = options.pop("clock", None) or SystemClock()
        self.ledger = Ledger.open(state, clock)
        self.events: list[Event] = []
        self.violated: list[str] = []
        more = {"poll_seconds": 0.05, "start_rate": 0.0, "env_pass": ("PATH",), **options}
        self.options = TaskOptions(folder=f"{state}/runs", **more)
        attempt_folder.make_root(self.options.folder)
        board = Board()
        register = Register(board, self.ledger, LedgerWork(self.ledger), self._heard, self.violated.append)
        circuits = Circuits(self.options.circuits)
        self.letters = DeadLetters(self._load, redrive_rate=100.0)
        become_subreaper()
        self.purse = Purse(board, clock, lambda: self.options)
        self.conductor = Conductor(
            board=board,
            register=register,
            hands=SystemHands(ProcProcesses(clock)),
            clock=clock,
            circuits=circuits,
            options=self.options,
            environ=os.environ,
            roll=lambda: 0.5,
            paroled=self.letters.paroled.__contains__,
            settled=self.letters.add,
            alarms=self.purse.alarms,
            refuses=self.purse.refuses,
        )
        self.scheduler = Scheduler(
            board, register, self.conductor, circuits, clock, self.options, shut=self.purse.closed
        )
        self.board = board
        self.history = Reader.open(state)
        self.handed_over = False
        self.actions = TaskActions(
            scheduler=self.scheduler,
            letters_open=self.letters,
            executors={},
            defaults=TaskDefaults(),
            mint=lambda name: mint_run_id(name, clock.read().wall),
            on_handover=self._hand_over,
            history=self.history,
        )
        self._running: asyncio.Task[None] | None = None

    def _heard(self, events: Sequence[Event]) -> None:
        self.events.extend(events)
        self.purse.hear(events)

    async def open(self) -> None:
        """Account for a predecessor, and begin."""
        memory = self.ledger.recall()
        self.letters.recall(memory.managed_letters)
        recovery.recall(self.scheduler, memory)
        self.accounts = await recovery.account(self.scheduler)
        self._running = asyncio.create_task(self.scheduler.run())

    async def close(self) -> None:
        """End as a crash does: workers go on."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])
        self.history.close()
        await self.ledger.close()

    async def submit(self, run_id: str, *tasks: TaskPlan, key: str = "", **more: Any) -> ManagedRun:
        plan = RunPlan(run_id=run_id, crew="shop", tasks=tasks, **more)
        at = self.scheduler.clock.read().wall
        run = ManagedRun(plan, RunStatus.QUEUED, at, key)
        changes = [transitions.queued(run, each, at) for each in tasks]
        events = tuple(event for _, told in changes for event in told)
        await self.scheduler.register.admit(
            run, Batch(events=events, managed=(run,), tasks=tuple(each for each, _ in changes))
        )
        return run

    async def ended(self, run_id: str) -> ManagedRun:
        """Wait until a run has ended."""
        await self.until(lambda: self.board.runs[run_id].run.status in RUN_ENDED)
        return self.board.runs[run_id].run

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.01)

    def task(self, run_id: str, task_id: str) -> ManagedTask:
        return self.board.runs[run_id].tasks[task_id]

    def state_of(self, run_id: str, task_id: str) -> str:
        return name_of(self.task(run_id, task_id).state)

    def states(self, run_id: str) -> dict[str, str]:
        return {name: name_of(each.state) for name, each in self.board.runs[run_id].tasks.items()}

    def classes(self, run_id: str, task_id: str) -> list[str]:
        return [str(each.error_class) if each.error_class else "" for each in self.task(run_id, task_id).attempts]

    def told(self, type: str) -> list[Event]:
        return [event for event in self.events if event.type == type]

    async def _load(self, run_id: str) -> Loaded | None:
        run = await asyncio.to_thread(self.history.managed, run_id)
        if run is None:
            return None
        return run, {task.task_id: task for task in self.history.managed_tasks(run_id)}

    def _hand_over(self) -> None:
        self.handed_over = True


@contextlib.asynccontextmanager
async def opened(state: Path, **options: Any) -> AsyncIterator[Workshop]:
    """A workshop that accounts for its predecessor, and is closed as by a crash."""
    workshop = Workshop(state, **options)
    try:
        await workshop.open()
        yield workshop
    finally:
        await workshop.close()


def marked(mark: str) -> list[int]:
    """Pids of living processes that carry the mark of an attempt, seen from outside of crewd.

    Runs of other tests, which go on beside this one, have the same names: theirs lie in the folder of another worker.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                environ = Path(f"/proc/{name}/environ").read_bytes().split(b"\0")
                folder = next((each for each in environ if each.startswith(b"CREWD_ATTEMPT_DIR=")), b"")
                if f"CREWD_ATTEMPT={mark}".encode() in environ and f"{worker}/".encode() in folder:
                    found.append(int(name))
    return found


def types_of(events: Iterable[Event], run_id: str) -> list[str]:
    return [event.type for event in events if event.run_id == run_id]


def as_json(value: Any) -> Any:
    return msgspec.to_builtins(value)


__all__: Sequence[str] = ("Workshop", "marked", "opened", "protocol", "python", "shell", "task", "types_of")
