"""`crewd notify test`, what `crewd doctor` says of channels, and its canary."""

import json
from pathlib import Path
from typing import Any

import pytest

from crewd.cli import canary
from crewd.cli.canary import Step
from tests.cli.world import crewd
from tests.fakes.receiver import Receiver

TOKEN = "T0000-B0000-abcdefabcdef"


def written(folder: Path, text: str) -> tuple[str, str]:
    path = folder / "crewd.toml"
    path.write_text(text)
    return "--config", str(path)


@pytest.mark.real_time
def test_a_test_message_goes_out_on_every_channel_and_the_failures_are_told(tmp_path: Path) -> None:
    with Receiver(200, 404) as receiver:
        options = written(
            tmp_path,
            f'[notifications.channels.chat]\nurl = "{receiver.url}/{TOKEN}"\nformat = "slack"\ncrews = ["nobody"]\n'
            f'[notifications.channels.gone]\nurl = "{receiver.url}/{TOKEN}"\n',
        )
        result = crewd("notify", "test", "--json", *options, folder=tmp_path)
        assert result.exit_code == 1
        told = json.loads(result.stdout)
        assert [(each["channel"], each["ok"], each.get("error")) for each in told["channels"]] == [
            ("chat", True, None),
            ("gone", False, "answered 404"),
        ]
        assert "crewd: test" in receiver.got[0]["text"]
        assert receiver.got[1]["notices"][0]["kind"] == "test"
        one = crewd("notify", "test", "chat", *options, folder=tmp_path)
        assert (one.exit_code, len(receiver.got)) == (1, 3)
        assert one.stdout.startswith("chat: answered 404")
        assert TOKEN not in result.output + one.output


def test_a_channel_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    options = written(tmp_path, '[notifications.channels.here]\nkind = "log"\n')
    result = crewd("notify", "test", "there", *options, folder=tmp_path)
    assert result.exit_code == 3
    assert "there is no channel there; notifications.channels has: here" in result.stderr
    assert crewd("notify", "test", folder=tmp_path).exit_code == 3


def findings(folder: Path, text: str) -> dict[str, dict[str, Any]]:
    result = crewd("doctor", "--json", *written(folder, text), folder=folder)
    assert TOKEN not in result.output
    return {each["name"]: each for each in json.loads(result.stdout)["findings"]}


def test_doctor_looks_at_the_form_of_channels_and_sends_nothing(tmp_path: Path) -> None:
    with Receiver() as receiver:
        found = findings(
            tmp_path,
            f'[notifications.channels.near]\nurl = "{receiver.url}/{TOKEN}"\n'
            f'[notifications.channels.far]\nurl = "http://chat.example/{TOKEN}"\n'
            '[notifications.channels.page]\nkind = "command"\ncommand = ["no-such-program-of-anybody"]\n'
            '[notifications.channels.cat]\nkind = "command"\ncommand = ["cat"]\n'
            f'[dead_man]\nfile = "{tmp_path}/no/alive"\n',
        )
        assert receiver.got == []
    assert {name: found[name]["state"] for name in found if name.startswith(("channel", "dead"))} == {
        "channel near": "ok",
        "channel far": "warn",
        "channel page": "FAIL",
        "channel cat": "ok",
        "dead man": "FAIL",
    }
    assert "use https" in found["channel far"]["remedy"]


def test_doctor_says_that_nobody_is_told(tmp_path: Path) -> None:
    assert "nobody is told" in findings(tmp_path, "")["notifications"]["what"]


@pytest.mark.slow
@pytest.mark.real_time
def test_the_canary_arrives_and_every_step_has_its_time(tmp_path: Path) -> None:
    steps = canary.fly()
    assert [step.name for step in steps] == [
        "crewd is ready",
        "the worker is seen, the first hold over",
        "its death is judged",
        "its incident is recorded",
        "the message arrives",
        "the message of its end arrives",
    ]
    assert all(step.seconds is not None and step.seconds < 20 for step in steps), steps


def test_a_canary_that_does_not_arrive_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary, "fly", lambda: [Step("crewd is ready", 0.5), Step("the worker is seen", None)])
    result = crewd("doctor", "--canary", "--json", folder=tmp_path)
    assert result.exit_code == 1
    assert [each["state"] for each in json.loads(result.stdout)["findings"]] == ["ok", "FAIL"]
