"""What owns one descriptor: closed by name, by `with`, and a second time without harm."""

import os
from types import TracebackType
from typing import Self


class Handle:
    """Owns a descriptor, which is -1 while there is none."""

    _handle: int = -1

    def close(self) -> None:
        """Give the descriptor back. A second time does nothing."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
