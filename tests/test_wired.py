"""What the service manager is told in one sentence."""

import pytest

from crewd.model.process import ProcessSeen, ProcessState
from crewd.model.run import Run, RunStatus
from crewd.model.snapshot import Health, RunView, Snapshot, WorkerView
from crewd.model.verdict import Level, Reason, Standing, Verdict
from crewd.wired import sentence

SOUND = Health()
HEALTHY, STALE, DEAD = Level.HEALTHY, Level.STALE, Level.DEAD


def snapshot(levels: list[list[Level]], letters: int = 0, health: Health = SOUND) -> Snapshot:
    def worker(number: int, level: Level) -> WorkerView:
        standing = Standing(level, Reason.SILENT, "", 0.0)
        seen = ProcessSeen(ProcessState.ALIVE, "")
        return WorkerView(str(number), 1, standing, Verdict(level, Reason.SILENT, "", row=8), 0.0, None, seen)

    runs = {}
    for number, run in enumerate(levels):
        workers = tuple(worker(at, level) for at, level in enumerate(run))
        runs[f"r{number}"] = RunView(
            Run(f"r{number}", "beat", "blue", RunStatus.RUNNING, "running", "/"), "/", workers
        )
    return Snapshot(0.0, health, runs, dead_letters={"blue": (letters, None)} if letters else {})


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (snapshot([]), "0 runs, 0 workers"),
        (snapshot([[HEALTHY]], letters=1), "1 run, 1 worker: 1 healthy; 1 dead letter"),
        (
            snapshot([[HEALTHY, STALE], [], [HEALTHY, DEAD, HEALTHY]], letters=2),
            "3 runs, 5 workers: 1 dead, 1 stale, 3 healthy; 2 dead letters",
        ),
        (snapshot([], health=Health(hold="it slept")), "0 runs, 0 workers; on hold: it slept"),
        (
            snapshot([], health=Health(hold="x", brake="9 died at once", degraded={"ledger": "disk full", "a": "b"})),
            "0 runs, 0 workers; degraded: a, ledger; brake engaged: 9 died at once",
        ),
    ],
)  # fmt: skip
def test_the_sentence_says_how_everyone_is_and_whether_crewd_trusts_itself(told: Snapshot, words: str) -> None:
    assert sentence(told) == words


def test_every_level_has_its_place_in_the_sentence() -> None:
    levels = list(Level)
    assert f"{len(levels)} workers: 1 dead, 1 stale, 1 warn, 1 waiting, 1 unreadable, 1 healthy" in sentence(
        snapshot([levels])
    )
