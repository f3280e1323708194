"""Tables as their classes describe them: which field a location names, of what kind it is, and within what bounds."""

import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from crewd.config.quantities import duration_text, size_text
from crewd.config.values import Kind


def explanation_of(model: type[BaseModel]) -> str:
    """Give the one line that says what a table is about."""
    return (model.__doc__ or "").strip()


def field_at(location: Sequence[object], root: type[BaseModel]) -> FieldInfo | None:
    """Find the field that a location such as ("http", "port") names; None where there is no such field."""
    field, _ = _walk(location, root)
    return field


def names_at(location: Sequence[object], root: type[BaseModel]) -> tuple[str, ...]:
    """List the names that may stand where the last name of `location` stands."""
    _, inner = _walk(location[:-1], root)
    if (model := as_model(inner)) is not None:
        return tuple(model.model_fields)
    if get_origin(inner) is Mapping and get_origin(get_args(inner)[0]) is Literal:
        return get_args(get_args(inner)[0])
    return ()


def kind_of(field: FieldInfo) -> Kind:
    """Say what kind of value a setting has."""
    annotation = plain(field.annotation)
    for mark in _marks(field):
        if isinstance(mark, Kind):
            return mark
    if get_origin(annotation) is Literal:
        return Kind("one of " + ", ".join(get_args(annotation)), "")
    if annotation is bool:
        return Kind("yes or no", "true or false")
    if annotation is int:
        return Kind("whole number", "a whole number")
    if annotation is float:
        return Kind("number", "a number")
    return Kind("text", '"text"') if annotation is str else Kind("table", "a table")


def bounds_of(field: FieldInfo) -> str:
    """Say between what a setting must lie."""
    kind = kind_of(field).word
    least = next((mark.ge for mark in _marks(field) if hasattr(mark, "ge")), None)
    most = next((mark.le for mark in _marks(field) if hasattr(mark, "le")), None)
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


def plain(annotation: Any) -> Any:
    """Take from a kind of value its marks, and that it may be left out: Annotated[X, ...] | None is X."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
            continue
        if get_origin(annotation) in (Union, types.UnionType):
            others = [each for each in get_args(annotation) if each is not type(None)]
            if len(others) == 1:
                annotation = others[0]
                continue
        return annotation


def table_of(field: FieldInfo) -> type[BaseModel] | None:
    """The class of a table, or of the tables that stand under names of their own."""
    if any(isinstance(mark, Kind) for mark in _marks(field)):
        return None
    annotation = plain(field.annotation)
    if get_origin(annotation) is Mapping:
        annotation = plain(get_args(annotation)[1])
    return as_model(annotation)


def _walk(location: Sequence[object], root: type[BaseModel]) -> tuple[FieldInfo | None, Any]:
    """Follow a location: the last field on the way, and the kind of what stands at its end."""
    field: FieldInfo | None = None
    inner: Any = root
    for part in location:
        if (model := as_model(inner)) is not None:
            if str(part) not in model.model_fields:
                return None, None
            field = model.model_fields[str(part)]
            inner = plain(field.annotation)
        elif get_origin(inner) is Mapping:
            inner = plain(get_args(inner)[1])
        elif get_origin(inner) is tuple:
            inner = plain(get_args(inner)[0])
        else:
            break
    return field, inner


def as_model(annotation: Any) -> type[BaseModel] | None:
    """The class of a table; None: it is a value of another kind."""
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _marks(field: FieldInfo) -> list[Any]:
    marks = list(field.metadata)
    for inner in get_args(field.annotation):  # Optional[Duration] keeps its marks one level down
        marks.extend(getattr(inner, "__metadata__", ()))
    return marks
