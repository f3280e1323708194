"""Asks the daemon, and where it does not answer reads its ledger, saying so."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import click

from crewd.cli.options import environment, token
from crewd.cli.refusals import refusal
from crewd.cli.text import clean
from crewd.errors import CrewdError, DaemonUnreachable, NothingMatched, SettingsError

if TYPE_CHECKING:
    from crewd.cli.wire import Door, Reply
    from crewd.config.settings import Settings
    from crewd.ledger.reader import Reader
    from crewd.telemetry.redact import Redactor

DEFAULT_URL = "http://127.0.0.1:9464"  # of a daemon that nobody configured
SOCKET = "crewd.sock"  # in the state folder
TIMEOUT_SECONDS = 3.0
Body = bytes | None
Piece = bytes
STREAM_SECONDS = 60.0  # between two pieces
CHANGE_SECONDS = 600.0  # a cancel is answered once nothing is left, many redrives once the last is done


class ConnectionLost(DaemonUnreachable):
    """The daemon heard us, and its answer did not come: what was asked may have been done."""


@dataclass(frozen=True)
class Place:
    """Where one crewd keeps its state, and where it should listen."""

    state: Path
    configured_url: str = ""  # "": unknown, since only the folder was named
    secrets: Callable[[], tuple[str, ...]] = tuple  # texts that must not be shown; asked for where it matters

    @cached_property
    def redactor(self) -> "Redactor":
        """What takes secrets out of an answer of the ledger; the daemon does so with its own."""
        from crewd.telemetry.redact import Redactor

        return Redactor(self.secrets())

    def url(self) -> str:
        """Return the address of the daemon of this place; "" where it is not running."""
        try:
            told = json.loads((self.state / "daemon.json").read_bytes())
            # A daemon that was killed leaves the file behind.
            if Path(f"/proc/{int(told['pid'])}").exists():
                return str(told["url"])
        except (OSError, ValueError, TypeError, KeyError):
            pass
        return self.configured_url

    def daemon(self) -> "Daemon":
        """Begin a conversation with the daemon of this place. Raises DaemonUnreachable."""
        return Daemon(self.url(), self.state / SOCKET, token())


@dataclass(frozen=True)
class Answer:
    """What was asked for, and who said it."""

    source: str  # "daemon" or "ledger"
    as_of: str  # RFC 3339; "" = now
    body: Any
    notice: str = ""  # why it is not the daemon that answers


class Daemon:
    """One conversation with the daemon.

    Questions go to its TCP address, and to the socket in its state folder where it has no such address. Changes go
    to the socket, which knows its user, and only where that is not to be had to TCP, with $CREWD_TOKEN.

    Whatever is asked raises DaemonUnreachable, NothingMatched (404), RequestRefused (400), Refused (401, 403, 409),
    DaemonBusy (503), CrewdError (everything else).
    """

    def __init__(self, url: str, socket: Path | None = None, token: str = "") -> None:
        through = socket is not None and socket.exists()
        if not url and not through:
            # Told before anything is imported with which to ask.
            raise DaemonUnreachable("daemon unreachable: it is not running, or does not listen")
        from crewd.cli.wire import Door, NoDoor

        self._tcp: list[Door] = []
        self._unix = [Door.unix(socket)] if socket is not None and through else []
        self._with_token: list[Door] = []
        try:
            self._tcp = [Door.tcp(url)] if url else []
            # The token goes out only where it is needed: whoever else listens there would learn it.
            self._with_token = [Door.tcp(url, token)] if url and token else []
        except NoDoor as error:
            if not self._unix:
                raise DaemonUnreachable(f"daemon unreachable {error}") from None

    def json(self, path: str, query: Mapping[str, object] | None = None, seconds: float = TIMEOUT_SECONDS) -> Any:
        """Ask for JSON, which may take so long. What is None in the query is left out."""
        return _decoded(self.reply(path, query or {}, seconds=seconds), path)

    def bytes(self, path: str, query: Mapping[str, object], accept: str = "application/json") -> bytes:
        """Ask for whatever `accept` names."""
        return self.reply(path, query, accept).body

    def reply(
        self,
        path: str,
        query: Mapping[str, object],
        accept: str = "application/json",
        seconds: float = TIMEOUT_SECONDS,
    ) -> "Reply":
        """Ask, and get the headers too. Doors that know their caller are asked for what a stranger is not told."""
        named = {name: value for name, value in query.items() if value is not None}
        target = path + ("?" + urlencode(named, doseq=True) if named else "")
        reply = self._ask([*self._tcp, *self._unix], "GET", target, {"Accept": accept}, None, seconds)
        if reply.status in (401, 403) and self._trusted():
            reply = self._ask(self._trusted(), "GET", target, {"Accept": accept}, None, seconds)
        if reply.status != 200:
            raise refusal(reply.status, reply.body, f"{reply.address}{target}")
        return reply

    def stream(self, path: str, query: Mapping[str, object], accept: str = "*/*") -> Iterator[Piece]:
        """Ask for what is large or goes on, and get it in pieces. Half of it is ConnectionLost, never the whole."""
        from crewd.cli.wire import Lost, NoDoor, first_open

        named = {name: value for name, value in query.items() if value is not None}
        target = path + ("?" + urlencode(named, doseq=True) if named else "")
        try:
            reply, pieces = first_open([*self._tcp, *self._unix]).stream(target, {"Accept": accept}, STREAM_SECONDS)
            if reply.status != 200:
                raise refusal(reply.status, reply.body, f"{reply.address}{target}")
            yield from pieces
        except NoDoor as error:
            raise DaemonUnreachable(f"daemon unreachable {error}") from None
        except Lost as error:
            raise ConnectionLost(f"daemon unreachable {error}") from None

    def post(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Any:
        """Have something changed, and get what became of it.

        Raises ConnectionLost where the answer did not come: then it may have been done, or not.
        """
        doors = [*self._trusted(), *self._tcp]
        sent = {"Accept": "application/json", "Content-Type": "application/json", **(headers or {})}
        reply = self._ask(doors, "POST", path, sent, json.dumps(body, allow_nan=False).encode(), CHANGE_SECONDS)
        if not 200 <= reply.status < 300:
            raise refusal(reply.status, reply.body, f"{reply.address}{path}")
        return _decoded(reply, path)

    def close(self) -> None:
        for door in [*self._tcp, *self._unix, *self._with_token]:
            door.close()

    def __enter__(self) -> "Daemon":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _trusted(self) -> "list[Door]":
        """The doors at which the daemon knows who asks."""
        return [*self._unix, *self._with_token]

    def _ask(
        self,
        doors: "Sequence[Door]",
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: Body,
        seconds: float,
    ) -> "Reply":
        from crewd.cli.wire import Lost, NoDoor, first_open

        try:
            return first_open(doors).ask(method, target, headers, body, seconds)
        except NoDoor as error:
            raise DaemonUnreachable(f"daemon unreachable {error}") from None
        except Lost as error:
            raise ConnectionLost(f"daemon unreachable {error}") from None


def find(state_dir: Path | None, config_file: Path | None) -> Place:
    """Find the crewd that the options mean. Raises SettingsError only for a file that was named.

    With a folder only the daemon that wrote its address there is asked: the configured address may be another's.
    Loading settings takes longer than all the rest of a command, so that they are loaded only where they count.
    """
    from crewd.config.folders import is_configured, state_folder

    environ = environment()
    if config_file is None and not is_configured(environ):
        return Place(state_dir) if state_dir is not None else Place(state_folder(environ), DEFAULT_URL)
    if config_file is None and state_dir is not None:
        return Place(state_dir, secrets=lambda: _secrets(_settings(environ)))
    settings = _settings(environ, config_file)
    if settings is None:
        from crewd.config.load import state_folder_of_unusable

        return Place(state_dir or state_folder_of_unusable(environ), "", lambda: _secrets(settings))
    if state_dir is not None:
        return Place(state_dir, "", lambda: _secrets(settings))
    return Place(state_folder(environ, settings.ledger.folder), _url(settings), lambda: _secrets(settings))


def ask(place: Place, online: Callable[[Daemon], Any], offline: Callable[["Reader"], Any]) -> Answer:
    """Get an answer from the daemon, or let `offline` make the same from the ledger.

    Raises DaemonUnreachable where there is neither, NothingMatched and UsageProblem where the daemon says so.
    """
    try:
        with place.daemon() as daemon:
            return Answer("daemon", "", online(daemon))
    except DaemonUnreachable as error:
        reader, as_of = open_ledger(place, error)
        with reader:
            body = offline(reader)
        return Answer("ledger", as_of, body, f"{clean(str(error))}; showing the ledger as of {as_of}")


def look_back(place: Place, offline: Callable[["Reader"], Any], unknown: NothingMatched) -> Answer:
    """Look for what the daemon does not know any more in its ledger. Raises `unknown` where that has no answer."""
    try:
        reader, as_of = open_ledger(place, DaemonUnreachable(str(unknown)))
        with reader:
            return Answer(
                "ledger", as_of, offline(reader), "the daemon sees it no more; showing what the ledger kept"
            )
    except CrewdError:
        raise unknown from None


def say_notice(answer: Answer) -> None:
    """Tell on stderr when it is not the daemon that answered."""
    if answer.notice:
        click.echo(f"crewd: {answer.notice}", err=True)


def open_ledger(place: Place, unreachable: DaemonUnreachable) -> tuple["Reader", str]:
    """Open the ledger in the daemon's stead; also says of when it is."""
    from crewd.ledger.errors import LedgerMissing
    from crewd.ledger.reader import Reader
    from crewd.model.moment import rfc3339

    try:
        reader = Reader.open(place.state)
    except LedgerMissing as missing:
        raise DaemonUnreachable(f"{unreachable}, and {missing}") from None
    written = [path.stat().st_mtime for path in place.state.glob("ledger.sqlite3*") if not path.name.endswith("-shm")]
    return reader, rfc3339(max(written, default=0.0))


def segment(name: str) -> str:
    """Write a name so that it can stand between two slashes."""
    return quote(name, safe="")


def _decoded(reply: "Reply", path: str) -> Any:
    try:
        return json.loads(reply.body)
    except ValueError:
        raise CrewdError(f"{reply.address}{path}: answered something that is not JSON; is it crewd?") from None


def _settings(environ: Mapping[str, str], config_file: Path | None = None) -> "Settings | None":
    """Load the settings; None: they are not usable, and nobody named their file."""
    from crewd.config.load import load

    try:
        return load(config_file, environ).settings
    except SettingsError as error:
        if config_file is not None:
            raise
        # The daemon goes on with its former settings, and a person wants to see how.
        click.echo(f"crewd: the settings are not usable, and passed over: {error.complaints[0]}", err=True)
        return None


def _url(settings: "Settings") -> str:
    http = settings.http
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(http.host, http.host)  # noqa: S104 - nothing is bound: asked
    return f"http://{f'[{host}]' if ':' in host else host}:{http.port}" if http.enabled and http.port else ""


def _secrets(settings: "Settings | None") -> tuple[str, ...]:
    if settings is None:
        return ()
    from crewd.host.attempt_folder import SECRET_MAX, read_secrets

    folder = settings.secrets.folder or environment().get("CREDENTIALS_DIRECTORY", "")
    given = read_secrets(folder, SECRET_MAX) if folder else []
    return (*(secret.get_secret_value() for secret in settings.redact.secrets), *given)
