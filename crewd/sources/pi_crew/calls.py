"""The tool calls that a pi-crew task made lately, as `agentProgress` keeps them: 25 of them, and the one it is in."""

import zlib
from typing import Any

from crewd.sources.pi_crew.task_record import Progress

CALLS_MAX = 64  # pi-crew keeps 25
INPUT_MAX = 4096  # characters of a call's input that are compared


def calls_of(progress: Progress | None) -> bytes | None:
    """Digests of the calls, oldest first, 4 bytes each: equal where tool and input are. None: none are told of."""
    if progress is None or progress.recent_tools is None:
        return None
    calls = [_digest(call.get("tool"), call.get("args")) for call in progress.recent_tools[-CALLS_MAX:] if _is(call)]
    if progress.current_tool:
        calls.append(_digest(progress.current_tool, progress.current_tool_args))
    return b"".join(calls)


def _is(call: Any) -> bool:
    return isinstance(call, dict) and isinstance(call.get("tool"), str)


def _digest(tool: str | None, given: object) -> bytes:
    text = given if isinstance(given, str) else ""
    # Its length beside it: inputs that differ behind the end of what is compared mostly differ in that too.
    call = f"{(tool or '')[:128]}\0{len(text)}\0{text[:INPUT_MAX]}"
    return zlib.crc32(call.encode("utf-8", "surrogatepass")).to_bytes(4, "big")
