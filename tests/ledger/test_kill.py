"""kill -9 at any moment: what a process was told is durable is there for its successor."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from crewd.ledger.reader import Reader
from tests.ledger.values import assert_sound

ROOT = Path(__file__).parents[2]


def commit_until_killed(folder: Path, lines: int) -> dict[int, tuple[str, int]]:
    """Let a process commit, kill it after it told of `lines` events; returns all that it was able to tell."""
    command = [sys.executable, "-m", "tests.ledger.committer", str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        # Nothing is done between the last line and the kill, so the commits under way are cut anywhere.
        told = [child.stdout.readline() for _ in range(lines)]
        child.kill()
        told += child.stdout.readlines()
        errors = child.stderr.read()
    assert errors == ""
    whole = [line.split() for line in told if line.endswith("\n")]
    return {int(seq): (counter, int(by)) for seq, counter, by in whole}


def kill_again_and_again(folder: Path, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    acknowledged: dict[int, tuple[str, int]] = {}
    for kill in range(kills):
        told = commit_until_killed(folder, chance.randint(1, 250))
        assert not told.keys() & acknowledged.keys(), "a number was given twice"
        acknowledged |= told
        try:
            last = assert_sound(folder)
            with Reader.open(folder) as reader:
                events = reader.events(limit=1_000_000)
            found = {event.seq: (event.run_id, event.data.get("by", 0)) for event in events}
            assert acknowledged.items() <= found.items()
            assert last >= max(acknowledged)
        except BaseException as error:
            error.add_note(f"seed {seed}, kill {kill}")
            raise


def test_a_killed_process_lost_nothing_it_was_told_is_durable(tmp_path: Path) -> None:
    kill_again_and_again(tmp_path, kills=3, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 8))
def test_many_killed_processes_lost_nothing(tmp_path: Path, seed: int) -> None:
    kill_again_and_again(tmp_path, kills=12, seed=seed)
