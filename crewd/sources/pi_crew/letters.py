"""`deadletter.jsonl`: the tasks that pi-crew gave up. It writes them and never reads them."""

import hashlib
from typing import Any

import msgspec

from crewd.host.files import Root, Signature
from crewd.model.look import DeadLetter, ReadResult
from crewd.sources.fields import count, fields, moment, text
from crewd.sources.growing import Growing
from crewd.sources.names import valid_id
from crewd.sources.pi_crew.layout import LETTERS, RUNTIME

REASONS = frozenset({"max-retries", "heartbeat-dead", "manual"})
OTHER_REASON = "not-retryable"  # for a word that a later pi-crew may write; the word itself is kept


class Letters:
    """Follows the dead letters of one run."""

    __slots__ = ("_keys", "_log")

    def __init__(self) -> None:
        self._log = Growing()
        self._keys: set[str] | None = None  # most runs have no letters, and there are many

    @property
    def settled(self) -> Signature | None:
        """The signature under which there is nothing new; None where there was no file, or there is more to read."""
        return self._log.settled

    def is_settled(self, seen: Signature | None) -> bool:
        return self._log.is_settled(seen)

    def read(self, root: Root, folder: str, seen: Signature, run_id: str) -> tuple[list[DeadLetter], int, ReadResult]:
        """Read on: letters, lines that are none, and how the read went."""
        brought = self._log.read(root, f"{folder}/{LETTERS}", seen)
        if self._keys is None:
            self._keys = set()
        letters: list[DeadLetter] = []
        bad = brought.too_long
        for line in brought.lines:
            letter = _letter(line.data, run_id)
            if letter is None:
                bad += not line.repeated
            elif letter.key not in self._keys:
                self._keys.add(letter.key)
                letters.append(letter)
        return letters, bad, brought.result


def _letter(line: bytes, run_id: str) -> DeadLetter | None:
    try:
        value: Any = msgspec.json.decode(line)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None
    of = fields(value)
    task_id = of.get("taskId")
    if not valid_id(task_id):
        return None
    words = text(of, "reason", 128)
    named = (run_id, task_id, text(of, "timestamp", 64), words, text(of, "attemptId", 512))
    return DeadLetter(
        run_id=run_id,
        task_id=task_id,
        reason=words if words in REASONS else OTHER_REASON,
        words=words,
        attempts=count(of, "attempts") or 0,
        error=text(of, "lastError", 2048),
        at=moment(of, "timestamp"),
        runtime=RUNTIME,
        key=hashlib.sha256("\0".join(named).encode("utf-8", "surrogatepass")).hexdigest(),
    )
