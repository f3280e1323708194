"""Parole: now and then, look whether what caused dead letters is gone, and offer, or make, another try.

One letter of each cause goes first. Only where it comes to a good end do the others follow.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from crewd.engine.managed.actions import TaskActions
from crewd.engine.managed.transitions import RUNTIME
from crewd.errors import CrewdError
from crewd.host.attempt_folder import changed_at
from crewd.ledger.batch import Batch
from crewd.model.event import Event
from crewd.model.look import DeadLetter
from crewd.model.managed import Completed, DeadLettered
from crewd.model.work import Unavailable
from crewd.policy.parole import Offer, Probes, on_parole

EVERY = 30.0
ACTOR = "daemon:parole"
log = structlog.get_logger("crewd.tasks")


@dataclass(slots=True, eq=False)
class Parole:
    """Looks after the dead letters of managed runs. `disk_free` says whether there is room to write."""

    actions: TaskActions
    mode: str  # offer, automatic, off
    secrets_folder: str
    disk_free: Callable[[], bool]
    offers: dict[str, Offer] = field(default_factory=dict)  # by fingerprint
    _canaries: dict[str, tuple[str, str, Offer]] = field(default_factory=dict)  # fingerprint -> run, task, offer

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            if self.mode == "off":
                continue
            try:
                await self.look()
            except (CrewdError, Unavailable) as error:
                log.warning("parole.waits", error=str(error))
            except Exception:
                self.actions.scheduler.conductor.defects["parole"] += 1
                log.exception("parole.defect")  # nobody's work ends with a look that failed

    async def look(self) -> None:
        """One look at every open letter."""
        letters = list(self.actions.letters_open.open.values())
        offers = {offer.fingerprint or offer.canary: offer for offer in on_parole(letters, self._probes(letters))}
        fresh = [offer for name, offer in offers.items() if name not in self.offers]
        if fresh:
            at = self.actions.scheduler.clock.read().wall
            told = tuple(_offered(offer, at) for offer in fresh)
            await self.actions.scheduler.register.commit(Batch(events=told))
        self.offers = offers  # only now: what could not be told is fresh the next time too
        if self.mode == "automatic":
            await self._follow_canaries()
            for name, offer in offers.items():
                if name not in self._canaries:
                    await self._send_canary(name, offer)

    async def _send_canary(self, name: str, offer: Offer) -> None:
        letter = self.actions.letters_open.open.get(offer.canary)
        if letter is None:
            return
        await self.actions.redrive([offer.canary], "", dry_run=False, limit=1, actor=ACTOR)
        self._canaries[name] = (letter.run_id, letter.task_id, offer)

    async def _follow_canaries(self) -> None:
        """Let the others follow where the first one came to a good end."""
        for name, (run_id, task_id, offer) in list(self._canaries.items()):
            task = self.actions.scheduler.board.task((run_id, task_id))
            state = task.state if task is not None else None
            if isinstance(state, Completed):
                rest = [key for key in offer.keys if key in self.actions.letters_open.open]
                if rest:
                    await self.actions.redrive(rest, "", dry_run=False, limit=0, actor=ACTOR)
            elif not isinstance(state, DeadLettered) and state is not None:
                continue  # not known yet
            del self._canaries[name]

    def _probes(self, letters: list[DeadLetter]) -> Probes:
        states = self.actions.scheduler.circuits.states
        named = {str(letter.evidence.get("circuit", "")) for letter in letters}
        closed = frozenset(name for name in named if name not in states or states[name].state == "closed")
        credentials = {
            str(name) for letter in letters for name in _names(letter.evidence.get("secrets")) if self.secrets_folder
        }
        changed = {
            name: at for name in credentials if (at := changed_at(f"{self.secrets_folder}/{name}")) is not None
        }
        return Probes(closed, self.disk_free(), changed, self.actions.scheduler.clock.read().wall)


def _names(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []


def _offered(offer: Offer, at: float) -> Event:
    data = {
        "fingerprint": offer.fingerprint,
        "keys": list(offer.keys[:100]),
        "canary": offer.canary,
        "why": offer.why,
    }
    return Event("deadletter.parole_offered", at, data, runtime=RUNTIME)
