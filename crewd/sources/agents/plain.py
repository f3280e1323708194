"""Any program: nothing of what it prints is understood, and every line of it is progress."""

from crewd.model.failure import Failure
from crewd.sources.agents.signs import Moved, Sign

MOVED = (Moved(),)


class PlainReader:
    """Bytes are life, and nothing more."""

    __slots__ = ()

    def stdout(self, line: bytes) -> tuple[Sign, ...]:
        return MOVED

    def stderr(self, line: bytes) -> tuple[Sign, ...]:
        return ()

    def session(self, line: bytes) -> tuple[Sign, ...]:
        return ()

    def exit(self, code: int) -> Failure | None:
        return None
