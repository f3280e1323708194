"""Who may ask what: every route, every method, both doors, and one claim of the request after the other turned.

What is expected follows from one rule, `allowed`, that was written down from the promises (P18, P19) and not from the
code. Routes come from the application's own table.
"""

import asyncio
import base64
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from crewd.web.app import build_app
from crewd.web.server import HttpOptions, Server
from tests.security.world import BODIES, DOORS, JSON, STREAM, Answer, Headers, Place, Watched, asked, places
from tests.web.world import TOKEN

METHODS = (
    "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "get", "post", "Post", "BREW",
    "PROPFIND",
)  # fmt: skip
OUR_HOSTS = (
    ("127.0.0.1:9464",), ("localhost",), ("LocalHost:1",), ("[::1]:9464",), ("127.0.0.1",), ("localhost.",),
)  # fmt: skip
WORDS = (("crewd",), ("",), ("d:80",))  # what clients of a unix socket put in for want of a name
OTHER_HOSTS = (
    ("evil.example",), ("127.0.0.1.evil.example",), ("127.0.0.1@evil.example",), ("localhost.evil.example:9464",),
    ("10.0.0.1",), ("0.0.0.0:9464",), ("127.0.0.1:9464, evil.example",), ("127.0.0.1/",), ("[::2]",),
)  # fmt: skip
NOT_ONE_HOST = ((), ("127.0.0.1", "127.0.0.1"), ("evil.example", "127.0.0.1"))
OUR_ORIGINS = (("http://127.0.0.1:9464",), ("http://localhost:9464",), ("https://[::1]",))
OTHER_ORIGINS = (
    ("null",), ("https://evil.example",), ("http://127.0.0.1.evil.example",), ("http://127.0.0.1:9464.evil.example",),
    ("http://evil.example:9464",), ("file://",), ("chrome-extension://abcdef",), ("127.0.0.1",), ("",),
    ("http://127.0.0.1@evil.example",), ("http://127.0.0.1:9464", "https://evil.example"),
)  # fmt: skip
OUR_SITES = ((), ("same-origin",), ("none",))
OTHER_SITES = (("cross-site",), ("same-site",), ("Cross-Site",), ("same-origin", "cross-site"))
RIGHT_TOKENS = ((f"Bearer {TOKEN}",), (f"bearer {TOKEN}",), (f"BEARER  {TOKEN}",))
NO_TOKENS = ((), (f"Token {TOKEN}",), (f"Basic {base64.b64encode(f':{TOKEN}'.encode()).decode()}",), (TOKEN,))
WRONG_TOKENS = ((f"Bearer {TOKEN[:-1]}x",), ("Bearer ",), (f"Bearer {TOKEN} x",), (f"Bearer {TOKEN[:-1]}",))
TWO_TOKENS = ((f"Bearer {TOKEN}", f"Bearer {TOKEN}"), ("Basic YTpi", f"Bearer {TOKEN}"))
JSON_TYPES = ((JSON,), (f"{JSON}; charset=utf-8",))
OTHER_TYPES = (
    (), ("text/plain",), ("application/x-www-form-urlencoded",), ("multipart/form-data; boundary=x",), (JSON, JSON),
    (f"text/plain; {JSON}",), (f"{JSON}; charset=utf-16",),
)  # fmt: skip
SERVED, UNAVAILABLE = (200, 201), 503


@dataclass(frozen=True)
class Cell:
    """One request: by which door, by which method, and what it claims. A claim is the values of its header."""

    door: str
    method: str
    host: tuple[str, ...] = OUR_HOSTS[0]
    origin: tuple[str, ...] = ()
    site: tuple[str, ...] = ()
    token: tuple[str, ...] = ()
    kind: tuple[str, ...] = (JSON,)

    @property
    def headers(self) -> Headers:
        named = (
            ("host", self.host),
            ("origin", self.origin),
            ("sec-fetch-site", self.site),
            ("authorization", self.token),
            ("content-type", self.kind),
        )
        return [(name, value) for name, values in named for value in values]


CLAIMS = {
    "host": (*OUR_HOSTS[1:], *WORDS, *OTHER_HOSTS, *NOT_ONE_HOST),
    "origin": (*OUR_ORIGINS, *OTHER_ORIGINS),
    "site": (*OUR_SITES[1:], *OTHER_SITES),
    "token": (*RIGHT_TOKENS, *NO_TOKENS, *WRONG_TOKENS, *TWO_TOKENS),
    "kind": (*JSON_TYPES[1:], *OTHER_TYPES),
}


def allowed(cell: Cell, place: Place) -> int:
    """Say with which status a request is refused; 200: it is served. Whatever comes first here counts."""
    by_socket = cell.door == "socket"
    # A page of somewhere else must not get anywhere, whatever name its server gave crewd.
    if cell.host in NOT_ONE_HOST:
        return 400
    if cell.host not in OUR_HOSTS and not (by_socket and cell.host in WORDS):
        return 403
    if cell.origin and (by_socket or cell.origin not in OUR_ORIGINS):
        return 403
    if cell.site not in OUR_SITES:
        return 403
    if cell.method not in ("GET", "HEAD", "POST"):
        return 405
    # A token that is wrong is refused also where none is needed.
    if cell.token in TWO_TOKENS:
        return 400
    if cell.token in WRONG_TOKENS:
        return 401
    is_trusted = by_socket or cell.token in RIGHT_TOKENS
    if cell.method == "POST":
        if not is_trusted:
            return 403
        if cell.kind not in JSON_TYPES:
            return 415
    if ("GET" if cell.method == "HEAD" else cell.method) not in place.methods:
        return 405
    # What workers wrote is told to whoever may change things, and to nobody else.
    return 403 if place.tells_output and not is_trusted else 200


def cells(door: str, method: str) -> Iterator[Cell]:
    """A request without fault, and each that differs from it in one claim; of a method that nobody has the former."""
    base = Cell(door, method, token=RIGHT_TOKENS[0] if door == "tcp" else ())
    yield base
    if method not in ("GET", "HEAD", "POST"):
        return
    claims = {name: values for name, values in CLAIMS.items() if method != "HEAD" or name in ("host", "origin")}
    for claim, values in claims.items():
        yield from (replace(base, **{claim: value}) for value in values)  # type: ignore[arg-type]  # each is a tuple
    if door == "socket":
        # The token changes nothing for whoever needs none; without it nothing changes either.
        yield replace(base, token=RIGHT_TOKENS[0], origin=OUR_ORIGINS[0])


def wrongs(cell: Cell, place: Place, answer: Answer) -> Iterator[str]:
    """Say everything that is wrong with an answer."""
    wanted = allowed(cell, place)
    fits = answer.status in SERVED if wanted == 200 else answer.status == wanted
    if not fits and not (place.template == "/readyz" and wanted == 200 and answer.status == UNAVAILABLE):
        yield f"{answer.status} instead of {wanted}"
    if wanted != 200 and cell.method != "HEAD" and not answer.code:
        yield "refused without saying why"
    if cell.method == "HEAD" and answer.body:
        yield "HEAD has a body"
    for name, value in (("x-content-type-options", "nosniff"), ("x-frame-options", "DENY")):
        if answer.values(name) != [value]:
            yield f"{name} is missing"
    if not answer.values("content-security-policy")[0].startswith("default-src 'none'"):
        yield "its content security policy is open"
    if answer.values("cross-origin-resource-policy") != ["same-origin"]:
        yield "another site may embed it"
    if any(name.lower().startswith(b"access-control-") for name, _ in answer.headers):
        yield "lets another origin read it"
    if answer.values("set-cookie"):
        yield "sets a cookie: a browser would send it along for anybody"


def test_every_route_is_there_and_has_what_it_is_asked_with() -> None:
    found = {place.template for place in places()}
    assert len(found) > 45 and BODIES.keys() <= found


@pytest.mark.parametrize("door", DOORS)
def test_every_route_serves_and_refuses_by_one_rule(door: str, tmp_path: Path) -> None:
    state = Watched(tmp_path)
    wrong: list[object] = []
    counts: Counter[int] = Counter()

    async def run() -> None:
        app = build_app(state)
        for place, method in itertools.product(places(), METHODS):
            for cell in cells(door, method):
                before, wanted = state.changes(), allowed(cell, place)
                answer = await asked(app, method, place.path, cell.headers, place.body, DOORS[door])
                counts[wanted] += 1
                found = list(wrongs(cell, place, answer))
                if (state.changes() > before) is not (method == "POST" and wanted == 200):
                    found.append("changed something" if state.changes() > before else "changed nothing")
                if found:
                    wrong.append((place.template, cell, found, answer.body[:200]))

    asyncio.run(run())
    print(f"policy matrix, {door}: {sum(counts.values())} cells, by status {dict(sorted(counts.items()))}")
    assert not wrong, wrong[:5]
    assert not any(code >= 500 and route != "/readyz" for route, _, code in state.observed)


@pytest.mark.parametrize("door", DOORS)
def test_a_stream_is_guarded_as_every_other_answer_is(door: str, tmp_path: Path) -> None:
    state = Watched(tmp_path)
    streams = [place for place in places() if place.streams]
    assert len(streams) == 2
    wrong: list[object] = []
    many = 0

    async def run() -> None:
        nonlocal many
        app = build_app(state)
        for place, method in itertools.product(streams, ("GET", "HEAD", "POST", "OPTIONS")):
            for cell in cells(door, method):
                headers = [*cell.headers, ("accept", STREAM)]
                answer = await asked(app, method, place.path, headers, place.body, DOORS[door])
                many += 1
                is_stream = any(value.startswith(STREAM) for value in answer.values("content-type"))
                found = list(wrongs(cell, place, answer))
                if is_stream is not (allowed(cell, place) == 200):
                    found.append("a stream" if is_stream else "no stream")
                if found:
                    wrong.append((place.template, cell, found))
        # Whoever was refused holds no place among the streams.
        assert state.broadcast.figures().clients == 0

    asyncio.run(run())
    print(f"policy matrix, streams, {door}: {many} cells")
    assert not wrong, wrong[:5]


@pytest.mark.real_time
@pytest.mark.parametrize("door", DOORS)
def test_on_the_wire_the_rule_is_the_same(door: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A server stands before the application: what it makes of odd methods and headers is the rule as well."""
    folder = tmp_path_factory.mktemp("s")
    state = Watched(folder / "state")
    chosen = [
        place for place in places() if place.template in ("/", "/api/v1/runs/{run}", "/api/v1/pause", "/-/log-level")
    ]
    wrong: list[object] = []
    many = 0

    async def run() -> None:
        nonlocal many
        server = Server(build_app(state), HttpOptions(port=0, socket=str(folder / "c.sock")))
        address = await server.start()
        connection = await (
            asyncio.open_connection(*address) if door == "tcp" else asyncio.open_unix_connection(server.socket)
        )
        try:
            # CONNECT would turn this connection into another one: it is asked in the process alone.
            for place, method in itertools.product(chosen, [each for each in METHODS if each != "CONNECT"]):
                for cell in cells(door, method):
                    if cell.host in NOT_ONE_HOST:
                        continue  # the server itself refuses it, and closes: see test_malformed_requests.py
                    wanted, before = allowed(cell, place), state.changes()
                    status = await _status(connection, method, place, cell.headers)
                    many += 1
                    if (status not in SERVED if wanted == 200 else status != wanted) or (
                        state.changes() > before
                    ) is not (method == "POST" and wanted == 200):
                        wrong.append((place.template, cell, status, wanted))
        finally:
            connection[1].close()
            await server.stop()

    asyncio.run(run())
    print(f"policy matrix, on the wire, {door}: {many} cells")
    assert not wrong, wrong[:5]


async def _status(
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], method: str, place: Place, headers: Headers
) -> int:
    """Ask on a connection that stays, and read the answer whole."""
    reader, writer = connection
    body = place.body if method not in ("GET", "HEAD") else b""
    lines = [f"{method} {place.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    writer.write("\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode("latin-1") + body)
    async with asyncio.timeout(10):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        size = next(int(line[16:]) for line in head.split("\r\n") if line.startswith("content-length: "))
        if method != "HEAD":
            await reader.readexactly(size)
    return int(head[9:12])
