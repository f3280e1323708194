"""Interrupted runs found by a crewd that has just been started, against reading and parsing everything.

The lengths of the event logs: 83 events is what the genuine interrupted run of the corpus had after half a minute of
tool calls (its longest log has 212, of two minutes); 1,000 is what pi-crew keeps of a log once it has cut it short;
5,000 (1.7 MB) is half of what it lets a log grow to before that, and where the log of a run of hours is on average.
"""

import json
import os
import time
from functools import partial
from pathlib import Path

from bench.crews import crew_of
from bench.result import Result, main
from bench.rounds import Watched
from bench.timing import interleaved, milliseconds
from crewd.assembly import EVENT_LOGS
from crewd.detection.hold import NO_HOLD
from crewd.detection.identity import Here, recognise
from crewd.detection.options import Thresholds
from crewd.engine.recovery_options import RecoveryOptions, RecoveryRule
from crewd.host.clock import SystemClock
from crewd.host.processes import ProcProcesses
from crewd.model.process import ProcessClaim, ProcessSeen, ProcessState
from crewd.model.recovery import Interruption
from crewd.model.verdict import Level
from crewd.policy.recovery import RunSeen, interrupted, mark_of, offers_of, plan_id_of
from crewd.sources.pi_crew import PiCrewOptions, PiCrewSource
from crewd.sources.pi_crew.last_event import last_event

RUNS, TASKS = 50, 3
SIZES = {83: 9, 1_000: 7, 5_000: 5}  # events of each log: repeats
SHARE = 5  # the target is one fifth
NOBODY = (1 << 22) - 1  # the highest pid that Linux may give: nobody has it
ROUNDS_MAX = 100
WAYS = {
    "detection": "found",
    "rounds": "whole rounds (levels, incidents, all events counted)",
}


def compare() -> list[Result]:
    """Compare for logs as short as the genuine ones, and for those of long runs."""
    return [result for events, repeats in SIZES.items() for result in _compare(events, repeats)]


def _compare(events: int, repeats: int) -> list[Result]:
    with crew_of(RUNS, TASKS, events, runner=NOBODY) as (project, folders):
        home = folders[0].parent
        found = interleaved(
            repeats,
            time.process_time,
            everything=lambda: read_whole(home),
            detection=partial(_detect, str(project)),
            rounds=partial(_plan_all, str(project)),
        )
    against = f"read and json.loads everything: {milliseconds(found['everything'])} CPU"
    name = f"{RUNS} interrupted runs, {events:,} events each"
    rows = []
    for way, words in WAYS.items():
        ratio = found[way] / found["everything"]
        aimed_at = way == "detection"
        rows.append(
            Result(f"{name}: {words}", f"{milliseconds(found[way])} CPU", against, ratio,
                   f"<= 1/{SHARE}" if aimed_at else "", ratio <= 1 / SHARE if aimed_at else None)
        )  # fmt: skip
    return rows


def read_whole(home: Path) -> int:
    """Read and parse manifest, tasks and the whole event log of every run; count those that look interrupted."""
    interrupted = 0
    for name in os.listdir(home):
        folder = f"{home}/{name}"
        with open(f"{folder}/manifest.json", encoding="utf-8") as file:
            manifest = json.load(file)
        with open(f"{folder}/tasks.json", encoding="utf-8") as file:
            tasks = json.load(file)
        with open(f"{folder}/events.jsonl", encoding="utf-8") as file:
            events = [json.loads(line) for line in file]
        last = max(event["metadata"]["seq"] for event in events)
        ended = any(event["type"] in ("run.completed", "run.failed", "run.cancelled") for event in events)
        pids = [manifest["async"]["pid"], *(task.get("checkpoint", {}).get("childPid") for task in tasks)]
        gone = not any(os.path.exists(f"/proc/{pid}") for pid in pids if pid)
        interrupted += manifest["status"] == "running" and gone and not ended and last > 0
    assert interrupted == RUNS
    return interrupted


def _detect(project: str) -> None:
    """Do what finds an interrupted run: read it, look for its processes, judge, read the end of its log, name it."""
    processes, clock = ProcProcesses(), SystemClock()
    source = PiCrewSource(project, PiCrewOptions(follow_index=False))
    here = Here("bench", processes.boot_id(), processes.namespace(), 0.0)
    plans = set()
    for run in source.look(clock.read()).changed:
        assert run.runner is not None
        workers = [(task, _seen(task.claim, processes, here)) for task in run.tasks if task.claim is not None]
        judged = [
            (task.task_id, Level.DEAD, seen.state) for task, seen in workers if seen.state is ProcessState.EXITED
        ]
        seen = RunSeen(run, _seen(run.runner, processes, here), True, judged, is_read=True)
        log = last_event(run.folder)
        if isinstance(interrupted(seen, "", ""), Interruption) and not log.ended and len(judged) == len(run.tasks):
            plans.add((plan_id_of(run, log.seq), offers_of(log), mark_of(run, log.seq)))
    source.close()
    assert len(plans) == RUNS


def _seen(claim: ProcessClaim, processes: ProcProcesses, here: Here) -> ProcessSeen:
    return recognise(claim, processes.facts(claim.pid, claim.marks), None, here)


def _plan_all(project: str) -> None:
    """Start from nothing, and go round until every run has its plan, without the hold of a start."""
    watched = Watched(project)
    patrol = watched.patrol
    patrol.thresholds = Thresholds()
    patrol.pace.hold = NO_HOLD
    patrol.recovering.options = RecoveryOptions((RecoveryRule(),))
    patrol.recovering.logs = EVENT_LOGS
    plans = patrol.recovering.plans
    for _ in range(ROUNDS_MAX):
        watched.round()
        if len(plans) == RUNS:
            break
    watched.close()
    assert len(plans) == RUNS and all(plan.event_seq for plan in plans.values())


if __name__ == "__main__":
    main(compare, __doc__)
