"""Signs: what one line of an agent's output means, in words that all agents share (docs/agents.md).

A reader makes them, `story.Story` adds them up. A reader never raises, whatever the line holds, and keeps only what
it needs to understand the next line, within bounds.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Protocol

import msgspec

from crewd.model.failure import Failure
from crewd.model.run import Usage


class Began(msgspec.Struct, frozen=True, gc=False):
    """A session was begun or resumed. What is "" was not told."""

    session: str = ""
    model: str = ""
    version: str = ""


class Moved(msgspec.Struct, frozen=True, gc=False):
    """Its work moves: words, a thought, a new step."""

    words: str = ""  # what it said, for a person; a piece at a time


class Lives(msgspec.Struct, frozen=True, gc=False):
    """A sign of life that moves nothing: a heartbeat, a status."""


class ToolBegan(msgspec.Struct, frozen=True, gc=False):
    """A tool call was begun. The same id again adds what was not known before."""

    id: str
    name: str
    input: bytes = b""  # as printed: compared, never understood


class ToolEnded(msgspec.Struct, frozen=True, gc=False):
    """A tool call came to its end. `ok` False: it failed. `denied`: it was not allowed, and did nothing."""

    id: str
    ok: bool = True
    denied: bool = False
    words: str = ""  # the beginning of what a failed call says: compared, and shown
    name: str = ""  # where the call itself was not printed


class Scope(StrEnum):
    """What a figure of usage counts."""

    MESSAGE = "message"  # one model call, named by `key`: the newest figures of a key replace the older
    RUN = "run"  # everything since the program was started: replaces what was added up of its messages
    THREAD = "thread"  # everything of the session, also what earlier programs used that had it


class Used(msgspec.Struct, frozen=True, gc=False):
    """Tokens, and cost where it is known. Input leaves out what came from a cache: that has figures of its own."""

    usage: Usage
    scope: Scope
    key: str = ""


class Cost(msgspec.Struct, frozen=True, gc=False):
    """A cost that is counted otherwise than the tokens beside it."""

    usd: float
    scope: Scope


class Refused(msgspec.Struct, frozen=True, gc=False):
    """The provider refused or broke a request, and the program says that it will repeat it."""

    failure: Failure  # with retry_after where the wait is known in seconds
    attempt: int = 0
    attempts_max: int | None = None
    until: float | None = None  # wall time at which the wait ends, where that is what was told


class LimitTold(msgspec.Struct, frozen=True, gc=False):
    """The account's own limit: how much of it is used, and when it begins anew."""

    rejected: bool  # nothing more is answered until then
    until: float | None  # wall time
    name: str = ""  # "five_hour"
    used_ratio: float | None = None


class Denied(msgspec.Struct, frozen=True, gc=False):
    """It may not use a tool. Told on its own, beside the end of the call or without one."""

    tool: str


class Looped(msgspec.Struct, frozen=True, gc=False):
    """The program itself says that it goes in circles."""

    words: str


class Finished(msgspec.Struct, frozen=True, gc=False):
    """The terminal event. `failure` None: by its own word the task is done."""

    failure: Failure | None = None
    words: str = ""  # the result, or the beginning of it
    denied: tuple[str, ...] = ()


class Failing(msgspec.Struct, frozen=True, gc=False):
    """Why it failed, told beside the terminal event or before it: the last one completes what that leaves out."""

    failure: Failure


class Unknown(msgspec.Struct, frozen=True, gc=False):
    """An event of a type that the reader does not know. Kept, counted, and life all the same."""

    type: str


class Noise(msgspec.Struct, frozen=True, gc=False):
    """A line that is no event."""


Sign = (
    Began | Moved | Lives | ToolBegan | ToolEnded | Used | Cost | Refused | LimitTold | Denied | Looped | Finished
    | Failing | Unknown | Noise
)  # fmt: skip


class Reader(Protocol):
    """Understands one program. Lines come without their newline, in the order in which they were written."""

    def stdout(self, line: bytes) -> Iterable[Sign]: ...

    def stderr(self, line: bytes) -> Iterable[Sign]: ...

    def session(self, line: bytes) -> Iterable[Sign]:
        """A line of the file that the program itself keeps of its session, where the reader wants it."""
        ...

    def exit(self, code: int) -> Failure | None:
        """What this program says by an exit status other than 0; None: nothing beyond what it printed."""
        ...
