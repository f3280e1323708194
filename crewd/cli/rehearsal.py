"""A run as it would be run: planned as the daemon plans it, and shown instead of started."""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crewd.cli.options import environment
from crewd.cli.screen import Line

if TYPE_CHECKING:
    from crewd.cli.submission import RunFile
    from crewd.model.plan import BudgetPlan, RunPlan, TaskPlan
    from crewd.telemetry.redact import Redactor

WORD_SHOWN = 200  # characters of one argument
RUN_ID = "dry-run"  # stands where the daemon puts the id that it makes


def rehearse(run: "RunFile", config_file: Path | None) -> "RunPlan":
    """Plan a run with the settings of this machine. Raises RunRefused, SettingsError."""
    from crewd import assembly
    from crewd.config.load import load
    from crewd.config.run_file import plan

    settings = load(config_file, environment()).settings
    return plan(
        run.content,
        executors=settings.executors,
        defaults=assembly.task_defaults(settings),
        base=run.base,
        run_id=RUN_ID,
        source=run.name,
    )


def as_json(run: "RunPlan", redactor: "Redactor") -> dict[str, Any]:
    """Lay out a plan for a program. What could be a secret is not in it."""
    from crewd.engine.managed.preview import budget

    told: dict[str, Any] = {
        "run_id": None if run.run_id == RUN_ID else run.run_id,
        "crew": run.crew,
        "name": run.name,
        "budget": budget(run.budget),
    }
    return {**redactor.value(told), "tasks": [told_of(task, redactor) for task in run.tasks]}


def as_lines(run: "RunPlan", redactor: "Redactor") -> Iterator[Line]:
    """Lay out a plan for a person."""
    many = f"{len(run.tasks)} {'task' if len(run.tasks) == 1 else 'tasks'}"
    yield [(f"{run.name or 'a run'} of crew {run.crew}: {many}; nothing was started", "head")]
    if budget := _budget_words(run.budget):
        yield [(f"  budget    {budget}", "")]
    for task in run.tasks:
        yield []
        yield [(task.task_id, "head")]
        for name, words in _facts(task, redactor):
            yield [(f"  {name:<9} ", "faint"), (words, "")]


def told_of(task: "TaskPlan", redactor: "Redactor") -> dict[str, Any]:
    """What comes of one task."""
    from crewd.engine.managed.preview import task_preview

    told = redactor.value(task_preview(task))  # what is named like a secret, or looks like one, is masked
    return {
        **told,
        "command": [_cut(word) for word in told["command"]],
        "env": {name: _cut(value) for name, value in told["env"].items()},
        "env_from_credentials": dict(task.secrets),  # the names of files: no secrets
    }


def _facts(task: "TaskPlan", redactor: "Redactor") -> Iterator[tuple[str, str]]:
    told = told_of(task, redactor)
    yield "command", shlex.join(told["command"])
    if told["prompt"] is not None:
        where = "on stdin" if told["stdin"] == "prompt" or task.stdin == task.prompt else "an argument"
        yield "prompt", f"{told['prompt']!r}, {told['prompt_characters']} characters, {where}"
    elif task.stdin is not None:
        yield "stdin", f"{len(task.stdin)} characters"
    yield "folder", told["cwd"]
    yield "profile", f"{told['profile']} (executor {told['executor']})"
    by_profile = set(told["env_by_profile"])
    for name, value in told["env"].items():
        yield "env", f"{name}={value}" + (" (profile)" if name in by_profile else "")
    for name, credential in told["env_from_credentials"].items():
        yield "env", f"{name} from the credential {credential}"
    yield "passed on", ", ".join(task.env_pass) or "nothing"
    steps = [f"{step.signal}, {step.wait:g} s" for step in task.stop.steps]
    yield "stop", "; ".join([*steps, "KILL to all that is left"])
    yield "circuit", told["circuit"] or "none"
    yield "budget", _budget_words(task.budget) or "no limit"
    yield "resume", _resume_words(told)


def _budget_words(budget: "BudgetPlan") -> str:
    limits = [f"{budget.tokens} tokens"] if budget.tokens is not None else []
    limits += [f"{budget.cost_usd:g} USD"] if budget.cost_usd is not None else []
    return f"{' and '.join(limits)}, then {budget.on_exceeded}" if limits else ""


def _resume_words(told: Mapping[str, Any]) -> str:
    again = "" if told["idempotent"] else "; never carried out twice"
    resume = told["resume"]
    if resume is None:
        return f"no: each attempt begins afresh{again}"
    tree = ", where the working tree is as it was left" if resume["tree"] == "same" else ""
    return f"{resume['attempts_max']} attempts in a row go on with one session{tree}{again}"


def _cut(word: str) -> str:
    return word if len(word) <= WORD_SHOWN else word[: WORD_SHOWN - 1] + "…"
