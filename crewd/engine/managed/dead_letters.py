"""Dead letters of managed runs: the open ones, their counts, and the way back of a run that has long ended."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from crewd.model.look import DeadLetter
from crewd.model.managed import ManagedRun, ManagedTask
from crewd.model.moment import rfc3339

Loaded = tuple[ManagedRun, dict[str, ManagedTask]]


@dataclass(slots=True, eq=False)
class DeadLetters:
    """Letters that wait for somebody. `load` brings a run back from the ledger; None: there is none of that id."""

    load: Callable[[str], Awaitable[Loaded | None]]
    redrive_rate: float = 1.0  # a second
    told: Callable[[DeadLetter], None] = lambda letter: None
    others: Callable[[str], DeadLetter | None] = lambda key: None  # open letters of other runtimes, by key
    closed: Callable[[DeadLetter], None] = lambda letter: None  # one of those was discarded
    open: dict[str, DeadLetter] = field(default_factory=dict)  # by key, oldest first
    paroled: set[tuple[str, str]] = field(default_factory=set)  # (run, task) that was tried again unasked

    def recall(self, letters: Sequence[DeadLetter]) -> None:
        self.open.update({letter.key: letter for letter in letters})

    def add(self, letter: DeadLetter) -> None:
        """A letter was written, durably."""
        self.open[letter.key] = letter
        self.told(letter)

    def settle(self, letters: Sequence[DeadLetter]) -> None:
        """Letters were redriven or discarded, durably."""
        for letter in letters:
            if self.open.pop(letter.key, None) is None:
                self.closed(letter)

    def find(self, keys: Sequence[str], fingerprint: str) -> list[DeadLetter]:
        """The open letters of these keys, and all of this fingerprint."""
        found = (self.open.get(key) or self.others(key) for key in keys)
        chosen = [letter for letter in found if letter is not None]
        if fingerprint:
            chosen += [each for each in self.open.values() if each.fingerprint == fingerprint and each not in chosen]
        return chosen

    def counts(self) -> dict[str, tuple[int, float | None]]:
        """Crew -> how many are open, and the wall time of the oldest."""
        counts: dict[str, tuple[int, float | None]] = {}
        for letter in self.open.values():
            count, oldest = counts.get(letter.crew, (0, None))
            at = letter.at if oldest is None or letter.at is None else min(oldest, letter.at)
            counts[letter.crew] = (count + 1, at)
        return counts

    async def pace(self) -> None:
        """Wait between two redrives, so that many of them are no herd."""
        await asyncio.sleep(1.0 / self.redrive_rate)


def laid_out(letter: DeadLetter) -> dict[str, Any]:
    """A letter as it is shown."""
    return {
        **msgspec.to_builtins(letter),
        "at": rfc3339(letter.at) if letter.at is not None else None,
        "settled_at": rfc3339(letter.settled_at) if letter.settled_at is not None else None,
    }
