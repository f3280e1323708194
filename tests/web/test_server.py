"""The server: a real one on a free port, spoken to through raw sockets, since no client library sends such things."""

import asyncio
import contextlib
import os
import pwd
import signal
import stat
from pathlib import Path

import pytest

from crewd.host.listening import address, listen
from crewd.model.asking import Done
from crewd.web.app import build_app
from crewd.web.server import TICK_SECONDS, HttpOptions, Server
from tests.web.world import TOKEN, Deeds, State

PATIENCE = 10.0


Place = tuple[str, int] | str


async def connect(place: Place) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect by TCP, or to the unix socket of that path."""
    return await (asyncio.open_unix_connection(place) if isinstance(place, str) else asyncio.open_connection(*place))


async def say(place: Place, *pieces: bytes) -> bytes:
    """Send bytes, and return everything that comes back until the server closes."""
    async with asyncio.timeout(PATIENCE):
        reader, writer = await connect(place)
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()


def get(path: str = "/healthz", *lines: str, host: str | None = "127.0.0.1") -> bytes:
    """Write a request by hand."""
    head = [f"GET {path} HTTP/1.1", *([f"Host: {host}"] if host is not None else []), "Connection: close", *lines]
    return ("\r\n".join(head) + "\r\n\r\n").encode("latin-1")


def post(path: str, body: bytes, *lines: str, host: str = "127.0.0.1", length: int | None = None) -> bytes:
    """Write a change by hand, with the right token."""
    head = [
        f"POST {path} HTTP/1.1",
        f"Host: {host}",
        "Connection: close",
        f"Authorization: Bearer {TOKEN}",
        *lines,
        *([] if CHUNKED in lines else [f"Content-Length: {len(body) if length is None else length}"]),
    ]
    return ("\r\n".join(head) + "\r\n\r\n").encode("latin-1") + body


async def served(state: State, *requests: bytes) -> list[bytes]:
    """Answer requests one after the other from a fresh server, which must live through all of them."""
    server = Server(build_app(state), HttpOptions(port=0, connections_max=8, keep_alive=1.0, request_seconds=2.0))
    place = await server.start()
    try:
        answers = [await say(place, request) for request in requests]
        assert b" 200 " in (await say(place, get())).splitlines()[0]
        return answers
    finally:
        await server.stop()


def test_it_answers_on_a_free_port_and_lets_it_go() -> None:
    async def run() -> None:
        server = Server(build_app(State()), HttpOptions(port=0))
        host, port = await server.start()
        assert host == "127.0.0.1" and port > 0 and server.address == (host, port)
        answer = await say((host, port), get())
        assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(b'{"status":"ok"}')
        assert b"server:" not in answer.lower()
        await server.stop()
        await server.stop()
        with pytest.raises(OSError):
            await asyncio.open_connection(host, port)

    asyncio.run(run())


def test_an_inherited_socket_is_used() -> None:
    async def run() -> None:
        socket = listen("127.0.0.1", 0)
        server = Server(build_app(State()), HttpOptions(port=1))
        assert await server.start(socket) == address(socket)
        assert b" 200 " in await say(address(socket), get())
        await server.stop()

    asyncio.run(run())


def test_a_taken_port_is_an_error_and_not_an_exit() -> None:
    async def run() -> None:
        socket = listen("127.0.0.1", 0)
        with pytest.raises(OSError):
            await Server(build_app(State()), HttpOptions(port=address(socket)[1])).start()
        socket.close()

    asyncio.run(run())


def test_an_end_is_heard_at_once_although_nobody_asks_for_it_often() -> None:
    async def run() -> None:
        server = Server(build_app(State()), HttpOptions(port=0))
        place = await server.start()
        await say(place, get())
        async with asyncio.timeout(TICK_SECONDS * 0.7):
            await server.stop()

    asyncio.run(run())


def test_signals_stay_with_the_daemon() -> None:
    async def run() -> None:
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        server = Server(build_app(State()), HttpOptions(port=0))
        await server.start()
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
        await server.stop()

    asyncio.run(run())


def test_stopping_before_starting_is_fine_and_starting_twice_is_not() -> None:
    async def run() -> None:
        server = Server(build_app(State()), HttpOptions(port=0))
        await server.stop()
        await server.start()
        with pytest.raises(RuntimeError, match="already"):
            await server.start()
        await server.stop()

    asyncio.run(run())


JSON = "Content-Type: application/json"
CHUNKED = "Transfer-Encoding: chunked"
PAUSE = "/api/v1/pause"
DAEMON = b'{"scope":"daemon"}'
MALFORMED = [
    b"\x00\x01\x02\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1 \r\n\r\n",
    b"GET  / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"G\xc4T / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /\x7f HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /\xc3\xa4 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\r\n" * 50 + b"\x00",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n folded: x\r\n : y\r\n\r\n",
    b"GET / HTTP/1.1\nHost: evil.example\nConnection: close\n\n",
    get(host=None),
    get(host=""),
    get("/healthz", "Host: 127.0.0.1"),
    get("/healthz", "Host: evil.example"),
    get("/healthz", "hOST : 127.0.0.1"),
    get("/healthz", host="evil.example"),
    get("/healthz", host="127.0.0.1@evil.example"),
    get("/healthz", host="127.0.0.1, evil.example"),
    get("/healthz", host="127.0.0.1\x00.evil.example"),
    get("/healthz", "Bad Header: x"),
    get("/healthz", "X: a\x00b"),
    get("/healthz", "X: " + "y" * 200_000),
    get("/healthz", *(f"X-{number}: y" for number in range(99_999))),
    get("/" + "a" * 40_000),
    get("/healthz", "Content-Length: abc"),
    get("/healthz", "Content-Length: -1"),
    get("/healthz", "Content-Length: 5", "Content-Length: 6"),
    get("/healthz", "Content-Length: 5, 6"),
    get("/healthz", "Transfer-Encoding: gzip, chunked"),
    get("/healthz", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
    get("/%"),
    get("/api/v1/runs/%ff%fe"),
    get("/api/v1/runs/..%2f..%2fetc%2fpasswd"),
    get("/api/v1/runs/%2e%2e/%2e%2e"),
    get("/../../etc/passwd"),
    get("http://evil.example/"),
    get("//evil.example/"),
    get("*"),
    get("/api/v1/events?after=%00"),
    get("/api/v1/events?" + "&".join(["after=1"] * 1500)),
    get("/healthz", "Authorization: Bearer wrong"),
    get("/healthz", "Authorization: Bearer " + "x" * 9000),
    b"CONNECT evil.example:443 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
    b"TRACE / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
    b"POST /api/v1/pause HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
    post(PAUSE, DAEMON),
    post(PAUSE, b"", JSON),
    post(PAUSE, b"scope=daemon", "Content-Type: application/x-www-form-urlencoded"),
    post(PAUSE, DAEMON, "Content-Type: text/plain"),
    post(PAUSE, DAEMON, JSON, JSON),
    post(PAUSE, DAEMON, JSON, "Content-Encoding: gzip"),
    post(PAUSE, DAEMON, JSON, "Origin: null"),
    post(PAUSE, DAEMON, JSON, "Sec-Fetch-Site: cross-site"),
    post(PAUSE, DAEMON, JSON, "Authorization: Bearer wrong"),
    post(PAUSE, DAEMON, JSON, "X-Crewd-Actor: a/../b"),
    post(PAUSE, DAEMON, JSON, host="evil.example"),
    post(PAUSE, DAEMON + DAEMON, JSON),
    post(PAUSE, DAEMON[:-1], JSON),
    post(PAUSE, DAEMON.replace(b"{", b'{"scope":"daemon",'), JSON),
    post(PAUSE, b'{"scope":NaN}', JSON),
    post(PAUSE, b"[" * 60_000, JSON),
    post(PAUSE, b'{"a":' * 65 + b"1" + b"}" * 65, JSON),
    post(PAUSE, b"\xff\xfe" + "{}".encode("utf-16-le"), JSON),
    post(PAUSE, b"", JSON, length=10**12),
    post(PAUSE, b"\xff", JSON, CHUNKED),
    post(PAUSE, b"ZZ\r\n" + DAEMON, JSON, CHUNKED),
    post(PAUSE, b"-2\r\n{}\r\n0\r\n\r\n", JSON, CHUNKED),
    post(PAUSE, b"10000000000000000000000\r\n{}", JSON, CHUNKED),
    post(PAUSE, b"11170\r\n" + b" " * 70_000 + b"\r\n0\r\n\r\n", JSON, CHUNKED),
    post("/api/v1/runs/..%2fr1/cancel", b"{}", JSON),
    post("/api/v1/runs/r1%00/cancel", b"{}", JSON),
    post("/api/v1/pause/", DAEMON, JSON),
    post("/api/v1/status", b"{}", JSON),
    post("/metrics", b"{}", JSON),
]


@pytest.mark.parametrize("request_bytes", MALFORMED, ids=range(len(MALFORMED)))
def test_no_malformed_request_is_served_or_does_harm(request_bytes: bytes) -> None:
    state = State()
    (answer,) = asyncio.run(served(state, request_bytes))
    # A flood is cut off while it is still being sent; its sender may not get to read why.
    cut_off = not answer and len(request_bytes) > 50_000
    assert cut_off or answer.split(b" ", 2)[1][:1] == b"4", answer[:200]
    assert not any(code >= 500 for _, _, code in state.observed)
    assert isinstance(state.actions, Deeds) and not state.actions.asked


def test_the_same_request_without_its_fault_is_served() -> None:
    state = State()
    chunked = post(PAUSE, b"12\r\n" + DAEMON + b"\r\n0\r\n\r\n", JSON, CHUNKED)
    for answer in asyncio.run(served(state, post(PAUSE, DAEMON, JSON), chunked)):
        assert answer.startswith(b"HTTP/1.1 200")
    assert isinstance(state.actions, Deeds) and len(state.actions.asked) == 2


def test_a_body_that_nobody_asked_for_is_not_waited_for() -> None:
    chunked = get("/healthz", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n"
    (answer,) = asyncio.run(served(State(), chunked))
    assert answer.startswith(b"HTTP/1.1 200")


def test_beyond_its_limit_connections_are_told_to_come_back() -> None:
    async def run() -> None:
        server = Server(build_app(State()), HttpOptions(port=0, connections_max=2))
        place = await server.start()
        held = [await asyncio.open_connection(*place) for _ in range(3)]
        for _, writer in held:
            writer.write(b"GET / HTTP/1.1\r\n")
            await writer.drain()
        answer = await say(place, get())
        assert answer.startswith(b"HTTP/1.1 503")
        for _, writer in held:
            writer.close()
        await server.stop()

    asyncio.run(run())


@pytest.mark.parametrize(("field", "value"), [("port", 70000), ("port", -1), ("connections_max", 0)])
def test_options_out_of_bounds_are_refused_by_name(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"http\.{field} is {value}"):
        HttpOptions(**{field: value})  # type: ignore[arg-type]  # one of several fields, by name


def test_whoever_sends_nothing_or_half_a_request_is_closed_in_time() -> None:
    async def run() -> None:
        server = Server(build_app(State()), HttpOptions(port=0, request_seconds=0.2))
        place = await server.start()
        try:
            halves = (
                b"",
                b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n",
                get().replace(b"Connection: close\r\n", b"") + b"GET",
            )
            for half in halves:
                answer = await say(place, half)
                assert answer == b"" or answer.startswith(b"HTTP/1.1 200")
        finally:
            await server.stop()

    asyncio.run(run())


def test_idle_connections_without_number_lock_nobody_out() -> None:
    async def run() -> None:
        server = Server(build_app(State()), HttpOptions(port=0, connections_max=4, request_seconds=0.3))
        place = await server.start()
        idle = []
        try:
            for _ in range(40):
                idle.append(await asyncio.open_connection(*place))
            ended = [asyncio.create_task(reader.read()) for reader, _ in idle]
            done, _ = await asyncio.wait(ended, timeout=PATIENCE)
            assert len(done) == 40
            assert b" 200 " in (await say(place, get())).splitlines()[0]
        finally:
            for _, writer in idle:
                writer.close()
            await server.stop()

    asyncio.run(run())


# The unix socket


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("s") / "crewd.sock")


def pause_by_socket(host: str = "crewd") -> bytes:
    return post(PAUSE, DAEMON, JSON, host=host).replace(f"Authorization: Bearer {TOKEN}\r\n".encode(), b"")


@pytest.mark.parametrize("tcp", [True, False])
def test_changes_come_through_the_unix_socket_and_it_goes_with_the_server(path: str, tcp: bool) -> None:
    async def run() -> None:
        state = State()
        server = Server(build_app(state), HttpOptions(port=0, tcp=tcp, socket=path))
        place = await server.start()
        assert (place == ("", 0)) is (not tcp) and server.socket == path and not server.complaint
        assert stat.S_IMODE(os.lstat(path).st_mode) == 0o600
        for answer in await asyncio.gather(say(path, get()), say(path, pause_by_socket())):
            assert answer.startswith(b"HTTP/1.1 200"), answer
            assert b"\r\ndate:" not in answer  # which would be renewed every second, also while nobody asks
        user = pwd.getpwuid(os.geteuid()).pw_name
        assert state.actions is not None
        assert state.actions.asked == [("pause", "daemon", False, "", f"operator:{user}")]
        if tcp:
            assert (await say(place, pause_by_socket("localhost"))).startswith(b"HTTP/1.1 403")
        await server.stop()
        await server.stop()
        assert not os.path.lexists(path)
        with pytest.raises(OSError):
            await connect(path)

    asyncio.run(run())


def test_another_user_is_closed_out_even_with_the_token(path: str) -> None:
    async def run() -> None:
        state = State()
        server = Server(build_app(state), HttpOptions(port=0, socket=path), uids=frozenset({os.geteuid() + 1}))
        place = await server.start()
        assert await say(path, post(PAUSE, DAEMON, JSON)) == b""
        assert (await say(place, get())).startswith(b"HTTP/1.1 200")
        assert isinstance(state.actions, Deeds) and not state.actions.asked
        await server.stop()

    asyncio.run(run())


def test_a_socket_that_cannot_be_had_is_a_complaint_and_tcp_goes_on(tmp_path: Path) -> None:
    async def run() -> None:
        too_long = str(tmp_path / ("x" * 120))
        server = Server(build_app(State()), HttpOptions(port=0, socket=too_long))
        place = await server.start()
        assert too_long in server.complaint and "at most 80" in server.complaint and not server.socket
        assert (await say(place, get())).startswith(b"HTTP/1.1 200")
        await server.stop()

    asyncio.run(run())


def test_whoever_fills_up_tcp_keeps_nobody_from_the_socket(path: str) -> None:
    async def run() -> None:
        server = Server(build_app(State()), HttpOptions(port=0, socket=path, connections_max=2))
        place = await server.start()
        held = [await connect(place) for _ in range(8)]
        try:
            for _, writer in held[:3]:
                writer.write(b"GET / HTTP/1.1\r\n")
            assert (await say(place, get()))[:12] in (b"", b"HTTP/1.1 503")
            assert (await say(path, get())).startswith(b"HTTP/1.1 200")
        finally:
            for _, writer in held:
                writer.close()
            await server.stop()

    asyncio.run(run())


@pytest.mark.parametrize("door", ["tcp", "socket"])
def test_a_body_that_does_not_come_is_not_waited_for(path: str, door: str) -> None:
    async def run() -> None:
        state = State()
        server = Server(build_app(state), HttpOptions(port=0, socket=path, request_seconds=0.3))
        tcp = await server.start()
        place: Place = tcp if door == "tcp" else path
        began = asyncio.get_running_loop().time()
        half = post(PAUSE, DAEMON[:5], JSON, length=len(DAEMON))
        assert (await say(place, half)).startswith(b"HTTP/1.1 408")
        # One that drips is no better than one that has stopped.
        reader, writer = await connect(place)
        writer.write(post("/api/v1/runs", b"", JSON, length=10_000))
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof() and asyncio.get_running_loop().time() - began < PATIENCE:
                writer.write(b" ")
                await writer.drain()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(1000), 0.05)
        writer.close()
        assert asyncio.get_running_loop().time() - began < 3.0
        assert isinstance(state.actions, Deeds) and not state.actions.asked
        assert (await say(place, get())).startswith(b"HTTP/1.1 200")
        await server.stop()
        assert {code for _, _, code in state.observed} == {200, 408}

    asyncio.run(run())


def test_a_large_run_arrives_whole_and_one_too_large_is_told_so(path: str) -> None:
    async def run() -> None:
        state = State()
        server = Server(build_app(state), HttpOptions(port=0, socket=path))
        await server.start()
        text = b"x" * (4 * 2**20 - 100)
        answer = await say(path, post("/api/v1/runs", b'{"run":{"goal":"' + text + b'"}}', JSON))
        assert answer.startswith(b"HTTP/1.1 201"), answer[:300]
        answer = await say(path, post("/api/v1/runs", b'{"run":{"goal":"' + text * 2 + b'"}}', JSON))
        assert answer[:12] in (b"", b"HTTP/1.1 413")  # whoever goes on sending may not get to read it
        assert isinstance(state.actions, Deeds) and len(state.actions.asked) == 1
        await server.stop()

    asyncio.run(run())


def test_a_change_that_takes_long_is_waited_for(path: str) -> None:
    class Slow(Deeds):
        async def cancel(self, run_id: str, task_id: str, *, reason: str, actor: str) -> Done:
            await asyncio.sleep(0.5)
            return await super().cancel(run_id, task_id, reason=reason, actor=actor)

    async def run() -> None:
        state = State()
        state.actions = Slow()
        server = Server(build_app(state), HttpOptions(port=0, socket=path, request_seconds=0.1))
        await server.start()
        assert (await say(path, post("/api/v1/runs/r1/cancel", b"{}", JSON))).startswith(b"HTTP/1.1 200")
        await server.stop()

    asyncio.run(run())
