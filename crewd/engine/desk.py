"""The desk: where people say something of incidents. The next round does it, in one piece with all that it tells."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from crewd.engine.incidents import Incidents, News
from crewd.errors import CrewdError, NothingMatched, UsageProblem
from crewd.model.asking import Done
from crewd.model.moment import rfc3339
from crewd.model.verdict import Incident

SNOOZE_MAX = 30 * 86_400.0  # seconds
NAMED_MAX = 5


class NotWritten(CrewdError):
    """What was asked is done, and would not survive a crash just now."""


Act = Callable[[Incident, float], list[News]]


@dataclass(slots=True, eq=False)
class _Asked:
    subject: str
    cause: str
    act: Act
    tell: Callable[[int], str]  # a sentence about so many incidents
    answer: asyncio.Future[Done]
    done: Done | None = None


@dataclass(slots=True, eq=False)
class Desk:
    """Takes down what is asked, and answers once it is durable."""

    incidents: Incidents
    wake: Callable[[], None]  # the patrol, so that nobody waits for the next regular round
    wall: Callable[[], float]
    redact: Callable[[str], str] = str
    _asked: list[_Asked] = field(default_factory=list)

    async def acknowledge(self, subject: str, cause: str, *, by: str, note: str, actor: str) -> Done:
        """Say that a person has seen it. Raises NothingMatched, NotWritten."""
        name, note = by or actor, self.redact(note)

        def act(incident: Incident, wall: float) -> list[News]:
            return self.incidents.acknowledge(incident, name, note, actor, wall)

        return await self._ask(subject, cause, act, lambda count: f"{_count(count)} acknowledged by {name}")

    async def snooze(self, subject: str, cause: str, *, by: str, note: str, for_seconds: float, actor: str) -> Done:
        """Let nobody be woken by it for so long. Raises UsageProblem, NothingMatched, NotWritten."""
        if not 1 <= for_seconds <= SNOOZE_MAX:
            raise UsageProblem(f"for_seconds must lie between 1 and {SNOOZE_MAX:.0f} (30 days): got {for_seconds:g}")
        name, note = by or actor, self.redact(note)
        until = self.wall() + for_seconds

        def act(incident: Incident, wall: float) -> list[News]:
            return self.incidents.snooze(incident, name, note, until, actor, wall)

        return await self._ask(subject, cause, act, lambda count: f"{_count(count)} snoozed until {rfc3339(until)}")

    async def unsnooze(self, subject: str, cause: str, *, actor: str) -> Done:
        """Let people be woken by it again. Raises NothingMatched, NotWritten."""

        def act(incident: Incident, wall: float) -> list[News]:
            return self.incidents.unsnooze(incident, actor, wall)

        return await self._ask(subject, cause, act, lambda count: f"{_count(count)} snoozed no more")

    def serve(self, wall: float) -> list[News]:
        """Do what was asked since the last round; tells what became of the incidents."""
        news: list[News] = []
        for asked in self._asked:
            if asked.done is not None:
                continue
            found = self.incidents.named(asked.subject, asked.cause)
            if not found:
                _fail(asked, NothingMatched(self._nothing(asked.subject, asked.cause)))
                continue
            for incident in found:
                news += asked.act(incident, wall)
            ids = tuple(f"{each.subject} {each.cause}" for each in found)
            asked.done = Done(asked.tell(len(found)), ids)
        return news

    def answer(self, failed: str) -> None:
        """The round is over: tell everyone who waits. `failed`: why nothing of it could be made durable."""
        waiting, self._asked = self._asked, []
        for asked in waiting:
            if asked.answer.done():
                continue
            if asked.done is None:
                self._asked.append(asked)  # it came after the round had looked
            elif failed:
                words = f"{asked.done.what}, but the ledger cannot write it down: {failed}"
                _fail(asked, NotWritten(f"{words}; make room or mend the disk, it is written as soon as it can be"))
            else:
                asked.answer.set_result(asked.done)

    async def _ask(self, subject: str, cause: str, act: Act, tell: Callable[[int], str]) -> Done:
        asked = _Asked(subject, cause, act, tell, asyncio.get_running_loop().create_future())
        self._asked.append(asked)
        self.wake()
        return await asked.answer

    def _nothing(self, subject: str, cause: str) -> str:
        there = [each for each in self.incidents.open if each.partition("/")[0] == subject.partition("/")[0]]
        named = ", ".join(
            f"{each} {cause}" for each in sorted(there)[:NAMED_MAX] for cause in self.incidents.open[each]
        )
        what = f"{subject!r} has no open incident{f' of cause {cause!r}' if cause else ''}"
        return f"{what}; there is {named}" if named else f"{what}; `crewd incidents list` names them"


def _fail(asked: _Asked, error: CrewdError) -> None:
    if not asked.answer.done():  # whoever asked may have left
        asked.answer.set_exception(error)


def _count(number: int) -> str:
    return "1 incident is" if number == 1 else f"{number} incidents are"
