"""Which folders of ended runs are taken away, and that nobody's who is at work is."""

import os
import time
from collections.abc import Container
from pathlib import Path

from crewd.engine.managed.retention import clean

NOW = time.time()
DAY = 86_400.0


def made(root: Path, name: str, days_ago: float, size: int = 1) -> Path:
    folder = root / name / "a" / "1"
    folder.mkdir(parents=True)
    (folder / "stdout").write_bytes(os.urandom(size))
    at = NOW - days_ago * DAY
    for each in (folder, folder.parent, folder.parent.parent):
        os.utime(each, (at, at))
    return root / name


def test_the_old_go_and_the_new_stay(tmp_path: Path) -> None:
    old, new, active = made(tmp_path, "old", 10), made(tmp_path, "new", 1), made(tmp_path, "active", 10)
    assert clean(str(tmp_path), {"active"}, NOW - 7 * DAY, 2**30) == 1
    assert not old.exists()
    assert new.exists()
    assert active.exists()


def test_where_they_are_too_many_the_oldest_go(tmp_path: Path) -> None:
    old, new = made(tmp_path, "old", 2, 200_000), made(tmp_path, "new", 1, 200_000)
    assert clean(str(tmp_path), (), NOW - 7 * DAY, 300_000) == 1
    assert not old.exists()
    assert new.exists()


def test_a_run_that_is_redriven_while_folders_are_sized_keeps_its_own(tmp_path: Path) -> None:
    class Redriven(Container[str]):
        """Not at work when it was listed, and at work ever after."""

        asked = 0

        def __contains__(self, name: object) -> bool:
            self.asked += 1
            return self.asked > 1

    folder = made(tmp_path, "old", 10)
    assert clean(str(tmp_path), Redriven(), NOW - 7 * DAY, 2**30) == 0
    assert folder.exists()


def test_where_no_attempt_was_ever_made_there_is_nothing_to_do(tmp_path: Path) -> None:
    assert clean(str(tmp_path / "none"), (), NOW, 0) == 0
