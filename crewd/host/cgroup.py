"""Control groups, version 2 (cgroups(7)): where crewd may make them, an attempt is one group, and cannot leave it."""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from crewd.host.proc_stat import read_proc
from crewd.host.writing import write_all

PREFIX = "crewd-"  # of every group that crewd makes; it touches no other
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")
SUBGROUP = "daemon"  # where the shipped units have crewd itself put: DelegateSubgroup= (systemd 254)
CONTROLLERS = ("memory", "pids")
DELEGATED = (
    "user.delegate",
    "trusted.delegate",
)  # how systemd marks what it handed over (systemd.resource-control(5))


class Cgroup:
    """One attempt's group. Every process that is born in it stays in it, whatever else it gives up."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def add(self, pid: int) -> None:
        """Move a process in, which has no children yet. Raises OSError."""
        _write(f"{self.folder}/cgroup.procs", str(pid))

    def limit(self, memory_bytes: int | None, processes: int | None) -> list[str]:
        """Bound the group as a whole; returns what could not be set, and why."""
        wanted = (
            ("memory.max", memory_bytes),
            ("memory.swap.max", 0 if memory_bytes else None),
            ("pids.max", processes),
        )
        complaints: list[str] = []
        for name, value in wanted:
            if value is None:
                continue
            try:
                _write(f"{self.folder}/{name}", str(value))
            except OSError as error:
                if name != "memory.swap.max":  # a kernel may count no swap
                    complaints.append(f"{name} {value}: {error.strerror}; is the controller enabled above the group?")
        return complaints

    def kill(self) -> bool:
        """Send SIGKILL to everything in it at once, past any fork; False before Linux 5.14. Raises OSError."""
        try:
            _write(f"{self.folder}/cgroup.kill", "1")
        except FileNotFoundError:
            return not os.path.isdir(self.folder)
        return True

    def empty(self) -> bool:
        """Whether no process is in it or below it; a group that is not there has none. Raises OSError."""
        try:
            lines = read_proc(f"{self.folder}/cgroup.events").split(b"\n")
        except FileNotFoundError:
            return True
        return b"populated 0" in lines

    def processes(self) -> list[int]:
        """List the processes in it and below it, zombies left out as the kernel does. Raises OSError."""
        pids: list[int] = []
        for folder in _inside(self.folder):
            with suppress(FileNotFoundError):
                pids += map(int, read_proc(f"{folder}/cgroup.procs").split())
        return pids

    def remove(self) -> bool:
        """Take away the group and those that were made in it; False while a process is in one of them."""
        try:
            for folder in _inside(self.folder):
                with suppress(FileNotFoundError):
                    Path(folder).rmdir()
        except OSError:
            return False
        return True


class Cgroups:
    """The place where crewd may make groups: its own group, or that above it, where systemd put it in a subgroup.

    Only in the second can groups have controllers, and with them limits. `divided` says which it is.

    `owner` says whose they are, such as a state folder: two crewds of a host may share the place, and neither is to
    take away what the other has just made.
    """

    def __init__(self, folder: str, owner: str = "", divided: bool = False) -> None:
        self.folder = folder
        self.divided = divided
        self._prefix = PREFIX + (f"{hashlib.sha256(os.fsencode(owner)).hexdigest()[:12]}-" if owner else "")

    @classmethod
    def detect(cls, own: str | None = None, mounts: str | None = None, owner: str = "") -> "Cgroups | None":
        """Find the place; None where there is none: no version 2, not delegated to us, or not writable.

        `own` and `mounts` are the texts of /proc/self/cgroup and /proc/self/mountinfo. Makes a group and removes it.
        """
        try:
            folder = _own_folder(_text("/proc/self/cgroup", own), _text("/proc/self/mountinfo", mounts))
            if folder is None or not _is_handed_over(folder):
                return None
            above, _, name = folder.rpartition("/")
            divided = name == SUBGROUP and _is_handed_over(above)
            folder = above if divided else folder
            probe = f"{folder}/{PREFIX}probe-{os.getpid()}"
            Path(probe).mkdir()
            Path(probe).rmdir()
        except OSError:
            return None
        return cls(folder, owner, divided)

    def enable(self) -> list[str]:
        """Ask for the controllers that limits need, where crewd is aside; returns complaints.

        The kernel has either processes in a group or controllers beneath it. systemd before 254 starts the next crewd
        in the very group that was handed over, and could not, if its predecessor had controllers there: so without
        DelegateSubgroup= none are asked for.
        """
        if not self.divided:
            return [
                f"{self.folder}: crewd itself is in it; systemd 254 puts it aside with DelegateSubgroup={SUBGROUP}"
            ]
        complaints: list[str] = []
        for controller in CONTROLLERS:
            try:
                _write(f"{self.folder}/cgroup.subtree_control", f"+{controller}")
            except FileNotFoundError:
                complaints.append(f"{self.folder}: controller {controller}: not offered to this group")
            except OSError as error:
                complaints.append(f"{self.folder}: controller {controller}: {error.strerror}")
        return complaints

    def make(self, name: str) -> Cgroup:
        """Make a group, or take over one of that name. Raises OSError; ValueError for a name that is not plain."""
        group = Cgroup(self._place(name))
        with suppress(FileExistsError):
            Path(group.folder).mkdir()
        return group

    def adopt(self, name: str) -> Cgroup | None:
        """Find a group that a former crewd made; None: there is none. Raises ValueError as `make` does."""
        folder = self._place(name)
        return Cgroup(folder) if os.path.isdir(folder) else None

    def names(self) -> list[str]:
        """Name the groups that this owner's crewd made here. Raises OSError."""
        found = (entry.name for entry in os.scandir(self.folder) if entry.is_dir(follow_symlinks=False))
        return sorted(name.removeprefix(self._prefix) for name in found if name.startswith(self._prefix))

    def _place(self, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot name a control group: letters, digits and . _ - only, at most 201")
        return f"{self.folder}/{self._prefix}{name}"


def _own_folder(own: str, mounts: str) -> str | None:
    """Put together where our own group lies in the file system; None: it is not shown there."""
    paths = [line.removeprefix("0::") for line in own.splitlines() if line.startswith("0::/")]
    for line in mounts.splitlines():
        # proc(5): id, parent, device, root, point, options, optional fields, "-", type, source, options
        first, _, rest = line.partition(" - ")
        fields = first.split(" ")
        if paths and rest.startswith("cgroup2 ") and len(fields) > 5:
            root, point = fields[3].rstrip("/"), fields[4].replace("\\040", " ")
            if (paths[0] + "/").startswith(root + "/"):
                return (point + paths[0].removeprefix(root)).rstrip("/")
    return None


def _is_handed_over(folder: str) -> bool:
    """Whether the group is ours to divide: we own it, its manager says so, or it is the top and nobody manages it."""
    if not os.access(folder, os.W_OK) or not os.access(f"{folder}/cgroup.procs", os.W_OK):
        return False
    if os.geteuid() != 0:
        return Path(folder).stat().st_uid == os.geteuid()
    for name in DELEGATED:
        with suppress(OSError):
            if os.getxattr(folder, name) == b"1":
                return True
    # With a manager nothing but kernel threads is in the top group. (Also the top of a container's namespace.)
    return not os.path.exists(f"{Path(folder).parent}/cgroup.procs")


def _inside(folder: str) -> Iterator[str]:
    """Name the group and every group in it, the deepest first."""
    for place, _, _ in os.walk(folder, topdown=False):
        yield place


def _text(path: str, given: str | None) -> str:
    return Path(path).read_text("utf-8", "surrogateescape") if given is None else given


def _write(path: str, text: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        write_all(handle, text.encode())
    finally:
        os.close(handle)
