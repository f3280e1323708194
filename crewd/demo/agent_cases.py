"""Recorded runs of agent command lines, packed small: what each printed, when, and how it ended.

They are genuine runs against a model server on the same machine (docs/agents.md): long texts were cut, and nothing
was made up but the pace of the resumed ones. `tests/demo/packing.py` packs them.
"""

from pathlib import Path
from typing import Literal

import msgspec

from crewd.errors import NothingMatched
from crewd.model.failure import ErrorClass, Exit
from crewd.model.run import Usage

FOLDER = Path(__file__).with_suffix("")


class CaseMissing(NothingMatched):
    """No recorded case has this name."""


class Line(msgspec.Struct, frozen=True, gc=False):
    """One line that was printed, without its newline."""

    at: float = msgspec.field(name="t")  # seconds after the start
    stream: Literal["out", "err"] = msgspec.field(name="s")
    text: str = msgspec.field(name="l")


class Case(msgspec.Struct, frozen=True, gc=False):
    """One recorded run of one program."""

    cli: str  # name of the profile
    case: str
    version: str  # of the program
    shows: str  # one phrase, for a person
    exit: Exit
    seconds: float  # from the start to the end
    stopped: bool  # it would have gone on: its exit is its answer to SIGTERM
    session: str
    tool: tuple[float, float | None] | None  # when a tool call of some length began and ended; None: it was cut
    expected_class: ErrorClass | None  # that crewd gives it, at the latest at its end; None: it succeeds
    expected_usage: Usage | None  # None: it did not say; `cost_usd` None: it never does
    paced: bool  # the times were not recorded
    lines: tuple[Line, ...]

    @property
    def name(self) -> str:
        return f"{self.cli}/{self.case}"


class _Header(msgspec.Struct, frozen=True, gc=False):
    cli: str
    case: str
    version: str
    shows: str
    code: int | None
    signal: int | None
    seconds: float
    stopped: bool
    session: str
    tool: tuple[float, float | None] | None
    usage: Usage | None
    paced: bool
    error: str = msgspec.field(name="class")


_HEADER, _LINE = msgspec.json.Decoder(_Header), msgspec.json.Decoder(Line)


def names() -> tuple[str, ...]:
    """Name every case, as `cli/case`."""
    return tuple(sorted(f"{path.parent.name}/{path.stem}" for path in FOLDER.glob("*/*.jsonl")))


def load(name: str) -> Case:
    """Read one case. Raises CaseMissing."""
    if name not in names():
        raise CaseMissing(f"no recorded case is called {name!r}; there are {', '.join(names())}")
    first, *rest = (FOLDER / f"{name}.jsonl").read_bytes().splitlines()
    told = _HEADER.decode(first)
    return Case(
        cli=told.cli,
        case=told.case,
        version=told.version,
        shows=told.shows,
        exit=Exit(told.code, told.signal),
        seconds=told.seconds,
        stopped=told.stopped,
        session=told.session,
        tool=told.tool,
        expected_class=ErrorClass(told.error) if told.error else None,
        expected_usage=told.usage,
        paced=told.paced,
        lines=tuple(_LINE.decode(line) for line in rest),
    )
