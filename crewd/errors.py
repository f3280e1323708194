"""Errors that a caller cannot go on from: each message names the thing, its value and the remedy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class CrewdError(Exception):
    """Something that ends a command. The command line prints the message and leaves with `exit_code`."""

    exit_code: ClassVar[int] = 1


class UsageProblem(CrewdError):
    """The command line itself makes no sense: options that exclude each other, a value out of range."""

    exit_code = 2


class NothingMatched(CrewdError):
    """The question was sound, and nothing has that name."""

    exit_code = 3


class DaemonUnreachable(CrewdError):
    """Neither the daemon nor its ledger could be asked."""

    exit_code = 69  # EX_UNAVAILABLE of sysexits.h


class Refused(CrewdError):
    """Understood, and not done: another crewd holds the ledger, a permission is missing."""

    exit_code = 77  # EX_NOPERM of sysexits.h


@dataclass(frozen=True)
class Complaint:
    """One thing that is wrong with the settings."""

    file: str  # a path, or where else the value came from: "environment CREWD_HTTP__PORT"
    key: str  # dotted; "" where it concerns the whole file
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        where = f"{self.file}: {self.key}" if self.key else self.file
        return f"{where}: {self.message} ({self.remedy})" if self.remedy else f"{where}: {self.message}"


class SettingsError(CrewdError):
    """The settings cannot be used. Carries every complaint, so that one reading of them is enough."""

    exit_code = 78  # EX_CONFIG of sysexits.h

    def __init__(self, complaints: Sequence[Complaint]) -> None:
        self.complaints = tuple(complaints)
        super().__init__("\n".join(str(each) for each in self.complaints))
