"""The stream: events as they happen, to whoever asks for `text/event-stream` (HTML Standard, "Server-sent events").

A listener stands behind a number. It is brought up from the ledger, piece by piece at its own pace, and goes on with
what the broadcast has at hand; both tell everything after a number, so that between them nothing is lost or twice.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from fastapi import Request, Response

from crewd.ledger.errors import LedgerError
from crewd.telemetry.json_text import encode
from crewd.web.asgi import Receive, Scope, Send
from crewd.web.broadcast import CHUNK_BYTES, Broadcast, Entry, Listening, Piece, Wanted
from crewd.web.guard import HEAD, LINE
from crewd.web.query import SEQ_MAX
from crewd.web.refusal import refusal

TYPE = "text/event-stream"
KEEPALIVE_SECONDS = 15.0
BACK_AFTER_MILLISECONDS = 2000  # a browser that lost its stream asks again after so long
STUCK_SECONDS = 1.0  # to take one chunk, before it counts how far behind a listener is
STALLED_SECONDS = 30.0  # to take one chunk at all
PARTING_SECONDS = 2.0  # for one who was too slow to read why it is over; one who is told nothing gets a quarter
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"x-accel-buffering", b"no"),  # a proxy in front would hold events back
]


class Line(Protocol):
    """The connection that an answer goes out on."""

    def narrow(self) -> None:
        """Let the kernel hold little that is not read, and notice an end that is gone."""

    def finish(self, last: bytes, seconds: float) -> None:
        """Put this behind whatever waits to be read, and close: within so long, whether it is read or not."""


def wants_stream(request: Request) -> bool:
    """Say whether a stream is asked for, and not JSON."""
    ranges = ",".join(request.headers.getlist("accept")).split(",")
    return any(each.partition(";")[0].strip().lower() == TYPE for each in ranges)


def resumed_from(request: Request) -> int | None:
    """Return the number in Last-Event-ID; None: there is none. Raises Refused."""
    given = request.headers.getlist("last-event-id")
    text = given[0].strip() if given else ""
    if not text and len(given) < 2:
        return None
    if len(given) > 1 or not (text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= SEQ_MAX):
        raise refusal(
            400,
            "bad_last_event_id",
            "Last-Event-ID is no number of an event",
            "send the id of the last event, or none",
        )
    return int(text)


class EventStream(Response):
    """One answer that goes on until somebody ends it."""

    def __init__(
        self, broadcast: Broadcast, wanted: Wanted, after: int | None, newest: int = 0, exists: bool = True
    ) -> None:
        """`after` None: only what comes from now on, and before it the `newest` events that are wanted.

        Where nothing is known of the run that is wanted, `exists` is False, and the ledger is asked.
        """
        super().__init__(headers={"content-type": TYPE})
        self._broadcast = broadcast
        self._wanted = wanted
        self._after = after
        self._newest = newest
        self._exists = exists

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer. Raises Refused and LedgerError before the answer begins."""
        if not self._exists and not await self._broadcast.asked(self._has_events):
            raise refusal(404, "not_found", "no such run", "see /api/v1/runs")
        state = scope.get("state", {})
        if state.get(HEAD):
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            await send({"type": "http.response.body", "body": b""})
            return
        listening = self._broadcast.join(self._wanted)
        gone = asyncio.create_task(_until_gone(receive, listening), name="stream: until its reader is gone")
        try:
            await _Telling(self._broadcast, listening, send, state.get(LINE)).tell(self._after, self._newest)
        finally:
            gone.cancel()
            self._broadcast.leave(listening)

    def _has_events(self) -> bool:
        return bool(self._broadcast.history.events(0, 1, (), self._wanted.run_id))


class _Telling:
    """One listener being told."""

    def __init__(self, broadcast: Broadcast, listening: Listening, send: Send, line: Line | None) -> None:
        self._broadcast = broadcast
        self._listening = listening
        self._send = send
        self._line = line
        self._now = asyncio.get_running_loop().time
        self._position = 0  # everything up to this was told, or is not wanted
        self._live = False
        self._round = broadcast.round[0]
        self._gap_told = 0
        self._sent_at = 0.0
        self._anchor = 0  # the number that the reader knows

    async def tell(self, after: int | None, newest: int) -> None:
        """Tell until the end. Raises LedgerError before the answer begins."""
        first = await self._begin(after, newest)
        if self._line is not None:
            self._line.narrow()
        await self._send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        try:
            if await self._put(first):
                await self._go_on()
        except LedgerError:
            self._listening.end("failed")
        await self._end()

    async def _begin(self, after: int | None, newest: int) -> bytes:
        """Find the place to begin at, and word it: whoever is cut off before the first event resumes from there."""
        wanted, history = self._listening.wanted, self._broadcast.history

        def look() -> tuple[int, int, list[int]]:
            last = history.last_seq()
            types = sorted(wanted.types)
            about = (types, wanted.run_id, True, wanted.crew, wanted.task_id)
            found = history.events(0, newest, *about) if newest else []
            return last, history.pruned_to(), [event.seq for event in found]

        last, pruned_to, seqs = await self._broadcast.asked(look)
        gap = b""
        if after is None:
            after = min(seqs[-1] - 1, last) if seqs else last
            self._gap_told = pruned_to  # who begins anew misses nothing
        elif after > last:
            # That number is of another ledger: what this one holds has nothing to do with it.
            gap = _gap(after, pruned_to, last)
            after = self._gap_told = last
        self._position = self._anchor = after
        return b"retry: %d\nid: %d\n\n%s" % (BACK_AFTER_MILLISECONDS, after, gap)

    async def _go_on(self) -> None:
        going = True
        while going and not self._listening.ended:
            going = await (self._tell_recent() if self._broadcast.holds(self._position) else self._catch_up())

    async def _tell_recent(self) -> bool:
        """Tell what is at hand, or wait for more."""
        self._live = True
        self._listening.wake.clear()
        text, position = self._broadcast.recent(self._position, self._listening.wanted)
        number, figures = self._broadcast.round
        if position >= self._broadcast.tail and self._listening.wanted.rounds and number != self._round:
            self._round = number
            text += figures
        if text:
            return await self._put(text, position)
        self._position = position
        return await self._rest()

    async def _catch_up(self) -> bool:
        """Tell the next piece that the ledger has."""
        self._live = False
        self._listening.wake.clear()
        piece = await self._broadcast.recorded(self._position, self._listening.wanted)
        gap = self._gap_before(piece)
        if gap and not await self._put(gap):
            return False
        for chunk, position in _chunks(piece.entries):
            if not await self._put(chunk, position):
                return False
        if piece.up_to == self._position and not self._broadcast.holds(self._position):
            # All is told, and the broadcast does not know yet where it stands.
            return await self._rest()
        self._position = piece.up_to
        return True

    def _gap_before(self, piece: Piece) -> bytes:
        """Word the gap that events left which were deleted for their age; nothing where there is none, or told."""
        after, pruned_to = self._position, piece.pruned_to
        if pruned_to <= max(after, self._gap_told):
            return b""
        self._gap_told = pruned_to
        return _gap(after, pruned_to)

    async def _rest(self) -> bool:
        """Wait for something new; give a sign of life where nothing comes."""
        left = self._sent_at + KEEPALIVE_SECONDS - self._now()
        try:
            async with asyncio.timeout(left):
                await self._listening.wake.wait()
        except TimeoutError:
            # Whoever wants little is told how far it has come, so as not to search all of that again.
            moved = b"id: %d\n\n" % self._position if self._position > self._anchor else b"\n"
            return await self._put(b": keepalive\n" + moved, self._position)
        return True

    async def _put(self, text: bytes, position: int | None = None) -> bool:
        """Send; False: this stream is over. Whoever does not read is let go."""
        began = self._now()
        while not await self._listening.bounded(lambda: self._send(_body(text)), STUCK_SECONDS):
            if self._listening.ended:
                return False
            # The server waits for room before it writes anything, so that what was given up can be sent again.
            behind = self._live and not self._broadcast.holds(self._position)
            if behind or self._now() - began >= STALLED_SECONDS:
                self._listening.end("overflow")
                return False
        self._sent_at = self._now()
        if position is not None:
            self._position = self._anchor = position
        return not self._listening.ended

    async def _end(self) -> None:
        """Close: with a word to whoever was too slow, and at once."""
        if self._listening.ended == "gone":
            return
        last = b""
        if self._listening.ended == "overflow":
            last = b"event: overflow\ndata: %s\n\n" % encode({"last_seq": self._anchor})
        if self._line is not None:
            self._line.finish(last, PARTING_SECONDS if last else PARTING_SECONDS / 4)
            return
        end = {"type": "http.response.body", "body": last, "more_body": False}
        await self._listening.bounded(lambda: self._send(end), 0)


async def _until_gone(receive: Receive, listening: Listening) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    listening.end("gone")


def _chunks(entries: Sequence[Entry]) -> list[tuple[bytes, int]]:
    """Join texts into pieces of about 64 KiB, each with the number of its last event."""
    chunks: list[tuple[bytes, int]] = []
    texts: list[bytes] = []
    size = 0
    for entry in entries:
        texts.append(entry.text)
        size += len(entry.text)
        if size >= CHUNK_BYTES:
            chunks.append((b"".join(texts), entry.seq))
            texts, size = [], 0
    if texts:
        chunks.append((b"".join(texts), entries[-1].seq))
    return chunks


def _gap(after: int, pruned_to: int, last: int | None = None) -> bytes:
    told = {"after": after, "pruned_to": pruned_to} | ({} if last is None else {"last_seq": last})
    return b"event: gap\ndata: %s\n\n" % encode(told)


def _body(text: bytes) -> dict[str, object]:
    return {"type": "http.response.body", "body": text, "more_body": True}
