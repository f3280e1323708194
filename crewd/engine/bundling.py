"""Bundling: what may be part of something larger is kept back for a moment, so that a mass is told as one incident.

Workers that are stopped together fall silent together, and are noticed one after the other: their heartbeats were not
due at one moment. Until it is clear that only these few are silent, and for as long as the mass brake tells of all of
them, none has an incident of its own.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from crewd.model.verdict import Incident

IN_MASSES = frozenset({"silent", "stopped"})  # proven exits: mass_deaths.py


@dataclass(slots=True, eq=False)
class Bundling:
    """Since when somebody's silence would be an incident, on crewd's own running time."""

    _since: dict[str, float] = field(default_factory=dict)  # subject -> running seconds

    def sift(
        self,
        subject: str,
        wanted: Iterable[Incident],
        known: Collection[str],
        running: float,
        patience: float,
        braked: bool,
    ) -> list[Incident]:
        """Choose those of the wanted incidents of a worker that may be open now.

        `known`: causes that are open already, and stay so. `patience`: seconds for which others may turn out to be
        silent too; 0 where there are too few of them for a mass. `braked`: the mass brake tells of this worker.
        """
        wanted = list(wanted)
        may_wait = [each for each in wanted if each.cause in IN_MASSES and each.cause not in known]
        if not may_wait:
            self._since.pop(subject, None)
            return wanted
        if braked:
            self._since[subject] = running  # once the brake lets go, the last of a mass have the time to follow
        elif running - self._since.setdefault(subject, running) >= patience:
            return wanted
        return [each for each in wanted if each not in may_wait]

    def forget(self, subject: str) -> None:
        """Let go of a worker that is at work no more."""
        self._since.pop(subject, None)
