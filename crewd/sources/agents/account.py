"""The account of one agent: what it used, whichever way its program counts (docs/agents.md)."""

from collections import OrderedDict

from msgspec.structs import replace

from crewd.model.run import Usage, added
from crewd.sources.agents.signs import Cost, Scope, Used
from crewd.sources.fields import COUNT_MAX

OPEN_MESSAGES_MAX = 64  # whose figures may still grow; older ones are added up
NOTHING = Usage()


class Account:
    """Tokens and cost of one attempt. `base`: what its session had used before it."""

    __slots__ = (
        "_added_up", "_base", "_base_cost", "_messages", "_run", "_run_cost", "_settled", "thread", "thread_cost"
    )  # fmt: skip

    def __init__(self, base: Usage | None = None, base_cost: float | None = None) -> None:
        self._base = base or NOTHING
        self._base_cost = base_cost or 0.0
        self._messages: OrderedDict[str, Usage] = OrderedDict()
        self._settled: Usage | None = None  # of messages that are no longer open
        self._added_up: tuple[Usage | None] | None = None  # None: to be added up anew, where somebody asks
        self._run: Usage | None = None
        self._run_cost: float | None = None
        self.thread: Usage | None = None  # of the whole session, as told
        self.thread_cost: float | None = None

    def add(self, sign: Used) -> None:
        """Take a figure over.

        What a program says of its whole run counts more than what was added up of its calls, and these count more
        than what it says of the whole session, of which nobody knows how much another program used.
        """
        self._added_up = None
        match sign.scope:
            case Scope.THREAD:
                # Told twice, by stdout and by the session's file, in no certain order: the larger is the newer.
                self.thread = sign.usage if self.thread is None else _larger(self.thread, sign.usage)
            case Scope.RUN:
                self._run = sign.usage
            case Scope.MESSAGE if self._run is None:
                self._add_message(sign)

    def add_cost(self, sign: Cost) -> None:
        """Take a cost over that is counted otherwise than the tokens."""
        if sign.scope is Scope.THREAD:
            self.thread_cost = sign.usd
        else:
            self._run_cost = sign.usd

    @property
    def used(self) -> Usage | None:
        """What this attempt used so far; None: it did not say."""
        used = self._tokens_used()
        cost = self._cost()
        if used is None:
            return Usage(cost_usd=cost) if cost is not None else None
        return replace(used, cost_usd=cost) if cost is not None else used

    @property
    def tokens(self) -> int:
        """Tokens in and out, without what came from a cache."""
        used = self._tokens_used()
        return 0 if used is None else used.input + used.output + used.cache_write

    def _tokens_used(self) -> Usage | None:
        if self._added_up is None:
            self._added_up = (self._add_up(),)
        return self._added_up[0]

    def _add_up(self) -> Usage | None:
        if self._run is not None:
            return self._run
        total = self._settled
        for used in self._messages.values():
            total = used if total is None else _plus(total, used)
        if total is None and self.thread is not None:
            return _since(self.thread, self._base)
        return total

    def _cost(self) -> float | None:
        if self._run_cost is not None:
            return self._run_cost
        if self.thread_cost is None:
            return None
        # A program that was killed forgets what its session had cost, and begins at nothing.
        return self.thread_cost - (self._base_cost if self.thread_cost >= self._base_cost else 0.0)

    def _add_message(self, sign: Used) -> None:
        before = self._messages.get(sign.key)
        self._messages[sign.key] = sign.usage if before is None else _larger(before, sign.usage)
        if len(self._messages) > OPEN_MESSAGES_MAX:
            _, oldest = self._messages.popitem(last=False)
            self._settled = oldest if self._settled is None else _plus(self._settled, oldest)


def _plus(one: Usage, other: Usage) -> Usage:
    """Add two figures up; no sum is more than a number in JSON can be."""
    total = added(one, other)
    return replace(
        total,
        input=min(COUNT_MAX, total.input),
        output=min(COUNT_MAX, total.output),
        cache_read=min(COUNT_MAX, total.cache_read),
        cache_write=min(COUNT_MAX, total.cache_write),
    )


def _since(total: Usage, base: Usage) -> Usage:
    """What came after `base`. A program that was killed forgets what its session had used, and begins at nothing."""
    if total.input < base.input or total.output < base.output:
        return total
    return Usage(
        input=total.input - base.input,
        output=total.output - base.output,
        cache_read=max(0, total.cache_read - base.cache_read),
        cache_write=max(0, total.cache_write - base.cache_write),
        cost_usd=total.cost_usd,
        model=total.model,
    )


def _larger(one: Usage, other: Usage) -> Usage:
    """The figures of one thing told twice: they only ever grow."""
    costs = [each.cost_usd for each in (one, other) if each.cost_usd is not None]
    return Usage(
        input=max(one.input, other.input),
        output=max(one.output, other.output),
        cache_read=max(one.cache_read, other.cache_read),
        cache_write=max(one.cache_write, other.cache_write),
        cost_usd=max(costs) if costs else None,
        model=other.model or one.model,
    )
