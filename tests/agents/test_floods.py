"""A flood of output is heard to its last line, in bounded memory: 300 MB, in the pieces in which they are read."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crewd.engine.managed.listening import LINE_MAX
from crewd.policy.profiles import PROFILES
from crewd.sources.agents.story import OPEN_MAX, Story
from crewd.sources.managed.framing import LINE_BYTES_MAX, Lines

MIB = 1 << 20
PIECE = 64 * 1024
WHOLE = 300 * MIB
PART = 12 * MIB
LITTLE = 2 * MIB  # of very short lines
GROWTH_MAX = 32 * MIB
NUMBER = b"@@@@@@@@"  # where each round of a flood has its own number


def as_line(event: dict[str, Any]) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"


def words(count: int) -> str:
    return "all work and no play makes a dull agent " * (count // 40)


def claude() -> bytes:
    """One message in pieces, a call with its end, and a status: with partial messages, as the profile runs it."""
    session = "5e551011-0000-4000-8000-000000000001"
    usage = {"input_tokens": 37, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 9, "output_tokens": 1}
    message = {"id": "msg_@@@@@@@@", "role": "assistant", "model": "m", "content": [], "usage": usage}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": words(80)}}
    call = {"type": "tool_use", "id": "toolu_@@@@@@@@", "name": "Bash", "input": {"command": "echo @@@@@@@@"}}
    result = {"tool_use_id": "toolu_@@@@@@@@", "type": "tool_result", "content": words(2000), "is_error": False}
    events: list[dict[str, Any]] = [
        {"type": "stream_event", "event": {"type": "message_start", "message": message}, "session_id": session},
        *[{"type": "stream_event", "event": delta, "session_id": session} for _ in range(20)],
        {"type": "assistant", "message": {**message, "content": [call]}, "session_id": session},
        {"type": "stream_event", "event": {"type": "message_delta", "usage": {"output_tokens": 88}}},
        {"type": "user", "message": {"role": "user", "content": [result]}, "session_id": session},
        {"type": "system", "subtype": "status", "status": "requesting", "session_id": session},
    ]
    return b"".join(map(as_line, events))


def codex() -> bytes:
    item = {"id": "item_@@@@@@@@", "type": "command_execution", "command": "echo @@@@@@@@"}
    done = {**item, "aggregated_output": words(4000), "exit_code": 0, "status": "completed"}
    said = {"id": "said_@@@@@@@@", "type": "agent_message", "text": words(400)}
    return b"".join(
        [
            as_line({"type": "item.started", "item": {**item, "status": "in_progress"}}),
            as_line({"type": "item.completed", "item": done}),
            as_line({"type": "item.completed", "item": said}),
        ]
    )


def gemini() -> bytes:
    at = {"timestamp": "2026-11-21T01:20:03.000Z"}
    call = {"tool_name": "run_shell_command", "tool_id": "call_@@@@@@@@", "parameters": {"command": "echo @@@@@@@@"}}
    delta = {"type": "message", **at, "role": "assistant", "content": words(80), "delta": True}
    end = {"type": "tool_result", **at, "tool_id": "call_@@@@@@@@", "status": "success", "output": words(4000)}
    return b"".join([*[as_line(delta)] * 20, as_line({"type": "tool_use", **at, **call}), as_line(end)])


def pi() -> bytes:
    usage = {"input": 9, "output": 9, "cacheRead": 0, "cacheWrite": 0, "totalTokens": 18, "cost": {"total": 0.001}}
    message = {"role": "assistant", "content": [], "model": "m", "usage": usage, "stopReason": "toolUse"}
    piece = {
        "type": "message_update",
        "usage": usage,
        "assistantMessageEvent": {"type": "text_delta", "delta": "x" * 60},
    }
    call = {"toolCallId": "call_@@@@@@@@", "toolName": "bash"}
    result = {"content": [{"type": "text", "text": words(4000)}]}
    return b"".join(
        [
            as_line({"type": "message_start", "message": message}),
            *[as_line(piece)] * 20,
            as_line({"type": "message_end", "message": message}),
            as_line({"type": "tool_execution_start", **call, "args": {"command": "echo @@@@@@@@"}}),
            as_line({"type": "tool_execution_end", **call, "result": result, "isError": False}),
        ]
    )


def plain() -> bytes:
    return b"".join(b"some line of a program that nobody knows, number @@@@@@@@\n" for _ in range(20))


TALK: dict[str, Callable[[], bytes]] = {
    "claude": claude,
    "codex": codex,
    "gemini": gemini,
    "pi": pi,
    "plain": plain,
}


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def rounds(block: bytes, total: int) -> Iterator[bytes]:
    """The block again and again, numbered, up to so many bytes."""
    for number in range(total // len(block)):
        yield block.replace(NUMBER, b"%08d" % number)


def pieces(blocks: Iterator[bytes]) -> Iterator[bytes]:
    left = bytearray()
    for block in blocks:
        left += block
        while len(left) >= PIECE:
            yield bytes(left[:PIECE])
            del left[:PIECE]
    yield bytes(left)


class Flood:
    """What was heard of a flood, and what it cost."""

    def __init__(self, profile: str, blocks: Iterator[bytes], line_bytes_max: int = LINE_BYTES_MAX) -> None:
        self.story, self.lines = Story(PROFILES[profile]), Lines(line_bytes_max)
        self.heard = self.bytes = 0
        before = resident()
        self.grown, spent, count = 0, 0.0, 0
        for count, piece in enumerate(pieces(blocks), 1):
            begun = time.process_time()
            for line in self.lines.feed(piece):
                self.story.hear("stdout", line, float(count), 0.0)
                self.heard += 1
            spent += time.process_time() - begun
            self.bytes += len(piece)
            if count % 16 == 0:
                self.grown = max(self.grown, resident() - before)
        speed = self.bytes / MIB / max(spent, 1e-9)
        print(
            f"\n{profile}: {1000 * spent / count:.2f} ms a piece, {speed:.0f} MiB/s, {self.grown / MIB:.1f} MiB grown"
        )
        self.view = self.story.view(float(count))


@pytest.mark.parametrize("profile", TALK)
@pytest.mark.parametrize("total", [PART, pytest.param(WHOLE, marks=pytest.mark.slow)], ids=["part", "whole"])
def test_an_agent_that_talks_without_end_is_heard_to_its_last_line(profile: str, total: int) -> None:
    block = TALK[profile]()
    flood = Flood(profile, rounds(block, total))
    many = total // len(block)
    assert flood.bytes == many * len(block)
    assert flood.heard == many * block.count(b"\n") == flood.view.lines
    assert flood.grown < GROWTH_MAX
    if profile == "plain":
        return
    assert flood.view.noise == 0 and not flood.view.unknown
    assert flood.view.tools_begun == many  # each call has an id and an input of its own
    assert flood.view.tools == ()
    assert flood.view.repeats == 1
    if flood.view.usage is not None:  # what each message used was added up, none twice
        assert flood.view.usage.output == many * {"claude": 88, "pi": 9}[profile]


BEGUN: dict[str, Callable[[str], dict[str, Any]]] = {
    "claude": lambda id: {
        "type": "assistant",
        "message": {
            "id": f"msg_{id}",
            "content": [{"type": "tool_use", "id": f"toolu_{id}", "name": f"Tool{id}", "input": {"n": id}}],
        },
    },
    "codex": lambda id: {
        "type": "item.started",
        "item": {"id": f"item_{id}", "type": "command_execution", "command": f"echo {id}", "status": "in_progress"},
    },
    "gemini": lambda id: {"type": "tool_use", "tool_name": f"tool{id}", "tool_id": id, "parameters": {"n": id}},
    "pi": lambda id: {"type": "tool_execution_start", "toolCallId": id, "toolName": f"tool{id}", "args": {"n": id}},
}


@pytest.mark.parametrize("profile", BEGUN)
def test_calls_that_never_end_are_counted_and_forgotten(profile: str) -> None:
    block = as_line(BEGUN[profile]("@@@@@@@@")) + as_line({"type": "nobody_knows_@@@@@@@@", "subtype": "@@@@@@@@"})
    many = PART // len(block)
    flood = Flood(profile, rounds(block, PART))
    assert flood.grown < GROWTH_MAX
    assert flood.view.tools_begun == many
    assert 0 < len(flood.view.tools) <= OPEN_MAX
    assert sum(flood.view.unknown.values()) == many
    assert len(flood.view.unknown) <= 64


DENIED: dict[str, tuple[dict[str, Any], ...]] = {
    "claude": ({"type": "system", "subtype": "permission_denied", "tool_name": "Tool@@@@@@@@", "tool_use_id": "x"},),
    "gemini": (
        {"type": "tool_use", "tool_name": "tool@@@@@@@@", "tool_id": "@@@@@@@@", "parameters": {}},
        {
            "type": "tool_result",
            "tool_id": "@@@@@@@@",
            "status": "error",
            "error": {"type": "tool_not_registered", "message": "not found"},
        },
    ),
}


@pytest.mark.parametrize("profile", DENIED)
def test_of_tools_that_were_denied_only_some_names_are_kept(profile: str) -> None:
    flood = Flood(profile, rounds(b"".join(map(as_line, DENIED[profile])), LITTLE))
    assert flood.grown < GROWTH_MAX
    assert 1 < len(flood.view.denied) <= 64
    assert not flood.view.tools


@pytest.mark.parametrize("profile", TALK)
def test_a_line_without_an_end_is_dropped_and_told_once(profile: str) -> None:
    flood = Flood(profile, (b'{"type":"assistant","text":"' + b"x" * MIB if not n else b"x" * MIB for n in range(40)))
    assert flood.grown < GROWTH_MAX
    assert (flood.heard, flood.lines.too_long, flood.view.lines) == (1, 1, 1)


@pytest.mark.parametrize("profile", TALK)
def test_lines_of_nearly_the_longest_length_are_heard(profile: str) -> None:
    """A tool's output comes as one line: as long as a line may be."""
    head, _, tail = as_line({"type": "nobody_knows", "text": "@@@@@@@@"}).partition(NUMBER)
    line = head + b"y" * (MIB - len(head) - len(tail)) + tail
    assert len(line) == MIB
    flood = Flood(profile, (line for _ in range(60)))
    assert flood.grown < GROWTH_MAX
    assert (flood.heard, flood.lines.too_long) == (60, 0)
    if profile != "plain":
        assert flood.view.unknown == {"nobody_knows": 60}


@pytest.mark.parametrize("profile", ["claude", "codex", "pi"])
def test_lines_as_long_as_an_attempt_may_write_them_cost_no_more_memory(profile: str) -> None:
    """The limit that is set for agents: one line must not cost several times itself."""
    events: dict[str, dict[str, Any]] = {
        "claude": {"type": "user", "message": {"content": [{"type": "tool_result", "content": "@@@@@@@@"}]}},
        "codex": {"type": "item.completed", "item": {"type": "command_execution", "aggregated_output": "@@@@@@@@"}},
        "pi": {"type": "agent_end", "messages": [{"role": "assistant", "content": "@@@@@@@@"}]},
    }
    head, _, tail = as_line(events[profile]).partition(NUMBER)
    whole, left = divmod(LINE_MAX - len(head) - len(tail), MIB)
    parts = (head, *[b"y" * MIB] * whole, b"y" * left, tail)
    flood = Flood(profile, (part for _ in range(8) for part in parts), LINE_MAX)
    assert (flood.heard, flood.lines.too_long) == (8, 0)
    assert flood.grown < GROWTH_MAX, f"{flood.grown / MIB:.0f} MiB for lines of {LINE_MAX / MIB:.0f} MiB"


@pytest.mark.parametrize("profile", TALK)
def test_a_flood_of_no_events_at_all_is_counted_as_noise(profile: str) -> None:
    block = b'\x00\xff\xfe this is no event {\n[1,2,3]\n"text"\n{}\n{"type":7}\n' * 100
    flood = Flood(profile, rounds(block, LITTLE))
    assert flood.grown < GROWTH_MAX
    many = LITTLE // len(block) * block.count(b"\n")
    assert flood.heard == flood.view.lines == many
    if profile != "plain":
        assert flood.view.noise + sum(flood.view.unknown.values()) == many
        assert not flood.view.understood
