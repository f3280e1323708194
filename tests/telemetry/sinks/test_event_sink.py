"""The event sink, interrupted and hindered at every point that a disk has."""

import errno
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from crewd.telemetry.redact import Redactor
from crewd.telemetry.sinks.event_sink import EventSink, SourceFailed
from crewd.telemetry.sinks.options import SinkOptions
from crewd.telemetry.sinks.tally import SinkTally, reason_of
from tests.fakes.clock import FakeClock
from tests.telemetry.sinks.world import DAY, NOON, Log, names, seqs


class World:
    """One sink over one ledger; `restart` is what a kill -9 leaves."""

    def __init__(self, folder: Path, batch: int = 10, secrets: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.log = Log()
        self.clock = FakeClock(wall=NOON)
        self.batch = batch
        self.redactor = Redactor(secrets)
        self.restart()

    def restart(self) -> None:
        self.tally = SinkTally("events", has_backlog=True)
        options = SinkOptions(str(self.folder), batch=self.batch, linger=1e-6)
        self.sink = EventSink(options, self.log, self.clock, self.redactor, self.tally)

    def drain(self) -> None:
        while self.sink.pump():
            pass

    def file(self, day: str = "2026-01-01") -> Path:
        return self.folder / f"events-{day}.jsonl"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "logs")
    yield made
    made.sink.file.close()


def test_every_event_becomes_one_line_in_order(world: World) -> None:
    world.log.add(25)
    world.drain()
    assert seqs(world.file()) == list(range(1, 26))
    assert world.tally.figures.records == 25 and world.tally.figures.lag == 0
    assert world.tally.figures.bytes == world.file().stat().st_size
    record = json.loads(world.file().read_text().splitlines()[0])
    assert record["type"] == "task.started" and record["ts"] == "2026-01-01T12:00:00.000Z" and record["v"] == 1


def test_the_current_link_leads_to_the_day_that_is_written(world: World) -> None:
    world.log.add(1)
    world.log.add(1, NOON + DAY)
    world.drain()
    link = world.folder / "events-current.jsonl"
    assert link.is_symlink() and link.readlink() == Path("events-2026-01-02.jsonl")
    assert seqs(world.file()) == [1] and seqs(world.file("2026-01-02")) == [2]


def test_each_event_lies_in_the_file_of_its_own_day_also_when_written_late(world: World) -> None:
    for day in range(4):
        world.log.add(3, NOON + day * DAY)
    world.clock.advance(10 * DAY)
    world.drain()
    for day in range(4):
        first = day * 3 + 1
        assert seqs(world.file(f"2026-01-0{day + 1}")) == [first, first + 1, first + 2]


def test_a_clock_set_back_never_reopens_a_day_that_was_left(world: World) -> None:
    world.log.add(1)
    world.log.add(1, NOON + DAY)
    world.clock.advance(DAY)
    world.drain()
    left = world.file().read_bytes()
    world.log.add(1, NOON)
    world.clock.step(-DAY)
    world.drain()
    assert world.file().read_bytes() == left
    assert seqs(world.file("2026-01-02")) == [2, 3]


def test_a_day_in_the_far_future_is_left_again_once_the_clock_is_right(world: World) -> None:
    world.log.add(1, NOON + 900 * DAY)
    world.drain()
    world.log.add(1, NOON + DAY)
    world.clock.advance(DAY)
    world.drain()
    assert seqs(world.file("2026-01-02")) == [2]
    world.restart()
    world.log.add(1, NOON + DAY)
    world.drain()
    assert seqs(world.file("2026-01-02")) == [2, 3]


def test_from_a_day_in_the_far_future_no_way_leads_back_to_a_day_that_was_left(world: World) -> None:
    world.log.add(1)
    world.log.add(1, NOON + 900 * DAY)
    world.drain()
    left = world.file().read_bytes()
    world.log.add(1)
    world.drain()
    assert world.file().read_bytes() == left
    assert seqs(world.folder / "events-2028-06-19.jsonl") == [2, 3]


def test_a_restart_goes_on_behind_the_last_line(world: World) -> None:
    world.log.add(13)
    world.drain()
    world.restart()
    world.log.add(4)
    world.drain()
    assert seqs(world.file()) == list(range(1, 18))


def test_a_side_file_remembers_the_position_when_the_day_file_is_taken_away(world: World) -> None:
    world.log.add(5)
    world.drain()
    world.sink.file.close()
    world.file().unlink()
    world.restart()
    world.log.add(2)
    world.drain()
    assert seqs(world.file()) == [6, 7]


def test_a_day_file_taken_away_while_it_is_open_is_begun_again(world: World) -> None:
    world.log.add(5)
    world.drain()
    world.file().unlink()
    world.log.add(2)
    world.drain()
    assert seqs(world.file()) == [6, 7]


@pytest.mark.parametrize("damage", [b"", b"{", b'{"seq": "x"}', b'{"seq": -', b"\xff\xfe"])
def test_a_damaged_side_file_costs_nothing_while_the_day_file_is_there(world: World, damage: bytes) -> None:
    world.log.add(5)
    world.drain()
    (world.folder / "events-position.json").write_bytes(damage)
    world.restart()
    world.log.add(1)
    world.drain()
    assert seqs(world.file()) == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_cut_at_any_byte_nothing_is_lost_and_nothing_torn_is_left(world: World) -> None:
    world.log.add(3)
    world.drain()
    world.sink.file.close()
    whole = world.file().read_bytes()
    ends = [index + 1 for index, byte in enumerate(whole) if byte == ord("\n")]
    (world.folder / "events-position.json").unlink()
    for cut in range(len(whole) + 1):
        world.file().write_bytes(whole[:cut])
        torn = world.folder / "events-2026-01-01.jsonl.torn"
        torn.unlink(missing_ok=True)
        world.restart()
        world.drain()
        world.sink.file.close()
        (world.folder / "events-position.json").unlink(missing_ok=True)
        assert seqs(world.file()) == [1, 2, 3], cut
        is_torn = cut not in (0, *ends)
        assert torn.exists() is is_torn and world.tally.figures.errors.get("torn_tail", 0) == is_torn, cut


def test_a_line_that_someone_damaged_is_passed_over_to_the_one_before(world: World) -> None:
    world.log.add(3)
    world.drain()
    world.sink.file.close()
    (world.folder / "events-position.json").unlink()
    with world.file().open("ab") as file:
        file.write(b'garbage\n{"seq": null}\n\x00\x00\n')
    world.restart()
    world.log.add(1)
    world.drain()
    assert world.file().read_bytes().splitlines()[-1].startswith(b'{"v":1,"seq":4,')


def test_lines_longer_than_one_look_back_are_found_whole(world: World) -> None:
    world.log.add(2, text="x y " * 60_000)
    world.drain()
    (world.folder / "events-position.json").unlink()
    world.restart()
    world.log.add(1)
    world.drain()
    assert seqs(world.file()) == [1, 2, 3]


def test_a_full_disk_loses_nothing_and_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.log.add(25)
    world.sink.pump()
    real, full = world.sink.file.write, True

    def write(data: bytes, wall: float, now: float) -> None:
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(data, wall, now)

    monkeypatch.setattr(world.sink.file, "write", write)
    with pytest.raises(OSError, match="No space") as failure:
        world.sink.pump()
    assert reason_of(failure.value) == "no_space"
    assert world.tally.figures.lag > 0  # told while it cannot write, not only afterwards
    full = False
    world.drain()
    assert seqs(world.file()) == list(range(1, 26))


def test_after_a_failure_the_file_says_what_is_in_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.log.add(5)
    real, broken = world.sink.file.write, True

    def write(data: bytes, wall: float, now: float) -> None:
        real(data, wall, now)
        if broken:
            raise OSError(errno.EIO, "Input/output error")  # as a failed sync does, with the lines in the file

    monkeypatch.setattr(world.sink.file, "write", write)
    with pytest.raises(OSError, match="Input/output"):
        world.sink.pump()
    broken = False
    world.drain()
    assert seqs(world.file()) == [1, 2, 3, 4, 5]


def test_a_ledger_that_cannot_be_read_is_asked_again(world: World) -> None:
    world.log.add(3)
    world.log.broken = True
    with pytest.raises(SourceFailed, match="busy"):
        world.sink.pump()
    world.log.broken = False
    world.drain()
    assert seqs(world.file()) == [1, 2, 3]


def test_a_younger_ledger_is_told_from_its_beginning(world: World) -> None:
    world.log.add(9)
    world.drain()
    world.log.kept.clear()
    world.log.add(2)
    world.restart()
    world.drain()
    assert seqs(world.file()) == [1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2]
    assert world.tally.figures.errors == {"position_ahead": 1}
    world.restart()
    world.log.add(1)
    world.drain()
    assert seqs(world.file())[-3:] == [1, 2, 3]


def test_secrets_do_not_reach_the_file(tmp_path: Path) -> None:
    world = World(tmp_path / "logs", secrets=("hunter2-9",))
    world.log.add(1, error="Bearer abcdefghijk", password="p", note="hunter2-9")
    world.drain()
    world.sink.file.close()
    text = world.file().read_text()
    assert "abcdefghijk" not in text and "hunter2-9" not in text and '"password":"***"' in text


def test_files_are_for_their_owner_alone(world: World) -> None:
    world.log.add(1)
    world.drain()
    assert world.file().stat().st_mode & 0o777 == 0o600
    assert world.folder.stat().st_mode & 0o777 == 0o700
    assert names(world.folder) == {"events-2026-01-01.jsonl", "events-position.json"}


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, "no_space"),
        (errno.EDQUOT, "no_space"),
        (errno.EROFS, "permission"),
        (errno.EACCES, "permission"),
        (errno.EIO, "io_error"),
    ],
)
def test_errors_of_the_disk_have_names(number: int, reason: str) -> None:
    assert reason_of(OSError(number, "x")) == reason


def test_other_errors_are_unexpected() -> None:
    assert reason_of(ValueError("x")) == "unexpected"
