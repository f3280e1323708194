"""`crewd beat`: a sign of life of a worker, written as one small file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from crewd.cli.options import config_option, environment
from crewd.config.folders import config_place, state_folder
from crewd.config.quantities import seconds
from crewd.errors import CrewdError, Refused, UsageProblem
from crewd.sources.beat.form import STATUSES, WAIT_REASONS, Beat, beat_path, decode_beat, encode_beat

FORMER_BYTES_MAX = 64 * 1024
ENDED = ("completed", "failed", "cancelled", "skipped")


@click.command()
@click.option("--run", required=True, envvar="CREWD_RUN", help="Id of the run. [$CREWD_RUN]")
@click.option("--task", required=True, envvar="CREWD_TASK", help="Id of the task. [$CREWD_TASK]")
@click.option("--status", type=click.Choice(STATUSES), default="running", show_default=True, help="How it stands.")
@click.option("--progress", metavar="TEXT", help="Anything that changes when the work moves.")
@click.option("--busy-for", metavar="DURATION", help="Will be silent, and well, for so long: 10m.")
@click.option("--busy-until", metavar="TIME", help="The same as a time in RFC 3339.")
@click.option("--tool", default="", help="The tool that it is inside of.")
@click.option("--waiting", type=click.Choice(WAIT_REASONS), help="Waits; its silence is not counted meanwhile.")
@click.option(
    "--pid",
    type=click.IntRange(min=1),
    help="The process that does the work, so that its end is seen at once; in a shell $$, or $PPID.",
)
@click.option("--attempt", type=click.IntRange(min=1), help="Which attempt at the task.")
@click.option("--crew", help="Name of the crew.")
@click.option("--task-type", help="Role or step.")
@click.option("--error", default="", help="What went wrong.")
@click.option("--root", envvar="CREWD_BEAT_ROOT", help="Folder of beats, instead of the configured one.")
@click.option("--state-dir", envvar="CREWD_STATE_DIR", help="State folder of crewd; beats lie in beats/ below it.")
@config_option
def beat(root: str | None, state_dir: str | None, config_file: Path | None, **said: Any) -> None:
    """Say that a worker is alive. Attempt, crew, task type and process stay what they were unless given."""
    folder = root or _beat_root(environment(), state_dir, config_file)
    try:
        path = Path(beat_path(str(Path(folder).expanduser().absolute()), said["run"], said["task"]))
        data = _encode(said, _former(path))
    except ValueError as error:
        raise UsageProblem(str(error)) from None
    _write(path, data, durable=said["status"] in ENDED)


def _encode(said: Mapping[str, Any], former: Beat | None) -> bytes:
    from crewd.host.clock import SystemClock

    now = SystemClock().read().wall
    # A task that had ended begins anew: nothing of its former worker holds for this one.
    kept = former if former is not None and former.status not in ENDED else None
    return encode_beat(
        run=said["run"],
        task=said["task"],
        seq=former.seq + 1 if former is not None else 1,
        at=now,
        status=said["status"],
        progress=said["progress"],
        busy_until=_busy_until(said, now),
        tool=said["tool"],
        waiting=said["waiting"] or "",
        attempt=said["attempt"] or (kept.attempt if kept else 1),
        crew=_or_kept(said["crew"], kept.crew if kept else ""),
        task_type=_or_kept(said["task_type"], kept.task_type if kept else ""),
        error=said["error"],
        **_process(said["pid"], kept),
    )


def _busy_until(said: Mapping[str, Any], now: float) -> float | None:
    length, until = said["busy_for"], said["busy_until"]
    if length is not None and until is not None:
        raise UsageProblem("--busy-for and --busy-until say the same: give one of them")
    if length is not None:
        try:
            return now + seconds(length)
        except ValueError as error:
            raise UsageProblem(f"--busy-for: {error}; write 30s, 10m or 1h30m") from None
    if until is None:
        return None
    from crewd.model.moment import parse_rfc3339

    at = parse_rfc3339(until)
    if at is None:
        raise UsageProblem(f"--busy-until: {until!r} is no time; write 2026-11-21T02:13:00Z")
    return at


def _process(pid: int | None, kept: Beat | None) -> dict[str, Any]:
    if pid is None:
        names = ("pid", "start_ticks", "boot_id", "pid_namespace", "host")
        return {name: getattr(kept, name) for name in names} if kept is not None else {}
    from crewd.host.clock import SystemClock
    from crewd.host.machine import host_name
    from crewd.host.processes import ProcProcesses

    facts = ProcProcesses(SystemClock()).facts(pid)
    if facts is None:
        raise UsageProblem(f"--pid: there is no process {pid}")
    identity = facts.identity
    return {
        "pid": pid,
        "start_ticks": identity.start_ticks if facts.visible else None,
        "boot_id": identity.boot_id,
        "pid_namespace": identity.pid_namespace or None,
        "host": host_name(),
    }


def _former(path: Path) -> Beat | None:
    """Read the beat before this one; None: there is none, or none that can be read."""
    try:
        with path.open("rb") as file:
            return decode_beat(file.read(FORMER_BYTES_MAX)).beat
    except OSError:
        return None


def _write(path: Path, data: bytes, durable: bool) -> None:
    from crewd.host.writing import write_atomically

    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A beat is replaced within seconds; only the last one of a task must outlive a loss of power.
        write_atomically(path, data, durable=durable)
    except PermissionError:
        raise Refused(f"{path} may not be written; name a folder of yours with --root") from None
    except OSError as error:
        raise CrewdError(f"{path} cannot be written: {error.strerror}; name another folder with --root") from None


def _beat_root(environ: Mapping[str, str], state_dir: str | None, config_file: Path | None) -> str:
    """Find the folder that the daemon looks at, without the cost of judging all settings."""
    if state_dir is not None:
        return str(Path(state_dir) / "beats")
    place = config_place(environ, config_file).path
    configured: Any = {}
    if place is not None:
        import tomllib

        try:
            configured = tomllib.loads(place.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            # A beat must not fail for a typing error in another's file, of which the daemon complains; but whoever
            # names one means it.
            if config_file is not None:
                raise UsageProblem(f"--config {config_file}: {error}") from None
    for root in _texts(configured, "sources", "beat_roots"):
        if not any(char in root for char in "*?["):
            return root
    folder = next(iter(_texts(configured, "ledger", "folder")), "")
    return str(state_folder(environ, folder) / "beats")


def _texts(configured: Any, group: str, name: str) -> list[str]:
    table = configured.get(group, {})
    value = table.get(name, ()) if isinstance(table, dict) else ()
    return [each for each in ([value] if isinstance(value, str) else value) if isinstance(each, str) and each]


def _or_kept(given: str | None, kept: str) -> str:
    return kept if given is None else given
