"""The settings as pages for people: the commented example file and the reference."""

from collections.abc import Iterator
from typing import Any

from crewd.config.keys import ANY_NAME, Key, every_group, every_key, value_text

_MATCHERS = {"runtime": "pi_crew", "crew": "nightly", "task_type": "explore", "tool": "bash"}
_EXAMPLE_HEAD = """\
# Every setting of crewd, each with its default. Remove the first # of a line to change it.
# The environment says the same with CREWD_HTTP__PORT=9464, a file http__port in the credentials folder too.
# `crewd config check` tells what is wrong, `crewd config show --origin` what counts and why.
"""
_REFERENCE_HEAD = """\
# Settings

crewd reads one TOML file: `--config`, else `$CREWD_CONFIG`, else `$CONFIGURATION_DIRECTORY/crewd.toml`, else
`~/.config/crewd/crewd.toml` if it is there. Where there is none, the defaults below count. `config/crewd.toml` is
that file with every key.

Over the file lie, each stronger than the one before:

1. files `group__key` in the credentials folder (`$CREDENTIALS_DIRECTORY`), the place for secrets;
2. variables `CREWD_GROUP__KEY` of the environment, such as `CREWD_HTTP__PORT=9464`;
3. options on the command line.

An unknown key in any of them is an error, told with the nearest name; all complaints come at once (exit 78).
Durations are `"30s"`, `"1m30s"`, `"500ms"` or a number of seconds; sizes are `"16MiB"`, `"500kB"` or a number of
bytes.
A reload (SIGHUP) checks the whole before it changes anything; keys marked *restart* wait for the next start.

`crewd config check` judges the settings, `crewd config show --origin` prints what counts and where it came from,
`crewd config schema` prints the facts of this page as JSON Schema.
"""


def as_toml() -> str:
    """Write the example file: every key, commented, with its default."""
    lines = [_EXAMPLE_HEAD]
    for group, explanation in every_group():
        lines.append(f"# {explanation}")
        # The table of a named override must not stand uncommented: it has no name yet.
        lines.append(f"# [{group}]" if ANY_NAME in group else f"[{group}]")
        for key in _keys_of(group):
            lines.append(_comment(key))
            lines.append(f"# {key.name.rsplit('.', 1)[1]} = {toml_value(_example_of(key), key.kind)}")
        lines.append("")
    return "\n".join(lines)


def as_markdown() -> str:
    """Write the reference page."""
    lines = [_REFERENCE_HEAD]
    for group, explanation in every_group():
        lines += [f"## [{group}]", "", explanation, "", "| key | kind | default | |", "|---|---|---|---|"]
        for key in _keys_of(group):
            kind = f"{key.kind}, {key.bounds}" if key.bounds else key.kind
            default = "" if key.default is None else f"`{toml_value(key.default, key.kind)}`"
            notes = f"{key.description} *restart*" if key.needs_restart else key.description
            lines.append(f"| `{key.name}` | {kind} | {default} | {notes} |")
        lines.append("")
    return "\n".join(lines)


def toml_value(value: Any, kind: str) -> str:
    """Write a value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(toml_value(each, "text") for each in value) + "]"
    if kind in ("duration", "size") or isinstance(value, str):
        # The escapes of a basic string of TOML are those of JSON for all that can stand here.
        text = value_text(value, kind).replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(f"\\u{ord(char):04x}" if char < " " or char == "\x7f" else char for char in text) + '"'
    return str(value)


def _keys_of(group: str) -> Iterator[Key]:
    return (key for key in every_key() if key.name.rsplit(".", 1)[0] == group)


def _comment(key: Key) -> str:
    facts = [fact for fact in (key.bounds or key.kind, "needs a restart" if key.needs_restart else "") if fact]
    return f"## {key.description} ({'; '.join(facts)})"


def _example_of(key: Key) -> Any:
    if key.default is not None and ANY_NAME not in key.name:
        return key.default
    # An override has no defaults of its own: show what it would override, and a matcher that fits someone.
    name = key.name.rsplit(".", 1)[1]
    return next((other.default for other in every_key() if other.name == f"heartbeat.{name}"), _MATCHERS.get(name))
