"""The processes of a played crew: a runner for each run, a worker for each task, all ended by their own handles."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from crewd.demo.crew import CrewRun

STAND_IN = Path(__file__).with_name("stand_in.py")
SEARCH = "/usr/local/bin:/usr/bin:/bin"
PATIENCE = 2.0  # seconds for an actor to end by itself


class Actor:
    """One stand-in process, in a session of its own."""

    def __init__(self, arguments: tuple[str, ...] = (), environment: Mapping[str, str] | None = None) -> None:
        # Isolated and without site-packages: it starts in some 20 ms and sees nothing of crewd.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(STAND_IN), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": SEARCH, **(environment or {})},
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def run_tool(self, seconds: float) -> None:
        """Let it start a `sleep` of so many seconds below itself."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"tool {seconds:g}\n".encode())
        self._process.stdin.flush()

    def kill(self) -> None:
        """End it as `kill -9` does, and reap it."""
        self._process.kill()
        self._process.wait()
        self.release()

    def release(self) -> None:
        """Close its pipe: it ends by itself."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            return  # an order that it did not live to read

    def end(self) -> None:
        """Wait until it is gone, and make it so where it tarries."""
        self.release()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()


class Actors:
    """Everyone hired, let go together."""

    def __init__(self) -> None:
        self._all: list[Actor] = []

    def runner(self, run: CrewRun) -> Actor:
        """Hire a run's background runner: the run's id stands in its arguments."""
        return self._hire(Actor(("--cwd", str(run.manifest["cwd"]), "--run-id", run.run_id)))

    def worker(self, run: CrewRun, task_id: str, runner: Actor) -> Actor:
        """Hire a task's worker: run and task stand in its environment."""
        return self._hire(
            Actor(
                environment={
                    "PI_CREW_KIND": "subagent",
                    "PI_CREW_PARENT_PID": str(runner.pid),
                    "PI_CREW_STATE_ROOT": str(run.folder),
                    "PI_CREW_EVENTS_PATH": str(run.folder / "events.jsonl"),
                    "PI_CREW_TASK_ID": task_id,
                    "PI_CREW_ROLE": str(run.tasks[task_id]["role"]),
                    "PI_CREW_ATTEMPT": "1",
                    "PI_CREW_BROKER_RUN_ID": run.run_id,
                }
            )
        )

    def close(self) -> None:
        """Let everyone go, all at once, and wait until they are gone."""
        for actor in self._all:
            actor.release()
        for actor in self._all:
            actor.end()
        self._all.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _hire(self, actor: Actor) -> Actor:
        self._all.append(actor)
        return actor
