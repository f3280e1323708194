"""The one door to the disk: what may be read, how it is written, and who holds a folder."""

from crewd.host.appending import AppendFile
from crewd.host.locking import AlreadyLocked, FolderLock
from crewd.host.marks import Folder, Mark
from crewd.host.reading import Entry, FileRange, FileRead, Root, Signature, is_fresh, signature
from crewd.host.volumes import filesystem, free_bytes, is_network
from crewd.host.writing import write_atomically, write_pieces

__all__ = [
    "AlreadyLocked",
    "AppendFile",
    "Entry",
    "FileRange",
    "FileRead",
    "Folder",
    "FolderLock",
    "Mark",
    "Root",
    "Signature",
    "filesystem",
    "free_bytes",
    "is_fresh",
    "is_network",
    "signature",
    "write_atomically",
    "write_pieces",
]
