"""The settings of channels: what is wrong is told all at once, and no secret is ever shown."""

from pathlib import Path
from typing import Any

import pytest

from crewd.config.load import flat, load, masked
from crewd.config.notifications import header_of
from crewd.errors import SettingsError

TOKEN = "T0000-B0000-abcdefabcdef"


def given(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> Any:
    path = tmp_path / "crewd.toml"
    path.write_text(text)
    return load(path, environ or {}).settings


def complaint(tmp_path: Path, text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        given(tmp_path, text)
    return str(caught.value)


def test_an_address_and_headers_come_from_the_credentials_folder(tmp_path: Path) -> None:
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "notifications__channels__chat__url").write_text(f"https://hooks.example/{TOKEN}\n")
    (folder / "notifications__channels__chat__headers").write_text(f"Authorization: Bearer {TOKEN}\nX-Team: night\n")
    (folder / "dead_man__url").write_text(f"https://ping.example/{TOKEN}")
    settings = given(
        tmp_path,
        '[notifications.channels.chat]\nformat = "slack"\n',
        {"CREDENTIALS_DIRECTORY": str(folder)},
    )
    chat = settings.notifications.channels["chat"]
    assert chat.url.get_secret_value() == f"https://hooks.example/{TOKEN}"
    assert [each.get_secret_value() for each in chat.headers][1] == "X-Team: night"
    assert TOKEN not in repr(settings)
    assert TOKEN not in str([masked(value) for value in flat(settings).values()])
    assert TOKEN not in settings.model_dump_json()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["url is missing", "notifications__channels__NAME__url"]),
        (f'url = "ftp://h/{TOKEN}"', ["url is no address that begins with https://"]),
        (f'url = "https://me:{TOKEN}@h/"', ["url holds a login", "Authorization"]),
        (f'url = "https://h/{TOKEN} x"', ["url holds a blank"]),
        ('kind = "command"', ["command is empty"]),
        (f'kind = "log"\nurl = "https://h/{TOKEN}"', ["url and headers mean nothing to a channel of kind log"]),
        ('kind = "log"\ncommand = ["x"]', ["command means nothing to a channel of kind log"]),
        ('kind = "log"\nquiet_hours = "22-7"', ["quiet_hours '22-7' is no part of a day", "leave it empty"]),
        (f'url = "https://h/"\nheaders = ["{TOKEN}"]', ["one of headers is no header", "Name: value"]),
        ('kind = "mail"', ["'mail' is unknown"]),
        ('kind = "log"\nchannel = "x"', ["is no setting"]),
        (
            'kind = "command"\nurl = "https://h/"\nquiet_hours = "x"',
            ["command is empty", "url and headers mean nothing", "quiet_hours 'x'"],
        ),
        ('url = "https://h/"\nlabels = ["job=crewd"]', ["labels mean nothing but to a webhook"]),
        ('kind = "log"\nlabels = ["job=crewd"]', ["labels mean nothing but to a webhook of the format alertmanager"]),
        (
            'url = "https://h/"\nformat = "alertmanager"\n'
            'labels = ["job", "a-b=c", "run=x", "k=1", "k=2", "y=", "z=\\u0007"]',
            [
                "label 'job' is none",
                "label 'a-b=c' is none",
                "label 'run' is set by crewd itself",
                "label 'k' is given twice",
                "label 'y=' is none",
                "label 'z=",
                'write "name=value"',
            ],
        ),
    ],
)
def test_what_is_wrong_with_a_channel_is_told_with_the_remedy_and_without_its_secrets(
    tmp_path: Path, text: str, words: list[str]
) -> None:
    told = complaint(tmp_path, f"[notifications.channels.chat]\n{text}\n")
    assert "notifications.channels.chat" in told
    for each in words:
        assert each in told
    assert TOKEN not in told


def test_a_wrong_address_of_the_dead_man_is_told(tmp_path: Path) -> None:
    assert "dead_man: url is no address" in complaint(tmp_path, f'[dead_man]\nurl = "{TOKEN}"\n')


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("Authorization: Bearer x", ("Authorization", "Bearer x")),
        ("X-A:b:c", ("X-A", "b:c")),
        ("X-A:", ("X-A", "")),
        ("no header", None),
        (": x", None),
        ("X A: b", None),
        ("X: a\r\nY: b", None),
        ("X: \u00e9", None),
    ],
)
def test_a_header_is_a_name_and_a_value_on_one_line(text: str, header: tuple[str, str] | None) -> None:
    assert header_of(text) == header
