"""Circuits: one for each provider or executor. While one is open its tasks wait, and burn no attempt."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from crewd.engine.managed.transitions import RUNTIME
from crewd.model.event import Event
from crewd.model.failure import ErrorClass, Failure
from crewd.model.managed import CircuitState
from crewd.policy import circuit as policy
from crewd.policy.circuit import CircuitOptions
from crewd.policy.crash_loop import CrashLoop, CrashLoopOptions, crashed, delay_of, is_crash
from crewd.policy.provider import family, split_model

TOLD = {"open": "circuit.opened", "half_open": "circuit.half_opened", "closed": "circuit.closed"}
# Ends that say that a command cannot even begin its work; an ordinary failure within seconds does not.
CRASHES = frozenset(
    {ErrorClass.WORKER_CRASH, ErrorClass.WORKER_KILLED, ErrorClass.SPAWN_FAILED, ErrorClass.PROTOCOL_ERROR}
)
CRASH_LOOP = CrashLoopOptions(quick=2.0, half_life=120.0, threshold=10.0, delay=1.0, delay_max=30.0)
Changed = tuple[tuple[CircuitState, ...], tuple[Event, ...]]


@dataclass(slots=True, eq=False)
class Circuits:
    """Where every circuit stands. A circuit that nobody spoke of is closed."""

    options: CircuitOptions
    states: dict[str, CircuitState] = field(default_factory=dict)
    loops: dict[str, CrashLoop] = field(default_factory=dict)  # how often its workers ended as soon as they began

    def recall(self, states: Iterable[CircuitState]) -> None:
        self.states.update({state.name: state for state in states})

    def get(self, name: str) -> CircuitState:
        return self.states.get(name) or CircuitState(name)

    def failed(self, name: str, failure: Failure, now: float) -> Changed:
        """An attempt failed on this circuit."""
        if not name:
            return (), ()
        before = self.get(name)
        return self._put(
            before, policy.failed(before, failure.error_class, failure.retry_after, now, self.options), now
        )

    def hinted(self, model: str, error_class: ErrorClass, now: float) -> Changed:
        """A worker of somebody else was refused; `model` is what it asks, as "provider/model" where that is told."""
        provider, name = split_model(model)
        states: tuple[CircuitState, ...] = ()
        events: tuple[Event, ...] = ()
        for before in list(self.states.values()):
            of_provider, *_, of_family = before.name.split("/")
            # Whose account it is nobody knows; a hint never opens a circuit by itself.
            if family(name) == of_family and (not provider or provider == of_provider):
                after = policy.hinted(before, error_class, now, self.options)
                more_states, more_events = self._put(before, after, now)
                states, events = states + more_states, events + more_events
        return states, events

    def ended(self, name: str, failure: Failure, started_at: float, now: float) -> None:
        """Note an attempt that ended as soon as it began: many of them slow the next starts, for a while."""
        if name and failure.error_class in CRASHES and is_crash(started_at or now, now, CRASH_LOOP):
            self.loops[name] = crashed(self.loops.get(name, CrashLoop()), now, CRASH_LOOP)

    def succeeded(self, name: str, now: float) -> Changed:
        """An attempt succeeded on it."""
        before = self.states.get(name)
        if before is None:
            return (), ()
        return self._put(before, policy.succeeded(before, now, self.options), now)

    def advance(self, now: float) -> Changed:
        """Let open circuits be probed whose time has come."""
        states: tuple[CircuitState, ...] = ()
        events: tuple[Event, ...] = ()
        for before in list(self.states.values()):
            if before.state != "open":
                continue
            more_states, more_events = self._put(before, policy.advance(before, now, self.options), now)
            states, events = states + more_states, events + more_events
        return states, events

    def allows(self, name: str, busy: int, now: float) -> tuple[bool, str, float | None]:
        """Whether one more may start on it; why not; and the seconds after which time alone may change that."""
        loop = self.loops.get(name)
        if loop is not None and (wait := delay_of(loop, now, CRASH_LOOP)) > 0:
            return False, f"{name}: its workers end as soon as they begin; the next one starts in {wait:.0f} s", wait
        state = self.states.get(name)
        if state is None or (state.state == "closed" and not state.ramp):
            return True, "", None
        return policy.allows(state, busy, now, self.options)

    def _put(self, before: CircuitState, after: CircuitState, now: float) -> Changed:
        if after == before:
            return (), ()
        self.states[after.name] = after
        if after.state == before.state:
            return (after,), ()
        data = {"circuit": after.name, "error_class": after.opened_for, "openings": after.openings}
        if after.probe_at is not None and after.state == "open":
            data["probe_in_seconds"] = max(0.0, after.probe_at - now)
        return (after,), (Event(TOLD[after.state], now, data, runtime=RUNTIME),)
