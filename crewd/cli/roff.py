"""Roff: texts as manual pages are written, in the macros of man(7)."""

import re
import textwrap
from collections.abc import Iterable, Iterator

# What a person may type: in backquotes, as everywhere in crewd's help.
CODE = re.compile(r"`([^`]*)`")
GLUE = "\x1f"  # holds the words of what may be typed together while lines are made
WIDTH = 110  # of the source; mandoc complains of much longer lines


def title(name: str, date: str, version: str) -> str:
    """Begin a page. `date`: as 2026-11-21; written as it is, or readers do not know it for one."""
    return f'.TH {quoted(name.upper())} 1 "{date}" {quoted(f"crewd {version}")} "crewd manual"'


def section(name: str) -> str:
    """Begin a section."""
    return f".SH {quoted(name.upper())}"


def subsection(name: str) -> str:
    """Begin a part of a section."""
    return f".SS {quoted(name)}"


def paragraphs(text: str) -> Iterator[str]:
    """Lay out running text. A blank line parts paragraphs; lines that are set in stay as they are."""
    first = True
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        if not block.strip():
            continue
        if not first:
            yield ".PP"
        first = False
        if all(line.startswith("    ") for line in block.splitlines()):
            yield from example(line[4:] for line in block.splitlines())
        else:
            yield from running(block)


def running(text: str) -> Iterator[str]:
    """Lay out one paragraph; what stands in backquotes is bold."""
    whole = CODE.sub(lambda found: found[0].replace(" ", GLUE), " ".join(text.split()))
    for line in textwrap.wrap(whole, WIDTH, break_long_words=False, break_on_hyphens=False):
        yield _guarded(_with_code(line.replace(GLUE, " ")))


def terms(entries: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Lay out a list: what it is, and below it what that means."""
    for term, meaning in entries:
        yield ".TP"
        yield _guarded(bold(term))
        yield from running(meaning or "-")


def example(lines: Iterable[str]) -> Iterator[str]:
    """Lay lines out as they are."""
    yield ".EX"
    for line in lines:
        yield _guarded(escaped(line))
    yield ".EE"


def bold(text: str) -> str:
    """Set a text in bold."""
    return f"\\fB{escaped(text)}\\fR"


def escaped(text: str) -> str:
    """Write a text so that roff takes none of it for a command. A minus stays one, to be copied into a shell."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga").replace("'", "\\(aq")
    return "".join(char if char.isascii() else f"\\[u{ord(char):04X}]" for char in text)


def quoted(text: str) -> str:
    """Write a text as one argument of a macro."""
    return '"' + escaped(text).replace('"', "\\(dq") + '"'


def _with_code(line: str) -> str:
    parts = CODE.split(line)
    return "".join(bold(part) if number % 2 else escaped(part) for number, part in enumerate(parts))


def _guarded(line: str) -> str:
    """A line that begins with a dot would be a command."""
    return f"\\&{line}" if line.startswith((".", "'")) else line
