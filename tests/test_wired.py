"""What the service manager is told in one sentence; and other settings, taken over whole or not at all."""

import asyncio
import subprocess
import time
from pathlib import Path

import pytest

from crewd import assembly, daemon, tasks
from crewd.config.load import Loaded, load
from crewd.host.systemd import Notifier
from crewd.model.process import ProcessSeen, ProcessState
from crewd.model.run import Run, RunStatus
from crewd.model.snapshot import Health, RunView, Snapshot, WorkerView
from crewd.model.verdict import Level, Reason, Standing, Verdict
from crewd.sources.beat import encode_beat
from crewd.telemetry import logs
from crewd.upkeep import ask_for_time
from crewd.wired import Daemon, sentence

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


@pytest.mark.parametrize("part", ["discoverer", "task_options", "notify_options"])
def test_a_reload_that_fails_late_has_changed_nothing_and_ends_nobody(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings that were read without a complaint, and a defect or a disk that fails where they are taken over."""
    environ = {"HOME": str(tmp_path), "STATE_DIRECTORY": str(tmp_path / "state")}
    said = {"http.enabled": False, "http.socket": False, "log.format": "json", "sources.watch": False}

    def read(**more: object) -> Loaded:
        return load(None, environ, {**said, **more})

    def torn(*_: object) -> object:
        raise OSError("torn")

    # What a daemon does to its whole process is not for that of the tests.
    for name in ("become_subreaper", "keep_descriptors_private"):
        monkeypatch.setattr(tasks, name, lambda: None)
    monkeypatch.setattr(logs, "configure", lambda *_, **__: None)

    async def scene() -> None:
        ready: asyncio.Future[Daemon] = asyncio.get_running_loop().create_future()
        stop = asyncio.Event()
        serving = asyncio.create_task(
            daemon.serve(
                read(),
                environ,
                reload=lambda: read(**{"patrol.interval": "7s"}),
                stop=stop,
                on_ready=ready.set_result,
            )
        )
        await asyncio.wait([serving, ready], return_when=asyncio.FIRST_COMPLETED)
        wired = await ready
        patrol, ring = wired.patrol, wired.tasks
        assert ring is not None
        before = [patrol.options, patrol.thresholds, patrol.lookout.discover, ring.options, wired.loaded]
        with monkeypatch.context() as patch:
            patch.setattr(assembly, part, torn if part != "discoverer" else lambda *_: torn)
            done = await wired.reload()
        assert not done.ok and "OSError: torn" in done.complaints[0].message
        assert "OSError: torn" in wired.refused
        assert patrol.defects["reload"] == 1
        assert not wired.metrics.registry.get_sample_value("crewd_config_last_reload_successful")
        now = [patrol.options, patrol.thresholds, patrol.lookout.discover, ring.options, wired.loaded]
        assert all(one is other for one, other in zip(before, now, strict=True))
        done = await wired.reload()
        assert done.ok and done.changed == ("patrol.interval",)
        assert (wired.refused, patrol.options.interval, ring.options is before[3]) == ("", 7.0, False)
        stop.set()
        assert await serving == 0

    asyncio.run(scene())


@pytest.mark.real_time
@pytest.mark.parametrize(("processes", "state"), [("here", ProcessState.EXITED), ("elsewhere", ProcessState.HIDDEN)])
def test_where_processes_live_elsewhere_a_pid_that_is_gone_is_no_exit(
    processes: str, state: ProcessState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {"HOME": str(tmp_path), "STATE_DIRECTORY": str(tmp_path / "state")}
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    beat = tmp_path / "beats/r1/t1.json"
    beat.parent.mkdir(parents=True)
    beat.write_bytes(encode_beat(run="r1", task="t1", seq=1, at=time.time(), status="running", pid=ended.pid))
    said = {"http.enabled": False, "http.socket": False, "log.format": "json", "sources.watch": False}
    more = {"tasks.enabled": False, "sources.beat_roots": [str(tmp_path / "beats")], "sources.processes": processes}
    monkeypatch.setattr(logs, "configure", lambda *_, **__: None)
    seen: list[ProcessState] = []

    def look(wired: Daemon) -> None:
        seen.extend(each.process.state for each in wired.snapshot().runs["r1"].workers)
        wired.stop.set()

    assert asyncio.run(daemon.serve(load(None, environ, {**said, **more}), environ, on_ready=look)) == 0
    assert seen == [state]


def test_a_start_whose_loop_hangs_asks_for_no_more_time_and_none_asks_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[float] = []
    monkeypatch.setattr(Notifier, "extend_timeout", lambda _, seconds: asked.append(seconds))

    async def scene() -> None:
        asking = asyncio.create_task(ask_for_time(Notifier({}), seconds=0.02, at_most=0.04))
        await asyncio.sleep(0)
        time.sleep(0.1)
        assert asked == [0.02]
        await asking

    asyncio.run(scene())
    assert asked == [0.02] * 4
