"""What `crewd diagnose` gathers, and from whom: the daemon where it answers, its ledger otherwise."""

import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from crewd import __version__
from crewd.cli.bundle import MARGIN, Bundle
from crewd.cli.client import Answer, Daemon, Place, open_ledger, segment
from crewd.cli.managed_run import MANAGED
from crewd.cli.options import environment, token
from crewd.cli.picture import API
from crewd.cli.times import wall_now
from crewd.errors import CrewdError, DaemonUnreachable, SettingsError
from crewd.model.moment import rfc3339
from crewd.telemetry.disguises import Veil
from crewd.telemetry.redact import MASK, Redactor, masked_command, names_secret

if TYPE_CHECKING:
    from crewd.config.load import Loaded
    from crewd.ledger.reader import Reader

T = TypeVar("T")
EVENTS_MAX = 1000
OWN_EVENTS_MAX = 300
ROWS_MAX = 1000
WORKERS_MAX = 500
TASKS_WITH_OUTPUT_MAX = 100
OUTPUT_LINES = 200
LOG_LINES = 2000
LOG_BYTES = 4 * 2**20
# Variables whose values say how a machine is set up, and hold no secrets. Of all others only the name is told.
HARMLESS = frozenset(
    {
        "CREWD_CONFIG", "CREWD_STATE_DIR", "CREWD_RUN", "CREWD_TASK", "CREWD_BEAT_ROOT", "STATE_DIRECTORY",
        "CONFIGURATION_DIRECTORY", "LOGS_DIRECTORY", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "HOME",
        "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "TERM", "SHELL", "PATH", "COLUMNS", "NO_COLOR", "VIRTUAL_ENV",
        "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "INVOCATION_ID", "JOURNAL_STREAM", "WATCHDOG_USEC",
    }
)  # fmt: skip
FOLDERS = frozenset({"PWD", "OLDPWD"})  # the present one and the former: not every pwd is a password
PACKAGES = (
    "apsw", "click", "fastapi", "msgspec", "prometheus-client", "pydantic", "pydantic-settings", "pyyaml", "rich",
    "starlette", "structlog", "tenacity", "uvicorn", "watchfiles",
)  # fmt: skip
README = """What is in this archive

crewd {version} wrote it on {at} about the run {run}, as told by the {source}.

It was redacted: of the secrets that crewd's settings, its credentials and the environment name, none is in it, in
any spelling that crewd knows, and whatever looks like one was masked (***). Names of tasks, goals, folders and error
texts are in it as they are.

manifest.json       every file here with its size and SHA-256, what was cut, and what could not be had
run.json            the run as crewd sees it
why.json            its cause, in short, and what to do next
tasks.jsonl         its tasks, one a line
attempts.jsonl      the attempts of tasks that crewd runs itself
evidence.jsonl      for each worker its level, and the evidence behind it
events.jsonl        the last {events} events of the run
own_events.jsonl    the last {own_events} events of crewd itself: starts, holds, brakes, what failed
incidents.jsonl     what is or was wrong with the run
dead_letters.jsonl  its tasks that were given up
recoveries.jsonl    the plans of recovery for it
metrics.txt         the daemon's metrics at this moment
settings.json       the settings, and where each came from; values of variables are left out
environment.json    names of variables, and the values of harmless ones, of this command and of the daemon
doctor.json         what crewd doctor says of this machine
versions.json       crewd, Python, SQLite, libraries, kernel
output/TASK/        the last {lines} lines that the newest attempt wrote
daemon.log          the end of the log of a daemon that `crewd run` started
"""


@dataclass
class Gathered:
    """A bundle that is complete."""

    answer: Answer
    bundle: Bundle
    run: str
    at: float

    def manifest(self) -> dict[str, Any]:
        return self.bundle.manifest(self._head())

    def packed(self) -> bytes:
        return self.bundle.packed(self._head(), f"crewd-{self.run}", self.at)

    def _head(self) -> dict[str, Any]:
        source = {"source": self.answer.source, "as_of": self.answer.as_of or None}
        return {"crewd": __version__, "run_id": self.run, "made_at": rfc3339(self.at), **source}


def gather(place: Place, run: str, config_file: Path | None, state_dir: Path | None) -> Gathered:
    """Gather everything about a run. Raises NothingMatched, and DaemonUnreachable where nobody can be asked."""
    from crewd.cli.show import take_whole

    loaded, complaint = _loaded(config_file)
    environments = {"command": environment(), "daemon": _daemons_environment(place)}
    secrets = {*place.secrets(), *_secrets(loaded, environments)}
    bundle = Bundle(Redactor(secrets), Veil(secrets))
    answer, at = take_whole(place, run), wall_now()
    with Sight(place) as sight:
        _about_run(bundle, sight, answer.body, run)
        bundle.text("metrics.txt", lambda: sight.daemon_alone(_metrics))
        bundle.value("settings.json", lambda: _settings(loaded, complaint))
        bundle.value("environment.json", lambda: {who: _shown(env) for who, env in environments.items()})
        bundle.value("doctor.json", lambda: _doctor(config_file, state_dir))
        bundle.value("versions.json", _versions)
    _outputs(bundle, place, answer.body)
    bundle.text("daemon.log", lambda: _tail(place.state / "run.log"), LOG_LINES)
    facts = {"version": __version__, "at": rfc3339(at), "run": run, "source": answer.source, "lines": OUTPUT_LINES}
    bundle.text("README.txt", lambda: README.format(**facts, events=EVENTS_MAX, own_events=OWN_EVENTS_MAX))
    bundle.pieces.sort(key=lambda piece: piece.name != "README.txt")
    return Gathered(answer, bundle, run, at)


@dataclass
class Sight:
    """The daemon and its ledger: once the daemon does not answer, it is not asked again."""

    place: Place
    _daemon: Daemon | None = field(default=None, init=False)
    _reader: "Reader | None" = field(default=None, init=False)
    _away: str = field(default="", init=False)

    def __enter__(self) -> "Sight":
        try:
            self._daemon = self.place.daemon()
        except DaemonUnreachable as error:
            self._away = str(error)
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._daemon, self._reader):
            if each is not None:
                each.close()

    def both(self, online: Callable[[Daemon], T], offline: Callable[["Reader"], T]) -> T:
        """Ask the daemon, or read it in the ledger."""
        try:
            return self.daemon_alone(online)
        except DaemonUnreachable as error:
            if self._reader is None:
                self._reader, _ = open_ledger(self.place, error)
            return offline(self._reader)

    def daemon_alone(self, online: Callable[[Daemon], T]) -> T:
        """Ask the daemon. Raises DaemonUnreachable."""
        if self._daemon is None:
            raise DaemonUnreachable(self._away)
        try:
            return online(self._daemon)
        except DaemonUnreachable as error:
            self._daemon.close()
            self._daemon, self._away = None, str(error)
            raise


def _about_run(bundle: Bundle, sight: Sight, whole: Mapping[str, Any], run: str) -> None:
    ours = whole.get("managed") or {}
    bundle.value("run.json", lambda: {name: each for name, each in whole.items() if name not in ("tasks", "managed")})
    bundle.value("why.json", lambda: _why(sight.place, run))
    bundle.rows("tasks.jsonl", lambda: [*whole["tasks"], *({"managed": task} for task in ours.get("tasks", ()))])
    bundle.rows("attempts.jsonl", lambda: _attempts(ours))
    bundle.rows("evidence.jsonl", lambda: _evidence(sight, whole, run))
    bundle.rows("events.jsonl", lambda: _events(sight, run, (), EVENTS_MAX), last=True)
    bundle.rows("own_events.jsonl", lambda: _events(sight, "", _own_types(), OWN_EVENTS_MAX), last=True)
    bundle.rows("incidents.jsonl", lambda: _incidents(sight, run))
    bundle.rows("dead_letters.jsonl", lambda: _letters(sight, run))
    bundle.rows("recoveries.jsonl", lambda: _recoveries(sight, run))


def _why(place: Place, run: str) -> dict[str, Any]:
    from crewd.cli.managed_run import take_run
    from crewd.cli.rescue import beside
    from crewd.cli.why import laid_out

    return laid_out(take_run(place, run).body | beside(place, run))


def _attempts(managed: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for task in managed.get("tasks", ()):
        for attempt in task["attempts"]:
            yield {"task_id": task["task_id"], **attempt}


def _evidence(sight: Sight, whole: Mapping[str, Any], run: str) -> list[Any]:
    names = [task["task_id"] for task in whole["tasks"] if task["worker"] is not None][:WORKERS_MAX]

    def online(daemon: Daemon) -> list[Any]:
        return [daemon.json(f"{API}/runs/{segment(run)}/tasks/{segment(name)}")["explain"] for name in names]

    return sight.both(online, lambda reader: [row.explanation for row in reader.standings(run)][:WORKERS_MAX])


def _events(sight: Sight, run: str, types: Sequence[str], limit: int) -> list[Any]:
    def online(daemon: Daemon) -> list[Any]:
        query = {"limit": limit, "newest": "true", "type": list(types) or None, "run": run or None}
        found: list[Any] = daemon.json(f"{API}/events", query)["events"]
        return found

    def offline(reader: "Reader") -> list[Any]:
        from crewd.model.event import as_record

        return [as_record(event) for event in reader.events(0, limit, types, run, newest_first=True)][::-1]

    return sight.both(online, offline)


def _own_types() -> list[str]:
    from crewd.model.catalogue import EVENTS

    return [name for name in EVENTS if name.startswith("daemon.")]


def _incidents(sight: Sight, run: str) -> list[Any]:
    def online(daemon: Daemon) -> list[Any]:
        query = {"state": "all", "run": run, "limit": ROWS_MAX}
        found: list[Any] = daemon.json(f"{API}/incidents", query)["incidents"]
        return found

    def offline(reader: "Reader") -> list[Any]:
        from crewd.model.incident import portrait

        return [portrait(each, wall_now()) for each in reader.incidents() if each.run_id == run][-ROWS_MAX:]

    return sight.both(online, offline)


def _letters(sight: Sight, run: str) -> list[Any]:
    """From the ledger in any case: the daemon lists those of all runs, and only so many."""
    from crewd.cli.past_managed import past_letter

    reader, _ = open_ledger(sight.place, DaemonUnreachable("dead letters are read in the ledger"))
    with reader:
        return [past_letter(each, Redactor()) for each in reader.letters() if each.run_id == run][-ROWS_MAX:]


def _recoveries(sight: Sight, run: str) -> list[Any]:
    from crewd.model.recovery import portrait

    reader, _ = open_ledger(sight.place, DaemonUnreachable("plans are read in the ledger"))
    with reader:
        return [portrait(each, output=True) for each in reader.recoveries(limit=ROWS_MAX) if each.run_id == run]


def _metrics(daemon: Daemon) -> str:
    return daemon.bytes("/metrics", {}, accept="text/plain").decode("utf-8", "replace")


def _outputs(bundle: Bundle, place: Place, whole: Mapping[str, Any]) -> None:
    """The ends of what tasks wrote, those first that did not end well."""
    if whole["runtime"] != MANAGED:
        return
    tasks = [task for task in (whole.get("managed") or {}).get("tasks", ()) if task["attempt"]]
    tasks.sort(key=lambda task: task["state"] == "completed")
    for task in tasks[:TASKS_WITH_OUTPUT_MAX]:
        for stream in ("stdout", "stderr"):
            name = f"output/{task['task_id']}/{task['attempt']}.{stream}"
            bundle.text(name, partial(_output, place, whole["run_id"], task, stream), OUTPUT_LINES)


def _output(place: Place, run: str, task: Mapping[str, Any], stream: str) -> str:
    from crewd.cli.output import Output

    data = Output(place, run, task["task_id"], stream).tail(task["attempt"], OUTPUT_LINES + MARGIN).data
    return data.decode("utf-8", "replace")


def _tail(path: Path) -> str:
    """Read the end of a log."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_BYTES))
            return "\n".join(file.read(LOG_BYTES).decode("utf-8", "replace").splitlines()[-LOG_LINES - MARGIN :])
    except FileNotFoundError:
        raise CrewdError(
            f"{path} is written by `crewd run` alone; a service's log is in the journal: journalctl -u crewd"
        ) from None


def _loaded(config_file: Path | None) -> "tuple[Loaded | None, str]":
    from crewd.config.load import load

    try:
        return load(config_file, environment()), ""
    except SettingsError as error:
        return None, str(error)


def _settings(loaded: "Loaded | None", complaint: str) -> dict[str, Any]:
    if loaded is None:
        return {"unusable": complaint}
    from crewd.cli.config import laid_out

    told = laid_out(loaded, origin=True)
    return {**told, "settings": {key: _veiled(key, value) for key, value in told["settings"].items()}}


def _veiled(key: str, value: Any) -> Any:
    """What is given to a program as a variable may be anything; what follows a word like --token is a secret."""
    if ".env." in key or ".headers." in key or names_secret(key):
        return MASK if isinstance(value, str) else value
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return list(masked_command(value))
    return value


def _shown(environ: Mapping[str, str] | None) -> dict[str, str | None] | None:
    """Tell the variables: null stands for a value that is not told."""
    if environ is None:
        return None
    return {name: environ[name] if name in HARMLESS else None for name in sorted(environ)}


def _daemons_environment(place: Place) -> dict[str, str] | None:
    """Read the environment of the daemon of this place; None: it is not running, or another user's."""
    import json

    try:
        pid = int(json.loads((place.state / "daemon.json").read_bytes())["pid"])
        found = Path(f"/proc/{pid}/environ").read_bytes()
    except (OSError, ValueError, TypeError, KeyError):
        return None
    pairs = (each.decode("utf-8", "replace").partition("=") for each in found.split(b"\0") if each)
    return {name: value for name, _, value in pairs}


def _secrets(loaded: "Loaded | None", environments: Mapping[str, Mapping[str, str] | None]) -> Iterator[str]:
    """Name everything that is known to be a secret."""
    yield token()
    for environ in environments.values():
        yield from (value for name, value in (environ or {}).items() if _is_secret(name))
    if loaded is None:
        return
    from pydantic import SecretStr

    from crewd import assembly
    from crewd.config.load import flat

    yield from assembly.secrets(loaded.settings)
    for key, value in flat(loaded.settings).items():
        if isinstance(value, SecretStr):
            yield value.get_secret_value()
        elif isinstance(value, str) and ".env." in key and _is_secret(key.rpartition(".")[2]):
            yield value


def _is_secret(name: str) -> bool:
    if name in FOLDERS:
        return False
    return names_secret(name) or name.upper().endswith(("KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD"))


def _doctor(config_file: Path | None, state_dir: Path | None) -> list[dict[str, Any]]:
    from crewd.cli.doctor import examine

    return [asdict(finding) for finding in examine(config_file, state_dir)]


def _versions() -> dict[str, Any]:
    from importlib.metadata import PackageNotFoundError, version

    import apsw

    def found(name: str) -> str | None:
        try:
            return version(name)
        except PackageNotFoundError:
            return None

    return {
        "crewd": __version__,
        "python": sys.version,
        "sqlite": apsw.sqlite_lib_version(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()),
        "packages": {name: found(name) for name in PACKAGES},
    }
