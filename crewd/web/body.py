"""Bodies: read within bounds and decoded strictly, before any route sees them.

JSON is read by the letter (RFC 8259), and stricter than most readers: a key that stands twice, a number that is none,
half a surrogate pair, a nesting that no request needs. Each would mean one thing here and another thing elsewhere.
"""

import asyncio
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from crewd.web.asgi import App, Receive, Scope, Send
from crewd.web.refusal import Detail, Refused, refusal

PARSED = "body"  # under this name a decoded body stands in the scope's state
BYTES_MAX = 64 * 1024
DEPTH_MAX = 64
DETAILS_MAX = 100
INT_MIN, INT_MAX = -(2**63), 2**64 - 1
DIGITS_MAX = 40
# The decoder reads arrays without a pause, and other threads wait: so many take it a few milliseconds.
ARRAYS_MAX = 50_000


class Bodies:
    """Stands between the guard and the routes: takes the body of every POST."""

    def __init__(self, app: App, large: Mapping[str, int], large_at_once_max: int = 4) -> None:
        """`large` maps paths whose bodies may be larger than 64 KiB to their bound in bytes."""
        self._app = app
        self._large = large
        self._large_at_once_max = large_at_once_max
        self._large_now = 0
        self._one_at_a_time = asyncio.Lock()  # a decoded body is many times the size of its text

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Decode the body of a POST; let everything else pass. Raises Refused."""
        if scope["method"] != "POST":
            await self._app(scope, receive, send)
        elif scope["path"] not in self._large:
            await self._decoded(scope, receive, send, BYTES_MAX)
        elif self._large_now >= self._large_at_once_max:
            raise refusal(
                503, "busy", "others are submitting runs at this moment", "send it again in a second", retry_after="1"
            )
        else:
            self._large_now += 1
            try:
                await self._decoded(scope, receive, send, self._large[scope["path"]])
            finally:
                self._large_now -= 1

    async def _decoded(self, scope: Scope, receive: Receive, send: Send, bytes_max: int) -> None:
        data = await _read(scope, receive, bytes_max)
        async with self._one_at_a_time:
            # In a thread: what takes long to decode must not hold up a round.
            value = await asyncio.to_thread(parse, data)
        del data
        scope["state"] = {**scope.get("state", {}), PARSED: value}
        await self._app(scope, _nothing_more, send)


def parse(data: bytes) -> Any:
    """Decode one JSON document. Raises Refused with everything that is wrong with it."""
    try:
        text = data.decode()
        if _holds_too_many_arrays(text):
            raise _refused([Detail("too_many", "", f"holds more than {ARRAYS_MAX} arrays", "send fewer")])
        # Numbers and objects pass through Python, which lets other threads have their turn.
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_int,
            parse_float=_float,
            parse_constant=lambda _: math.nan,
        )
    except UnicodeDecodeError as error:
        raise _refused([Detail("not_json", "", f"byte {error.start} is not UTF-8", "send UTF-8")]) from None
    except RecursionError:
        raise _refused([_too_deep("")]) from None
    except ValueError as error:
        where = f"{error.msg} at character {error.pos}" if isinstance(error, json.JSONDecodeError) else "not JSON"
        raise _refused(
            [Detail("not_json", "", where, "send one JSON document, {} where there is nothing to say")]
        ) from None
    wrong = []
    for detail in _wrongs(value, [], 1):
        wrong.append(detail)
        if len(wrong) == DETAILS_MAX:
            break
    if wrong:
        raise _refused(wrong)
    return value


def pointer(path: list[Any] | tuple[Any, ...]) -> str:
    """Write a place in a document as a JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def _holds_too_many_arrays(text: str) -> bool:
    if text.count("[") <= ARRAYS_MAX:
        return False
    # Those within strings do not count. Without escapes, every second piece between quotes is outside of any.
    outside = text.replace("\\\\", "").replace('\\"', "").split('"')[::2]
    return sum(piece.count("[") for piece in outside) > ARRAYS_MAX


class _Repeating(dict[str, Any]):
    """An object in which a key stands twice."""

    repeated: tuple[str, ...] = ()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    repeating = _Repeating(value)
    repeating.repeated = tuple(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
    return repeating


def _int(digits: str) -> int | float:
    # The cost of a number grows with the square of its digits: those that are out of range anyway are not converted.
    return int(digits) if len(digits) <= DIGITS_MAX else math.inf


def _float(digits: str) -> float:
    return float(digits)  # not `float` itself, which the decoder would call without giving others their turn


def _wrongs(value: Any, path: list[Any], depth: int) -> Iterator[Detail]:
    """Find what JSON allows and crewd does not. Never deeper than DEPTH_MAX."""
    match value:
        case None | bool():
            return
        case str():
            if not _is_text(value):
                yield Detail("not_text", _place(path), "holds half a surrogate pair", "send whole characters")
        case int() | float():
            if not (INT_MIN <= value <= INT_MAX if isinstance(value, int) else math.isfinite(value)):
                yield Detail("out_of_range", _place(path), "is no number of 64 bits", "send a finite number")
        case _ if depth > DEPTH_MAX:
            yield _too_deep(_place(path))
        case dict():
            if isinstance(value, _Repeating):
                for name in value.repeated:
                    yield Detail("duplicate_key", _place([*path, name]), "stands twice in its object", "send it once")
            for key, member in value.items():
                path.append(key)
                if not _is_text(key):
                    yield Detail("not_text", _place(path), "is a key with half a surrogate pair", "correct the key")
                yield from _wrongs(member, path, depth + 1)
                path.pop()
        case _:
            for number, member in enumerate(value):
                path.append(number)
                yield from _wrongs(member, path, depth + 1)
                path.pop()


def _is_text(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _place(path: list[Any]) -> str:
    return pointer(path).encode("utf-8", "replace").decode()[:256]


def _too_deep(place: str) -> Detail:
    return Detail("too_deep", place, f"is nested deeper than {DEPTH_MAX} levels", "send it flatter")


def _refused(details: list[Detail]) -> Refused:
    return Refused(400, "bad_request", "the body is not understood", tuple(details))


async def _read(scope: Scope, receive: Receive, bytes_max: int) -> bytes:
    for name, value in scope["headers"]:
        # The server has made sure that it is one number in plain digits.
        if name == b"content-length" and (len(value) > 12 or int(value) > bytes_max):
            raise _too_large(bytes_max)
    pieces, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise refusal(408, "incomplete", "the body did not arrive whole", "send it again")
        piece = message.get("body", b"")
        size += len(piece)
        if size > bytes_max:
            raise _too_large(bytes_max)
        pieces.append(piece)
        if not message.get("more_body", False):
            return b"".join(pieces)


def _too_large(bytes_max: int) -> Refused:
    return refusal(413, "too_large", f"the body is larger than {bytes_max} bytes", "send less")


async def _nothing_more() -> dict[str, Any]:
    # The routes take the decoded value. Whoever reads on finds the end of a body.
    return {"type": "http.request", "body": b"", "more_body": False}
