"""What the Tab key offers: names that the daemon or its ledger knows, within a moment and without a word.

Parameters are known by their names, which mean the same in every command. Someone waits behind the key: whatever
takes too long or fails offers nothing.
"""

import re
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from crewd.cli.client import Place

SECONDS_MAX = 0.2  # for the look; with the start of Python it stays below 0.3 s
NAMES_MAX = 200
PAGE = 1000
# A shell puts a name into the command line as it is: only what no shell gives a meaning to, or breaks words at.
PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,%+/-]{0,255}")

Said = Mapping[str, Any]  # what the command line says already
Source = Callable[[Said, str], Iterable[str]]


def dress(command: click.Command) -> None:
    """Have the parameters of a command, and of those below it, offer what they name."""
    for parameter in command.params:
        source = SOURCES.get(parameter.name or "")
        if source is not None and not isinstance(parameter.type, click.Choice) and not _is_flag(parameter):
            # Instead of a subclass of each kind of parameter: the checker wants no method to be replaced, and click's
            # own takes the parameter as well, which a function that is put here is not given.
            parameter.shell_complete = _offering(source)  # type: ignore[method-assign, assignment]
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        dress(inner)


def offered(source: Source, said: Said, incomplete: str) -> list[str]:
    """Look names up, those that begin with `incomplete`; nothing where that takes too long or fails."""
    found: list[str] = []

    def look() -> None:
        try:
            found.extend(_chosen(source(said, incomplete), incomplete))
        except Exception:  # noqa: BLE001 - a message in the middle of a command line that is being written helps nobody
            found.clear()

    with redirect_stderr(StringIO()):
        # A thread, since nothing else ends a wait for a disk or for a daemon that is stopped.
        looking = threading.Thread(target=look, daemon=True)
        looking.start()
        looking.join(SECONDS_MAX)
        return [] if looking.is_alive() else found


def _offering(source: Source) -> Callable[[click.Context, str], list[CompletionItem]]:
    def offer(context: click.Context, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(name) for name in offered(source, context.params, incomplete)]

    return offer


def _chosen(names: Iterable[str], incomplete: str) -> list[str]:
    fitting = dict.fromkeys(name for name in names if name.startswith(incomplete) and PLAIN.fullmatch(name))
    return list(fitting)[:NAMES_MAX]


def _is_flag(parameter: click.Parameter) -> bool:
    return isinstance(parameter, click.Option) and parameter.is_flag


def _place(said: Said) -> "Place":
    from crewd.cli.client import find

    state, config = said.get("state_dir"), said.get("config_file")
    return find(Path(state) if state else None, Path(config) if config else None)


def _asked(said: Said, path: str, query: Said, key: str) -> list[dict[str, Any]]:
    with _place(said).daemon() as daemon:
        found: list[dict[str, Any]] = daemon.json(f"/api/v1/{path}", query)[key]
    return found


def _recorded(said: Said, table: Callable[[Any], Iterable[str]]) -> list[str]:
    from crewd.ledger.reader import Reader

    with Reader.open(_place(said).state) as reader:
        return list(table(reader))


def _runs(said: Said, incomplete: str) -> Iterable[str]:
    from crewd.errors import CrewdError

    try:
        found = _asked(said, "runs", {"after": incomplete or None, "limit": PAGE}, "runs")
    except CrewdError:
        return _recorded(said, lambda reader: reader.run_ids(incomplete, NAMES_MAX))
    return [each["run_id"] for each in found]


def _tasks(said: Said, incomplete: str) -> Iterable[str]:
    from crewd.cli.managed_run import take_run

    run = said.get("run") or said.get("run_id")
    return [each["task_id"] for each in take_run(_place(said), str(run)).body["tasks"]] if run else ()


def _subjects(said: Said, incomplete: str) -> Iterable[str]:
    from crewd.cli.incidents import take_incidents

    return [each["subject"] for each in take_incidents(_place(said), "open", None, PAGE).body]


def _letters(said: Said, incomplete: str) -> Iterable[str]:
    """As RUN/TASK: bash would break the keys themselves at their colons."""
    from crewd.cli.letters import take_letters

    return [f"{each['run_id']}/{each['task_id']}" for each in take_letters(_place(said), ("open",), None, PAGE).body]


def _plans(said: Said, incomplete: str) -> Iterable[str]:
    from crewd.errors import CrewdError

    try:
        found = _asked(said, "recoveries", {"state": "all", "limit": PAGE}, "recoveries")
    except CrewdError:
        return _recorded(said, lambda reader: (each.plan_id for each in reader.recoveries(limit=PAGE)))
    return [each["plan_id"] for each in found]


def _crews(said: Said, incomplete: str) -> Iterable[str]:
    from crewd.errors import CrewdError

    try:
        return [each["crew"] for each in _asked(said, "status", {}, "crews")]
    except CrewdError:
        return _recorded(said, lambda reader: reader.crews())


def _circuits(said: Said, incomplete: str) -> Iterable[str]:
    from crewd.errors import CrewdError

    try:
        return [each["name"] for each in _asked(said, "circuits", {}, "circuits")]
    except CrewdError:
        return _recorded(said, lambda reader: (each.name for each in reader.circuits()))


def _executors(said: Said, incomplete: str) -> Iterable[str]:
    """From the file alone: judging all settings takes longer than anybody waits."""
    return _tables(said, "executors")


def _channels(said: Said, incomplete: str) -> Iterable[str]:
    return _tables(said, "notifications", "channels")


def _tables(said: Said, *keys: str) -> Iterable[str]:
    import tomllib

    from crewd.cli.options import environment
    from crewd.config.folders import config_place

    path = config_place(environment(), said.get("config_file")).path
    if path is None:
        return ()
    table: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    for key in keys:
        table = table.get(key, {})
    return list(table)


def _types(said: Said, incomplete: str) -> Iterable[str]:
    from crewd.model.catalogue import EVENTS

    return EVENTS


def _alerts(said: Said, incomplete: str) -> Iterable[str]:
    from crewd.host.runbooks import runbooks, sections

    return [each.alert for each in sections(runbooks())]


def _commands(said: Said, incomplete: str) -> Iterable[str]:
    from crewd.cli.main import COMMANDS

    return COMMANDS


SOURCES: Mapping[str, Source] = {
    "run": _runs,
    "run_id": _runs,
    "task": _tasks,
    "task_id": _tasks,
    "subject": _subjects,
    "key": _letters,
    "keys": _letters,
    "plan": _plans,
    "crew": _crews,
    "circuit": _circuits,
    "executor": _executors,
    "executors": _executors,
    "channel": _channels,
    "about": _commands,
    "types": _types,
    "alert": _alerts,
}
