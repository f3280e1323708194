"""What the settings say of notifications reaches the parts, and what is secret in them is known to the redaction."""

from typing import Any

from crewd import assembly
from crewd.config.settings import Settings
from crewd.policy.notifying import Quiet, Route
from crewd.telemetry.notify.options import ChannelOptions, DeadManOptions, NotifyOptions
from crewd.telemetry.redact import Redactor

TOKEN = "T0000-B0000-abcdefabcdef"


def settings(**groups: Any) -> Settings:
    return Settings(**groups)


def test_without_settings_nobody_is_told() -> None:
    assert assembly.notify_options(Settings(), {}) == NotifyOptions()


def test_the_defaults_of_a_channel_are_those_of_the_part() -> None:
    given = settings(notifications={"channels": {"x": {"kind": "log"}}})
    assert assembly.notify_options(given, {}).channels == (ChannelOptions("x", kind="log"),)


def test_every_setting_of_a_channel_reaches_it() -> None:
    channel = {
        "url": f"https://h/{TOKEN}",
        "format": "slack",
        "headers": ["X-A: b c"],
        "min_severity": "critical",
        "crews": ["night-*"],
        "quiet_hours": "22:00-07:00",
        "quiet_critical": False,
        "rate_per_minute": 3,
        "burst": 2,
        "timeout": "3s",
        "attempts_max": 4,
        "age_max": "5m",
        "remind_every": "2h",
    }
    given = settings(
        notifications={"channels": {"chat": channel, "page": {"kind": "command", "command": ["a", "b"]}}},
        dead_man={"url": f"https://p/{TOKEN}", "method": "POST", "file": "/run/x", "every": "2m", "timeout": "1s"},
    )
    options = assembly.notify_options(given, {"PATH": "/bin", "CREWD_HTTP__TOKEN": "x", "CREDENTIALS_DIRECTORY": "y"})
    route = Route("critical", ("night-*",), Quiet(79_200.0, 25_200.0), False)
    assert options.channels[0] == ChannelOptions(
        "chat",
        url=f"https://h/{TOKEN}",
        format="slack",
        headers=(("X-A", "b c"),),
        environ={"PATH": "/bin"},
        route=route,
        rate_per_minute=3.0,
        burst=2,
        timeout=3.0,
        attempts_max=4,
        age_max=300.0,
        remind_every=7200.0,
    )
    assert options.channels[1] == ChannelOptions("page", kind="command", command=("a", "b"), environ={"PATH": "/bin"})
    assert options.dead_man == DeadManOptions(f"https://p/{TOKEN}", "POST", "/run/x", 120.0, 1.0)
    assert TOKEN not in repr(options)


def test_labels_reach_the_alerts_of_a_channel() -> None:
    channel = {"url": "https://h/", "format": "alertmanager", "labels": ["job=crewd", "instance = a=b:1"]}
    given = settings(notifications={"channels": {"alerts": channel}})
    assert assembly.notify_options(given, {}).channels[0].labels == (("job", "crewd"), ("instance", "a=b:1"))


def test_switched_off_nobody_is_told_and_the_sign_of_life_goes_on() -> None:
    given = settings(
        notifications={"enabled": False, "channels": {"x": {"kind": "log"}}}, dead_man={"file": "/run/alive"}
    )
    options = assembly.notify_options(given, {})
    assert options.channels == ()
    assert options.dead_man.wanted


def test_addresses_and_headers_are_taken_out_of_whatever_is_written() -> None:
    channel = {"url": f"https://h/services/{TOKEN}", "headers": [f"X-Key: Custom {TOKEN}-2"]}
    given = settings(notifications={"channels": {"x": channel}}, dead_man={"url": f"https://p/?k={TOKEN}-3"})
    redactor = Redactor(assembly.secrets(given))
    for text in (f"/services/{TOKEN}", f"Custom {TOKEN}-2", f"{TOKEN}-2", f"k={TOKEN}-3"):
        assert TOKEN not in redactor.text(f"said: {text}!")
