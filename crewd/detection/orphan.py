"""Does a living process belong to a run that has ended? Only proof counts, and any doubt spares it.

Its name never is proof. Its environment is, where it names the folder of an ended run and nothing else; a recorded
pid is, where the process provably is the one that was meant. Whoever started after the end, belongs to a run that is
not known, or has a process of such a run below it, is left alone.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from crewd.detection.identity import START_SLACK, Here, names_this_place
from crewd.detection.serving import serving
from crewd.model.orphan import (
    ATTEMPT_DIR,
    BROKER_RUN_ID,
    EVENTS_PATH,
    RUN_ID,
    STATE_ROOT,
    TASK_ID,
    Bystander,
    Known,
    Orphan,
    Owner,
    Proof,
    Recorded,
    Sighting,
    Spared,
)

# Seconds that the processes of a run have, once it ended, to leave by themselves.
LEAVING = 30.0
# Seconds by which a start and a record may be apart the wrong way round: clock ticks, and milliseconds cut off.
CLOCK_SLACK = 1.0
GONE = "ZXx"


def proven(process: Bystander, known: Known, here: Here, now: float) -> Proof | Spared | None:
    """Say whether a process provably belongs to a run that has ended; None: it has to do with none that is known.

    `now`: wall time. A process that says several things of itself is proven only if all of them agree.
    """
    if process.letter in GONE:
        return None
    if process.identity.pid in known.living:
        return Spared("a run that has not ended names its pid")
    if any(name != TASK_ID for name, _ in process.marks):
        return _by_marks(process, known, here, now)
    return _by_record(process, known, here, now)


def search(
    processes: Sequence[Bystander], known: Known, here: Here, untouchable: Collection[int], now: float
) -> Sighting:
    """Find all orphans among the processes of this user. `untouchable`: crewd itself and whatever is above it."""
    table = {each.identity.pid: each for each in processes if each.letter not in GONE}
    children = _children(table)
    verdicts = {pid: proven(each, known, here, now) for pid, each in table.items() if pid not in untouchable}
    verdicts |= serving(table, children, verdicts, known.living)
    busy = _busy(table, children, verdicts, known)
    spared = {
        pid: verdict
        for pid, verdict in verdicts.items()
        if isinstance(verdict, Spared) and not _descends(pid, verdict.late_for, table, verdicts)
    }
    proofs: dict[int, Proof] = {}
    for pid, verdict in verdicts.items():
        if not isinstance(verdict, Proof):
            continue
        if pid in busy:
            spared[pid] = Spared("it belongs together with a process of a run that has not ended, or is not known")
        else:
            proofs[pid] = verdict
    untaken = busy | set(spared) | set(untouchable)
    proofs |= _below(table, children, proofs, untaken)
    found = [Orphan(table[pid], proof, _memory(pid, table, children, untaken)) for pid, proof in proofs.items()]
    found.sort(key=lambda each: (each.process.identity.start_ticks, each.process.identity.pid))
    return Sighting(tuple(found), tuple((table[pid], why) for pid, why in sorted(spared.items())))


def _by_marks(process: Bystander, known: Known, here: Here, now: float) -> Proof | Spared:
    if not process.readable:
        return Spared("its environment could not be read to its end")
    owners: list[Owner] = []
    for name, value in process.marks:
        if name in (ATTEMPT_DIR, STATE_ROOT, EVENTS_PATH):
            folder = value.rpartition("/")[0] if name == EVENTS_PATH else value.rstrip("/")
            owner = known.owners.get(folder)
            if owner is None:
                return Spared(f"its {name} names nothing that is known here")
            owners.append(owner)
    for name, value in process.marks:
        if name in (RUN_ID, BROKER_RUN_ID) and all(owner.run_id != value for owner in owners):
            bearers = known.ids.get(value, ())
            if len(bearers) != 1:
                return Spared(f"its {name} names no run, or several, that are known here")
            owners.append(bearers[0])
    if process.run_argument and all(owner.run_id != process.run_argument for owner in owners):
        return Spared("its arguments name another run than its environment")
    for owner in owners:
        if why := _not_over(process, owner, now):
            return Spared(why)
    late = next((owner for owner in owners if _is_late(process, owner)), None)
    if late is not None:
        return Spared(f"it started after {_called(late)} had ended, which may be going on again", late)
    # The innermost says most: a run that an agent started below a managed attempt names itself beside that.
    owner = next((each for each in reversed(owners) if not each.task_id), owners[-1])
    names = sorted({name for name, _ in process.marks if name != TASK_ID})
    space = process.identity.pid_namespace
    if space and here.pid_namespace and space != here.pid_namespace:
        # The same path may be another folder there. A sandbox below an orphan goes with it all the same.
        return Spared("it lives in another pid namespace, where its folder may be another one", owner)
    task_id = owner.task_id or next((value for name, value in process.marks if name == TASK_ID), "")
    return Proof(owner, task_id, f"its environment names it ({', '.join(names)})")


def _by_record(process: Bystander, known: Known, here: Here, now: float) -> Proof | Spared | None:
    spared: Spared | None = None
    for record in known.recorded.get(process.identity.pid, ()):
        owner = known.owners.get(record.folder)
        because = _same(process, record, owner, here) if owner is not None else ""
        if owner is None or not because:
            continue
        if not process.readable:
            spared = Spared("a record names it, but its environment may not be read")
        elif process.run_argument and process.run_argument != owner.run_id:
            spared = Spared("a record names it, but its arguments name another run")
        elif why := _not_over(process, owner, now):
            spared = Spared(why)
        elif _is_late(process, owner):
            spared = Spared(f"it started after {_called(owner)} had ended")
        else:
            return Proof(owner, record.task_id, because)
    return spared


def _same(process: Bystander, record: Recorded, owner: Owner, here: Here) -> str:
    """How it is known that this process is the one that was recorded; "": it is not, or nobody can say."""
    identity = process.identity
    if record.host is not None and record.host != here.host:
        return ""
    if record.pid_namespace and identity.pid_namespace and record.pid_namespace != identity.pid_namespace:
        return ""
    if not (here.sees or names_this_place(record.boot_id, record.pid_namespace, here)):
        return ""
    if record.boot_id is not None and record.start_ticks is not None:
        if (record.boot_id, record.start_ticks) == (identity.boot_id, identity.start_ticks):
            return "its pid, its start and this boot are recorded"
        return ""
    if not record.local or record.recorded_at is None or record.recorded_at <= here.booted_at:
        return ""
    if process.started_at > record.recorded_at + CLOCK_SLACK:
        return ""  # the pid is borne by another one since
    if not record.task_id:
        # A runner may have been started long before its pid was written: only its arguments tell it from others.
        return "its pid is recorded, and its arguments name the run" if process.run_argument == owner.run_id else ""
    if record.not_before is None or process.started_at < record.not_before - CLOCK_SLACK:
        return ""
    return "its pid is recorded, and it started between the start of its task and that record"


def _not_over(process: Bystander, owner: Owner, now: float) -> str:
    """Why nothing follows from belonging to this owner; "": over, for so long that its processes could leave."""
    what = _called(owner)
    if owner.ended_at is None:
        return f"{what} has not ended"
    if now - owner.ended_at < LEAVING:
        return f"{what} ended less than {LEAVING:.0f} s ago"
    if owner.began_at is not None and process.started_at < owner.began_at - START_SLACK:
        return f"it started before {what} was there"
    return ""


def _is_late(process: Bystander, owner: Owner) -> bool:
    return owner.ended_at is not None and process.started_at > owner.ended_at + CLOCK_SLACK


def _called(owner: Owner) -> str:
    return f"{owner.run_id}/{owner.task_id}" if owner.task_id else owner.run_id


def _busy(
    table: Mapping[int, Bystander],
    children: Mapping[int, Sequence[int]],
    verdicts: Mapping[int, Proof | Spared | None],
    known: Known,
) -> set[int]:
    """Name everyone above a process that is spared, and everyone below one that a living run names.

    What an orphan itself started after the end of its run is not meant: that is its doing, and no other's.
    """
    found: set[int] = set()
    for pid, verdict in verdicts.items():
        if isinstance(verdict, Spared) and not _descends(pid, verdict.late_for, table, verdicts):
            above = table[pid].parent
            while above in table and above not in found:
                found.add(above)
                above = table[above].parent
    found.update(_descendants(known.living, children, ()))
    return found


def _descends(
    pid: int, owner: Owner | None, table: Mapping[int, Bystander], verdicts: Mapping[int, Proof | Spared | None]
) -> bool:
    """Whether a process hangs below one that provably belongs to this owner."""
    met = {pid}
    above = table[pid].parent
    while owner is not None and above in table and above not in met:
        verdict = verdicts.get(above)
        if isinstance(verdict, Proof) and verdict.owner == owner:
            return True
        met.add(above)
        above = table[above].parent
    return False


def _below(
    table: Mapping[int, Bystander],
    children: Mapping[int, Sequence[int]],
    proofs: Mapping[int, Proof],
    untaken: Collection[int],
) -> dict[int, Proof]:
    """Who descends from an orphan belongs to it, unless something else is known of it or it cannot be read."""
    found: dict[int, Proof] = {}
    for root, proof in proofs.items():
        for pid in _descendants([root], children, untaken):
            each = table[pid]
            if pid not in proofs and pid not in found and each.readable and not each.run_argument:
                found[pid] = Proof(proof.owner, proof.task_id, f"it hangs below process {root}")
    return found


def _memory(
    pid: int, table: Mapping[int, Bystander], children: Mapping[int, Sequence[int]], untaken: Collection[int]
) -> int:
    return table[pid].rss + sum(table[each].rss for each in _descendants([pid], children, untaken))


def _children(table: Mapping[int, Bystander]) -> dict[int, list[int]]:
    children: dict[int, list[int]] = {}
    for pid, each in table.items():
        children.setdefault(each.parent, []).append(pid)
    return children


def _descendants(
    roots: Iterable[int], children: Mapping[int, Sequence[int]], untaken: Collection[int]
) -> Iterator[int]:
    """Name everyone below these. Nobody is looked for below whoever is not to be taken."""
    queue = list(roots)
    known = set(queue)
    for pid in queue:
        for child in children.get(pid, ()):
            if child not in known and child not in untaken:
                known.add(child)
                queue.append(child)
                yield child
