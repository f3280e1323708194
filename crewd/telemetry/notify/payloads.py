"""Payloads: one message, in the words of each receiver. Nothing here is redacted; the delivery does that."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from crewd.model.moment import rfc3339
from crewd.model.notice import Notice

VERSION = 1
LISTED_MAX = 20  # incidents that one message of several names
WORDS_MAX = 1000  # characters of one summary
TITLE_MAX = 200
ALERT_SECONDS = 300.0  # an alert that is not sent again ends by itself: crewd repeats it each minute
API = "/api/v2/alerts"
# By the state of a notice.
WORDS = {"damped": "{}, again and again", "graver": "now {}", "anew": "again {}", "reminder": "still {}"}
SIGNS = {"critical": ":red_circle:", "warning": ":large_yellow_circle:", "info": ":information_source:"}


def plain(notices: Sequence[Notice], at: float) -> dict[str, Any]:
    """JSON of crewd's own: `text` for a person, `notices` for a program."""
    return {"v": VERSION, "at": rfc3339(at), "text": text(notices), "notices": [record(each) for each in notices]}


def slack(notices: Sequence[Notice], at: float) -> dict[str, Any]:
    """An incoming webhook of Slack, and of what speaks like it (Mattermost, Rocket.Chat): `text` in mrkdwn."""
    lines = [f"{_sign(notices)} *{_escape(title(notices))}*"]
    if len(notices) == 1:
        lines += [_escape(_cut(notices[0].summary)), _escape(_why(notices[0]))]
        lines.append(_escape(_where(notices[0])))
    else:
        lines += [f"• {_escape(line)}" for line in _listed(notices)]
    return {"text": "\n".join(line for line in lines if line)}


def alertmanager(notices: Sequence[Notice], at: float) -> list[dict[str, Any]]:
    """`postableAlerts` of the Alertmanager API v2. Its labels are an alert's identity: the same when it ends."""
    return [_alert(each, at) for notice in notices for each in _severities(notice, at)]


def labelled(alerts: Sequence[Mapping[str, Any]], labels: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Put labels onto alerts; those that crewd sets itself count more."""
    return [{**alert, "labels": {**dict(labels), **alert["labels"]}} for alert in alerts]


def text(notices: Sequence[Notice]) -> str:
    """A message as plain lines: a title, and what it is about."""
    if len(notices) == 1:
        parts = (title(notices), _cut(notices[0].summary), _why(notices[0]), _where(notices[0]))
        return "\n".join(part for part in parts if part)
    return "\n".join([title(notices), *(f"- {line}" for line in _listed(notices))])


def title(notices: Sequence[Notice]) -> str:
    """Say in one line what a message is about."""
    if len(notices) != 1:
        ended = sum(each.kind == "resolved" for each in notices)
        return f"crewd: {len(notices) - ended} incidents opened, {ended} resolved"
    notice = notices[0]
    if notice.kind == "test":
        return "crewd: test"
    return _cut(f"crewd: {_word(notice)}: {notice.cause} of {notice.subject}", TITLE_MAX)


def record(notice: Notice) -> dict[str, Any]:
    """One notice as a program reads it."""
    found: dict[str, Any] = {
        "kind": notice.kind,
        "severity": notice.severity,
        "cause": notice.cause,
        "subject": notice.subject,
        "summary": _cut(notice.summary),
        "at": rfc3339(notice.at),
        "opened_at": rfc3339(notice.opened_at),
    }
    for name in ("state", "crew", "crews", "run_id", "task_id", "seq"):
        if value := getattr(notice, name):
            found[name] = value
    return found


FORMAT: Mapping[str, Callable[[Sequence[Notice], float], Any]] = {
    "plain": plain,
    "slack": slack,
    "alertmanager": alertmanager,
}


def alerts_url(url: str) -> str:
    """Name the place for alerts, given it or the root of an Alertmanager."""
    return url if url.rstrip("/").endswith(API) else url.rstrip("/") + API


def _alert(notice: Notice, at: float) -> dict[str, Any]:
    ends_at = notice.at if notice.kind == "resolved" else at + ALERT_SECONDS
    return {
        "labels": _labels(notice),
        "annotations": {
            "summary": _cut(title([notice]), TITLE_MAX),
            "description": "\n".join(part for part in (_cut(notice.summary), _why(notice)) if part),
        },
        "startsAt": rfc3339(notice.opened_at),
        # Never before its beginning, which a wall clock that was set could make of it.
        "endsAt": rfc3339(max(ends_at, notice.opened_at)),
        "generatorURL": "",
    }


def _severities(notice: Notice, at: float) -> list[Notice]:
    """An alert of another severity is another alert: the one that was told before ends."""
    if notice.state != "graver" or not notice.former:
        return [notice]
    return [msgspec.structs.replace(notice, kind="resolved", severity=notice.former, at=at, state=""), notice]


def _labels(notice: Notice) -> dict[str, str]:
    # The cause of one thing among many names it: "circuit:openai". What kind it is groups better.
    labels = {
        "alertname": f"crewd_{notice.cause.partition(':')[0]}",
        "severity": notice.severity,
        "cause": notice.cause,
        "crew": notice.crew,
        "run": notice.run_id,
        "task": notice.task_id,
    }
    # An empty label is the same as none there.
    return {name: value for name, value in labels.items() if value}


def _listed(notices: Sequence[Notice]) -> list[str]:
    lines = [f"{_word(each)}: {_cut(each.summary or each.subject, TITLE_MAX)}" for each in notices[:LISTED_MAX]]
    more = len(notices) - LISTED_MAX
    return [*lines, f"and {more} more: crewd status"] if more > 0 else lines


def _word(notice: Notice) -> str:
    if notice.kind == "resolved":
        return "resolved"
    return WORDS.get(notice.state, "{}").format(notice.severity)


def _why(notice: Notice) -> str:
    """Say why an open incident is told once more."""
    if notice.kind != "opened":
        return ""
    match notice.state:
        case "damped":
            return "It opens again and again: no more is told of it until it has been quiet."
        case "graver":
            return f"It was told as {notice.former or 'less'} before."
        case "anew":
            return "It was told before: since then more of it happened, or its snooze ended."
        case "reminder":
            return f"It is open since {rfc3339(notice.opened_at)}, and nobody acknowledged it."
    return ""


def _where(notice: Notice) -> str:
    crews = _cut(", ".join(notice.crews), TITLE_MAX)
    facts = (("crew", crews or notice.crew), ("run", notice.run_id), ("task", notice.task_id))
    return ", ".join(f"{name} {value}" for name, value in facts if value)


def _sign(notices: Sequence[Notice]) -> str:
    if all(each.kind == "resolved" for each in notices):
        return ":large_green_circle:"
    worst = [each.severity for each in notices if each.kind != "resolved"]
    return next(SIGNS[severity] for severity in SIGNS if severity in worst)


def _escape(words: str) -> str:
    """Take their meaning from the three characters that control Slack's text: no summary may page a channel."""
    return words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _cut(words: str, most: int = WORDS_MAX) -> str:
    return words if len(words) <= most else words[: most - 3] + "..."
