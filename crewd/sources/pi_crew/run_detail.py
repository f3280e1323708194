"""What a run's files say beyond its manifest: tasks, events, dead letters, and the processes they name."""

import msgspec

from crewd.host.files import Mark, Signature, is_fresh, signature
from crewd.model.look import Happening, ReadResult
from crewd.model.moment import Reading
from crewd.model.process import ProcessClaim
from crewd.model.run import RUN_ENDED, Run, Task
from crewd.sources.document import parse
from crewd.sources.file_watch import FileWatch
from crewd.sources.pi_crew.event_log import EventLog
from crewd.sources.pi_crew.layout import AGENTS, EVENTS, LETTERS, TASKS
from crewd.sources.pi_crew.letters import Letters
from crewd.sources.pi_crew.manifest import Manifest, make_run
from crewd.sources.pi_crew.runner import runner_claim
from crewd.sources.pi_crew.side_files import SIDE_FILES, SideFiles
from crewd.sources.pi_crew.tasks import (
    FILES,
    MOVES,
    RECORD,
    Context,
    Rejected,
    ended_task,
    entries_of,
    read_tasks,
)
from crewd.sources.pi_crew.where import Where
from crewd.sources.tally import Tally

AGENT_FILES = ("events.jsonl", "output.log")  # a worker's own; its transcript grows with the same events
REJECTED = "crewd.heartbeat_rejected"
NONE_REJECTED: dict[str, str] = {}
NO_NAMES: frozenset[str] = frozenset()
NO_ACTIVITY: dict[str, tuple[Signature | None, ...]] = {}
NO_MANIFEST = Manifest(ReadResult.MISSING)
UNKNOWABLE = (-1, -1, -1)  # as no file is: whoever compares with it looks again


class RunDetail:
    """Everything of a live run between two looks."""

    __slots__ = (
        "_activity_seen",
        "_agents",
        "_folder_seen",
        "_has_letters",
        "_letters",
        "_log",
        "_manifest",
        "_names",
        "_read_before",
        "_rejected",
        "_run_id",
        "_runner",
        "_side_files",
        "_tasks",
        "_tasks_file",
        "_where",
    )

    def __init__(
        self, run_id: str, where: Where, tasks: FileWatch, log: EventLog, letters: Letters, before: Run | None
    ) -> None:
        self._run_id = run_id
        self._where = where
        self._tasks_file = tasks
        self._log = log
        self._letters = letters
        self._manifest = NO_MANIFEST
        self._side_files = SideFiles()
        self._tasks: tuple[Task, ...] = before.tasks if before is not None else ()
        self._rejected = NONE_REJECTED
        self._runner: ProcessClaim | None = None
        self._activity_seen = NO_ACTIVITY
        self._agents = False  # the folder of the workers' own files is there
        self._has_letters = False
        self._names = NO_NAMES  # of everything in the run's folder, during one look
        self._folder_seen: Signature | None = None  # when its files were last listed
        self._read_before = before is not None

    @property
    def fault(self) -> ReadResult | None:
        """Why nothing is known of the tasks; None where they are known, or none were ever written."""
        fault = self._tasks_file.fault
        return None if fault is ReadResult.MISSING and not self._tasks else fault

    @property
    def why(self) -> str:
        return self._tasks_file.why

    def marks(self) -> tuple[Mark, ...]:
        """Name the files that are looked at in each round, as they were when there was nothing more to read."""
        tasks = self._tasks_file
        missing = tasks.fault is ReadResult.MISSING and not self._tasks
        return (
            self._mark(TASKS, (0, 0, 0) if missing else tasks.settled or UNKNOWABLE),
            self._mark(EVENTS, self._log.settled or (0, 0, 0)),
            *(self._activity_marks() if self._agents else ()),
        )

    def side_marks(self) -> tuple[Mark, ...]:
        """Name what is looked at now and then: the small files, and the folder, in which others may appear."""
        marks: list[Mark] = [(self._run_id.encode(), *(self._folder_seen or UNKNOWABLE))]
        marks += [self._mark(name, seen or UNKNOWABLE) for name, seen in self._side_files.settled()]
        if self._has_letters:
            marks.append(self._mark(LETTERS, self._letters.settled or UNKNOWABLE))
        return tuple(marks)

    def look(self, manifest: Manifest | None, tally: Tally, now: Reading, turn: int) -> bool:
        """Read what changed. `manifest` is None where it did not. Say whether the run may differ from before."""
        if manifest is not None:
            self._manifest = manifest
        events_moved = self._read_events(tally)
        moved = manifest is not None
        tasks = None if moved else self._read_tasks_file()
        if moved or events_moved or tasks is not None or turn % self._where.options.side_files_every == 0:
            self._list()
            self._read_letters(tally)
            if self._side_files.read(self._where, self._names) or moved:
                self._runner = runner_claim(
                    self._manifest.spawned, self._side_files.side, self._run_id, self._where.local
                )
                # Claims are made of tasks and small files together.
                self._tasks_file.forget()
                tasks = self._read_tasks_file()
                moved = True
            self._names = NO_NAMES
        if tasks is None:
            return self._update_tokens() or moved
        self._take_tasks(tasks, tally, now)
        return True

    def compose(self) -> Run:
        """Put the run together as it is known now."""
        where = self._where
        if self._manifest.status in RUN_ENDED:
            self._tasks = tuple(map(ended_task, self._tasks))
        return make_run(self._manifest, self._tasks, self._run_id, where.crew, where.folder, self._runner)

    def _mark(self, name: str, seen: tuple[int, int, int]) -> Mark:
        return (f"{self._run_id}/{name}".encode(), *seen)

    def _list(self) -> None:
        """Learn which of the files that need not be there are there."""
        where = self._where
        seen = _signature(where.folder)
        # Changed in the last moment: one more name might leave the same signature.
        self._folder_seen = None if seen is None or is_fresh(seen) else seen
        try:
            self._names = where.root.listing(where.relative)
        except OSError:
            # What cannot be listed is asked for by name, as far as it was ever met.
            self._folder_seen = None
            self._names = frozenset({AGENTS, LETTERS, *SIDE_FILES})
        self._agents = AGENTS in self._names
        self._has_letters = LETTERS in self._names
        if self._agents and self._activity_seen is NO_ACTIVITY:
            self._activity_seen = {}

    def _read_tasks_file(self) -> bytes | None:
        where = self._where
        got = self._tasks_file.read(where.root, f"{where.relative}/{TASKS}", where.options.file_max)
        return got.data if got is not None and got.result is ReadResult.OK else None

    def _take_tasks(self, data: bytes, tally: Tally, now: Reading) -> None:
        document = parse(data)
        if document.result is not ReadResult.OK:
            self._tasks_file.reject(document.result, document.why)
            return
        entries = entries_of(document.value)
        if entries is None:
            self._tasks_file.reject(ReadResult.INVALID, "neither a list of tasks nor an object with one")
            return
        tally.reads[ReadResult.OK] += 1
        context = Context(
            self._run_id,
            self._side_files.side,
            self._runner,
            self._manifest.parked_task,
            self._where.local,
            now.wall,
            self._manifest.status in RUN_ENDED,
            self._activity,
            self._log.moves,
            self._rejected,
        )
        found = read_tasks(entries, context, {task.task_id: task for task in self._tasks})
        self._tasks = tuple(found.tasks)
        self._rejected = found.rejected_still or NONE_REJECTED
        tally.unknown_fields += found.unknown_fields
        tally.unknown_statuses += found.unknown_statuses
        for complaint in found.complaints:
            tally.reads[ReadResult.REFUSED] += 1
            tally.complain(self._where.folder, complaint[:40], f"{TASKS}: {complaint}")
        self._tell_rejected(found.rejected, tally, now)

    def _tell_rejected(self, rejected: list[Rejected], tally: Tally, now: Reading) -> None:
        if not rejected:
            return
        tally.add_happenings(
            [
                Happening(self._run_id, each.task_id, REJECTED, None, now.wall, {"reason": each.reason})
                for each in rejected
            ]
        )
        for each in rejected:
            if each.reason == "future":
                words = (
                    f"the heartbeat of {each.task_id} lies in the future; compare its host's clock with this one's"
                )
                tally.complain(self._where.folder, f"future {each.task_id}", words)

    def _update_tokens(self) -> bool:
        """Note in the tokens of tasks at work what their activity files and the event log say."""
        moved = False
        tasks = list(self._tasks)
        for number, task in enumerate(tasks):
            if not task.token:
                continue
            files, moves = self._activity(task.task_id), self._log.moves.get(task.task_id, 0)
            if files != task.token[FILES] or moves != task.token[MOVES]:
                tasks[number] = msgspec.structs.replace(task, token=(task.token[RECORD], files, moves))
                moved = True
        if moved:
            self._tasks = tuple(tasks)
        return moved

    def _activity(self, task_id: str) -> int:
        """Say in one number what a worker's own files look like: it is only compared."""
        if not self._agents:
            return 0
        folder = f"{self._where.folder}/{AGENTS}/{task_id}"
        seen = self._activity_seen[task_id] = tuple([_signature(f"{folder}/{name}") for name in AGENT_FILES])
        return hash(seen)

    def _activity_marks(self) -> list[Mark]:
        """Name the activity files of the tasks at work, as they were when the tokens were made."""
        return [
            self._mark(f"{AGENTS}/{task.task_id}/{name}", seen or (0, 0, 0))
            for task in self._tasks
            if task.token
            for name, seen in zip(AGENT_FILES, self._activity_seen.get(task.task_id, (None, None)), strict=True)
        ]

    def _read_events(self, tally: Tally) -> bool:
        where = self._where
        path = f"{where.folder}/{EVENTS}"
        seen = _signature(path)
        if not self._read_before:
            # First the view, then the history: reading the log begins with the second look.
            self._read_before = True
            if seen is None:
                self._log.note_absent()
            elif self._manifest.status in RUN_ENDED:
                self._log.skip_to_end(seen)
            return False
        if seen is None or self._log.is_settled(seen):
            return False
        news = self._log.read(where.root, where.relative, path, seen, self._run_id)
        tally.add_happenings(news.happenings, news.dropped, news.counted)
        if news.result is not ReadResult.OK:
            tally.reads[news.result] += 1
            tally.complain(where.folder, EVENTS, f"{EVENTS} is {news.result}: {news.why}")
        return True

    def _read_letters(self, tally: Tally) -> None:
        seen = _signature(f"{self._where.folder}/{LETTERS}") if self._has_letters else None
        if seen is None or self._letters.is_settled(seen) or not tally.letters_room:
            return
        letters, bad, result = self._letters.read(self._where.root, self._where.relative, seen, self._run_id)
        tally.add_letters(letters)
        if result is not ReadResult.OK:
            tally.reads[result] += 1
        if bad:
            tally.reads[ReadResult.INVALID] += bad
            tally.complain(self._where.folder, LETTERS, f"{LETTERS}: {bad} lines are no dead letters")


def _signature(path: str) -> Signature | None:
    try:
        return signature(path)
    except OSError:
        return None
