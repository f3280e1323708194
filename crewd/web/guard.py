"""The guard: what is refused before any route is looked for, and what every answer carries. Pure ASGI."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import structlog

from crewd.telemetry.json_text import encode
from crewd.web.refusal import Detail, refusal_body

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")
METHODS = ("GET", "HEAD")
HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::[0-9]{1,5})?")
# Encoded path separators and NUL: no route has one, and after decoding they would look like a path.
HIDDEN_IN_PATH = re.compile(rb"%(?:2f|5c|00)", re.IGNORECASE)

# Nothing is loaded from anywhere, framed anywhere, kept anywhere, or sent on anywhere. Styles are the page's own.
SECURITY = (
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


class Guard:
    """Stands before the application.

    A page of another origin must not reach crewd, whatever name its server pretends crewd has (DNS rebinding):
    the Host must be one of ours, an Origin must be ours too, and what a browser calls cross-site is refused.
    Only GET and HEAD exist. What fails inside is answered, counted and logged here, once.
    """

    def __init__(
        self, app: App, allowed_hosts: Iterable[str], observed: Callable[[str, str, int, float], None]
    ) -> None:
        self._app = app
        self._hosts = frozenset(name for host in (*LOCAL_HOSTS, *allowed_hosts) if (name := host_name(host)))
        self._observed = observed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] != "http":
            # No websockets: closed before they are open. Lifespan messages do not come (lifespan is off).
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        now = asyncio.get_running_loop().time
        began = now()
        answer = _Answer(send, head=scope["method"] == "HEAD")
        # HEAD is answered like GET, and _Answer leaves the body out.
        inner = {**scope, "method": "GET"}
        route = "refused"
        try:
            refused = self._refuse(scope)
            if refused is not None:
                await answer.refuse(*refused)
            else:
                await self._app(inner, receive, answer.send)
                route = _route(inner)
        except Exception:  # noqa: BLE001 - the caller is a stranger: an answer, a count and a log line are due
            structlog.get_logger("crewd.web").exception("web.request_failed", path=scope.get("path"))
            route = _route(inner)
            await answer.refuse(500, "internal", "crewd failed to answer", "look at crewd's log")
        finally:
            self._observed(
                route, scope["method"] if scope["method"] in METHODS else "other", answer.status, now() - began
            )

    def _refuse(self, scope: Scope) -> tuple[int, str, str, str] | None:
        """Say what is wrong with a request, as (status, code, message, next action); None: nothing."""
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value)
        hosts = headers.get(b"host", [])
        if len(hosts) != 1:
            return 400, "bad_host", "exactly one Host header is needed", "send one Host header"
        if host_name(hosts[0].decode("latin-1")) not in self._hosts:
            return 403, "host_not_allowed", "this Host is not one of crewd's names", "add it to http.allowed_hosts"
        if any(not self._is_ours(origin) for origin in headers.get(b"origin", [])):
            return 403, "origin_not_allowed", "this Origin is not crewd's own", "open crewd's own address"
        if any(site.strip().lower() == b"cross-site" for site in headers.get(b"sec-fetch-site", [])):
            return 403, "cross_site", "another site sent the browser here", "open crewd's address by hand"
        if scope["method"] not in METHODS:
            return 405, "method_not_allowed", "crewd only answers questions: GET and HEAD", "use GET"
        if HIDDEN_IN_PATH.search(scope.get("raw_path") or b""):
            return 400, "bad_path", "the path hides a separator", "give ids without / and \\"
        return None

    def _is_ours(self, origin: bytes) -> bool:
        scheme, separator, rest = origin.decode("latin-1").strip().partition("://")
        return bool(separator) and scheme in ("http", "https") and host_name(rest) in self._hosts


def host_name(host: str) -> str:
    """Return the name of a `host:port`, in lower case and without the port; "" where it is no host."""
    host = host.strip()
    if host.count(":") > 1 and not host.startswith("["):
        host = f"[{host}]"  # an IPv6 address from the settings, without brackets
    match = HOST.fullmatch(host)
    return match["name"].lower().rstrip(".") if match else ""


def _route(scope: Scope) -> str:
    """Return the template of the route that served this: what a stranger asks for must not become a label."""
    return getattr(scope.get("route"), "path", "unknown")


class _Answer:
    """One answer on its way out: carries the security headers, and knows its status."""

    def __init__(self, send: Send, head: bool) -> None:
        self._send = send
        self._head = head
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            given = [(name, value) for name, value in message.get("headers", ()) if name.lower() not in OWN_HEADERS]
            message = {**message, "headers": [*given, *SECURITY]}
        elif self._head and message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await self._send(message)

    async def refuse(self, status: int, code: str, message: str, next_action: str) -> None:
        if self.status:
            return  # too late: the answer has begun, and the server cuts it off
        body = encode(refusal_body(code, message, [Detail(code, "", message, next_action)]))
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if status == 405:
            headers.append((b"allow", b"GET, HEAD"))
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


OWN_HEADERS = frozenset(name for name, _ in SECURITY)
