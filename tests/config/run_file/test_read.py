"""Texts into values: the same of TOML, JSON and YAML, and nothing that only one of them could say."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.config.run_file import Format, RunRefused, format_of, read_text

VALUE = {
    "name": "x",
    "tasks": [{"id": "a", "command": ["echo", "ü"], "timeout": 1.5, "shell": False, "priority": -3}],
}
SAME: tuple[tuple[Format, str], ...] = (
    ("json", json.dumps(VALUE)),
    (
        "toml",
        'name = "x"\n[[tasks]]\nid = "a"\ncommand = ["echo", "ü"]\ntimeout = 1.5\nshell = false\npriority = -3\n',
    ),
    (
        "yaml",
        'name: x\ntasks:\n- id: a\n  command: [echo, "ü"]\n  timeout: 1.5\n  shell: false\n  priority: -3\n',
    ),
)


def refused(text: str | bytes, format: Format) -> RunRefused:
    with pytest.raises(RunRefused) as caught:
        read_text(text, format, "crew")
    return caught.value


def only(text: str | bytes, format: Format) -> tuple[str, str, str]:
    (problem,) = refused(text, format).problems
    return problem.pointer, problem.code.value, problem.message


@pytest.mark.parametrize(("format", "text"), SAME)
def test_the_three_formats_say_the_same(format: Format, text: str) -> None:
    assert read_text(text, format) == VALUE
    assert read_text(text.encode(), format) == VALUE
    assert read_text(b"\xef\xbb\xbf" + text.encode(), format) == VALUE
    assert read_text("\ufeff" + text, format) == VALUE


@pytest.mark.parametrize(
    ("name", "format"), [("a.toml", "toml"), ("A.JSON", "json"), ("b.c.yaml", "yaml"), ("x/y.yml", "yaml")]
)
def test_the_suffix_tells_the_format(name: str, format: Format) -> None:
    assert format_of(name) == format


@pytest.mark.parametrize("name", ["crew", "crew.txt", "toml", ""])
def test_another_suffix_is_refused_with_those_that_are_known(name: str) -> None:
    with pytest.raises(RunRefused, match=r"name it \.toml, \.json, \.yaml or \.yml") as caught:
        format_of(name)
    assert caught.value.exit_code == 78


@pytest.mark.parametrize(
    ("format", "text", "pointer"),
    [
        ("json", '{"a": 1, "a": 2}', "/a"),
        ("json", '{"tasks": [{"id": 1}, {"x/y": {"b": 1, "b": 1}}]}', "/tasks/1/x~1y/b"),
        ("yaml", "a: 1\na: 2\n", "/a"),
        ("yaml", "tasks:\n- id: 1\n- x/y:\n    b: 1\n    'b': 1\n", "/tasks/1/x~1y/b"),
        ("toml", "a = 1\na = 2\n", ""),
        ("toml", "[a]\n[a]\n", ""),
        ("toml", "a = {b = 1, b = 2}\n", ""),
        ("toml", "a.b = 1\n[a]\n", ""),
    ],
)
def test_a_name_that_stands_twice_is_refused(format: Format, text: str, pointer: str) -> None:
    found = only(text, format)
    assert found[:2] == (pointer, "DUPLICATE_KEY")


def test_every_name_that_stands_twice_is_told() -> None:
    text = '{"a": 1, "a": 1, "b": [{"c": 1, "c": 1, "c": 2}], "d": {"e": {"f": 1, "f": 2}}}'
    assert [each.pointer for each in refused(text, "json").problems] == ["/a", "/b/0/c", "/d/e/f"]


@pytest.mark.parametrize(
    ("format", "text", "code"),
    [
        ("json", "{", "BAD_SYNTAX"),
        ("json", "", "BAD_SYNTAX"),
        ("json", "[1,]", "BAD_SYNTAX"),
        ("json", '{"a": NaN}', "VALUE_OUT_OF_RANGE"),
        ("json", '{"a": -Infinity}', "VALUE_OUT_OF_RANGE"),
        ("json", '{"a": 1e400}', "VALUE_OUT_OF_RANGE"),
        ("json", '{"a": 9223372036854775808}', "VALUE_OUT_OF_RANGE"),
        ("json", '{"a": -9223372036854775809}', "VALUE_OUT_OF_RANGE"),
        ("json", '{"a": ' + "9" * 5000 + "}", "VALUE_OUT_OF_RANGE"),
        ("json", r'{"a": "\ud800"}', "BAD_TEXT"),
        ("json", r'{"\ud800": 1}', "BAD_TEXT"),
        ("toml", "a = [", "BAD_SYNTAX"),
        ("toml", "a = nan", "VALUE_OUT_OF_RANGE"),
        ("toml", "a = inf", "VALUE_OUT_OF_RANGE"),
        ("toml", "a = 1e400", "VALUE_OUT_OF_RANGE"),
        ("toml", "a = 0x" + "f" * 5000, "VALUE_OUT_OF_RANGE"),
        ("toml", "a = " + "9" * 5000, "BAD_SYNTAX"),
        ("toml", "a = 2026-01-01", "TYPE_MISMATCH"),
        ("toml", "a = 12:30:00", "TYPE_MISMATCH"),
        ("yaml", "a: [", "BAD_SYNTAX"),
        ("yaml", "\t- a", "BAD_SYNTAX"),
        ("yaml", "a\0b", "BAD_SYNTAX"),
        ("yaml", "a: .nan", "VALUE_OUT_OF_RANGE"),
        ("yaml", "a: -.inf", "VALUE_OUT_OF_RANGE"),
        ("yaml", "a: 1e400", "VALUE_OUT_OF_RANGE"),
        ("yaml", "a: " + "9" * 5000, "VALUE_OUT_OF_RANGE"),
        ("yaml", "a: 0x" + "f" * 5000, "VALUE_OUT_OF_RANGE"),
        ("yaml", "a: &x [1]\nb: *x\n", "BAD_SYNTAX"),
        ("yaml", "<<: *x\n", "BAD_SYNTAX"),
        ("yaml", "a: !!python/object/apply:os.system [id]\n", "BAD_SYNTAX"),
        ("yaml", "a: !!str 5\n", "BAD_SYNTAX"),
        ("yaml", "a: !mine 5\n", "BAD_SYNTAX"),
        ("yaml", "a: 1\n---\nb: 1\n", "BAD_SYNTAX"),
        ("yaml", "? [a]\n: 1\n", "BAD_SYNTAX"),
    ],
)
def test_what_is_not_accepted_is_one_problem(format: Format, text: str, code: str) -> None:
    assert only(text, format)[1] == code


@pytest.mark.parametrize(
    ("format", "text", "place"),
    [
        ("json", '{\n"a": }', "line 2, column 6: "),
        ("toml", "a = 1\nb = \n", "line 2, column 5: "),
        ("toml", "a = [", "at the end: "),
        ("yaml", "a: 1\nb: [\n", "line 3, column 1: "),
        ("yaml", "a: 1\nb: *x\n", "line 2: "),
    ],
)
def test_what_cannot_be_read_is_told_with_its_line(format: Format, text: str, place: str) -> None:
    assert only(text, format)[2].startswith(place)


@pytest.mark.parametrize("format", ["json", "toml", "yaml"])
def test_bytes_that_are_not_utf_8_and_texts_that_are_not_unicode_are_refused(format: Format) -> None:
    assert only(b"a = 1\xff", format) == ("", "BAD_SYNTAX", "is not UTF-8 from byte 5 on")
    assert only("a: \ud800", format)[1] == "BAD_TEXT"


@pytest.mark.parametrize("format", ["json", "toml", "yaml"])
def test_what_is_larger_than_the_cap_is_refused_unread(format: Format) -> None:
    for text in (b" " * (4 * 2**20 + 1), " " * (4 * 2**20 + 1), "é" * (2 * 2**20 + 1)):
        assert only(text, format)[1] == "TOO_LARGE"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no", "no"),
        ("NO", "NO"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        ("1_000", "1_000"),
        ("0b1", "0b1"),
        ("'5'", "5"),
        ("'true'", "true"),
        ("! 5", "5"),
        ("5", 5),
        ("-5", -5),
        ("007", 7),
        ("0o17", 15),
        ("0x1f", 31),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("|\n  a\n  b\n", "a\nb\n"),
    ],
)
def test_yaml_is_read_as_its_core_schema_reads_it(text: str, expected: Any) -> None:
    found = read_text(f"a: {text}", "yaml")["a"]
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("format", "text"),
    [
        ("json", "[" * 4_000_000),
        ("json", '{"a":' * 800_000),
        ("json", "[" * 65 + "]" * 65),
        ("toml", "a = " + "[" * 4_000_000),
        ("toml", "a = " + "{a = " * 500_000),
        ("toml", "a" + ".a" * 2_000_000 + " = 1"),
        ("toml", "[" + "a." * 1_000_000 + "a]"),
        ("toml", "[[" + '"a" . ' * 600_000 + "a]]"),
        ("toml", "a = " + "[" * 65 + "]" * 65),
        ("yaml", "[" * 4_000_000),
        ("yaml", "a: " + "[" * 400_000),
        ("yaml", "- " * 2_000_000),
        ("yaml", "a: " + "{a: " * 400_000),
        ("yaml", "[" * 65 + "]" * 65),
    ],
)
def test_nesting_without_end_costs_nothing(format: Format, text: str) -> None:
    start = time.process_time()
    _, code, _ = only(text, format)
    assert code == "TOO_LARGE"
    assert time.process_time() - start < 2.0


def test_64_levels_are_accepted() -> None:
    for format in ("json", "yaml"):
        assert read_text("[" * 64 + "]" * 64, format)  # type: ignore[arg-type]


def test_problems_without_end_are_counted_and_not_listed() -> None:
    found = refused("[" + ",".join(['{"a":1,"a":2}'] * 20_000) + "]", "json").problems
    assert len(found) == 1001
    assert found[-1].message == "19000 more problems are not listed"


@given(st.text(), st.sampled_from(["json", "toml", "yaml"]))
def test_any_text_is_read_or_refused(text: str, format: Format) -> None:
    try:
        read_text(text, format)
    except RunRefused as error:
        assert error.problems
        assert str(error)


@given(st.binary(), st.sampled_from(["json", "toml", "yaml"]))
def test_any_bytes_are_read_or_refused(data: bytes, format: Format) -> None:
    try:
        read_text(data, format)
    except RunRefused as error:
        assert error.problems


SCRAPS = (
    *("a", ": ", "- ", "\n", "  ", "[", "]", "{", "}", ",", "&x ", "*x", "!!x ", "'", '"', "|\n", "? ", "---\n", "="),
    *("#", "1", ".", "[[", "]]", "0x", "e9", "%", "\\u", "\t", "\r\n", "ü"),
)


@given(st.lists(st.sampled_from(SCRAPS), max_size=40))
def test_scraps_of_the_formats_are_read_or_refused(scraps: list[str]) -> None:
    for format in ("json", "toml", "yaml"):
        try:
            read_text("".join(scraps), format)  # type: ignore[arg-type]
        except RunRefused as error:
            assert error.problems


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
)  # fmt: skip


@given(JSON)
def test_what_was_written_as_json_reads_back_as_it_was(value: Any) -> None:
    assert read_text(json.dumps(value), "json") == value
