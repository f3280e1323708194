"""The settings of what is told to people outside: channels and the dead-man ping."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, PlainSerializer, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from crewd.config.group import Group
from crewd.config.values import Duration, Fixed, Name, Secrets, SecretText, Texts
from crewd.policy.notifying import quiet_hours

WRITE_HEADER = "write Name: value, one a line in a file of the credentials folder"
OWN_LABELS = ("alertname", "severity", "cause", "crew", "run", "task")
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_HEADER_NAME = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")  # RFC 9110, 5.6.2


class NotifyChannel(Group):
    """One way to reach people, under a name of its own."""

    kind: Literal["webhook", "command", "desktop", "log"] = Field(
        default="webhook",
        description="webhook: POST to url; command: run it; desktop: notify-send; log: a line in crewd's own log.",
    )
    url: SecretText = Field(default=None, description="Address of a webhook, https://HOST/PATH.")
    format: Literal["plain", "slack", "alertmanager"] = Field(
        default="plain", description="Of a webhook: JSON of crewd's own, Slack's, or the Alertmanager API v2."
    )
    headers: Secrets = Field(default=(), description='Headers of a webhook, each "Name: value".')
    labels: Texts = Field(
        default=(),
        description='Of the format alertmanager: more labels of each alert, "name=value", such as job and instance '
        "that Prometheus gives to what it scrapes from here.",
    )
    command: Texts = Field(
        default=(), description="Program and arguments; it gets JSON on stdin, and no shell is involved."
    )
    min_severity: Literal["info", "warning", "critical"] = Field(
        default="warning", description="The least that is told."
    )
    crews: Texts = Field(
        default=(), description="Globs of crews; none = all of them, and what concerns crewd itself."
    )
    quiet_hours: str = Field(
        default="",
        description="What opens in this part of the day is told after it, if still open: 22:00-07:00 (UTC), or "
        "22:00-07:00+02:00.",
    )
    quiet_critical: bool = Field(default=True, description="Critical incidents are told in quiet hours too.")
    rate_per_minute: float = Field(
        default=20.0, ge=0.1, le=6000, description="Messages in a minute; what is beyond goes into one together."
    )
    burst: int = Field(default=5, ge=1, le=1000, description="So many messages at once, before the rate counts.")
    timeout: Duration = Field(default=10.0, ge=0.1, le=60, description="Of one try to deliver.")
    attempts_max: int = Field(default=20, ge=1, le=1000, description="Tries at one message.")
    age_max: Duration = Field(
        default=3600.0, ge=1, le=7 * 86400, description="How long a receiver in trouble is tried for each message."
    )
    remind_every: Duration = Field(
        default=14_400.0,
        ge=0,
        le=7 * 86400,
        description="What is critical, open, and neither acknowledged nor snoozed is told again so often; 0: never.",
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        wrong = list(self._wrong())
        if wrong:
            what, remedy = ("; ".join(dict.fromkeys(words)) for words in zip(*wrong, strict=True))
            raise PydanticCustomError("channel", "{what}", {"what": what, "remedy": remedy})
        return self

    def _wrong(self) -> Iterator[tuple[str, str]]:
        if self.kind == "webhook":
            why = wrong_address(self.url)
            if why:
                yield f"url {why}", "give the address in the file notifications__channels__NAME__url"
        if self.kind == "command" and not (self.command and self.command[0]):
            yield "command is empty", 'write command = ["program", "argument"]'
        if self.kind != "webhook" and (self.url is not None or self.headers):
            yield f"url and headers mean nothing to a channel of kind {self.kind}", "take them out"
        if self.kind != "command" and self.command:
            yield f"command means nothing to a channel of kind {self.kind}", 'kind = "command"'
        for header in self.headers:
            # The header itself is a secret, and not shown.
            if header_of(header.get_secret_value()) is None:
                yield "one of headers is no header", WRITE_HEADER
        yield from self._wrong_labels()
        try:
            quiet_hours(self.quiet_hours)
        except ValueError as error:
            yield f"quiet_hours {error}", "leave it empty for none"

    def _wrong_labels(self) -> Iterator[tuple[str, str]]:
        if self.labels and (self.kind, self.format) != ("webhook", "alertmanager"):
            yield "labels mean nothing but to a webhook of the format alertmanager", "take them out"
        names: set[str] = set()
        for text in self.labels:
            label = label_of(text)
            if label is None:
                yield f"label {text!r} is none", 'write "name=value", with letters, digits and _ in the name'
            elif label[0] in OWN_LABELS:
                yield f"label {label[0]!r} is set by crewd itself", "take it out, or give it another name"
            elif label[0] in names:
                yield f"label {label[0]!r} is given twice", "leave one of the two"
            else:
                names.add(label[0])


class Notifications(Group):
    """Who is told of incidents, and how."""

    enabled: bool = Field(default=True, description="Tell anybody at all.")
    channels: Annotated[Mapping[Name, NotifyChannel], Fixed, PlainSerializer(dict)] = Field(
        default={}, validate_default=True, description="The channels, each under a name of its own."
    )


class DeadMan(Group):
    """A sign of life after complete rounds, for something that raises the alarm when it is missing."""

    url: SecretText = Field(default=None, description="Asked each time; any answer of 2xx is a success.")
    method: Literal["GET", "POST"] = Field(default="GET", description="How it is asked.")
    file: str = Field(default="", description="File that is written each time.")
    every: Duration = Field(default=60.0, ge=1, le=86400, description="Time from one to the next.")
    timeout: Duration = Field(default=10.0, ge=0.1, le=60, description="Of one.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        why = wrong_address(self.url) if self.url is not None else ""
        if why:
            raise PydanticCustomError(
                "address", "{what}", {"what": f"url {why}", "remedy": "give it in the file dead_man__url"}
            )
        return self


def wrong_address(url: SecretStr | None) -> str:
    """Say what is wrong with an address, without showing it; "": nothing is."""
    if url is None:
        return "is missing"
    text = url.get_secret_value()
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return "is no address"
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        return "is no address that begins with https:// or http://"
    if parts.username is not None:
        return "holds a login, which belongs into a header (Authorization: Basic ...)"
    return "holds a blank or a control character" if any(char <= " " or char == "\x7f" for char in text) else ""


def label_of(text: str) -> tuple[str, str] | None:
    """Part "name=value"; None: it is no label."""
    name, _, value = (part.strip() for part in text.partition("="))
    return (name, value) if _LABEL_NAME.fullmatch(name) and value and value.isprintable() else None


def header_of(text: str) -> tuple[str, str] | None:
    """Part "Name: value"; None: it is no header."""
    name, colon, value = text.partition(":")
    value = value.strip()
    if not colon or not name or not set(name.lower()) <= _HEADER_NAME or not value.isprintable():
        return None
    return (name, value) if value.isascii() else None
