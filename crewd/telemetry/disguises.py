"""Disguises: secrets as they stand in other texts: escaped, in a URL, in Base64 or hex, broken over two lines.

The redactor looks for every form of a secret, within one text. A veil also finds what is broken over two lines: it is
for what leaves the machine as a whole, once, and may take its time.
"""

import base64
import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

MASK = "***"
LITERAL_MIN = 4  # a shorter configured secret would mask ordinary words
LINE_MIN = 16  # of a secret of several lines
CODED_MIN = 8  # characters of a coded piece; shorter ones stand in any text
# Between any two characters: a line break, as it is or as JSON writes it inside a text.
BREAK = r"(?:\\r)?(?:\\n)?\r?\n?"
BREAKS = re.compile(r"\\r|\\n|[\r\n]")


class Veil:
    """Takes known secrets out of a whole text, in every disguise. `***` stands where one was."""

    def __init__(self, secrets: Iterable[str]) -> None:
        known = {part for secret in secrets for part in _parts(secret)}
        forms = {form for secret in known for form in disguises(secret)}
        # The longest first: one may be the beginning of another.
        self._forms = sorted(forms, key=lambda form: (-len(form), form))

    def text(self, text: str) -> str:
        """Return the text without them."""
        flat = BREAKS.sub("", text)
        there = [form for form in self._forms if form in flat]
        for form in there:
            text = re.sub(BREAK.join(map(re.escape, form)), MASK, text)
        return text


def disguises(secret: str) -> Iterator[str]:
    """Name every form of a secret, without line breaks."""
    data = secret.encode("utf-8", "surrogateescape")
    escaped = [json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]]
    plain = [secret, *escaped, *(json.dumps(each)[1:-1] for each in escaped), repr(secret)[1:-1]]
    yield from filter(None, (BREAKS.sub("", form) for form in plain))
    urls = {quote(data, safe=""), quote(data), quote_plus(data)}
    yield from (BREAKS.sub("", form) for form in (*urls, *map(_lower_escapes, urls)))
    yield from (form for form in (data.hex(), data.hex().upper()) if len(form) >= CODED_MIN)
    yield from (form for form in _base64(data) if len(form) >= CODED_MIN)


def _parts(secret: str) -> Iterator[str]:
    """A secret, and each of its lines that is long enough to be one."""
    if len(secret) >= LITERAL_MIN:
        yield secret
    yield from (line.strip() for line in secret.splitlines() if len(line.strip()) >= LINE_MIN)


def _base64(data: bytes) -> Iterator[str]:
    """What of it stands in the Base64 of any text that it is part of: three ways, by where it begins."""
    for before in range(3):
        coded = base64.b64encode(b"\0" * before + data).decode()
        # Six bits a character: those that its neighbours take part in are left out.
        sure = coded[-(-8 * before // 6) : 8 * (before + len(data)) // 6]
        yield sure
        yield sure.translate(str.maketrans("+/", "-_"))


def _lower_escapes(url: str) -> str:
    return re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), url)
