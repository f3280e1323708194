"""The settings as pages for people: the commented example file and the reference."""

from collections.abc import Iterator, Mapping
from typing import Any

from crewd.config.keys import ANY_NAME, Key, every_group, every_key, value_text
from crewd.config.run_file.defaults import plan_default

# What to show where nothing is the default: of tables that have a name of their own, and of what may be left out.
_EXAMPLES: Mapping[str, Any] = {
    "notifications.channels.NAME.remind_every": 14_400.0,
    "heartbeat.overrides.NAME.runtime": "pi_crew",
    "heartbeat.overrides.NAME.crew": "nightly",
    "heartbeat.overrides.NAME.task_type": "explore",
    "heartbeat.overrides.NAME.tool": "bash",
    "heartbeat.overrides.NAME.shadow": False,
    "executors.NAME.command": ("agent", "--model", "{model}"),
    "executors.NAME.env_pass": ("SSL_CERT_FILE",),
    "executors.NAME.profile": "claude",
    "executors.NAME.cwd": "~/project",
    "executors.NAME.mode": "command",
    "executors.NAME.timeout": 3600.0,
    "executors.NAME.max_parallel": 2,
    "executors.NAME.provider": "anthropic",
    "executors.NAME.account": "team-a",
    "executors.NAME.model": "small",
    "executors.NAME.idempotent": True,
    "executors.NAME.env": {"NO_COLOR": "1"},
    "executors.NAME.secrets": {"API_KEY": "api-key"},
    "executors.NAME.limits.cpu_seconds": 3600.0,
    "executors.NAME.limits.memory_bytes": 2 * 2**30,
    "executors.NAME.limits.files": 1024,
    "executors.NAME.limits.processes": 4096,
    "executors.NAME.budget.tokens": 2_000_000,
    "executors.NAME.budget.cost_usd": 5.0,
    "executors.NAME.heartbeat.activity_is_heartbeat": True,
    "executors.NAME.heartbeat.on_hung": "stop",
    "executors.NAME.retry.elapsed_max": 86400.0,
    "executors.NAME.retry.classes": {"rate_limited": {"base": "1m", "max_attempts": 10}},
    "executors.NAME.success.task_error_codes": (3,),
    "executors.NAME.success.files": ("out/report.txt",),
    "executors.NAME.success.command": ("test", "-s", "out/report.txt"),
    "recovery.overrides.NAME.runtime": "pi_crew",
    "recovery.overrides.NAME.root": "~/projects/site",
    "recovery.overrides.NAME.mode": "ask",
    "recovery.overrides.NAME.command": ("pi-crew-recover", "resume", "{folder}"),
    "recovery.overrides.NAME.cancel_command": ("pi-crew-recover", "cancel", "{folder}"),
    "notifications.channels.NAME.kind": "command",
    "notifications.channels.NAME.url": None,
    "notifications.channels.NAME.format": "plain",
    "notifications.channels.NAME.headers": (),
    "notifications.channels.NAME.labels": (),
    "notifications.channels.NAME.command": ("page-me", "--team", "night"),
    "notifications.channels.NAME.min_severity": "warning",
    "notifications.channels.NAME.crews": ("night-*",),
    "notifications.channels.NAME.quiet_hours": "22:00-07:00+02:00",
    "notifications.channels.NAME.quiet_critical": True,
    "notifications.channels.NAME.rate_per_minute": 20.0,
    "notifications.channels.NAME.burst": 5,
    "notifications.channels.NAME.timeout": 10.0,
    "notifications.channels.NAME.attempts_max": 20,
    "notifications.channels.NAME.age_max": 3600.0,
}
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
A reload (`crewd reload`, SIGHUP) checks the whole before it changes anything; keys marked *restart* wait for the next
start.

In `[executors.NAME]` nothing has a default of its own: what it leaves out is as a task has it
(docs/reference/run-file.md says how the two come together).

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
            default = "" if key.default is None and key.kind != "secret" else f"`{toml_value(key.default, key.kind)}`"
            notes = f"{key.description} *restart*" if key.needs_restart else key.description
            lines.append(f"| `{key.name}` | {kind} | {default} | {notes} |")
        lines.append("")
    return "\n".join(lines)


def toml_value(value: Any, kind: str) -> str:
    """Write a value as TOML."""
    if value is None:  # TOML has no word for nothing: an empty text says it where it may be said
        return '""'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(toml_value(each, "text") for each in value) + "]"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{name} = {toml_value(each, 'text')}" for name, each in value.items())
        return f"{{ {inner} }}" if inner else "{}"
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
    if key.name in _EXAMPLES:
        return _EXAMPLES[key.name]
    # A table with a name of its own has no defaults: show what it would override.
    if key.name.startswith("executors."):
        *_, table, name = key.name.split(".")
        if table != "heartbeat":
            return plan_default(table, name)
    name = key.name.rsplit(".", 1)[1]
    return next((other.default for other in every_key() if other.name == f"heartbeat.{name}"), None)
