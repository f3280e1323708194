"""A beat file is the worker's own: whatever stands in it, the runs of others are looked at."""

from pathlib import Path

import pytest

from crewd.host.attempt_folder import BEAT
from crewd.model.moment import Reading
from crewd.model.process import Identity
from crewd.model.run import Run, RunStatus, Task, TaskStatus
from crewd.sources.managed.source import ManagedSource, View, Watched

NOBODY = Identity(pid=2**22 - 3, start_ticks=1, boot_id="b", pid_namespace=1)


def run(run_id: str) -> Run:
    task = Task(task_id="a", status=TaskStatus.RUNNING, status_text="running", attempt=1)
    return Run(
        run_id=run_id,
        runtime="managed",
        crew="shop",
        status=RunStatus.RUNNING,
        status_text="running",
        folder="",
        tasks=(task,),
    )


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff\xfe", b"[" * 60_000, b'{"x":' + b"[" * 60_000, b'{"busy_seconds":-1}', b'{"busy_seconds":1e999}'],
    ids=["empty", "no text", "deep list", "deep inside", "negative", "endless"],
)
def test_it_announces_nothing_and_hides_nobody(tmp_path: Path, body: bytes) -> None:
    (tmp_path / BEAT).write_bytes(body)
    source = ManagedSource(str(tmp_path))
    watched = Watched("a", str(tmp_path), NOBODY, output_counts=False)
    source.publish({"bad": View(run("bad"), (watched,)), "good": View(run("good"))})
    look = source.look(Reading(1.0, 1.0, 1.0))
    assert [each.run_id for each in look.changed] == ["bad", "good"]
    assert look.changed[0].tasks[0].lease is None


def test_it_announces_how_long_it_will_be_silent(tmp_path: Path) -> None:
    (tmp_path / BEAT).write_bytes(b'{"busy_seconds": 90, "tool": "make"}')
    source = ManagedSource(str(tmp_path))
    source.publish({"r": View(run("r"), (Watched("a", str(tmp_path), NOBODY, output_counts=False),))})
    (seen,) = source.look(Reading(1.0, 1.0, 1.0)).changed
    assert seen.tasks[0].lease is not None
    assert (seen.tasks[0].lease.seconds, seen.tasks[0].lease.tool) == (90, "make")
