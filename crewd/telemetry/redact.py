"""Redaction: secrets are taken out of whatever leaves crewd; what is no secret is kept as it is."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from crewd.telemetry.disguises import LINE_MIN, LITERAL_MIN, MASK, disguises

__all__ = ["LINE_MIN", "LITERAL_MIN", "MASK", "Redactor", "masked_command", "names_secret"]

FORMS_FEW = 40  # up to so many are looked for at once: quicker than one after the other
TEXT_MAX = 256 * 1024
DEPTH_MAX = 32
NODES_MAX = 20_000

# Last words of a key whose text is a secret. Not "tokens": that is how many were used.
SECRET_WORDS = frozenset(
    {
        "password", "passwd", "passphrase", "pwd", "secret", "secrets", "token", "apikey", "authorization", "cookie",
        "credential", "credentials", "bearer",
    }
)  # fmt: skip
SECRET_PAIRS = frozenset({"api key", "private key", "access key", "secret key", "signing key", "set cookie"})
# Keys of crewd and of runtimes that end in such a word and hold none.
HARMLESS = frozenset({"progress token", "cancellation token"})

WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

# Every repetition is bounded or starts at a rare fixed text, so that the cost grows with the length and no faster.
PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(
            r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----|\Z)", re.S
        ),
        MASK,
    ),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,4096}\.[A-Za-z0-9_-]{8,8192}(?:\.[A-Za-z0-9_-]{0,4096})?"), MASK),
    (re.compile(r"\b(sk|pk|rk)[-_][A-Za-z0-9_-]{16,512}"), MASK),
    (
        re.compile(
            r"\bgh[pousr]_[A-Za-z0-9]{16,512}|\bgithub_pat_[A-Za-z0-9_]{16,512}|\bglpat-[A-Za-z0-9_-]{16,512}"
        ),
        MASK,
    ),
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"), MASK),
    (re.compile(r"\bxox[a-z]-[A-Za-z0-9-]{10,512}|\bAIza[A-Za-z0-9_-]{30,64}|\bnpm_[A-Za-z0-9]{30,64}"), MASK),
    (re.compile(r"\bhf_[A-Za-z0-9]{20,64}|\bSG\.[A-Za-z0-9_-]{16,64}\.[A-Za-z0-9_-]{16,128}"), MASK),
    (re.compile(r"(?i)\b(bearer|basic)[ \t]{1,4}[A-Za-z0-9._~+/=-]{8,8192}"), r"\1 " + MASK),
    (re.compile(r"(://)[^/\s:@\"']{0,256}:[^/\s@\"']{1,256}@"), r"\1" + MASK + "@"),
    (
        # In quotes, as in JSON inside a text: whatever its length.
        re.compile(
            r"(?i)((?:password|passwd|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|authorization)"
            r"\\{0,3}[\"'][ \t]{0,3}[=:][ \t]{0,3}\\{0,3}[\"'])(?!\*\*\*)[^\"'\\]{1,4096}"
        ),
        r"\1" + MASK,
    ),
    (
        # A value in quotes, spaces and all, up to the closing quote.
        re.compile(
            r"(?i)((?:password|passwd|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|authorization)"
            r"[ \t]{0,3}[=:][ \t]{0,3}\\{0,3}([\"']))(?!\*\*\*)(?:(?!\2)[^\\\n]){1,4096}"
        ),
        r"\1" + MASK,
    ),
    # As a variable of an environment.
    (
        re.compile(r"\b([A-Z][A-Z0-9_]{0,64}(?:TOKEN|SECRET|KEY|PASSWORD|PASSWD)=)(?!\*\*\*)[^\s\"']{1,4096}"),
        r"\1" + MASK,
    ),
    # As an argument of a command, and what is named a password however short it is.
    (
        re.compile(r"(?i)(--?(?:password|passwd|passphrase|token|api-?key|secret)[ =])(?!\*\*\*)[^\s\"']{1,4096}"),
        r"\1" + MASK,
    ),
    (
        re.compile(r"(?i)\b((?:password|passwd|passphrase)[=:][ \t]{0,3})(?!\*\*\*)[^\s\"',;&<>{}\[\]]{1,4096}"),
        r"\1" + MASK,
    ),
    (
        re.compile(
            r"(?i)((?:password|passwd|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|authorization)"
            r"[\"']?[ \t]{0,3}[=:][ \t]{0,3}[\"']?)(?!\*\*\*|bearer\b|basic\b)[^\s\"',;&<>{}\[\]]{6,4096}"
        ),
        r"\1" + MASK,
    ),
)
# Without one of these no pattern can match: most texts cost one search.
HINT = re.compile(
    r"(?i)-----BEGIN|eyJ|[spr]k[-_]|gh[pousr]_|github_pat_|glpat-|AKIA|ASIA|xox|AIza|npm_|hf_|SG\.|bearer|basic|://"
    r"|passw|passphrase|secret|token|key|authorization"
)


class Redactor:
    """Takes secrets out of texts and of nested JSON values: those it recognises, and those it is told of.

    The latter also escaped as in JSON, as in a URL, in Base64 and in hex: so prints them who means no harm.
    """

    def __init__(self, literals: Iterable[str] = ()) -> None:
        self._known: set[str] = set()
        self._forms: list[str] = []  # of all of them, the longest first: one may be the beginning of another
        self._literals: re.Pattern[str] | None = None
        self.lessons = 0  # how often it learnt: what it let pass before may hold a secret
        self.learn(*literals)

    def learn(self, *literals: str) -> None:
        """Take in further texts that must never be shown, such as a credential that a worker was given."""
        # Output is looked at line by line: a key of several lines is known by each that is long enough to be one.
        lines = {line.strip() for text in literals for line in text.splitlines() if len(line.strip()) >= LINE_MIN}
        fresh = {text for text in literals if len(text) >= LITERAL_MIN} | lines
        fresh -= self._known
        if fresh:
            self._known |= fresh
            forms = self._known | {
                form for text in self._known for form in disguises(text) if len(form) >= LITERAL_MIN
            }
            self._forms = sorted(forms, key=lambda form: (-len(form), form))
            self._literals = re.compile("|".join(map(re.escape, self._forms)))
            self.lessons += 1

    def text(self, text: str) -> str:
        """Return the text without secrets. Beyond 256 KiB it is cut: an unchecked rest is not passed on."""
        if len(text) > TEXT_MAX:
            text = text[:TEXT_MAX] + f"... [{len(text) - TEXT_MAX} characters cut]"
        if self._literals is not None and self._may_hold(text):
            text = self._literals.sub(MASK, text)
        if HINT.search(text) is None:
            return text
        for pattern, replacement in PATTERNS:
            text = pattern.sub(replacement, text)
        return text

    def begun(self, text: str) -> int:
        """Say how many characters at the end are the beginning of a known secret: the rest may follow."""
        for size in range(min(len(text), max(map(len, self._forms), default=0)), LITERAL_MIN - 1, -1):
            end = text[-size:]
            if any(form.startswith(end) for form in self._forms if len(form) > size):
                return size
        return 0

    def _may_hold(self, text: str) -> bool:
        return len(self._forms) <= FORMS_FEW or any(map(text.__contains__, self._forms))

    def value(self, value: Any) -> Any:
        """Return a JSON value without secrets, in its keys' sense too: `{"password": "x"}`."""
        return _Walk(self).value(value, 0)


class _Walk:
    """One walk through one value, which stops at a number of nodes: what lies beyond is not passed on."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._nodes = 0

    def value(self, value: Any, depth: int) -> Any:
        self._nodes += 1
        if self._nodes > NODES_MAX or depth > DEPTH_MAX:
            return "[cut]"
        match value:
            case str():
                return self._redactor.text(value)
            case Mapping():
                return {self._key(key): self._member(key, member, depth) for key, member in value.items()}
            case list() | tuple() | set() | frozenset():
                return [self.value(member, depth + 1) for member in value]
            case _:
                return value

    def _key(self, key: Any) -> Any:
        return self._redactor.text(key) if isinstance(key, str) else key

    def _member(self, key: Any, member: Any, depth: int) -> Any:
        if isinstance(key, str) and isinstance(member, str) and member and names_secret(key):
            return MASK
        return self.value(member, depth + 1)


def masked_command(command: Sequence[str]) -> Iterator[str]:
    """Mask the word behind an option that is named like a secret: --api-key TEXT. A redactor sees single words."""
    before = ""
    for word in command:
        yield MASK if before.startswith("-") and "=" not in before and names_secret(before) else word
        before = word


def names_secret(key: str) -> bool:
    """Say whether a key names a secret, in any spelling: `apiKey`, `API_KEY`, `x-api-key`, `db.password`."""
    words = [word.lower() for word in WORDS.findall(key[-128:])]
    if not words:
        return False
    pair = " ".join(words[-2:])
    return pair not in HARMLESS and (words[-1] in SECRET_WORDS or pair in SECRET_PAIRS)
