"""Loads the settings: four layers over the defaults, one validation, and every complaint at once."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError

from crewd.config import complaints as words
from crewd.config.folders import config_place, state_folder
from crewd.config.layers import Layer, command_line_layer, credentials_layer, environment_layer, file_layer
from crewd.config.settings import NEEDS_RESTART, Settings
from crewd.errors import Complaint, SettingsError

MASKED = "**********"
# Where files lie. Of what is wrong with a path this alone can be known beforehand: the rest is seen when it is used.
_PATHS = re.compile(
    r"sources\.(beat_)?roots|(ledger|sinks|tasks|secrets)\.folder|tasks\.inbox|dead_man\.file"
    r"|recovery\.overrides\..+\.root"
)


@dataclass(frozen=True)
class Origin:
    """Where one value came from."""

    kind: str  # "default", "file", "credentials", "environment", "command line"
    where: str = ""  # path, or name of the variable


@dataclass(frozen=True)
class Loaded:
    """Settings that can be used, and where each of them came from."""

    settings: Settings
    origins: Mapping[str, Origin]  # dotted key -> origin; a key that is missing here has its default
    path: Path | None  # the file that was read

    def origin(self, key: str) -> Origin:
        """Say where the value of a key came from."""
        return self.origins.get(key, DEFAULT)


@dataclass(frozen=True)
class Changes:
    """How two settings differ."""

    changed: tuple[str, ...]
    need_restart: tuple[str, ...]  # those of them that a running daemon cannot take over


DEFAULT = Origin("default")


def load(path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, Any] | None = None) -> Loaded:
    """Read the settings. `overrides` is what the command line said: {"http.port": 0}.

    Raises SettingsError with every complaint.
    """
    place = config_place(environ, path)
    layers = (  # strongest first
        command_line_layer(overrides or {}),
        environment_layer(environ),
        credentials_layer(environ),
        file_layer(place.path),
    )
    complaints = [complaint for layer in layers for complaint in layer.complaints]
    complaints.extend(_unknown_groups(layers))
    merged: dict[str, Any] = {}
    for layer in reversed(layers):
        known = {name: value for name, value in layer.values.items() if name in Settings.model_fields}
        _lay_over(merged, known)
    try:
        settings = Settings(**merged)
    except ValidationError as error:
        complaints.extend(_complaint(each, layers) for each in error.errors(include_url=False))
        settings = None
    if settings is not None:
        complaints.extend(_no_paths(settings, layers))
    if complaints or settings is None:
        raise SettingsError(complaints)
    return Loaded(settings, dict(_origins(merged, layers)), place.path)


def state_folder_of_unusable(environ: Mapping[str, str]) -> Path:
    """Name the state folder that settings mean that cannot be used as a whole: a daemon may be there all the same."""
    layers = (environment_layer(environ), credentials_layer(environ), file_layer(config_place(environ).path))
    groups = (layer.values.get("ledger") for layer in layers)
    named = (group.get("folder") for group in groups if isinstance(group, Mapping))
    usable = (text for text in named if isinstance(text, str) and text and not _wrong_with_path(text))
    return state_folder(environ, next(usable, ""))


def changes(old: Settings, new: Settings) -> Changes:
    """Compare two settings, key by key."""
    before, after = flat(old), flat(new)
    changed = tuple(key for key in sorted({*before, *after}) if before.get(key) != after.get(key))
    return Changes(changed, tuple(key for key in changed if key in NEEDS_RESTART))


def flat(settings: Settings) -> dict[str, Any]:
    """Lay the settings out as dotted keys and their values; secrets stay wrapped."""
    return dict(_leaves("", settings))


def masked(value: Any) -> Any:
    """Make a value fit to be shown: secrets become asterisks."""
    if isinstance(value, SecretStr):
        return MASKED
    if isinstance(value, tuple):
        return [masked(each) for each in value]
    if isinstance(value, BaseModel):
        return {name: masked(each) for name, each in value if each is not None}
    return value


def _leaves(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _leaves(f"{prefix}.{name}" if prefix else name, getattr(value, name))
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(f"{prefix}.{name}", inner)
    else:
        yield prefix, value


def _lay_over(merged: dict[str, Any], stronger: Mapping[str, Any]) -> None:
    for name, value in stronger.items():
        if isinstance(value, Mapping):
            below = merged.get(name)
            merged[name] = dict(below) if isinstance(below, Mapping) else {}
            _lay_over(merged[name], value)
        else:
            merged[name] = value


def _unknown_groups(layers: Sequence[Layer]) -> Iterator[Complaint]:
    for layer in layers:
        for name in layer.values:
            if name not in Settings.model_fields:
                yield words.unknown_key(layer.where, (name,), name)


def _complaint(error: Any, layers: Sequence[Layer]) -> Complaint:
    location = error["loc"]
    layer, depth = _source_of(location, layers)
    name = layer.names.get(tuple(str(part) for part in location[:depth]), "")
    if layer.kind == "environment" and name:
        return words.from_error(error, layer.where, name)
    return words.from_error(error, name or layer.where, words.dotted(location))


def _no_paths(settings: Settings, layers: Sequence[Layer]) -> Iterator[Complaint]:
    for key, value in _leaves("", settings):
        if _PATHS.fullmatch(key):
            for text in (value,) if isinstance(value, str) else value:
                if words := _wrong_with_path(text):
                    location = tuple(key.split("."))
                    layer, depth = _source_of(location, layers)
                    where = layer.names.get(location[:depth], layer.where)
                    yield Complaint(where, key, words, "write the whole path")


def _wrong_with_path(text: str) -> str:
    try:
        Path(text).expanduser()
    except RuntimeError:
        return f"{text!r} begins with the home of an account that is not known here"
    return f"{text!r} holds a character that no path can have" if "\0" in text else ""


def _source_of(location: Sequence[object], layers: Sequence[Layer]) -> tuple[Layer, int]:
    """Find the layer that gave the value at a location, or the most of the path to it."""
    best, depth = layers[-1], -1
    for layer in layers:
        inner: Any = layer.values
        steps = 0
        for part in location:
            if not isinstance(inner, Mapping) or part not in inner:
                break
            inner = inner[part]
            steps += 1
        if steps > depth:
            best, depth = layer, steps
    return best, max(depth, 0)


def _origins(merged: Mapping[str, Any], layers: Sequence[Layer]) -> Iterator[tuple[str, Origin]]:
    for location in _locations((), merged):
        layer, depth = _source_of(location, layers)
        where = layer.names.get(location[:depth], layer.where)
        yield ".".join(location), Origin(layer.kind, where if layer.kind != "command line" else "")


def _locations(prefix: tuple[str, ...], values: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _locations((*prefix, name), value)
        else:
            yield (*prefix, name)
