import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.cli.screen import columns, plain
from crewd.cli.text import clean, clean_json, count, span


@given(st.text())
def test_a_cleaned_text_is_one_line_without_controls(text: str) -> None:
    cleaned = clean(text)
    assert len(cleaned.splitlines()) <= 1
    assert all(char.isprintable() or char.isspace() or ord(char) > 0x9F for char in cleaned)


@pytest.mark.parametrize("char", ["\x00", "\x1b", "\x7f", "\x9b", "\u202e", "\u2066", "\u200b", "\ufeff", "\ud800"])
def test_each_kind_of_control_is_shown_as_what_it_is(char: str) -> None:
    assert clean(f"a{char}b") == "a\ufffdb"


def test_ordinary_texts_of_any_language_stay_as_they_are() -> None:
    for text in ("zażółć gęślą", "絵文字 🙂", "a [bold]b[/bold]"):
        assert clean(text) == text


def test_a_long_text_is_cut_with_a_sign() -> None:
    assert clean("x" * 10, 5) == "xxxx…"
    assert clean("x" * 5, 5) == "xxxxx"


@given(st.dictionaries(st.text(), st.text()))
def test_cleaned_json_is_the_same_json_without_controls(value: dict[str, str]) -> None:
    text = clean_json(json.dumps(value, ensure_ascii=False))
    assert json.loads(text) == value
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-1, "0s"), (0, "0s"), (59.9, "59s"), (60, "1m00s"), (185, "3m05s"), (7800, "2h10m"), (367_200, "4d6h")],
)
def test_a_span_is_written_in_two_units_at_most(seconds: float, words: str) -> None:
    assert span(seconds) == words


def test_one_is_not_written_as_many() -> None:
    assert (count(1, "run"), count(0, "run"), count(2, "run")) == ("1 run", "0 runs", "2 runs")


def test_columns_line_up_and_leave_the_last_one_alone() -> None:
    rows = columns([[("a", ""), ("long text", "")], [("bbb", ""), ("x", ""), ("y", "")]])
    assert [plain(row) for row in rows] == ["a    long text", "bbb  x          y"]
