"""What helps a worker that does not get on: a table."""

import pytest

from crewd.detection.remedies import BY_LEVEL, OTHER_DEATHS, OTHER_WAITS, remedy
from crewd.detection.wedge import REMEDIES
from crewd.model.verdict import Level, Reason, Wedge


@pytest.mark.parametrize(
    ("level", "reason", "wedge", "words"),
    [
        (Level.HEALTHY, Reason.BEATING, None, ""),
        (Level.WARN, Reason.SILENT, None, BY_LEVEL[Level.WARN]),
        (Level.WARN, Reason.STOPPED, Wedge.STOPPED, REMEDIES[Wedge.STOPPED]),
        (Level.STALE, Reason.SILENT, Wedge.UNKNOWN, BY_LEVEL[Level.STALE]),
        (Level.STALE, Reason.SILENT, Wedge.AUTH_EXPIRED, REMEDIES[Wedge.AUTH_EXPIRED]),
        (Level.DEAD, Reason.EXITED, None, BY_LEVEL[Level.DEAD]),
        (Level.DEAD, Reason.EXITED, Wedge.CPU_LOOP, BY_LEVEL[Level.DEAD]),
        (Level.DEAD, Reason.HUNG, None, OTHER_DEATHS[Reason.HUNG]),
        (Level.DEAD, Reason.HUNG, Wedge.CPU_LOOP, REMEDIES[Wedge.CPU_LOOP]),
        (Level.DEAD, Reason.PRESUMED, None, OTHER_DEATHS[Reason.PRESUMED]),
        (Level.UNREADABLE, Reason.UNREADABLE, None, BY_LEVEL[Level.UNREADABLE]),
        (Level.WAITING, Reason.HUMAN, None, BY_LEVEL[Level.WAITING]),
        (Level.WAITING, Reason.THROTTLED, None, OTHER_WAITS[Reason.THROTTLED]),
        (Level.WAITING, Reason.PARKED, None, OTHER_WAITS[Reason.PARKED]),
        ("a new level", "silent", None, ""),
        ("stale", "a new reason", None, ""),
        ("stale", "silent", "a new wedge", ""),
    ],
)
def test_what_helps_is_said_of_whoever_needs_help(level: str, reason: str, wedge: str | None, words: str) -> None:
    assert remedy(level, reason, wedge) == words
