"""What the channels count of themselves, as immutable values that another thread may read at any time."""

from dataclasses import dataclass

from crewd.telemetry.families import NOTIFY_RESULTS


@dataclass(frozen=True)
class ChannelFigures:
    """Counts since the start. Of notices, not of messages: one message may tell of many."""

    channel: str
    sent: int = 0
    failed: int = 0  # given up
    dropped: int = 0  # over before they could be told
    suppressed: int = 0  # not for this channel, or told already
    retries: int = 0  # tries of messages that failed and were tried again
    waiting: int = 0  # notices that are to be told
    not_told: int = 0  # open incidents that could not be told, and are tried again

    def results(self) -> dict[str, int]:
        return {name: int(getattr(self, name)) for name in NOTIFY_RESULTS}


@dataclass(frozen=True)
class NotifyFigures:
    """All channels, and the dead-man ping."""

    channels: tuple[ChannelFigures, ...] = ()
    dead_man_failures: int | None = None  # None: there is no dead-man ping
    dead_man_at: float | None = None  # wall time of the latest that succeeded
