"""Servers that outlive a run rightly: an agent started them, and others use them since.

A terminal multiplexer, a bus, an editor's server: whichever was first started by an agent bears the marks of its run
for ever, and so does all that others begin in it. Its name says nothing here either. What shows that it is not the
run's any more is whom it serves: who is below it in a session of its own, and did not come with the run.
"""

from collections.abc import Collection, Mapping, Sequence

from crewd.model.orphan import TASK_ID, Bystander, Proof, Spared

CLOCK_SLACK = 1.0  # seconds, as for the end of a run


def serving(
    table: Mapping[int, Bystander],
    children: Mapping[int, Sequence[int]],
    verdicts: Mapping[int, Proof | Spared | None],
    living: Collection[int],
) -> dict[int, Proof | Spared | None]:
    """Name those of the proven processes that serve others, and the proven below them, with why they are left alone.

    `living`: pids that runs name which have not ended.
    """
    doubted = {pid for pid, verdict in verdicts.items() if isinstance(verdict, Spared) and verdict.late_for is None}
    sessions = {table[pid].session: pid for pid in doubted | set(living) if pid in table}
    found: dict[int, str] = {}
    for pid, verdict in verdicts.items():
        if isinstance(verdict, Proof) and pid not in found and (why := _use(pid, verdict, table, children, verdicts)):
            found[pid] = why
        elif isinstance(verdict, Proof) and pid in sessions and table[pid].session == pid:
            found[pid] = f"process {sessions[pid]} is at work in its session, for a run that goes on or is not known"
    for server in list(found):
        for below in _below(server, children):
            if isinstance(verdicts.get(below), Proof):
                found.setdefault(below, f"it hangs below process {server}, which others use")
    return {pid: Spared(why, serves=True) for pid, why in found.items()}


def _use(
    pid: int,
    proof: Proof,
    table: Mapping[int, Bystander],
    children: Mapping[int, Sequence[int]],
    verdicts: Mapping[int, Proof | Spared | None],
) -> str:
    """How it shows that others use a process; "": it does not."""
    process = table[pid]
    if process.session != pid:
        return ""  # whoever serves leads a session
    if process.terminal and not isinstance(verdicts.get(process.parent), Proof):
        return "it leads the session of a terminal that nobody of the run opened"
    for below in _below(pid, children):
        other = table[below]
        if other.session in (0, pid):
            continue
        ended_at = proof.owner.ended_at
        if other.terminal and ended_at is not None and other.started_at > ended_at + CLOCK_SLACK:
            return f"a terminal was opened below it after its run had ended (process {below})"
        if other.readable and all(name == TASK_ID for name, _ in other.marks):
            return f"a session below it bears no mark of the run (process {below})"
    return ""


def _below(pid: int, children: Mapping[int, Sequence[int]]) -> list[int]:
    queue, known = [pid], {pid}
    for each in queue:
        queue += [child for child in children.get(each, ()) if child not in known]
        known.update(children.get(each, ()))
    return queue[1:]
