"""Parole: dead letters whose cause has passed, as far as a probe can tell, are offered to be tried again.

One of each kind goes first, as a canary: what still fails then fails once, not a hundred times.
"""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from crewd.model.failure import ErrorClass
from crewd.model.look import DeadLetter

RUNTIME = "managed"  # the letters of other runtimes are not crewd's to try again
PAROLED = "paroled"  # in a letter's evidence: its task was on parole for this before. Then a person decides


class Probes(msgspec.Struct, frozen=True, gc=False):
    """What is known, now, of the things that letters were written for."""

    circuits_closed: frozenset[str]
    disk_free: bool
    credentials_changed: Mapping[str, float]  # name -> wall time of the last change
    now: float  # wall time


class Offer(msgspec.Struct, frozen=True, gc=False):
    """Letters of one cause that may be tried again."""

    fingerprint: str
    keys: tuple[str, ...]  # the canary first, then by age
    canary: str  # the oldest: it waits longest
    why: str


def on_parole(letters: Sequence[DeadLetter], probes: Probes) -> list[Offer]:
    """Offer the open letters of managed runs whose cause has passed, those of one fingerprint together, oldest first.

    A provider's failure needs its circuit closed (`evidence["circuit"]`), a full disk room, a refused login one of
    its credentials (`evidence["secrets"]`) changed since the letter was written. A letter that says nothing of its
    cause is not offered; nor is one whose evidence says `paroled`, for a closed circuit and a free disk prove little,
    and a task that fails again for the same reason would go round for ever.
    """
    groups: dict[str, list[tuple[DeadLetter, str]]] = {}
    for letter in sorted(letters, key=_age):
        why = _passed(letter, probes)
        if why:
            # Without a fingerprint nothing says that two letters have one cause.
            groups.setdefault(letter.fingerprint or letter.key, []).append((letter, why))
    return [_offer(group) for group in groups.values()]


def _age(letter: DeadLetter) -> tuple[bool, float, str]:
    return letter.at is None, letter.at or 0.0, letter.key


def _offer(group: Sequence[tuple[DeadLetter, str]]) -> Offer:
    keys = tuple(letter.key for letter, _ in group)
    whys = dict.fromkeys(why for _, why in group)
    return Offer(group[0][0].fingerprint, keys, keys[0], "; ".join(whys))


def _passed(letter: DeadLetter, probes: Probes) -> str:
    """Why the cause of a letter is held to have passed; "": it is not."""
    if letter.state != "open" or letter.runtime != RUNTIME or letter.evidence.get(PAROLED):
        return ""
    probe = _PROBES.get(letter.error_class)
    return "" if probe is None else probe(letter, probes)


def _circuit_closed(letter: DeadLetter, probes: Probes) -> str:
    name = letter.evidence.get("circuit")
    closed = isinstance(name, str) and name in probes.circuits_closed
    return f"the circuit {name} is closed again" if closed else ""


def _disk_free(letter: DeadLetter, probes: Probes) -> str:
    return "the disk has room again" if probes.disk_free else ""


def _credential_changed(letter: DeadLetter, probes: Probes) -> str:
    names = letter.evidence.get("secrets")
    if letter.at is None or not isinstance(names, list | tuple):
        return ""
    when = {name: probes.credentials_changed.get(name, letter.at) for name in names if isinstance(name, str)}
    changed = [name for name, at in when.items() if letter.at < at <= probes.now]
    return f"the credential {', '.join(changed)} was changed since" if changed else ""


_PROBES: Mapping[str, Callable[[DeadLetter, Probes], str]] = {
    ErrorClass.RATE_LIMITED: _circuit_closed,
    ErrorClass.PROVIDER_ERROR: _circuit_closed,
    ErrorClass.DISK_FULL: _disk_free,
    ErrorClass.AUTH_ERROR: _credential_changed,
}
