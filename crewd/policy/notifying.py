"""Notifying: whom a notice concerns, when it may disturb, how many may go out, how long to wait after a failure."""

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

from crewd.model.notice import SEVERITIES, Notice

DAY = 86_400.0
MINUTE = 60.0
BACKOFF_LEAST = 1.0  # seconds before the first retry
BACKOFF_MOST = 300.0
RETRY_AFTER_MOST = 3600.0  # a receiver that asks for more is asked again then

_QUIET = re.compile(r"(\d\d):(\d\d)-(\d\d):(\d\d)(?:([+-])(\d\d):(\d\d)|Z)?")


@dataclass(frozen=True)
class Quiet:
    """A part of every day, in seconds since midnight of its own offset from UTC. It may reach over midnight."""

    begins: float
    ends: float
    offset: float = 0.0  # seconds ahead of UTC

    def covers(self, wall: float) -> bool:
        """Say whether a moment lies within."""
        second = (wall + self.offset) % DAY
        if self.begins <= self.ends:
            return self.begins <= second < self.ends
        return second >= self.begins or second < self.ends


def quiet_hours(text: str) -> Quiet | None:
    """Read "22:00-07:00" (UTC) or "22:00-07:00+02:00"; None: there are none. Raises ValueError."""
    if not text:
        return None
    match = _QUIET.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no part of a day; write 22:00-07:00 (UTC) or 22:00-07:00+02:00")
    numbers = [int(part) for part in (match[1], match[2], match[3], match[4], match[6] or "0", match[7] or "0")]
    if any(hour > 23 for hour in numbers[::2]) or any(minute > 59 for minute in numbers[1::2]):
        raise ValueError(f"{text!r} names an hour above 23 or a minute above 59")
    begins, ends, ahead = (3600.0 * hour + 60.0 * minute for hour, minute in zip(*[iter(numbers)] * 2, strict=True))
    if begins == ends:
        raise ValueError(f"{text!r} begins where it ends; leave it out, or disable the channel")
    return Quiet(begins, ends, -ahead if match[5] == "-" else ahead)


@dataclass(frozen=True)
class Route:
    """Which notices one channel is for."""

    min_severity: str = "warning"
    crews: tuple[str, ...] = ()  # globs; none = every crew, and what concerns crewd itself
    quiet: Quiet | None = None
    quiet_critical: bool = True  # critical ones pass in quiet hours

    def __post_init__(self) -> None:
        if self.min_severity not in SEVERITIES:
            raise ValueError(f"min_severity is {self.min_severity!r}: give one of {', '.join(SEVERITIES)}")


@dataclass(frozen=True)
class Send:
    """It goes out now."""


@dataclass(frozen=True)
class Hold:
    """It goes out when the reason is gone, if it is still open by then."""

    because: str


@dataclass(frozen=True)
class Suppress:
    """It does not go out through this channel."""

    because: str


def decide(route: Route, notice: Notice, wall: float) -> Send | Hold | Suppress:
    """Decide what becomes of an incident that opened, at the wall time `wall`."""
    if SEVERITIES.index(notice.severity) < SEVERITIES.index(route.min_severity):
        return Suppress(f"its severity {notice.severity} is below {route.min_severity}")
    crews = notice.crews or (notice.crew,)
    if route.crews and not any(fnmatchcase(crew, pattern) for pattern in route.crews for crew in crews):
        return Suppress(f"crew {notice.crew or '(none)'} is none of {', '.join(route.crews)}")
    if notice.silenced:
        return Hold("a person snoozed it")
    if notice.damped and notice.state not in ("damped", "graver"):
        return Hold("it opens too often")
    if route.quiet_critical and notice.severity == "critical":
        return Send()
    return Hold("quiet hours") if route.quiet is not None and route.quiet.covers(wall) else Send()


@dataclass(frozen=True)
class Bucket:
    """Messages that may go out: `burst` at once, then `per_minute`. Time is monotonic, in seconds."""

    per_minute: float
    burst: int
    tokens: float
    filled_at: float

    @classmethod
    def full(cls, per_minute: float, burst: int, mono: float) -> "Bucket":
        return cls(per_minute, burst, float(burst), mono)

    def at(self, mono: float) -> "Bucket":
        """The same, as full as it is by `mono`. A clock that goes back fills nothing."""
        gained = max(0.0, mono - self.filled_at) * self.per_minute / MINUTE
        return Bucket(self.per_minute, self.burst, min(float(self.burst), self.tokens + gained), mono)

    def taken(self) -> "Bucket":
        return Bucket(self.per_minute, self.burst, max(0.0, self.tokens - 1.0), self.filled_at)

    @property
    def messages(self) -> int:
        """How many may go out now."""
        return int(self.tokens + 1e-9)

    @property
    def seconds_to_next(self) -> float:
        """How long until one may go out."""
        return 0.0 if self.messages else (1.0 - self.tokens) * MINUTE / self.per_minute


def backoff(failures: int, roll: float, retry_after: float | None = None) -> float:
    """How long to wait after so many failures in a row (1 or more). `roll` is a chance in [0, 1).

    Doubles up to BACKOFF_MOST, of which a random half is taken away, so that many channels do not ask together;
    never sooner than the receiver wished.
    """
    whole = min(BACKOFF_MOST, BACKOFF_LEAST * 2.0 ** min(failures - 1, 30))
    wished = 0.0 if retry_after is None else min(max(0.0, retry_after), RETRY_AFTER_MOST)
    return max(whole * (1.0 - roll / 2), wished)
