"""Previews: what a plan comes to, laid out before anything of it is begun. Pure; secrets that are known are not."""

from typing import Any

import msgspec

from crewd.engine.managed.board import circuit_of
from crewd.model.plan import BudgetPlan, RunPlan, TaskPlan
from crewd.policy.command_line import argv, can_resume
from crewd.policy.profiles import profile_of
from crewd.telemetry.redact import masked_command

PROMPT_SHOWN = 120  # characters


def run_preview(run: RunPlan) -> dict[str, Any]:
    """Lay out a plan with all its tasks. Values of the environment are in it: not for everybody."""
    return {
        "run_id": run.run_id,
        "crew": run.crew,
        "name": run.name,
        "labels": dict(run.labels),
        "source": run.source,
        "max_parallel": run.max_parallel,
        "budget": budget(run.budget),
        "tasks": [task_preview(task) for task in run.tasks],
    }


def task_preview(task: TaskPlan) -> dict[str, Any]:
    """Lay out what comes of one task: the command of its first attempt, and every rule that will be held to.

    What follows an option that is named like a secret is masked; everything else is for the redactor to look at.
    """
    profile = profile_of(task.profile)
    short = None if task.prompt is None else shortened(task.prompt)
    command, stdin = argv(profile, task.command, short, "")
    resumes = can_resume(profile, task.prompt) and task.resume.mode != "never"
    return {
        "task_id": task.task_id,
        "depends_on": list(task.depends_on),
        "on_dependency_failure": task.on_dependency_failure,
        "executor": task.executor,
        "profile": task.profile or "plain",
        "command": list(masked_command(command)),
        "prompt": short,
        "prompt_characters": len(task.prompt) if task.prompt is not None else 0,
        "stdin": "prompt" if stdin is not None else "text" if task.stdin is not None else "nothing",
        "stdin_characters": len(task.stdin) if task.stdin is not None else 0,
        "cwd": task.cwd,
        "mode": task.mode.value,
        "kind": task.kind,
        "model": task.model,
        "task_type": task.task_type,
        "variants": dict(task.variants),
        "timeout": task.timeout,
        "heartbeat": msgspec.to_builtins(task.heartbeat),
        "retry": msgspec.to_builtins(task.retry),
        "success": {**msgspec.to_builtins(task.success), "command": list(masked_command(task.success.command))},
        "limits": msgspec.to_builtins(task.limits),
        "stop": [{"signal": step.signal, "wait": step.wait} for step in task.stop.steps],
        "circuit": circuit_of(task),
        "budget": budget(task.budget),
        "priority": task.priority,
        "concurrency": {"name": task.concurrency_key, "at_once": task.concurrency_max}
        if task.concurrency_key
        else None,
        "idempotent": task.idempotent,
        "resume": {"attempts_max": task.resume.attempts_max, "tree": task.resume.tree} if resumes else None,
        "env": dict(task.env),
        "env_by_profile": sorted(name for name, value in profile.env.items() if task.env.get(name) == value),
        "env_pass": list(task.env_pass),
        # Pairs, not a mapping: whatever stands under a name such as API_KEY would be masked, and this is no secret.
        "env_from_credentials": [{"name": name, "file": file} for name, file in task.secrets.items()],
    }


def budget(plan: BudgetPlan) -> dict[str, Any] | None:
    """Lay out what may be used; None: there is no limit."""
    if plan.tokens is None and plan.cost_usd is None:
        return None
    return dict(msgspec.to_builtins(plan))


def shortened(prompt: str) -> str:
    """Put a prompt on one line, and cut it."""
    text = " ".join(prompt.split())
    return text if len(text) <= PROMPT_SHOWN else text[: PROMPT_SHOWN - 1] + "…"
