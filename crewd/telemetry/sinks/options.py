"""How the sinks are kept."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SinkOptions:
    """Where the day files lie, and for how long."""

    folder: str
    retention_days: int = 30
    retention_bytes: int = 2**30  # of all sinks together
    gzip: bool = True
    metrics_every: float = 60.0
    poll_seconds: float = 5.0  # longest wait for events that nobody announced
    keep_every: float = 600.0  # between two clean-ups of old files
    batch: int = 500  # events in one write
    linger: float = 1.0  # seconds from the last line of a day to the next day's link
    retry_max: float = 60.0  # longest wait after a failure
    close_seconds: float = 5.0  # for what is left at the end

    def __post_init__(self) -> None:
        if not self.folder:
            raise ValueError("sinks.folder is empty: name a folder")
        for name, value in vars(self).items():
            if isinstance(value, int | float) and not isinstance(value, bool) and value <= 0:
                raise ValueError(f"sinks.{name} is {value}: give more than 0")
