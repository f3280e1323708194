"""How a task, the file's defaults and an executor come together: what the nearer one says counts.

Tables are laid over each other name by name; every other value, lists among them, is taken whole.
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec

from crewd.config.group import Group
from crewd.config.run_file.fields import RequiredFile, StopStep, TaskFields
from crewd.model import plan
from crewd.model.failure import ErrorClass
from crewd.policy.profiles import profile_of

TABLES = ("heartbeat", "retry", "success", "stop", "limits", "resume", "budget", "watch")
# A value of the person's own: even a table of it is taken whole.
_WHOLE = frozenset({"payload"})


class Tables(NamedTuple):
    """The tables of a task, as the plan has them."""

    heartbeat: plan.HeartbeatPlan
    retry: plan.RetryPolicy
    success: plan.Success
    stop: plan.StopPlan
    limits: plan.Limits
    resume: plan.ResumePlan
    budget: plan.BudgetPlan
    watch: plan.WatchPlan


class Wrong(NamedTuple):
    """One thing that is wrong with a table, once it stands in its place."""

    table: str
    below: tuple[str, ...]  # where within the table
    message: str
    remedy: str
    conflict: bool = False  # of two values, rather than one that is out of range


def values_of(table: Group) -> dict[str, Any]:
    """What a table says, without what it leaves out."""
    said = {name: getattr(table, name) for name in table.model_fields_set}
    return {name: _plain(value) for name, value in said.items() if value is not None}


def laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one layer over another."""
    laid = {**below, **above}
    for name in above.keys() & below.keys() - _WHOLE:
        if isinstance(above[name], dict) and isinstance(below[name], dict):
            laid[name] = laid_over(below[name], above[name])
    return laid


def tables_of(values: Mapping[str, Any]) -> Tables:
    """Make of what all layers say the tables of a plan; the profile and their own defaults fill the rest."""
    return Tables(
        plan.HeartbeatPlan(**values.get("heartbeat", {})),
        _retry(values.get("retry", {})),
        _success(values.get("success", {})),
        _stop(values.get("stop", {}), profile_of(values.get("profile", "")).stop),
        plan.Limits(**values.get("limits", {})),
        plan.ResumePlan(**values.get("resume", {})),
        plan.BudgetPlan(**values.get("budget", {})),
        plan.WatchPlan(**values.get("watch", {})),
    )


def wrongs_of(tables: Tables) -> Iterator[Wrong]:
    """Find what single fields cannot show: values that are sound, and not together."""
    yield from _heartbeat_wrongs(tables.heartbeat)
    yield from _retry_wrongs(tables.retry)
    if both := sorted({*tables.success.exit_codes} & {*tables.success.task_error_codes}):
        message = f"{both[0]} is among exit_codes and among task_error_codes"
        yield Wrong("success", ("task_error_codes",), message, "an exit says the one or the other", conflict=True)
    yield from _watch_wrongs(tables.watch)


def _heartbeat_wrongs(heartbeat: plan.HeartbeatPlan) -> Iterator[Wrong]:
    # Those that are left out are the settings', which may be others when the task starts.
    order = ("warn_after", "stale_after", "dead_after", "hung_after")
    given = [(name, getattr(heartbeat, name)) for name in order if getattr(heartbeat, name) is not None]
    for (name, value), (later, more) in pairwise(given):
        if not (value < more or (value == more and later == "hung_after")):
            message = f"{later} {more:g}s does not lie beyond {name} {value:g}s"
            yield Wrong("heartbeat", (later,), message, "warn_after < stale_after < dead_after <= hung_after")


def _retry_wrongs(retry: plan.RetryPolicy) -> Iterator[Wrong]:
    if retry.base > retry.cap:
        yield Wrong(
            "retry", ("cap",), f"base {retry.base:g}s is longer than cap {retry.cap:g}s", "say a longer cap, too"
        )
        return
    for name, rule in retry.classes.items():
        base = retry.base if rule.base is None else rule.base
        cap = retry.cap if rule.cap is None else rule.cap
        if base > cap:
            message = f"{name.value}: base {base:g}s is longer than cap {cap:g}s"
            yield Wrong("retry", ("classes", name.value), message, "say a longer cap, too")


def _watch_wrongs(watch: plan.WatchPlan) -> Iterator[Wrong]:
    pairs = (
        ("same_tool", watch.same_tool_warn, watch.same_tool_max),
        ("same_error", watch.same_error_warn, watch.same_error_max),
    )
    for name, warn, most in pairs:
        if warn and most and warn > most:
            message = f"{name}_warn {warn} lies beyond {name}_max {most}"
            yield Wrong("watch", (f"{name}_max",), message, f"{name}_warn <= {name}_max, or 0 for never")


def _retry(values: Mapping[str, Any]) -> plan.RetryPolicy:
    made = dict(values)
    if "jitter" in made:
        made["jitter"] = plan.Jitter(made["jitter"])
    if "classes" in made:
        made["classes"] = {ErrorClass(name): plan.RetryRule(**rule) for name, rule in made["classes"].items()}
    return plan.RetryPolicy(**made)


def _success(values: Mapping[str, Any]) -> plan.Success:
    made = dict(values)
    if "files" in made:
        made["files"] = tuple(_as_file(each) for each in made["files"])
    return plan.Success(**made)


def _as_file(file: RequiredFile) -> plan.RequiredFile:
    return plan.RequiredFile(file.path) if file.bytes_min is None else plan.RequiredFile(file.path, file.bytes_min)


def _stop(values: Mapping[str, Any], otherwise: tuple[plan.StopStep, ...]) -> plan.StopPlan:
    """`otherwise` is how the profile ends its program, where nobody says how; (): as any command."""
    made = dict(values)
    if "steps" not in made:
        return plan.StopPlan(**made, steps=otherwise) if otherwise else plan.StopPlan(**made)
    steps: tuple[StopStep, ...] = made["steps"]
    made["steps"] = tuple(plan.StopStep(step.signal, step.wait) for step in steps)
    return plan.StopPlan(**made)


def _plain(value: Any) -> Any:
    if isinstance(value, str | tuple | int | float):  # most, and the cheapest to tell
        return value
    if isinstance(value, Group):
        return values_of(value)
    # Not of a payload, which is a plain dict: only the tables of texts and of rules are read into such a mapping.
    if isinstance(value, Mapping) and not isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return value


def passed_names() -> frozenset[str]:
    """Name what a run file and a plan's task call alike, and what goes over as it is."""
    made = {*TABLES, "command", "cwd", "mode", "env_pass", "depends_on", "priority", "executor"}
    shared = TaskFields.model_fields.keys() & {field.name for field in msgspec.structs.fields(plan.TaskPlan)}
    return frozenset(shared - made)
