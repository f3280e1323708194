"""One run folder between looks: when it has to be read, and whether what was read may be believed."""

from crewd.host.files import Signature, signature
from crewd.model.look import ReadResult
from crewd.model.moment import Reading
from crewd.model.run import RUN_ENDED, Run, RunStatus
from crewd.sources.file_watch import FileWatch
from crewd.sources.pi_crew.event_log import EventLog
from crewd.sources.pi_crew.layout import CORRUPT_MANIFEST, EVENTS, LETTERS, MANIFEST, TASKS
from crewd.sources.pi_crew.letters import Letters
from crewd.sources.pi_crew.manifest import Manifest, read_manifest
from crewd.sources.pi_crew.rota import Marks
from crewd.sources.pi_crew.run_detail import RunDetail
from crewd.sources.pi_crew.where import Where
from crewd.sources.tally import Tally

CALM_LOOKS = 6  # an ended run that did not change for so many looks is looked at by its manifest alone
TORN_LOOKS = 3  # so long a torn file is taken for a writer at work


class RunWatch:
    """One run, looked at only when one of its marks moved, or when it has none."""

    __slots__ = (
        "_bad_looks",
        "_calm",
        "_detail",
        "_letters",
        "_log",
        "_manifest",
        "_tasks",
        "_was_live",
        "run",
        "run_id",
        "settled",
        "slot",
        "where",
    )

    def __init__(self, run_id: str, where: Where, slot: int) -> None:
        self.run_id = run_id
        self.where = where
        self.run: Run | None = None
        self.settled: Signature | None = None  # of the manifest of an ended, calm run; None = look at everything
        self.slot = slot  # spreads over the looks what is done only now and then
        self._manifest = FileWatch(where.folder, MANIFEST)
        self._tasks = FileWatch(where.folder, TASKS)
        self._log = EventLog()
        self._letters = Letters()
        self._detail: RunDetail | None = None
        self._calm = 0
        self._bad_looks = 0
        self._was_live = False

    @property
    def is_live(self) -> bool:
        return self.run is not None and self.run.status not in RUN_ENDED

    def is_untouched(self) -> bool:
        """Say of a settled run whether any of its files was written after all."""
        folder = self.where.folder
        return (
            signature(self._manifest.path) == self._manifest.seen
            and signature(self._tasks.path) == self._tasks.seen
            and self._log.is_settled(signature(f"{folder}/{EVENTS}"))
            and self._letters.is_settled(signature(f"{folder}/{LETTERS}"))
        )

    def marks(self) -> Marks | None:
        """Name the files that tell, by not moving, that a look would bring nothing. None: it has to be looked at.

        Of an ended, calm run it is the manifest alone; of a live one its tasks, its log and its workers' files too.
        """
        name = f"{self.run_id}/{MANIFEST}".encode()
        if self.settled is not None:
            return Marks(((name, *self.settled),))
        seen = self._manifest.settled
        if seen is None or self._detail is None or self._bad_looks or not self.is_live:
            return None
        return Marks(((name, *seen), *self._detail.marks()), self._detail.side_marks())

    def look(self, tally: Tally, now: Reading, turn: int) -> bool:
        """Look at every file that may have changed. False: the folder is gone."""
        detail = self._detail
        if detail is None:
            detail = self._detail = RunDetail(
                self.run_id, self.where, self._tasks, self._log, self._letters, self.run
            )
            self._manifest.forget()
            self._tasks.forget()
        counted = len(tally.reads), sum(tally.reads.values())
        manifest = self._read_manifest(tally)
        if self._manifest.fault is ReadResult.MISSING and signature(self.where.folder) is None:
            return False
        moved = False
        if self._manifest.fault is None:
            moved = detail.look(manifest, tally, now, turn + self.slot)
            if moved:
                self._take(detail.compose(), tally)
        fault = self._manifest.fault or detail.fault
        if fault is not None or self._bad_looks:
            self._note_fault(fault, detail, tally)
        if (len(tally.reads), sum(tally.reads.values())) == counted:
            tally.unchanged += 1
        self._settle(moved, fault)
        return True

    def _read_manifest(self, tally: Tally) -> Manifest | None:
        """Read the manifest; None where it did not change or says nothing."""
        watch = self._manifest
        got = watch.read(self.where.root, f"{self.where.relative}/{MANIFEST}", self.where.options.file_max)
        if got is None:
            return None
        if got.result is not ReadResult.OK:
            if got.result is ReadResult.MISSING and self._was_set_aside():
                watch.reject(ReadResult.INVALID, f"set aside by pi-crew as {CORRUPT_MANIFEST}*")
            return None
        manifest = read_manifest(got.data, self.run_id)
        if manifest.result is not ReadResult.OK:
            watch.reject(manifest.result, manifest.why)
            return None
        tally.reads[ReadResult.OK] += 1
        if manifest.status is RunStatus.UNKNOWN and (
            self.run is None or self.run.status_text != manifest.status_text
        ):
            tally.unknown_statuses += 1
        return manifest

    def _was_set_aside(self) -> bool:
        try:
            names = self.where.root.names(self.where.relative)
        except OSError:
            return False
        return any(entry.name.startswith(CORRUPT_MANIFEST) for entry in names)

    def _take(self, run: Run, tally: Tally) -> None:
        if run == self.run:
            return
        if run.extra and (self.run is None or self.run.extra.keys() != run.extra.keys()):
            tally.unknown_fields += len(run.extra)
        self.run = run
        tally.changed.append(run)

    def _note_fault(self, fault: ReadResult | None, detail: RunDetail, tally: Tally) -> None:
        if fault is None:
            self._bad_looks = 0
            tally.settle(self.where.folder, "read")
            return
        tally.reads[fault] += 1
        if self.run is None and fault is ReadResult.MISSING:
            return  # a folder without a manifest is a run about to begin, or none
        tally.unread[self.run_id] = fault
        self._bad_looks += 1
        if fault not in (ReadResult.TORN, ReadResult.MISSING) or self._bad_looks == TORN_LOOKS:
            name, why = (MANIFEST, self._manifest.why) if self._manifest.fault is not None else (TASKS, detail.why)
            tally.complain(self.where.folder, "read", f"{name} is {fault}: {why}; what was known of the run stands")

    def _settle(self, moved: bool, fault: ReadResult | None) -> None:
        self.settled = None
        if self.run is None or self.is_live or fault is not None:
            self._was_live = self._was_live or self.is_live
            self._calm = 0
            return
        self._calm = 0 if moved else self._calm + 1
        # One that had ended when it was first seen has nothing left to write.
        if self._calm >= CALM_LOOKS or not self._was_live:
            self.settled = self._manifest.seen
            self._detail = None
