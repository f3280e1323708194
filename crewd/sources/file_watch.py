"""One small file that is replaced now and then: read only when its signature says that it may differ."""

from crewd.host.files import FileRead, Root, Signature, signature
from crewd.model.look import ReadResult


class FileWatch:
    """What is remembered of one file between looks. `fault` is why it says nothing now; None = it does."""

    __slots__ = ("_again", "_digest", "_folder", "_name", "fault", "seen", "why")

    def __init__(self, folder: str, name: str) -> None:
        self._folder = folder
        self._name = name
        self.seen: Signature | None = None
        self.fault: ReadResult | None = None
        self.why = ""
        self._again = False
        self._digest = 0

    @property
    def path(self) -> str:
        return f"{self._folder}/{self._name}"

    @property
    def settled(self) -> Signature | None:
        """The signature under which there is nothing to be read; None where the file must be looked at anyway."""
        return None if self._again or self.fault is not None else self.seen

    def read(self, root: Root, relative: str, limit: int) -> FileRead | None:
        """Read the file if it may differ from last time; None where it does not. Never raises OSError."""
        seen = None
        if self.seen is not None or self.fault is not None:
            try:
                seen = signature(self.path)
            except OSError as error:
                return self._note(FileRead(ReadResult.IO_ERROR, why=error.strerror or str(error)), None)
            if seen is None:
                return self._note(FileRead(ReadResult.MISSING, why="missing"), None)
            if seen == self.seen and not self._again:
                return None
        got = root.read(relative, limit)
        if got.result is ReadResult.OK and self.fault is None:
            digest = hash(got.data)
            same = self.seen is not None and digest == self._digest
            self._note(got, got.signature)
            self._digest = digest
            return None if same else got
        self._digest = hash(got.data)
        # What could not be read for want of permission or a disk is tried again; what was read and is wrong stays so.
        return self._note(got, (got.signature or seen) if got.result is not ReadResult.IO_ERROR else None)

    def reject(self, result: ReadResult, why: str) -> None:
        """Note that what was read whole says nothing."""
        self.fault, self.why = result, why

    def forget(self) -> None:
        """Read it again next time, whatever its signature."""
        self.seen = None

    def _note(self, got: FileRead, seen: Signature | None) -> FileRead:
        self.seen = seen
        # Written in the last moment: one more write might leave the same signature.
        self._again = got.fresh
        self.fault = None if got.result is ReadResult.OK else got.result
        self.why = got.why
        return got
