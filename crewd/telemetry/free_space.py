"""Free space: how much crewd can still write where its ledger and its daily files lie."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from crewd.host.files import free_bytes

PATIENCE = 10.0  # seconds after which a filesystem does not answer


async def measure(
    paths: Mapping[str, str],
    observe: Callable[[str, int | None], None],
    free: Callable[[str], int] = free_bytes,
    seconds: float = 30.0,
    patience: float = PATIENCE,
) -> None:
    """Tell of each folder, by its name, how many bytes are free; None: nobody knows. Until cancelled.

    Not asked for by a scrape: a network disk that hangs would take /metrics with it, and crewd would look dead.
    """
    threads = ThreadPoolExecutor(len(paths), thread_name_prefix="free space")
    try:
        async with asyncio.TaskGroup() as group:
            for name, path in paths.items():

                async def follow(name: str = name, path: str = path) -> None:
                    while True:
                        look = asyncio.get_running_loop().run_in_executor(threads, free, path)
                        done, _ = await asyncio.wait((look,), timeout=patience)
                        if not done:
                            observe(name, None)
                            await asyncio.wait((look,))
                        observe(name, None if look.exception() is not None else look.result())
                        await asyncio.sleep(seconds)

                group.create_task(follow(), name=f"free space {name}")
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
