"""The story: which worker of the played crew does what, and when."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from crewd.demo.actors import Actor, Actors
from crewd.demo.clock import SuspendableClock
from crewd.demo.crew import Crew, CrewRun
from crewd.demo.records import Plan

ASLEEP = 3600.0  # seconds of the pretended suspend
RUNNER_EVERY = 15.0  # as pi-crew's background runner does


@dataclass(frozen=True)
class Script:
    """When things happen. All times are seconds from the beginning, before `stretch`."""

    stretch: float = 1.0  # how many times slower it all goes
    beat_every: float = 1.1  # never stretched: it is how often pi-crew writes
    hang_at: float = 3.0
    tool_at: float = 4.0
    tool_seconds: float = 36.0
    ask_at: float = 7.0
    answer_at: float = 48.0
    kill_at: float = 10.0
    flood_at: float = 14.0
    flood_bytes: int = 16 << 20
    explored_at: float = 18.0
    suspend_at: float | None = None  # never stretched

    def __post_init__(self) -> None:
        if self.stretch <= 0:
            raise ValueError(f"stretch must be above 0: got {self.stretch:g}; 1 is the normal pace")
        if not 0 <= self.flood_bytes <= 20 << 20:
            raise ValueError(f"flood_bytes must lie between 0 and 20 MiB: got {self.flood_bytes}")


class Play:
    """Three runs, eight processes at a time or so, and what befalls them. `tell` hears the stage directions."""

    def __init__(
        self, crew: Crew, actors: Actors, clock: SuspendableClock, script: Script, tell: Callable[[str], None]
    ) -> None:
        self._crew = crew
        self._actors = actors
        self._clock = clock
        self._script = script
        self._tell = tell

    async def run(self) -> None:
        """Play until cancelled."""
        async with asyncio.TaskGroup() as scenes:
            scenes.create_task(self._login_test(), name="run with healthy workers and a flood")
            scenes.create_task(self._docs(), name="run with a tool, a hang, a question")
            scenes.create_task(self._nightly(), name="run that is killed")
            if self._script.suspend_at is not None:
                scenes.create_task(self._suspend(self._script.suspend_at), name="pretended suspend")

    async def _login_test(self) -> None:
        plans = (Plan("explore", "explorer"), Plan("execute", "executor", ("explore",)), Plan("scan", "analyst"))
        run, runner = self._begin("login-test", "Fix the flaky login test", plans, "fast-fix")
        async with asyncio.TaskGroup() as scenes:
            scenes.create_task(self._beat_runner(run, runner))
            scenes.create_task(self._flood(run, runner, "03_scan"))
            scenes.create_task(self._work_in_turn(run, runner, "01_explore", "02_execute"))

    async def _docs(self) -> None:
        plans = (
            Plan("build", "builder"),
            Plan("write", "writer"),
            Plan("review", "reviewer"),
            Plan("index", "indexer"),
        )
        run, runner = self._begin("docs", "Rebuild the documentation site", plans, "docs")
        async with asyncio.TaskGroup() as scenes:
            scenes.create_task(self._beat_runner(run, runner))
            scenes.create_task(self._long_tool(run, runner, "01_build"))
            scenes.create_task(self._hang(run, runner, "02_write"))
            scenes.create_task(self._question(run, runner, "03_review"))
            scenes.create_task(self._work(run, self._spawn(run, runner, "04_index"), "04_index"))

    async def _nightly(self) -> None:
        """Kill a worker together with its runner, as a kernel short of memory does: nobody writes it down."""
        run, runner = self._begin("nightly", "Migrate the nightly jobs", (Plan("migrate", "executor"),), "nightly")
        worker = self._spawn(run, runner, "01_migrate")
        await self._work(run, worker, "01_migrate", self._script.kill_at * self._script.stretch)
        runner.kill()
        worker.kill()
        self._tell(
            f"kill -9 of {_name(run, '01_migrate')} (pid {worker.pid}) and of its runner; its files still say running"
        )

    async def _work_in_turn(self, run: CrewRun, runner: Actor, first: str, second: str) -> None:
        worker = self._spawn(run, runner, first)
        await self._work(run, worker, first, self._script.explored_at * self._script.stretch)
        run.finish(first)
        worker.end()
        await self._work(run, self._spawn(run, runner, second), second)

    async def _long_tool(self, run: CrewRun, runner: Actor, task_id: str) -> None:
        script = self._script
        worker = self._spawn(run, runner, task_id)
        await self._work(run, worker, task_id, script.tool_at * script.stretch)
        seconds = script.tool_seconds * script.stretch
        run.enter_tool(task_id, "bash")
        worker.run_tool(seconds)
        self._tell(f"{_name(run, task_id)} runs one command for {seconds:.0f} s and writes nothing meanwhile")
        await asyncio.sleep(seconds + 1)
        self._tell(f"{_name(run, task_id)}: the command is done")
        await self._work(run, worker, task_id)

    async def _hang(self, run: CrewRun, runner: Actor, task_id: str) -> None:
        worker = self._spawn(run, runner, task_id)
        await self._work(run, worker, task_id, self._script.hang_at * self._script.stretch)
        self._tell(f"{_name(run, task_id)} hangs: its process lives and does nothing any more")

    async def _question(self, run: CrewRun, runner: Actor, task_id: str) -> None:
        script = self._script
        worker = self._spawn(run, runner, task_id)
        await self._work(run, worker, task_id, script.ask_at * script.stretch)
        run.ask(task_id, ("merge", "wait"))
        self._tell(f"{_name(run, task_id)} asks a human and waits")
        await asyncio.sleep((script.answer_at - script.ask_at) * script.stretch)
        run.answer(task_id)
        self._tell(f"{_name(run, task_id)}: the human has answered")
        await self._work(run, worker, task_id)

    async def _flood(self, run: CrewRun, runner: Actor, task_id: str) -> None:
        script = self._script
        worker = self._spawn(run, runner, task_id)
        await self._work(run, worker, task_id, script.flood_at * script.stretch)
        self._tell(f"{_name(run, task_id)} floods its event log with {script.flood_bytes >> 20} MiB")
        written = 0
        while written < script.flood_bytes:
            written += run.flood(task_id, lines=500)
            await asyncio.sleep(0.1)
        await self._work(run, worker, task_id)

    async def _suspend(self, at: float) -> None:
        await asyncio.sleep(at)
        self._clock.suspend(ASLEEP)
        self._tell(f"the laptop slept for an hour (pretended): every heartbeat on disk is {ASLEEP:.0f} s old now")

    async def _work(self, run: CrewRun, worker: Actor, task_id: str, seconds: float = float("inf")) -> None:
        """Let a worker do one short tool call after another for so long."""
        done = 0.0
        while done < seconds and worker.alive:
            pause = min(self._script.beat_every, seconds - done)
            await asyncio.sleep(pause)
            done += pause
            tool = ("read", "grep", "edit", "bash")[int(done) % 4]
            run.beat(task_id, tool, f"{tool}: step {int(done)}")

    async def _beat_runner(self, run: CrewRun, runner: Actor) -> None:
        while True:
            await asyncio.sleep(RUNNER_EVERY)
            run.runner_beats(runner.pid)

    def _begin(self, name: str, goal: str, plans: tuple[Plan, ...], team: str) -> tuple[CrewRun, Actor]:
        run = self._crew.new_run(name, goal, plans, team)
        runner = self._actors.runner(run)
        run.begin(runner.pid)
        return run, runner

    def _spawn(self, run: CrewRun, runner: Actor, task_id: str) -> Actor:
        worker = self._actors.worker(run, task_id, runner)
        run.spawn(task_id, worker.pid)
        return worker


def _name(run: CrewRun, task_id: str) -> str:
    return f"{run.run_id[-6:]}/{task_id}"
