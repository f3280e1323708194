import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.telemetry.labels import Admission, clean


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("blue", "blue"),
        ("", "unknown"),
        (" \t\n", "unknown"),
        ("a\nb\x1b[31m", "ab[31m"),
        ("two  words ", "two words"),
        ("x" * 64, "x" * 64),
        ("x" * 65, "x" * 64),
        ("tab\there", "tabhere"),
        ("\ud800", "unknown"),
        ("x" * 100_000, "x" * 64),
        ("\u202ehidden", "hidden"),
        ("crew \u00e9\u4e2d", "crew \u00e9\u4e2d"),
    ],
)
def test_any_text_becomes_a_label_value(text: str, label: str) -> None:
    assert clean(text) == label


@given(st.text())
def test_a_label_value_is_short_printable_and_stays_itself(text: str) -> None:
    value = clean(text)
    assert 0 < len(value) <= 64 and clean(value) == value
    assert not any(unicodedata.category(char)[0] == "C" for char in value)
    value.encode()


def test_those_who_come_after_the_cap_are_others_and_those_inside_keep_their_name() -> None:
    crews = Admission(2)
    assert [crews.admit(crew) for crew in ("a", "b", "c", "a", "c")] == ["a", "b", "other", "a", "other"]
    assert crews.values() == {"a", "b"}
    assert crews.label_of("c") == "other" and crews.label_of("b") == "b"


def test_a_released_name_makes_room() -> None:
    crews = Admission(1)
    crews.admit("a")
    crews.release(["a"])
    assert crews.admit("b") == "b" and crews.admit("a") == "other"


def test_asking_lets_nobody_in() -> None:
    crews = Admission(1)
    assert crews.label_of("a") == "a"
    assert crews.admit("b") == "b"
    assert crews.label_of("a") == "other"


def test_a_flood_of_spellings_is_not_remembered() -> None:
    crews = Admission(3)
    for number in range(10_000):
        crews.admit(f"crew{number}")
        crews.admit("a" + "\x00" * number)
    assert len(crews.values()) == 3


def test_a_crew_that_calls_itself_other_or_unknown_takes_no_place() -> None:
    crews = Admission(1)
    assert [crews.admit(crew) for crew in ("other", "", "a")] == ["other", "unknown", "a"]
