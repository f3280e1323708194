"""What the end of an output says about a failure. Only a reading of text: nothing here was said structurally."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from crewd.model.failure import ErrorClass
from crewd.policy.failure_patterns import CHAIN, CHATTER, HEADING, PATTERNS, QUANTITY, UNIT_SECONDS, WAIT
from crewd.policy.retry import RETRY_AFTER_MAX

MESSAGE_MAX = 500  # characters of one line for a person
TAIL_MAX = 16 * 1024  # characters at the end of an output that are looked at: this runs between two events
HEAD_MAX, END_MAX = 1024, 2048  # characters of a long line: its name is at the beginning, its outcome at the end
STDERR_LINES = 60
# Standard output is what a worker works on, and full of words about other things. Its outcome is in the last lines.
STDOUT_LINES = 5
STORY_LINES = 20  # above the deciding line, in which the same failure may be told at more length
STORY_WORDS = 4  # a line with fewer, such as "status: 429", tells a class and no story
HINT_LINES = 6  # around the deciding line, in which a wait may be named
A_MOMENT = 1e8  # a number as large as this is no wait, but the wall time of its end
CLASSES_THAT_PASS = (ErrorClass.RATE_LIMITED, ErrorClass.PROVIDER_ERROR)  # by waiting

ESCAPES = re.compile(r"\x1b\[[0-9;?]{0,32}[a-zA-Z]")  # colours
LINE_ENDS = re.compile(r"[\r\n]")
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
WORD = re.compile(r"[a-z]{2,}")
SPOKEN = re.compile(r'"(?:message|result|errors?|errormessage)": ?\[?"((?:[^"\\]|\\.){1,4000})"', re.IGNORECASE)


class LastWords(NamedTuple):
    """What was found. `message` is "" where the worker said nothing."""

    error_class: ErrorClass | None
    message: str
    retry_after: float  # seconds; 0: no wait is named


class Line(NamedTuple):
    text: str
    lowered: str  # what the patterns are written for


def last_words(stderr: str, stdout: str) -> LastWords:
    """Read the end of the standard error, or of the standard output where the former says nothing of its own."""
    lines = _telling_lines(stderr, STDERR_LINES) or _telling_lines(stdout, STDOUT_LINES)
    if not lines:
        return LastWords(None, "", 0.0)
    found = _deciding(lines)
    if found is None:
        return LastWords(None, _said_in(lines[-1])[:MESSAGE_MAX], 0.0)
    index, error_class = found
    wait = 0.0
    if error_class in CLASSES_THAT_PASS:
        near = lines[max(0, index - HINT_LINES) : index + HINT_LINES + 1]
        wait = wait_in("\n".join(line.lowered for line in near))
    return LastWords(error_class, _excerpt(lines[_story(lines, index, error_class)], error_class), wait)


def wait_in(text: str) -> float:
    """The seconds that a text asks to wait, as in "try again in 1m3.5s"; 0: none. The last one counts."""
    named = 0.0
    for match in WAIT.finditer(text[-TAIL_MAX:].lower()):
        seconds = sum(float(number) * UNIT_SECONDS[unit] for number, unit in QUANTITY.findall(match[1]))
        if seconds < A_MOMENT:
            named = min(seconds, RETRY_AFTER_MAX)
    return named


def one_line(text: str) -> str:
    """A text as one line without control characters."""
    return " ".join(UNPRINTABLE.sub(" ", text[:TAIL_MAX]).split())


def _telling_lines(text: str, count: int) -> list[Line]:
    """The last lines that say something, oldest first."""
    kept: list[Line] = []
    for text_of_line in reversed(LINE_ENDS.split(ESCAPES.sub("", text[-TAIL_MAX:]))):
        line = Line(text_of_line, _clipped(text_of_line).lower()[: HEAD_MAX + END_MAX])
        if line.lowered.strip() and not CHATTER.match(line.lowered):
            kept.append(line)
            if len(kept) == count:
                break
    return kept[::-1]


def _clipped(text: str) -> str:
    return text if len(text) <= HEAD_MAX + END_MAX else f"{text[:HEAD_MAX]}\t{text[1 - END_MAX :]}"


def _deciding(lines: Sequence[Line]) -> tuple[int, ErrorClass] | None:
    """The line that decides the class: the last that has one.

    A crash whose cause has a class of its own belongs to that; older complaints above a crash do not explain it.
    """
    crash: int | None = None
    caused = False  # whether the lines above tell the cause of the crash
    for index in reversed(range(len(lines))):
        error_class = _class_of(lines, index)
        if error_class is None:
            caused = caused or CHAIN.search(lines[index].lowered) is not None
        elif error_class is ErrorClass.WORKER_CRASH:
            crash = index if crash is None else crash
            caused = caused and HEADING.match(lines[index].lowered) is not None
        elif crash is None or caused:
            return index, error_class
        else:
            break
    return None if crash is None else (crash, ErrorClass.WORKER_CRASH)


def _class_of(lines: Sequence[Line], index: int) -> ErrorClass | None:
    for error_class, pattern in PATTERNS:
        if pattern.search(lines[index].lowered):
            if error_class is ErrorClass.BUDGET_EXCEEDED and _names_a_wait(lines, index):
                # A quota that is free again in seconds is a rate, whatever the provider calls it.
                return ErrorClass.RATE_LIMITED
            return error_class
    return None


def _names_a_wait(lines: Sequence[Line], index: int) -> bool:
    return any(WAIT.search(line.lowered) for line in lines[index : index + 3])


def _story(lines: Sequence[Line], index: int, error_class: ErrorClass) -> int:
    """The last line of that class which tells what happened; the deciding one where none tells more."""
    for each in range(index, max(-1, index - STORY_LINES), -1):
        if _class_of(lines, each) is error_class and len(WORD.findall(lines[each].lowered)) >= STORY_WORDS:
            return each
    return index


def _excerpt(line: Line, error_class: ErrorClass) -> str:
    """A line, cut to what is around the telling words."""
    text = _said_in(line)
    if len(text) <= MESSAGE_MAX:
        return text
    lowered = text.lower()
    found = (pattern.search(lowered) for each, pattern in PATTERNS if each is error_class)
    start = max(0, min((match.start() for match in found if match), default=0) - MESSAGE_MAX // 5)
    return text[start : start + MESSAGE_MAX]


def _said_in(line: Line) -> str:
    """A line as a person would read it: of a JSON object the text of its message."""
    spoken = SPOKEN.findall(line.text) if line.text.lstrip().startswith("{") else []
    return one_line(spoken[-1].replace("\\n", " ").replace('\\"', '"') if spoken else line.text)
