"""The text of a unit: fitted to this crewd and this systemd, and told from a unit that somebody else wrote."""

import hashlib
import re
from collections.abc import Sequence

SUBGROUP_SINCE = 254  # the version of systemd that knows DelegateSubgroup=
COMMAND = "/usr/bin/crewd"  # as the shipped units have it
_MARK = "# Written by `crewd install`, which also renews it ({hash}). Changes belong in a drop-in: systemctl {edit}\n"
_MARKED = re.compile(r"# Written by `crewd install`[^\n]*\(([0-9a-f]{12})\)[^\n]*\n")
_PLAIN = re.compile(r"[A-Za-z0-9/._+@:,=-]+")


def fitted(shipped: str, command: Sequence[str], version: int, edit: str) -> str:
    """Have a shipped unit start this crewd; what this systemd does not know is left out. `version` 0: unknown."""
    text = re.sub(rf"(?m)^(Exec\w+=){re.escape(COMMAND)}\b", lambda found: found[1] + quoted(command), shipped)
    if 0 < version < SUBGROUP_SINCE:
        text = re.sub(r"(?m)^DelegateSubgroup=.*\n", "", text)
        text = re.sub(r" systemd before 254 does not know the second line[^\n]*", "", text)
    return _MARK.format(hash=_hash(text), edit=edit) + text


def quoted(command: Sequence[str]) -> str:
    """Write a command as systemd reads it (systemd.service(5), "Command lines"). ValueError: it cannot be written."""
    return " ".join(_quoted(word, first=number == 0) for number, word in enumerate(command))


def is_ours(text: str) -> bool:
    """Whether `crewd install` wrote this unit, and nobody changed it since."""
    found = _MARKED.match(text)
    return found is not None and _hash(text[found.end() :]) == found[1]


def is_changed(text: str) -> bool:
    """Whether `crewd install` wrote it, and somebody changed it since."""
    return _MARKED.match(text) is not None and not is_ours(text)


def _quoted(word: str, first: bool) -> str:
    if not word.isprintable():
        raise ValueError(f"{word!r} holds what no unit can name")
    text = word.replace("%", "%%")
    if not first:
        text = text.replace("$", "$$")  # in the first word nothing is expanded
    if _PLAIN.fullmatch(word):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
