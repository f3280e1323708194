"""The process of a daemon that serves one `crewd run`: it ends when whoever started it does.

Started as `python -m crewd.cli.embedded_daemon STATE_FOLDER [CONFIG]`. Says "ready" on stdout once it serves, and
stops as on SIGTERM when its stdin is closed: by its starter, or by the kernel if that one was killed.
"""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from crewd.cli.options import environment
from crewd.cli.settling import settle_process
from crewd.errors import CrewdError

READY = b"ready\n"


def main(arguments: Sequence[str]) -> int:
    """Serve until stdin ends; returns the exit code."""
    state, config = Path(arguments[0]), Path(arguments[1]) if len(arguments) > 1 else None
    try:
        return asyncio.run(_serve(state, config))
    except CrewdError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


async def _serve(state: Path, config: Path | None) -> int:
    from crewd import daemon
    from crewd.config.load import load

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: _UntilEnd(stop), sys.stdin.buffer)

    def ready(_: object) -> None:
        settle_process()
        with open(1, "wb", buffering=0, closefd=False) as out:
            out.write(READY)

    # A port of its own: the usual one is for a daemon that stays.
    overrides = {"ledger.folder": str(state), "http.port": 0}
    try:
        return await daemon.serve(load(config, environment(), overrides), environment(), on_ready=ready, stop=stop)
    finally:
        transport.close()


class _UntilEnd(asyncio.Protocol):
    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop.set()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
