"""Intake: what the looks of one round change in the book, told as events."""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from crewd.engine.book import Book
from crewd.engine.changes import changes, run_event
from crewd.engine.figures import Figures
from crewd.engine.letters import Letters
from crewd.engine.pace import Pace
from crewd.engine.tidings import Tidings
from crewd.model.event import Event
from crewd.model.look import Happening, Look, ReadResult
from crewd.model.moment import Reading
from crewd.model.run import Run, Task, Waiting
from crewd.sources.source import Source

# A runtime's own announcement -> the event that tells it here. Everything else is only counted.
ANNOUNCED = {"crew.task.retry_attempt": "task.retry_scheduled"}
REJECTED = "crewd.heartbeat_rejected"


@dataclass(slots=True, eq=False)
class Intake:
    """Takes looks into the book."""

    book: Book
    letters: Letters
    redact: Callable[[str], str] = str  # takes secrets out of a text: what is taken in is what is told, for ever
    touched: set[str] = field(default_factory=set)  # run ids whose view must be made anew
    strangers: dict[str, tuple[str, ReadResult, int]] = field(default_factory=dict)  # run id -> root, why, rounds
    unread: dict[str, set[str]] = field(default_factory=dict)  # root -> runs without information
    unread_tasks: dict[str, set[tuple[str, str]]] = field(default_factory=dict)  # root -> (run, task)
    managed: set[str] = field(default_factory=set)  # roots whose runs crewd itself runs
    _met: set[str] = field(default_factory=set)  # roots that have been looked at completely once

    def take_in(
        self, source: Source, look: Look, pace: Pace, now: Reading, tidings: Tidings, figures: Figures
    ) -> None:
        """Take in one root's look. Its observed clock runs only if the look was complete."""
        counted = pace.gap.counted
        if source.tells_itself:
            self.managed.add(source.key)
        if look.complete:
            self.book.advance(source.key, counted)
        for run in (self.cleaned(run) for run in look.changed):
            before, returned = self.book.known(run.run_id), run.run_id in self.book.gone
            entry = self.book.put(source.key, run, now.wall)
            if entry is None:
                owner = self.book.entries[run.run_id].root
                figures.reads[ReadResult.REFUSED] = figures.reads.get(ReadResult.REFUSED, 0) + 1
                figures.complaints.append(
                    f"{run.folder}: run id {run.run_id} is already watched under {owner}; this copy is ignored"
                )
                continue
            self.touched.add(run.run_id)
            told = [] if source.tells_itself else list(changes(before, run, now.wall))
            if returned and not source.tells_itself:
                told.insert(
                    0, run_event("run.discovered", run, now.wall, {"returned": True, "status": run.status_text})
                )
            if told:
                tidings.tell(*told)
                tidings.runs[run.run_id] = run
        for run_id in look.vanished:
            self._vanish(run_id, source, now, tidings)
        self._note_unread(source.key, look, pace)
        self._note_unread_tasks(source.key, look, pace)
        self.letters.take(look.letters, now, pace.running, tidings)
        if look.happenings_counted:
            counted = figures.happenings.get(source.runtime, 0) + look.happenings_counted
            figures.happenings[source.runtime] = counted
        self._take_happenings(source.runtime, look.happenings, now, tidings, figures)
        for result, count in look.reads.items():
            figures.reads[result] = figures.reads.get(result, 0) + count
        figures.dropped += look.happenings_dropped
        figures.unknown_fields += look.unknown_fields
        figures.unknown_statuses += look.unknown_statuses
        figures.complaints += look.complaints
        if look.complete and source.key not in self._met:
            self._met.add(source.key)
            for run in self.book.lost(source.folder):
                tidings.tell(run_event("run.vanished", run, now.wall, {"since_restart": True}))
                tidings.vanished.append(run.run_id)

    def cleaned(self, run: Run) -> Run:
        """Take secrets out of the free texts of a run."""
        tasks = tuple(self._cleaned_task(task) for task in run.tasks)
        goal, waiting = self.redact(run.goal), self._cleaned_wait(run.waiting)
        if goal == run.goal and waiting is run.waiting and all(map(operator.is_, tasks, run.tasks)):
            return run
        return msgspec.structs.replace(run, goal=goal, waiting=waiting, tasks=tasks)

    def _cleaned_task(self, task: Task) -> Task:
        title, error, hint = self.redact(task.title), self.redact(task.error), self.redact(task.hint)
        waiting = self._cleaned_wait(task.waiting)
        extra = task.extra
        if extra:
            extra = {name: self.redact(value) for name, value in extra.items()}
        if (title, error, hint, extra) == (task.title, task.error, task.hint, task.extra) and waiting is task.waiting:
            return task
        return msgspec.structs.replace(task, title=title, error=error, hint=hint, waiting=waiting, extra=extra)

    def _cleaned_wait(self, waiting: Waiting | None) -> Waiting | None:
        if waiting is None or (detail := self.redact(waiting.detail)) == waiting.detail:
            return waiting
        return msgspec.structs.replace(waiting, detail=detail)

    def _vanish(self, run_id: str, source: Source, now: Reading, tidings: Tidings) -> None:
        entry = self.book.entries.get(run_id)
        if entry is None or entry.root != source.key:
            return
        self.book.drop(run_id)
        self.touched.add(run_id)
        if source.tells_itself:
            return
        # Gone from disk is not dead: nothing is concluded about its workers.
        tidings.tell(run_event("run.vanished", entry.run, now.wall, {"workers": len(entry.workers)}))
        tidings.vanished.append(run_id)

    def _note_unread(self, root: str, look: Look, pace: Pace) -> None:
        """No information about a run is neither life nor silence: its workers' clocks stand still."""
        unread = self.unread.setdefault(root, set())
        for run_id in unread - look.unread.keys():
            if entry := self.book.entries.get(run_id):
                entry.unread, entry.unread_rounds, entry.due_at = None, 0, -math.inf
                self.touched.add(run_id)
        unread.clear()
        met: dict[str, tuple[str, ReadResult, int]] = {}
        for run_id, result in look.unread.items():
            entry = self.book.entries.get(run_id)
            if entry is None:
                _, _, rounds = self.strangers.get(run_id, (root, result, 0))
                met[run_id] = (root, result, rounds + pace.regular)
                continue
            if entry.root != root:
                continue
            unread.add(run_id)
            entry.unread, entry.due_at = result, -math.inf
            entry.unread_rounds += 1 if pace.regular or not entry.unread_rounds else 0
            self.touched.add(run_id)
            for worker in entry.workers.values():
                self.book.stand_still(entry, worker, pace.gap.counted)
        others = {name: known for name, known in self.strangers.items() if known[0] != root} if self.strangers else {}
        self.strangers = others | met if met else others

    def _note_unread_tasks(self, root: str, look: Look, pace: Pace) -> None:
        """The same for tasks that have files of their own: what one writes costs only itself."""
        unread = self.unread_tasks.setdefault(root, set())
        for key in unread - look.unread_tasks.keys():
            if found := self.book.find(*key):
                entry, worker = found
                worker.unread, worker.unread_rounds, entry.due_at = None, 0, -math.inf
                self.touched.add(key[0])
        unread.clear()
        for key, result in look.unread_tasks.items():
            found = self.book.find(*key)
            if found is None or found[0].root != root:
                continue
            entry, worker = found
            unread.add(key)
            worker.unread, entry.due_at = result, -math.inf
            worker.unread_rounds += 1 if pace.regular or not worker.unread_rounds else 0
            self.touched.add(key[0])
            self.book.stand_still(entry, worker, pace.gap.counted)

    def _take_happenings(
        self,
        runtime: str,
        happenings: tuple[Happening, ...],
        now: Reading,
        tidings: Tidings,
        figures: Figures,
    ) -> None:
        if happenings:
            figures.happenings[runtime] = figures.happenings.get(runtime, 0) + len(happenings)
        for happening in happenings:
            if happening.type == REJECTED:
                key = (runtime, str(happening.data.get("reason", "malformed")))
                figures.rejected[key] = figures.rejected.get(key, 0) + 1
            elif happening.type in ANNOUNCED:
                run = self.book.known(happening.run_id)
                crew = run.crew if run is not None else ""
                data: dict[str, object] = {"announced_by": runtime, "written_at": happening.at}
                said = {k: self.redact(v) if isinstance(v, str) else v for k, v in happening.data.items()}
                data |= said
                tidings.tell(
                    Event(
                        ANNOUNCED[happening.type],
                        now.wall,
                        data,
                        happening.run_id,
                        happening.task_id,
                        0,
                        runtime,
                        crew,
                    )
                )
