"""The service: every channel in a task of its own, beside the patrol, and the dead-man ping."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol

from crewd.host.clock import Clock
from crewd.model.event import Event
from crewd.model.notice import HEARD
from crewd.model.report import RoundReport
from crewd.model.snapshot import Snapshot
from crewd.telemetry.notify.channel import PREFIX, Channel, IncidentLog
from crewd.telemetry.notify.dead_man import DeadMan
from crewd.telemetry.notify.figures import NotifyFigures
from crewd.telemetry.notify.options import NotifyOptions
from crewd.telemetry.redact import Redactor


class _Part(Protocol):
    """A channel, or the ping."""

    def run(self) -> Coroutine[Any, Any, None]: ...

    def close(self) -> None: ...


class Notifications:
    """A listener that wakes the channels when an incident begins or ends. `run` until cancelled, then `close`.

    `cursors` is what a former crewd remembered; `remember` makes a cursor durable.
    """

    def __init__(
        self,
        options: NotifyOptions,
        history: IncidentLog,
        clock: Clock,
        redactor: Redactor,
        cursors: Mapping[str, str],
        remember: Callable[[str, str], Awaitable[None]],
    ) -> None:
        self._history = history
        self._clock = clock
        self._redactor = redactor
        self._cursors = {name: value for name, value in cursors.items() if name.startswith(PREFIX)}
        self._remember = remember
        self._channels: dict[str, Channel] = {}
        self._dead_man: DeadMan | None = None
        self._tasks: dict[_Part, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._former: dict[str, Channel] = {}  # replaced ones, whose counts go on
        self.reload(options)

    def on_events(self, events: Sequence[Event]) -> None:
        """Wake the channels: the ledger has what they are to tell."""
        if any(event.type in HEARD for event in events):
            for channel in self._channels.values():
                channel.wake()

    def on_round(self, report: RoundReport, snapshot: Snapshot) -> None:
        """Only a complete round is a sign of life: one that the ledger does not take reaches no channel."""
        if self._dead_man is not None and "ledger" not in snapshot.health.degraded:
            self._dead_man.note_round()

    def figures(self) -> NotifyFigures:
        """What they count; from any thread."""
        dead_man = self._dead_man
        return NotifyFigures(
            tuple(channel.figures for channel in list(self._channels.values())),
            None if dead_man is None else dead_man.failures,
            None if dead_man is None else dead_man.succeeded_at,
        )

    async def run(self) -> None:
        """Tell until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                for part in self._parts():
                    self._start(part)
                await asyncio.Event().wait()
            finally:
                self._group = None

    def close(self) -> None:
        """Let go of every receiver. After `run` has ended."""
        for part in self._parts():
            part.close()

    def reload(self, options: NotifyOptions) -> None:
        """Take over new options: what stays as it is goes on undisturbed."""
        wanted = {each.name: each for each in options.channels}
        for name in [name for name, channel in self._channels.items() if wanted.get(name) != channel.options]:
            self._former[name] = self._stop(self._channels.pop(name))
        for name, each in wanted.items():
            if name not in self._channels:
                self._channels[name] = channel = self._channel(each)
                self._start(channel)
        if self._dead_man is not None and self._dead_man.options != options.dead_man:
            self._stop(self._dead_man)
            self._dead_man = None
        if self._dead_man is None and options.dead_man.wanted:
            self._dead_man = DeadMan(options.dead_man, self._clock)
            self._start(self._dead_man)

    def _channel(self, options: Any) -> Channel:
        name = options.name
        channel = Channel(
            options, self._history, self._clock, self._redactor, self._cursors.get(PREFIX + name, ""), self._keep
        )
        if name in self._former:
            channel.figures = self._former.pop(name).figures
        return channel

    async def _keep(self, name: str, value: str) -> None:
        self._cursors[name] = value  # first: what was told is told, even where it cannot be written down
        await self._remember(name, value)

    def _parts(self) -> list[_Part]:
        return [*self._channels.values(), *([] if self._dead_man is None else [self._dead_man])]

    def _start(self, part: _Part) -> None:
        if self._group is not None:
            self._tasks[part] = self._group.create_task(part.run(), name="notify")

    def _stop(self, part: Any) -> Any:
        task = self._tasks.pop(part, None)
        if task is not None:
            task.cancel()
        part.close()
        return part
