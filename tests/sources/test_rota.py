"""Whose turn it is: all that moved, all without marks, and each run's rarer files at a turn of its own."""

from collections.abc import Iterable, Mapping

from crewd.host.files import Folder, Mark
from crewd.sources.pi_crew.rota import Marks, Rota

EVERY = 4


class Disk(Folder):
    """A folder in which exactly the named files have moved, and which knows how many it was asked for."""

    def __init__(self, *moved: bytes) -> None:
        super().__init__(-1)
        self._moved = moved
        self.asked = 0

    def moved(self, watched: Mapping[str, Iterable[Mark]]) -> list[str]:
        names = {key: [name for name, *_ in marks] for key, marks in watched.items()}
        self.asked += sum(map(len, names.values()))
        return [key for key, each in names.items() if any(name in self._moved for name in each)]


def mark(name: str) -> Mark:
    return (name.encode(), 1, 1, 1)


def rota_of(runs: int) -> Rota:
    rota = Rota(EVERY)
    for number in range(runs):
        name = f"run{number}"
        rota.note(name, number, Marks((mark(f"{name}/tasks"),), (mark(f"{name}/side"),)))
    return rota


def test_a_run_without_marks_is_due_each_time_until_it_has_some() -> None:
    rota = Rota(EVERY)
    rota.note("run", 0, None)
    assert [rota.due(Disk(), turn) for turn in range(2)] == [(["run"], 0)] * 2
    rota.note("run", 0, Marks((mark("tasks"),)))
    assert rota.due(Disk(), 2) == ([], 1)
    rota.note("run", 0, None)
    assert rota.due(Disk(), 3) == (["run"], 0)


def test_what_moved_is_due_and_the_others_are_counted() -> None:
    assert rota_of(3).due(Disk(b"run1/tasks"), 1) == (["run1"], 2)


def test_rare_files_are_asked_for_once_in_so_many_turns_and_not_all_in_one() -> None:
    rota = rota_of(8)
    found = []
    for turn in range(EVERY):
        disk = Disk(*(f"run{number}/side".encode() for number in range(8)))
        due, untouched = rota.due(disk, turn)
        assert (len(due), untouched, disk.asked) == (2, 6, 8 + 2)
        found += due
    assert sorted(found) == [f"run{number}" for number in range(8)]


def test_a_run_that_moved_in_both_is_due_once() -> None:
    due, _ = rota_of(1).due(Disk(b"run0/tasks", b"run0/side"), 0)
    assert due == ["run0"]


def test_a_disturbed_run_is_due_and_a_forgotten_one_is_not() -> None:
    rota = rota_of(2)
    rota.disturb(["run0"])
    assert rota.due(Disk(), 1) == (["run0"], 1)
    rota.drop("run0", 0)
    assert rota.due(Disk(), 1) == ([], 1)
    assert rota.runs == ["run1"]
    rota.drop("run1", 1)
    assert not rota
