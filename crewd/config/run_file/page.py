"""The reference page of run files, out of the classes that validate them."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from crewd.config import tables
from crewd.config.pages import toml_value
from crewd.config.run_file import fields
from crewd.config.run_file.bounds import DEPTH_MAX
from crewd.config.run_file.defaults import plan_default
from crewd.config.run_file.fields import DEPENDENCIES_MAX, TASKS_MAX
from crewd.config.run_file.problems import PROBLEMS_MAX, Code
from crewd.config.run_file.read import BYTES_MAX

_HEAD = f"""\
# Run files

A run file says what crewd is to run: tasks, what they depend on, and what is done when one fails. It is TOML, JSON
or YAML, told by its suffix (`.toml`, `.json`, `.yaml`, `.yml`), and means the same in each.

    name = "nightly"

    [[tasks]]
    id = "test"
    command = ["make", "test"]
    retry = {{ max_attempts = 3 }}

    [[tasks]]
    id = "report"
    command = ["./report"]
    depends_on = ["test"]
    success = {{ files = ["report.txt"] }}

`config/examples` holds whole ones. `crewd config schema --run` prints this page as JSON Schema (draft 2020-12).

A file is accepted whole or not at all. What is wrong with it is told at once, each problem with its JSON pointer,
the value and what to do (exit 78); [the codes](#problems) are below. It holds {BYTES_MAX // 2**20} MiB, {TASKS_MAX}
tasks, {DEPENDENCIES_MAX} dependencies and {DEPTH_MAX} levels of tables at most. No name may stand twice in a table,
no number may be NaN, infinite or beyond 2**63. YAML has no aliases and no tags here, and what stands without quotes
is read as in YAML 1.2: `no` and `1:30` are texts.

Durations are `"30s"`, `"1m30s"`, `"500ms"` or a number of seconds; sizes are `"16MiB"`, `"500kB"` or a number of
bytes. `null` says the same as leaving a field out.

## What counts where several speak

What a task leaves out is as the file's `defaults` say; what these leave out, too, is as the task's executor says
(`[executors.NAME]` in docs/reference/settings.md); and then come the defaults of the tables below. Tables (`env`,
`retry`, `limits`, ...) are laid over each other name by name; anything else, lists among them, is taken whole from
the nearest place that says it. `payload` is one value, whatever it is. A task that names no executor has the
executor `default`, which need not be in the settings.

The plan that is made of a file is kept with the run. Settings that change later change no run that was accepted.

**Command.** The task's `command` (or that of `defaults`), else the executor's, and `args` behind it. In the
executor's command `{{model}}`, `{{run}}`, `{{task}}` and `{{type}}` are replaced, within one argument and never by
a shell; `{{{{` is a brace, and other braces stay as they are. A run file's own command is taken as it is written.
With `shell = true` the command is a text, run by `/bin/sh -c`.

**Folder.** `cwd` is absolute, or begins with `~/`, or is relative to the folder of the run file. A run that comes
over HTTP has no such folder unless the request names one: each task then needs an absolute `cwd`. It need not be
there before the task starts: an earlier task may make it.

**Environment.** A worker has the variables of `tasks.env_pass`, of `env_pass`, `env`, `secrets`, and what crewd
tells it (`CREWD_...`, `TRACEPARENT`; nobody else may set these). A secret is a file of the credentials folder
(`secrets.folder`), by name, and is read when the worker starts; a run file never holds one.

**Agents.** A task with a `profile` is the work of an agent's command line: claude, codex, gemini or pi. Its command
is then the profile's program unless somebody writes another, and is completed: what makes the program say what it
does (its subcommand, its JSON output) and the `model` are put right behind the program, unless they are there in any
spelling. Nothing is ever added that lets an agent do more: permissions stand in the command, and so in its executor.
The profile's variables lie below those of executor, defaults and task; the variables that its program looks for are
taken over as `env_pass` are; its way of ending stands where nobody writes `stop.steps`; and where nobody names a
`provider`, the circuit is that of the provider, account and family of models: `anthropic/team-a/claude-sonnet`.
The `prompt` goes in on stdin, which nobody else can read, with every profile that is known today. A task whose
prompt stands in its command or `stdin` instead begins afresh whenever it is tried again. `crewd submit --dry-run`
shows what comes of all this.

**Retries.** The delay after the n-th failure is d = base x factor^(n-1), at most `cap`. Jitter spreads it: `none`
d; `full` between 0 and d; `equal` between d/2 and d; `decorrelated` between base and three times the delay before,
at most `cap`. What a worker or a provider asks for is a lower bound. Each class of errors has a rule of its own
besides, which says whether it is tried again at all; `classes` says otherwise for this task.
"""
_TABLES: tuple[tuple[str, type[BaseModel], str | None], ...] = (
    ("The run", fields.RunFile, None),
    ("tasks", fields.Task, ""),
    ("heartbeat", fields.TaskHeartbeat, "heartbeat"),
    ("retry", fields.Retry, "retry"),
    ("retry.classes.CLASS", fields.RetryRule, "classes"),
    ("success", fields.Success, "success"),
    ("success.files", fields.RequiredFile, "files"),
    ("stop", fields.Stop, "stop"),
    ("stop.steps", fields.StopStep, "steps"),
    ("limits", fields.Limits, "limits"),
    ("resume", fields.Resume, "resume"),
    ("budget", fields.Budget, "budget"),
    ("watch", fields.Watch, "watch"),
)
_MEANINGS: dict[Code, str] = {
    Code.BAD_SYNTAX: "The text is no TOML, JSON or YAML, or uses what is not accepted.",
    Code.DUPLICATE_KEY: "A name stands twice in one table.",
    Code.UNKNOWN_FIELD: "No field has this name; the nearest is suggested.",
    Code.MISSING_FIELD: "A field must be there, and is not.",
    Code.TYPE_MISMATCH: "The value is of another kind.",
    Code.ENUM_MISMATCH: "The value is none of the known words; the nearest is suggested.",
    Code.VALUE_OUT_OF_RANGE: "A number, duration, size or list is too small or too large, or does not fit another.",
    Code.TOO_LARGE: "The file, a text, a list or the nesting is beyond what is accepted.",
    Code.BAD_ID: "An id of a run or task is not written as it must be.",
    Code.BAD_NAME: "The name of a variable, label, executor or credential is not well written, or is crewd's.",
    Code.BAD_TEXT: "A text holds what no argument or path can hold.",
    Code.BAD_PATH: "A path leaves the task's folder, or there is nothing that it could be relative to.",
    Code.CONFLICT: "Two values exclude each other.",
    Code.DUPLICATE_ID: "Two tasks have one id.",
    Code.UNKNOWN_TASK: "A task depends on an id that is not in the file; the nearest is suggested.",
    Code.SELF_DEPENDENCY: "A task depends on itself.",
    Code.CYCLE: "Tasks depend on each other in a circle, which is named: a -> b -> a. Each dependency that closes one"
    " is told once.",
    Code.UNKNOWN_EXECUTOR: "No executor of the settings has this name; the nearest is suggested.",
}


def as_markdown() -> str:
    """Write the reference page."""
    lines = [_HEAD]
    for title, table, of_plan in _TABLES:
        lines += [
            f"## {title}",
            "",
            tables.explanation_of(table),
            "",
            "| field | kind | default | |",
            "|---|---|---|---|",
        ]
        if table is fields.Task:  # what names it stands first
            lines += sorted(_rows(table, of_plan), key=lambda row: not row.startswith(("| `id`", "| `depends_on`")))
        else:
            lines += _rows(table, of_plan)
        lines.append("")
    lines += ["`defaults` has the fields of a task, except `id` and `depends_on`.", ""]
    lines += ["## Problems", "", f"At most {PROBLEMS_MAX} are listed; the rest is counted.", ""]
    lines += ["| code | meaning |", "|---|---|", *(f"| `{code}` | {_MEANINGS[code]} |" for code in Code), ""]
    return "\n".join(lines)


def _rows(table: type[BaseModel], of_plan: str | None) -> Iterator[str]:
    for name, field in table.model_fields.items():
        default = None if of_plan is None else plan_default(of_plan, name)
        kind, bounds = tables.kind_of(field).word, tables.bounds_of(field)
        told = f"{kind}, {bounds}" if bounds else kind
        yield f"| `{name}` | {told} | {_default(field, default, kind)} | {field.description} |"


def _default(field: FieldInfo, default: Any, kind: str) -> str:
    if field.is_required():
        return "required"
    return "" if default in (None, "", (), {}) else f"`{toml_value(default, kind)}`"
