"""Whose turn it is: the runs of a place that a look has to read, found in as few system calls as the truth allows."""

from collections.abc import Iterable
from typing import NamedTuple

from crewd.host.files import Folder, Mark


class Marks(NamedTuple):
    """The files of one run that tell, by not moving, that nothing happened. Names are taken from the place on."""

    always: tuple[Mark, ...]  # looked at in each round
    rarely: tuple[Mark, ...] = ()  # looked at every so many rounds; () = the run needs no such look


class Rota:
    """Keeps the marks of the runs of one place.

    What changes seldom alone is looked at every `every` turns, each run at a turn of its own, so that not all of them
    do it in one round.
    """

    def __init__(self, every: int) -> None:
        self._every = every
        self._quiet: dict[str, tuple[Mark, ...]] = {}
        self._rarely: list[dict[str, tuple[Mark, ...]]] = [{} for _ in range(every)]
        self._restless: dict[str, None] = {}  # those without marks: to be looked at in each round

    def __bool__(self) -> bool:
        return bool(self._quiet or self._restless)

    @property
    def runs(self) -> list[str]:
        return [*self._quiet, *self._restless]

    def due(self, folder: Folder, turn: int) -> tuple[list[str], int]:
        """Name the runs that have to be looked at in this turn, and count those that need not be."""
        rare = folder.moved(self._rarely[-turn % self._every])
        moved = dict.fromkeys((*folder.moved(self._quiet), *rare))
        return [*moved, *self._restless], len(self._quiet) - len(moved)

    def note(self, run_id: str, slot: int, marks: Marks | None) -> None:
        """Take the marks of a run that was just looked at; None: it has to be looked at again."""
        rarely = self._rarely[slot % self._every]
        if marks is None:
            self.drop(run_id, slot)
            self._restless[run_id] = None
            return
        self._restless.pop(run_id, None)
        self._quiet[run_id] = marks.always
        if marks.rarely:
            rarely[run_id] = marks.rarely
        else:
            rarely.pop(run_id, None)

    def drop(self, run_id: str, slot: int) -> None:
        """Forget a run."""
        self._quiet.pop(run_id, None)
        self._restless.pop(run_id, None)
        self._rarely[slot % self._every].pop(run_id, None)

    def disturb(self, run_ids: Iterable[str]) -> None:
        """Let runs be looked at in the next turn, whatever their marks say."""
        for run_id in run_ids:
            if self._quiet.pop(run_id, None) is not None:
                self._restless[run_id] = None
