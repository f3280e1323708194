"""Summaries over the history: SQLite counts, adds up and sorts, so that few rows come into Python.

What ended in the window is copied into a narrow table in memory, once, and every figure is taken from there: all of
them are of one moment, and the wide rows are read only once. SQLite works outside of the interpreter's lock, which a
row for each attempt would take all the time.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import apsw

from crewd.errors import UsageProblem
from crewd.model.history import TREND_SLOTS, UNSUCCESSFUL, HistoryQuery, Quantiles, SummaryGroup
from crewd.model.run import Usage
from crewd.policy.summary import rank

TABLES = {"attempt": "attempts", "task": "outcomes"}
FILTERS = ("crew", "runtime", "executor", "model", "task_type")  # of the query: a column each
SCAN_SHARE = 10  # from one row in so many on, reading the whole table is quicker than by its index
KINDS_MAX = 10_000  # groups of the finest names, outcomes and error classes: each takes kilobytes and 0.1 ms
FIRST_MARK = 64  # marks are characters: none below this one,
SURROGATES, SURROGATES_MANY = 0xD800, 0x800  # and none of those that are no characters
# A row's variants as one value, "model=opus,prompt=b"; their order is that of their names.
_VARIANT = (
    "(SELECT group_concat(key || '=' || value, ',') FROM"
    " (SELECT key, value FROM json_each(body, '$.variants') ORDER BY key))"
)
_USAGE = ("input", "output", "cache_read", "cache_write", "cost_usd")
_SUMS = ", ".join(f"sum({name})" for name in _USAGE)

Key = tuple[str, ...]  # the values of the first so many names to group by


def summary(
    connection: apsw.Connection,
    since: float,
    until: float,
    level: str = "attempt",
    group_by: Sequence[str] = (),
    query: HistoryQuery | None = None,
) -> list[SummaryGroup]:
    """Count what ended in [since, until), wall time: all of it, and by the first name, the first two, and so on.

    `level`: "attempt" or "task"; `group_by`: of model/history.GROUPS; of the query count crew, runtime, executor,
    model and task_type. The group of the key {} comes first, also where nothing ended.

    Raises UsageProblem where there would be too many groups for anybody to read.
    """
    with _picked(connection, since, until, level, group_by, query or HistoryQuery()):
        kinds = _kinds(connection, len(group_by))
        groups = _groups(kinds)
        _count(connection, groups, kinds)
        _rank(connection, groups)
    return [each.told(group_by) for each in sorted(groups.values(), key=lambda each: (len(each.key), each.key))]


@contextmanager
def _picked(
    connection: apsw.Connection, since: float, until: float, level: str, group_by: Sequence[str], query: HistoryQuery
) -> Iterator[None]:
    """Hold what is asked about in temp.picked, and in temp.kinds what its rows have in common.

    A kind is a group of the finest names, an outcome and an error class; it stands in the rows as a number.
    """
    table = TABLES[level]
    keys = [f"{_value_of(name)} AS k{number}" for number, name in enumerate(group_by)]
    kind = [*keys, "outcome AS result", "coalesce(error_class, '') AS failure"]
    names = [each.rpartition(" ")[2] for each in kind]
    values = [each.rpartition(" AS ")[0] for each in kind]
    wanted = [(name, getattr(query, name)) for name in FILTERS if getattr(query, name)]
    rows = (
        f"main.{table} {_way(connection, table, since, until)} WHERE outcome <> '' AND ended_at >= ? AND ended_at < ?"
        + "".join(f" AND {name} = ?" for name, _ in wanted)
    )
    bindings = (since, until, *(value for _, value in wanted))
    slot = f"max(0, min({TREND_SLOTS - 1}, CAST((ended_at - ?) / ? AS INTEGER)))"
    same = " AND ".join(f"{name} = {value}" for name, value in zip(names, values, strict=True))
    slot_seconds = max(until - since, 1e-3) / TREND_SLOTS
    connection.pragma("temp_store", "MEMORY")
    connection.execute("BEGIN")  # both tables are of one moment
    try:
        connection.execute(f"CREATE TEMP TABLE kinds (kind INTEGER PRIMARY KEY, {', '.join(names)})")
        connection.execute(f"CREATE UNIQUE INDEX temp.kinds_by_name ON kinds ({', '.join(names)})")
        connection.execute(
            f"INSERT OR IGNORE INTO kinds ({', '.join(names)}) SELECT {', '.join(values)} FROM {rows}",
            bindings,
        )
        if (kinds := connection.execute("SELECT count(*) FROM temp.kinds").get) > KINDS_MAX:
            raise UsageProblem(
                f"grouped by {', '.join(group_by)} what ended falls into {kinds} groups, and {KINDS_MAX} are told at "
                "most; give fewer names to group by, a shorter window, or a value of one of them"
            )
        connection.execute(
            f"CREATE TEMP TABLE picked AS SELECT (SELECT kind FROM kinds WHERE {same}) AS kind, {slot} AS slot, "
            f"duration_seconds AS duration, queue_seconds AS queue, {', '.join(_USAGE)} FROM {rows}",
            (since, slot_seconds, *bindings),
        )
        yield
    finally:
        connection.execute("ROLLBACK")  # takes the tables with it


def _way(connection: apsw.Connection, table: str, since: float, until: float) -> str:
    """Choose how to read the table: SQLite would go by the index even where it leads to every row."""
    inside = f"SELECT count(*) FROM main.{table} WHERE ended_at >= ? AND ended_at < ?"
    found = connection.execute(inside, (since, until)).get
    total = connection.execute(f"SELECT count(*) FROM main.{table}").get
    return "NOT INDEXED" if found * SCAN_SHARE >= total else ""


def _value_of(name: str) -> str:
    if name == "error_class":
        return "coalesce(nullif(error_class, ''), 'none')"  # "unknown" is a class of its own
    return f"coalesce(nullif({_VARIANT if name == 'variant' else name}, ''), 'unknown')"


class _Kind:
    """What a row counts for."""

    def __init__(self, number: int, *named: str) -> None:
        *key, self.outcome, self.error_class = named
        self.number = number
        self.key: Key = tuple(key)
        code = FIRST_MARK + number
        self.mark = chr(code if code < SURROGATES else code + SURROGATES_MANY)


class _Group:
    """The figures of one group while they are gathered."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self.kinds: list[_Kind] = []
        self.outcomes: dict[str, int] = {}
        self.error_classes: dict[str, int] = {}
        self.sums: list[Any] = [0, 0, 0, 0, None]
        self.with_usage = self.with_cost = 0
        self.completed = self.ended = self.queue = Quantiles()
        self.trend_completed, self.trend_unsuccessful = [0] * TREND_SLOTS, [0] * TREND_SLOTS

    def add(self, kind: _Kind, slot: int, count: int, with_usage: int, with_cost: int, *sums: Any) -> None:
        self.outcomes[kind.outcome] = self.outcomes.get(kind.outcome, 0) + count
        if kind.error_class:
            self.error_classes[kind.error_class] = self.error_classes.get(kind.error_class, 0) + count
        if kind.outcome == "completed":
            self.trend_completed[slot] += count
        elif kind.outcome in UNSUCCESSFUL:
            self.trend_unsuccessful[slot] += count
        self.with_usage += with_usage
        self.with_cost += with_cost
        for place, each in enumerate(sums):
            if each is not None:
                self.sums[place] = (self.sums[place] or 0) + each

    def told(self, group_by: Sequence[str]) -> SummaryGroup:
        return SummaryGroup(
            key=dict(zip(group_by, self.key, strict=False)),
            outcomes=self.outcomes,
            error_classes=self.error_classes,
            completed=self.completed,
            ended=self.ended,
            queue=self.queue,
            usage=Usage(*self.sums),
            with_usage=self.with_usage,
            with_cost=self.with_cost,
            trend_completed=tuple(self.trend_completed),
            trend_unsuccessful=tuple(self.trend_unsuccessful),
        )


def _kinds(connection: apsw.Connection, names: int) -> dict[int, _Kind]:
    keys = "".join(f"k{number}, " for number in range(names))
    found = connection.execute(f"SELECT kind, {keys}result, failure FROM temp.kinds")
    return {row[0]: _Kind(*row) for row in found}


def _groups(kinds: dict[int, _Kind]) -> dict[Key, _Group]:
    groups: dict[Key, _Group] = {(): _Group(())}
    for kind in kinds.values():
        for depth in range(len(kind.key) + 1):
            groups.setdefault(kind.key[:depth], _Group(kind.key[:depth])).kinds.append(kind)
    return groups


def _count(connection: apsw.Connection, groups: dict[Key, _Group], kinds: dict[int, _Kind]) -> None:
    """Count and add up by kind; what is coarser is the sum of what is finer."""
    for number, slot, *figures in connection.execute(
        f"SELECT kind, slot, count(*), count(coalesce(input, output)), count(cost_usd), {_SUMS} "
        "FROM temp.picked GROUP BY kind, slot"
    ):
        kind = kinds[number]
        for depth in range(len(kind.key) + 1):
            groups[kind.key[:depth]].add(kind, slot, *figures)


def _rank(connection: apsw.Connection, groups: dict[Key, _Group]) -> None:
    by_depth: dict[int, list[_Group]] = {}
    for group in groups.values():
        by_depth.setdefault(len(group.key), []).append(group)
    durations = _Ranked(connection, "duration")
    for level in by_depth.values():
        completed = [[kind.mark for kind in group.kinds if kind.outcome == "completed"] for group in level]
        for group, found in zip(level, durations.quantiles(completed), strict=True):
            group.completed = found
        for group, found in zip(level, durations.quantiles([_marks(group) for group in level]), strict=True):
            group.ended = found
    queues = _Ranked(connection, "queue")
    for level in by_depth.values():
        for group, found in zip(level, queues.quantiles([_marks(group) for group in level]), strict=True):
            group.queue = found


def _marks(group: _Group) -> list[str]:
    return [kind.mark for kind in group.kinds]


class _Ranked:
    """One measure, sorted once: the kinds of its values in their order, a character each, as one text.

    A rank within any group is then a place in that text, and its value the row of that place.
    """

    def __init__(self, connection: apsw.Connection, measure: str) -> None:
        self._connection, self._table = connection, f"temp.{measure}s"
        connection.execute(
            f"CREATE TEMP TABLE {measure}s AS SELECT {measure} AS value, kind FROM temp.picked "
            f"WHERE {measure} IS NOT NULL ORDER BY {measure}"
        )
        self._text: str = connection.execute(
            f"SELECT coalesce(group_concat(char({FIRST_MARK} + kind + "
            f"iif(kind < {SURROGATES - FIRST_MARK}, 0, {SURROGATES_MANY})), '' ORDER BY rowid), '') "
            f"FROM {self._table}"
        ).get
        self._counts = Counter(self._text)

    def quantiles(self, groups: Sequence[Sequence[str]]) -> list[Quantiles]:
        """Find those of groups that share no mark, in one reading of the text."""
        counts = [sum(self._counts[mark] for mark in marks) for marks in groups]
        wanted = [(rank(count, 50), rank(count, 95)) for count in counts]
        places = self._places(groups, counts, wanted)
        return [
            Quantiles(count, *(self._value(places[group, each]) for each in wanted[group])) if count else Quantiles()
            for group, count in enumerate(counts)
        ]

    def _places(
        self, groups: Sequence[Sequence[str]], counts: Sequence[int], wanted: Sequence[tuple[int, int]]
    ) -> dict[tuple[int, int], int]:
        """Find where in the text each group is met for the wanted-th time."""
        if len(groups) == 1 and counts[0] == len(self._text):
            return {(0, each): each - 1 for each in wanted[0]}
        group_of = {mark: group for group, marks in enumerate(groups) for mark in marks}
        met = [0] * len(groups)
        places = {}
        for place, mark in enumerate(self._text):
            group = group_of.get(mark, -1)
            if group >= 0:
                met[group] += 1
                if met[group] in wanted[group]:
                    places[group, met[group]] = place
        return places

    def _value(self, place: int) -> float:
        value: float = self._connection.execute(
            f"SELECT value FROM {self._table} WHERE rowid = ?",
            (place + 1,),
        ).get
        return value
