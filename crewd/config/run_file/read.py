"""Texts into values: TOML, JSON and YAML alike, with the same bounds, and no key that stands twice."""

import json
import re
import tomllib
from typing import Any, Literal, NoReturn

from crewd.config.run_file.bounds import DEPTH_MAX, check_bounds
from crewd.config.run_file.problems import PROBLEMS_MAX, Code, Finds, refuse, shown

BYTES_MAX = 4 * 2**20

Format = Literal["toml", "json", "yaml"]

_FORMATS: dict[str, Format] = {"toml": "toml", "json": "json", "yaml": "yaml", "yml": "yaml"}
_TOML_AT = re.compile(r" *\(at (?:line (\d+), column (\d+)|end of document)\)")
# `tomllib` takes time that grows with the square of the number of parts in a dotted name: 16,000 parts cost seconds.
_TOML_LONG_NAME = re.compile(
    r"""^[ \t]*+\[{0,2}[ \t]*+(?:(?:[A-Za-z0-9_-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){64}""",
    re.MULTILINE,
)


def read_text(text: str | bytes, format: Format, source: str = "") -> Any:
    """Read a run file into tables, lists, texts, numbers, booleans and None. Raises RunRefused."""
    content = _decoded(text, source)
    finds = Finds(source)
    match format:
        case "toml":
            value = _read_toml(content, source)
        case "json":
            value = _read_json(content, finds, source)
        case "yaml":
            from crewd.config.run_file.yaml_text import read_yaml  # costs 20 ms, and most files are not YAML

            value = read_yaml(content, finds, source)
    check_bounds(value, finds)
    finds.refuse()
    return value


def format_of(name: str) -> Format:
    """Tell the format by the suffix of a file's name. Raises RunRefused."""
    _, dot, suffix = name.rpartition(".")
    if dot and suffix.lower() in _FORMATS:
        return _FORMATS[suffix.lower()]
    message = f"{shown(name)} has none of the suffixes that tell the format"
    refuse(name, Code.BAD_SYNTAX, message, "name it .toml, .json, .yaml or .yml")


def _decoded(text: str | bytes, source: str) -> str:
    # A text has no fewer bytes than characters.
    if len(text) > BYTES_MAX:
        refuse(source, Code.TOO_LARGE, f"is larger than {BYTES_MAX} bytes", "split the run")
    try:
        data = text.encode() if isinstance(text, str) else bytes(text)
        decoded = data.decode("utf-8-sig")
    except UnicodeEncodeError as error:
        refuse(source, Code.BAD_TEXT, f"is not Unicode at character {error.start}", "mend the surrogate")
    except UnicodeDecodeError as error:
        refuse(source, Code.BAD_SYNTAX, f"is not UTF-8 from byte {error.start} on", "save it as UTF-8")
    if len(data) > BYTES_MAX:
        refuse(source, Code.TOO_LARGE, f"is larger than {BYTES_MAX} bytes", "split the run")
    return decoded


def _read_toml(text: str, source: str) -> Any:
    if found := _TOML_LONG_NAME.search(text):
        line = text.count("\n", 0, found.start()) + 1
        refuse(source, Code.TOO_LARGE, f"line {line}: a name has more than 64 parts", "write tables")
    try:
        return tomllib.loads(text)
    except RecursionError:
        refuse(source, Code.TOO_LARGE, "is nested too deeply", "flatten it")
    except tomllib.TOMLDecodeError as error:
        place = _TOML_AT.search(str(error))
        message = _TOML_AT.sub("", str(error))
        at = f"line {place[1]}, column {place[2]}: " if place and place[1] else "at the end: " if place else ""
        # Its words for a name that stands twice.
        again = message.startswith(("Cannot overwrite", "Duplicate inline", "Cannot declare", "Cannot mutate"))
        code = Code.DUPLICATE_KEY if again else Code.BAD_SYNTAX
        refuse(source, code, at + message, "see https://toml.io for how TOML is written")
    except ValueError as error:  # a number of more digits than Python reads; a date that no calendar has
        refuse(source, Code.BAD_SYNTAX, str(error).partition(";")[0], "see https://toml.io for how TOML is written")


def _read_json(text: str, finds: Finds, source: str) -> Any:
    doubled: list[tuple[dict[str, Any], str]] = []

    def table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            seen: set[str] = set()
            for name, _ in pairs:
                if name in seen:
                    doubled.append((made, name))
                seen.add(name)
        return made

    def constant(word: str) -> NoReturn:
        refuse(source, Code.VALUE_OUT_OF_RANGE, f"{word} is no number of JSON", "write a finite number")

    try:
        value = json.loads(text, object_pairs_hook=table, parse_constant=constant, parse_int=_whole)
    except RecursionError:
        refuse(source, Code.TOO_LARGE, "is nested too deeply", "flatten it")
    except json.JSONDecodeError as error:
        message = f"line {error.lineno}, column {error.colno}: {error.msg}"
        refuse(source, Code.BAD_SYNTAX, message, "see https://www.json.org for how JSON is written")
    if doubled:
        finds.count(len(doubled[PROBLEMS_MAX:]))
        doubled = doubled[:PROBLEMS_MAX]
        places = _places({id(made) for made, _ in doubled}, value)
        for made, name in doubled:
            place = (*places.get(id(made), ()), name)
            finds.add(place, Code.DUPLICATE_KEY, f"{shown(name)} stands twice", "keep one")
    return value


def _whole(digits: str) -> int | float:
    # More digits than any whole number that is accepted; Python refuses to read very long ones.
    return int(digits) if len(digits) <= 20 else 2**63 if digits[0] != "-" else -(2**63) - 1


def _places(wanted: set[int], value: Any) -> dict[int, tuple[object, ...]]:
    """Find where some tables stand, by their identity. One that was itself dropped stands nowhere."""
    found: dict[int, tuple[object, ...]] = {}
    stack: list[tuple[Any, tuple[object, ...]]] = [(value, ())]
    while stack:
        inner, place = stack.pop()
        if id(inner) in wanted:
            found[id(inner)] = place
        if len(place) > DEPTH_MAX:
            continue
        entries = inner.items() if isinstance(inner, dict) else enumerate(inner) if isinstance(inner, list) else ()
        stack.extend((each, (*place, name)) for name, each in entries if isinstance(each, dict | list))
    return found
