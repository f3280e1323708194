"""Reading the whole present state at a start."""

import apsw

from crewd.ledger import rows
from crewd.ledger.batch import Memory, StandingRow
from crewd.ledger.opening import LAST_SEQ, read_meta
from crewd.model.run import Run
from crewd.model.verdict import DeadVerdict, Incident, Outcome


def recall(connection: apsw.Connection) -> Memory:
    """Read it in one transaction. Raises apsw.Error, rows.Unsound."""
    run, standing = rows.body_reader(Run), rows.body_reader(StandingRow)
    verdict, incident = rows.body_reader(DeadVerdict), rows.body_reader(Incident)
    execute = connection.execute
    with connection:
        memory = Memory(
            last_seq=read_meta(connection).get(LAST_SEQ, 0),
            runs={row[0]: run(row) for row in execute(f"{rows.SELECT_RUN} WHERE vanished = 0")},
            standings={(row[0], row[1]): standing(row) for row in execute(rows.SELECT_STANDING)},
            verdicts_open=tuple(
                map(
                    verdict,
                    execute(f"{rows.SELECT_VERDICT} WHERE outcome = ? ORDER BY opened_at", (Outcome.OPEN.value,)),
                )
            ),
            incidents_open=tuple(
                map(incident, execute(f"{rows.SELECT_INCIDENT} WHERE resolved_at IS NULL ORDER BY opened_at"))
            ),
            letter_keys=frozenset(key for (key,) in execute("SELECT key FROM letters")),
            letters_open={
                crew: (count, oldest)
                for crew, count, oldest in execute("SELECT crew, count(*), min(at) FROM letters GROUP BY crew")
            },
            cursors=rows.read_cursors(execute('SELECT name, value, "check" FROM cursors')),
        )
    return memory
