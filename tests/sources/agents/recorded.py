"""The genuine agent runs, fed to a reader line by line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crewd.sources.agents.signs import Reader, Sign
from tests.genuine_agents import CORPUS


def run_folder(case: str) -> Path:
    folder = CORPUS / case
    return folder


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines() if path.is_file() else []


def session_lines(case: str) -> list[bytes]:
    """All lines of the session's file; there is at most one in a case."""
    pattern = {"codex": "home/.codex/sessions/*/*/*/rollout-*.jsonl", "gemini": "home/.gemini/tmp/*/chats/*.jsonl"}
    found = sorted(run_folder(case).glob(pattern[case.partition("/")[0]]))
    return [line for path in found for line in lines_of(path)]


def signs_of(reader: Reader, case: str, *, stream: str = "stdout", prefix: str = "") -> list[Sign]:
    """What a reader makes of one stream of a run; `prefix` "resume." for the run that resumed it."""
    if stream == "session":
        return [sign for line in session_lines(case) for sign in reader.session(line)]
    name = {"stdout": "stdout.jsonl", "stderr": "stderr.txt"}[stream]
    read = reader.stdout if stream == "stdout" else reader.stderr
    return [sign for line in lines_of(run_folder(case) / f"{prefix}{name}") for sign in read(line)]


def exit_of(case: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((run_folder(case) / "exit.json").read_text(encoding="utf-8"))
    return record


def every_line(cli: str) -> Iterator[tuple[str, bytes]]:
    """Every genuine line of one program: its stream and itself. Nothing where there is no corpus."""
    for folder in sorted((CORPUS / cli).glob("*")):
        for path in sorted(folder.glob("*stdout.jsonl")):
            yield from (("stdout", line) for line in lines_of(path))
        for path in sorted(folder.glob("*stderr.txt")):
            yield from (("stderr", line) for line in lines_of(path))
        for path in sorted(folder.glob("home/**/*.jsonl")):
            yield from (("session", line) for line in lines_of(path))
