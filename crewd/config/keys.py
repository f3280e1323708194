"""The settings as a list of keys: what the example file, the reference page and every complaint speak of."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from crewd.config import tables
from crewd.config.settings import NEEDS_RESTART, Settings
from crewd.config.tables import bounds_of, explanation_of, kind_of, value_text

__all__ = [
    "ANY_NAME",
    "Key",
    "bounds_of",
    "every_group",
    "every_key",
    "field_at",
    "kind_of",
    "siblings",
    "value_text",
]

ANY_NAME = "NAME"  # stands for the name that a person gives, as in heartbeat.overrides.NAME.runtime


@dataclass(frozen=True)
class Key:
    """One setting."""

    name: str  # dotted
    kind: str  # duration, size, whole number, ...
    default: Any  # None: nothing unless it is set
    description: str
    bounds: str  # "1s to 1m"; "" = none
    needs_restart: bool


def every_key() -> Iterator[Key]:
    """List every setting, group after group, in the order in which the groups are written."""
    for group, model in _groups():
        for name, field in model.model_fields.items():
            if tables.table_of(field) is not None:
                continue
            dotted = f"{group}.{name}"
            kind, bounds = kind_of(field).word, bounds_of(field)
            yield Key(dotted, kind, field.default, field.description or "", bounds, dotted in NEEDS_RESTART)


def every_group() -> Iterator[tuple[str, str]]:
    """List the groups with their one line of explanation."""
    for group, model in _groups():
        yield group, explanation_of(model)


def field_at(location: Sequence[object]) -> FieldInfo | None:
    """Find the setting that a location such as ("http", "port") names; None where there is no such setting."""
    return tables.field_at(location, Settings)


def siblings(location: Sequence[object]) -> tuple[str, ...]:
    """List the names that may stand where the last name of `location` stands."""
    return tables.names_at(location, Settings)


def _groups() -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in Settings.model_fields.items():
        yield from _groups_at(name, field)


def _groups_at(prefix: str, field: FieldInfo) -> Iterator[tuple[str, type[BaseModel]]]:
    """List a table and those within it. A kind that is written in one line, such as a list of tables, is a value."""
    model = tables.table_of(field)
    if model is None:
        return
    group = prefix if tables.as_model(tables.plain(field.annotation)) is not None else f"{prefix}.{ANY_NAME}"
    yield group, model
    for name, inner in model.model_fields.items():
        yield from _groups_at(f"{group}.{name}", inner)
