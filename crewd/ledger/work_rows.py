"""Items of work as rows: who may have them, who has them, and what came of them."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import apsw

from crewd.ledger import cells
from crewd.ledger.cells import Row
from crewd.model.work import Item, Lease, LogRecord

READY, LEASED, DONE, BURIED, WITHDRAWN = "ready", "leased", "done", "buried", "withdrawn"

FIND = "SELECT * FROM work WHERE key = ?"
INSERT = "INSERT INTO work VALUES (?,?,?,?,?,?,?,?,?,?,?)"
UPDATE = """
    UPDATE work SET queue = ?2, priority = ?3, due_at = ?4, state = ?5, fence = ?6, lease_until = ?7, reason = ?8,
        result = ?9, body = ?10, "check" = ?11 WHERE key = ?1
"""
# The first term is the index's own: with it SQLite knows that the index holds every row that is asked for.
SELECT_READY = """
    SELECT * FROM work WHERE state <> 'done' AND state = 'ready' AND due_at <= ?
    ORDER BY priority DESC, rowid LIMIT ?
"""
SELECT_ALL = "SELECT * FROM work NOT INDEXED ORDER BY rowid"
SELECT_OVERDUE = "SELECT * FROM work WHERE state <> 'done' AND state = 'leased' AND lease_until <= ?"
COUNT = """
    SELECT state, count(*) FROM work WHERE state <> 'done' GROUP BY state
    UNION ALL SELECT 'delayed', count(*) FROM work WHERE state <> 'done' AND state = 'ready' AND due_at > ?
"""
FIND_RECORD = "SELECT * FROM logs WHERE log = ? AND id = ?"
LAST_POSITION = "SELECT max(position) FROM logs WHERE log = ?"
INSERT_RECORD = "INSERT INTO logs VALUES (?,?,?,?,?)"
SELECT_RECORDS = "SELECT * FROM logs WHERE log = ? AND position > ? ORDER BY position LIMIT ?"


class Entry(NamedTuple):
    """One row of `work` without its check."""

    key: str
    queue: str
    priority: int
    due_at: float
    state: str
    fence: int  # of the newest lease ever given; 0: none was
    lease_until: float | None
    reason: str  # why it was buried
    result: str | None  # JSON, once it is done
    body: str  # JSON

    @classmethod
    def of(cls, item: Item, fence: int = 0) -> Self:
        """A new, ready entry. Raises ValueError, TypeError where it cannot be written."""
        return cls(
            cells.exact_text(item.key),
            cells.exact_text(item.queue),
            cells.integer(item.priority),
            cells.moment(item.due_at),
            READY,
            fence,
            None,
            "",
            None,
            cells.exact_json(item.body),
        )

    @classmethod
    def read(cls, row: Row) -> Self:
        """Raises Unsound."""
        cells.verify("item", row[0], row)
        return cls(*row[:-1])

    def row(self) -> Row:
        return cells.checked(*self)

    def item(self) -> Item:
        return Item(self.key, self.queue, self.priority, self.due_at, self._mapping(self.body))

    def lease(self) -> Lease:
        return Lease(self.key, self.queue, self.fence, self.lease_until, self._mapping(self.body))

    def outcome(self) -> Mapping[str, Any] | None:
        return None if self.state != DONE or self.result is None else self._mapping(self.result)

    def _mapping(self, text: str) -> dict[str, Any]:
        return cells.parse(dict[str, Any], text, "item", self.key)


def find(connection: apsw.Connection, key: str) -> Entry | None:
    """Read the entry of a key. Raises Unsound."""
    row = connection.execute(FIND, (key,)).get
    return None if row is None else Entry.read(row)


def record_row(log: str, position: int, id: str, data: Mapping[str, Any]) -> Row:
    return cells.checked(cells.exact_text(log), position, cells.exact_text(id), cells.exact_json(data))


def read_record(row: Row) -> LogRecord:
    """Raises Unsound."""
    log, position, id, data, _ = row
    cells.verify("record", (log, position), row)
    return LogRecord(position, id, cells.parse(dict[str, Any], data, "record", (log, position)))
