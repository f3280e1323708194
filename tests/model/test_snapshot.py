"""The picture of a round, as whoever asks reads it."""

import pytest

from crewd.model.process import HIDDEN
from crewd.model.run import Run, RunStatus
from crewd.model.snapshot import EMPTY, Health, RunView, Snapshot, WorkerView
from crewd.model.verdict import Level, Reason, Standing, Verdict

RUN = Run("run-1", "beat", "night", RunStatus.RUNNING, "running", "/crew/run-1")


def view(heard_at: float) -> tuple[RunView, WorkerView]:
    worker = WorkerView("a", 1, Standing(), Verdict(Level.HEALTHY, Reason.BEATING, "", 6), heard_at, None, HIDDEN)
    return RunView(RUN, "beat:/crew", (worker,)), worker


@pytest.mark.parametrize(
    ("heard_at", "observed", "silence"),
    [
        (100.0, {"beat:/crew": 142.0}, 42.0),
        (100.0, {"beat:/crew": 100.0}, 0.0),
        (160.0, {"beat:/crew": 100.0}, 0.0),  # announced silence
        (100.0, {"beat:/elsewhere": 500.0}, 0.0),  # its root was never looked at
        (100.0, {}, 0.0),
    ],
)
def test_silence_is_the_distance_on_the_observed_clock_of_its_root(
    heard_at: float, observed: dict[str, float], silence: float
) -> None:
    assert Snapshot(0.0, Health(), observed=observed).silence(*view(heard_at)) == silence


def test_before_the_first_round_nothing_is_believed() -> None:
    assert not EMPTY.runs
    assert EMPTY.silence(*view(100.0)) == 0.0
