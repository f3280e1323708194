"""What is wrong with a run file: each problem with its place, the value and the remedy, and all of them at once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn

from crewd.errors import CrewdError

# More are counted, and not listed: whoever reads a thousand has read enough.
PROBLEMS_MAX = 1000

_SHOWN_MAX = 80


class Code(StrEnum):
    """The closed set of things that can be wrong (docs/reference/run-file.md)."""

    BAD_SYNTAX = "BAD_SYNTAX"
    DUPLICATE_KEY = "DUPLICATE_KEY"
    UNKNOWN_FIELD = "UNKNOWN_FIELD"
    MISSING_FIELD = "MISSING_FIELD"
    TYPE_MISMATCH = "TYPE_MISMATCH"
    ENUM_MISMATCH = "ENUM_MISMATCH"
    VALUE_OUT_OF_RANGE = "VALUE_OUT_OF_RANGE"
    TOO_LARGE = "TOO_LARGE"
    BAD_ID = "BAD_ID"
    BAD_NAME = "BAD_NAME"
    BAD_TEXT = "BAD_TEXT"
    BAD_PATH = "BAD_PATH"
    CONFLICT = "CONFLICT"
    DUPLICATE_ID = "DUPLICATE_ID"
    UNKNOWN_TASK = "UNKNOWN_TASK"
    SELF_DEPENDENCY = "SELF_DEPENDENCY"
    CYCLE = "CYCLE"
    UNKNOWN_EXECUTOR = "UNKNOWN_EXECUTOR"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a run file."""

    pointer: str  # JSON pointer (RFC 6901); "" is the whole file
    code: Code
    message: str  # names the value
    next_action: str = ""

    def __str__(self) -> str:
        told = f"{self.pointer}: {self.message}" if self.pointer else self.message
        return f"{told} ({self.next_action})" if self.next_action else told


class RunRefused(CrewdError):
    """The run cannot be accepted as it is written. Nothing of it was started."""

    exit_code = 78  # EX_CONFIG of sysexits.h

    def __init__(self, problems: Iterable[Problem], source: str = "") -> None:
        self.problems = tuple(problems)
        self.source = source
        super().__init__("\n".join(f"{source}: {each}" if source else str(each) for each in self.problems))

    @classmethod
    def of_file(cls, source: str, message: str) -> "RunRefused":
        """Refuse a file that could not even be read."""
        return cls([Problem("", Code.BAD_SYNTAX, message, "make it a file that crewd can read")], source)


class Finds:
    """Collects problems. Once it is full it only counts: the cost of a bad file is bounded, too."""

    def __init__(self, source: str = "") -> None:
        self._source = source
        self._found: dict[tuple[str, Code], tuple[tuple[object, ...], Problem]] = {}
        self._more = 0

    def add(self, location: Sequence[object], code: Code, message: str, next_action: str = "") -> None:
        """Take one problem. One place has one problem of a kind: the first that was found."""
        if self.is_full:
            self._more += 1
            return
        pointer = pointer_of(location)
        problem = Problem(pointer, code, message, next_action)
        self._found.setdefault((pointer, code), (tuple(location), problem))

    def count(self, number: int) -> None:
        """Take problems that nobody will read."""
        self._more += number

    @property
    def is_full(self) -> bool:
        """Whether further problems are only counted."""
        return len(self._found) >= PROBLEMS_MAX

    def refuse(self) -> None:
        """Raise RunRefused if there is any problem, sorted by their place in the file."""
        if not self._found:
            return
        ordered = sorted(self._found.values(), key=lambda each: [_place(part) for part in each[0]])
        problems = [problem for _, problem in ordered]
        if self._more:
            rest = f"{self._more} more problems are not listed"
            problems.append(Problem("", Code.TOO_LARGE, rest, "mend these first"))
        raise RunRefused(problems, self._source)


def refuse(source: str, code: Code, message: str, next_action: str) -> NoReturn:
    """Raise RunRefused for one problem of the whole file, after which nothing more can be said."""
    raise RunRefused([Problem("", code, message, next_action)], source)


def _place(part: object) -> tuple[int, int, str]:
    return (0, part, "") if isinstance(part, int) else (1, 0, str(part))


def pointer_of(location: Iterable[object]) -> str:
    """Write a location as a JSON pointer: ("tasks", 2, "a/b") is /tasks/2/a~1b."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in location)


def shown(value: object) -> str:
    """Write a value for a person, never long."""
    match value:
        case str():
            text = repr(value[: _SHOWN_MAX + 1])
        case bool():
            text = str(value).lower()
        case int() if abs(value) >= 2**63:  # Python itself refuses to write very long numbers
            text = "a number beyond 2**63"
        case int() | float():
            text = str(value)
        case None:
            text = "null"
        case list() | tuple():
            text = "an empty list" if not value else "a list"
        case dict():
            text = "an empty table" if not value else "a table"
        case _:
            text = f"a {type(value).__name__}"
    return text if len(text) <= _SHOWN_MAX else text[: _SHOWN_MAX - 1] + "…"


def nearest(word: str, known: Sequence[str]) -> str:
    """Find the known word that was probably meant, or ""."""
    import difflib  # costs 4 ms, and only whoever errs needs it

    if len(word) > _SHOWN_MAX:
        return ""
    by_lower = {each.lower(): each for each in reversed(known)}
    return next((by_lower[near] for near in difflib.get_close_matches(word.lower(), by_lower, n=1)), "")
