"""What a channel and the dead-man ping are told. What may hold a secret is never shown by `repr`."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from crewd.policy.notifying import Route

KINDS = ("webhook", "command", "desktop", "log")
FORMATS = ("plain", "slack", "alertmanager")


@dataclass(frozen=True)
class ChannelOptions:
    """One way out. Times are seconds."""

    name: str
    kind: str = "webhook"
    url: str = field(default="", repr=False)
    format: str = "plain"
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    labels: tuple[tuple[str, str], ...] = ()  # put onto each alert, beside those that crewd sets
    command: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)  # of the command
    route: Route = field(default_factory=Route)
    rate_per_minute: float = 20.0
    burst: int = 5
    timeout: float = 10.0  # of one try
    attempts_max: int = 20
    age_max: float = 3600.0  # after which a message that could not be delivered is given up
    remind_every: float = 14_400.0  # of what is critical and open, and of which nobody said a word; 0: never


@dataclass(frozen=True)
class DeadManOptions:
    """A sign of life of crewd itself, for whoever raises the alarm when it is missing."""

    url: str = field(default="", repr=False)
    method: str = "GET"
    file: str = ""
    every: float = 60.0
    timeout: float = 10.0

    @property
    def wanted(self) -> bool:
        return bool(self.url or self.file)


@dataclass(frozen=True)
class NotifyOptions:
    """Everything that is told to people outside."""

    channels: tuple[ChannelOptions, ...] = ()
    dead_man: DeadManOptions = field(default_factory=DeadManOptions)
