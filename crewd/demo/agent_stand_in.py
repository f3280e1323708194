"""Stands in for an agent command line: plays a recorded case as the program printed it, and ends as that ended.

    python -m crewd.demo.agent_stand_in CASE [--speed N] [--attempt N --then CASE] [--home FOLDER] [anything else]

Options of the real program are passed over, but for those that resume a session: then the recorded resumption is
played, with the id that was asked for, and with the figures of a session that was killed. From the second attempt on
the case behind `--then` is played, where one is named. With a home folder the file of the session lies where the real
program keeps it, without which nobody resumes it. Signals are answered as the real program answers them
(docs/agents.md).

A script of its own: the standard library is all it needs, so that it also runs where crewd is not to be found.
"""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

FOLDER = Path(__file__).with_name("agent_cases")
RESUMES = ("--resume", "--session", "resume")  # the word after it is a session
CUT_TOOL_SECONDS = 30.0  # that the tool of a program that was killed lives on, unless somebody ends it
DIES = -1  # of the signal, as if there were no handler
# Where each keeps the file of a session below the home folder.
SESSION_FILES: Mapping[str, str] = {
    "claude": ".claude/projects/{project}/{session}.jsonl",
    "codex": ".codex/sessions/2026/11/21/rollout-2026-11-21T01-00-00-{session}.jsonl",
    "gemini": ".gemini/tmp/{name}/chats/session-2026-11-21T01-00-{short}.jsonl",
    "pi": ".pi/agent/sessions/-{project}--/2026-11-21T01-00-00-000Z_{session}.jsonl",
}
# How the programs leave, and whether they take their tools along. Everything else ends them as the kernel does it.
ANSWERS: Mapping[tuple[str, int], tuple[int, bool]] = {
    ("claude", signal.SIGTERM): (143, True),
    ("claude", signal.SIGINT): (0, True),
    ("codex", signal.SIGTERM): (DIES, False),
    ("codex", signal.SIGINT): (1, True),
    ("gemini", signal.SIGTERM): (0, False),
    ("gemini", signal.SIGINT): (0, False),
    ("pi", signal.SIGTERM): (143, True),
    ("pi", signal.SIGINT): (DIES, False),
}


def main(arguments: Sequence[str]) -> None:
    """Play what the arguments name. Leaves with 2 where they name no case."""
    then = _after(arguments, "--then")
    cases = [each for each in arguments if each != then and _is_case(each)]
    if then and _after(arguments, "--attempt") not in ("", "1"):
        cases = [then]
    if not cases or not _is_case(cases[0]):
        sys.stderr.write(f"agent_stand_in: no recorded case is named in {list(arguments)!r}\n")
        raise SystemExit(2)
    speed = float(_after(arguments, "--speed") or 1.0)
    header, lines = _read(cases[0])
    if session := next((found for word in RESUMES if (found := _after(arguments, word))), ""):
        header, lines = _resumed(header["cli"], session)
    if home := _after(arguments, "--home"):
        _keep_session(Path(home), header["cli"], session or header["session"])
    Player(header, lines, speed).play()


class Player:
    """One case while it is played, `speed` times as fast as it was."""

    def __init__(self, header: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], speed: float) -> None:
        self._header = header
        self._lines = lines
        self._speed = speed
        self._tool: subprocess.Popen[bytes] | None = None
        self._is_starting_tool = False
        self._waiting = 0  # signal that came meanwhile

    def play(self) -> NoReturn:
        """Print, with a process for the tool while it is open, and end."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._answer)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        out, err = sys.stdout.buffer, sys.stderr.buffer
        now = 0.0
        for at, what, text in self._moments():
            # A wait for each, and no clock: what is played late is late by the time that printing takes.
            if at > now:
                threading.Event().wait((at - now) / self._speed)
                now = at
            match what:
                case "begin":
                    self._begin_tool()
                case "end":
                    self._end_tool()
                case "out" | "err":
                    stream = out if what == "out" else err
                    stream.write(text.encode() + b"\n")
                    stream.flush()
        self._leave(self._header["code"], self._header["signal"])

    def _moments(self) -> Iterator[tuple[float, str, str]]:
        """Everything that happens, in the order of time. A tool begins behind the line that tells it."""
        moments = [(line["t"], 1, line["s"], line["l"]) for line in self._lines]
        if self._header["tool"] is not None:
            began, ended = self._header["tool"]
            moments.append((began, 2, "begin", ""))
            if ended is not None:
                moments.append((ended, 0, "end", ""))
        moments.append((self._header["seconds"], 3, "over", ""))
        for at, _, what, text in sorted(moments, key=lambda moment: moment[:2]):
            yield at, what, text

    def _begin_tool(self) -> None:
        began, ended = self._header["tool"]
        seconds = CUT_TOOL_SECONDS if ended is None else (ended - began) / self._speed + 5.0
        self._is_starting_tool = True
        # In a session of its own, as every one of the programs does it: killing their group does not reach it.
        self._tool = subprocess.Popen(
            ["sleep", f"{seconds:.3f}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._is_starting_tool = False
        if self._waiting:
            self._answer(self._waiting, None)

    def _end_tool(self) -> None:
        if self._tool is not None:
            self._tool.kill()
            self._tool.wait()
            self._tool = None

    def _answer(self, number: int, _: FrameType | None) -> None:
        if self._is_starting_tool:
            self._waiting = number  # nobody knows its pid yet, and it might have to be taken along
            return
        code, takes_tools_along = ANSWERS[self._header["cli"], number]
        if takes_tools_along:
            self._end_tool()
        self._leave(None if code == DIES else code, number)

    def _leave(self, code: int | None, number: int | None) -> NoReturn:
        if code is not None:
            raise SystemExit(code)
        assert number is not None
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
        raise SystemExit(128 + number)  # it was blocked, by whoever started this


def _is_case(word: str) -> bool:
    cli, slash, case = word.partition("/")
    return bool(slash) and cli.isalnum() and case.replace("_", "").isalnum() and _path(word).is_file()


def _path(name: str) -> Path:
    return FOLDER / f"{name}.jsonl"


def _read(name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    header, *lines = (json.loads(line) for line in _path(name).read_bytes().splitlines())
    return header, lines


def _resumed(cli: str, session: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the program printed when it resumed a session; the id is the one that is asked for."""
    name = f"{cli}/resume"
    if not _path(name).is_file():
        sys.stderr.write(f"agent_stand_in: no resumption of {cli} is recorded\n")
        raise SystemExit(2)
    header, lines = _read(name)
    recorded = header["session"]
    return header, [line | {"l": _counted_anew(line["l"].replace(recorded, session), header)} for line in lines]


def _counted_anew(line: str, header: Mapping[str, Any]) -> str:
    """Take from the figures what the recorded session had used before: after a kill the programs begin at 0 again."""
    before: Mapping[str, Any] = header["before"] or {}
    event = json.loads(line)
    match event:
        case {"type": "turn.completed", "usage": dict(figures)}:
            pass
        case {"type": "result", "total_cost_usd": _}:
            figures = event
        case _:
            return line
    figures |= {name: round(figures[name] - used, 9) for name, used in before.items()}
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"))


def _keep_session(home: Path, cli: str, session: str) -> None:
    here = Path.cwd()
    names = {
        "project": str(here).replace("/", "-"),
        "name": here.name,
        "session": session,
        "short": session.partition("-")[0],
    }
    path = home / SESSION_FILES[cli].format(**names)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps({"type": "session_meta", "sessionId": session, "payload": {"id": session}}) + "\n")


def _after(arguments: Sequence[str], option: str) -> str:
    """The word behind an option, or within it behind a `=`; "": it is not there."""
    for number, word in enumerate(arguments):
        if word == option and number + 1 < len(arguments):
            return arguments[number + 1]
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
    return ""


if __name__ == "__main__":
    main(sys.argv[1:])
