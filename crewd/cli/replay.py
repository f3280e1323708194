"""`crewd replay`: what other settings would have made of a recorded period."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crewd.cli.options import environment, json_option, print_json
from crewd.cli.screen import Line, columns, print_lines
from crewd.cli.text import clean
from crewd.errors import NothingMatched

if TYPE_CHECKING:
    from crewd.engine.replay import Context, Rules
    from crewd.ledger.reader import Reader
    from crewd.model.event import Event
    from crewd.model.replay import Replay

CHUNK = 5000  # events asked of a ledger at one time
LINE_MAX = 4 << 20  # bytes
STYLES = {"verdict": "stale", "incident": "stale", "notification": "", "retry": "", "dead_letters": "stale"}


@click.command()
@click.argument("events", type=click.Path(exists=True, path_type=Path))
@click.option("--config", "new", required=True, type=click.Path(path_type=Path), help="The settings to try.")
@click.option(
    "--base", type=click.Path(path_type=Path), help="The settings that were in force then; without it, those of now."
)
@json_option
def replay(events: Path, new: Path, base: Path | None, as_json: bool) -> None:
    """Say which verdicts, incidents, notifications and retries other settings would have made of a recorded period.

    EVENTS is a state folder with a ledger, an events-DATE.jsonl file (also .gz), or a folder of them. Leaves with 1
    if something differs.
    """
    from crewd.engine.replay import replay as run

    before, after = _rules(base), _rules(new)
    told, context, broken = _read(events)
    if broken:
        click.echo(f"crewd: {broken} lines are no events, and passed over", err=True)
    result = run(told, before, after, context)
    if as_json:
        print_json(_value(result, len(told), broken))
    else:
        print_lines(_lines(result, len(told)))
    raise SystemExit(1 if result.differences else 0)


def _rules(path: Path | None) -> "Rules":
    """Turn settings into rules. Raises SettingsError."""
    from crewd import assembly
    from crewd.config.load import load

    return assembly.replay_rules(load(path, environment()).settings, environment())


def _read(place: Path) -> "tuple[list[Event], Context, int]":
    """Read the events that matter, what is known beside them, and how many lines were none. Raises NothingMatched."""
    from crewd.engine.replay import Context, task_context
    from crewd.ledger.opening import NAME

    if place.is_dir() and (place / NAME).exists():
        from crewd.ledger.reader import Reader

        with Reader.open(place) as reader:
            told = list(_of_ledger(reader))
            return told, _context(reader, told), 0
    files = _files(place) if place.is_dir() else [place]
    if not files:
        raise NothingMatched(f"{place}: neither {NAME} nor events-DATE.jsonl is in it; name a state or a logs folder")
    told, broken = _of_files(files)
    return told, Context(task_types=task_context({}, told)), broken


def _files(folder: Path) -> list[Path]:
    found = {path.name.removesuffix(".gz"): path for path in sorted(folder.glob("events-????-??-??.jsonl*"))}
    return [path for _, path in sorted(found.items())]


def _of_ledger(reader: "Reader") -> "Iterator[Event]":
    from crewd.engine.replay import HEARD

    after = 0
    while events := reader.events(after, CHUNK, types=sorted(HEARD)):
        yield from events
        after = events[-1].seq


def _context(reader: "Reader", told: "list[Event]") -> "Context":
    from crewd.engine.managed.views import expectation_of
    from crewd.engine.replay import Context, task_context

    types = {(run.run_id, task.task_id): task.task_type for run in reader.runs(vanished=True) for task in run.tasks}
    policies, expectations = {}, {}
    for managed in reader.managed_runs(limit=-1):
        for plan in managed.plan.tasks:
            key = managed.plan.run_id, plan.task_id
            types[key] = plan.task_type
            policies[key] = plan.retry
            if (wanted := expectation_of(plan)) is not None:
                expectations[key] = wanted
    return Context(task_context(types, told), expectations, policies)


def _of_files(files: list[Path]) -> "tuple[list[Event], int]":
    """Read day files. A line met twice counts once: sinks tell every event at least once."""
    from crewd.engine.replay import HEARD

    told: dict[int, Event] = {}
    broken = 0
    for path in files:
        for line in _stored(path):
            event = _event(line)
            if event is None:
                broken += bool(line.strip())
            elif event.type in HEARD:
                told.setdefault(event.seq or -len(told) - 1, event)
    return sorted(told.values(), key=lambda each: (each.seq, each.at)), broken


def _stored(path: Path) -> Iterator[bytes]:
    """Give the lines of a file, packed or not; one that is too long to be an event ends as one that is none."""
    import gzip

    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
            while line := lines.readline(LINE_MAX):
                yield line
    except (OSError, EOFError) as error:
        raise NothingMatched(f"{path}: cannot be read: {error}; name a whole day file") from None


def _event(line: bytes) -> "Event | None":
    import msgspec

    from crewd.model.event import Event
    from crewd.model.moment import parse_rfc3339

    try:
        record = msgspec.json.decode(line)
        at = parse_rfc3339(record["ts"])
        data = record.get("data", {})
        if at is None or not isinstance(data, dict):
            return None
        named = {name: str(record.get(name, "")) for name in ("run_id", "task_id", "runtime", "crew")}
        attempt = int(record.get("attempt", 0))
        return Event(str(record["type"]), at, data, attempt=attempt, seq=int(record.get("seq", 0)), **named)
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return None


def _value(result: "Replay", events: int, broken: int) -> dict[str, Any]:
    from crewd.engine.replay import as_json

    return {
        "events": events,
        "broken_lines": broken,
        "looked_at": result.looked_at,
        "differences": [as_json(each) for each in result.differences],
        "disagreements": list(result.disagreements),
        "unknown": list(result.unknown),
    }


def _lines(result: "Replay", events: int) -> Iterator[Line]:
    from crewd.model.moment import rfc3339

    looked = ", ".join(f"{number} {kind.replace('_', ' ')}" for kind, number in sorted(result.looked_at.items()))
    yield [(f"{events} events: {looked or 'nothing that these rules concern'}", "faint")]
    if not result.differences:
        yield [("nothing differs", "ok")]
    rows: list[Line] = [[(word, "faint") for word in ("at", "what", "where", "base", "new", "")]]
    for each in result.differences:
        where = "/".join(part for part in (each.run_id, each.task_id) if part) or each.crew or "crewd"
        why = each.why if each.certain else f"not certain: {each.why}"
        rows.append(
            [
                (rfc3339(each.at), "faint"),
                (each.kind.replace("_", " "), STYLES[each.kind]),
                (clean(where), ""),
                (clean(each.base), ""),
                (clean(each.new), "head"),
                (clean(why), "faint"),
            ]
        )
    if result.differences:
        yield from columns(rows)
    if result.disagreements:
        yield [("not what the base rules lead to (others were in force, see --base, or crewd held back):", "head")]
        yield from ([(f"  {clean(each)}", "")] for each in result.disagreements)
    if result.unknown:
        yield [("not to be known from the record:", "head")]
        yield from ([(f"  {each}", "")] for each in result.unknown)
