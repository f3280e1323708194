"""The tally of one look: what was read, what went wrong, within the caps of one round."""

from collections import Counter
from collections.abc import Iterable

from crewd.model.look import DeadLetter, Happening, Look, ReadResult
from crewd.model.run import Run

HAPPENINGS_PER_RUN = 500
HAPPENINGS_MAX = 5_000
LETTERS_MAX = 5_000
COMPLAINTS_MAX = 100  # of one look; a thousandth bad file teaches nothing that the hundredth did not
COMPLAINTS_KNOWN_MAX = 10_000


class Complaints:
    """What was complained of already, so that a fault is told when it appears and not in each round."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], str] = {}

    def is_new(self, about: str, kind: str, words: str) -> bool:
        if self._known.get((about, kind)) == words:
            return False
        if len(self._known) >= COMPLAINTS_KNOWN_MAX:
            self._known.clear()
        self._known[about, kind] = words
        return True

    def settle(self, about: str, kind: str) -> None:
        self._known.pop((about, kind), None)


class Tally:
    """Collects one look, and becomes a `Look` at its end."""

    def __init__(self, complaints: Complaints) -> None:
        self.changed: list[Run] = []
        self.vanished: list[str] = []
        self.unread: dict[str, ReadResult] = {}
        self.unread_tasks: dict[tuple[str, str], ReadResult] = {}
        self.reads: Counter[ReadResult] = Counter()
        self.unchanged = 0
        self.unknown_fields = 0
        self.unknown_statuses = 0
        self.complete = True
        self._letters: list[DeadLetter] = []
        self._happenings: list[Happening] = []
        self._counted = 0
        self._dropped = 0
        self._told: list[str] = []
        self._complaints = complaints

    def complain(self, about: str, kind: str, words: str) -> None:
        """Tell of a fault unless it was told before and has not changed. `about` is a path or an id."""
        if self._complaints.is_new(about, kind, words) and len(self._told) < COMPLAINTS_MAX:
            self._told.append(f"{about}: {words}")

    def settle(self, about: str, kind: str) -> None:
        """Note that a fault is over: should it come back, it is told again."""
        self._complaints.settle(about, kind)

    def add_happenings(self, happenings: list[Happening], dropped: int = 0, counted: int = 0) -> None:
        """Take the lines of one run's log; the newest give way to the caps, and are counted.

        `counted` lines tell nothing that anyone acts upon: they have caps of their own, and crowd out none that do.
        """
        room = min(HAPPENINGS_PER_RUN, HAPPENINGS_MAX - len(self._happenings))
        self._happenings += happenings[:room]
        taken = min(counted, HAPPENINGS_PER_RUN, HAPPENINGS_MAX - self._counted)
        self._counted += taken
        self._dropped += dropped + max(0, len(happenings) - room) + counted - taken

    def add_letters(self, letters: Iterable[DeadLetter]) -> None:
        self._letters += letters

    @property
    def letters_room(self) -> int:
        """How many dead letters this look may still take; a file of them is read on in the next one."""
        return max(0, LETTERS_MAX - len(self._letters))

    def look(self) -> Look:
        if self.unchanged:
            self.reads[ReadResult.UNCHANGED] += self.unchanged
        return Look(
            changed=tuple(self.changed),
            vanished=tuple(self.vanished),
            unread=self.unread,
            unread_tasks=self.unread_tasks,
            reads=dict(self.reads),
            letters=tuple(self._letters),
            happenings=tuple(self._happenings),
            happenings_counted=self._counted,
            happenings_dropped=self._dropped,
            complaints=tuple(self._told),
            unknown_fields=self.unknown_fields,
            unknown_statuses=self.unknown_statuses,
            complete=self.complete,
        )
