"""What `crewd demo agents` shows: a table that lives, and at the end what others would have said."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from crewd.cli.attempt_lines import state_style
from crewd.cli.screen import Line, Part, columns, plain
from crewd.cli.text import clean

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from crewd.cli.demo_agents import Act, Stage
    from crewd.demo.agent_cases import Case

SILENCE_SECONDS = 60.0  # after which a supervisor that knows nothing of tools calls a worker hung
SAID_MAX, DID_MAX, TAIL_BYTES = 44, 72, 65_536
SAID_FROM = 150  # columns of a terminal: on a narrower one what crewd did is worth more than what was said last
COLOURS = {
    "ok": "green", "alert": "bold red", "warn": "yellow", "waiting": "cyan", "head": "bold", "faint": "dim", "": "",
    "healthy": "green", "stale": "red", "dead": "bold red", "unreadable": "magenta",
}  # fmt: skip
Task = Mapping[str, Any]


class Screen(Protocol):
    """Whoever shows how the play goes on."""

    def say(self, words: str) -> None:
        """Tell what happens before there is a picture."""

    def show(self, stage: "Stage", body: Mapping[str, Any], workers: Mapping[str, Task], seconds: float) -> None:
        """Take the newest picture."""

    def close(self) -> None:
        """Put back what the screen was."""


def screen_for(silent: bool, no_color: bool) -> Screen:
    """Choose a screen: none, a live table on a terminal, a line for each change everywhere else."""
    if silent:
        return Silent()
    if not sys.stdout.isatty():
        return Changes()
    from rich.console import Console

    # None leaves it to NO_COLOR; False would override that.
    return Table(Console(file=sys.stdout, no_color=no_color or None, highlight=False))


class Silent:
    def say(self, words: str) -> None:
        """Nobody looks."""

    def show(self, stage: "Stage", body: Mapping[str, Any], workers: Mapping[str, Task], seconds: float) -> None:
        """Nobody looks."""

    def close(self) -> None:
        """There is nothing to put back."""


class Changes:
    """A line for each task whose state or level is another."""

    def __init__(self) -> None:
        self._shown: dict[str, str] = {}

    def say(self, words: str) -> None:
        click.echo(words)

    def show(self, stage: "Stage", body: Mapping[str, Any], workers: Mapping[str, Task], seconds: float) -> None:
        for task in body["tasks"]:
            name = task["task_id"]
            verdict, _ = verdict_of(task, workers.get(name, {}))
            if verdict == "waits for its turn" or self._shown.get(name) == verdict:
                continue
            self._shown[name] = verdict
            click.echo(f"{seconds:5.1f}s  {name:<20} {clean(verdict):<26} {clean(did(task), DID_MAX)}".rstrip())

    def close(self) -> None:
        """There is nothing to put back."""


class Table:
    """Every task on a line of its own, drawn anew with each look."""

    def __init__(self, console: "Console") -> None:
        from rich.live import Live

        self.console = console
        self._live: Live = Live(console=console, screen=False, auto_refresh=False, vertical_overflow="crop")
        self._live.start()

    def say(self, words: str) -> None:
        self._live.update(_text([(words, "faint")]), refresh=True)

    def show(self, stage: "Stage", body: Mapping[str, Any], workers: Mapping[str, Task], seconds: float) -> None:
        from rich.console import Group

        head = f"recorded agents, {stage.speed:g} times as fast as they were; {seconds:.0f} s"
        wide = self.console.width >= SAID_FROM
        lines = [[(head, "faint")], [], *picture(body, workers, stage.folder / "state" / "runs", with_said=wide)]
        self._live.update(Group(*(_text(line) for line in lines)), refresh=True)

    def close(self) -> None:
        self._live.stop()


def picture(body: Mapping[str, Any], workers: Mapping[str, Task], runs: Path, with_said: bool = True) -> list[Line]:
    """Lay out every task: what crewd thinks of it, what it used, what it said last, what crewd did."""
    said = ("said last",) if with_said else ()
    heads = ("agent", "verdict", "tokens", "cost", *said, "what crewd did")
    rows: list[list[Part]] = [[(word, "head") for word in heads]]
    for task in body["tasks"]:
        verdict, style = verdict_of(task, workers.get(task["task_id"], {}))
        attempt = runs / body["run_id"] / task["task_id"] / str(task["attempt"])
        used = task["usage"] or workers.get(task["task_id"], {}).get("usage")
        rows.append(
            [
                (task["task_id"], ""),
                (verdict, style),
                (_tokens(used), ""),
                (_cost(used), ""),
                *([(clean(said_last(attempt), SAID_MAX), "faint")] if with_said else []),
                (clean(did(task), DID_MAX), ""),
            ]
        )
    return columns(rows)


def verdict_of(task: Task, worker: Task) -> tuple[str, str]:
    """What crewd says of a task now, and in which colour."""
    state = task["state"]
    latest = task["attempts"][-1] if task["attempts"] else None
    match state:
        case "waiting":
            return "waits for its turn", "faint"
        case "retry_wait":
            return f"{latest['error_class']}: waits" if latest else "waits", "waiting"
        case "dead_lettered":
            return str(latest["error_class"]) if latest else state, state_style(state)
        case "running":
            seen = worker.get("worker") or {}
            level = str(seen.get("level") or "starting")
            tool = f" in {seen['tool']}" if seen.get("tool") else ""
            wedge = f" ({seen['wedge']})" if seen.get("wedge") else ""
            return f"{level}{tool}{wedge}", level if level in COLOURS else ""
    return state, state_style(state)


def did(task: Task) -> str:
    """What crewd did about a task so far, attempt by attempt."""
    parts = [part for attempt in task["attempts"] for part in _did_after(attempt)]
    if task["state"] == "dead_lettered":
        parts.append("did not try again")
    if task["state"] == "retry_wait":
        parts.append(str(task["why"]).partition(" after ")[0])
    return "; ".join(parts)


def said_last(attempt: Path) -> str:
    """What the newest line of an attempt says, in few words."""
    for name in ("stdout", "stderr"):
        if lines := _tail(attempt / name).splitlines():
            return words_of(lines[-1])
    return ""


def words_of(line: bytes) -> str:
    """Sum a line up: of an event its types and its text, of anything else the line itself."""
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        return line.decode("utf-8", "replace").strip()
    return " ".join(word for word in (_kind(event), _speech(event)) if word)


def generic(case: "Case") -> str:
    """What a supervisor says that knows exit codes and silence, and nothing else."""
    moments = [0.0, *(line.at for line in case.lines), case.seconds]
    silence = max(later - earlier for earlier, later in pairwise(moments))
    if silence >= SILENCE_SECONDS:
        return f"hung: silent for {silence:.0f} s"
    if case.stopped:
        return f"at work, after {case.seconds:.0f} s"
    if case.exit.signal is not None:
        return f"crashed (signal {case.exit.signal}): start it again"
    return "succeeded (exit 0)" if case.exit.code == 0 else f"failed (exit {case.exit.code}): start it again"


def told(acts: Sequence["Act"], cases: Mapping[str, "Case"], body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Compare how each act ended with how it should have."""
    tasks = {task["task_id"]: task for task in body["tasks"]}
    return [_told(act, cases[act.case], tasks[act.case.replace("/", "-")]) for act in acts]


def summary_lines(results: Sequence[Mapping[str, Any]], seconds: float, width: int = 0) -> Iterator[Line]:
    """Set what others would have said beside what crewd says, within `width` characters; 0: as wide as it gets.

    Where both do not fit beside each other they stand below each other: the comparison is what it is all about.
    """
    yield []
    for lines in (_beside(results, with_scene=True), _beside(results, with_scene=False)):
        if not width or max(len(plain(line)) for line in lines) <= width:
            yield from lines
            break
    else:
        yield from _below(results)
    yield []
    right = sum(each["as_expected"] for each in results)
    words = f"{right} of {len(results)} verdicts as expected, in {seconds:.0f} s"
    yield [(words, "ok" if right == len(results) else "alert")]


def _beside(results: Sequence[Mapping[str, Any]], with_scene: bool) -> list[Line]:
    scene: list[Part] = [("what it was", "head")] if with_scene else []
    heads: list[Part] = [(word, "head") for word in ("exit codes and silence say", "crewd says", "")]
    rows: list[list[Part]] = [[("agent", "head"), *scene, *heads]]
    for each in results:
        was: list[Part] = [(each["shows"], "faint")] if with_scene else []
        rows.append([(each["case"], ""), *was, (each["generic"], ""), *_verdict(each)])
    return columns(rows)


def _below(results: Sequence[Mapping[str, Any]]) -> Iterator[Line]:
    for each in results:
        verdict, more = _verdict(each)
        yield [(each["case"], "head"), (f"  {each['shows']}", "faint")]
        yield [("  others ", "faint"), (each["generic"], "")]
        yield [("  crewd  ", "faint"), verdict]
        if more[0]:
            yield [("         ", ""), more]


def _verdict(each: Mapping[str, Any]) -> tuple[Part, Part]:
    """What crewd says of a case, and what it did; or what it should have said."""
    verdict = each["error_class"] or "succeeded"
    then = ", then completed" if each["error_class"] and each["state"] == "completed" else ""
    said = (f"{verdict}{then}", "ok" if each["state"] == "completed" else "alert")
    if not each["as_expected"]:
        return said, (f"expected: {each['expected']}", "alert")
    return said, (each["did"], "faint")


def _told(act: "Act", case: "Case", task: Task) -> dict[str, Any]:
    attempts = task["attempts"]
    error = (attempts[0]["error_class"] or "") if attempts else ""
    wanted = act.error if act.error is not None else (case.expected_class.value if case.expected_class else "")
    used = task["usage"] or {}
    return {
        "case": case.name,
        "version": case.version,
        "shows": case.shows,
        "generic": generic(case),
        "error_class": error or None,
        "state": task["state"],
        "attempts": len(attempts),
        "resumed": any(each["details"].get("rung") == "resume" for each in attempts),
        "tokens": sum(used.get(name, 0) for name in ("input", "output", "cache_write")) if used else None,
        "cost_usd": used.get("cost_usd"),
        "did": did(task),
        "expected": f"{wanted or 'succeeded'}, {act.ends}",
        "as_expected": bool(attempts) and (error, task["state"]) == (wanted, act.ends),
    }


def _did_after(attempt: Mapping[str, Any]) -> Iterator[str]:
    details = attempt["details"]
    if details.get("rung") == "resume":
        saved = f", {details['saved_tokens']:,} tokens saved" if details.get("saved_tokens") else ""
        yield f"resumed its session{saved}"
    error = attempt["error_class"]
    if not error:
        return
    code = details.get("code", "")
    if code == "parked":
        yield "parked it: its slot was free meanwhile"
    elif error in ("auth_error", "budget_exceeded") and details.get("refusals"):
        yield "stopped it at the first refusal"
    elif code == "stream_hang":
        yield "stopped it: its model had fallen silent"
    elif details.get("cut"):
        yield f"swept up what {', '.join(details['cut'])} left behind"
    elif code == "denied":
        yield f"noticed what was denied: {', '.join(details.get('denied', ()))}"


def _kind(event: Mapping[str, Any]) -> str:
    item = event.get("item")
    inner = item.get("type") if isinstance(item, dict) else event.get("subtype")
    return " ".join(str(each) for each in (event.get("type"), inner) if isinstance(each, str))


def _speech(event: Mapping[str, Any]) -> str:
    """The first text that says something, wherever the programs keep it."""
    for name in ("error", "errorMessage", "message", "result", "content", "tool_name", "toolName"):
        match event.get(name):
            case str(text) if text.strip():
                return text.strip()
            case {"message": str(text)} if text.strip():
                return text.strip()
    item = event.get("item")
    return _speech({"message": item.get("text") or item.get("message")}) if isinstance(item, dict) else ""


def _tail(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            return file.read()
    except OSError:
        return b""


def _tokens(used: Mapping[str, Any] | None) -> str:
    return f"{used['input'] + used['output'] + used['cache_write']:,}" if used else ""


def _cost(used: Mapping[str, Any] | None) -> str:
    return f"${used['cost_usd']:.4f}" if used and used["cost_usd"] is not None else ""


def _text(line: Line) -> "Text":
    from rich.text import Text

    text = Text(no_wrap=True, overflow="ellipsis")
    for part, style in line:
        text.append(clean(part), COLOURS.get(style, ""))
    return text
