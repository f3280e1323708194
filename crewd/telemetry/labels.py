"""Labels: text from files that others write, made fit to be a label value, and kept to a bounded number of values."""

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

OTHER = "other"
UNKNOWN = "unknown"
LENGTH_MAX = 64


def clean(text: str) -> str:
    """Make any text a label value: no control, format or unpaired surrogate characters, at most 64 characters.

    An empty rest is "unknown": Prometheus treats an empty label like one that is missing.
    """
    # Nearly every name, at a twentieth of the cost.
    if 0 < len(text) <= LENGTH_MAX and text.isascii() and text.isprintable() and " " not in text:
        return text
    # Cut before it is looked at: the cost of a hostile name must not depend on its length.
    kept = "".join(char for char in text[: LENGTH_MAX * 4] if unicodedata.category(char)[0] != "C")
    return " ".join(kept.split())[:LENGTH_MAX].strip() or UNKNOWN


@dataclass(slots=True)
class Admission:
    """The values of one open label: the first `limit` that come are let in, later ones are told as "other".

    `label_of` only reads and may be called from any thread; `admit` and `release` belong to the daemon's loop.
    """

    limit: int
    redact: Callable[[str], str] = str  # takes secrets out, while the text is still whole
    _cleaned: dict[str, str] = field(default_factory=dict)  # as written -> label value
    _values: set[str] = field(default_factory=lambda: {OTHER, UNKNOWN})

    def admit(self, text: str) -> str:
        """Let a value in if there is room, and return what to call it."""
        known = self._cleaned.get(text)
        if known is not None:
            return known
        value = clean(self.redact(text))
        # Several spellings may clean to one value; the memory of spellings is bounded like the values themselves.
        if value not in self._values and len(self._values) - 2 >= self.limit:
            return OTHER
        self._values.add(value)
        if len(self._cleaned) < self.limit * 4:
            self._cleaned[text] = value
        return value

    def label_of(self, text: str) -> str:
        """Return what a value is called, without letting a new one in."""
        known = self._cleaned.get(text)
        if known is not None:
            return known
        value = clean(self.redact(text))
        return value if value in self._values or len(self._values) - 2 < self.limit else OTHER

    def release(self, values: Iterable[str]) -> None:
        """Make room: these label values are no longer in use."""
        gone = set(values) - {OTHER, UNKNOWN}
        # Replaced, not changed: a reader in another thread keeps a whole dictionary.
        self._cleaned = {text: value for text, value in self._cleaned.items() if value not in gone}
        self._values = self._values - gone

    def values(self) -> frozenset[str]:
        """Return the label values let in so far."""
        return frozenset(self._values - {OTHER, UNKNOWN})
