"""Words by which a failure is known in a text, and waits that are named in it. All are written for lower case.

Tight on purpose: a failing program may well write about rate limits, and a wrong class stops a whole executor. Every
repetition is bounded and follows a fixed text, so that the cost of a hostile output grows with its length and no
faster.
"""

import re

from crewd.model.failure import ErrorClass


def _status(codes: str) -> str:
    """A pattern for an HTTP status that is named as one: "HTTP 503", "status=503", "error code: 503"."""
    named = r"(?:(?<![a-z])(?:https?(?:/[\d.]{1,3})?(?: error| status| code| response)?"
    named += r"|status(?:[ _-]?code)?|error[ _-]code|api error|returned error|rejected)|[\"']code)"
    return named + r"[\"']?(?=[\s:=(])\s?[:=(]?\s?[\"'(]?(?:" + codes + r")(?!\d)"


def _any(*alternatives: str) -> re.Pattern[str]:
    return re.compile("|".join(alternatives), re.ASCII)


# Within one line the first that is found decides.
PATTERNS: tuple[tuple[ErrorClass, re.Pattern[str]], ...] = (
    (
        ErrorClass.CONTEXT_EXHAUSTED,
        _any(
            r"\bprompt is too long|\bprompt_too_long\b|\bcontext_(?:length|window)_exceeded",
            r"\bmaximum context length|\bmaximum number of tokens|\binput is too long for",
            r"\bcontext[ _]window\b.{0,40}\b(?:exceeded|exceeds|full|exhausted|overflow)",
            r"\b(?:exceeds?|exceeded|ran out of room in|too (?:long|large) for)\b.{0,40}\bcontext (?:window|length)",
        ),
    ),
    (
        ErrorClass.DISK_FULL,
        _any(
            r"\bno space left on device|\benospc\b|\bdisk quota exceeded|\bedquot\b",
            r"\bdisk is full\b|\bnot enough space on the disk",
        ),
    ),
    (
        ErrorClass.BUDGET_EXCEEDED,
        _any(
            r"\binsufficient_quota\b|\bbilling_hard_limit_reached|\bbilling_error\b|\b402 payment required",
            r"\b(?:quota|billing)\b.{0,40}\b(?:exceeded|exhausted|reached|used up|depleted|disabled)\b",
            r"\b(?:exceeded|exhausted|insufficient|out of)\b.{0,40}\b(?:quota|credits?)\b",
            r"\bcredit balance is too low|\bspending limit reached",
        ),
    ),
    (
        ErrorClass.RATE_LIMITED,
        _any(
            _status("429"),
            r"(?<![\w.])429[\"']?[ :,-]{1,3}[\"']?(?:too many requests|client error|\{)|\btoo many requests\b",
            r"\brate[ _-]?limit(?:ed|s)?[ _-](?:error|exceeded|reached|hit)\b|\bratelimiterror\b|\brate[ -]limited\b",
            r"[\"']rate_limit[\"']|\b(?:exceed(?:ed|s)?|reached|hit)\b.{0,40}\brate[ _-]limits?\b",
            r"\bresource_exhausted\b|\bthrottlingexception\b|\busage limit reached|\bhit your .{0,20}\blimit\b",
        ),
    ),
    (
        ErrorClass.AUTH_ERROR,
        _any(
            _status("401|403"),
            r"(?<![\w.])40[13][\"']?[ :,-]{1,3}[\"']?(?:unauthorized|forbidden|\{)",
            r"\b(?:invalid|incorrect|expired|missing|no) (?:x-)?(?:api[ _-]?key|bearer token|access token)\b",
            r"\bapi[ _-]?key (?:is )?(?:not valid|not found|invalid|missing|expired|required|not set)\b",
            r"\bnot logged in\b|\bplease run /login|\bauthentication_(?:failed|error)\b|\bunauthenticated\b",
            r"\binvalid_(?:api_key|grant)\b|\btoken (?:has |is )?expired\b|\boauth token .{0,20}\brevoked",
            r"\b(?:specify|set) the [`'\"]?\w{1,40}(?:key|token)[`'\"]? environment variable",
            r"\bmissing environment variable:? [`'\"]?\w{1,40}(?:key|token)\b",
            r"\bbad credentials\b|\bauthentication (?:failed|required)\b|\bpermission denied \(publickey",
        ),
    ),
    (
        ErrorClass.PROVIDER_ERROR,
        _any(
            _status(r"5\d\d"),
            r"(?<![\w.])5\d\d[\"']?[ :,-]{1,3}[\"']?(?:internal|bad gateway|gateway|server error|overloaded|\{)",
            r"\boverloaded_error\b|\b(?:model|server) is (?:currently )?overloaded|\bmodel is at capacity",
            r"\bexperiencing high demand|\binternal server error\b|\bbad gateway\b|\bservice unavailable\b",
            r"\bserver_(?:error|is_overloaded)\b|\bapiconnectionerror\b|\bremotedisconnected\b",
            r"\bconnection (?:was |is )?(?:reset|refused|aborted|error)\b|\bconnection closed unexpectedly",
            r"\becon(?:nreset|nrefused|naborted)\b|\b(?:enotfound|eai_again|ehostunreach|enetunreach)\b",
            r"\bconnection timed out\b|\betimedout\b|\bsocket hang up\b|\bfetch failed\b|\bnetwork error\b",
            r"\bcould not resolve host|\bname or service not known|\btemporary failure in name resolution",
            r"\bnetwork is unreachable\b|\bno route to host\b|\bended without a finish reason",
            r"\bstream disconnected before completion|\bgateway time-?out\b",
        ),
    ),
    (
        ErrorClass.TIMEOUT,
        _any(
            r"\btimed[ -]out\b|\btimeouterror\b|\btimeoutexpired\b|\bdeadline[ _]exceeded\b",
            r"\btimeout\b.{0,20}\b(?:waiting|exceeded|expired|reached|after)\b",
            r"\b(?:request|read|response|operation)[ _]time-?out\b",
        ),
    ),
    (
        ErrorClass.TASK_ERROR,  # the limits of one task, no fault of its provider
        _any(r"\berror_max_(?:turns|budget_usd)\b|\breached maximum (?:number of turns|budget)\b"),
    ),
    (
        ErrorClass.WORKER_KILLED,
        _any(r"\bout of memory\b|\boom[ -]kill|\bcannot allocate memory\b|^memoryerror\b|\bstd::bad_alloc\b"),
    ),
    (
        ErrorClass.WORKER_CRASH,
        _any(
            r"\btraceback\b|\bsegmentation fault\b|\bcore dumped\b|\bpanicked at\b|^panic: ",
            r"\b(?:unhandled|uncaught) (?:promise )?(?:exception|error|rejection)\b",
            r"^[a-z_][\w.]{0,100}(?:error|exception)(?::|$)",
        ),
    ),
)

# Python prints the cause of an exception above it; one of these lines stands between.
CHAIN = re.compile(r"during handling of the above exception|direct cause of the following exception")
HEADING = re.compile(r"traceback \(most recent call last\)")

# What real agent programs write on their standard error whether they fail or not.
CHATTER = re.compile(
    r"reading additional input from stdin|yolo mode is enabled|warning: (?:basic terminal|256-color)"
    r"|ripgrep is not available|\[startup\] |the 'metricreader' option"
)

UNIT_SECONDS = {"": 1.0, "ms": 0.001, "milli": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_NUMBER = r"\d{1,12}(?:\.\d{1,12})?"
_UNIT = r"(?:ms|milliseconds?|s(?:ec(?:ond)?s?)?|m(?:in(?:ute)?s?)?|h(?:(?:ou)?rs?)?|d(?:ays?)?)"
_AMOUNT = rf"{_NUMBER}(?:\s?{_UNIT})?(?![a-z])\s?"
# "retry after 7s", "try again in 1m3.5s", "Retry-After: 30"; not "Retrying after", which a program chose by itself.
WAIT = re.compile(
    r"\b(?:(?:re)?try (?:again )?in|retry[ _-]?after|retry[ _-]?delay|wait(?: for)?)[\"']?\s?[:=]?\s?[\"']?"
    rf"((?:{_AMOUNT}){{1,3}})"
)
QUANTITY = re.compile(rf"({_NUMBER})\s?(ms|milli|[smhd]|)")
