"""The guard: what is refused before any route is looked for, and what every answer carries. Pure ASGI."""

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import structlog

from crewd.telemetry.json_text import encode
from crewd.web.asgi import App, Message, Receive, Scope, Send
from crewd.web.caller import Caller, Peer, identify
from crewd.web.refusal import Refused, refusal, refusal_body
from crewd.web.turns import Turns

LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")
METHODS = ("GET", "HEAD", "POST")
# What a browser says of its own accord: it is on crewd's own page, or a person opened the address (Fetch Metadata).
OWN_SITES = (b"same-origin", b"none")
# What a link of another site may open: alerts link to it from Alertmanager's page, which is one. It is part of what
# is shipped, the same for everybody, and tells nothing of what this crewd sees.
LINKED_PAGE = "/runbooks"
# Under these names they stand in the scope's state: who is at the other end, who asks, the connection, and whether
# only the head of an answer is wanted.
PEER, CALLER, LINE, HEAD = "peer", "caller", "line", "head"
HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::[0-9]{1,5})?")
JSON_TYPE = re.compile(rb"[ \t]*application/json[ \t]*(?:;[ \t]*charset=(?:utf-8|\"utf-8\")[ \t]*)?", re.IGNORECASE)
# Encoded path separators and NUL: no route has one, and after decoding they would look like a path.
HIDDEN_IN_PATH = re.compile(rb"%(?:2f|5c|00)", re.IGNORECASE)

# Nothing is loaded from elsewhere, framed anywhere, kept anywhere, or sent on anywhere. Scripts and styles are files
# of crewd's own: what became markup after all could neither run nor look like anything.
SECURITY = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
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
    the Host must be one of ours, an Origin must be ours too, and what a browser calls another site is refused.
    Only GET, HEAD and POST exist, and POST only for whoever comes through the unix socket or with a token, with a
    content type that no form of another site can send. What fails inside is answered, counted and logged here, once.
    """

    def __init__(
        self,
        app: App,
        allowed_hosts: Iterable[str],
        observed: Callable[[str, str, int, float], None],
        token: Callable[[], str] = lambda: "",
    ) -> None:
        self._app = app
        self._hosts = frozenset(name for host in (*LOCAL_HOSTS, *allowed_hosts) if (name := host_name(host)))
        self._observed = observed
        self._token = token
        self._turns = Turns()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] != "http":
            # No websockets: closed before they are open. Lifespan messages do not come (lifespan is off).
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        now = asyncio.get_running_loop().time
        began = now()
        method = scope["method"]
        answer = _Answer(send, head=method == "HEAD")
        # HEAD is answered like GET, and _Answer leaves the body out.
        inner = {**scope, "method": "GET" if method == "HEAD" else method}
        route = "refused"
        try:
            await self._turns.take()
            caller = self._admit(scope)
            inner["state"] = {**scope.get("state", {}), CALLER: caller, HEAD: method == "HEAD"}
            await self._app(inner, receive, answer.send)
            route = _route(inner)
        except Refused as refused:
            await answer.refuse(refused)
        except Exception:  # noqa: BLE001 - the caller is a stranger: an answer, a count and a log line are due
            structlog.get_logger("crewd.web").exception("web.request_failed", path=scope.get("path"))
            route = _route(inner)
            await answer.refuse(refusal(500, "internal", "crewd failed to answer", "look at crewd's log"))
        finally:
            # A stream is counted when it is over, with the time that it took to begin.
            ended = answer.streaming_since or now()
            self._observed(route, method if method in METHODS else "other", answer.status, ended - began)

    def _admit(self, scope: Scope) -> Caller:
        """Say who asks. Raises Refused where this caller may not ask this."""
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value)
        if b"transfer-encoding" in headers and b"content-length" in headers:
            # A proxy in front may have taken the other for the end of the body, and what follows it for one of its
            # own requests: nothing more is read from this connection (RFC 9112, section 6.1).
            raise refusal(400, "two_lengths", "the body has two ends", "send one of the headers", connection="close")
        peer: Peer | None = scope.get("state", {}).get(PEER)
        self._look_where_from(headers, peer, _is_linked(scope, headers))
        if scope["method"] not in METHODS:
            raise refusal(
                405,
                "method_not_allowed",
                "crewd knows GET, HEAD and POST",
                "use GET to ask, POST to change",
                allow=", ".join(METHODS),
            )
        if any(b"websocket" in value.lower() for value in headers.get(b"upgrade", ())):
            # The one request that a browser sends for any page without saying which site that page is of.
            raise refusal(400, "no_websocket", "crewd speaks no WebSocket", "ask for text/event-stream")
        if HIDDEN_IN_PATH.search(scope.get("raw_path") or b""):
            raise refusal(400, "bad_path", "the path hides a separator", "give ids without / and \\")
        caller = identify(peer, headers, self._token)
        if scope["method"] == "POST":
            _look_at_change(headers, caller)
        return caller

    def _look_where_from(self, headers: Mapping[bytes, Sequence[bytes]], peer: Peer | None, linked: bool) -> None:
        hosts = headers.get(b"host", ())
        if len(hosts) != 1:
            raise refusal(400, "bad_host", "exactly one Host header is needed", "send one Host header")
        host = hosts[0].decode("latin-1")
        if host_name(host) not in self._hosts and not (peer is not None and _is_made_up(host)):
            raise refusal(
                403, "host_not_allowed", "this Host is not one of crewd's names", "add it to http.allowed_hosts"
            )
        origins = headers.get(b"origin", ())
        # No page is ever served through the socket: whatever names an origin there is a browser led astray.
        if any(peer is not None or not self._is_ours(origin) for origin in origins):
            raise refusal(403, "origin_not_allowed", "this Origin is not crewd's own", "open crewd's own address")
        # "same-site" is another site too: a page of another port of this machine, or of a neighbouring name.
        sites = headers.get(b"sec-fetch-site", ())
        if any(site.strip().lower() not in OWN_SITES for site in sites) and not linked:
            raise refusal(403, "cross_site", "another site sent the browser here", "open crewd's address by hand")

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


def _is_linked(scope: Scope, headers: Mapping[bytes, Sequence[bytes]]) -> bool:
    """Say whether a person followed a link to the one page that other sites may link to: a whole page, not a part."""
    return (
        scope["path"] == LINKED_PAGE
        and scope["method"] in ("GET", "HEAD")
        and headers.get(b"sec-fetch-mode") == [b"navigate"]
        and headers.get(b"sec-fetch-dest") == [b"document"]
    )


def _is_made_up(host: str) -> bool:
    """Say whether a Host is the word that a client of the unix socket puts in for want of a name.

    Any will do but one with a dot or in brackets: those are what names and addresses of the network look like, and a
    browser that reaches the socket through a forwarded port must not be led there by one.
    """
    return not host.strip() or ("." not in host and "[" not in host and bool(host_name(host)))


def _look_at_change(headers: Mapping[bytes, Sequence[bytes]], caller: Caller) -> None:
    """Raise Refused unless this caller may change things, and asks as no form of a web page can."""
    if not caller.trusted:
        raise refusal(
            403,
            "changes_not_allowed",
            "nothing can be changed over TCP without a token",
            "use the unix socket in the state folder, or send the token as Authorization: Bearer",
        )
    types = headers.get(b"content-type", ())
    if len(types) != 1 or not JSON_TYPE.fullmatch(types[0]):
        raise refusal(
            415, "not_json", "a change is asked for in JSON", "send one Content-Type header: application/json"
        )
    if any(coding.strip().lower() not in (b"", b"identity") for coding in headers.get(b"content-encoding", ())):
        raise refusal(415, "encoded", "the body is compressed", "send it as it is", accept_encoding="identity")


def _route(scope: Scope) -> str:
    """Return the template of the route that served this: what a stranger asks for must not become a label."""
    return getattr(scope.get("route"), "path", "unknown")


class _Answer:
    """One answer on its way out: carries the security headers, and knows its status."""

    def __init__(self, send: Send, head: bool) -> None:
        self._send = send
        self._head = head
        self.status = 0
        self.streaming_since = 0.0  # by the loop's time; 0: this is no stream

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if any(name == b"content-type" and value.startswith(STREAM) for name, value in message["headers"]):
                self.streaming_since = asyncio.get_running_loop().time()
            given = [(name, value) for name, value in message.get("headers", ()) if name.lower() not in OWN_HEADERS]
            message = {**message, "headers": [*given, *SECURITY]}
        elif self._head and message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await self._send(message)

    async def refuse(self, refused: Refused) -> None:
        if self.status:
            return  # too late: the answer has begun, and the server cuts it off
        body = encode(refusal_body(refused.code, refused.message, refused.details))
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        headers += [(name.encode(), value.encode()) for name, value in refused.headers.items()]
        await self.send({"type": "http.response.start", "status": refused.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


OWN_HEADERS = frozenset(name for name, _ in SECURITY)
STREAM = b"text/event-stream"
