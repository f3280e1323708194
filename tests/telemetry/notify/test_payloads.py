"""Payloads: what each receiver is sent, as tables, and the facts that its own description demands."""

import json
import re
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from crewd.model.event import Event
from crewd.model.notice import HEARD, SEVERITIES, Notice, notice_of, trial_notice
from crewd.telemetry.notify.payloads import ALERT_SECONDS, FORMAT, alertmanager, alerts_url, plain, slack, text

NOON = 1_767_268_800.0  # 2026-01-01T12:00:00Z
DEAD = Notice(
    "opened", "r1/t1", "dead", "critical", "t1 is dead (exited): pid 7 is gone", NOON, NOON, "blue", "r1", "t1", 9
)
OVER = Notice("resolved", "r1/t1", "dead", "critical", "t1 is dead", NOON + 60, NOON, "blue", "r1", "t1", 10)
CIRCUIT = Notice("opened", "crewd", "circuit:openai", "warning", "open for long", NOON, NOON)

TEXTS = st.text(max_size=40)
NOTICES = st.builds(
    Notice,
    kind=st.sampled_from(["opened", "resolved", "test"]),
    subject=TEXTS,
    cause=TEXTS,
    severity=st.sampled_from(SEVERITIES),
    summary=st.text(max_size=3000),
    at=st.floats(0, 4e9),
    opened_at=st.floats(0, 4e9),
    crew=TEXTS,
    run_id=TEXTS,
    task_id=TEXTS,
    seq=st.integers(0, 10),
)


def test_the_plain_form_has_words_for_a_person_and_facts_for_a_program() -> None:
    assert plain([DEAD], NOON + 1) == {
        "v": 1,
        "at": "2026-01-01T12:00:01.000Z",
        "text": "crewd: critical: dead of r1/t1\nt1 is dead (exited): pid 7 is gone\ncrew blue, run r1, task t1",
        "notices": [
            {
                "kind": "opened",
                "severity": "critical",
                "cause": "dead",
                "subject": "r1/t1",
                "summary": "t1 is dead (exited): pid 7 is gone",
                "at": "2026-01-01T12:00:00.000Z",
                "opened_at": "2026-01-01T12:00:00.000Z",
                "crew": "blue",
                "run_id": "r1",
                "task_id": "t1",
                "seq": 9,
            }
        ],
    }


@pytest.mark.parametrize(
    ("notices", "first"),
    [
        ([DEAD], "crewd: critical: dead of r1/t1"),
        ([OVER], "crewd: resolved: dead of r1/t1"),
        ([CIRCUIT], "crewd: warning: circuit:openai of crewd"),
        ([DEAD, CIRCUIT, OVER], "crewd: 2 incidents opened, 1 resolved"),
        ([trial_notice(NOON)], "crewd: test"),
    ],
)
def test_the_first_line_says_what_it_is_about(notices: list[Notice], first: str) -> None:
    assert text(notices).split("\n")[0] == first
    assert first in slack(notices, NOON)["text"].split("\n")[0]


def test_no_summary_can_address_people_in_slack() -> None:
    evil = Notice("opened", "<!channel>", "dead", "critical", "<!here> & <@U123> <https://x|y>", NOON, NOON)
    for notices in ([evil], [evil, DEAD]):
        assert "<" not in slack(notices, NOON)["text"]


LABEL = re.compile(r"^[a-zA-Z_][a-zA-Z0-9_]*$")


def is_postable_alert(alert: Any) -> bool:
    """What `postableAlert` of the Alertmanager's openapi.yaml (API v2) demands.

    `labels` is required; labels and annotations are sets of texts; the times are date-time, generatorURL a uri. Its
    code refuses an alert without labels, with a label that is no name, or that ends before it starts.
    """
    assert set(alert) <= {"labels", "annotations", "startsAt", "endsAt", "generatorURL"}
    for set_of_labels in (alert["labels"], alert["annotations"]):
        assert all(isinstance(name, str) and isinstance(value, str) for name, value in set_of_labels.items())
        assert all(LABEL.match(name) for name in set_of_labels)
    assert alert["labels"]["alertname"]
    assert alert["generatorURL"] == ""
    return datetime.fromisoformat(alert["startsAt"]) <= datetime.fromisoformat(alert["endsAt"])


@given(st.lists(NOTICES, min_size=1, max_size=5), st.floats(0, 4e9))
def test_every_alert_is_one_that_the_api_takes(notices: list[Notice], now: float) -> None:
    alerts = json.loads(json.dumps(alertmanager(notices, now)))
    assert len(alerts) == len(notices)
    assert all(is_postable_alert(alert) for alert in alerts)


def test_an_alert_is_the_same_when_it_ends_and_ends_by_itself_when_nobody_repeats_it() -> None:
    (opened,), (over,) = alertmanager([DEAD], NOON + 5), alertmanager([OVER], NOON + 65)
    assert (
        opened["labels"]
        == over["labels"]
        == {
            "alertname": "crewd_dead",
            "severity": "critical",
            "cause": "dead",
            "crew": "blue",
            "run": "r1",
            "task": "t1",
        }
    )
    assert opened["startsAt"] == over["startsAt"] == "2026-01-01T12:00:00.000Z"
    assert opened["endsAt"] == "2026-01-01T12:05:05.000Z"
    assert ALERT_SECONDS == 300
    assert over["endsAt"] == "2026-01-01T12:01:00.000Z"
    assert alertmanager([CIRCUIT], NOON)[0]["labels"]["alertname"] == "crewd_circuit"


@pytest.mark.parametrize("url", ["http://am:9093", "http://am:9093/", "http://am:9093/api/v2/alerts"])
def test_the_place_for_alerts_is_found(url: str) -> None:
    assert alerts_url(url) == "http://am:9093/api/v2/alerts"


@given(st.lists(NOTICES, min_size=1, max_size=300))
def test_a_message_is_bounded_whatever_it_tells_of(notices: list[Notice]) -> None:
    for name in ("plain", "slack"):
        words = FORMAT[name](notices, NOON)["text"]
        assert len(words) < 30_000
        assert words


@given(
    st.sampled_from([*HEARD, "task.started"]),
    st.dictionaries(
        st.sampled_from(["subject", "cause", "severity", "summary", "opened_at", "silenced"]),
        st.none() | st.text(max_size=5) | st.integers() | st.lists(st.integers(), max_size=1),
    ),
)
def test_any_event_of_an_incident_makes_a_notice_and_no_other_does(type: str, data: dict[str, Any]) -> None:
    notice = notice_of(Event(type, NOON, data, "r1", "t1", crew="blue", seq=3))
    assert (notice is not None) == (type in HEARD)
    if notice is not None:
        assert notice.severity in SEVERITIES
        assert notice.kind == ("resolved" if type == "incident.resolved" else "opened")


# Of a message to an incoming webhook: https://docs.slack.dev/reference/methods/chat.postMessage (text: at best 4000
# characters, cut after 40 000), and of blocks, which crewd sends none: 50 of them, 3000 characters of text in each.
SLACK_TEXT_BEST, SLACK_TEXT_MAX = 4000, 40_000


@pytest.mark.parametrize(
    ("notices", "most"),
    [
        ([DEAD], SLACK_TEXT_BEST),
        ([structs.replace(DEAD, summary="x" * 100_000)], SLACK_TEXT_BEST),
        ([structs.replace(DEAD, subject="s" * 5000, cause="c" * 5000, run_id="r" * 200)], SLACK_TEXT_BEST),
        ([structs.replace(DEAD, summary="<&>" * 1000, state="graver", former="warning")], SLACK_TEXT_MAX),
        ([structs.replace(DEAD, summary="y" * 1000, task_id=str(number)) for number in range(200)], SLACK_TEXT_MAX),
        ([structs.replace(DEAD, summary="&" * 1000, task_id=str(number)) for number in range(200)], SLACK_TEXT_MAX),
    ],
)
def test_a_message_to_slack_keeps_within_its_limits(notices: list[Notice], most: int) -> None:
    sent = slack(notices, NOON)
    assert set(sent) == {"text"}, "no blocks, which have limits of their own, and which Mattermost does not know"
    assert 0 < len(sent["text"]) <= most
    assert not re.search(r"<(?!!)|<!", sent["text"]), "nothing in it is a mention or a link"
    assert len(json.dumps(sent)) < 100_000


@pytest.mark.parametrize(
    ("state", "former", "first", "second"),
    [
        ("", "", "crewd: critical: dead of r1/t1", "t1 is dead"),
        ("damped", "", "crewd: critical, again and again: dead of r1/t1", "no more is told of it"),
        ("graver", "warning", "crewd: now critical: dead of r1/t1", "told as warning before"),
        ("reminder", "critical", "crewd: still critical: dead of r1/t1", "nobody acknowledged it"),
    ],
)
def test_what_is_told_again_says_why(state: Any, former: str, first: str, second: str) -> None:
    told = structs.replace(DEAD, state=state, former=former)
    assert text([told]).startswith(first) and second in text([told])
    assert first.removeprefix("crewd: ") in slack([told], NOON)["text"] and second in slack([told], NOON)["text"]
    assert plain([told], NOON)["notices"][0].get("state", "") == state
