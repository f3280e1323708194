"""Chance: the only place where anything random comes from."""

import random
import re
import secrets
from datetime import UTC, datetime

NAME_MAX = 60
NOT_IN_IDS = re.compile(r"[^A-Za-z0-9._-]+")


def roll() -> float:
    """Roll a chance in [0, 1), for spreading delays: nothing secret hangs on it."""
    return random.random()  # noqa: S311 -- no secret


def mint_run_id(name: str, wall: float) -> str:
    """Make the id of a run out of its name, the time, and chance: `tests-20260102-030405-1a2b`."""
    word = NOT_IN_IDS.sub("-", name).strip("-._")[:NAME_MAX].strip("-._") or "run"
    stamp = datetime.fromtimestamp(wall, UTC).strftime("%Y%m%d-%H%M%S")
    return f"{word}-{stamp}-{secrets.token_hex(3)}"
