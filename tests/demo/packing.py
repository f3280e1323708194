"""Packs recorded runs of agent command lines into the samples that crewd ships (crewd/demo/agent_cases).

    python -m tests.demo.packing [CORPUS]

What is changed on the way, and nothing else: texts longer than LONG characters are cut, a home folder and a temporary
folder get names that no machine has, and `hang` ends soon after the program moves again.
"""

import json
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.genuine_agents import CORPUS

PACKED = Path(__file__).parents[2] / "crewd" / "demo" / "agent_cases"
LONG, KEPT = 300, 240  # characters
BYTES_MAX = 400 * 1024  # of all samples together
VERSIONS = {"claude": "2.1.329", "codex": "0.169.0", "gemini": "0.61.0", "pi": "0.87.1"}
# A resumed run was recorded without times: a line each so many seconds.
PACE, BEGIN = 0.15, 0.5
# The home of the recordings, written so that no file of ours names a folder of some machine.
RECORDED_HOME = "/".join(("", "home", "dev"))
PLACES = ((re.compile(rf"{RECORDED_HOME}\b"), "/home/user"), (re.compile(r"(?<![\w.~-])/tmp/"), "/var/tmp/"))


@dataclass(frozen=True)
class Chosen:
    """A case of the corpus that is packed. `error` is the class that crewd gives it; "": it succeeds."""

    name: str
    shows: str
    error: str = ""
    until: float | None = None  # seconds after which it is cut


CHOSEN = (
    Chosen("claude/ok_partial", "a task with one tool call, told word by word"),
    Chosen("claude/401", "an invalid key, tried again for minutes", "auth_error"),
    Chosen("claude/sub_warning", "a subscription that is nearly used up"),
    Chosen("claude/perm", "a tool it was not allowed to use, and 'success' with exit 0", "task_error"),
    Chosen("claude/max_turns", "its own limit of turns", "task_error"),
    Chosen("claude/long", "a silent minute inside a tool"),
    Chosen("claude/sigkill_tool", "kill -9 inside a tool: its children live on", "worker_killed"),
    Chosen("claude/resume", "the same session, resumed"),
    Chosen("codex/ok", "a task with one tool call"),
    Chosen("codex/429", "a rate limit, waited for five times in vain", "rate_limited"),
    Chosen("codex/ctx", "a context that is full", "context_exhausted"),
    Chosen("codex/no_auth", "no key at all", "auth_error"),
    Chosen("codex/slow", "twenty silent seconds while the model writes"),
    Chosen("codex/sigkill_tool", "kill -9 inside a tool: its children live on", "worker_killed"),
    Chosen("codex/resume", "the same session, resumed: its tokens are counted from the first run on"),
    Chosen("gemini/ok", "a task with one tool call"),
    Chosen("gemini/429", "a rate limit that only stderr tells of", "rate_limited"),
    Chosen("gemini/hang", "a model that stops in the middle of a word", "worker_killed", until=310.0),
    Chosen("gemini/perm", "a tool that it does not have, and 'success' with exit 0", "task_error"),
    Chosen("gemini/resume", "the same session, resumed"),
    Chosen("pi/ok", "a task with one tool call"),
    Chosen("pi/429", "a rate limit, and exit 0", "rate_limited"),
    Chosen("pi/401", "an invalid key, and exit 0", "auth_error"),
    Chosen("pi/500", "a broken provider, and exit 0", "provider_error"),
    Chosen("pi/long", "a silent minute inside a tool"),
    Chosen("pi/resume", "the same session, resumed"),
)
WITH_TOOL = ("long", "sigkill_tool")  # a process stands in for the tool while it is open
TOOL_BEGINS = ('"type":"tool_use"', '"item.started"', '"tool_execution_start"')
TOOL_ENDS = ('"type":"tool_result"', '"item.completed","item":{"id":"item_1"', '"tool_execution_end"')
SESSION = re.compile(
    r'"(?:session_id|thread_id)":"([0-9a-f-]{36})"|^\{"type":"session","version":\d+,"id":"([0-9a-f-]{36})"'
)

Line = dict[str, Any]


def main(arguments: Sequence[str]) -> None:
    """Write every sample anew."""
    corpus = Path(arguments[0]) if arguments else CORPUS
    total = 0
    for chosen in CHOSEN:
        data = packed(chosen, corpus)
        path = path_of(chosen.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        total += len(data)
    print(f"{len(CHOSEN)} samples, {total / 1024:.0f} KiB of at most {BYTES_MAX // 1024}")
    assert total <= BYTES_MAX, f"cut texts shorter: LONG is {LONG}"


def path_of(name: str) -> Path:
    return PACKED / f"{name}.jsonl"


def packed(chosen: Chosen, corpus: Path = CORPUS) -> bytes:
    """Make one sample: a header, then a line for each line that was printed, in the order of time."""
    cli, _, case = chosen.name.partition("/")
    folder = corpus / cli / case
    resumed = case == "resume"
    lines = list(_resumed_lines(folder) if resumed else _lines(folder))
    if chosen.until is not None:
        lines = [line for line in lines if line["t"] < chosen.until]
    header = {
        "cli": cli,
        "case": case,
        "version": VERSIONS[cli],
        "shows": chosen.shows,
        **_end(folder, chosen, lines),
        "session": _session(lines),
        "tool": _tool(lines) if case in WITH_TOOL else None,
        "class": chosen.error,
        # What a resumed session used before is in its figures, and not to be told from it.
        "usage": None if resumed else usage_of(cli, lines),
        "before": _used_before(cli, folder) if resumed else None,
        "paced": resumed,
    }
    return b"".join(
        json.dumps(each, ensure_ascii=False, separators=(",", ":")).encode() + b"\n" for each in (header, *lines)
    )


def _used_before(cli: str, folder: Path) -> dict[str, Any] | None:
    """What a resumed session had used, where the program goes on counting from there. In the program's own words."""
    events = [event for line in _printed(folder / "stdout.jsonl") if (event := _event(line))]
    match cli:
        case "claude":
            return {"total_cost_usd": next(each for each in events if each["type"] == "result")["total_cost_usd"]}
        case "codex":
            told: dict[str, Any] = next(each for each in events if each["type"] == "turn.completed")["usage"]
            return told
    return None


def usage_of(cli: str, lines: Sequence[Line]) -> dict[str, Any] | None:
    """What the program says that this run used, in crewd's words: input without what a cache gave.

    None: it did not say, or counts otherwise.
    """
    events = [event for line in lines if line["s"] == "out" and (event := _event(line["l"]))]
    match cli:
        case "claude":
            last = next((each for each in reversed(events) if each["type"] == "result"), None)
            if last is None:
                return None
            told = last["usage"]
            return _usage(
                told["input_tokens"],
                told["output_tokens"],
                told["cache_read_input_tokens"],
                told["cache_creation_input_tokens"],
                last["total_cost_usd"],
            )
        case "codex":
            last = next((each for each in reversed(events) if each["type"] == "turn.completed"), None)
            if last is None:
                return None
            told = last["usage"]
            cached, written = told["cached_input_tokens"], told["cache_write_input_tokens"]
            return _usage(told["input_tokens"] - cached - written, told["output_tokens"], cached, written)
        case "gemini":
            last = next((each for each in reversed(events) if each["type"] == "result"), None)
            if last is None:
                return None
            told = last["stats"]
            # What it thought is in its total only.
            return _usage(told["input"], told["total_tokens"] - told["input_tokens"], told["cached"], 0)
    if not any(each["type"] == "agent_settled" for each in events):
        return None
    each_told = [
        event["message"]["usage"]
        for event in events
        if event["type"] == "message_end" and event["message"]["role"] == "assistant"
    ]
    fresh, output, cached, written = (
        sum(told[name] for told in each_told) for name in ("input", "output", "cacheRead", "cacheWrite")
    )
    return _usage(fresh, output, cached, written, round(sum(told["cost"]["total"] for told in each_told), 9))


def cut(line: str) -> str:
    """Cut what is long in a line, and rename folders. What needs no cutting is left as it was printed."""
    for pattern, place in PLACES:
        line = pattern.sub(place, line)
    event = _event(line)
    if event is None:
        return line if len(line) <= LONG else _shortened(line)
    shorter = _cut_value(event)
    return line if shorter == event else json.dumps(shorter, ensure_ascii=False, separators=(",", ":"))


def _lines(folder: Path) -> Iterator[Line]:
    """The lines of both streams in the order of time; at one moment stdout comes first."""
    found: list[Line] = []
    for stream, file, times in (("out", "stdout.jsonl", "timing.tsv"), ("err", "stderr.txt", "stderr_timing.tsv")):
        printed = _printed(folder / file)
        moments = [float(row.split("\t")[1]) for row in (folder / times).read_text().splitlines()]
        assert len(printed) == len(moments), f"{folder}/{times} tells of {len(moments)} lines, not of {len(printed)}"
        found += [{"t": at, "s": stream, "l": cut(line)} for at, line in zip(moments, printed, strict=True)]
    yield from sorted(found, key=lambda line: float(line["t"]))


def _resumed_lines(folder: Path) -> Iterator[Line]:
    for number, line in enumerate(_printed(folder / "resume.stdout.jsonl")):
        yield {"t": round(BEGIN + number * PACE, 3), "s": "out", "l": cut(line)}


def _printed(path: Path) -> list[str]:
    """Split at newlines only: other ends of lines may stand within a text."""
    text = path.read_bytes().decode("utf-8", "replace")
    return text.split("\n")[: -1 if text.endswith("\n") or not text else None]


def _end(folder: Path, chosen: Chosen, lines: Sequence[Line]) -> dict[str, Any]:
    if chosen.name.endswith("/resume"):
        told = json.loads((folder / "resume.exit.json").read_bytes())
        return {"code": told["rc"], "signal": None, "seconds": round(lines[-1]["t"] + PACE, 3), "stopped": False}
    told = json.loads((folder / "exit.json").read_bytes())
    return {
        "code": told["exit_code"],
        "signal": int(signal.Signals[told["signal"]]) if told["signal"] else None,
        "seconds": min(told["seconds"], chosen.until or told["seconds"]),
        # It would have gone on: its end is its answer to SIGTERM.
        "stopped": told["stopped_by_harness_cap"],
    }


def _session(lines: Sequence[Line]) -> str:
    for line in lines:
        if found := SESSION.search(line["l"]):
            return found[1] or found[2]
    return ""


def _tool(lines: Sequence[Line]) -> list[float | None]:
    """When the first tool call began, and when it ended; None: it was cut."""
    began = next(line["t"] for line in lines if any(mark in line["l"] for mark in TOOL_BEGINS))
    ended = next((line["t"] for line in lines if line["t"] > began and any(m in line["l"] for m in TOOL_ENDS)), None)
    return [began, ended]


def _usage(
    input_tokens: int, output: int, cache_read: int, cache_write: int, cost: float | None = None
) -> dict[str, Any]:
    return {
        "input": input_tokens,
        "output": output,
        "cache_read": cache_read,
        "cache_write": cache_write,
        "cost_usd": cost,
    }


def _event(line: str) -> Any:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def _cut_value(value: Any) -> Any:
    match value:
        case dict():
            return {name: _cut_value(each) for name, each in value.items()}
        case list():
            return [_cut_value(each) for each in value]
        case str() if len(value) > LONG:
            return _shortened(value)
    return value


def _shortened(text: str) -> str:
    return f"{text[:KEPT]} ...[{len(text) - KEPT} more characters]"


if __name__ == "__main__":
    main(sys.argv[1:])
