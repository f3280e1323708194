"""A filesystem that answers nothing, as a network one whose server is gone: a real mount, and nobody serves it."""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MNT_DETACH = 2


@dataclass
class HungMount:
    """Whoever asks for anything below `folder` waits, until the block is over or `let_go`."""

    folder: Path
    _device: int = -1

    def hang(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._device = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={self._device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()},allow_other"
        if libc.mount(b"hung", bytes(self.folder), b"fuse", 0, options.encode()) != 0:
            number = ctypes.get_errno()
            self.let_go()
            raise OSError(number, os.strerror(number), str(self.folder))

    def let_go(self) -> None:
        """Whoever waits is refused; then the folder is as it was before."""
        if self._device >= 0:
            os.close(self._device)
            self._device = -1
            ctypes.CDLL(None, use_errno=True).umount2(bytes(self.folder), MNT_DETACH)


@contextlib.contextmanager
def mounts(*folders: Path) -> Iterator[list[HungMount]]:
    """Have mounts ready that hang when they are told to, and do so no longer than the block."""
    made = [HungMount(folder) for folder in folders]
    try:
        yield made
    finally:
        for each in made:
            each.let_go()


def why_not(folder: Path) -> str:
    """Say why this machine cannot have such a mount; "": it can."""
    try:
        with mounts(folder) as (mount,):
            mount.hang()
    except OSError as error:
        return f"no filesystem can be made to hang here (it needs root and /dev/fuse): {error}"
    return ""
