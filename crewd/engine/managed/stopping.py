"""Stopping: from "this attempt is over" to the proof that nothing of it is left.

Ask, send the signals of the plan one after the other, then SIGKILL to everything that is left, again and again until
nothing is. There is no way out of here without the proof: whoever waits for it waits.
"""

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from crewd.engine.managed.attempt import Attempt
from crewd.engine.managed.hands import Hands
from crewd.host.remains import Left
from crewd.model.plan import StopPlan

LOOK_EVERY = 0.05  # seconds between two looks at what is left, growing to
LOOK_EVERY_MAX = 0.5
KILL_PATIENCE = 10.0  # seconds of killing after which a person should know
log = structlog.get_logger("crewd.tasks")


@dataclass(frozen=True, slots=True)
class Stopping:
    """Ends attempts. `stuck` hears of those that do not end, and again with "" once they did."""

    hands: Hands
    now: Callable[[], float]  # monotonic
    stuck: Callable[[Attempt, str], None]

    async def is_gone(self, attempt: Attempt) -> bool:
        """Whether it ended and left nothing behind: one look."""
        return _ended(attempt) and not await self._left(attempt)

    async def settle(self, attempt: Attempt) -> None:
        """End what an attempt that ended by itself left behind."""
        if await self._wait(attempt, attempt.plan.stop.drain):
            return
        await self._signal(attempt, "TERM")
        if await self._wait(attempt, min(1.0, attempt.plan.stop.drain)):
            return
        await self._kill(attempt)

    async def stop(self, attempt: Attempt, ask: Callable[[], bool] | None) -> None:
        """End an attempt: `ask` sends the cancel message; False: nobody would hear it."""
        plan: StopPlan = attempt.plan.stop
        if ask is not None and ask() and await self._wait(attempt, plan.grace):
            return
        for step in plan.steps:
            await self._signal(attempt, step.signal)
            if await self._wait(attempt, step.wait):
                return
        await self._kill(attempt)

    async def _signal(self, attempt: Attempt, name: str) -> None:
        """To the attempt's own group, without the shim: tools in sessions of their own are their agent's to end."""
        identity = attempt.grip.identity if attempt.grip is not None else None
        left = await self._left(attempt)
        shim = identity.pid if identity is not None else 0
        meant = [each for each in left if each.group == shim and each.identity.pid != shim] or [
            each for each in left if each.identity.pid != shim
        ]
        self.hands.signal(meant, getattr(signal, f"SIG{name}"))
        # What was stopped could not hear it.
        self.hands.signal(meant, signal.SIGCONT)

    async def _kill(self, attempt: Attempt) -> None:
        began, told, pause = self.now(), False, LOOK_EVERY
        while True:
            left = await self.hands.kill(attempt.mark, attempt.grip)
            if not left and await self._wait(attempt, pause):
                break
            if not told and self.now() - began > KILL_PATIENCE:
                told = True
                names = ", ".join(f"{each.name} ({each.identity.pid}, {each.letter})" for each in left[:5])
                self.stuck(
                    attempt, f"SIGKILL did not end {names or 'its shim'}; until it ends, nothing takes its place"
                )
            await asyncio.sleep(pause)
            pause = min(LOOK_EVERY_MAX, pause * 1.5)
        if told:
            self.stuck(attempt, "")

    async def _wait(self, attempt: Attempt, seconds: float) -> bool:
        """Wait so long for the end of all of it; True: it is gone."""
        deadline = self.now() + seconds
        pause = LOOK_EVERY
        while True:
            if _ended(attempt) and not await self._left(attempt):
                return True
            left = deadline - self.now()
            if left <= 0:
                return False
            if _ended(attempt) or attempt.grip is None:
                await asyncio.sleep(min(pause, left))
            else:
                try:
                    async with asyncio.timeout(min(left, 1.0)):
                        await attempt.grip.gone.wait()
                except TimeoutError:
                    continue
            pause = min(LOOK_EVERY_MAX, pause * 1.5)

    async def _left(self, attempt: Attempt) -> list[Left]:
        return list(await self.hands.left(attempt.mark, attempt.grip))


def _ended(attempt: Attempt) -> bool:
    return attempt.grip is None or attempt.grip.gone.is_set()
