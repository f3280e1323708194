"""Requests that no client library writes, as bytes on a socket: what is smuggled, broken, endless, or half there.

Of each it is said what may come back. Nothing may be changed by any, no answer may be a failure of crewd's, none may
keep the connection beyond its deadline, and the same server must be well after it. What single headers and bodies of
one well-formed request may hold is in tests/web/test_server.py.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from crewd.web.app import build_app
from crewd.web.server import HttpOptions, Server
from tests.security.world import Watched
from tests.web.test_server import Place, connect
from tests.web.world import TOKEN

pytestmark = pytest.mark.real_time

REQUEST_SECONDS, PATIENCE, AT_ONCE = 0.5, 8.0, 12
OPTIONS = {"connections_max": 4 * AT_ONCE, "keep_alive": 1.0, "request_seconds": REQUEST_SECONDS}
WHO = f"Host: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n".encode()
KIND = b"Content-Type: application/json\r\n"
BODY = b'{"scope":"daemon"}'
# What is smuggled: whoever takes it for a request of its own pauses everything.
INNER = b"POST /api/v1/pause HTTP/1.1\r\n" + WHO + KIND + b"Content-Length: 18\r\n\r\n" + BODY
LATER = b"Connection: close\r\n"


def get(*lines: bytes, path: bytes = b"/healthz", version: bytes = b"HTTP/1.1") -> bytes:
    return (
        b"GET " + path + b" " + version + b"\r\n" + WHO + LATER + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    )


def post(*lines: bytes, body: bytes = BODY, path: bytes = b"/api/v1/status") -> bytes:
    """A change that nobody knows; with the right token, so that only what is wrong with its form stops it."""
    return (
        b"POST " + path + b" HTTP/1.1\r\n" + WHO + KIND + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body
    )


def sized(body: bytes, *lines: bytes) -> bytes:
    return post(b"Content-Length: %d" % len(body), LATER.strip(), *lines, body=body)


@dataclass(frozen=True)
class Case:
    """What is sent, with pauses between, and what may come back: refused (or closed), or "any" harmless answer."""

    pieces: tuple[bytes, ...]
    may: str = "refused"
    pause: float = 0.0  # seconds between pieces
    answers_max: int = 1


CHUNKS = b"Transfer-Encoding: chunked"
SMUGGLING = {
    "length and chunks": post(b"Content-Length: 4", CHUNKS, body=b"0\r\n\r\n" + INNER),
    "chunks and length": post(CHUNKS, b"Content-Length: 4", body=b"0\r\n\r\n" + INNER),
    "length of nothing and chunks": post(b"Content-Length: 0", CHUNKS, body=b"0\r\n\r\n" + INNER),
    "two lengths": post(b"Content-Length: 18", b"Content-Length: 0", body=BODY + INNER),
    "two lengths in one": post(b"Content-Length: 0, 18", body=BODY + INNER),
    "a length with a plus": post(b"Content-Length: +0", body=INNER),
    "a length with a minus": post(b"Content-Length: -0", body=INNER),
    "a length in hex": post(b"Content-Length: 0x0", body=INNER),
    "a length with a blank within": post(b"Content-Length: 1 8", body=INNER),
    "a length with an underscore": post(b"Content-Length: 1_8", body=INNER),
    "a length with a dot": post(b"Content-Length: 18.0", body=INNER),
    "a length that is empty": post(b"Content-Length:", body=INNER),
    "a length in other digits": post("Content-Length: \u0661\u0668".encode(), body=INNER),
    "a length beyond 64 bits": post(b"Content-Length: 18446744073709551634", body=INNER),
    "a length of 5000 digits": post(b"Content-Length: " + b"9" * 5000, body=INNER),
    "a blank before the colon of the length": post(b"Content-Length : 18", body=BODY + INNER),
    "chunked, twice": post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n" + INNER),
    "chunked, then identity": post(CHUNKS, b"Transfer-Encoding: identity", body=b"0\r\n\r\n" + INNER),
    "xchunked": post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n" + INNER),
    "chunked behind a vertical tab": post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n" + INNER),
    "chunked in quotes": post(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n" + INNER),
    "a blank before the colon of the encoding": post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n" + INNER),
    "an encoding that is folded": post(b"Transfer-Encoding:\r\n chunked\r\n , x", body=b"0\r\n\r\n" + INNER),
    "an encoding behind a bare CR": post(b"X: y\rTransfer-Encoding: chunked", body=b"0\r\n\r\n" + INNER),
    "a chunk of a negative size": post(CHUNKS, body=b"-1\r\n" + INNER),
    "a chunk of a size with a plus": post(CHUNKS, body=b"+12\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a chunk of a size in 0x": post(CHUNKS, body=b"0x12\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a chunk of a size beyond 64 bits": post(CHUNKS, body=b"1" + b"0" * 16 + b"12\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a chunk that is longer than it says": post(CHUNKS, body=b"5\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a chunk of a size of 10,000 digits": post(CHUNKS, body=b"0" * 10_000 + b"\r\n\r\n"),
    "a chunk with 1 MB of extension": post(CHUNKS, body=b"12;" + b"x" * 2**20 + b"\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a chunk size that ends in a bare LF": post(CHUNKS, body=b"12\n" + BODY + b"\n0\n\n" + INNER),
    "trailers that are headers": post(CHUNKS, body=b"0\r\nContent-Length: 5\r\nHost: evil\r\n\r\n"),
    "trailers without end": post(CHUNKS, body=b"0\r\n" + b"X: y\r\n" * 50_000),
}
HEADS = {
    "bare LF, host elsewhere": b"GET /healthz HTTP/1.1\nHost: evil.example\n\n",
    "bare CR": b"GET /healthz HTTP/1.1\rHost: 127.0.0.1\r\r",
    "a line that begins with a blank": b"GET /healthz HTTP/1.1\r\n Host: 127.0.0.1\r\n\r\n",
    "a header without a name": get(b": x"),
    "a header without a colon": get(b"Nothing"),
    "a NUL in a name": get(b"X\x00Y: z"),
    "a NUL in a value": get(b"X: y\x00z"),
    "a header of 1 MB": get(b"X: " + b"y" * 2**20),
    "a name of 1 MB": get(b"X" * 2**20 + b": y"),
    "a path of 1 MB": get(path=b"/" + b"a" * 2**20),
    "a query of 1 MB": get(path=b"/api/v1/runs?after=" + b"a" * 2**20),
    "HTTP/0.9": b"GET /healthz\r\n\r\n",
    "HTTP/1.0 without a host": b"GET /healthz HTTP/1.0\r\n\r\n",
    "http/1.1": get(version=b"http/1.1"),
    "no version, but a blank": b"GET /healthz \r\n\r\n",
    "HTTP/2 with prior knowledge": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + b"\x00\x00\x12\x04\x00\x00\x00\x00\x00"
    + b"\x00" * 18,
    "TLS": b"\x16\x03\x01\x00\xf4\x01\x00\x00\xf0\x03\x03" + bytes(range(200)),
    "a proxy's line": b"PROXY TCP4 1.2.3.4 127.0.0.1 1 2\r\n" + get(),
    "another protocol": b"EHLO evil.example\r\nMAIL FROM:<a@b>\r\n",
    "a method of 1 MB": b"G" * 2**20 + b" / HTTP/1.1\r\n\r\n",
    "an empty method": b" /healthz HTTP/1.1\r\n" + WHO + b"\r\n",
    "absolute form, host elsewhere": get(path=b"http://evil.example/healthz"),
    "absolute form with a user": get(path=b"http://127.0.0.1@evil.example/healthz"),
    "authority form": b"CONNECT 127.0.0.1:22 HTTP/1.1\r\n" + WHO + LATER + b"\r\n",
    "authority form of a GET": get(path=b"127.0.0.1:9464"),
    "TRACE that asks to be told its headers": b"TRACE /healthz HTTP/1.1\r\n" + WHO + LATER + b"\r\n",
    "a fragment in the path": get(path=b"/healthz#/../api/v1/pause"),
    "a backslash in the path": get(path=b"/api\\v1\\status"),
    "a blank in the path": get(path=b"/api/v1/ status"),
}
PATHS = (
    b"/%00", b"/api/v1/runs/%00", b"/api/v1/runs/r1%00.json", b"/api/v1/runs/%2e%2e%2f%2e%2e", b"/assets/%2e%2e%2fx",
    b"/assets/..%2f..%2f..%2fetc%2fpasswd", b"/assets/../../etc/passwd", b"/assets/....//app.js",
    b"/assets/%5c..%5capp.js",
    b"/assets/%c0%ae%c0%ae/app.js", b"/api/v1/runs/%c0%ae%c0%ae", b"/api/v1/runs/%e0%80%af", b"/api/v1/runs/%ff%fe",
    b"/api/v1/runs/%ed%a0%80", b"/api/v1/runs/%252e%252e%252f", b"/api/v1/runs/%u002e", b"/api/v1/runs/%0d%0aX:%20y",
    b"/api/v1/runs/r1;x=y", b"/api/v1//status", b"//api/v1/status", b"/./api/v1/status", b"/api/v1/status/",
    b"/api/v1/status%20",
    b"/API/V1/STATUS",
)  # fmt: skip
BODIES = {
    "trailing garbage": sized(BODY + b"garbage"),
    "a body of NULs": sized(b"\x00" * 1000),
    "UTF-16": sized(BODY.decode().encode("utf-16")),
    "UTF-8 with a mark before it": sized(b"\xef\xbb\xbf" + BODY),
    "overlong UTF-8": sized(b'{"scope":"\xc0\xae"}'),
    "half a surrogate pair": sized(b'{"scope":"\\ud800"}'),
    "a number of a million digits": sized(b'{"a":' + b"9" * 60_000 + b"}"),
    "more than there may be": sized(b" " * 70_000),
}
HARMLESS = {
    "HTTP/2.0": (get(version=b"HTTP/2.0"),),
    "HTTP/1.2": (get(version=b"HTTP/1.2"),),
    "10,000 headers": (get(*(b"X-%d: y" % number for number in range(10_000))),),
    "a DEL and a bell in a value": (get(b"X: \x07\x7f\x01"),),
    "an upgrade to a websocket": (
        get(
            b"Upgrade: websocket", b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
        ).replace(LATER, b"Connection: Upgrade, close\r\n"),
    ),
    "an upgrade to HTTP/2": (
        get(b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__").replace(LATER, b"Connection: Upgrade, close\r\n"),
    ),
    "an upgrade to TLS": (get(b"Upgrade: TLS/1.3").replace(LATER, b"Connection: Upgrade, close\r\n"),),
    "Expect of something unknown": (get(b"Expect: miracles"),),
    "a method that is to be another": (get(b"X-HTTP-Method-Override: POST", path=b"/api/v1/pauses"),),
    "a range of the answer": (get(b"Range: bytes=0-0,1-1,2-2,-1", path=b"/plain"),),
    "a path that another header names": (get(b"X-Original-URL: /-/handover", b"X-Rewrite-URL: /-/handover"),),
    "a host that another header names": (get(b"X-Forwarded-Host: evil.example", b"Forwarded: host=evil.example"),),
    "absolute form of crewd itself": (get(path=b"http://127.0.0.1/healthz"),),
    "blank lines before it": (b"\r\n\r\n" + get(),),
}


def cases() -> Iterator[tuple[str, Case]]:
    yield from ((name, Case((data,))) for name, data in SMUGGLING.items())
    yield from ((name, Case((data,))) for name, data in HEADS.items())
    yield from ((f"path {path.decode()[:40]}", Case((get(path=path),))) for path in PATHS)
    yield from ((name, Case((data,))) for name, data in BODIES.items())
    yield from ((name, Case(pieces, "any")) for name, pieces in HARMLESS.items())
    refused = post(b"Content-Length: 18").replace(f"Bearer {TOKEN}".encode(), b"Bearer wrong")
    yield "one that is refused, and another behind it", Case((refused, get()), "any")
    yield "a body that a refusal did not wait for", Case((post(b"Content-Length: 300", body=INNER),), pause=0.1)
    yield (
        "Expect: 100-continue, and then nothing",
        Case((post(b"Content-Length: 18", b"Expect: 100-continue", body=b""),), "any"),
    )
    yield "half a line", Case((b"GET /heal",))
    yield "half a head", Case((b"GET /healthz HTTP/1.1\r\nHost: 127",))
    yield "half a body", Case((post(b"Content-Length: 180"),))
    yield "half a chunk", Case((post(CHUNKS, body=b"12\r\n{"),))
    yield "a head, byte by byte", Case(tuple(b"%c" % byte for byte in get(b"X: " + b"y" * 60)), pause=0.02)
    yield "a body, byte by byte", Case((post(b"Content-Length: 200", body=b""), *[b" "] * 60), pause=0.02)
    yield "nothing", Case((b"",))


ALL = dict(cases())


@pytest.mark.parametrize("door", ["tcp", "socket"])
def test_no_malformed_request_does_harm_or_stays(door: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """All on one server, a few at a time: after each it must answer another."""
    folder = tmp_path_factory.mktemp("s")
    state = Watched(folder / "state")
    before = sorted(folder.rglob("*"))
    wrong: list[str] = []

    async def run() -> None:
        server = Server(build_app(state), HttpOptions(port=0, socket=str(folder / "c.sock"), **OPTIONS))
        tcp = await server.start()
        place: Place = tcp if door == "tcp" else server.socket
        try:
            names = list(ALL)
            for first in range(0, len(names), AT_ONCE):
                for found in await asyncio.gather(*(tried(place, name) for name in names[first : first + AT_ONCE])):
                    wrong.extend(found)
        finally:
            await server.stop()

    asyncio.run(run())
    print(f"malformed requests, {door}: {len(ALL)}")
    assert len(ALL) >= 60 and not wrong, "\n".join(wrong)
    assert state.changes() == 0
    assert not any(code >= 500 for _, _, code in state.observed)
    assert [path for path in sorted(folder.rglob("*")) if path not in before and path.name != "c.sock"] == []


async def tried(place: Place, name: str) -> list[str]:
    """Send one case, and say what is wrong with what came back."""
    case = ALL[name]
    try:
        async with asyncio.timeout(PATIENCE):
            came = await said(place, case)
    except TimeoutError:
        return [f"{name}: still open after {PATIENCE} s"]
    statuses = [int(part[:3]) for part in came.split(b"HTTP/1.1 ")[1:] if part[:3].isdigit()]
    found = []
    if len([status for status in statuses if status < 400]) > case.answers_max:
        found.append(f"{name}: answered {statuses}: what was within was taken for a request")
    if any(status >= 500 or status == 101 for status in statuses):
        found.append(f"{name}: answered {statuses}")
    if case.may == "refused" and any(status < 400 for status in statuses):
        found.append(f"{name}: was served: {came[:120]!r}")
    if came and not statuses:
        found.append(f"{name}: answered no HTTP: {came[:80]!r}")
    if not await is_well(place):
        found.append(f"{name}: not well after it")
    return found


async def said(place: Place, case: Case) -> bytes:
    """Send the pieces, and read until the server closes."""
    reader, writer = await connect(place)
    answer = asyncio.create_task(reader.read())
    try:
        with contextlib.suppress(ConnectionError):
            for piece in case.pieces:
                writer.write(piece)
                await writer.drain()
                if case.pause:
                    await asyncio.sleep(case.pause)
                if answer.done():
                    break
        with contextlib.suppress(ConnectionError):
            return await answer
        return b""
    finally:
        answer.cancel()
        writer.close()


async def is_well(place: Place) -> bool:
    return (await said(place, Case((get(),)))).startswith(b"HTTP/1.1 200")


def test_a_body_is_asked_for_only_where_it_may_come(tmp_path: Path) -> None:
    """Expect: 100-continue of somebody who may not change anything is refused, and not told to go on."""
    state = Watched(tmp_path)

    async def run() -> tuple[bytes, bytes]:
        server = Server(build_app(state), HttpOptions(port=0, **OPTIONS))
        place = await server.start()
        try:
            head = post(
                b"Content-Length: 18", b"Expect: 100-continue", LATER.strip(), path=b"/api/v1/pause", body=b""
            )
            nobody = head.replace(f"Bearer {TOKEN}".encode(), b"Bearer wrong")
            return await said(place, Case((nobody,))), await said(place, Case((head, BODY), pause=0.1))
        finally:
            await server.stop()

    refused, done = asyncio.run(run())
    assert refused.startswith(b"HTTP/1.1 401") and b"100 Continue" not in refused
    assert done.startswith(b"HTTP/1.1 100") and b"HTTP/1.1 200" in done and state.changes() == 1
