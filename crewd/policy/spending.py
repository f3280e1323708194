"""What agents have used: by day and crew for their budgets, and how fast just now.

Days are those of UTC. A cost is known or it is not; one that is not known is never taken for 0.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec

from crewd.model.run import Usage

DAYS_MAX = 3  # today, and what a clock that is being corrected may call today
CREWS_MAX = 256  # with an account of their own; all others share one
OTHER = "other"
RECENT = 300.0  # seconds over which a rate is taken
STEP = 10.0  # seconds that are counted as one
STEPS = int(RECENT / STEP)
NANO = 1_000_000_000  # costs are added up as whole numbers, so that ten times 0.1 is 1
TOKENS_MAX = 10**15  # what claims to have used more at once, and
COST_MAX = 1e9  # a cost above this many usd, is not believed
LATEST = 253_402_300_799.0  # the last second of the year 9999


class Spent(msgspec.Struct, frozen=True, gc=False):
    """What was used of a budget."""

    tokens: int = 0  # in and out, without what came from a cache
    cost_usd: float | None = None  # None: unknown. Where it is known of a part only, of that part


def tokens_of(usage: Usage) -> int:
    """The tokens that a budget counts: in and out, and what was written to a cache; not what came from one."""
    return max(-TOKENS_MAX, min(TOKENS_MAX, usage.input + usage.output + usage.cache_write))


def spent(usage: Usage | None) -> Spent:
    """Tell of one usage what a budget counts. None: nothing was used, as far as is known."""
    return Spent() if usage is None else _spent(tokens_of(usage), _nano(usage.cost_usd))


def together(parts: Iterable[Spent]) -> Spent:
    """What several used. The cost is that of the parts whose cost is known."""
    tokens, costs = 0, []
    for part in parts:
        tokens += part.tokens
        if part.cost_usd is not None:
            costs.append(part.cost_usd)
    return Spent(tokens, sum(costs) if costs else None)


def day_of(at: float) -> str:
    """Name the UTC day of a wall time: "2026-11-21"."""
    seconds = min(max(at, 0.0), LATEST) if math.isfinite(at) else 0.0
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


class _Sum:
    """Tokens, and cost as far as it is known. A correction may be negative; a sum is told as 0 at least."""

    __slots__ = ("cost_known", "nano_usd", "tokens")

    def __init__(self) -> None:
        self.tokens, self.nano_usd, self.cost_known = 0, 0, False

    def add(self, tokens: int, nano_usd: int | None) -> None:
        self.tokens += tokens
        if nano_usd is not None:
            self.nano_usd += nano_usd
            self.cost_known = True

    def told(self) -> Spent:
        return _spent(self.tokens, self.nano_usd if self.cost_known else None)


class _Meter:
    """What was used lately, in steps of `STEP` seconds: at most `STEPS` + 1 of them."""

    __slots__ = ("cost_known", "steps")

    def __init__(self) -> None:
        self.steps: dict[int, _Sum] = {}
        self.cost_known = False  # at any time

    def add(self, tokens: int, nano_usd: int | None, at: float) -> None:
        step = _step_of(at)
        if step not in self.steps:
            # Also those ahead: they were written before the clock was set back.
            self.steps = {each: kept for each, kept in self.steps.items() if abs(step - each) <= STEPS}
            if len(self.steps) > STEPS:
                self.steps.pop(min(self.steps))
        self.steps.setdefault(step, _Sum()).add(tokens, nano_usd)
        self.cost_known = self.cost_known or nano_usd is not None

    def rate(self, now: float) -> tuple[float, float | None]:
        """Tokens and usd in a second. The oldest step counts with that part of it that is still recent."""
        newest = _step_of(now)
        oldest_part = 1.0 - min(1.0, max(0.0, now / STEP - newest))
        tokens, nano_usd, known, silent = 0.0, 0.0, False, True
        for step, used in self.steps.items():
            age = newest - step
            if not 0 <= age <= STEPS:
                continue
            part = oldest_part if age == STEPS else 1.0
            tokens += part * used.tokens
            nano_usd += part * used.nano_usd
            known, silent = known or used.cost_known, False
        known = known or (silent and self.cost_known)
        return max(0.0, tokens) / RECENT, max(0.0, nano_usd) / NANO / RECENT if known else None

    def is_idle(self, now: float) -> bool:
        newest = _step_of(now)
        return not any(abs(newest - step) <= STEPS for step in self.steps)


@dataclass(slots=True, eq=False)
class Spending:
    """The book of what was used. One owner writes it; it remembers `DAYS_MAX` days and `CREWS_MAX` crews.

    Crews beyond that share one account, and so one budget, under the name "other".
    """

    _days: dict[str, dict[str, _Sum]] = field(default_factory=dict)  # the day that was written last stands last
    _meters: dict[str, _Meter] = field(default_factory=dict)

    def add(self, crew: str, usage: Usage, at: float) -> None:
        """Count what was used since the last time, at the wall time `at`. A correction may be negative."""
        tokens, nano_usd = tokens_of(usage), _nano(usage.cost_usd)
        day = day_of(at)
        accounts = self._days.pop(day, {})
        self._days[day] = accounts
        while len(self._days) > DAYS_MAX:
            # Not the earliest: a clock that ran far ahead for a moment must not end every account for good.
            del self._days[next(iter(self._days))]
        accounts.setdefault(_account(crew, accounts), _Sum()).add(tokens, nano_usd)
        self._meter(crew, at).add(tokens, nano_usd, at)

    def of_day(self, at: float) -> Spent:
        """Tell what all crews together used on the day of a wall time."""
        whole = _Sum()
        for account in self._days.get(day_of(at), {}).values():
            whole.add(account.tokens, account.nano_usd if account.cost_known else None)
        return whole.told()

    def of_crew(self, crew: str, at: float) -> Spent:
        """Tell what one crew used on the day of a wall time: in a full book perhaps together with others."""
        accounts = self._days.get(day_of(at), {})
        account = accounts.get(_account(crew, accounts))
        return account.told() if account is not None else Spent()

    def crews(self, at: float) -> tuple[str, ...]:
        """Name the accounts of the day of a wall time, with "other" for those that share one."""
        return tuple(self._days.get(day_of(at), {}))

    def burn(self, crew: str, now: float) -> tuple[float, float | None]:
        """Tell the tokens and the usd that a crew uses in a second, over the last 300 s. None: unknown."""
        meter = self._meters.get(_account(crew, self._meters))
        return meter.rate(now) if meter is not None else (0.0, None)

    def burning(self, now: float) -> tuple[str, ...]:
        """Name the crews that used something in the last 300 s, with "other" for those that share a meter."""
        return tuple(crew for crew, meter in self._meters.items() if not meter.is_idle(now))

    def _meter(self, crew: str, at: float) -> _Meter:
        if crew not in self._meters and len(self._meters) >= CREWS_MAX:
            self._meters = {each: meter for each, meter in self._meters.items() if not meter.is_idle(at)}
        return self._meters.setdefault(_account(crew, self._meters), _Meter())


def _spent(tokens: int, nano_usd: int | None) -> Spent:
    return Spent(max(0, tokens), None if nano_usd is None else max(0, nano_usd) / NANO)


def _account(crew: str, accounts: dict[str, _Sum] | dict[str, _Meter]) -> str:
    """Under which name a crew is kept: its own, while there is room."""
    return crew if crew in accounts or len(accounts) < CREWS_MAX else OTHER


def _step_of(at: float) -> int:
    return math.floor(at / STEP) if math.isfinite(at) else 0


def _known(cost_usd: float | None) -> float | None:
    """A cost that can be one; else it is unknown. So written, NaN is unknown too."""
    return cost_usd if cost_usd is not None and -COST_MAX <= cost_usd <= COST_MAX else None


def _nano(cost_usd: float | None) -> int | None:
    known = _known(cost_usd)
    return None if known is None else round(known * NANO)
