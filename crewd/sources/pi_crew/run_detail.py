"""What a run's files say beyond its manifest: tasks, events, dead letters, and the processes they name."""

import msgspec

from crewd.host.files import Signature, signature
from crewd.model.look import Happening, ReadResult
from crewd.model.moment import Reading
from crewd.model.process import ProcessClaim
from crewd.model.run import RUN_ENDED, Run, Task
from crewd.sources.document import parse
from crewd.sources.file_watch import FileWatch
from crewd.sources.pi_crew.event_log import EventLog
from crewd.sources.pi_crew.layout import AGENTS, ASYNC_PID, EVENTS, HEARTBEAT, LETTERS, OWNERSHIP, TASKS
from crewd.sources.pi_crew.letters import Letters
from crewd.sources.pi_crew.manifest import Manifest, make_run
from crewd.sources.pi_crew.runner import Side, async_pid_of, heartbeat_of, owners_of, runner_claim
from crewd.sources.pi_crew.tasks import FILES, RECORD, Context, Rejected, entries_of, read_tasks
from crewd.sources.pi_crew.where import Where
from crewd.sources.tally import Tally

AGENT_FILES = ("events.jsonl", "output.log")  # a worker's own; its transcript grows with the same events
REJECTED = "crewd.heartbeat_rejected"


class RunDetail:
    """Everything of a live run between two looks."""

    __slots__ = (
        "_agents",
        "_events_path",
        "_letters",
        "_log",
        "_manifest",
        "_order",
        "_paths",
        "_read_before",
        "_run_id",
        "_runner",
        "_side",
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
        self._events_path = f"{where.folder}/{EVENTS}"
        self._letters = letters
        self._manifest = Manifest(ReadResult.MISSING)
        self._side = Side()
        self._side_files = {name: FileWatch(f"{where.folder}/{name}") for name in (ASYNC_PID, HEARTBEAT, OWNERSHIP)}
        self._tasks: dict[str, Task] = {task.task_id: task for task in before.tasks} if before is not None else {}
        self._runner: ProcessClaim | None = None
        self._paths: dict[str, tuple[str, ...]] = {}  # task id -> its activity files
        self._agents = False  # the folder of the workers' own files is there
        self._read_before = before is not None

    def is_quiet(self, turn: int) -> bool:
        """Say, in as few system calls as can be, that nothing moved since the last look. Raises OSError."""
        return (
            turn % self._where.options.side_files_every != 0
            and self._tasks_file.is_same()
            and self._log.is_settled(signature(self._events_path))
            and not (self._agents and self._is_active())
        )

    @property
    def fault(self) -> ReadResult | None:
        """Why nothing is known of the tasks; None where they are known, or none were ever written."""
        fault = self._tasks_file.fault
        return None if fault is ReadResult.MISSING and not self._tasks else fault

    @property
    def why(self) -> str:
        return self._tasks_file.why

    def look(self, manifest: Manifest | None, tally: Tally, now: Reading, turn: int) -> bool:
        """Read what changed. `manifest` is None where it did not. Say whether the run may differ from before."""
        if manifest is not None:
            self._manifest = manifest
        events_moved = self._read_events(tally)
        moved = manifest is not None
        tasks = None if moved else self._read_tasks_file()
        options = self._where.options
        if moved or events_moved or tasks is not None or turn % options.side_files_every == 0:
            self._agents = _is_there(f"{self._where.folder}/{AGENTS}")
            self._read_letters(tally)
            if self._read_side_files() or moved:
                self._runner = runner_claim(self._manifest.fields, self._side, self._run_id, self._where.local)
                # Claims are made of tasks and small files together.
                self._tasks_file.forget()
                tasks = self._read_tasks_file()
                moved = True
        if tasks is not None:
            self._take_tasks(tasks, tally, now)
            moved = True
        return self._update_tokens() or moved

    def compose(self) -> Run:
        """Put the run together as it is known now."""
        return make_run(
            self._manifest,
            tuple(self._tasks.values()),
            self._run_id,
            self._where.crew,
            self._where.folder,
            self._runner,
        )

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
            self._run_id, self._side, self._runner, self._manifest.parked_task, self._where.local, now.wall
        )
        found = read_tasks(entries, context, self._tasks)
        self._tasks = {task.task_id: self._with_moves(task, self._tasks.get(task.task_id)) for task in found.tasks}
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

    def _with_moves(self, task: Task, before: Task | None) -> Task:
        """Carry over what other files say of the task, until they are looked at in this same look."""
        if not task.token or before is None or not before.token:
            return task
        return msgspec.structs.replace(task, token=(task.token[RECORD], *before.token[1:]))

    def _update_tokens(self) -> bool:
        """Note in the tokens of tasks at work what their activity files and the event log say."""
        moved = False
        for task_id, task in self._tasks.items():
            if not task.token:
                continue
            token = (task.token[RECORD], self._activity(task_id), self._log.moves.get(task_id, 0))
            if token != task.token:
                self._tasks[task_id] = msgspec.structs.replace(task, token=token)
                moved = True
        return moved

    def _is_active(self) -> bool:
        """Say whether the activity files of a task at work moved."""
        return any(
            task.token and task.token[FILES] != self._activity(task_id) for task_id, task in self._tasks.items()
        )

    def _activity(self, task_id: str) -> tuple[Signature | None, ...]:
        if not self._agents:
            return ()
        paths = self._paths.get(task_id)
        if paths is None:
            folder = f"{self._where.folder}/{AGENTS}/{task_id}"
            paths = self._paths[task_id] = tuple(f"{folder}/{name}" for name in AGENT_FILES)
        return tuple(map(_signature, paths))

    def _read_events(self, tally: Tally) -> bool:
        seen = _signature(self._events_path)
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
        news = self._log.read(self._where.root, self._where.relative, self._events_path, seen, self._run_id)
        tally.add_happenings(news.happenings, news.dropped)
        if news.result is not ReadResult.OK:
            tally.reads[news.result] += 1
            tally.complain(self._where.folder, EVENTS, f"{EVENTS} is {news.result}: {news.why}")
        return True

    def _read_letters(self, tally: Tally) -> None:
        seen = _signature(f"{self._where.folder}/{LETTERS}")
        if seen is None or self._letters.is_settled(seen) or not tally.letters_room:
            return
        letters, bad, result = self._letters.read(self._where.root, self._where.relative, seen, self._run_id)
        tally.add_letters(letters)
        if result is not ReadResult.OK:
            tally.reads[result] += 1
        if bad:
            tally.reads[ReadResult.INVALID] += bad
            tally.complain(self._where.folder, LETTERS, f"{LETTERS}: {bad} lines are no dead letters")

    def _read_side_files(self) -> bool:
        """Read the small files that name processes. What cannot be read leaves the former word in force."""
        before = self._side
        for name, watch in self._side_files.items():
            got = watch.read(self._where.root, f"{self._where.relative}/{name}", self._where.options.file_max)
            if got is None or got.result is not ReadResult.OK:
                continue
            document = parse(got.data)
            if document.result is not ReadResult.OK:
                watch.reject(document.result, document.why)
                continue
            if name == ASYNC_PID:
                self._side = msgspec.structs.replace(self._side, async_pid=async_pid_of(document.value))
            elif name == OWNERSHIP:
                self._side = msgspec.structs.replace(self._side, owners=owners_of(document.value))
            else:
                self._take_heartbeat(document.value)
        return self._side is not before

    def _take_heartbeat(self, value: object) -> None:
        record = heartbeat_of(value)
        former = self._side.heartbeat
        if record is not None and (former is None or former.pid != record.pid):
            # The runner beats every 15 s; that it is the same process as before is no news.
            self._side = msgspec.structs.replace(self._side, heartbeat=record)


def _signature(path: str) -> Signature | None:
    try:
        return signature(path)
    except OSError:
        return None


def _is_there(path: str) -> bool:
    return _signature(path) is not None
