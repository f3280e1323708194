"""Which filesystem a path lies on, and how much room it has."""

import os
from pathlib import Path

# Other machines write here unseen: no inotify event comes, attributes are cached, a pid may be another host's.
# virtiofs, 9p and the like are a virtual machine's view of its host's folder.
# fmt: off
NETWORK = frozenset((
    "9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fuse", "gfs",
    "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs",
    "prl_fs", "pvfs2", "smb2", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs",
))
# fmt: on


def is_network(path: str | os.PathLike[str]) -> bool:
    """Say whether the path, or the nearest folder above it that exists, lies on a network filesystem.

    Any userspace filesystem (`fuse.*`) counts: it may fetch from anywhere. Only `fuseblk` is a disk for sure.
    """
    return is_network_type(filesystem(path))


def is_network_type(kind: str) -> bool:
    """Say the same of a filesystem type by its name."""
    return kind in NETWORK or kind.startswith("fuse.")


def filesystem(path: str | os.PathLike[str]) -> str:
    """Name the filesystem type as `mount` does (`ext4`, `nfs4`, `fuse.sshfs`); "" where the kernel does not tell."""
    try:
        handle = _open_nearest(os.path.abspath(os.fspath(path)))
    except OSError:
        return ""
    try:
        # The kernel's own answer to "which mount is this". A guess by longest prefix is fooled by links and by
        # mounts stacked on one another.
        mount = _field(Path(f"/proc/self/fdinfo/{handle}").read_text("utf-8"), "mnt_id:")
        return _type_of(Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape"), mount)
    except OSError:
        return ""
    finally:
        os.close(handle)


def free_bytes(path: str | os.PathLike[str]) -> int:
    """Bytes that an ordinary user can still write to the filesystem of `path`. Raises OSError."""
    volume = os.statvfs(path)
    return volume.f_bavail * volume.f_frsize


def _open_nearest(path: str) -> int:
    while True:
        try:
            return os.open(path, os.O_PATH | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            if path == "/":
                raise
            path = str(Path(path).parent)


def _field(text: str, name: str) -> str:
    for line in text.splitlines():
        if line.startswith(name):
            return line.removeprefix(name).strip()
    return ""


def _type_of(mountinfo: str, mount: str) -> str:
    # proc(5): id, parent, device, root, point, options, optional fields, "-", type, source, options of the superblock
    for line in mountinfo.splitlines():
        own, _, rest = line.partition(" ")
        if own == mount:
            return rest.partition(" - ")[2].partition(" ")[0]
    return ""
