"""Reading the whole present state at a start."""

from collections.abc import Iterable

import apsw

from crewd.ledger import rows
from crewd.ledger.batch import Memory, StandingRow
from crewd.ledger.opening import LAST_SEQ, read_meta
from crewd.model.look import DeadLetter
from crewd.model.run import Run
from crewd.model.verdict import DeadVerdict, Incident, Outcome


def recall(connection: apsw.Connection) -> Memory:
    """Read it in one transaction. Raises apsw.Error, rows.Unsound.

    All rows are read, also those that are settled: a row is chosen by what it says only after it was verified.
    """
    run, standing, letter = rows.body_reader(Run), rows.body_reader(StandingRow), rows.body_reader(DeadLetter)
    verdict, incident = rows.body_reader(DeadVerdict), rows.body_reader(Incident)
    execute = connection.execute
    with connection:
        runs = [(row[rows.VANISHED], run(row)) for row in execute("SELECT * FROM runs")]
        verdicts = map(verdict, execute("SELECT * FROM verdicts ORDER BY opened_at"))
        incidents = map(incident, execute("SELECT * FROM incidents ORDER BY opened_at"))
        letters = [(row[2], letter(row)) for row in execute("SELECT * FROM letters")]
        memory = Memory(
            last_seq=read_meta(connection).get(LAST_SEQ, 0),
            runs={each.run_id: each for vanished, each in runs if not vanished},
            standings={(row[0], row[1]): standing(row) for row in execute("SELECT * FROM standings")},
            verdicts_open=tuple(each for each in verdicts if each.outcome is Outcome.OPEN),
            incidents_open=tuple(each for each in incidents if each.resolved_at is None),
            letter_keys=frozenset(each.key for _, each in letters),
            letters_open=_count(letters),
            cursors=rows.read_cursors(execute("SELECT * FROM cursors")),
        )
    return memory


def _count(letters: Iterable[tuple[str, DeadLetter]]) -> dict[str, tuple[int, float | None]]:
    """Crew -> (letters, oldest wall time)."""
    counts: dict[str, tuple[int, float | None]] = {}
    for crew, letter in letters:
        count, oldest = counts.get(crew, (0, None))
        times = [at for at in (oldest, letter.at) if at is not None]
        counts[crew] = (count + 1, min(times, default=None))
    return counts
