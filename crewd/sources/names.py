"""Which names may become a run or a task. Everything else never reaches a path."""

import re
from typing import TypeGuard

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
ID_RULE = "1 to 128 of A-Z a-z 0-9 . _ - that begin with a letter or a digit"


def valid_id(text: object) -> TypeGuard[str]:
    """Say whether this may name a run or a task."""
    return isinstance(text, str) and ID.fullmatch(text) is not None


def shown(text: object) -> str:
    """Word something foreign for a log line: short, on one line, without control characters."""
    return repr(text if isinstance(text, str) else str(type(text).__name__))[:120]
