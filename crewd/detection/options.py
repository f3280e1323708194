"""What the judges may be told: thresholds, patience, and when to doubt oneself. All times are seconds."""

from dataclasses import dataclass, replace

from crewd.model.run import Expectation

LATER = 1.25  # times the last threshold that was named, where the next is not named and would not be later


@dataclass(frozen=True)
class Thresholds:
    """How much observed silence means what. The defaults are the names that dashboards know: 30, 60, 300."""

    warn_after: float = 30.0
    stale_after: float = 60.0
    dead_after: float = 300.0  # for workers that are gone or cannot be seen
    hung_after: float = 900.0  # for workers whose process is alive and does nothing at all
    startup_grace: float = 30.0  # added to warn_after until the first progress of an attempt

    def __post_init__(self) -> None:
        if not 0 < self.warn_after < self.stale_after < self.dead_after <= self.hung_after:
            raise ValueError(
                "warn_after < stale_after < dead_after <= hung_after must hold, all above 0: got "
                f"{self.warn_after:g}, {self.stale_after:g}, {self.dead_after:g}, {self.hung_after:g}; "
                "raise the later ones or lower the earlier ones"
            )
        if self.startup_grace < 0:
            raise ValueError(f"startup_grace must not be negative: got {self.startup_grace:g}; use 0 for none")

    def stretched(self, factor: float) -> "Thresholds":
        """All thresholds multiplied: for flapping workers and for times in which crewd doubts itself."""
        if factor == 1.0:
            return self
        return replace(
            self,
            warn_after=self.warn_after * factor,
            stale_after=self.stale_after * factor,
            dead_after=self.dead_after * factor,
            hung_after=self.hung_after * factor,
        )

    def warned_later(self, factor: float) -> "Thresholds":
        """The first threshold alone multiplied, as far as the second allows it."""
        if factor == 1.0:
            return self
        return replace(self, warn_after=max(self.warn_after, min(self.warn_after * factor, self.stale_after / 2)))

    def expecting(self, wanted: Expectation) -> "Thresholds":
        """What the owner of a task expects instead. What is not named stays, as far as the order allows it."""
        warn, stale, dead, hung = wanted.warn_after, wanted.stale_after, wanted.dead_after, wanted.hung_after
        early = stale if stale is not None else warn  # the latest of those named that lie before dead
        if dead is None:
            dead = self.dead_after if early is None else max(self.dead_after, early * LATER)
            dead = dead if hung is None else min(dead, hung)
        if hung is None:
            hung = max(self.hung_after, dead)
        if stale is None:
            stale = min(self.stale_after, dead / 2)
            stale = stale if warn is None or stale > warn else (warn + dead) / 2
        if warn is None:
            warn = min(self.warn_after, stale / 2)
        try:
            return replace(self, warn_after=warn, stale_after=stale, dead_after=dead, hung_after=hung)
        except ValueError:
            return self  # no order among them: refused where a run file is read


@dataclass(frozen=True)
class Override:
    """Other thresholds for some workers. An empty matcher fits all; the first override that fits wins.

    A shadow is only tried: it never counts, and what it would have made of a worker is told (engine/shadowing.py).
    """

    thresholds: Thresholds
    runtime: str = ""
    crew: str = ""
    task_type: str = ""
    tool: str = ""
    shadow: bool = False
    name: str = ""

    def fits(self, runtime: str, crew: str, task_type: str, tool: str) -> bool:
        return (
            self.runtime in ("", runtime)
            and self.crew in ("", crew)
            and self.task_type in ("", task_type)
            and self.tool in ("", tool)
        )


def thresholds_for(
    default: Thresholds, overrides: tuple[Override, ...], runtime: str, crew: str, task_type: str, tool: str
) -> Thresholds:
    """The thresholds of one worker."""
    for override in overrides:
        if not override.shadow and override.fits(runtime, crew, task_type, tool):
            return override.thresholds
    return default


def shadow_for(
    overrides: tuple[Override, ...], runtime: str, crew: str, task_type: str, tool: str
) -> Override | None:
    """The shadow that is tried on one worker; None: there is none."""
    fitting = (each for each in overrides if each.shadow and each.fits(runtime, crew, task_type, tool))
    return next(fitting, None)


@dataclass(frozen=True)
class Patience:
    """How slow crewd is to think worse of a worker, and when it doubts itself instead."""

    worse_rounds: int = 3  # rounds in a row before a level gets worse
    flapping_changes: int = 4  # changes of level within `flapping_window` that make a worker flapping
    flapping_window: float = 600.0
    flapping_factor: float = 2.0
    brake_minimum: int = 3  # the mass brake needs more than this many, and more than half
    brake_share: float = 0.5
    cpu_idle_ticks: float = 2.0  # ticks/s; an agent's own timers tick 0.05 to 0.4 in a dead wait
    io_idle_chars: float = 50.0  # bytes/s read and written; event-loop wake-ups read 8 bytes each

    def __post_init__(self) -> None:
        if self.worse_rounds < 1 or self.flapping_changes < 2:
            raise ValueError(
                f"worse_rounds must be at least 1 and flapping_changes at least 2: got {self.worse_rounds}, "
                f"{self.flapping_changes}"
            )
        if not 0 < self.brake_share <= 1:
            raise ValueError(f"brake_share must lie in (0, 1]: got {self.brake_share:g}; 0.5 is half of the workers")
