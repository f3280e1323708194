"""Free space: what a filesystem that answers, refuses or hangs is told as."""

import asyncio
import threading

import pytest

from crewd.telemetry import free_space

pytestmark = pytest.mark.real_time


async def _measured(free: object, *paths: str, times: int) -> list[tuple[str, int | None]]:
    told: list[tuple[str, int | None]] = []
    enough = asyncio.Event()

    def observe(folder: str, amount: int | None) -> None:
        told.append((folder, amount))
        if len(told) >= times:
            enough.set()

    folders = {path.strip("/"): path for path in paths}
    async with asyncio.timeout(10):
        task = asyncio.create_task(free_space.measure(folders, observe, free, seconds=0.01, patience=0.05))  # type: ignore[arg-type]  # a plain function does
        await enough.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return told


def test_every_folder_is_measured_again_and_again() -> None:
    amounts = iter(range(100, 10_000))
    told = asyncio.run(_measured(lambda path: next(amounts), "/state", times=3))
    assert told[:3] == [("state", 100), ("state", 101), ("state", 102)]


def test_a_folder_that_is_not_there_is_not_known_until_it_is() -> None:
    answers = iter([FileNotFoundError(2, "no such folder"), 7, 7, 7, 7, 7, 7, 7])

    def free(path: str) -> int:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    assert asyncio.run(_measured(free, "/logs", times=2))[:2] == [("logs", None), ("logs", 7)]


def test_a_disk_that_hangs_is_not_known_and_keeps_nobody_else_waiting() -> None:
    back = threading.Event()

    def free(path: str) -> int:
        if path == "/logs":
            back.wait()
        return 7

    async def all_of_it() -> list[tuple[str, int | None]]:
        asyncio.get_running_loop().call_later(0.5, back.set)
        return await _measured(free, "/state", "/logs", times=80)

    told = asyncio.run(all_of_it())
    assert [amount for folder, amount in told if folder == "logs"][:2] == [None, 7]
    assert told.index(("logs", None)) < told.index(("logs", 7))
    between = told[told.index(("logs", None)) : told.index(("logs", 7))]
    assert between.count(("state", 7)) > 3
