"""`manifest.json`: from pi-crew's words to a run. Where it says it lives is ignored; it lives where it was found."""

import msgspec

from crewd.model.look import ReadResult
from crewd.model.process import ProcessClaim
from crewd.model.run import RUN_ENDED, Run, RunStatus, Task, Usage, Waiting
from crewd.sources.document import parse
from crewd.sources.fields import NO_EXTRA, Fields, fields, moment, text, unknown, word
from crewd.sources.names import shown, valid_id
from crewd.sources.pi_crew.layout import MANIFEST_FIELDS, RUN_STATUS, RUNTIME
from crewd.sources.pi_crew.runner import Record, spawned_of

GOAL_MAX = 1024
GOAL_OF_ENDED_MAX = 256


class Manifest(msgspec.Struct, frozen=True, gc=False):
    """A manifest as read, or why it says nothing. Its document is let go of: the artifacts are most of it."""

    result: ReadResult
    why: str = ""
    status: RunStatus = RunStatus.UNKNOWN
    status_text: str = ""
    goal: str = ""
    created_at: float | None = None
    updated_at: float | None = None
    waiting: Waiting | None = None
    parked_task: str = ""  # the task that waits for a person's answer; "" = none
    spawned: Record | None = None  # the runner in the background
    extra: dict[str, str] = NO_EXTRA


def read_manifest(data: bytes, run_id: str) -> Manifest:
    """Read a manifest that lies in the folder of `run_id`."""
    document = parse(data)
    if document.result is not ReadResult.OK:
        return Manifest(document.result, document.why)
    of = fields(document.value)
    named = of.get("runId")
    if not isinstance(named, str) or not isinstance(of.get("status"), str):
        return Manifest(ReadResult.INVALID, "no object with the texts runId and status")
    if named != run_id:
        # A copy, or worse: to watch it would judge one run twice, or let an id choose a path.
        kind = "another run" if valid_id(named) else "no run at all"
        return Manifest(ReadResult.REFUSED, f"runId is {shown(named)}, {kind}; rename the folder if it is meant")
    status_text = word(of, "status")
    status = RUN_STATUS.get(status_text, RunStatus.UNKNOWN)
    ended = status in RUN_ENDED
    return Manifest(
        ReadResult.OK,
        status=status,
        status_text=status_text,
        goal=text(of, "goal", GOAL_OF_ENDED_MAX if ended else GOAL_MAX),
        created_at=moment(of, "createdAt"),
        updated_at=moment(of, "updatedAt"),
        waiting=None if ended else _waiting(of),
        parked_task=text(fields(of.get("waitState")), "taskId", 128),
        spawned=spawned_of(of),
        extra=NO_EXTRA if ended else unknown(of, MANIFEST_FIELDS),
    )


def make_run(
    manifest: Manifest, tasks: tuple[Task, ...], run_id: str, crew: str, folder: str, runner: ProcessClaim | None
) -> Run:
    """Put a run together. `tasks` are already what is kept of them."""
    return Run(
        run_id=run_id,
        runtime=RUNTIME,
        crew=crew,
        status=manifest.status,
        status_text=manifest.status_text,
        folder=folder,
        tasks=tasks,
        goal=manifest.goal,
        created_at=manifest.created_at,
        updated_at=manifest.updated_at,
        waiting=manifest.waiting,
        runner=None if manifest.status in RUN_ENDED else runner,
        usage=_sum(tasks),
        extra=manifest.extra,
    )


def _waiting(of: Fields) -> Waiting | None:
    asked = fields(of.get("waitState"))
    if asked:
        return Waiting("human", moment(asked, "askedAt"), text(asked, "taskId", 128))
    approval = fields(of.get("planApproval"))
    if approval.get("status") == "pending":
        return Waiting("human", moment(approval, "requestedAt"), "plan approval")
    return None


def _sum(tasks: tuple[Task, ...]) -> Usage | None:
    used = [task.usage for task in tasks if task.usage is not None]
    if not used:
        return None
    costs = [usage.cost_usd for usage in used if usage.cost_usd is not None]
    return Usage(
        input=sum([usage.input for usage in used]),
        output=sum([usage.output for usage in used]),
        cache_read=sum([usage.cache_read for usage in used]),
        cache_write=sum([usage.cache_write for usage in used]),
        cost_usd=sum(costs) if costs else None,
    )
