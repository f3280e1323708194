"""The four places that settings come from, each read whole and apart from the others."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tomllib import TOMLDecodeError
from typing import Any

from pydantic_settings import EnvSettingsSource, TomlConfigSettingsSource

from crewd.config.complaints import unknown_key
from crewd.config.folders import NOT_SETTINGS, PREFIX
from crewd.config.settings import Settings
from crewd.errors import Complaint

CREDENTIAL_BYTES_MAX = 64 * 1024

_AT = re.compile(r"\(at line (\d+), column (\d+)\)")


@dataclass(frozen=True)
class Layer:
    """What one place said: nested tables of raw values, and the name under which each stands there."""

    kind: str  # "file", "credentials", "environment", "command line"
    values: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""  # of all values, as a complaint names it
    names: Mapping[tuple[str, ...], str] = field(default_factory=dict)  # location -> variable or path
    complaints: tuple[Complaint, ...] = ()


def file_layer(path: Path | None) -> Layer:
    """Read the TOML file."""
    if path is None:
        return Layer("file")
    where = str(path)
    try:
        return Layer("file", TomlConfigSettingsSource(Settings, path)() if _is_there(path) else {}, where)
    except FileNotFoundError:
        complaint = Complaint(where, "", "there is no such file", "check the path, or leave it out for the defaults")
    except OSError as error:
        complaint = Complaint(where, "", f"cannot be read: {error.strerror}", "make it a file that crewd may read")
    except UnicodeDecodeError:
        complaint = Complaint(where, "", "is not UTF-8", "save it as UTF-8")
    except TOMLDecodeError as error:
        complaint = _syntax_complaint(path, error)
    except RecursionError:
        complaint = Complaint(where, "", "has tables or lists within each other without end", "write it flatter")
    return Layer("file", {}, where, complaints=(complaint,))


def environment_layer(environ: Mapping[str, str]) -> Layer:
    """Read the variables `CREWD_GROUP__KEY`."""
    variables = {
        name: value for name, value in environ.items() if name.upper().startswith(PREFIX) and name not in NOT_SETTINGS
    }
    names = {_location(name[len(PREFIX) :]): name for name in variables}
    values = _FlatNames(variables, PREFIX)()
    return Layer("environment", values, "environment", names, tuple(_overlooked("environment", names, values)))


def credentials_layer(environ: Mapping[str, str]) -> Layer:
    """Read the files `group__key` of the credentials folder; others there are not settings, and left alone."""
    folder = environ.get("CREDENTIALS_DIRECTORY", "")
    if not folder:
        return Layer("credentials")
    texts: dict[str, str] = {}
    complaints: list[Complaint] = []
    try:
        paths = sorted(path for path in Path(folder).iterdir() if "__" in path.name and not path.name.startswith("."))
    except OSError as error:
        remedy = "make $CREDENTIALS_DIRECTORY a folder that crewd may read"
        return Layer("credentials", complaints=(Complaint(folder, "", f"cannot be read: {error.strerror}", remedy),))
    for path in paths:
        try:
            if path.stat().st_size > CREDENTIAL_BYTES_MAX:
                complaints.append(Complaint(str(path), "", "is larger than 64KiB", "give a smaller credential"))
                continue
            texts[path.name] = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            complaints.append(Complaint(str(path), "", "cannot be read as text", "give a UTF-8 file"))
    names = {_location(name): str(Path(folder) / name) for name in texts}
    values = _FlatNames(texts, "")()
    complaints.extend(_overlooked(folder, names, values))
    return Layer("credentials", values, folder, names, tuple(complaints))


def command_line_layer(overrides: Mapping[str, Any]) -> Layer:
    """Lay out what the options of a command said, given as {"http.port": 0}."""
    values: dict[str, Any] = {}
    for dotted, value in overrides.items():
        group, _, name = dotted.partition(".")
        values.setdefault(group, {})[name] = value
    return Layer("command line", values, "command line")


class _FlatNames(EnvSettingsSource):
    """Reads flat names (`http__port`) from the mapping it is given, and never from os.environ."""

    def __init__(self, texts: Mapping[str, str], prefix: str) -> None:
        self._texts = texts
        super().__init__(Settings, env_prefix=prefix, env_nested_delimiter="__")

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): text for name, text in self._texts.items()}


def _location(flat: str) -> tuple[str, ...]:
    return tuple(flat.lower().split("__"))


def _overlooked(where: str, names: Mapping[tuple[str, ...], str], values: Mapping[str, Any]) -> Sequence[Complaint]:
    """Find names that the source took for none of its own: it passes over those in silence."""
    found = []
    for location, name in names.items():
        inner: Any = values
        for part in location:
            inner = inner.get(part) if isinstance(inner, Mapping) else None
        # Beside CREWD_HTTP the source drops CREWD_HTTP__PORT; that the former is no table is complaint enough.
        shadowed = any(location[:depth] in names for depth in range(1, len(location)))
        if inner is None and not shadowed:
            found.append(unknown_key(where, location, name))
    return found


def _is_there(path: Path) -> bool:
    # The source takes a missing file, and a folder of that name, for an empty one.
    with path.open("rb"):
        return True


def _syntax_complaint(path: Path, error: TOMLDecodeError) -> Complaint:
    text = str(error)
    match = _AT.search(text)
    if match:
        place = f"{path}:{match[1]}:{match[2]}"
    else:  # "at end of document"
        place = f"{path}:{path.read_text(encoding='utf-8').count(chr(10)) + 1}:1"
    message = _AT.sub("", text).replace("(at end of document)", "at the end of the file").strip()
    return Complaint(place, "", message, "see https://toml.io for how TOML is written")
