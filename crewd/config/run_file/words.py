"""One error of the validation in words that name the value and the remedy."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from crewd.config import tables
from crewd.config.run_file.fields import LIST_FORM, TEXT_FORM, RunFile
from crewd.config.run_file.problems import Code, Finds, nearest, shown
from crewd.config.values import Kind

# What may hold a secret is never quoted.
_NOT_QUOTED = frozenset({"env", "stdin", "prompt", "payload", "secrets"})
# Where the whole has another form than its parts.
_CUSTOM = {"bad_text": Code.BAD_TEXT, "bad_name": Code.BAD_NAME, "bad_path": Code.BAD_PATH}
_TABLE_TYPES = ("model_type", "model_attributes_type", "dict_type", "mapping_type")


def tell(error: ValidationError, above: tuple[object, ...], finds: Finds, table: type[BaseModel]) -> None:
    """Add every error of one table. `above` is where the table stands in the file, `table` its class."""
    if finds.is_full:
        finds.count(error.error_count())
        return
    errors = error.errors(include_url=False)
    for each in errors:
        # A list of which no entry is sound is not empty: the entries were told.
        hollow = each["type"] == "too_short" and any(
            len(other["loc"]) > len(each["loc"]) and other["loc"][: len(each["loc"])] == each["loc"]
            for other in errors
        )
        if not hollow:
            _tell_one(each, above, finds, table)


def no_table(location: tuple[object, ...], value: object, finds: Finds, what: str = "table") -> None:
    """Add that a value should have been a table, or a list."""
    example = '{ id = "name" }' if what == "table" else '[[tasks]] and id = "name" below'
    finds.add(location, Code.TYPE_MISMATCH, f"{shown(value)} is no {what}", f"write {example}")


def unknown(location: tuple[object, ...], inner: tuple[object, ...], finds: Finds, table: type[BaseModel]) -> None:
    """Add that a name is no field. `inner` is its place within the table."""
    name = str(inner[-1])
    if name in ("id", "depends_on") and location[:1] == ("defaults",) and len(inner) == 1:
        finds.add(location, Code.UNKNOWN_FIELD, f"{name} is no field of defaults", "each task has its own")
        return
    known = tables.names_at(inner, table)
    finds.add(location, Code.UNKNOWN_FIELD, f"{shown(name)} is no field", _meant(name, known))


def _tell_one(error: ErrorDetails, above: tuple[object, ...], finds: Finds, table: type[BaseModel]) -> None:
    inner, is_name = _location(error)
    location = (*above, *inner)
    if error["type"] == "extra_forbidden":
        unknown(location, inner, finds, table)
        return
    field = tables.field_at(inner, table)
    kind = tables.kind_of(field) if field is not None else Kind("table", "a table")
    is_entry = field is not None and len(inner) > 1 and tables.field_at(inner[:-1], table) is field
    word = kind.key if is_name and kind.key else kind.item if is_entry and kind.item else kind.word
    quoted = "the value" if not is_name and _NOT_QUOTED & set(inner) else shown(error["input"])
    bounds = tables.bounds_of(field) if field is not None and not is_entry else ""
    code, message, remedy = _words(error, quoted, word, kind, bounds)
    finds.add(location, code, message, remedy)


def _words(error: ErrorDetails, quoted: str, word: str, kind: Kind, bounds: str) -> tuple[Code, str, str]:
    context: Mapping[str, Any] = error.get("ctx", {})
    write = f"write {kind.example}" if kind.example else ""
    match error["type"]:
        case custom if custom in _CUSTOM:
            return _CUSTOM[custom], error["msg"], str(context["remedy"])
        case "missing":
            name = error["loc"][-1]
            return Code.MISSING_FIELD, f"{name} is missing", f"add {name}: {kind.example}"
        case "literal_error":
            known = _literals(str(context["expected"]))
            given = error["input"]
            return Code.ENUM_MISMATCH, f"{quoted} is unknown", _meant(given if isinstance(given, str) else "", known)
        case "greater_than_equal" | "less_than_equal":
            return Code.VALUE_OUT_OF_RANGE, f"{quoted} is out of range", bounds or write
        case "string_pattern_mismatch" | "string_too_short" if word == "id":
            return Code.BAD_ID, f"{quoted} is no id", kind.example if kind.word == "id" else _ID
        case "string_pattern_mismatch":
            return Code.BAD_NAME, f"{quoted} is no {word}", write
        case "string_too_long" | "too_long":
            return Code.TOO_LARGE, "is too long", f"{context['max_length']} at most"
        case "string_too_short" | "too_short":
            return Code.VALUE_OUT_OF_RANGE, "is empty", write
        case "value_error":
            number = isinstance(error["input"], int | float) and not isinstance(error["input"], bool)
            code = Code.VALUE_OUT_OF_RANGE if number else Code.TYPE_MISMATCH
            return code, error["msg"].removeprefix("Value error, "), write
        case kinds if kinds in _TABLE_TYPES:
            return Code.TYPE_MISMATCH, f"{quoted} is no table", write
        case _:
            return Code.TYPE_MISMATCH, f"{quoted} is no {word}", write


_ID = str(tables.kind_of(RunFile.model_fields["run_id"]).example)


def _location(error: ErrorDetails) -> tuple[tuple[object, ...], bool]:
    """Take from a location what is no part of the file: which form a value had, and that a name itself is meant."""
    parts = error["loc"]
    # Behind the name that is wrong stands "[key]"; somebody's field may be called so, too.
    is_name = len(parts) > 1 and parts[-1] == "[key]" and parts[-2] == error["input"]
    if is_name:
        parts = parts[:-1]
    # Only `command` has two forms.
    return tuple(
        part for n, part in enumerate(parts) if not (part in (TEXT_FORM, LIST_FORM) and parts[n - 1] == "command")
    ), is_name


def _meant(word: str, known: Sequence[str]) -> str:
    if near := _nearest(word, tuple(known)):
        return f"did you mean {near}?"
    return f"known here: {', '.join(known)}" if known else "take it out"


@lru_cache(maxsize=256)
def _nearest(word: str, known: tuple[str, ...]) -> str:
    return nearest(word, known)


def _literals(expected: str) -> tuple[str, ...]:
    """Read what pydantic says was expected: 'a', 'b' or 'c'."""
    return tuple(part.strip().strip("'") for part in expected.replace(" or ", ", ").split(","))
