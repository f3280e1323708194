"""Refusals: the one shape in which a request is told everything that is wrong with it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Detail:
    """One thing that is wrong: where, what, and what to do instead."""

    code: str
    path: str
    message: str
    next_action: str


class Refused(Exception):
    """A request that is not served."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        details: tuple[Detail, ...] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = details
        self.headers = headers or {}  # that the answer carries besides


def refusal(status: int, code: str, message: str, next_action: str, **headers: str) -> Refused:
    """Make a refusal of one detail, that of the whole request."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Refused(status, code, message, (Detail(code, "", message, next_action),), named)


def refusal_body(code: str, message: str, details: Iterable[Detail] = ()) -> dict[str, Any]:
    """Lay out a refusal as `{"error": {"code", "message", "details": [...]}}`."""
    return {
        "error": {
            "code": code,
            "message": message,
            "details": [
                {"code": each.code, "path": each.path, "message": each.message, "next_action": each.next_action}
                for each in details
            ],
        }
    }


def internal_error() -> dict[str, Any]:
    """Say that crewd itself failed, and nothing of how: that is for its log."""
    detail = Detail("internal", "", "crewd failed to answer", "look at crewd's log")
    return refusal_body("internal", "crewd failed to answer", [detail])
