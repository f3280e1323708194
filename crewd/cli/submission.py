"""Handing a run file to the daemon, once, however often the connection breaks."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crewd.cli.client import ConnectionLost, Place
from crewd.cli.picture import API
from crewd.cli.refusals import RequestRefused, RunFileRefused
from crewd.errors import CrewdError, UsageProblem

if TYPE_CHECKING:
    from crewd.config.run_file.read import Format

STDIN = "-"
KEY_BYTES = 16
RUN_REFUSED = "run_refused"  # code of a refusal for what stands in the run file


@dataclass(frozen=True)
class RunFile:
    """What stands in a run file, and the folder from which its relative paths count."""

    content: Any
    base: str  # absolute
    name: str


@dataclass(frozen=True)
class Accepted:
    """What the daemon made of it."""

    run_id: str
    duplicate: bool  # the same key had made it before
    tasks: int | None


def read_run_file(file: str, form: "Format | None") -> RunFile:
    """Read a run file, or stdin for "-". Raises RunRefused for one that is not TOML, JSON or YAML."""
    from crewd.config.run_file.read import format_of, read_text

    if file == STDIN:
        if form is None:
            raise UsageProblem("what comes from stdin has no name to tell its format: add --format")
        return RunFile(read_text(sys.stdin.buffer.read(), form, "stdin"), str(Path.cwd()), "stdin")
    path = Path(file).absolute()
    wanted = form if form is not None else format_of(file)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageProblem(f"{file} cannot be read: {error.strerror}") from None
    return RunFile(read_text(data, wanted, file), str(path.parent), file)


def submit_run(place: Place, run: RunFile, key: str | None) -> Accepted:
    """Hand a run in. Raises RunFileRefused, Refused, DaemonUnreachable.

    It goes with a key in any case: where the connection broke off, the same key finds the run that was made.
    """
    import secrets

    body = {"run": run.content, "base": run.base, "key": key or secrets.token_hex(KEY_BYTES)}
    try:
        try:
            answer = _post(place, body)
        except ConnectionLost:
            answer = _post(place, body)
            if key is None:
                # Found again by a key that nobody else knows: it is the one that we made.
                answer["duplicate"] = False
    except RequestRefused as error:
        if error.code != RUN_REFUSED:
            raise
        # Where it lies in the file: the request carries that below /run.
        problems = [replace(each, where=each.where.removeprefix("/run")) for each in error.problems]
        raise RunFileRefused(f"{run.name}: {error.message}", problems) from None
    except (TypeError, ValueError) as error:
        raise UsageProblem(f"{run.name}: holds something that JSON cannot say: {error}") from None
    return Accepted(str(answer["run_id"]), bool(answer.get("duplicate")), _count(answer.get("tasks")))


def _post(place: Place, body: dict[str, Any]) -> dict[str, Any]:
    with place.daemon() as daemon:
        answer = daemon.post(f"{API}/runs", body)
    if not isinstance(answer, dict) or "run_id" not in answer:
        raise CrewdError(f"{API}/runs: the answer names no run; is it crewd?")
    return answer


def _count(tasks: Any) -> int | None:
    match tasks:
        case int():
            return tasks
        case list():
            return len(tasks)
    return None
