"""Two attempts beside each other: fields as a table, texts line by line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.policy.comparing import differences, line_differences


@pytest.mark.parametrize(
    ("base", "other", "told"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 3}, [("a", 1, 3, 2)]),
        ({"a": 0.1}, {"a": 0.3}, [("a", 0.1, 0.3, 0.2)]),
        ({"a": None}, {"a": 0}, [("a", None, 0, None)]),
        ({"a": True}, {"a": False}, [("a", True, False, None)]),
        ({"a": "x"}, {"a": "y"}, [("a", "x", "y", None)]),
        ({"a": 1}, {"b": 1}, [("a", 1, None, None), ("b", None, 1, None)]),
        ({"usage": {"input": 1, "output": 2}}, {"usage": {"input": 5, "output": 2}}, [("usage.input", 1, 5, 4)]),
        ({"usage": None}, {"usage": {"input": 5}}, [("usage.input", None, 5, None)]),
    ],
)
def test_a_field_is_told_where_it_is_not_the_same(base: dict, other: dict, told: list) -> None:  # type: ignore[type-arg]
    assert [tuple(each.values()) for each in differences(base, other)] == told


@pytest.mark.parametrize(
    ("base", "other", "signs"),
    [
        ("", "", []),
        ("a\nb", "a\nb\n", []),
        ("a\nb\n", "a\nc\n", ["@", " a", "-b", "+c"]),
        ("", "new\n", ["@", "+new"]),
        ("--- x\n", "+++ x\n", ["@", "---- x", "++++ x"]),
        ("@@ -1 @@\n", "x\n", ["@", "-@@ -1 @@", "+x"]),
    ],
)
def test_texts_are_told_line_by_line(base: str, other: str, signs: list[str]) -> None:
    assert [each["sign"] + each["text"] for each in line_differences(base, other)] == signs


@given(st.dictionaries(st.text(max_size=3), st.integers()), st.dictionaries(st.text(max_size=3), st.integers()))
def test_what_is_compared_with_itself_differs_in_nothing_and_the_other_way_round_it_is_the_same_fields(
    one: dict[str, int], two: dict[str, int]
) -> None:
    assert list(differences(one, one)) == []
    assert {each["field"] for each in differences(one, two)} == {each["field"] for each in differences(two, one)}
