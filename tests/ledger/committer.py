"""A process that raises counters and passes work around until it is killed, and says which commits are durable.

Run as `python -m tests.ledger.committer FOLDER`; prints one line for each acknowledged event: `seq counter by`.
"""

import asyncio
import sys
from pathlib import Path

from crewd.host.clock import SystemClock
from crewd.ledger.ledger import Ledger
from crewd.ledger.options import LedgerOptions
from crewd.ledger.work import LedgerWork
from crewd.model.event import Event
from crewd.model.work import Item, Lease
from tests.ledger.values import key_of, pulling, raising, returning

CALLERS = 8


async def main(folder: Path) -> None:
    ledger = Ledger.open(folder, SystemClock(), LedgerOptions(checkpoint_pages=60))
    totals = {run_id: int(run.goal) for run_id, run in ledger.recall().runs.items()}
    held = {lease.key: lease for lease in await LedgerWork(ledger).holding()}
    await asyncio.gather(*(raise_for_ever(ledger, f"counter-{n}", totals, held) for n in range(CALLERS)))


async def raise_for_ever(ledger: Ledger, counter: str, totals: dict[str, int], held: dict[str, Lease]) -> None:
    work, key = LedgerWork(ledger), key_of(counter)
    total, lease = totals.get(counter, 0), held.get(key)
    last = len(await work.read(counter, limit=1_000_000))
    while True:
        by = total % 7 + 1
        total += by
        tell(await ledger.commit(raising(counter, by, total)))
        await work.submit([Item(key)])
        if lease is None:
            (lease,), events = await work.pull([key], None, pulling(counter))
            tell(events)
        tell(await work.retry(lease, 0.0, returning(lease)))
        lease = None
        last = await work.append(counter, str(last + 1), {"total": total}, after=last)


def tell(events: tuple[Event, ...]) -> None:
    for event in events:
        print(event.seq, event.run_id, event.data.get("by", 0), flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
