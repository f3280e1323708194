"""Where each program keeps the file of a session: names only, nothing is opened here (docs/agents.md)."""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

import msgspec

from crewd.sources.agents.decoding import LineDecoder

# An id comes from a worker's output. Nothing else of it ever becomes part of a name: no separator, dot or wildcard.
SESSION = re.compile(r"[0-9a-f-]{8,64}")
PREFIX = 8  # characters of an id that Gemini CLI makes part of a name

Env = Mapping[str, str]


class SessionPlace(msgspec.Struct, frozen=True, gc=False):
    """A folder, and below it one pattern for each level, so that it can be walked without following a link."""

    root: str  # absolute; the folder that the program was told, or its own default, and not known to be there
    parts: tuple[str, ...]  # "*" stands for any name or piece of one; the last part is the file


class _Meta(msgspec.Struct, gc=False):
    id: str = ""


class _Head(msgspec.Struct, gc=False):
    """The first line of a session's file: of Gemini CLI, or of Codex."""

    sessionId: str = ""
    payload: _Meta | None = None


_head = LineDecoder(_Head)


def where(profile: str, env: Env, session: str) -> SessionPlace | None:
    """Say where the file of a session is looked for, with the worker's own environment.

    None: the profile keeps none, the id is none, or the environment does not say where.
    """
    place = PLACES.get(profile)
    return place(env, session) if place is not None and SESSION.fullmatch(session) else None


def is_of(profile: str, first_line: bytes, session: str) -> bool:
    """Whether the file that begins with this line is the session's. Names alone may be those of several."""
    if profile not in ("codex", "gemini"):
        return True
    head = _head(first_line)
    if head is None:
        return False
    told = head.sessionId if profile == "gemini" else head.payload.id if head.payload else ""
    return told == session


def _claude(env: Env, session: str) -> SessionPlace | None:
    return _place(_own(env, "CLAUDE_CONFIG_DIR") or _home(env, ".claude"), "projects", "*", f"{session}.jsonl")


def _codex(env: Env, session: str) -> SessionPlace | None:
    root = _own(env, "CODEX_HOME") or _home(env, ".codex")
    return _place(root, "sessions", "*", "*", "*", f"rollout-*-{session}.jsonl")  # year, month, day


def _gemini(env: Env, session: str) -> SessionPlace | None:
    root = _own(env, "GEMINI_CLI_HOME") or _home(env)
    return _place(root, ".gemini", "tmp", "*", "chats", f"session-*-{session[:PREFIX]}.jsonl")


def _pi(env: Env, session: str) -> SessionPlace | None:
    name = f"*_{session}.jsonl"
    if sessions := _own(env, "PI_CODING_AGENT_SESSION_DIR"):
        return _place(sessions, "*", name)
    return _place(_own(env, "PI_CODING_AGENT_DIR") or _home(env, ".pi", "agent"), "sessions", "*", name)


PLACES: Mapping[str, Callable[[Env, str], SessionPlace | None]] = MappingProxyType(
    {"claude": _claude, "codex": _codex, "gemini": _gemini, "pi": _pi}
)


def _own(env: Env, name: str) -> str:
    return env.get(name, "")


def _home(env: Env, *names: str) -> str:
    home = _own(env, "HOME")
    return "/".join((home.rstrip("/"), *names)) if home else ""


def _place(root: str, *parts: str) -> SessionPlace | None:
    if not root.startswith("/") or "\0" in root:
        return None  # relative to a folder that only the worker knows
    return SessionPlace(root.rstrip("/") or "/", parts)
