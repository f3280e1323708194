"""Voice: what a conductor asks of a worker whose words mean something, whichever language it speaks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from crewd.engine.managed.attempt import Over
from crewd.engine.managed.outcome import Facts
from crewd.model.event import Event
from crewd.model.failure import Exit, Failure
from crewd.model.managed import ManagedRun, ManagedTask
from crewd.model.run import Lease, Waiting


@dataclass(frozen=True, slots=True)
class Word:
    """What a worker's own last word comes to. Neither: it said nothing that counts."""

    failure: Failure | None = None
    succeeded: bool = False


@dataclass(frozen=True, slots=True)
class Signs:
    """What a worker's words say about its life at one moment."""

    said: tuple[Any, ...] = ()  # changes with every message that proves life
    lease: Lease | None = None
    tool: str = ""
    waiting: Waiting | None = None
    hint: str = ""  # why it may be silent, in its own words; redacted


class Voice(Protocol):
    """One worker that is listened to: a protocol worker (`dialogue`) or an agent (`listening`)."""

    @property
    def messages(self) -> Mapping[str, int]:
        """How many messages it sent, by type; empty where its protocol is its own."""
        ...

    def open(self, fresh: bool) -> None:
        """Find its files. `fresh`: its command has not begun yet."""
        ...

    def begin(self, mono: float) -> None:
        """Its command has begun."""
        ...

    async def run(self) -> None:
        """Listen until the attempt is over."""
        ...

    async def listen(self) -> bool:
        """Hear the next piece of what it wrote; False: there is nothing new."""
        ...

    async def drain(self) -> None:
        """Hear everything that it wrote before it ended."""
        ...

    def cancel(self, why: str, grace: float) -> bool:
        """Ask it to end, in its own language. False: it understands no such thing."""
        ...

    def last_word(self, facts: Facts, over: Over) -> Word:
        """What it said of its own end, now that it has ended."""
        ...

    def output_bytes(self, facts: Facts) -> int:
        """Bytes of its output that count for its success contract."""
        ...

    def result(self) -> dict[str, Any]:
        """What is kept of its result, for the engine of work."""
        ...

    def signs(self, now: float) -> Signs:
        """Its signs of life at the monotonic time `now`."""
        ...

    def details(self) -> dict[str, Any]:
        """What the record of the attempt keeps."""
        ...

    def told(
        self, run: ManagedRun, task: ManagedTask, exit: Exit, at: float
    ) -> tuple[ManagedTask, tuple[Event, ...]]:
        """Its task, with what it told on its way, and the events that tell of it."""
        ...

    def close(self) -> None: ...
