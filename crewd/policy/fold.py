"""State from events alone (I9): what was told, folded up, must be what the ledger holds.

An event that changes where a managed task stands carries the name of the new state in `data["state"]`, and in
`attempt` the number of the task's newest attempt, both as they are afterwards. Its type does not matter: types that
this version does not know fold too.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from crewd.model.event import Event
from crewd.model.managed import ManagedTask, name_of

RUNTIME = "managed"

# For events whose `data` does not name the state. What is not here changes no state.
_LEADS_TO: Mapping[str, str] = MappingProxyType(
    {
        "task.queued": "waiting",
        "task.unblocked": "waiting",
        "task.retry_scheduled": "retry_wait",
        "task.blocked": "blocked",
        "task.completed": "completed",
        "task.dead_lettered": "dead_lettered",
        "task.cancelled": "cancelled",
        "task.skipped": "skipped",
        "attempt.starting": "starting",
        "attempt.started": "running",
        "attempt.ending": "ending",
    }
)

Where = tuple[str, int]  # name of the state, number of the newest attempt
Key = tuple[str, str]  # run id, task id


def fold(events: Iterable[Event]) -> dict[Key, Where]:
    """Rebuild where each managed task stands from its events, oldest first.

    The same event read twice counts once: one that is not newer than those before it is passed over.
    """
    where: dict[Key, Where] = {}
    newest = 0
    for event in events:
        if event.seq and event.seq <= newest:
            continue
        newest = max(newest, event.seq)
        if event.runtime != RUNTIME or not event.task_id:
            continue
        key = (event.run_id, event.task_id)
        named = event.data.get("state")
        if isinstance(named, str) and named:
            where[key] = (named, event.attempt)
        elif event.type in _LEADS_TO:
            before = where.get(key, ("", 0))[1]
            where[key] = (_LEADS_TO[event.type], event.attempt or before)
    return where


def differences(folded: Mapping[Key, Where], tasks: Mapping[Key, ManagedTask]) -> list[str]:
    """Say in words where events and ledger disagree, in the order of their names; empty: nowhere.

    Give it the whole history of exactly these tasks: of one that only one side knows it says so.
    """
    said: list[str] = []
    for key in sorted(folded.keys() | tasks.keys()):
        told, task = folded.get(key), tasks.get(key)
        held = None if task is None else _where(task)
        if told != held:
            said.append(f"{key[0]}/{key[1]}: events say {_words(told)}, the ledger says {_words(held)}")
    return said


def _where(task: ManagedTask) -> Where:
    # A state may name an attempt whose record is not there yet.
    return name_of(task.state), max(getattr(task.state, "attempt", 0), task.attempt)


def _words(where: Where | None) -> str:
    return "nothing" if where is None else f"{where[0]} after {where[1]} attempts"
