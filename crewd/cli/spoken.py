"""What an agent printed, in words: what it said, its tools, how it ended, and what it used."""

import json
from collections.abc import Iterator
from typing import Any

from crewd.cli.agent_lines import amount
from crewd.cli.text import clean
from crewd.model.failure import Failure
from crewd.policy.profiles import PROFILES
from crewd.sources.agents.signs import (
    Began,
    Denied,
    Failing,
    Finished,
    LimitTold,
    Looped,
    Moved,
    Noise,
    Refused,
    Sign,
    ToolBegan,
    ToolEnded,
)
from crewd.sources.agents.story import Story

INPUT_MAX = 160
WORDS_MAX = 600
DELTA = b"delta"  # in the lines that hold a piece of what is being said, of every program that tells it by pieces
# What a call is known by, where its input is an object; of others all of it is shown.
TELLING = ("command", "file_path", "path", "pattern", "query", "url", "prompt", "description")


def is_understood(profile: str) -> bool:
    """Say whether what a program of this profile prints can be told in words."""
    return profile in PROFILES and profile != "plain"


class Spoken:
    """One attempt's output. Lines come whole, in the order in which they were written."""

    def __init__(self, profile: str) -> None:
        self._story = Story(PROFILES[profile])
        self._said = ""  # of the line that is being said
        self._names: dict[str, str] = {}  # of the tool calls that were told
        self._session = self._model = ""
        self._last = ""  # what was said last, as words

    def hear(self, line: bytes) -> Iterator[str]:
        """Take in one line, and give what it says as lines without control characters."""
        for sign in self._story.hear("stdout", line, 0.0, 0.0):
            if isinstance(sign, Moved):
                yield from self._say(sign.words)
            elif told := list(self._tell(sign, line)):
                yield from self._flush()
                yield from told
        # A piece may follow a piece; anything else ends what was being said.
        if DELTA not in line:
            yield from self._flush()

    def end(self) -> Iterator[str]:
        """Nothing follows: tell what was used."""
        yield from self._flush()
        used = self._story.view(0.0).usage
        words = amount(used.input + used.output + used.cache_write, used.cost_usd) if used is not None else ""
        if words:
            cached = f", {used.cache_read:,} more from a cache" if used is not None and used.cache_read else ""
            yield f"used {words}{cached}"

    def _say(self, words: str) -> Iterator[str]:
        if words and not self._said:
            self._last = ""
        self._last += words
        *whole, self._said = (self._said + words).split("\n")
        yield from (clean(each.expandtabs()) for each in whole)

    def _flush(self) -> Iterator[str]:
        if self._said.strip():
            yield clean(self._said.expandtabs()).rstrip()
        self._said = ""

    def _tell(self, sign: Sign, line: bytes) -> Iterator[str]:
        match sign:
            case Began():
                yield from self._began(sign)
            case ToolBegan():
                yield from self._tool(sign)
            case ToolEnded():
                name = clean(self._names.pop(sign.id, "") or sign.name or "tool")
                how = "was not allowed" if sign.denied else "ok" if sign.ok else "FAILED"
                yield f"  < {name} {how}{_after(sign.words)}"
            case Denied():
                yield f"  ! {clean(sign.tool)} is not allowed"
            case Refused():
                tries = f" (attempt {sign.attempt} of {sign.attempts_max})" if sign.attempts_max else ""
                yield f"  ! refused{_after(_failed(sign.failure))}{tries}"
            case LimitTold(rejected=True):
                yield f"  ! its limit is used up{_after(sign.name)}"
            case Looped():
                yield f"  ! goes in circles{_after(sign.words)}"
            case Failing():
                yield f"  ! {clean(_failed(sign.failure), WORDS_MAX)}"
            case Finished():
                if sign.failure is not None:
                    yield f"= failed{_after(_failed(sign.failure))}"
                else:
                    # Most repeat what was said last.
                    yield "= done" + ("" if sign.words.strip() in self._last else _after(sign.words))
            case Noise():
                yield clean(line.decode("utf-8", "replace").expandtabs())

    def _began(self, sign: Began) -> Iterator[str]:
        # Told piece by piece by some: each piece once.
        if (sign.session or self._session, sign.model or self._model) == (self._session, self._model):
            return
        parts = [
            f"session {sign.session}" if sign.session and sign.session != self._session else "",
            f"model {sign.model}" if sign.model and sign.model != self._model else "",
            f"version {sign.version}" if sign.version else "",
        ]
        self._session, self._model = sign.session or self._session, sign.model or self._model
        yield clean(f"* {', '.join(part for part in parts if part)}")

    def _tool(self, sign: ToolBegan) -> Iterator[str]:
        if sign.id in self._names and (self._names[sign.id] or not sign.name):
            return
        self._names[sign.id] = sign.name
        yield f"  > {clean(sign.name or 'tool')}{_after(_input(sign.input), INPUT_MAX)}"


def _after(words: str, length: int = WORDS_MAX) -> str:
    return f": {clean(' '.join(words.split()), length)}" if words.strip() else ""


def _failed(failure: Failure) -> str:
    return f"{failure.error_class.value}: {failure.message}"


def _input(data: bytes) -> str:
    try:
        value: Any = json.loads(data)
    except ValueError:
        return data.decode("utf-8", "replace")
    if isinstance(value, dict):
        for name in TELLING:
            if isinstance(value.get(name), str):
                return str(value[name])
    return value if isinstance(value, str) else data.decode("utf-8", "replace")
