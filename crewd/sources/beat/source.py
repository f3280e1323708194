"""The beat source: `<root>/<run>/<task>.json`, one small file for each worker."""

from functools import cached_property

from crewd.host.files import Root, Signature, is_network, signature
from crewd.model.look import Look, ReadResult
from crewd.model.moment import Reading
from crewd.model.run import RUN_ENDED, TASK_ENDED, Run, Task
from crewd.sources.beat.form import SUFFIX, decode_beat
from crewd.sources.beat.options import BeatOptions
from crewd.sources.beat.tasks import RUNTIME, make_run, make_task, rejection, rejections
from crewd.sources.file_watch import FileWatch
from crewd.sources.names import ID_RULE, shown, valid_id
from crewd.sources.tally import Complaints, Tally

WATCHED_MAX = 256  # folders of live runs named to the watcher


class BeatSource:
    """Looks at every worker below one root."""

    runtime = RUNTIME
    tells_itself = False

    def __init__(self, root: str, options: BeatOptions | None = None) -> None:
        self.folder = root.rstrip("/") or "/"
        self.key = f"{RUNTIME}:{self.folder}"
        self._options = options or BeatOptions()
        self._root = Root(self.folder)
        self._crew = self._options.crew or self.folder.rpartition("/")[2][:128] or "crew"
        self._runs: dict[str, _BeatRun] = {}
        self._complaints = Complaints()
        self._seen: Signature | None = None
        self._again = False
        self._was_there = False
        self._watch_paths: list[str] = []
        self._turn = 0

    def look(self, now: Reading) -> Look:
        """Read what changed below the root since the last look."""
        tally = Tally(self._complaints)
        self._turn += 1
        thorough = self._turn % self._options.relist_every == 0
        try:
            self._list(tally, now, thorough)
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            if missing and self._options.may_be_missing and not self._was_there:
                return tally.look()
            tally.complete = False
            tally.reads[ReadResult.MISSING if missing else ReadResult.IO_ERROR] += 1
            words = f"this root cannot be listed: {error.strerror}; make it, or take it out of the configuration"
            tally.complain(self.folder, "root", words)
            return tally.look()
        self._was_there = True
        tally.settle(self.folder, "root")
        gone: list[str] = []
        for run_id, run in self._runs.items():
            try:
                if not run.look(tally, now, thorough):
                    gone.append(run_id)
            except OSError as error:
                tally.reads[ReadResult.IO_ERROR] += 1
                tally.unread[run_id] = ReadResult.IO_ERROR
                tally.complain(run.folder, "list", f"cannot be looked at: {error.strerror}")
            except Exception as error:  # noqa: BLE001 - whatever one run's files hold, the others are looked at
                tally.reads[ReadResult.INVALID] += 1
                tally.unread[run_id] = ReadResult.INVALID
                tally.complain(run.folder, "list", f"a defect of crewd, please report it: {error!r:.200}")
        for run_id in gone:
            self._forget(run_id, tally)
        if tally.changed or tally.vanished or self._turn == 1:
            live = [run.folder for run in self._runs.values() if run.run is None or run.run.status not in RUN_ENDED]
            self._watch_paths = [self.folder, *live[-WATCHED_MAX:]]
        return tally.look()

    def watch_paths(self) -> list[str]:
        """Name the root, and the folders of the live runs, as of the latest look. Any thread may ask."""
        return self._watch_paths

    def close(self) -> None:
        """Give the descriptor back."""
        self._root.close()

    @cached_property
    def _local(self) -> bool:
        # Asked by the first look that finds a run: it may take a while.
        return not is_network(self.folder)

    def _list(self, tally: Tally, now: Reading, thorough: bool) -> None:
        seen = signature(self.folder)
        if not self._root.is_there():
            raise FileNotFoundError(2, "no folder that can be opened", self.folder)
        if seen == self._seen and not thorough and not self._again:
            return
        entries = self._root.names("")
        self._again = seen is not None and seen != self._seen and seen.mtime_ns / 1e9 > now.wall - 1.0
        self._seen = seen
        found = {entry.name for entry in entries if entry.is_dir}
        for run_id in [name for name in self._runs if name not in found]:
            self._forget(run_id, tally)
        for entry in entries:
            path = f"{self.folder}/{entry.name}"
            if entry.is_link:
                tally.reads[ReadResult.REFUSED] += 1
                tally.complain(path, "name", "a symbolic link is not followed")
            elif entry.is_dir and not entry.name.startswith("."):
                self._meet(entry.name, path, tally)

    def _meet(self, name: str, path: str, tally: Tally) -> None:
        if name in self._runs:
            return
        if valid_id(name):
            self._runs[name] = _BeatRun(name, path, self._root, self._options, self._crew, self._local)
            return
        tally.reads[ReadResult.REFUSED] += 1
        tally.complain(repr(path), "name", f"the folder {shown(name)} is left out: a run id is {ID_RULE}")

    def _forget(self, run_id: str, tally: Tally) -> None:
        run = self._runs.pop(run_id)
        if run.run is not None:
            tally.vanished.append(run_id)


class _BeatRun:
    """One folder of beats between looks."""

    __slots__ = (
        "_again",
        "_crew",
        "_faulty",
        "_files",
        "_live",
        "_local",
        "_options",
        "_root",
        "_seen",
        "_tasks",
        "folder",
        "run",
        "run_id",
    )

    def __init__(self, run_id: str, folder: str, root: Root, options: BeatOptions, crew: str, local: bool) -> None:
        self.run_id = run_id
        self.folder = folder
        self.run: Run | None = None
        self._root = root
        self._options = options
        self._crew = crew
        self._local = local
        self._files: dict[str, FileWatch] = {}  # task id -> its file
        self._tasks: dict[str, Task] = {}
        self._live: list[str] = []  # tasks that may yet beat
        self._faulty: set[str] = set()  # tasks whose latest beat could not be read
        self._seen: Signature | None = None
        self._again = False

    def look(self, tally: Tally, now: Reading, thorough: bool) -> bool:
        """Read the beats that changed. False: the folder is gone."""
        seen = signature(self.folder)
        if seen is None:
            return False
        counted = sum(tally.reads.values())
        listed = seen != self._seen or self._again or thorough
        moved = self._list(seen, tally, now) if listed else False
        # A beat is replaced by a rename, which its folder's signature shows; one written in place shows itself.
        for task_id in list(self._files) if listed else self._live:
            moved = self._read(task_id, tally, now) or moved
            self._note_fault(task_id, tally)
        if listed or moved:
            # Also those of which no beat could be read yet.
            self._live = [task_id for task_id in self._files if task_id not in self._tasks or self._is_live(task_id)]
        if moved:
            self._take(tally)
        if sum(tally.reads.values()) == counted:
            tally.unchanged += 1
        return True

    def _list(self, seen: Signature, tally: Tally, now: Reading) -> bool:
        entries = self._root.names(self.run_id)
        self._again = seen != self._seen and seen.mtime_ns / 1e9 > now.wall - 1.0
        self._seen = seen
        # Not only plain files: whatever bears the name of a beat is looked at, and refused where it is none.
        found = {entry.name.removesuffix(SUFFIX) for entry in entries if entry.name.endswith(SUFFIX)}
        for name in sorted(name for name in found if name not in self._files and not name.startswith(".")):
            if not valid_id(name):
                tally.reads[ReadResult.REFUSED] += 1
                tally.complain(
                    self.folder, "name", f"the file {shown(name + SUFFIX)} is left out: a task id is {ID_RULE}"
                )
            elif len(self._files) < self._options.tasks_max:
                self._files[name] = FileWatch(self.folder, name + SUFFIX)
            else:
                tally.complain(self.folder, "many", f"only the first {self._options.tasks_max} tasks are looked at")
        gone = [task_id for task_id in self._files if task_id not in found]
        for task_id in gone:
            del self._files[task_id]
            self._tasks.pop(task_id, None)
        return bool(gone)

    def _read(self, task_id: str, tally: Tally, now: Reading) -> bool:
        watch = self._files[task_id]
        got = watch.read(self._root, f"{self.run_id}/{task_id}{SUFFIX}", self._options.file_max)
        if got is None or got.result is not ReadResult.OK:
            return False
        decoded = decode_beat(got.data)
        beat = decoded.beat
        if beat is None:
            watch.reject(decoded.result, decoded.why)
            if decoded.result is ReadResult.INVALID:
                tally.add_happenings([rejection(self.run_id, task_id, "malformed", now.wall)])
            return False
        if (beat.run, beat.task) != (self.run_id, task_id):
            watch.reject(ReadResult.REFUSED, f"it names {beat.run}/{beat.task}: a beat lies at RUN/TASK{SUFFIX}")
            return False
        tally.reads[ReadResult.OK] += 1
        task = make_task(decoded, self._local, self._options.lease_max)
        before = self._tasks.get(task_id)
        if before is None or before.extra.keys() != task.extra.keys():
            tally.unknown_fields += len(task.extra)
        tally.add_happenings(rejections(self.run_id, task, before, now.wall))
        if beat.crew:
            self._crew = beat.crew[:128]
        self._tasks[task_id] = task
        return True

    def _note_fault(self, task_id: str, tally: Tally) -> None:
        watch = self._files[task_id]
        if watch.fault is None:
            if task_id in self._faulty:
                self._faulty.discard(task_id)
                tally.settle(self.folder, f"read {task_id}")
        elif watch.fault is not ReadResult.MISSING:
            self._faulty.add(task_id)
            tally.reads[watch.fault] += 1
            if task_id in self._tasks:
                # What one worker writes costs only itself. A file that never was a beat is no worker at all.
                tally.unread_tasks[self.run_id, task_id] = watch.fault
            tally.complain(self.folder, f"read {task_id}", f"{task_id}{SUFFIX} is {watch.fault}: {watch.why}")

    def _take(self, tally: Tally) -> None:
        if not self._tasks:
            if self.run is not None:
                tally.vanished.append(self.run_id)
                self.run = None
            return
        run = make_run(self.run_id, self.folder, self._crew, self._tasks)
        if run != self.run:
            self.run = run
            tally.changed.append(run)

    def _is_live(self, task_id: str) -> bool:
        return self._tasks[task_id].status not in TASK_ENDED
