"""What the daemon does not do, told as it told it: every complaint, where it lies, and what to do instead."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from crewd.cli.text import clean
from crewd.errors import CrewdError, DaemonUnreachable, NothingMatched, Refused, UsageProblem


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a request."""

    where: str  # a JSON pointer, or query.NAME; "": the whole
    message: str
    next_action: str = ""

    def __str__(self) -> str:
        where = f"{self.where}: " if self.where else ""
        return f"  {where}{self.message}{f' -> {self.next_action}' if self.next_action else ''}"


class RequestRefused(UsageProblem):
    """The request is not understood. One line for each thing that is wrong with it."""

    def __init__(self, message: str, problems: Sequence[Problem] = (), code: str = "") -> None:
        self.message, self.problems, self.code = message, tuple(problems), code
        super().__init__("\n".join([message, *map(str, self.problems)]))


class RunFileRefused(RequestRefused):
    """The run file cannot be run as it stands."""

    exit_code = 78


class SettingsRefused(RequestRefused):
    """The daemon keeps its settings: the new ones cannot be used."""

    exit_code = 78


class DaemonBusy(DaemonUnreachable):
    """The daemon is there, and cannot do it now: it is full, stops, or cannot write."""


def refusal(status: int, body: bytes, address: str) -> CrewdError:
    """Turn an answer that is no success into what ends the command."""
    message, problems, code = _told(body)
    match status:
        case 400 | 413 | 415 | 422:
            return RequestRefused(message or f"{address}: not understood", problems, code)
        case 404 if message:
            # What was not found is what the person typed: where to look for it is a path of the API, and left out.
            return NothingMatched(_joined(message, [Problem("", each.message) for each in problems]))
        case 409 if code == "reload_failed":
            return SettingsRefused(message, problems, code)
        case 401 | 403 | 409:
            return Refused(_joined(message or f"{address}: answered {status}", problems))
        case 503:
            words = _joined(message or "it cannot answer now", problems)
            return DaemonBusy(f"daemon unreachable at {address}: {words}")
    return CrewdError(f"{address}: {message or f'answered {status}'}")


def _joined(message: str, problems: Sequence[Problem]) -> str:
    """Put a refusal into one sentence; what its only detail repeats is said once."""
    text = message
    for each in problems:
        text += "" if each.message == message else f"; {each.message}"
        # Where a program would look is no help for a person.
        text += f" ({each.next_action})" if each.next_action and "/api/" not in each.next_action else ""
    return text


def _told(body: bytes) -> tuple[str, tuple[Problem, ...], str]:
    try:
        error = json.loads(body)["error"]
        problems = tuple(
            Problem(
                clean(str(each.get("path") or "")),
                clean(str(each["message"])),
                clean(str(each.get("next_action") or "")),
            )
            for each in error.get("details", ())
        )
        return clean(str(error["message"])), problems, str(error.get("code") or "")
    except (ValueError, TypeError, KeyError, AttributeError):
        return "", (), ""
