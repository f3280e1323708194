"""Fingerprints of failures: dead letters of one cause share one, whatever ids, times and paths their texts name."""

import hashlib
import re

TEXT_MAX = 16_384  # characters that are looked at; an error is a line or a tail of some KiB

_COLOUR = re.compile(r"\x1b\[[0-9;]*[a-z]")
# No expression here can be made to look at a character more than a few times: each has one way to match at a place.
_QUOTED = re.compile(r"""(?<!\w)'[^'\n]*'|"[^"\n]*"|`[^`\n]*`""")
_TOKEN = re.compile(r"""[^\s"'`<>()\[\]{},;=|]+""")
_HOST = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#:]*")
_DRIVE = re.compile(r"[a-z]:\\")
_UUID = re.compile(r"(?<![0-9a-f])[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(?![0-9a-f])")
_WORD = re.compile(r"[0-9a-z]+")
_HEX = re.compile(r"0x[0-9a-f]+|[0-9a-f]{7,}")
# A number with what joins several of them into a date, a time, a version, an amount.
_NUMBER = re.compile(r"[0-9]+(?:[.,:/t+-][0-9]+)*z?")
_SPACE = re.compile(r"\s+")


def fingerprint(error_class: str, error: str) -> str:
    """Twelve hex digits of SHA-256 over the class and the text without what differs from one time to the next.

    It is kept in dead letters: another way to normalise gives old and new letters of one cause two fingerprints.
    """
    return hashlib.sha256(f"{error_class}\n{normalised(error)}".encode()).hexdigest()[:12]


def normalised(error: str) -> str:
    """Replace paths, ids, times and numbers by their kind. Linear in the length of the text."""
    text = _COLOUR.sub("", error[:TEXT_MAX].encode(errors="replace").decode().lower())
    text = _QUOTED.sub(_without_path, text)
    text = _TOKEN.sub(_without_path, text)
    text = _UUID.sub("<id>", text)
    text = _WORD.sub(_without_id, text)
    text = _NUMBER.sub("<n>", text)
    return _SPACE.sub(" ", text).strip()


def _without_path(found: re.Match[str]) -> str:
    text = found.group()
    host = _HOST.match(text)
    if host:
        return f"{host.group()}<path>"
    return "<path>" if "/" in text or _DRIVE.search(text) else text


def _without_id(found: re.Match[str]) -> str:
    """An id is hexadecimal with a digit in it, or long and of letters and digits, as in `req_011CSHoEeqs5C35K`."""
    word = found.group()
    if word.isdigit():
        return word
    digits = sum(letter.isdigit() for letter in word)
    if digits and (_HEX.fullmatch(word) or (len(word) >= 12 and digits >= 3)):
        return "<id>"
    return word
