"""Pages of elsewhere: what a browser sends for them gets nowhere. First as headers, then from a real Chromium.

A page may be of another site (CSRF), of another port of this machine, or of a name whose address became this
machine's (DNS rebinding): then the browser itself takes it for crewd's own, and only the Host tells.
"""

import asyncio
import itertools
import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from crewd.web.app import build_app
from crewd.web.server import HttpOptions, Server
from tests.security.world import DOORS, JSON, STREAM, Watched, asked, places
from tests.web.world import TOKEN

if TYPE_CHECKING:
    from tests.browser.chrome import Chrome

OURS = "127.0.0.1:9464"
EVIL = "http://evil.example"
NEIGHBOUR = "http://127.0.0.1:8080"
# What browsers send (Fetch Metadata; Fetch, 4.4 and 4.6), by who asks and how.
PAGES: Mapping[str, Mapping[str, str]] = {
    "a form of another site, as text": {
        "host": OURS,
        "origin": EVIL,
        "sec-fetch-site": "cross-site",
        "sec-fetch-mode": "navigate",
        "content-type": "text/plain",
    },
    "a form of another site": {
        "host": OURS,
        "origin": EVIL,
        "sec-fetch-site": "cross-site",
        "content-type": "application/x-www-form-urlencoded",
    },
    "a form with files of another site": {
        "host": OURS,
        "origin": EVIL,
        "sec-fetch-site": "cross-site",
        "content-type": "multipart/form-data; boundary=x",
    },
    "a page in a sandbox": {
        "host": OURS,
        "origin": "null",
        "sec-fetch-site": "cross-site",
        "content-type": "text/plain",
    },
    "an old browser without Fetch Metadata": {"host": OURS, "origin": EVIL, "content-type": "text/plain"},
    "a beacon": {
        "host": OURS,
        "origin": EVIL,
        "sec-fetch-site": "cross-site",
        "content-type": "text/plain;charset=UTF-8",
    },
    "a fetch with JSON, had its preflight been answered": {
        "host": OURS,
        "origin": EVIL,
        "sec-fetch-site": "cross-site",
        "content-type": JSON,
    },
    "a picture, a script or a frame of another site": {
        "host": OURS,
        "sec-fetch-site": "cross-site",
        "sec-fetch-mode": "no-cors",
    },
    "a link of another site": {"host": OURS, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
    "an EventSource of another site": {
        "host": OURS,
        "origin": EVIL,
        "sec-fetch-site": "cross-site",
        "accept": STREAM,
    },
    "a page of another port": {
        "host": OURS,
        "origin": NEIGHBOUR,
        "sec-fetch-site": "same-site",
        "content-type": "text/plain",
    },
    "a picture of a page of another port": {"host": OURS, "sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"},
    "an EventSource of another port": {
        "host": OURS,
        "origin": NEIGHBOUR,
        "sec-fetch-site": "same-site",
        "accept": STREAM,
    },
    # Rebound: to the browser it is one origin, so that it asks nobody and sends everything.
    "a rebound name": {"host": "evil.example:9464", "sec-fetch-site": "same-origin", "content-type": JSON},
    "a rebound name that posts": {
        "host": "evil.example:9464",
        "origin": f"{EVIL}:9464",
        "sec-fetch-site": "same-origin",
        "content-type": JSON,
    },
    "a rebound name with a dot at its end": {
        "host": "evil.example.:9464",
        "origin": f"{EVIL}.:9464",
        "content-type": JSON,
    },
    "a rebound name that begins like ours": {"host": "localhost.evil.example", "content-type": JSON},
    "a rebound name in other letters": {"host": "LOCALHOST.EVIL.EXAMPLE:9464", "content-type": JSON},
    "another address of this machine": {"host": "0.0.0.0:9464", "content-type": JSON},
    "another address of this machine, in IPv6": {"host": "[::ffff:127.0.0.1]:9464", "content-type": JSON},
    "an address in other digits": {"host": "2130706433:9464", "content-type": JSON},
    "an address in hex": {"host": "0x7f.1:9464", "content-type": JSON},
}


@pytest.mark.parametrize("door", DOORS)
def test_no_page_of_elsewhere_gets_anywhere(door: str, tmp_path: Path) -> None:
    """Not even with the right token: a page that has it is no page of a person who may change things."""
    state = Watched(tmp_path)
    wrong: list[object] = []
    many = 0

    async def run() -> None:
        nonlocal many
        app = build_app(state)
        for (who, claims), place in itertools.product(PAGES.items(), places()):
            if (who, door) == ("an address in other digits", "socket"):
                continue  # a word without dots is what clients of a socket put in
            headers = [*claims.items(), ("authorization", f"Bearer {TOKEN}"), ("cookie", "a=b")]
            for method in sorted(place.methods):
                answer = await asked(app, method, place.path, headers, place.body, DOORS[door])
                many += 1
                open_to = [name for name, _ in answer.headers if name.lower().startswith(b"access-control-")]
                if not 400 <= answer.status < 500 or open_to or answer.code not in REFUSALS:
                    wrong.append((who, method, place.template, answer.status, answer.code, open_to))

    asyncio.run(run())
    print(f"pages of elsewhere, {door}: {many} requests of {len(PAGES)} kinds")
    assert not wrong, wrong[:5]
    assert state.changes() == 0 and {route for route, _, _ in state.observed} == {"refused"}


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_link_of_elsewhere_leads_to_the_runbooks_and_to_nothing_else(site: str, tmp_path: Path) -> None:
    """An alert links to them from Alertmanager's page, which is another port of the machine."""
    link = {"host": OURS, "sec-fetch-site": site, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    bent: list[Mapping[str, str]] = [
        {**link, "sec-fetch-dest": "iframe"},
        {**link, "sec-fetch-mode": "no-cors"},
        {**link, "origin": EVIL},
        {**link, "host": "evil.example:9464"},
        {name: value for name, value in link.items() if name != "sec-fetch-dest"},
    ]

    state = Watched(tmp_path)

    async def run() -> None:
        app = build_app(state)
        served = [
            place.path for place in places() if (await asked(app, "GET", place.path, [*link.items()])).status < 400
        ]
        assert served == ["/runbooks"]
        for claims in bent:
            assert (await asked(app, "GET", "/runbooks", [*claims.items()])).code in REFUSALS, claims
        for path in ("//runbooks", "/runbooks/", "/api/v1/runs/../../runbooks"):
            assert (await asked(app, "GET", path, [*link.items()])).code in REFUSALS, path
        assert (await asked(app, "POST", "/runbooks", [*link.items()])).code in REFUSALS

    asyncio.run(run())


REFUSALS = {"host_not_allowed", "origin_not_allowed", "cross_site"}


@pytest.mark.parametrize("origin", [EVIL, NEIGHBOUR, "null", f"http://{OURS}"])
def test_a_preflight_is_never_answered_with_leave(origin: str, tmp_path: Path) -> None:
    state = Watched(tmp_path)
    headers = [
        ("host", OURS), ("origin", origin), ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type,authorization"),
        ("access-control-request-private-network", "true"),
    ]  # fmt: skip

    async def run() -> None:
        app = build_app(state)
        for place in places():
            answer = await asked(app, "OPTIONS", place.path, headers)
            assert 400 <= answer.status < 500
            assert not any(name.lower().startswith(b"access-control-") for name, _ in answer.headers)

    asyncio.run(run())


class Crewd:
    """crewd's application behind a real server, in a loop of its own thread."""

    def __init__(self, folder: Path) -> None:
        self.state = Watched(folder)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._server = Server(build_app(self.state), HttpOptions(port=0))
        self.port = asyncio.run_coroutine_threadsafe(self._server.start(), self._loop).result(10)[1]

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._server.stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@pytest.fixture
def crewd(tmp_path: Path) -> Iterator[Crewd]:
    made = Crewd(tmp_path / "state")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def elsewhere() -> Iterator[int]:
    """A server of somebody else on this machine, that serves a page; returns its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<!doctype html><title>elsewhere</title><body>a page of elsewhere"
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join(10)


# Everything that a page can do to reach another address. Tells what each came to; what cannot be seen is "blind".
TRIES = """
const [target, token, done] = arguments;
const told = {};
const within = (work, name) => Promise.race([
    work.then(value => told[name] = String(value), error => told[name] = "failed"),
    new Promise(resolve => setTimeout(() => { told[name] ??= "silent"; resolve(); }, 3000)),
]);
const read = options => fetch(target + "/api/v1/runs", options)
    .then(each => each.text()).then(text => "READ " + text);
const change = (type, more) => fetch(target + "/api/v1/pause", {
    method: "POST", body: '{"scope":"daemon"}', mode: more?.mode ?? "cors",
    headers: {"content-type": type, ...more?.headers},
}).then(each => each.type === "opaque" ? "blind" : "READ " + each.status);
const element = (name, attributes) => new Promise((resolve, reject) => {
    const made = document.createElement(name);
    made.onload = () => resolve(name === "iframe" ? "blind" : "READ"); made.onerror = reject;
    Object.assign(made, attributes); document.body.append(made);
});
const form = (enctype, name) => new Promise(resolve => {
    const frame = document.createElement("iframe"); frame.name = "f" + enctype.length; document.body.append(frame);
    const made = document.createElement("form"), field = document.createElement("input");
    Object.assign(made, {method: "post", action: target + "/api/v1/pause", enctype, target: frame.name});
    field.name = '{"scope":"daemon","reason":"'; field.value = '"}';
    made.append(field); document.body.append(made); frame.onload = () => resolve("blind"); made.submit();
});
Promise.all([
    within(read({}), "fetch"),
    within(read({credentials: "include"}), "fetch with cookies"),
    within(read({headers: {authorization: "Bearer " + token}}), "fetch with the token"),
    within(read({mode: "no-cors"}).then(text => text === "READ " ? "blind" : text), "fetch without CORS"),
    within(change("application/json"), "post of JSON"),
    within(change("application/json", {headers: {authorization: "Bearer " + token}}), "post of JSON with the token"),
    within(change("text/plain", {mode: "no-cors"}), "post of text"),
    within(form("text/plain"), "form of text"),
    within(form("application/x-www-form-urlencoded"), "form"),
    within(form("multipart/form-data"), "form with files"),
    within(Promise.resolve(navigator.sendBeacon(target + "/api/v1/pause", '{"scope":"daemon"}'))
        .then(() => "blind"), "beacon"),
    within(element("img", {src: target + "/assets/icon.svg"}), "picture"),
    within(element("script", {src: target + "/assets/api.js"}), "script"),
    within(element("script", {src: target + "/assets/app.js", type: "module"}), "module"),
    within(element("link", {href: target + "/assets/app.css", rel: "stylesheet"}), "style"),
    within(element("iframe", {src: target + "/"}), "frame"),
    within(new Promise((resolve, reject) => {
        const source = new EventSource(target + "/api/v1/events");
        source.onopen = () => resolve("READ"); source.onmessage = () => resolve("READ"); source.onerror = reject;
    }), "EventSource"),
    within(new Promise((resolve, reject) => {
        const socket = new WebSocket(target.replace("http", "ws") + "/api/v1/events");
        socket.onopen = () => resolve("READ"); socket.onerror = reject;
    }), "WebSocket"),
    within(new Promise((resolve, reject) => {
        const opened = window.open(target + "/");
        setTimeout(() => {
            try { resolve(opened && opened.document.body ? "READ " + opened.location.href : "blind"); }
            catch (error) { resolve("blind"); }
        }, 1500);
    }), "window"),
]).then(() => done(told));
"""


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.real_time
@pytest.mark.xdist_group("browser")
def test_a_page_of_elsewhere_reaches_nothing_in_a_real_browser(crewd: Crewd, elsewhere: int, tmp_path: Path) -> None:
    """From another port, from another name of this machine, and from a name that was rebound to it."""
    pytest.importorskip("selenium", reason="selenium is not installed: it is in the extra `dev`")
    from tests.browser.chrome import Chrome, missing

    if why := missing():
        pytest.skip(why)
    chrome = Chrome(
        tmp_path / "chromium", "--host-resolver-rules=MAP evil.example 127.0.0.1", "--disable-popup-blocking"
    )
    try:
        for page, target in (
            (f"http://127.0.0.1:{elsewhere}/", f"http://127.0.0.1:{crewd.port}"),
            (f"http://localhost:{elsewhere}/", f"http://127.0.0.1:{crewd.port}"),
            (f"http://evil.example:{elsewhere}/", f"http://127.0.0.1:{crewd.port}"),
            (f"http://evil.example:{elsewhere}/", f"http://evil.example:{crewd.port}"),
        ):
            crewd.state.observed.clear()
            chrome.driver.get(page)
            told = tried(chrome, target)
            print(f"{page} -> {target}: {len(told)} ways, {len(crewd.state.observed)} requests arrived")
            assert len(told) == 19 and not [each for each in told.values() if each.startswith("READ")], told
            assert crewd.state.changes() == 0
            # A window that shows a refusal asks for an icon of its own accord, and there is none.
            arrived = [each for each in crewd.state.observed if each != ("unknown", "GET", 404)]
            served = [each for each in arrived if each[0] != "refused" or not 400 <= each[2] < 500]
            assert arrived and served == []
        # The browser takes a rebound name for crewd's own: the page itself is not even shown.
        chrome.driver.get(f"http://evil.example:{crewd.port}/")
        assert "host_not_allowed" in chrome.text()
        # And by its own name it is.
        chrome.driver.get(f"http://127.0.0.1:{crewd.port}/")
        chrome.one("main")
        # A link leads to the runbooks, as that of an alert does, and to nothing else.
        for path, shown in (("/runbooks#crewdworkerdead", "CrewdWorkerDead"), ("/api/v1/runs", "cross_site")):
            chrome.driver.get(f"http://127.0.0.1:{elsewhere}/")
            follow = (
                "const a = document.createElement('a'); a.href = arguments[0]; document.body.append(a); a.click();"
            )
            chrome.js(follow, f"http://127.0.0.1:{crewd.port}{path}")
            chrome.wait_for(shown)
    finally:
        chrome.close()


def tried(chrome: "Chrome", target: str) -> dict[str, Any]:
    told = chrome.driver.execute_async_script(TRIES, target, TOKEN)  # type: ignore[no-untyped-call]  # selenium's
    return dict(told) if isinstance(told, dict) else json.loads(told)
