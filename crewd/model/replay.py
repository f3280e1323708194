"""A recorded period, looked at with other rules: what would differ, and what the record cannot tell."""

import msgspec


class Difference(msgspec.Struct, frozen=True):
    """One thing that would have been otherwise. `base` and `new` are for people: "dead(presumed)", "nothing"."""

    kind: str  # verdict, incident, notification, retry, dead_letters
    at: float  # wall time of the recorded event that it is about
    crew: str
    run_id: str
    task_id: str
    base: str
    new: str
    certain: bool = True  # False: the record allows more than one answer
    why: str = ""  # what is not certain, or where the notification would have gone


class Replay(msgspec.Struct, frozen=True):
    """What came of it. `looked_at` counts, by kind, what was looked at whether it differs or not."""

    differences: tuple[Difference, ...] = ()
    looked_at: dict[str, int] = {}
    disagreements: tuple[str, ...] = ()  # where the base rules do not lead to what is recorded
    unknown: tuple[str, ...] = ()  # what the record cannot tell, whatever the rules are
