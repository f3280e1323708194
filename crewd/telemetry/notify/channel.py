"""A channel: follows the incidents in the ledger, and brings each to its receiver once while it is open.

The ledger is the queue: nothing waits in memory but what was read last, so that a receiver that is away for a day
costs no memory, and a crewd that dies forgets nothing. What was told is kept there too, as the cursor
`notify:NAME`, after each message: at least once, in order. What was given up is kept there as well: as long as it is
open and nobody has seen it, it is tried again.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, TypeVar

import msgspec
import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from crewd.host.aside import aside
from crewd.host.chance import roll
from crewd.host.clock import Clock
from crewd.model.event import Event
from crewd.model.notice import HEARD, Notice, NoticeState, is_graver, notice_about, notice_of
from crewd.model.verdict import Incident
from crewd.policy.notifying import Bucket, Hold, Send, Suppress, backoff, decide
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
AGAIN_SECONDS = 60.0  # after which what was given up is tried again, where others were delivered since
AGAIN_SLOW_SECONDS = 600.0  # and where none was
REMIND_LOOK_SECONDS = 60.0  # longest time between two looks at what nobody has seen

log = structlog.get_logger("crewd.notifications")


class IncidentLog(Protocol):
    """The ledger, read-only, as far as a channel needs it."""

    def events(self, after: int = 0, limit: int = 1000, types: Sequence[str] = ()) -> list[Event]: ...

    def incidents(self, open_only: bool = False) -> list[Incident]: ...

    def last_seq(self) -> int: ...


class Told(msgspec.Struct, frozen=True, array_like=True):
    """What was told last of an open incident."""

    began: float  # wall time, as it was told
    severity: str = ""  # "": not known
    at: float = 0.0  # wall time of the telling
    damped: bool = False  # that it opens again and again, and that no more is told for now
    anew: int = 0  # how often it had been news again by then


class Position(msgspec.Struct, frozen=True):
    """How far a channel is: what a restarted one needs in order not to repeat itself."""

    seq: int = 0  # every incident up to here is told, or one of `held` or `given_up`
    # Key of an open incident that was told. A former crewd may have noted only the wall time of its beginning.
    told: dict[str, float | Told] = {}
    held: list[str] = []  # keys of open incidents that are still to be told
    given_up: list[str] = []  # keys of those that could not be told, and will be tried again
    route: str = ""  # whom it was for by then; "": a former crewd did not note it


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
        self._told: dict[str, Told] = {}
        self._held: dict[str, None] = {}  # in their order
        self._given_up: dict[str, float] = {}  # in their order -> monotonic time
        self._reminded_at = float("-inf")  # of the latest look at what nobody has seen
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
        position = self._remembered_position()
        if position is not None:
            self._recalled = True
            if position.route not in ("", self._route):
                # It may be for more than before: what is open and was nothing for it until now.
                known = {*position.told, *position.held, *position.given_up}
                more = [key for key in await self._open_and_wanted() if key not in known]
                position = msgspec.structs.replace(position, held=[*position.held, *more])
        else:
            # A channel that is new tells what is open now, and nothing of the past.
            seq = await self._in_thread(self._history.last_seq)
            position = Position(seq, held=await self._open_and_wanted())
        self._seq, self._held = position.seq, dict.fromkeys(position.held)
        self._told = {key: each if isinstance(each, Told) else Told(each) for key, each in position.told.items()}
        # A new crewd, or new settings, may be what it takes.
        self._given_up = dict.fromkeys(position.given_up, float("-inf"))
        await self._keep()

    async def _open_and_wanted(self) -> list[str]:
        return [key for key, notice in (await self._open()).items() if self._is_wanted(notice)]

    @property
    def _route(self) -> str:
        """Whom it is for, to be compared: quiet hours only put off."""
        route = self.options.route
        return msgspec.json.encode((route.min_severity, sorted(route.crews))).decode()

    def _remembered_position(self) -> Position | None:
        """Read what a former crewd noted. None: nothing, or what nobody understands: then it is a new channel."""
        if not self._remembered:
            return None
        try:
            return msgspec.json.decode(self._remembered, type=Position)
        except msgspec.DecodeError as error:
            log.warning("notify.position_unknown", channel=self.options.name, error=str(error))
            return None

    def _is_wanted(self, notice: Notice) -> bool:
        return not isinstance(decide(self.options.route, notice, self._clock.read().wall), Suppress)

    async def _turn(self) -> float:
        """Read what is new, tell what may be told; returns how long there is nothing to do."""
        open_before = await self._open() if self._recalled else {}
        read = await self._read()
        if self._recalled and read == 0 and len(self._pending) < PENDING_MAX:
            self._recalled = False
            self._compare_told(open_before)
        await self._release(caught_up=read == 0)
        await self._remind()
        sent = await self._send_some()
        if self._is_alertmanager:
            await self._repeat()
        if sent or read == BATCH:
            return 0.0
        if self._pending:
            return max(0.01, self._bucket.at(self._clock.read().mono).seconds_to_next)
        return POLL_SECONDS

    def _compare_told(self, open_before: Mapping[str, Notice]) -> None:
        """Let go of what was told and has ended, where the event of its end is kept no more: it may begin again.

        What is damped stays: it may have ended for a moment, and of that nothing is told.
        """
        waiting, wall = {each.key for each in self._pending}, self._clock.read().wall
        for key, told in list(self._told.items()):
            if key in open_before and not told.severity:  # of a crewd that did not note it
                self._told[key] = msgspec.structs.replace(told, severity=open_before[key].severity, at=wall)
            elif key not in open_before and key not in waiting and not told.damped:
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
            self._count(dropped=1)
            self._sort_open(notice, otherwise="dropped")
        elif waiting is not None:
            if is_graver(notice.severity, waiting.severity) or notice.anew > waiting.anew:
                told = self._with_news(notice)
                self._pending[self._pending.index(waiting)] = notice if told is None else told
            self._count(suppressed=1)
        elif notice.key in self._held:
            self._count(suppressed=1)
        else:
            self._sort_open(notice)

    def _sort_open(self, notice: Notice, otherwise: str = "suppressed") -> None:
        told = self._with_news(notice)
        if told is None:
            self._count(**{otherwise: 1})
            return
        match decide(self.options.route, told, self._clock.read().wall):
            case Send():
                self._pending.append(told)
            case Hold():
                self._held[told.key] = None
            case Suppress():
                self._count(suppressed=1)

    def _sort_end(self, notice: Notice, waiting: Notice | None) -> None:
        self._held.pop(notice.key, None)
        self._given_up.pop(notice.key, None)
        if waiting is not None:
            self._pending.remove(waiting)
            self._count(dropped=1)
        told = self._told.get(notice.key)
        if told is None or (told.damped and notice.damped):
            # Nobody hears the end of what they never heard, nor that of what will soon be open again.
            self._count(**{"suppressed" if waiting is None else "dropped": 1})
            return
        # An Alertmanager knows what ends by the severity that it was told.
        severity = told.severity or notice.severity
        self._pending.append(msgspec.structs.replace(notice, opened_at=told.began, severity=severity))

    def _with_news(self, notice: Notice) -> Notice | None:
        """Say why an open incident is to be told, or told again; None: people know all there is to know."""
        told = self._told.get(notice.key)
        if told is None:
            return msgspec.structs.replace(notice, state="damped" if notice.damped else "")
        state: NoticeState
        if notice.damped != told.damped:
            state = "damped" if notice.damped else ""
        elif is_graver(notice.severity, told.severity):
            state = "graver"
        elif notice.anew > told.anew and not (notice.acknowledged or notice.damped):
            state = "anew"
        elif self._is_forgotten(notice, told):
            state = "reminder"
        else:
            return None
        return msgspec.structs.replace(notice, state=state, former=told.severity, opened_at=told.began)

    def _is_forgotten(self, notice: Notice, told: Told) -> bool:
        """Whether nobody has said a word of something critical since it was told, for long."""
        every = self.options.remind_every
        if every <= 0 or self._is_alertmanager or notice.acknowledged or notice.damped:
            return False
        return notice.severity == "critical" and self._clock.read().wall - told.at >= every

    async def _release(self, caught_up: bool) -> None:
        """Take up what was held back, where it may go out now and is still open."""
        if len(self._pending) >= PENDING_MAX:
            return
        known = {each.key for each in self._pending}
        wanted = [key for key in {**self._held, **dict.fromkeys(self._due_again())} if key not in known]
        if not wanted:
            return
        open_now = await self._open()
        wall = self._clock.read().wall
        for key in wanted:
            notice = open_now.get(key)
            if notice is None:
                if caught_up:  # else the event of its end is still to be read
                    self._let_go(key)
                continue
            told = self._with_news(notice)
            if told is None or (key not in self._held and notice.acknowledged):
                self._let_go(key)
                self._count(suppressed=1)
                continue
            match decide(self.options.route, told, wall):
                case Send():
                    self._pending.append(told)
                case Suppress():  # the channel has become another one
                    self._let_go(key)
                    self._count(suppressed=1)
        self._note_waiting()

    def _due_again(self) -> list[str]:
        """Which of those that were given up are to be tried again."""
        mono = self._clock.read().mono
        patience = AGAIN_SECONDS if self._failing_since is None else AGAIN_SLOW_SECONDS
        return [key for key, since in self._given_up.items() if mono - since >= patience]

    def _let_go(self, key: str) -> None:
        self._held.pop(key, None)
        self._given_up.pop(key, None)

    async def _remind(self) -> None:
        """Take up again what is critical and still open, and of which nobody has said a word for long."""
        now, every = self._clock.read(), self.options.remind_every
        if every <= 0 or self._is_alertmanager or len(self._pending) >= PENDING_MAX:
            return
        if now.mono - self._reminded_at < min(REMIND_LOOK_SECONDS, every):
            return
        self._reminded_at = now.mono
        busy = {*self._held, *self._given_up, *(each.key for each in self._pending)}
        due = []
        for key, told in list(self._told.items()):
            if told.at > now.wall:  # the clock was set back: the time is counted from here
                self._told[key] = msgspec.structs.replace(told, at=now.wall)
            elif told.severity == "critical" and now.wall - told.at >= every and key not in busy:
                due.append(key)
        if not due:
            return
        open_now = await self._open()
        for notice in [open_now[key] for key in due if key in open_now]:
            told_again = self._with_news(notice)
            if told_again is None or told_again.state != "reminder":
                continue
            if isinstance(decide(self.options.route, told_again, now.wall), Send):
                self._pending.append(told_again)
        self._note_waiting()

    @property
    def _is_alertmanager(self) -> bool:
        """Whether the receiver reminds people by itself, as long as alerts are repeated to it."""
        return self.options.format == "alertmanager" and self.options.kind == "webhook"

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
                self._held.pop(notice.key, None)
                if notice.kind == "resolved":
                    self._told.pop(notice.key, None)
                else:
                    self._given_up[notice.key] = self._clock.read().mono
        del self._pending[:taken]
        self._note_waiting()
        await self._keep()
        return True

    def _note_told(self, notice: Notice) -> None:
        self._let_go(notice.key)
        if notice.kind == "resolved":
            self._told.pop(notice.key, None)
        else:
            wall = self._clock.read().wall
            self._told[notice.key] = Told(notice.opened_at, notice.severity, wall, notice.damped, notice.anew)

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
            self._let_go(notice.key)
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
            msgspec.structs.replace(notice, opened_at=told.began, severity=told.severity or notice.severity)
            for key, notice in open_now.items()
            if (told := self._told.get(key)) is not None
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
        told: dict[str, float | Told] = {**self._told}
        done = min(before) - 1 if before else self._seq
        position = Position(done, told, list(self._held), list(self._given_up), self._route)
        self._remembered = msgspec.json.encode(position).decode()
        await self._remember(PREFIX + self.options.name, self._remembered)

    def _note_broken(self, error: Exception) -> None:
        """Tell once that the ledger, or crewd itself, is in the way; the backlog shows how long."""
        if not self._broken:
            log.error("notify.failed", channel=self.options.name, error=str(error))
        self._broken = True

    def _note_waiting(self) -> None:
        waiting = {*self._held, *(each.key for each in self._pending)}
        self.figures = replace(self.figures, waiting=len(waiting), not_told=len(self._given_up))

    def _count(self, **more: int) -> None:
        counts: dict[str, Any] = {name: getattr(self.figures, name) + number for name, number in more.items()}
        self.figures = replace(self.figures, **counts)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await aside(work, f"crewd-notify-{self.options.name}")
