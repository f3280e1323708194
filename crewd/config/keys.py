"""The settings as a list of keys: what the example file, the reference page and every complaint speak of."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from crewd.config.quantities import duration_text, size_text
from crewd.config.settings import NEEDS_RESTART, Settings
from crewd.config.values import Kind

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
    for group, field in Settings.model_fields.items():
        yield from _keys_of(group, _model(field))


def every_group() -> Iterator[tuple[str, str]]:
    """List the groups with their one line of explanation."""
    for group, field in Settings.model_fields.items():
        yield group, (_model(field).__doc__ or "").strip()
        for name, inner in _model(field).model_fields.items():
            if _map_of_models(inner) is not None:
                yield f"{group}.{name}.{ANY_NAME}", (_map_of_models(inner).__doc__ or "").strip()


def field_at(location: Sequence[object]) -> FieldInfo | None:
    """Find the setting that a location such as ("http", "port") names; None where there is no such setting."""
    model: type[BaseModel] | None = Settings
    field: FieldInfo | None = None
    names = iter(location)
    for name in names:
        if isinstance(name, int):  # a place inside a list
            break
        if model is None or str(name) not in model.model_fields:
            return None
        field = model.model_fields[str(name)]
        model = _model_or_none(field)
        if model is None and (model := _map_of_models(field)) is not None:
            next(names, None)
    return field


def siblings(location: Sequence[object]) -> tuple[str, ...]:
    """List the names that may stand where the last name of `location` stands."""
    if len(location) == 1:
        return tuple(Settings.model_fields)
    above = field_at(location[:-1])
    model = None if above is None else _model_or_none(above) or _map_of_models(above)
    return () if model is None else tuple(model.model_fields)


def kind_of(field: FieldInfo) -> Kind:
    """Say what kind of value a setting has."""
    annotation, marks = field.annotation, list(field.metadata)
    for inner in get_args(annotation):  # Optional[Duration] keeps its marks one level down
        marks.extend(getattr(inner, "__metadata__", ()))
    for mark in marks:
        if isinstance(mark, Kind):
            return mark
    if get_origin(annotation) is Literal:
        return Kind("one of " + ", ".join(get_args(annotation)), "")
    if annotation is bool:
        return Kind("yes or no", "true or false")
    if annotation is int:
        return Kind("whole number", "a whole number")
    return Kind("text", '"text"') if annotation is str else Kind("table", "a table")


def bounds_of(field: FieldInfo) -> str:
    """Say between what a setting must lie."""
    kind = kind_of(field).word
    least = next((mark.ge for mark in field.metadata if hasattr(mark, "ge")), None)
    most = next((mark.le for mark in field.metadata if hasattr(mark, "le")), None)
    if least is None or most is None:
        return ""
    return f"{value_text(least, kind)} to {value_text(most, kind)}"


def value_text(value: Any, kind: str) -> str:
    """Write a value for a person, in the unit of its kind."""
    if kind == "duration":
        return duration_text(value)
    if kind == "size":
        return size_text(value)
    return str(value)


def _keys_of(prefix: str, model: type[BaseModel]) -> Iterator[Key]:
    for name, field in model.model_fields.items():
        dotted = f"{prefix}.{name}"
        inner = _map_of_models(field)
        if inner is not None:
            yield from _keys_of(f"{dotted}.{ANY_NAME}", inner)
            continue
        yield Key(
            dotted,
            kind_of(field).word,
            field.default,
            field.description or "",
            bounds_of(field),
            dotted in NEEDS_RESTART,
        )


def _model(field: FieldInfo) -> type[BaseModel]:
    model = _model_or_none(field)
    if model is None:
        raise TypeError(f"{field!r} is no group of settings")
    return model


def _model_or_none(field: FieldInfo) -> type[BaseModel] | None:
    annotation = field.annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _map_of_models(field: FieldInfo) -> type[BaseModel] | None:
    if get_origin(field.annotation) is not Mapping:
        return None
    inner = get_args(field.annotation)[1]
    return inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None
