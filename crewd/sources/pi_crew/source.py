"""The pi-crew source: every run below one root, in as few system calls as the truth allows."""

import errno
from collections.abc import Iterable

from crewd.host.files import Root
from crewd.model.look import Look, ReadResult
from crewd.model.moment import Reading
from crewd.sources.names import ID_RULE, shown, valid_id
from crewd.sources.pi_crew.layout import RUNTIME, USER_ROOT
from crewd.sources.pi_crew.options import PiCrewOptions
from crewd.sources.pi_crew.places import FOLLOWED_MAX, Index, Place, followed_place, own_places
from crewd.sources.pi_crew.run_watch import RunWatch
from crewd.sources.pi_crew.where import Where
from crewd.sources.tally import Complaints, Tally

WATCHED_MAX = 256  # live runs named to the watcher, newest first


class PiCrewSource:
    """Looks at a project folder, a `.crew` or `.pi/teams` folder, a home folder, or the user root of pi-crew."""

    runtime = RUNTIME
    tells_itself = False

    def __init__(self, root: str, options: PiCrewOptions | None = None) -> None:
        self.folder = root.rstrip("/") or "/"
        self.key = f"{RUNTIME}:{self.folder}"
        self._options = options or PiCrewOptions()
        self._root = Root(self.folder)
        self._places = own_places(self._root, self._options)
        self._indexes = [Index(place) for place in self._places if self._is_user_root(place)]
        self._followed: dict[str, Place] = {}  # run id -> the place elsewhere that holds it
        self._runs: dict[str, RunWatch] = {}
        self._homes: dict[str, Place] = {}  # run id -> the place it was found in
        self._live: dict[str, str] = {}  # run id -> folder, in the order in which they began to live
        self._others: tuple[str, ...] = ()
        self._complaints = Complaints()
        self._was_there = False
        self._watch_paths: list[str] = []
        self._turn = 0

    def look(self, now: Reading) -> Look:
        """Read what changed below the root since the last look."""
        tally = Tally(self._complaints)
        self._turn += 1
        thorough = self._turn % self._options.relist_every == 0
        if not self._root.is_there():
            if self._options.may_be_missing and not self._was_there:
                return tally.look()
            tally.complete = False
            tally.reads[ReadResult.MISSING] += 1
            words = (
                "this root is no folder that can be opened; make it, let crewd's user read it, "
                "or take it out of the configuration"
            )
            tally.complain(self.folder, "root", words)
            return tally.look()
        self._was_there = True
        tally.settle(self.folder, "root")
        self._follow_indexes(tally)
        if self._turn == 1 and not self._options.may_be_missing and not any(place.exists() for place in self._places):
            words = "no .crew and no .pi/teams is here yet; name a project folder, or wait for its first run"
            tally.complain(self.folder, "empty", words)
        known = [
            place for place in (*self._places, *self._followed.values()) if self._list(place, tally, now, thorough)
        ]
        for place in known:
            self._look_at_runs(place, tally, now, thorough)
        if tally.changed or tally.vanished or self._turn == 1:
            self._watch_paths = self._list_watch_paths()
        return tally.look()

    def watch_paths(self) -> list[str]:
        """Name the folders of runs, and the folders of the live runs, as of the latest look. Any thread may ask."""
        return self._watch_paths

    def leave_to_others(self, roots: Iterable[str]) -> None:
        """Name the roots of other sources: runs below them that the index names are not followed."""
        self._others = tuple(roots)

    def close(self) -> None:
        """Give the descriptors back."""
        self._root.close()
        for place in self._followed.values():
            place.root.close()

    def _list_watch_paths(self) -> list[str]:
        places = [place.path for place in (*self._places, *self._followed.values())]
        return places + list(self._live.values())[-WATCHED_MAX:]

    def _is_user_root(self, place: Place) -> bool:
        return self._options.follow_index and USER_ROOT in place.path

    def _follow_indexes(self, tally: Tally) -> None:
        for run_id in [name for name, place in self._followed.items() if self._is_watched(place.path)]:
            self._forget(run_id, tally)
        for index in self._indexes:
            for run_id, folder in index.read_if_changed() or ():
                if run_id not in self._followed and len(self._followed) < FOLLOWED_MAX:
                    self._follow(run_id, folder, tally)

    def _follow(self, run_id: str, folder: str, tally: Tally) -> None:
        if self._is_watched(folder):
            return
        place = followed_place(run_id, folder, self._options.side_files_every)
        is_own = self._options.is_own_folder
        if place is None or is_own is None or not is_own(folder):
            return
        try:
            names = [entry.name for entry in place.root.names(place.relative) if entry.is_dir]
        except OSError as error:
            tally.reads[ReadResult.REFUSED] += 1
            tally.complain(folder, "index", f"named by the index of active runs, but not followed: {error.strerror}")
            return
        if run_id in names:
            self._followed[run_id] = place

    def _is_watched(self, folder: str) -> bool:
        return any(f"{folder}/".startswith(f"{root.rstrip('/')}/") for root in (self.folder, *self._others))

    def _list(self, place: Place, tally: Tally, now: Reading, thorough: bool) -> bool:
        """Find runs that came and went. What one place cannot tell (False) is not known of its runs only."""
        try:
            entries = place.list_if_changed(now.wall, thorough)
        except OSError as error:
            self._note_unlisted(place, error, tally)
            return False
        if entries is None:
            return True
        tally.settle(place.path, "list")
        found = {entry.name for entry in entries if entry.is_dir}
        for run_id in [name for name in place.rota.runs if name not in found]:
            self._forget(run_id, tally)
        for entry in entries:
            if entry.is_dir:
                self._meet(entry.name, place, tally)
            elif entry.is_link:
                tally.reads[ReadResult.REFUSED] += 1
                tally.complain(f"{place.path}/{entry.name}", "name", "a symbolic link is not followed")
        return True

    def _note_unlisted(self, place: Place, error: OSError, tally: Tally) -> None:
        refused = error.errno in (errno.ELOOP, errno.ENOTDIR)
        tally.reads[ReadResult.REFUSED if refused else ReadResult.IO_ERROR] += 1
        tally.complain(place.path, "list", f"cannot be listed: {error.strerror}; its runs are not known this round")
        for run_id in place.rota.runs:
            tally.unread[run_id] = ReadResult.IO_ERROR

    def _meet(self, name: str, place: Place, tally: Tally) -> None:
        home = self._homes.get(name)
        if home is place:
            return
        if not valid_id(name):
            tally.reads[ReadResult.REFUSED] += 1
            words = f"the folder {shown(name)} is left out: a run id is {ID_RULE}"
            tally.complain(f"{place.path}/{name!r}", "name", words)
        elif home is not None:
            tally.reads[ReadResult.REFUSED] += 1
            tally.complain(f"{place.path}/{name}", "name", f"left out: the run is known from {home.path}")
        else:
            where = Where(
                place.root, place.beneath(name), f"{place.path}/{name}", place.crew, place.local, self._options
            )
            watch = self._runs[name] = RunWatch(name, where, len(self._runs))
            self._homes[name] = place
            place.rota.note(name, watch.slot, None)

    def _forget(self, run_id: str, tally: Tally) -> None:
        watch = self._runs.pop(run_id, None)
        place = self._homes.pop(run_id, None)
        self._live.pop(run_id, None)
        if watch is not None and place is not None:
            place.rota.drop(run_id, watch.slot)
        if watch is not None and watch.run is not None:
            tally.vanished.append(run_id)
        if place is not None and self._followed.get(run_id) is place:
            del self._followed[run_id]
            place.root.close()

    def _look_at_runs(self, place: Place, tally: Tally, now: Reading, thorough: bool) -> None:
        if not place.rota:
            return
        if thorough:
            place.rota.disturb([run_id for run_id in place.rota.runs if self._was_touched(run_id)])
        try:
            with place.root.held(place.relative) as folder:
                due, untouched = place.rota.due(folder, self._turn)
                tally.unchanged += untouched
                gone = [run_id for run_id in due if not self._look_at_run(run_id, place, tally, now)]
        except OSError as error:
            self._note_unlisted(place, error, tally)
            return
        for run_id in gone:
            self._forget(run_id, tally)

    def _was_touched(self, run_id: str) -> bool:
        """Say whether any file of a settled run was written, which its marks do not tell."""
        watch = self._runs[run_id]
        try:
            return watch.settled is not None and not watch.is_untouched()
        except OSError:
            return True

    def _look_at_run(self, run_id: str, place: Place, tally: Tally, now: Reading) -> bool:
        """Look at one run. False: its folder is gone."""
        watch = self._runs[run_id]
        marks = None
        try:
            if not watch.look(tally, now, self._turn):
                return False
            marks = watch.marks()
        except OSError as error:
            tally.reads[ReadResult.IO_ERROR] += 1
            tally.unread[run_id] = ReadResult.IO_ERROR
            tally.complain(watch.where.folder, "read", f"cannot be looked at: {error.strerror}")
        except Exception as error:  # noqa: BLE001 - whatever one run's files hold, the others are looked at
            tally.reads[ReadResult.INVALID] += 1
            tally.unread[run_id] = ReadResult.INVALID
            tally.complain(watch.where.folder, "read", f"a defect of crewd, please report it: {error!r:.200}")
        place.rota.note(run_id, watch.slot, marks)
        if not watch.is_live:
            self._live.pop(run_id, None)
        elif run_id not in self._live:
            self._live[run_id] = watch.where.folder
        return True
