"""Exposition: the text of a scrape, encoded away from the loop, one at a time, and never an error."""

import asyncio
import gc
import gzip
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.exposition import generate_latest as plain_text
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_text

GZIP_ABOVE = 1024
SUFFIXES = ("", "_total", "_bucket", "_sum", "_count", "_info")


class Format(Enum):
    """The two forms in which Prometheus reads. Names and labels of crewd need none of the newer escapings."""

    PLAIN = CONTENT_TYPE_PLAIN_0_0_4
    OPENMETRICS = CONTENT_TYPE_LATEST


@dataclass(frozen=True)
class Answer:
    """One answer to a scrape."""

    body: bytes
    content_type: str
    gzipped: bool = False


class Exposition:
    """Answers scrapes of one registry.

    Encoding holds the interpreter for about 11 us a series, so it runs in a thread, and only one at a time; an
    answer is given again for `fresh_seconds`, so that impatient or many scrapers cannot pile up work.
    """

    def __init__(self, registry: CollectorRegistry, fresh_seconds: float = 0.25, kept_max: int = 8) -> None:
        self._registry = registry
        self._fresh_seconds = fresh_seconds
        self._kept_max = kept_max
        self._kept: OrderedDict[tuple[Format, bool, frozenset[str]], tuple[float, Answer]] = OrderedDict()
        self._one_at_a_time = asyncio.Lock()
        self.failures = 0

    async def answer(self, accept: str = "", accept_encoding: str = "", names: Sequence[str] = ()) -> Answer:
        """Encode all families, or those named, in the form and encoding that the request's headers ask for."""
        form, zipped, chosen = choose_format(accept), accepts_gzip(accept_encoding), frozenset(names)
        key = (form, zipped, chosen)
        now = asyncio.get_running_loop().time
        async with self._one_at_a_time:
            kept = self._kept.get(key)
            if kept is not None and 0 <= now() - kept[0] < self._fresh_seconds:
                return kept[1]
            answer = await asyncio.to_thread(self._encode, form, zipped, chosen)
            self._kept[key] = (now(), answer)
            self._kept.move_to_end(key)
            while len(self._kept) > self._kept_max:
                self._kept.popitem(last=False)
            return answer

    def _encode(self, form: Format, zipped: bool, names: frozenset[str]) -> Answer:
        encode: Callable[..., bytes] = openmetrics_text if form is Format.OPENMETRICS else plain_text
        try:
            with collector_asleep():
                body = encode(self._registry.restricted_registry(_sample_names(names)) if names else self._registry)
        except Exception:  # noqa: BLE001 - a scrape never fails: what is missing is alerted on, and counted here
            self.failures += 1
            structlog.get_logger("crewd.metrics").exception("metrics.encoding_failed")
            body = b"# EOF\n" if form is Format.OPENMETRICS else b""
        if zipped and len(body) > GZIP_ABOVE:
            # Level 1: nearly all of the gain on so repetitive a text, at a fifth of the time.
            return Answer(gzip.compress(body, 1, mtime=0), form.value, gzipped=True)
        return Answer(body, form.value)


@contextmanager
def collector_asleep() -> Iterator[None]:
    """Keep the garbage collector from being woken by many objects that go as they came, by counting references.

    Woken, it would walk everything that crewd knows, and stop every thread meanwhile. May be used by several threads
    at once: only who put it to sleep wakes it, and where the process runs without it, it stays off.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def choose_format(accept: str) -> Format:
    """Read an Accept header, however odd: OpenMetrics 1 where that is preferred, plain text otherwise."""
    best, chosen = 0.0, Format.PLAIN
    for item in accept.split(",")[:32]:
        kind, *parameters = (part.strip().lower() for part in item.split(";"))
        fields = dict(part.split("=", 1) for part in parameters if "=" in part)
        weight = _weight(fields.get("q", "1"))
        if kind == "application/openmetrics-text":
            form = Format.OPENMETRICS
            if fields.get("version", "1.0.0").strip('"') not in ("1.0.0", "0.0.1"):
                continue
        elif kind in ("text/plain", "text/*", "*/*"):
            form = Format.PLAIN
        else:
            continue
        if weight > best:
            best, chosen = weight, form
    return chosen


def accepts_gzip(accept_encoding: str) -> bool:
    """Say whether the client takes gzip."""
    for item in accept_encoding.split(",")[:32]:
        coding, *parameters = (part.strip().lower() for part in item.split(";"))
        if coding in ("gzip", "x-gzip"):
            weights = [part[2:] for part in parameters if part.startswith("q=")]
            return not weights or _weight(weights[0]) > 0
    return False


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0


def _sample_names(names: Iterable[str]) -> set[str]:
    """Let the name of a family stand for all its samples, as well as the name of a sample for itself."""
    return {name.removesuffix("_total") + suffix for name in names for suffix in SUFFIXES} | set(names)
