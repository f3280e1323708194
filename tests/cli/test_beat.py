import json
import os
from pathlib import Path
from typing import Any

import pytest

from crewd.cli.beat import beat
from crewd.host.clock import SystemClock
from crewd.sources.beat import BeatSource
from tests.cli.world import crewd

__all__ = ["beat"]


def beats(folder: Path, *arguments: str, exit_code: int = 0, **environ: str) -> str:
    result = crewd("beat", *arguments, folder=folder, environ=environ)
    assert result.exit_code == exit_code, result.output
    return result.output


def written(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found


def test_a_beat_lies_where_the_daemon_looks_by_itself(tmp_path: Path) -> None:
    assert beats(tmp_path, "--run", "r", "--task", "t") == ""
    path = tmp_path / ".local/state/crewd/beats/r/t.json"
    assert written(path)["seq"] == 1
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_the_source_reads_what_the_command_writes(tmp_path: Path) -> None:
    root = tmp_path / "beats"
    arguments = ["--run", "r", "--task", "t", "--root", str(root), "--busy-for", "10m", "--tool", "bash"]
    beats(tmp_path, *arguments, "--pid", str(os.getpid()), "--crew", "blue", "--task-type", "build")
    source = BeatSource(str(root))
    (run,) = source.look(SystemClock().read()).changed
    source.close()
    (task,) = run.tasks
    assert (run.crew, task.task_type, task.tool) == ("blue", "build", "bash")
    assert task.lease is not None
    assert task.lease.seconds == pytest.approx(600, abs=1)
    assert task.claim is not None
    assert task.claim.pid == os.getpid()
    assert task.claim.start_ticks is not None


def test_the_number_grows_and_what_is_not_said_again_stays(tmp_path: Path) -> None:
    path = tmp_path / "beats/r/t.json"
    where = ["--run", "r", "--task", "t", "--root", str(tmp_path / "beats")]
    beats(tmp_path, *where, "--pid", str(os.getpid()), "--attempt", "2", "--crew", "blue", "--tool", "bash")
    first = written(path)
    beats(tmp_path, *where, "--progress", "half")
    second = written(path)
    assert second["seq"] == 2
    assert second["progress"] == "half"
    for name in ("pid", "start_ticks", "boot_id", "attempt", "crew"):
        assert second[name] == first[name]
    assert "tool" not in second, "a tool is said anew with each beat"


def test_a_task_that_begins_anew_inherits_nothing_but_the_number(tmp_path: Path) -> None:
    path = tmp_path / "beats/r/t.json"
    where = ["--run", "r", "--task", "t", "--root", str(tmp_path / "beats")]
    beats(tmp_path, *where, "--pid", str(os.getpid()), "--attempt", "2", "--status", "failed", "--error", "no")
    beats(tmp_path, *where)
    assert written(path)["seq"] == 2
    assert "pid" not in written(path)
    assert "attempt" not in written(path)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"v":1}', b"\x00" * 100_000])
def test_a_former_beat_that_cannot_be_read_is_no_obstacle(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "beats/r/t.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    beats(tmp_path, "--run", "r", "--task", "t", "--root", str(tmp_path / "beats"))
    assert written(path)["seq"] == 1


def test_run_task_and_folder_can_come_from_the_environment(tmp_path: Path) -> None:
    beats(tmp_path, CREWD_RUN="r", CREWD_TASK="t", CREWD_BEAT_ROOT=str(tmp_path / "b"))
    assert written(tmp_path / "b/r/t.json")["run"] == "r"
    beats(tmp_path, CREWD_RUN="r", CREWD_TASK="t", CREWD_STATE_DIR=str(tmp_path / "s"))
    assert written(tmp_path / "s/beats/r/t.json")["run"] == "r"


@pytest.mark.parametrize(
    ("text", "folder"),
    [
        ('[sources]\nbeat_roots = ["{0}/*", "{0}/mine"]\n', "mine"),
        ('[ledger]\nfolder = "{0}/state"\n', "state/beats"),
        ("this is not TOML", ".local/state/crewd/beats"),
        ('sources = "odd"\n', ".local/state/crewd/beats"),
    ],
)
def test_the_configured_folder_is_used(tmp_path: Path, text: str, folder: str) -> None:
    config = tmp_path / "crewd.toml"
    config.write_text(text.replace("{0}", str(tmp_path)))
    beats(tmp_path, "--run", "r", "--task", "t", CREWD_CONFIG=str(config))
    assert (tmp_path / folder / "r/t.json").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--run", "../x", "--task", "t"], "run must be"),
        (["--run", "r", "--task", "a/b"], "task must be"),
        (["--run", "r", "--task", "t", "--busy-for", "long"], "--busy-for: 'long' is not a duration"),
        (["--run", "r", "--task", "t", "--busy-until", "noon"], "--busy-until: 'noon' is no time"),
        (["--run", "r", "--task", "t", "--busy-until", "2026-01-01", "--busy-for", "1s"], "give one of them"),
        (["--run", "r", "--task", "t", "--pid", "4194303"], "there is no process"),
        (["--task", "t"], "Missing option '--run'"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error_and_writes_nothing(
    tmp_path: Path, arguments: list[str], words: str
) -> None:
    assert words in beats(tmp_path, *arguments, exit_code=2)
    assert not (tmp_path / ".local").exists()


def test_a_folder_that_cannot_be_made_is_told_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    output = beats(tmp_path, "--run", "r", "--task", "t", "--root", str(tmp_path / "file"), exit_code=1)
    assert "cannot be written" in output
    assert "--root" in output


def test_the_file_of_settings_can_be_named(tmp_path: Path) -> None:
    named = tmp_path / "other.toml"
    named.write_text(f'[sources]\nbeat_roots = ["{tmp_path}/here"]\n')
    beats(tmp_path, "--run", "r", "--task", "t", "--config", str(named))
    assert (tmp_path / "here/r/t.json").exists()
    for wrong in (tmp_path / "none.toml", tmp_path):
        assert "--config" in beats(tmp_path, "--run", "r", "--task", "t", "--config", str(wrong), exit_code=2)
