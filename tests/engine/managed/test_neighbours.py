"""Two crewds on one host may have runs of the same id: neither touches the processes of the other."""

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from crewd.host.attempt_folder import folder_of
from crewd.host.signalling import reap
from tests.engine.managed.workshop import marked, opened, shell

pytestmark = pytest.mark.real_time

STUBBORN = "trap '' TERM; echo begun; while :; do sleep 0.05; done"


def neighbour(state: Path) -> subprocess.Popen[bytes]:
    """A worker of another crewd, of an attempt with the very same name."""
    environ = {
        "PATH": os.environ["PATH"],
        "CREWD_ATTEMPT": "run-1/a/1",
        "CREWD_ATTEMPT_DIR": folder_of(f"{state}/runs", "run-1", "a", 1),
    }
    return subprocess.Popen(["sleep", "60"], env=environ, start_new_session=True)


@pytest.mark.parametrize("taken_over", [False, True])
def test_the_worker_of_another_crewd_with_the_same_names_is_spared(tmp_path: Path, taken_over: bool) -> None:
    async def story() -> None:
        async with opened(tmp_path / "mine") as first:
            await first.submit("run-1", shell("a", STUBBORN))
            await first.until(lambda: first.state_of("run-1", "a") == "running" and marked("run-1/a/1") != [])
            stranger = neighbour(tmp_path / "theirs")
            try:
                if taken_over:
                    await first.close()
                    async with opened(tmp_path / "mine") as second:
                        await second.actions.cancel("run-1", "", reason="", actor="operator:test")
                else:
                    await first.actions.cancel("run-1", "", reason="", actor="operator:test")
                assert marked("run-1/a/1") == [stranger.pid], "all of ours is gone, and the stranger lives"
            finally:
                stranger.kill()
                reap(stranger.pid)
                stranger.returncode = 0

    asyncio.run(asyncio.wait_for(story(), 60))
