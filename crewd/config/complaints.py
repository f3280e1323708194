"""What is wrong with the settings, in words that name the value and the remedy."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import ErrorDetails

from crewd.config import keys
from crewd.config.values import Kind
from crewd.errors import Complaint

# Nothing there is ever quoted, nor beneath it: a secret, or what may well hold one.
_SECRET = (
    ("redact",),
    ("http", "token"),
    ("executors", keys.ANY_NAME, "env"),
    ("executors", keys.ANY_NAME, "command"),
)
_SHOWN_MAX = 60
_NUMBER_MAX = 2.0**63  # what is beyond has no words: infinity, NaN, and digits without end


def unknown_key(file: str, location: Sequence[object], key: str) -> Complaint:
    """Complain of a name that is no setting. `key` is the name as it was written: dotted, or a variable."""
    upper = key.isupper()
    return Complaint(file, key, "is no setting", _nearest([str(part) for part in location], upper))


def from_error(error: ErrorDetails, file: str, key: str) -> Complaint:
    """Put one error of the validation into words."""
    location = error["loc"]
    if error["type"] == "extra_forbidden":
        return unknown_key(file, location, key)
    message, remedy = _words(error)
    return Complaint(file, key, message, remedy)


def dotted(location: Sequence[object]) -> str:
    """Write a location as a person would: `sources.roots[0]`."""
    text = ""
    for part in location:
        if part == "[key]":  # the name of a table itself, not what stands in it
            break
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _words(error: ErrorDetails) -> tuple[str, str]:
    field = keys.field_at(error["loc"])
    context: Mapping[str, Any] = error.get("ctx", {})
    if "remedy" in context:
        return error["msg"], str(context["remedy"])
    if field is None:
        if error["type"] == "string_pattern_mismatch":
            return "is no name", "use letters, digits, - and _"
        if error["type"] == "literal_error":  # a name in a table, such as a class of errors
            return f"{_quoted(error['input'], Kind('text', ''))} is unknown", f"one of {context['expected']}"
        return error["msg"], ""
    kind = keys.kind_of(field)
    secret = _is_secret(error["loc"])
    shown = "the value" if secret else _quoted(error["input"], kind)
    match error["type"]:
        case "greater_than_equal" | "less_than_equal":
            return f"{shown} is out of range", keys.bounds_of(field)
        case "literal_error":
            return f"{shown} is unknown", kind.word
        case "value_error" if secret:
            return "cannot be read", f"write {kind.example}"
        case "value_error":
            return error["msg"].removeprefix("Value error, "), f"write {kind.example}"
        case "model_type" | "model_attributes_type" | "dict_type" | "mapping_type":
            return f"{shown} is no table", f"write [{dotted(error['loc'])}] and its keys below"
        case "string_pattern_mismatch":
            return f"{shown} is not written as it must be", f"write {kind.example}"
        case "string_too_short" | "too_short":
            return f"{shown} is too short", f"give {context['min_length']} characters or more"
        case "string_too_long" | "too_long":
            return f"{shown} is too long", f"give {context['max_length']} at most"
        case _ if isinstance(error["loc"][-1], int):
            return f"{shown} is no {kind.item or 'text'}", f"write {kind.example}"
        case _:
            return f"{shown} is no {kind.word}", f"write {kind.example}"


def _is_secret(location: Sequence[object]) -> bool:
    return any(
        len(location) >= len(secret) and all(a in (b, keys.ANY_NAME) for a, b in zip(secret, location, strict=False))
        for secret in _SECRET
    )


def _quoted(value: object, kind: Kind) -> str:
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            if not -_NUMBER_MAX < value < _NUMBER_MAX:  # NaN too
                return "the number"
            text = keys.value_text(value, kind.word)
        else:
            text = repr(value)
    except (ValueError, RecursionError):  # a list of such numbers, or lists within lists without end
        return "the value"
    return text if len(text) <= _SHOWN_MAX else text[: _SHOWN_MAX - 1] + "…"


def _nearest(location: Sequence[str], as_variable: bool) -> str:
    known = keys.siblings(location)
    everywhere = [key.name for key in keys.every_key() if keys.ANY_NAME not in key.name]
    if len(location) == 1:
        # CREWD_HTTP_PORT: one underscore is missing, and the group HTTP alone is not what was meant.
        flat = {name.replace(".", "_"): name for name in everywhere}
        if near := difflib.get_close_matches(location[0], flat, n=1, cutoff=0.9):
            return _did_you_mean(flat[near[0]].split("."), as_variable)
    if known:
        if near := difflib.get_close_matches(location[-1], known, n=1):
            return _did_you_mean([*location[:-1], near[0]], as_variable)
    elif near := difflib.get_close_matches(location[0], keys.siblings(["-"]), n=1):
        return _did_you_mean([near[0], *location[1:]], as_variable)
    same_name = [name for name in everywhere if name.split(".")[-1] == location[-1]]
    if near := same_name or difflib.get_close_matches(".".join(location), everywhere, n=1):
        return _did_you_mean(near[0].split("."), as_variable)
    return f"known here: {', '.join(known or keys.siblings(['-']))}"


def _did_you_mean(location: Sequence[str], as_variable: bool) -> str:
    name = "CREWD_" + "__".join(location).upper() if as_variable else ".".join(location)
    return f"did you mean {name}?"
