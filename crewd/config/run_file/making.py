"""Making tasks: what a task leaves out comes from the file's defaults, then from its executor, then from the plan."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from crewd.config.run_file.agent import Clash, agent_parts, clashes, flag_clash, shell_clash
from crewd.config.run_file.executor import Executor
from crewd.config.run_file.layers import TABLES, Tables, laid_over, passed_names, tables_of, values_of, wrongs_of
from crewd.config.run_file.parts import GivenTask, Parts
from crewd.config.run_file.problems import Code, Finds, nearest, shown
from crewd.model.agent import Profile
from crewd.model.plan import Mode, TaskPlan
from crewd.policy.profiles import profile_of

DEFAULT = "default"  # the crew of a run, and the executor of a task, that name none

_FILLED_IN = re.compile(r"\{\{|\{(model|run|task|type)\}")
_PASSED = passed_names() - {"env", "provider", "stdin"}
# What an executor says that is no field of a task, or is no field of the same kind.
_NOT_INHERITED = frozenset({"command", "cwd", "max_parallel"})

_Location = tuple[object, ...]


@dataclass(frozen=True)
class TaskDefaults:
    """What a plan takes from the settings and the machine, so that it says everything from then on."""

    env_pass: tuple[str, ...] = ()  # tasks.env_pass: what every worker takes over
    home: str = ""  # what ~ stands for; "": it is refused


@dataclass(frozen=True)
class _Below:
    """What lies below a task: the file's defaults over an executor."""

    name: str
    executor: Executor | None  # None: there is none of that name
    values: Mapping[str, Any]
    tables: Tables


@dataclass(frozen=True)
class _Whole:
    """A task with what lies below it."""

    given: GivenTask
    below: _Below
    values: Mapping[str, Any]
    profile: Profile


class Maker:
    """Makes the tasks of one file. What is wrong with one goes to the finds."""

    def __init__(
        self, parts: Parts, executors: Mapping[str, Executor], given: TaskDefaults, base: str, finds: Finds
    ) -> None:
        self._parts = parts
        self._executors = executors
        self._given = given
        self._base = base
        self._finds = finds
        self._below: dict[str, _Below] = {}
        self._folders: dict[str, str] = {}  # as written -> absolute
        self._shared: dict[str, tuple[int, int]] = {}  # concurrency_key -> its maximum, and the task that said so

    def make(self, given: GivenTask) -> TaskPlan | None:
        """Make one task. None: it cannot be made, and the finds say why."""
        below = self._below_of(given)
        values = laid_over(below.values, given.values)
        whole = _Whole(given, below, values, profile_of(values.get("profile", "")))
        tables = self._tables(whole)
        self._check_variables(whole)
        self._check_stdin(whole)
        self._check_concurrency(whole)
        self._check_agent(whole)
        command, cwd = self._command(whole), self._cwd(whole)
        for clashes_with in (shell_clash, flag_clash):
            if command is not None and (clash := clashes_with(whole.profile, command)) is not None:
                self._tell(clash, given)
        if command is None or cwd is None or not given.is_whole:
            return None
        agent = agent_parts(whole.profile, command, values)
        passed = (*self._given.env_pass, *values.get("env_pass", ()), *agent.env_pass)
        return TaskPlan(
            task_id=given.task_id,
            command=agent.command,
            cwd=cwd,
            mode=Mode(values.get("mode", Mode.COMMAND)),
            env_pass=tuple(dict.fromkeys(passed)),
            stdin=agent.stdin,
            env=agent.env,
            provider=agent.provider,
            depends_on=given.depends_on,
            priority=values.get("priority", self._parts.head.priority or 0),
            task_type=values.get("type", ""),
            executor=below.name,
            **tables._asdict(),
            **{name: values[name] for name in _PASSED & values.keys()},
        )

    def _below_of(self, given: GivenTask) -> _Below:
        name = str(given.values.get("executor", self._parts.defaults.get("executor", DEFAULT)))
        if name not in self._below:
            self._below[name] = self._made_below(name)
        found = self._below[name]
        if found.executor is None and "executor" not in given.bad | self._parts.bad_defaults:
            location = (*self._place_of("executor", given), "executor")
            near = nearest(name, tuple(self._executors))
            remedy = f"did you mean {near}?" if near else f"add [executors.{name}] to crewd.toml"
            self._finds.add(location, Code.UNKNOWN_EXECUTOR, f"{shown(name)} is no executor", remedy)
        return found

    def _made_below(self, name: str) -> _Below:
        executor = self._executors.get(name)
        if executor is None and name == DEFAULT:
            executor = Executor()
        said = values_of(executor) if executor is not None else {}
        said = {name: value for name, value in said.items() if value != "" and name not in _NOT_INHERITED}
        values = laid_over(said, self._parts.defaults)
        tables = tables_of(values)
        self._check_tables(tables, self._parts.defaults, ("defaults",))
        return _Below(name, executor, values, tables)

    def _tables(self, whole: _Whole) -> Tables:
        own = whole.given.values
        if own.keys().isdisjoint((*TABLES, "profile")):
            return whole.below.tables  # shared by all tasks that leave them to it
        tables = tables_of(whole.values)
        self._check_tables(tables, own, ("tasks", whole.given.place))
        return tables

    # Command and folder.

    def _command(self, whole: _Whole) -> tuple[str, ...] | None:
        bad = whole.given.bad | self._parts.bad_defaults
        if not bad.isdisjoint(("command", "shell", "args")):
            return None
        values, own = whole.values, whole.given.values
        args = tuple(values.get("args", ()))
        at = (*self._place_of("command", whole.given), "command")
        match values.get("command"):
            case str() as text if values.get("shell"):
                # The word after the text is $0.
                return ("/bin/sh", "-c", text, *(("sh", *args) if args else ()))
            case str() as text:
                remedy = 'write ["program", "argument"], or add shell = true'
                self._finds.add(at, Code.TYPE_MISMATCH, f"{shown(text)} is no list of texts", remedy)
                return None
            case tuple() if own.get("shell") and "command" in own:
                remedy = "write the command as a text, or leave shell out"
                self._finds.add(at, Code.CONFLICT, "a list, and shell = true", remedy)
                return None
            case tuple() as words if not words[0]:
                self._finds.add((*at, 0), Code.VALUE_OUT_OF_RANGE, "the program is empty", "name a program")
                return None
            case tuple() as words:
                return (*words, *args)
            case _:
                words_of_executor = self._command_of_executor(whole)
                return None if words_of_executor is None else (*words_of_executor, *args)

    def _command_of_executor(self, whole: _Whole) -> tuple[str, ...] | None:
        executor, place = whole.below.executor, whole.given.place
        if executor is None:
            return None
        if not executor.command and whole.profile.program:
            return (whole.profile.program,)
        if not executor.command:
            remedy = 'write command = ["program", "argument"], or name an executor that has one'
            self._finds.add(("tasks", place, "command"), Code.MISSING_FIELD, "command is missing", remedy)
            return None
        known = {
            "model": str(whole.values.get("model", "")),
            "run": self._parts.run_id,
            "task": whole.given.task_id,
            "type": str(whole.values.get("type", "")),
        }
        used = {found[1] for word in executor.command for found in _FILLED_IN.finditer(word) if found[1]}
        missing = {name for name in used if not known[name]} - whole.given.bad - {"task"}
        for name in missing:
            message = f"{name} is missing, and the command of executor {whole.below.name} has {{{name}}}"
            self._finds.add(("tasks", place, name), Code.MISSING_FIELD, message, f"add {name}")
        return tuple(_filled_in(word, known) for word in executor.command)

    def _cwd(self, whole: _Whole) -> str | None:
        if "cwd" in whole.given.bad | self._parts.bad_defaults:
            return None
        executor = whole.below.executor
        given = str(whole.values.get("cwd") or (executor.cwd if executor is not None else ""))
        at = (*self._place_of("cwd", whole.given), "cwd")
        if given in self._folders:
            return self._folders[given]
        if given.startswith("/"):
            return self._folder(given, given)
        if given == "~" or given.startswith("~/"):
            if self._given.home:
                return self._folder(given, self._given.home, given[2:].lstrip("/"))
            self._finds.add(at, Code.BAD_PATH, f"{shown(given)}: there is no home folder", "write it from /")
            return None
        if self._base:
            return self._folder(given, self._base, given)
        if given:
            message = f"{shown(given)} is relative, and there is no folder for it to begin in"
            self._finds.add(at, Code.BAD_PATH, message, "write it from /")
            return None
        self._finds.add(at, Code.MISSING_FIELD, "cwd is missing", "add an absolute cwd")
        return None

    def _folder(self, given: str, *parts: str) -> str:
        """Join a folder, without what means nothing; `..` is left to the kernel, which knows the links."""
        return self._folders.setdefault(given, str(PurePosixPath(*parts)))

    # What single fields cannot show.

    def _check_tables(self, tables: Tables, own: Mapping[str, Any], location: _Location) -> None:
        for wrong in wrongs_of(tables):
            if wrong.table in own:  # what lies below and is wrong was told there
                code = Code.CONFLICT if wrong.conflict else Code.VALUE_OUT_OF_RANGE
                self._finds.add((*location, wrong.table, *wrong.below), code, wrong.message, wrong.remedy)

    def _check_variables(self, whole: _Whole) -> None:
        values, own = whole.values, whole.given.values
        for name in values.get("env", {}).keys() & values.get("secrets", {}).keys():
            table = "env" if name in own.get("env", self._parts.defaults.get("env", {})) else "secrets"
            at = (*self._place_of(table, whole.given), table, name)
            self._finds.add(at, Code.CONFLICT, f"{name} is in env and in secrets", "take it out of one of them")

    def _check_stdin(self, whole: _Whole) -> None:
        if "stdin" in whole.values and whole.values.get("mode") == Mode.PROTOCOL:
            at = (*self._place_of("stdin", whole.given), "stdin")
            self._finds.add(at, Code.CONFLICT, "stdin has no meaning in protocol mode", "send a payload")

    def _check_agent(self, whole: _Whole) -> None:
        bad = whole.given.bad | self._parts.bad_defaults
        unknown = "profile" in bad or whole.below.executor is None  # what nobody can read may well name one
        for clash in () if unknown else clashes(whole.profile, whole.values):
            if clash.field not in bad:
                self._tell(clash, whole.given)

    def _tell(self, clash: Clash, given: GivenTask) -> None:
        at = (*self._place_of(clash.field, given), clash.field)
        self._finds.add(at, clash.code, clash.message, clash.remedy)

    def _check_concurrency(self, whole: _Whole) -> None:
        key = whole.values.get("concurrency_key", "")
        at = (*self._place_of("concurrency_max", whole.given), "concurrency_max")
        if not key:
            if "concurrency_max" in whole.given.values:
                message = "concurrency_max has no meaning without concurrency_key"
                self._finds.add(at, Code.CONFLICT, message, "add a concurrency_key")
            return
        most = int(whole.values.get("concurrency_max", 1))
        before, by = self._shared.setdefault(key, (most, whole.given.place))
        if before != most:
            message = f"concurrency_max of {shown(key)} is {most} here and {before} in /tasks/{by}"
            self._finds.add(at, Code.CONFLICT, message, "say the same in both")

    def _place_of(self, name: str, given: GivenTask) -> _Location:
        """Where the value of a field was written, or is missing."""
        if name in self._parts.defaults and name not in given.values:
            return ("defaults",)
        return ("tasks", given.place)


def _filled_in(word: str, known: Mapping[str, str]) -> str:
    """Replace {model}, {run}, {task} and {type}, and nothing else. What was put in is not looked at again."""
    return _FILLED_IN.sub(lambda found: known[found[1]] if found[1] else "{", word)
