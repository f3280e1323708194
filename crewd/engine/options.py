"""What the patrol may be told. All times are seconds."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PatrolOptions:
    """Rhythm and patience of the rounds."""

    interval: float = 5.0  # between two regular rounds
    unreadable_after: int = 3  # rounds without information
    exit_settle: float = 2.0  # between two looks that agree that a process is gone; its runtime writes meanwhile
    look_timeout: float = 30.0  # for one look at one root, after which the round goes on without it
    activity_every: float = 30.0  # between two samples of a silent worker's processor time, input and output
    discover_every: int = 12  # rounds between two searches for new roots
    waiting_alert_after: float = 600.0  # a human, or the end of a rate limit, has been waited for so long
    dead_letters_per_hour: int = 3  # more of them open an incident
    dead_rounds: int = 3  # after which a dead worker of an observed run is a dead letter
    reopen_window: float = 600.0  # an incident that comes back so soon after its end is the same one
    damp_above: float = 3.0  # the penalty of an incident that opens too often to be told (policy/damping.py)
    damp_half_life: float = 600.0  # in which that penalty halves
    pending_events_max: int = 20_000  # kept while the ledger cannot write

    def __post_init__(self) -> None:
        if not 1.0 <= self.interval <= 60.0:
            raise ValueError(f"interval must lie between 1 and 60 seconds: got {self.interval:g}; the default is 5")
        for name in (
            "unreadable_after",
            "discover_every",
            "dead_letters_per_hour",
            "dead_rounds",
            "pending_events_max",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1: got {getattr(self, name)}")
        for name in (
            "exit_settle", "look_timeout", "activity_every", "waiting_alert_after", "damp_above", "damp_half_life"
        ):  # fmt: skip
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0: got {getattr(self, name):g}")
