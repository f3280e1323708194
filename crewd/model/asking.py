"""What people ask of managed runs, and what they are told. The engine answers; the web and the commands ask."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec


class Submitted(msgspec.Struct, frozen=True, gc=False):
    """A run is accepted: it is in the ledger, and survives a crash of anything."""

    run_id: str
    duplicate: bool  # the same was accepted before under this key; nothing new was begun
    tasks: int


class Done(msgspec.Struct, frozen=True, gc=False):
    """What was asked has happened."""

    what: str  # one sentence
    ids: tuple[str, ...] = ()  # what it happened to
    details: Mapping[str, Any] = {}


class OutputPiece(msgspec.Struct, frozen=True, gc=False):
    """A piece of what one attempt wrote, as it wrote it: secrets are still in it."""

    data: bytes
    offset: int  # in bytes, where `data` begins: later than was asked for where older output was given back
    ended: bool  # the stream holds nothing behind `data`, and gets nothing more
    attempt: int  # whose it is


class IncidentActions(Protocol):
    """What people say of open incidents. `cause` "": of every open one of the subject; `by` "": the actor.

    All raise CrewdError: NothingMatched where there is no such open incident, UsageProblem where the question makes
    no sense, and others where it cannot be written down just now.
    """

    async def acknowledge(self, subject: str, cause: str, *, by: str, note: str, actor: str) -> Done:
        """Note that somebody has seen it."""

    async def snooze(self, subject: str, cause: str, *, by: str, note: str, for_seconds: float, actor: str) -> Done:
        """Let nobody be woken by it for so long."""

    async def unsnooze(self, subject: str, cause: str, *, actor: str) -> Done:
        """Let people be woken by it again."""


class Actions(Protocol):
    """What may be asked of managed runs. `actor` is who asks: "operator:NAME".

    All raise CrewdError: NothingMatched where there is no such thing, Refused where the thing is not in a state that
    allows it, UsageProblem where the question makes no sense, and others where crewd cannot act now. A run file that
    is refused carries `problems`, each with pointer, code, message and next_action.
    """

    async def submit(self, data: Any, *, base: str, key: str, actor: str, source: str) -> Submitted:
        """Accept a run: `data` is the parsed run file, `base` the folder its relative paths start from."""

    async def cancel(self, run_id: str, task_id: str, *, reason: str, actor: str) -> Done:
        """Cancel a run (`task_id` "") or one task; returns when nothing of it is left."""

    async def retry(self, run_id: str, task_id: str, *, actor: str) -> Done:
        """Start a waiting retry now, or redrive a dead letter."""

    async def bury(self, run_id: str, task_id: str, *, reason: str, actor: str) -> Done:
        """Give a task up by hand: it becomes a dead letter."""

    async def pause(self, scope: str, *, drain: bool, reason: str, actor: str) -> Done:
        """Start nothing more in a scope: daemon, crew:NAME or executor:NAME."""

    async def resume(self, scope: str, *, actor: str) -> Done:
        """Open what `pause` closed."""

    async def redrive(self, keys: Sequence[str], fingerprint: str, *, dry_run: bool, limit: int, actor: str) -> Done:
        """Give the tasks of these dead letters a new budget of attempts."""

    async def discard(self, keys: Sequence[str], fingerprint: str, *, reason: str, dry_run: bool, actor: str) -> Done:
        """Settle dead letters without a redrive."""

    async def handover(self, *, actor: str) -> Done:
        """End the daemon, and leave its workers to the next."""

    def managed(self, run_id: str) -> Mapping[str, Any] | None:
        """Tell states, attempts, and why each task waits; None: no managed run of that id."""

    async def plan(self, run_id: str) -> Mapping[str, Any] | None:
        """Lay out what will run, values of its environment and all; None: no managed run of that id."""

    def letters(self, *, state: str, crew: str, limit: int) -> Sequence[Mapping[str, Any]]:
        """Tell dead letters; "" as state or crew means any."""

    def letter(self, key: str) -> Mapping[str, Any] | None:
        """Tell one dead letter whole."""

    def circuits(self) -> Sequence[Mapping[str, Any]]: ...

    def pauses(self) -> Sequence[Mapping[str, Any]]: ...
