"""Day files: NAME-YYYY-MM-DD.jsonl, one open at a time, and NAME-current.jsonl that leads to it."""

import re
import threading
from collections.abc import Iterator

from crewd.host.archive import make_folder, point, stored, target_of
from crewd.host.files import AppendFile, FileRange, Root
from crewd.model.moment import rfc3339

DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
SECONDS_A_DAY = 86400.0
CHUNK = 256 * 1024
SEARCHED_MAX = 8 * 1024 * 1024


def day_of(wall: float) -> str:
    """Name the UTC day of a wall time."""
    return rfc3339(wall)[:10]


class DayFile:
    """The files of one sink. One thread at a time; everything raises OSError where the disk does.

    A day's file, once left for another, is never written again, whatever the clock does: whoever ships or
    compresses it may rely on that.
    """

    def __init__(self, folder: str, name: str, linger: float = 0.0, hurry: threading.Event | None = None) -> None:
        """`linger`: seconds between the last line of a day and the moment at which the link leads to the next.

        Once `hurry` is set, nothing lingers any more: the daemon ends.
        """
        self.name = name
        self.day = ""  # of the file that is open, or was last
        self._folder = folder
        self._linger = linger
        self._hurry = hurry or threading.Event()
        self._file: AppendFile | None = None
        self.is_known = False  # whether the newest file, if there is one, has been looked for

    def open(self) -> int:
        """Open the newest file, if there is one; return how many bytes of a torn last line were set aside."""
        make_folder(self._folder)
        self.day = self._newest()
        self.is_known = True
        return self._switch(self.day) if self.day else 0

    @property
    def is_open(self) -> bool:
        return self._file is not None

    @property
    def path_name(self) -> str:
        """The name of the file that is open, or was last; never one that is closed for good."""
        return self._name_of(self.day)

    def write(self, data: bytes, wall: float, now: float) -> None:
        """Append whole lines of the day of `wall` and sync them; `now` is the present wall time.

        They go to that day's file, or to the present one where that day's file has been left already.
        """
        day = self._choose(day_of(wall), day_of(now + SECONDS_A_DAY))
        if self._file is None or day != self.day or self._file.is_displaced():
            self._switch(day)
        assert self._file is not None
        self._file.append(data)
        self._file.sync()

    def lines_from_end(self) -> Iterator[bytes]:
        """Give the whole lines of the newest file, last first, within the last 8 MiB."""
        if self._file is None:
            return
        end, rest = self._file.size, b""
        stop = max(0, end - SEARCHED_MAX)
        with Root(self._folder) as root:
            while end > stop:
                start = max(stop, end - CHUNK)
                piece: FileRange = root.read_range(self._name_of(self.day), start, end - start)
                if len(piece.data) != end - start:
                    raise OSError(
                        f"{self._name_of(self.day)} could not be read back: {piece.result.value} {piece.why}"
                    )
                first, *whole = (piece.data + rest).split(b"\n")
                yield from (line for line in reversed(whole) if line)
                end, rest = start, first
        if stop == 0 and rest:
            yield rest

    def close(self) -> None:
        """Close the open file; a later write opens it again, and repairs it first."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _choose(self, day: str, tomorrow: str) -> str:
        if not self.day or day == self.day:
            return day
        # Lines that come late, or under a clock set back, stay in the present file; only from a file that lies in
        # the future, where a wrong clock led, is there a way back, to a day that has no file yet.
        if (day > self.day or self.day > tomorrow) and not self._was_used(day):
            return day
        return self.day

    def _was_used(self, day: str) -> bool:
        name = self._name_of(day)
        return any(each.size > 0 and each.name in (name, name + ".gz") for each in stored(self._folder))

    def _switch(self, day: str) -> int:
        self.close()
        make_folder(self._folder)
        file = AppendFile(f"{self._folder}/{self._name_of(day)}")
        torn = file.open()
        if self.day and day != self.day:
            # `tail -F` looks whether the old file grew, then where the link leads, and never back: a line that came
            # between the two would be lost to it. It must not happen to be held up there for so long.
            self._hurry.wait(self._linger)
        self._file, self.day = file, day
        point(f"{self._folder}/{self.name}-current.jsonl", self._name_of(day))
        return torn

    def _newest(self) -> str:
        linked = self._day_in(target_of(f"{self._folder}/{self.name}-current.jsonl") or "")
        days = {day for each in stored(self._folder) if (day := self._day_in(each.name))}
        return linked if linked in days else max(days, default="")

    def _day_in(self, name: str) -> str:
        day = name.removeprefix(self.name + "-").removesuffix(".jsonl")
        return day if name == self._name_of(day) and DAY.fullmatch(day) else ""

    def _name_of(self, day: str) -> str:
        return f"{self.name}-{day}.jsonl"
