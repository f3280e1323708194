"""The way from what a run file says to the plan of a run, or to everything that is wrong with it."""

from collections.abc import Mapping
from typing import Any

from crewd.config.run_file.bounds import check_bounds
from crewd.config.run_file.executor import Executor
from crewd.config.run_file.graph import check_graph
from crewd.config.run_file.layers import values_of
from crewd.config.run_file.making import DEFAULT, Maker, TaskDefaults
from crewd.config.run_file.parts import Parts, nodes_of, read_parts, read_task
from crewd.config.run_file.problems import Finds
from crewd.config.run_file.words import no_table
from crewd.model.plan import BudgetPlan, RunPlan, TaskPlan

_NOTHING = TaskDefaults()


def plan(
    data: Any,
    *,
    executors: Mapping[str, Executor],
    defaults: TaskDefaults = _NOTHING,
    base: str,
    run_id: str,
    source: str = "",
) -> RunPlan:
    """Make a plan of what `read_text` read. Raises RunRefused with every problem at once.

    `base` is the folder in which a relative cwd begins; "" where there is none, as for a request over HTTP: then
    every task needs an absolute one. `run_id` counts where the file names none. `source` is for display.
    """
    finds = Finds(source)
    if not check_bounds(data, finds):
        finds.refuse()
    if not isinstance(data, dict):
        no_table((), data, finds)
        finds.refuse()
    parts = read_parts(data, run_id, finds)
    check_graph(nodes_of(parts.tasks), finds)
    maker = Maker(parts, executors, defaults, base, finds)
    tasks = _made(parts, maker, finds)
    finds.refuse()
    return RunPlan(
        run_id=parts.run_id,
        crew=parts.head.crew or DEFAULT,
        name=parts.head.name or "",
        labels=dict(parts.head.labels or {}),
        tasks=tuple(tasks),
        max_parallel=parts.head.max_parallel,
        source=source,
        budget=BudgetPlan(**values_of(parts.head.budget)) if parts.head.budget is not None else BudgetPlan(),
    )


def _made(parts: Parts, maker: Maker, finds: Finds) -> list[TaskPlan]:
    made = []
    for place, raw in enumerate(parts.tasks):
        given = read_task(raw, place, finds)
        if given is not None and (task := maker.make(given)) is not None:
            made.append(task)
    return made
