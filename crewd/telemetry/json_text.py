"""JSON text: the one way in which values leave crewd as JSON, that no value from a stranger can make fail."""

from collections.abc import Mapping
from typing import Any

import msgspec


def encode(value: Any) -> bytes:
    """Encode as JSON. Numbers that are not finite become null (msgspec), unpaired surrogates question marks."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(_encodable(value))


def _encodable(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-8", "replace").decode()
        case Mapping():
            return {_encodable(key): _encodable(member) for key, member in value.items()}
        case list() | tuple():
            return [_encodable(member) for member in value]
        case _:
            return value
