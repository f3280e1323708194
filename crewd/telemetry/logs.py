"""Logs: structlog through the standard library, so that crewd's own lines and everybody else's look the same."""

import logging
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Literal, TextIO

import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import Processor

from crewd.host.journal import leads_to_journal
from crewd.telemetry.json_text import encode
from crewd.telemetry.redact import Redactor

Format = Literal["auto", "json", "console"]
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
# syslog(3) priorities, as journald reads them from a line's beginning (sd-daemon(3)).
PRIORITY = {"critical": 2, "error": 3, "exception": 3, "warning": 4, "info": 6, "debug": 7}
# Libraries that speak at each request or file; their warnings are enough.
CHATTY = ("uvicorn", "uvicorn.error", "uvicorn.access", "watchfiles", "watchfiles.main", "asyncio")


@dataclass(frozen=True)
class LogOptions:
    """What is logged, and in which form."""

    level: str = "info"
    format: Format = "auto"  # auto: console on a terminal, JSON otherwise

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ValueError(f"log.level is {self.level!r}: give one of {', '.join(LEVELS)}")
        if self.format not in ("auto", "json", "console"):
            raise ValueError(f"log.format is {self.format!r}: give auto, json or console")


def configure(
    options: LogOptions | None = None,
    stream: TextIO | None = None,
    environ: Mapping[str, str] | None = None,
    redactor: Redactor | None = None,
) -> None:
    """Set up logging for the whole process, once at its start; a second call replaces the first.

    `environ` is asked for JOURNAL_STREAM alone.
    """
    options, stream, redactor = options or LogOptions(), stream or sys.stderr, redactor or Redactor()
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.processors.StackInfoRenderer(),
    ]
    journal = leads_to_journal(stream, (environ or {}).get("JOURNAL_STREAM", ""))
    console = options.format == "console" or (options.format == "auto" and not journal and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *(_console(redactor, stream.isatty()) if console else _json(redactor, journal)),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    set_level(options.level)
    structlog.configure(
        # First, so that a line that nobody reads costs a comparison; the level can change while crewd runs.
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def set_level(level: str) -> None:
    """Change what crewd itself logs, from now on."""
    if level not in LEVELS:
        raise ValueError(f"{level!r} is no log level: give one of {', '.join(LEVELS)}")
    logging.getLogger("crewd").setLevel(LEVELS[level])


def level() -> str:
    """Name the least that crewd itself logs now."""
    number = logging.getLogger("crewd").level
    return next((name for name, each in LEVELS.items() if each == number), "info")


def _json(redactor: Redactor, journal: bool) -> list[Processor]:
    return [
        # Without locals: they hold whole manifests, and secrets with them.
        structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False, max_frames=20)),
        structlog.processors.EventRenamer("event"),
        _redact(redactor),
        _json_line(journal),
    ]


def _console(redactor: Redactor, colors: bool) -> list[Processor]:
    return [
        structlog.processors.format_exc_info,
        _redact(redactor),
        _harmless,
        structlog.dev.ConsoleRenderer(colors=colors, timestamp_key="ts"),
    ]


def _redact(redactor: Redactor) -> Processor:
    def redact(_: Any, __: str, line: MutableMapping[str, Any]) -> Mapping[str, Any]:
        return {key: redactor.value({key: _plain(value)})[key] for key, value in line.items()}

    return redact


def _harmless(_: Any, __: str, line: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Let no name that a stranger chose move the cursor, or begin a line of its own."""
    own = {"exception", "stack"}  # made here, of several lines
    return {
        key: value if key in own or not isinstance(value, str) else _visible(value) for key, value in line.items()
    }


def _visible(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def _plain(value: Any) -> Any:
    """Let nothing into a line that JSON has no word for."""
    if value is None or isinstance(value, str | bool | int | float | list | tuple | Mapping):
        return value
    return str(value)


def _json_line(journal: bool) -> Processor:
    def render(_: Any, __: str, line: MutableMapping[str, Any]) -> str:
        ordered = {key: line[key] for key in ("ts", "level", "event", "logger") if key in line}
        text = encode_line(ordered | dict(line))
        # One line whatever it holds (JSON escapes line breaks), so the journal keeps it as one message.
        return f"<{PRIORITY.get(str(line.get('level')), 6)}>{text}" if journal else text

    return render


def encode_line(line: Mapping[str, Any]) -> str:
    """Encode a line; a value inside that JSON has no word for becomes its text."""
    try:
        return encode(line).decode()
    except (TypeError, ValueError):
        return encode({key: str(value) for key, value in line.items()}).decode()
