"""What helps a worker that does not get on: by its diagnosis where the evidence names one, else by its level."""

from crewd.detection.wedge import REMEDIES
from crewd.model.verdict import Level, Reason, Wedge

BY_LEVEL = {
    Level.DEAD: "Nobody works on it any more. See whether its runtime begins it anew: `crewd recover list`.",
    Level.STALE: "Look at what it does, and end it where it does nothing: crewd ends no worker of another runtime.",
    Level.WARN: "Wait: it may only be slow. Above its limit it is called stale.",
    Level.UNREADABLE: "crewd cannot read its files, and says nothing of it. `crewd doctor` looks at the folders.",
    Level.WAITING: "It waits for an answer. Answer it; nobody else will.",
}
# Dead, and still not provably gone: there the words of BY_LEVEL would be untrue.
OTHER_DEATHS = {
    Reason.HUNG: "Its process lives and nothing of it moves. Look at what it waits for, and end it.",
    Reason.PRESUMED: "Its process cannot be seen from here. Look where it runs whether it lives.",
}
OTHER_WAITS = {
    Reason.THROTTLED: "The provider asked it to wait. Retrying sooner makes it worse.",
    Reason.PARKED: "It was put aside by its own runtime, which takes it up again.",
}


def remedy(level: str, reason: str, wedge: str | None) -> str:
    """Say what helps; "" for one that needs no help, or of whom a newer crewd tells what is not known here."""
    try:
        stands, why = Level(level), Reason(reason)
        named = REMEDIES[Wedge(wedge)] if wedge and wedge != Wedge.UNKNOWN else ""
    except ValueError:
        return ""
    if stands is Level.WAITING:
        return OTHER_WAITS.get(why, BY_LEVEL[stands])
    if stands is Level.DEAD:
        living = named if why is Reason.HUNG else ""
        return living or OTHER_DEATHS.get(why, BY_LEVEL[stands])
    return named or BY_LEVEL.get(stands, "")
