"""The folders in which pi-crew keeps runs: below a project, below a crew root, below the user root, and elsewhere."""

from functools import cached_property

from crewd.host.files import Entry, FileRead, Root, Signature, is_network, signature
from crewd.model.look import ReadResult
from crewd.sources.document import parse
from crewd.sources.fields import fields, text
from crewd.sources.names import valid_id
from crewd.sources.pi_crew.layout import INDEX, INDEX_BINARY, INDEX_MAGIC, PROJECT_ROOTS, RUNS, USER_ROOT
from crewd.sources.pi_crew.options import PiCrewOptions
from crewd.sources.pi_crew.rota import Rota

INDEX_MAX = 1 << 20  # bytes; pi-crew keeps 64 entries
FOLLOWED_MAX = 256  # run folders elsewhere


class Place:
    """One folder of runs, and what it held when it was last listed."""

    def __init__(self, root: Root, relative: str, crew: str, every: int, only: frozenset[str] = frozenset()) -> None:
        self.root = root
        self.relative = relative  # of the folder of runs, beneath `root`; "" = the root itself
        self.path = f"{root.path.rstrip('/')}/{relative}" if relative else root.path
        self.crew = crew
        self.only = only  # the run folders that count; empty = all
        self.rota = Rota(every)
        self._seen: Signature | None = None
        self._again = False

    @cached_property
    def local(self) -> bool:
        """Whether it is on a disk of this machine. Asked by the first look that finds a run: it may take a while."""
        return not is_network(self.path)

    def exists(self) -> bool:
        """Whether there is a crew root here, though it may hold no run yet. What may not be looked at may be one."""
        try:
            if signature(self.path) is not None:
                return True
            # A root that is itself a crew root is told by its runs alone: any folder could be one some day.
            return self.relative != RUNS and signature(self.path.removesuffix("/" + RUNS)) is not None
        except OSError:
            return True

    def list_if_changed(self, wall: float, anyway: bool) -> list[Entry] | None:
        """List the folders of runs if one may have come or gone; None where none has. Raises OSError."""
        seen = signature(self.path)
        if seen is None:
            known, self._seen = self._seen, None
            return [] if known is not None or anyway else None
        if seen == self._seen and not anyway and not self._again:
            return None
        entries = self.root.names(self.relative)
        # Changed in the last moment: one more change might leave the same signature.
        self._again = seen != self._seen and seen.mtime_ns / 1e9 > wall - 1.0
        self._seen = seen
        return [entry for entry in entries if entry.name in self.only] if self.only else entries

    def beneath(self, name: str) -> str:
        return f"{self.relative}/{name}" if self.relative else name


class Index:
    """The user root's list of active runs, which may lie in any project of the user."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._seen: tuple[Signature | None, Signature | None] = (None, None)

    def read_if_changed(self) -> list[tuple[str, str]] | None:
        """Name runs and their folders; None where the list did not change or cannot be read."""
        seen = (self._signature(INDEX_BINARY), self._signature(INDEX))
        if seen == self._seen:
            return None
        self._seen = seen
        # pi-crew's own readers prefer the binary one, which is the same JSON behind 14 bytes.
        for name in (INDEX_BINARY, INDEX):
            got = self._place.root.read(self._place.beneath(name), INDEX_MAX)
            entries = _entries(got, name)
            if entries is not None:
                return entries
        return None

    def _signature(self, name: str) -> Signature | None:
        try:
            return signature(f"{self._place.path}/{name}")
        except OSError:
            return None


def own_places(root: Root, options: PiCrewOptions) -> list[Place]:
    """Name every folder of runs that `root` may hold, whether it is there yet or not.

    `root` may be a project, a crew root (`.crew`, `.pi/teams`), the user root, or a home folder.
    """
    path = root.path.rstrip("/")
    crew = options.crew or crew_of(path)
    named = [(f"{below}/{RUNS}", crew) for below in PROJECT_ROOTS]
    named += [(RUNS, crew), (f"{USER_ROOT}/{RUNS}", options.crew or "user")]
    return [Place(root, relative, name, options.side_files_every) for relative, name in named]


def crew_of(path: str) -> str:
    """Name a crew after the folder of its project."""
    path = path.rstrip("/")
    if path.endswith(USER_ROOT):
        return "user"
    for below in PROJECT_ROOTS:
        path = path.removesuffix("/" + below)
    return path.rpartition("/")[2][:128] or "crew"


def followed_place(run_id: str, folder: str, every: int) -> Place | None:
    """Turn an index entry into a place, if it names a run folder as pi-crew lays them out."""
    parts = folder.split("/")
    below = f"/{RUNS}/{run_id}"
    if parts[0] or not folder.endswith(below):
        return None
    crew_root = folder.removesuffix(below)
    # Opened from the top of the disk, so that no part of the path may be a link.
    return Place(Root("/"), f"{crew_root.strip('/')}/{RUNS}", crew_of(crew_root), every, frozenset({run_id}))


def _entries(got: FileRead, name: str) -> list[tuple[str, str]] | None:
    if got.result is not ReadResult.OK:
        return None
    data = got.data
    if name == INDEX_BINARY:
        if not data.startswith(INDEX_MAGIC):
            return None
        data = data[len(INDEX_MAGIC) :]
    document = parse(data)
    if document.result is not ReadResult.OK or not isinstance(document.value, list):
        return None
    found: list[tuple[str, str]] = []
    for entry in document.value[:FOLLOWED_MAX]:
        of = fields(entry)
        run_id, folder = text(of, "runId"), text(of, "stateRoot", 4096)
        if valid_id(run_id) and folder.startswith("/"):
            found.append((run_id, folder.rstrip("/")))
    return found
