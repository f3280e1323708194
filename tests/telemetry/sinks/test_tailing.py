"""The path of a line to whoever reads along: real followers on real day files, through midnight and worse."""

import json
import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from crewd.telemetry.sinks.day_file import DayFile
from tests.telemetry.sinks.tailing import MIDNIGHT, PATIENCE, World, following, until
from tests.telemetry.sinks.world import DAY, NOON, names

QUICK = ("-s", "0.01", "--max-unchanged-stats=0")  # looks a hundred times a second, instead of once in five

needs_tail = pytest.mark.skipif(shutil.which("tail") is None, reason="tail is not installed (Debian: coreutils)")


@needs_tail
@pytest.mark.real_time
def test_tail_f_on_the_link_tells_every_line_once_through_many_midnights(tmp_path: Path) -> None:
    world = World(tmp_path / "logs")
    world.tell(3, NOON)
    with following(["tail", "-n", "+1", "-F", *QUICK, str(world.link)], tmp_path / "out") as told:
        for day in range(8):
            world.tell(200, MIDNIGHT + day * DAY - 0.001)  # a burst at the last moment, and another at the first
            world.tell(200, MIDNIGHT + day * DAY)
            world.clean_up()
            until(lambda: told()[-1:] == [world.log.last_seq()])
        assert told() == world.everything
    assert "events-2026-01-07.jsonl.gz" in names(world.folder) and "events-2026-01-08.jsonl" in names(world.folder)


@needs_tail
@pytest.mark.real_time
def test_a_clock_set_back_over_midnight_makes_no_line_come_twice_or_never(tmp_path: Path) -> None:
    world = World(tmp_path / "logs")
    world.tell(3, MIDNIGHT - 1)
    with following(["tail", "-n", "+1", "-F", *QUICK, str(world.link)], tmp_path / "out") as told:
        for moment in (MIDNIGHT + 1, MIDNIGHT - 30, MIDNIGHT - 29, MIDNIGHT + 2, MIDNIGHT + DAY, MIDNIGHT):
            world.tell(5, moment)
            until(lambda: told()[-1:] == [world.log.last_seq()])
        assert told() == world.everything


@needs_tail
@pytest.mark.real_time
def test_a_crash_in_the_middle_of_a_line_may_repeat_lines_and_loses_none(tmp_path: Path) -> None:
    world = World(tmp_path / "logs")
    world.tell(20, MIDNIGHT - 10)
    with following(["tail", "-n", "+1", "-F", *QUICK, str(world.link)], tmp_path / "out") as told:
        until(lambda: told() == world.everything)
        with world.link.open("ab") as torn:
            torn.write(b'{"v":1,"seq":21,"ts":"2026-01-0')  # the machine lost power
        until(lambda: (tmp_path / "out").read_bytes().endswith(b"2026-01-0"))
        world.crash()
        world.tell(5, MIDNIGHT - 1)
        world.tell(5, MIDNIGHT)
        until(lambda: told()[-1:] == [world.log.last_seq()])
        assert set(told()) == set(world.everything)


@pytest.mark.real_time
@pytest.mark.parametrize(("linger", "lost"), [(1.0, []), (0.0, [2])])
def test_a_follower_that_is_held_up_between_its_two_looks_loses_nothing_because_the_link_lingers(
    tmp_path: Path, linger: float, lost: list[int]
) -> None:
    """`tail -F` on a link: did the old file grow? where does the link lead? It never looks at the old file again."""
    file = DayFile(str(tmp_path), "events", linger)
    file.open()
    file.write(b'{"seq":1}\n', NOON, NOON)
    link = tmp_path / "events-current.jsonl"
    looked, told = threading.Event(), bytearray()

    def midnight() -> None:
        looked.wait(PATIENCE)
        file.write(b'{"seq":2}\n', NOON, NOON)  # the last line of the day, and at once the first of the next
        file.write(b'{"seq":3}\n', NOON + DAY, NOON + DAY)

    writer = threading.Thread(target=midnight)
    writer.start()
    old = os.open(link, os.O_RDONLY)
    while b'"seq":3' not in told:
        told += os.read(old, 65536)  # nothing more is in it
        looked.set()
        writer.join(0.1 if linger else PATIENCE)  # held up here
        new = os.open(link, os.O_RDONLY)
        if os.path.sameopenfile(new, old):
            os.close(new)
        else:
            os.close(old)
            old = new
    os.close(old)
    writer.join()
    file.close()
    assert [seq for seq in (1, 2, 3) if b'{"seq":%d}' % seq not in told] == lost


@needs_tail
@pytest.mark.real_time
@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed (Debian: jq)")
def test_jq_behind_tail_takes_what_it_understands_and_goes_on(tmp_path: Path) -> None:
    world = World(tmp_path / "logs")
    world.tell(3, MIDNIGHT - 10)
    with world.link.open("ab") as torn:
        torn.write(b'{"v":1,"se')
    shell = f"exec tail -n +1 -F -s 0.01 {world.link} | jq --unbuffered -cR 'fromjson? | {{seq}}'"
    output = tmp_path / "out"
    with output.open("wb") as file:
        pipe = subprocess.Popen(["bash", "-c", shell], stdout=file, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        world.crash()
        world.tell(5, MIDNIGHT - 5)
        until(lambda: b'{"seq":8}' in output.read_bytes())
        assert {json.loads(line)["seq"] for line in output.read_bytes().splitlines()} == set(world.everything)
    finally:
        os.killpg(pipe.pid, 15)
        pipe.wait(PATIENCE)
