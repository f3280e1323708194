"""What the pages call a command of crewd is one, with options that it has."""

import pytest

from tests.docs.lines import complaint, spoken_complaint
from tests.docs.pages import PAGES, spoken


@pytest.mark.parametrize("page", PAGES)
def test_every_command_in_a_sentence_exists(page: str) -> None:
    wrong = [
        f"{page}:{line}: `{text}`: {told}"
        for line, text in spoken(page)
        if text.startswith("crewd ") and (told := spoken_complaint(text))
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "text",
    ["crewd watch", "crewd status --wach", "crewd deadletter drop", "crewd config check|shout", "crewd why -z"],
)
def test_a_command_that_does_not_exist_is_found(text: str) -> None:
    assert spoken_complaint(text)


@pytest.mark.parametrize(
    "text",
    ["crewd", "crewd status --watch", "crewd config check|show", "crewd worker check -- sh --any", "crewd.toml"],
)
def test_a_command_that_exists_is_left_alone(text: str) -> None:
    assert spoken_complaint(text) == ""


@pytest.mark.parametrize(
    "line",
    [
        "watch",
        "status --wach",
        "explain nightly",
        "why a b",
        "events --limit many",
        "deadletter drop X",
    ],
)
def test_a_command_line_that_does_not_fit_is_found(line: str) -> None:
    assert complaint(line.split())


@pytest.mark.parametrize("line", ["--version", "status --watch", "deadletter list --group", "explain nightly index"])
def test_a_command_line_that_fits_is_left_alone(line: str) -> None:
    assert complaint(line.split()) == ""
