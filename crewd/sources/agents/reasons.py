"""Why a request failed: the class that an HTTP status and a provider's words stand for, and the wait they ask for.

Words come first, because a status is coarse: a full context, a wrong model and a wrong key may all be a 400.
"""

import re

from crewd.model.failure import ErrorClass, Failure
from crewd.policy.last_words import MESSAGE_MAX, last_words, one_line, wait_in
from crewd.sources.fields import cut, tail

TEXT_MAX = 4096  # characters that are looked at
END_MAX = 200  # characters that are kept of each end of a failed call's words
MODEL_NOT_FOUND, MAX_TURNS = "model_not_found", "max_turns"

# Words of these programs that policy/failure_patterns does not know, or knows less exactly. For lower case.
WORDS: tuple[tuple[ErrorClass, str, re.Pattern[str]], ...] = (
    (
        ErrorClass.CONFIG_INVALID,
        MODEL_NOT_FOUND,
        re.compile(
            r"\bmodel[_ ]not[_ ]found\b|\bmodel\b.{0,80}\b(?:does not exist|is not found|is not supported when using)"
            r"|\bmodels/\S{1,80} is not found\b",
            re.ASCII,
        ),
    ),
    (
        ErrorClass.TASK_ERROR,
        MAX_TURNS,
        re.compile(r"\bmax(?:imum)? session turns\b|\bmaximum session turns exceeded", re.ASCII),
    ),
    (
        ErrorClass.AUTH_ERROR,
        "",
        re.compile(
            r"\bmissing environment variable\b|\bmust specify the \w{1,64} environment variable"
            r"|\b(?:log|sign) out and (?:log|sign) in again|\bplease set an auth method",
            re.ASCII,
        ),
    ),
    (
        ErrorClass.PROVIDER_ERROR,
        "",
        re.compile(
            r"\bapi error: terminated\b|\bidle timeout waiting for sse|\btransport error\b"
            r"|\berror sending request\b",
            re.ASCII,
        ),
    ),
)
# Classes that the words of a provider can have. Anything else in them is about something else.
PROVIDERS = {
    ErrorClass.CONTEXT_EXHAUSTED: ErrorClass.CONTEXT_EXHAUSTED,
    ErrorClass.DISK_FULL: ErrorClass.DISK_FULL,
    ErrorClass.BUDGET_EXCEEDED: ErrorClass.BUDGET_EXCEEDED,
    ErrorClass.RATE_LIMITED: ErrorClass.RATE_LIMITED,
    ErrorClass.AUTH_ERROR: ErrorClass.AUTH_ERROR,
    ErrorClass.PROVIDER_ERROR: ErrorClass.PROVIDER_ERROR,
    ErrorClass.TIMEOUT: ErrorClass.PROVIDER_ERROR,  # of a request, not of the attempt
}
WAITS = (ErrorClass.RATE_LIMITED, ErrorClass.PROVIDER_ERROR)
MONEY = re.compile(r"\bbilling\b|\bcredits?\b|\binsufficient_quota\b|\bspending\b|\b402\b", re.ASCII)
RESET = re.compile(r"\bresets? (?:after|in)\b", re.ASCII)
STATUSES = {
    400: ErrorClass.INPUT_INVALID,
    401: ErrorClass.AUTH_ERROR,
    402: ErrorClass.BUDGET_EXCEEDED,
    403: ErrorClass.AUTH_ERROR,
    404: ErrorClass.CONFIG_INVALID,
    408: ErrorClass.PROVIDER_ERROR,
    413: ErrorClass.INPUT_INVALID,
    422: ErrorClass.INPUT_INVALID,
    429: ErrorClass.RATE_LIMITED,
}


def failure_of(
    words: str, otherwise: ErrorClass, *, status: int | None = None, wait: float | None = None, code: str = ""
) -> Failure:
    """The failure that a provider's words tell. `wait` is one told apart from them, in seconds."""
    words = words[:TEXT_MAX]
    wait = wait or wait_of(words)
    error_class, finer = _class_of(words, status, wait)
    error_class = error_class or class_of_status(status) or otherwise
    return Failure(
        error_class,
        cut(one_line(words), MESSAGE_MAX),
        code=code or finer,
        retry_after=wait if wait > 0 and error_class in WAITS else None,
    )


def class_of_status(status: int | None) -> ErrorClass | None:
    """The class of an HTTP status; None: it stands for none."""
    if status is not None and 500 <= status < 600:
        return ErrorClass.PROVIDER_ERROR
    return STATUSES.get(status) if status is not None else None


def wait_of(words: str) -> float:
    """The seconds that a text asks to wait, days included, as in "try again in 3 days 4 hours"; 0: none."""
    return wait_in(RESET.sub("retry after", words[:TEXT_MAX].lower()))


def both_ends(words: str) -> str:
    """Shorten what a failed call says. Errors that differ often begin alike, and differ at their end."""
    words = words.strip()
    if len(words) <= 2 * END_MAX:
        return words
    return f"{cut(words, END_MAX)} ... {tail(words, END_MAX)}".strip()


def _class_of(words: str, status: int | None, wait: float) -> tuple[ErrorClass | None, str]:
    lowered = words.lower()
    for error_class, finer, pattern in WORDS:
        if pattern.search(lowered):
            return error_class, finer
    found = last_words(words, "").error_class
    told = PROVIDERS.get(found) if found is not None else None
    if told is ErrorClass.BUDGET_EXCEEDED and (wait > 0 or (status == 429 and not MONEY.search(lowered))):
        # A quota that is free again by itself is a rate, whatever the provider calls it.
        return ErrorClass.RATE_LIMITED, ""
    return told, ""
