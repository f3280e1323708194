"""From configured roots and globs to sources: done anew now and then, so that new projects appear by themselves."""

import glob
from collections.abc import Iterable
from pathlib import Path

from crewd.sources.beat import BeatOptions, BeatSource
from crewd.sources.pi_crew import PiCrewOptions, PiCrewSource
from crewd.sources.pi_crew.layout import PROJECT_ROOTS, USER_ROOT
from crewd.sources.source import Source

ROOTS_MAX = 1_000  # of one glob; more is a slip of the pen


def discover(
    pi_crew: Iterable[str],
    beat: Iterable[str],
    known: Iterable[Source] = (),
    pi_crew_options: PiCrewOptions | None = None,
    beat_options: BeatOptions | None = None,
) -> list[Source]:
    """Make a source for each root that the patterns name now; those in `known` stay the same objects.

    A pattern without `*`, `?` or `[` names a root whether it exists or not, so that one that is missing is told.
    `~` is the home folder. A source of `known` that no pattern names any more is left out: the caller closes it.
    """
    kept = {source.key: source for source in known}
    options = pi_crew_options or PiCrewOptions()
    roots = without_nested(expand(pi_crew))
    sources: list[Source] = []
    for root in roots:
        source = kept.get(f"pi_crew:{root}") or PiCrewSource(root, options)
        if isinstance(source, PiCrewSource):
            source.leave_to_others(other for other in roots if other != root)
        sources.append(source)
    sources += (kept.get(f"beat:{root}") or BeatSource(root, beat_options) for root in expand(beat))
    return sources


def default_roots(home: str, state: str) -> tuple[list[str], list[str]]:
    """Name what is looked at when nothing is configured: the user root of pi-crew, and the beat root of crewd."""
    return [f"{home.rstrip('/')}/{USER_ROOT}"], [f"{state.rstrip('/')}/beats"]


def expand(patterns: Iterable[str]) -> list[str]:
    """Turn patterns into absolute folders, each once, in the order of the patterns."""
    roots: dict[str, None] = {}
    for pattern in patterns:
        whole = str(Path(pattern).expanduser().absolute())
        if not glob.has_magic(whole):
            roots[_plain(whole)] = None
            continue
        for found in sorted(glob.glob(whole, include_hidden=True))[:ROOTS_MAX]:  # noqa: PTH207 - absolute
            if _is_folder(found):
                roots[_plain(found)] = None
    return list(roots)


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
