"""The circuit of a provider or executor: after repeated refusals its tasks wait, instead of burning their attempts.

closed: everyone may start. open: nobody may, until `probe_at`. half_open: a few may, and more with each that
succeeds; one that fails opens it again, for longer. The states are `model.managed.CircuitState`; each function here
returns the next one and changes nothing, so whoever compares the two sees what happened.
"""

from dataclasses import dataclass

from msgspec.structs import replace

from crewd.model.failure import ErrorClass
from crewd.model.managed import CircuitState
from crewd.policy.handling import handling_of
from crewd.policy.retry import RETRY_AFTER_MAX, named_wait

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half_open"
# With these it is the provider that names a wait, and what it tells one task is true of all.
SPEAKS_FOR_ALL = frozenset({ErrorClass.RATE_LIMITED, ErrorClass.PROVIDER_ERROR})
HINT = "hint:"  # before the class, where it is somebody else who was refused
CLOCK_SLACK = 60.0  # seconds; a clock that was set back further than this is told from one that is corrected
DOUBLINGS_MAX = 64  # of the wait; more would only make a number that cannot be held


@dataclass(frozen=True)
class CircuitOptions:
    """When a circuit opens, how long it stays so, and how it recovers. All times are seconds."""

    failures: int = 3  # of one class, within `window`
    window: float = 300.0
    open_for: float = 60.0  # before the first probe; each opening in a row doubles it
    open_for_max: float = 900.0
    ramp_from: int = 1  # tasks at one time while it is half open; each success doubles them
    ramp_after: int = 3  # successes after which there is no limit any more

    def __post_init__(self) -> None:
        complaints = [
            f"{name} must be at least 1: got {getattr(self, name)}"
            for name in ("failures", "ramp_from", "ramp_after")
            if getattr(self, name) < 1
        ]
        complaints += [
            f"{name} must be a number of seconds above 0: got {getattr(self, name):g}"
            for name in ("window", "open_for", "open_for_max")
            if not 0 < getattr(self, name) < float("inf")
        ]
        if self.open_for > self.open_for_max:
            complaints.append(f"open_for must not exceed open_for_max: got {self.open_for:g}, {self.open_for_max:g}")
        if complaints:
            raise ValueError("; ".join(complaints))


def failed(
    circuit: CircuitState, error_class: ErrorClass, retry_after: float | None, now: float, options: CircuitOptions
) -> CircuitState:
    """Count an attempt that failed at the wall time `now`. `retry_after`: seconds before which nobody may try again.

    Only classes that speak of the provider count (`Handling.opens_circuit`); any other failure proves neither
    that it is well nor that it is not. A provider that itself names a wait of `open_for` or more is believed at once.
    """
    circuit = advance(circuit, now, options)
    handling = handling_of(error_class)
    if not handling.opens_circuit:
        return circuit
    counted = _counted((*circuit.failures, (now, str(error_class))), now, options)
    circuit = replace(circuit, failures=counted)
    if circuit.state == OPEN:  # it was under way when the circuit opened
        return _waiting_longer(circuit, retry_after, now)
    told = error_class in SPEAKS_FOR_ALL and named_wait(retry_after) >= options.open_for
    if circuit.state == HALF_OPEN or handling.pauses or told or _enough(circuit, error_class, options):
        return _opened(circuit, error_class, retry_after, now, options)
    return circuit


def hinted(circuit: CircuitState, error_class: ErrorClass, now: float, options: CircuitOptions) -> CircuitState:
    """Hear at the wall time `now` that somebody else, whom crewd only watches, was refused by the same provider.

    It counts as one failure of the class, at most once in a window, and only beside a failure of our own: whoever
    writes the files of a watched run cannot open a circuit. One that is open or recovers has better news of its own.
    """
    circuit = advance(circuit, now, options)
    if circuit.state != CLOSED or not handling_of(error_class).opens_circuit:
        return circuit
    word = f"{HINT}{error_class}"
    counted = _counted(circuit.failures, now, options)
    if all(each != word for _, each in counted):
        counted = (*counted, (now, word))
    circuit = replace(circuit, failures=counted)
    return _opened(circuit, error_class, None, now, options) if _enough(circuit, error_class, options) else circuit


def succeeded(circuit: CircuitState, now: float, options: CircuitOptions) -> CircuitState:
    """Count an attempt that succeeded at the wall time `now`: one more step out of half open."""
    circuit = advance(circuit, now, options)
    if circuit.state != HALF_OPEN:
        # While it is open the wait was asked for; one that was under way before does not shorten it.
        return replace(circuit, failures=_counted(circuit.failures, now, options))
    ramp = 2 * max(circuit.ramp, options.ramp_from)
    if ramp < options.ramp_from * 2**options.ramp_after:
        return replace(circuit, ramp=ramp)
    return CircuitState(circuit.name)


def allows(circuit: CircuitState, busy: int, now: float, options: CircuitOptions) -> tuple[bool, str, float | None]:
    """Whether one more task may start while `busy` run on it.

    Returns the answer, why not, and the seconds after which time alone may change it (None: time alone never does).
    """
    circuit = advance(circuit, now, options)
    if circuit.state == OPEN:
        left = _left(circuit, now, options)
        return False, f"the circuit {circuit.name} is open for {circuit.opened_for}: a probe in {left:.0f} s", left
    if circuit.state == HALF_OPEN and busy >= circuit.ramp:
        return False, f"the circuit {circuit.name} recovers from {circuit.opened_for}: {circuit.ramp} at a time", None
    return True, "", None


def advance(circuit: CircuitState, now: float, options: CircuitOptions) -> CircuitState:
    """Let time pass: an open circuit becomes half open when its probe is due. Anything else stays as it is."""
    if circuit.state != OPEN or _left(circuit, now, options) > 0:
        return circuit
    return replace(circuit, state=HALF_OPEN, ramp=options.ramp_from)


def _enough(circuit: CircuitState, error_class: ErrorClass, options: CircuitOptions) -> bool:
    """Whether the failures of one class open a circuit. A hint is worth one of them, and alone it is nothing."""
    own = sum(1 for _, each in circuit.failures if each == error_class)
    hints = any(each == f"{HINT}{error_class}" for _, each in circuit.failures)
    return own > 0 and own + hints >= options.failures


def _counted(
    failures: tuple[tuple[float, str], ...], now: float, options: CircuitOptions
) -> tuple[tuple[float, str], ...]:
    """The failures within the window, and of each class no more than it takes to open."""
    kept: list[tuple[float, str]] = []
    seen: dict[str, int] = {}
    for at, error_class in reversed(failures):
        at = min(at, now)  # written before the clock was set back: it counts from now
        if at >= now - options.window and seen.get(error_class, 0) < options.failures:
            seen[error_class] = seen.get(error_class, 0) + 1
            kept.append((at, error_class))
    return tuple(reversed(kept))


def _opened(
    circuit: CircuitState, error_class: ErrorClass, retry_after: float | None, now: float, options: CircuitOptions
) -> CircuitState:
    doublings = min(circuit.openings, DOUBLINGS_MAX)
    wait = min(options.open_for_max, options.open_for * 2**doublings)
    return replace(
        circuit,
        state=OPEN,
        opened_at=now,
        probe_at=now + max(wait, named_wait(retry_after)),
        opened_for=str(error_class),
        openings=circuit.openings + 1,
        ramp=0,
    )


def _waiting_longer(circuit: CircuitState, retry_after: float | None, now: float) -> CircuitState:
    probe_at = now if circuit.probe_at is None else circuit.probe_at
    return replace(circuit, probe_at=max(probe_at, now + named_wait(retry_after)))


def _left(circuit: CircuitState, now: float, options: CircuitOptions) -> float:
    """Seconds until the probe of an open circuit is due; 0: it is.

    A clock that was set back must not keep it open for ever: nothing waits longer than was meant when it opened.
    """
    if circuit.probe_at is None or circuit.opened_at is None:
        return 0.0
    left = circuit.probe_at - now
    meant = min(circuit.probe_at - circuit.opened_at, max(options.open_for_max, RETRY_AFTER_MAX))
    return max(0.0, left) if left <= meant + CLOCK_SLACK else 0.0
