"""A run as it would be run: planned as the daemon plans it, and shown instead of started."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crewd.cli.options import environment
from crewd.cli.screen import Line

if TYPE_CHECKING:
    from crewd.cli.submission import RunFile
    from crewd.model.plan import BudgetPlan, RunPlan, TaskPlan
    from crewd.telemetry.redact import Redactor

PROMPT_SHOWN = 120  # characters
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
    told: dict[str, Any] = {
        "run_id": None if run.run_id == RUN_ID else run.run_id,
        "crew": run.crew,
        "name": run.name,
        "budget": _budget(run.budget),
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
    from crewd.engine.managed.board import circuit_of
    from crewd.policy.command_line import argv, can_resume
    from crewd.policy.profiles import profile_of

    profile = profile_of(task.profile)
    command, stdin = argv(profile, task.command, None if task.prompt is None else _short(task.prompt), "")
    resumes = can_resume(profile, task.prompt) and task.resume.mode != "never"
    told = {
        "task_id": task.task_id,
        "depends_on": list(task.depends_on),
        "executor": task.executor,
        "profile": task.profile or "plain",
        "command": [_cut(word) for word in _masked(command)],
        "prompt": _short(task.prompt) if task.prompt is not None else None,
        "prompt_characters": len(task.prompt) if task.prompt is not None else 0,
        "stdin": "prompt" if stdin is not None else "text" if task.stdin is not None else "nothing",
        "cwd": task.cwd,
        "mode": task.mode.value,
        "model": task.model,
        "env_by_profile": sorted(name for name, value in profile.env.items() if task.env.get(name) == value),
        "env_pass": list(task.env_pass),
        "stop": [{"signal": step.signal, "wait": step.wait} for step in task.stop.steps],
        "circuit": circuit_of(task),
        "budget": _budget(task.budget),
        "idempotent": task.idempotent,
        "resume": {"attempts_max": task.resume.attempts_max, "tree": task.resume.tree} if resumes else None,
    }
    values = redactor.value(dict(task.env))  # what is named like a secret, or looks like one, is masked
    return {
        **redactor.value(told),
        "env": {name: _cut(value) for name, value in values.items()},
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


def _masked(command: Sequence[str]) -> Iterator[str]:
    """Mask what follows an option that is named like a secret: --api-key TEXT."""
    from crewd.telemetry.redact import MASK, names_secret

    before = ""
    for word in command:
        yield MASK if before.startswith("-") and "=" not in before and names_secret(before) else word
        before = word


def _budget(budget: "BudgetPlan") -> dict[str, Any] | None:
    import msgspec

    if budget.tokens is None and budget.cost_usd is None:
        return None
    return dict(msgspec.to_builtins(budget))


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


def _short(prompt: str) -> str:
    text = " ".join(prompt.split())
    return text if len(text) <= PROMPT_SHOWN else text[: PROMPT_SHOWN - 1] + "…"


def _cut(word: str) -> str:
    return word if len(word) <= WORD_SHOWN else word[: WORD_SHOWN - 1] + "…"
