"""The inbox: a folder into which run files are put. What was accepted or refused is moved aside, with the reasons.

A file is taken once it has not changed between two looks, so that one that is still being copied is left alone.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from crewd.config.run_file import RunRefused, format_of, read_text
from crewd.engine.managed.actions import TaskActions
from crewd.errors import CrewdError
from crewd.host.files import Root, Signature, write_atomically
from crewd.host.inbox_folder import Found, look, move
from crewd.ledger.errors import LedgerFailed

FILE_MAX = 4 * 2**20
log = structlog.get_logger("crewd.inbox")


@dataclass(slots=True, eq=False)
class Inbox:
    """Takes run files out of one folder."""

    folder: str
    actions: TaskActions
    every: float = 1.0
    complain: Callable[[str], None] = lambda words: None
    _seen: dict[str, Signature] = field(default_factory=dict)

    async def run(self) -> None:
        """Look for files until cancelled."""
        complaint = ""
        while True:
            try:
                await self.look()
                complaint = ""
            except OSError as error:
                if complaint != str(error):  # told once, not with every look
                    complaint = str(error)
                    log.warning("inbox.unreadable", folder=self.folder, error=complaint)
            await asyncio.sleep(self.every)

    async def look(self) -> None:
        """One look: take every file that has not changed since the last one."""
        found = await asyncio.to_thread(look, self.folder)
        for each in found:
            if self._seen.get(each.name) == each.signature:
                await self._take_alone(each)
        self._seen = {each.name: each.signature for each in found}

    async def _take_alone(self, found: Found) -> None:
        """Take one file; whatever is wrong with it stands in the way of no other."""
        try:
            await self._take(found)
        except OSError as error:
            log.warning("inbox.not_moved", file=shown(found.name), error=shown(str(error)))
        except Exception:
            self.actions.scheduler.conductor.defects["inbox"] += 1
            log.exception("inbox.defect", file=shown(found.name))

    async def _take(self, found: Found) -> None:
        # Named after this very file: taken twice, because crewd ended before it was moved, it is one run.
        key = f"inbox:{found.name}:{found.signature.inode}:{found.signature.mtime_ns}:{found.signature.size}"
        try:
            format = format_of(found.name)
            read = await asyncio.to_thread(self._read, found.name)
            data = read_text(read, format)
            submitted = await self.actions.submit(
                data, base=self.folder, key=key, actor="operator:inbox", source=f"{self.folder}/{found.name}"
            )
        except LedgerFailed as error:
            log.warning("inbox.waits", file=shown(found.name), error=str(error))
            return
        except (CrewdError, OSError) as error:
            log.warning("inbox.refused", file=shown(found.name), error=shown(str(error)))
            await asyncio.to_thread(self._refuse, found.name, str(error))
            return
        log.info("inbox.accepted", file=shown(found.name), run_id=submitted.run_id, duplicate=submitted.duplicate)
        await asyncio.to_thread(move, self.folder, found.name, "accepted", submitted.run_id)

    def _read(self, name: str) -> bytes:
        with Root(self.folder) as root:
            read = root.read(name, FILE_MAX)
        if not read.data:
            raise RunRefused.of_file(name, read.why or read.result.value)
        return read.data

    def _refuse(self, name: str, words: str) -> None:
        moved = move(self.folder, name, "refused", "")
        write_atomically(f"{moved}.errors.txt", (shown(words) + "\n").encode(), durable=False)


def shown(text: str) -> str:
    """A text that may be written anywhere: the name of a file need not be Unicode."""
    return text.encode("utf-8", "backslashreplace").decode()
