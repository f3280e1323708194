"""Loop lag: how late the event loop wakes a timer, which is how long everything else in it waits too."""

import asyncio
from collections.abc import Callable

from crewd.host.clock import Clock


async def measure(clock: Clock, observe: Callable[[float], None], seconds: float = 1.0) -> None:
    """Tell the lag of a timer once every `seconds`, until cancelled."""
    while True:
        due = clock.read().mono + seconds
        await asyncio.sleep(seconds)
        observe(max(0.0, clock.read().mono - due))
