"""What counts where nobody says anything, neither task nor defaults nor executor: the defaults of a plan."""

from collections.abc import Mapping
from typing import Any

import msgspec

from crewd.model.plan import (
    BudgetPlan,
    HeartbeatPlan,
    Limits,
    RequiredFile,
    ResumePlan,
    RetryPolicy,
    RetryRule,
    StopPlan,
    StopStep,
    Success,
    TaskPlan,
    WatchPlan,
)

# What each table of a run file becomes. "" is the task itself.
PLANS: Mapping[str, type[msgspec.Struct]] = {
    "": TaskPlan,
    "heartbeat": HeartbeatPlan,
    "retry": RetryPolicy,
    "classes": RetryRule,
    "success": Success,
    "files": RequiredFile,
    "stop": StopPlan,
    "steps": StopStep,
    "limits": Limits,
    "resume": ResumePlan,
    "budget": BudgetPlan,
    "watch": WatchPlan,
}
_RENAMED = {"type": "task_type", "id": "task_id"}


def plan_default(table: str, name: str) -> Any:
    """Give the default of a field, as a run file would write it; None: there is none."""
    for field in msgspec.structs.fields(PLANS[table]):
        if field.name == _RENAMED.get(name, name) and field.default is not msgspec.NODEFAULT:
            # The default of a table is made of those of its fields.
            return None if isinstance(field.default, msgspec.Struct) else _written(field.default)
    return None


def _written(value: Any) -> Any:
    """Write a value of a plan as a person would: durations in tables become texts."""
    if isinstance(value, StopStep):
        return {"signal": value.signal, "wait": f"{value.wait:g}s"}
    if isinstance(value, tuple):
        return tuple(_written(each) for each in value)
    return value
