"""The kinds of value that a setting can have, and how each is read from a file, the environment or a credential."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, SecretStr, WithJsonSchema
from pydantic_core import PydanticCustomError

from crewd.config import quantities

# What crewd itself tells every worker.
_OURS = ("CREWD_", "TRACEPARENT")


@dataclass(frozen=True)
class Kind:
    """What a person calls this kind of value, and how it is written."""

    word: str
    example: str
    item: str = ""  # what one entry of a list or table is called
    key: str = ""  # what the names in a table are called


def no_nul(text: str) -> str:
    """Refuse what no argument, variable or path of Linux can hold."""
    if "\0" in text:
        raise PydanticCustomError("bad_text", "holds a NUL character", {"remedy": "take it out"})
    return text


def _not_ours(name: str) -> str:
    if name.startswith(_OURS):
        message = "{name} is set by crewd itself"
        raise PydanticCustomError("bad_name", message, {"name": name, "remedy": "choose another name"})
    return name


def _no_secret(value: object) -> object:
    """Take an empty text for none: a variable of the environment cannot say it otherwise."""
    return None if value == "" else value


def _texts(value: object) -> object:
    """Accept a list, or a text with commas between the entries, as the environment gives it."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return _from_json(value)
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _secrets(value: object) -> object:
    """Accept a list, or a text with one secret a line: a comma may be part of a secret."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return _from_json(value)
    return tuple(line for line in value.splitlines() if line)


def _from_json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        # Not the decoder's own message: it may quote the text, which may be a secret.
        raise ValueError("begins like a JSON list and is none") from None


def _fixed(value: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(dict(value))


Duration = Annotated[
    float,
    BeforeValidator(quantities.seconds),
    PlainSerializer(quantities.duration_text, when_used="json"),
    WithJsonSchema({"type": ["string", "number"], "minimum": 0, "pattern": quantities.DURATION_PATTERN}),
    Kind("duration", '"30s", "1m30s", "500ms", or a number of seconds'),
]
Size = Annotated[
    int,
    BeforeValidator(quantities.size),
    PlainSerializer(quantities.size_text, when_used="json"),
    WithJsonSchema({"type": ["string", "integer"], "minimum": 0, "pattern": quantities.SIZE_PATTERN}),
    Kind("size", '"16MiB", "500kB", or a number of bytes'),
]
Texts = Annotated[
    tuple[str, ...],
    BeforeValidator(_texts, json_schema_input_type=tuple[str, ...]),
    Kind("list of texts", '["one", "two"]; in the environment: one,two', item="text"),
]
Line = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$"), Kind("line of text", '"text"')]
VariableName = Annotated[
    str,
    Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$"),
    AfterValidator(_not_ours),
    Kind("variable", "letters, digits and _"),
]
VariableNames = Annotated[
    tuple[VariableName, ...],
    Field(max_length=256),
    BeforeValidator(_texts, json_schema_input_type=tuple[str, ...]),
    Kind("list of variables", '["ONE", "TWO"]; in the environment: ONE,TWO', item="variable name"),
]
# Shorter ones would mask ordinary words, and so nothing would be safe from them.
Secret = Annotated[SecretStr, Field(min_length=4)]
Secrets = Annotated[
    tuple[Secret, ...],
    BeforeValidator(_secrets, json_schema_input_type=tuple[str, ...]),
    Kind("list of secrets", "one a line in a file of the credentials folder", item="text"),
]
Token = Annotated[
    Annotated[SecretStr, Field(min_length=16)] | None,
    BeforeValidator(_no_secret, json_schema_input_type=str | None),
    Kind("secret", "it in the file http__token of the credentials folder"),
]
# An address may hold a secret, as those of chat services do.
SecretText = Annotated[
    Annotated[SecretStr, Field(min_length=1)] | None,
    BeforeValidator(_no_secret, json_schema_input_type=str | None),
    Kind("secret", "it in a file of the credentials folder, such as notifications__channels__chat__url"),
]
# No dot: `heartbeat.overrides.NAME.tool` must say which part is the name.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Fixed = AfterValidator(_fixed)
