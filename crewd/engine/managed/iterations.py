"""Iterations: rounds of work inside an attempt become events of their own, as long as they are few."""

from dataclasses import dataclass, field
from typing import Any

BURST = 20  # told without a pause between them
PER_SECOND = 1.0  # told from then on
TOLD_MAX = 1000  # of one attempt: whoever counts every line must not fill the ledger
TEXT_MAX = 200  # characters of a step or a progress


@dataclass(slots=True, eq=False)
class Iterations:
    """Those of one attempt. `told`: the newest that is durable, of a predecessor too; none up to it is told again."""

    told: int = 0
    newest: int = 0
    _waiting: list[dict[str, Any]] = field(default_factory=list)
    _left_out: int = 0
    _credit: float = BURST
    _credit_at: float | None = None

    def note(self, number: int, mono: float, **data: Any) -> None:
        """Hear of iteration `number`. What is too much is counted, and its count told with the next."""
        if number <= max(self.told, self.newest):
            return
        self.newest = number
        if self._credit_at is not None:
            self._credit = min(BURST, self._credit + max(0.0, mono - self._credit_at) * PER_SECOND)
        self._credit_at = mono
        if self._credit < 1 or self.told + len(self._waiting) >= TOLD_MAX:
            self._left_out += 1
            return
        self._credit -= 1
        self._waiting.append(self._data(number, data))

    def take(self) -> list[dict[str, Any]]:
        """What is to be told now, oldest first. It is not given twice."""
        taken, self._waiting = self._waiting, []
        return taken

    def rest(self) -> list[dict[str, Any]]:
        """What is to be told at the end: also the newest one, where it was left out."""
        taken = self.take()
        if self._left_out and (not taken or taken[-1]["iteration"] < self.newest):
            self._left_out -= 1  # itself
            taken.append(self._data(self.newest, {}))
        return taken

    def untold(self, data: list[dict[str, Any]]) -> None:
        """They could not be written: they count as left out."""
        self._left_out += sum(1 + each.get("left_out", 0) for each in data)

    def _data(self, number: int, data: dict[str, Any]) -> dict[str, Any]:
        left_out, self._left_out = self._left_out, 0
        return {"iteration": number, **data, **({"left_out": left_out} if left_out else {})}
