"""A channel: follows the incidents in the ledger, and brings each to its receiver once while it is open.

The ledger is the queue: nothing waits in memory but what was read last, so that a receiver that is away for a day
costs no memory, and a crewd that dies forgets nothing. What was told is kept there too, as the cursor
`notify:NAME`, after each message: at least once, in order.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Container, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, TypeVar

import msgspec
import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from crewd.host.chance import roll
from crewd.host.clock import Clock
from crewd.model.event import Event
from crewd.model.notice import HEARD, Notice, notice_about, notice_of
from crewd.model.verdict import Incident
from crewd.policy.notifying import Bucket, Hold, Send, Suppress, backoff, decide
from crewd.telemetry.notify.aside import aside
from crewd.telemetry.notify.delivery import Delivery, NotDelivered
from crewd.telemetry.notify.figures import ChannelFigures
from crewd.telemetry.notify.options import ChannelOptions
from crewd.telemetry.redact import Redactor

T = TypeVar("T")
PREFIX = "notify:"  # of the names of cursors
BATCH = 200  # events read at once
PENDING_MAX = 1000  # notices read and not yet told; beyond, they wait in the ledger
TOGETHER_MAX = 200  # notices in one message
POLL_SECONDS = 5.0  # longest wait for events that nobody announced, and for the end of quiet hours
REPEAT_SECONDS = 60.0  # an Alertmanager forgets what is not repeated
BROKEN_SECONDS = 5.0  # after the ledger could not be read or written

log = structlog.get_logger("crewd.notifications")


class IncidentLog(Protocol):
    """The ledger, read-only, as far as a channel needs it."""

    def events(self, after: int = 0, limit: int = 1000, types: Sequence[str] = ()) -> list[Event]: ...

    def incidents(self, open_only: bool = False) -> list[Incident]: ...

    def last_seq(self) -> int: ...


class Position(msgspec.Struct, frozen=True):
    """How far a channel is: what a restarted one needs in order not to repeat itself."""

    seq: int = 0  # every incident up to here is told, or one of `held`
    told: dict[str, float] = {}  # key of an open incident that was told -> wall time of its beginning
    held: list[str] = []  # keys of open incidents that are still to be told


class Channel:
    """`run` until cancelled, then `close`. Everything but the delivery itself happens on the daemon's loop."""

    def __init__(
        self,
        options: ChannelOptions,
        history: IncidentLog,
        clock: Clock,
        redactor: Redactor,
        remembered: str,
        remember: Callable[[str, str], Awaitable[None]],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.options = options
        self.figures = ChannelFigures(options.name)
        self._history = history
        self._clock = clock
        self._delivery = Delivery(options, clock, redactor)
        self._remembered = remembered
        self._remember = remember
        self._sleep = sleep
        self._wake = asyncio.Event()
        self._seq = 0
        self._told: dict[str, float] = {}
        self._held: dict[str, None] = {}  # in their order
        self._pending: list[Notice] = []
        self._bucket = Bucket.full(options.rate_per_minute, options.burst, clock.read().mono)
        self._failing_since: float | None = None  # monotonic; None: the latest message was delivered
        self._repeated_at = float("-inf")
        self._broken = False  # the latest turn failed
        self._recalled = False  # `_told` is a former crewd's word, not compared yet with what is open

    def wake(self) -> None:
        """There may be something to tell."""
        self._wake.set()

    async def run(self) -> None:
        """Tell until cancelled."""
        begun = False
        while True:
            self._wake.clear()
            try:
                if not begun:
                    await self._begin()
                    begun = True
                wait = await self._turn()
                self._broken = False
            except Exception as error:  # noqa: BLE001 - an observer's failure never stops a round, and is told
                self._note_broken(error)
                wait = BROKEN_SECONDS
                await self._sleep(wait)
            if wait > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._wake.wait()

    def close(self) -> None:
        """Let go of the receiver at once. What was not told is told by the next crewd."""
        self._delivery.abort()

    async def _begin(self) -> None:
        if self._remembered:
            position = msgspec.json.decode(self._remembered, type=Position)
            self._recalled = True
        else:
            # A channel that is new tells what is open now, and nothing of the past.
            seq = await self._in_thread(self._history.last_seq)
            open_now = await self._in_thread(lambda: self._history.incidents(open_only=True))
            wall = self._clock.read().wall
            known = [notice_about(each, wall) for each in open_now]
            wanted = [notice.key for notice in known if self._is_wanted(notice)]
            position = Position(seq, held=wanted)
        self._seq, self._told, self._held = position.seq, dict(position.told), dict.fromkeys(position.held)
        await self._keep()

    def _is_wanted(self, notice: Notice) -> bool:
        return not isinstance(decide(self.options.route, notice, self._clock.read().wall), Suppress)

    async def _turn(self) -> float:
        """Read what is new, tell what may be told; returns how long there is nothing to do."""
        open_before = await self._open() if self._recalled else {}
        read = await self._read()
        if self._recalled and read == 0 and len(self._pending) < PENDING_MAX:
            self._recalled = False
            self._forget_pruned(open_before)
        await self._release(caught_up=read == 0)
        sent = await self._send_some()
        if self.options.format == "alertmanager" and self.options.kind == "webhook":
            await self._repeat()
        if sent or read == BATCH:
            return 0.0
        if self._pending:
            return max(0.01, self._bucket.at(self._clock.read().mono).seconds_to_next)
        return POLL_SECONDS

    def _forget_pruned(self, open_before: Container[str]) -> None:
        """Let go of what was told and has ended, where the event of its end is kept no more: it may begin again."""
        waiting = {each.key for each in self._pending}
        for key in [key for key in self._told if key not in open_before and key not in waiting]:
            del self._told[key]

    async def _read(self) -> int:
        if len(self._pending) >= PENDING_MAX:
            return 0
        after = self._seq
        events = await self._in_thread(lambda: self._history.events(after, BATCH, HEARD))
        for event in events:
            self._seq = event.seq
            notice = notice_of(event)
            if notice is not None:
                self._sort(notice)
        self._note_waiting()
        if events and not self._pending:
            await self._keep()
        return len(events)

    def _sort(self, notice: Notice) -> None:
        """Decide what becomes of one notice. One that ends before it was told is never told."""
        waiting = next((each for each in self._pending if each.key == notice.key), None)
        if notice.kind == "resolved":
            self._sort_end(notice, waiting)
        elif waiting is not None and waiting.kind == "resolved":
            self._pending.remove(waiting)  # it goes on: what was told of it holds
            self._count(dropped=2)
        elif waiting is not None or notice.key in self._told or notice.key in self._held:
            self._count(suppressed=1)
        else:
            match decide(self.options.route, notice, self._clock.read().wall):
                case Send():
                    self._pending.append(notice)
                case Hold():
                    self._held[notice.key] = None
                case Suppress():
                    self._count(suppressed=1)

    def _sort_end(self, notice: Notice, waiting: Notice | None) -> None:
        if notice.key in self._told:
            began = self._told[notice.key]
            self._pending.append(msgspec.structs.replace(notice, opened_at=began))
            return
        self._held.pop(notice.key, None)
        if waiting is not None:
            self._pending.remove(waiting)
            self._count(dropped=2)
        else:
            self._count(suppressed=1)

    async def _release(self, caught_up: bool) -> None:
        """Take up what was held back, where it may go out now and is still open."""
        if not self._held or len(self._pending) >= PENDING_MAX:
            return
        known = {each.key for each in self._pending}
        if known.issuperset(self._held):
            return
        open_now = await self._open()
        wall = self._clock.read().wall
        for key in [key for key in self._held if key not in known]:
            notice = open_now.get(key)
            if notice is None:
                if caught_up:  # else the event of its end is still to be read
                    self._held.pop(key)
                continue
            match decide(self.options.route, notice, wall):
                case Send():
                    self._pending.append(notice)
                case Suppress():  # the channel has become another one
                    self._held.pop(key)
                    self._count(suppressed=1)
        self._note_waiting()

    async def _open(self) -> dict[str, Notice]:
        found = await self._in_thread(lambda: self._history.incidents(open_only=True))
        wall = self._clock.read().wall
        return {notice.key: notice for notice in (notice_about(each, wall) for each in found)}

    async def _send_some(self) -> bool:
        """Send one message, if there is one and the rate allows it."""
        if not self._pending:
            return False
        self._bucket = self._bucket.at(self._clock.read().mono)
        if not self._bucket.messages:
            return False
        # The last message that may go out for now tells of everything that waits.
        alone = self._bucket.messages > 1 and self.options.format != "alertmanager"
        notices = self._pending[: 1 if alone else TOGETHER_MAX]
        taken = len(notices)
        self._bucket = self._bucket.taken()
        if await self._delivered(notices):
            self._count(sent=len(notices))
            for notice in notices:
                self._note_told(notice)
        else:
            self._count(failed=len(notices))
            for notice in notices:
                if notice.kind == "resolved":
                    self._told.pop(notice.key, None)
                self._held.pop(notice.key, None)
        del self._pending[:taken]
        self._note_waiting()
        await self._keep()
        return True

    def _note_told(self, notice: Notice) -> None:
        self._held.pop(notice.key, None)
        if notice.kind == "resolved":
            self._told.pop(notice.key, None)
        else:
            self._told[notice.key] = notice.opened_at

    async def _delivered(self, notices: list[Notice]) -> bool:
        """Deliver one message, with retries; what is over before it could be delivered is taken out of `notices`."""
        retrying = AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, NotDelivered) and error.passing),
            wait=self._patience,
            stop=self._has_given_up,
            sleep=self._sleep,
            before_sleep=self._note_retry,
            reraise=True,
        )
        try:
            await retrying(self._try, notices)
        except NotDelivered as error:
            log.error(  # noqa: TRY400 - the message says it all
                "notify.gave_up", channel=self.options.name, error=str(error), notices=len(notices)
            )
            return False
        self._failing_since = None
        return True

    async def _try(self, notices: list[Notice]) -> None:
        if self._failing_since is not None:
            await self._take_out_over(notices)
        if not notices:
            return
        try:
            await self._in_thread(partial(self._delivery.deliver, notices))
        except Exception as error:
            if self._failing_since is None:
                self._failing_since = self._clock.read().mono
            if isinstance(error, NotDelivered):
                raise
            # A message that cannot even be made must not stand in the way of all others.
            raise NotDelivered(f"unexpected {type(error).__name__}", False) from error

    async def _take_out_over(self, notices: list[Notice]) -> None:
        """After a failure: nobody is to be alarmed by what has ended meanwhile."""
        open_now = await self._open()
        over = [each for each in notices if each.kind == "opened" and each.key not in open_now]
        for notice in over:
            notices.remove(notice)
            self._held.pop(notice.key, None)
        self._count(dropped=len(over))

    def _patience(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        return backoff(state.attempt_number, roll(), error.retry_after if isinstance(error, NotDelivered) else None)

    def _has_given_up(self, state: RetryCallState) -> bool:
        # The age is that of the trouble, not of the message: in a long one each message still gets one try.
        since = self._failing_since
        age = 0.0 if since is None else self._clock.read().mono - since
        return state.attempt_number >= self.options.attempts_max or age >= self.options.age_max

    def _note_retry(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        if state.attempt_number == 1:
            log.warning("notify.retried", channel=self.options.name, error=str(error))
        self._count(retries=1)

    async def _repeat(self) -> None:
        """Send all open alerts again, as the API wants it: without that they would end by themselves."""
        mono = self._clock.read().mono
        if not self._told or self._failing_since is not None or mono - self._repeated_at < REPEAT_SECONDS:
            return
        self._repeated_at = mono
        open_now = await self._open()
        again = [
            msgspec.structs.replace(notice, opened_at=self._told[key])
            for key, notice in open_now.items()
            if key in self._told
        ]
        for start in range(0, len(again), TOGETHER_MAX):
            part = again[start : start + TOGETHER_MAX]
            try:
                await self._in_thread(partial(self._delivery.deliver, part))
            except NotDelivered as error:
                log.warning("notify.not_repeated", channel=self.options.name, error=str(error))
                self._count(retries=1)
                return

    async def _keep(self) -> None:
        """Make durable how far it is. What waits is not yet done: the next crewd reads it again."""
        before = [each.seq for each in self._pending if each.seq]
        position = Position(min(before) - 1 if before else self._seq, self._told, list(self._held))
        self._remembered = msgspec.json.encode(position).decode()
        await self._remember(PREFIX + self.options.name, self._remembered)

    def _note_broken(self, error: Exception) -> None:
        """Tell once that the ledger, or crewd itself, is in the way; the backlog shows how long."""
        if not self._broken:
            log.error("notify.failed", channel=self.options.name, error=str(error))
        self._broken = True

    def _note_waiting(self) -> None:
        waiting = {*self._held, *(each.key for each in self._pending)}
        self.figures = replace(self.figures, waiting=len(waiting))

    def _count(self, **more: int) -> None:
        counts: dict[str, Any] = {name: getattr(self.figures, name) + number for name, number in more.items()}
        self.figures = replace(self.figures, **counts)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await aside(work, f"crewd-notify-{self.options.name}")
