"""From configured roots and globs to sources: done anew now and then, so that new projects appear by themselves."""

import glob
from collections.abc import Iterable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from crewd.host.aside import begin
from crewd.sources.beat import BeatOptions, BeatSource
from crewd.sources.pi_crew import PiCrewOptions, PiCrewSource
from crewd.sources.pi_crew.layout import PROJECT_ROOTS, USER_ROOT
from crewd.sources.source import Source

ROOTS_MAX = 1_000  # of one glob; more is a slip of the pen
PATIENCE = 5.0  # seconds for the patterns of one search; a disk that is merely slow answers in the next one


@dataclass(slots=True, eq=False)
class Expander:
    """Turns patterns into folders, and remembers what it found: a disk that hangs costs only what is new on it.

    Each pattern is asked in a thread of its own, for a single name on a network filesystem whose server is gone holds
    whoever asks for it until that server is back.
    """

    patience: float = PATIENCE
    _found: dict[str, list[str]] = field(default_factory=dict)
    _asked: dict[str, Future[list[str]]] = field(default_factory=dict)

    def ask(self, patterns: Iterable[str]) -> None:
        """Ask all patterns together, and wait for them, but not for ever.

        One that does not answer in time stands for what it stood for last, and is waited for no more.
        """
        begun = [pattern for pattern in _whole(patterns) if pattern not in self._asked]
        self._asked |= {pattern: begin(partial(folders, pattern), "crewd-find") for pattern in begun}
        wait([self._asked[pattern] for pattern in begun], self.patience)
        for pattern, answer in list(self._asked.items()):
            if answer.done():
                self._found[pattern] = self._asked.pop(pattern).result()

    def expand(self, patterns: Iterable[str]) -> list[str]:
        """Turn patterns into absolute folders, each once, in the order of the patterns.

        Before its first answer a name stands for itself, a glob for nothing.
        """
        named = {
            pattern: self._found.get(pattern, [] if glob.has_magic(pattern) else [pattern])
            for pattern in _whole(patterns)
        }
        return list(dict.fromkeys(folder for found in named.values() for folder in found))


def discover(
    pi_crew: Iterable[str],
    beat: Iterable[str],
    known: Iterable[Source] = (),
    pi_crew_options: PiCrewOptions | None = None,
    beat_options: BeatOptions | None = None,
    expander: Expander | None = None,
) -> list[Source]:
    """Make a source for each root that the patterns name now; those in `known` stay the same objects.

    A pattern without `*`, `?` or `[` names a root whether it exists or not, so that one that is missing is told.
    `~` is the home folder. A source of `known` that no pattern names any more is left out: the caller closes it.
    Whoever searches again and again gives the same `expander`, and is held up by no disk.
    """
    expander = expander or Expander()
    pi_crew, beat = tuple(pi_crew), tuple(beat)
    expander.ask((*pi_crew, *beat))
    kept = {source.key: source for source in known}
    options = pi_crew_options or PiCrewOptions()
    roots = without_nested(expander.expand(pi_crew))
    sources: list[Source] = []
    for root in roots:
        source = kept.get(f"pi_crew:{root}") or PiCrewSource(root, options)
        if isinstance(source, PiCrewSource):
            source.leave_to_others(other for other in roots if other != root)
        sources.append(source)
    sources += (kept.get(f"beat:{root}") or BeatSource(root, beat_options) for root in expander.expand(beat))
    return sources


def default_roots(home: str, state: str) -> tuple[list[str], list[str]]:
    """Name what is looked at when nothing is configured: the user root of pi-crew, and the beat root of crewd."""
    return [f"{home.rstrip('/')}/{USER_ROOT}"], [f"{state.rstrip('/')}/beats"]


def _whole(patterns: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(str(Path(pattern).expanduser().absolute()) for pattern in patterns))


def folders(pattern: str) -> list[str]:
    """Name the folders that an absolute pattern means now."""
    if not glob.has_magic(pattern):
        return [_plain(pattern)]
    found = sorted(glob.glob(pattern, include_hidden=True))[:ROOTS_MAX]  # noqa: PTH207 - absolute
    return [_plain(each) for each in found if _is_folder(each)]


def without_nested(roots: Iterable[str]) -> list[str]:
    """Leave out a crew root whose project is a root too: the project's source looks there already."""
    all_roots = list(roots)
    inner = {f"{root}/{below}" for root in all_roots for below in (*PROJECT_ROOTS, USER_ROOT)}
    return [root for root in all_roots if root not in inner]


def _is_folder(path: str) -> bool:
    try:
        return Path(path).is_dir()
    except OSError:  # below a folder that may be listed and not entered
        return False


def _plain(path: str) -> str:
    # Two spellings of one folder are one root: pi-crew itself writes real paths.
    try:
        return str(Path(path).resolve())
    except (OSError, RuntimeError):  # a link that leads to itself: told as a root that cannot be read
        return path
