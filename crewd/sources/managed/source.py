"""The source of managed runs: their states come from the engine that runs them, their signs of life from the disk.

So a managed worker is judged as every other one: by its process, and by what it writes.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from crewd.host.attempt_folder import BEAT, STDERR, STDOUT
from crewd.host.descent import first_child
from crewd.host.files import Root, signature
from crewd.host.proc_stat import read_stat
from crewd.model.look import Look, ReadResult
from crewd.model.moment import Reading
from crewd.model.process import Identity, ProcessClaim
from crewd.model.run import Lease, Run, Task, Waiting

RUNTIME = "managed"
BEAT_MAX = 64 * 1024


class Watched(msgspec.Struct, frozen=True):
    """One attempt at work: where its signs of life are found."""

    task_id: str
    folder: str
    shim: Identity
    output_counts: bool  # what it writes is a sign of life, as no other is agreed
    said: tuple[Any, ...] = ()  # what changes with every message of a protocol worker
    lease: Lease | None = None
    tool: str = ""  # that it says it is inside of; "" none
    waiting: Waiting | None = None  # a wait that it declared: its provider keeps it waiting, until when says detail
    hint: str = ""  # its last words, as far as they may tell why it is silent
    streams: bool = False  # an agent whose every word is followed: with no tool open it waits for its model


class View(msgspec.Struct, frozen=True):
    """One managed run as its owner sees it."""

    run: Run
    watched: tuple[Watched, ...] = ()


class ManagedSource:
    """All managed runs of this crewd. `publish` may be called from another thread than `look`."""

    runtime = RUNTIME
    tells_itself = True

    def __init__(self, folder: str, proc: str = "/proc") -> None:
        self.folder = folder
        self.key = f"{RUNTIME}:{folder}"
        self._proc = proc
        self._views: Mapping[str, View] = {}
        self._told: dict[str, Run] = {}
        self._workers: dict[Identity, tuple[int, int]] = {}  # shim -> pid and start ticks of the command below it
        self._leases: dict[str, tuple[object, Lease | None]] = {}  # folder -> signature of its beat file, its lease

    def publish(self, views: Mapping[str, View]) -> None:
        """Take over how the runs stand now. The mapping is not changed afterwards."""
        self._views = views

    def look(self, now: Reading) -> Look:
        """Read every sign of life, and tell the runs that differ from the last look."""
        views = self._views
        changed = []
        shims: set[Identity] = set()
        folders: set[str] = set()
        for run_id, view in views.items():
            shims.update(each.shim for each in view.watched)
            folders.update(each.folder for each in view.watched)
            run = self._with_signs(view)
            if self._told.get(run_id) != run:
                self._told[run_id] = run
                changed.append(run)
        vanished = tuple(self._told.keys() - views.keys())
        for run_id in vanished:
            del self._told[run_id]
        self._workers = {shim: worker for shim, worker in self._workers.items() if shim in shims}
        self._leases = {folder: known for folder, known in self._leases.items() if folder in folders}
        reads = {ReadResult.OK: len(changed), ReadResult.UNCHANGED: len(views) - len(changed)}
        return Look(changed=tuple(changed), vanished=vanished, reads=reads)

    def watch_paths(self) -> list[str]:
        """Nothing: the engine itself wakes the patrol."""
        return []

    def close(self) -> None:
        """Nothing is held open."""

    def _with_signs(self, view: View) -> Run:
        if not view.watched:
            return view.run
        signs = {watched.task_id: watched for watched in view.watched}
        tasks = tuple(
            self._signed(task, signs[task.task_id]) if task.task_id in signs else task for task in view.run.tasks
        )
        return msgspec.structs.replace(view.run, tasks=tasks)

    def _signed(self, task: Task, watched: Watched) -> Task:
        beat, lease = self._beat(watched.folder)
        sizes = tuple(_size(f"{watched.folder}/{name}") for name in (STDOUT, STDERR)) if watched.output_counts else ()
        return msgspec.structs.replace(
            task,
            token=(task.attempt, *sizes, beat, *watched.said),
            claim=self._claim(watched.shim),
            lease=watched.lease or lease,
            tool=watched.tool,
            waiting=watched.waiting,
            hint=watched.hint,
            streams=watched.streams,
        )

    def _claim(self, shim: Identity) -> ProcessClaim:
        """Name the command below the shim, once there is one: the shim itself shows no work."""
        worker = self._workers.get(shim)
        if worker is None:
            pid = first_child(self._proc, shim.pid)
            found = read_stat(self._proc, pid) if pid is not None else None
            if pid is None or found is None or found.parent != shim.pid:
                return _claim(shim, shim.pid, shim.start_ticks)
            worker = self._workers[shim] = (pid, found.start_ticks)
        return _claim(shim, *worker)

    def _beat(self, folder: str) -> tuple[object, Lease | None]:
        """A command may write a beat file, and announce in it how long it will be silent."""
        try:
            seen = signature(f"{folder}/{BEAT}")
        except OSError:
            seen = None
        known = self._leases.get(folder)
        if known is None or known[0] != seen:
            known = self._leases[folder] = (seen, _lease(folder) if seen is not None else None)
        return known


def _claim(shim: Identity, pid: int, start_ticks: int) -> ProcessClaim:
    return ProcessClaim(pid, start_ticks=start_ticks, boot_id=shim.boot_id, pid_namespace=shim.pid_namespace)


def _size(path: str) -> int:
    try:
        seen = signature(path)
    except OSError:
        return -1
    return seen.size if seen is not None else -1


class _Beat(msgspec.Struct):
    busy_seconds: float | None = None
    tool: str = ""


def _lease(folder: str) -> Lease | None:
    """Read what a beat file announces; it is the worker's own file, so anything may stand in it."""
    try:
        with Root(folder) as root:
            data = root.read(BEAT, BEAT_MAX).data
        beat = msgspec.json.decode(data, type=_Beat)
    except (OSError, msgspec.MsgspecError, RecursionError):
        return None
    if beat.busy_seconds is None or not 0 < beat.busy_seconds <= 86_400:
        return None
    return Lease(beat.busy_seconds, beat.tool[:200])
