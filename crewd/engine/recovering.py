"""Recovering: finds interrupted runs of others, plans what may be done, and watches what came of it.

A part of the patrol's round. It runs no command: what a person approved is handed to the applier (applying.py), which
is a task of its own.
"""

import asyncio
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from crewd.detection.identity import Here, recognise
from crewd.engine.book import Book, Entry
from crewd.engine.recovery_forgetting import forgettable
from crewd.engine.recovery_options import RecoveryOptions, RecoveryRule
from crewd.engine.recovery_telling import plan_event, plan_incidents, taken
from crewd.engine.tidings import Tidings
from crewd.host.processes import Processes
from crewd.ledger.errors import LedgerDamaged
from crewd.model.moment import Reading
from crewd.model.process import HIDDEN, Identity, ProcessSeen, ProcessState
from crewd.model.recovery import (
    PLAN_ENDED,
    RESUME,
    Interruption,
    LogSeen,
    PlanState,
    RecoveryPlan,
)
from crewd.model.run import RUN_ENDED, RunStatus
from crewd.model.verdict import Incident, Level
from crewd.policy.recovery import (
    Moves,
    RunSeen,
    Step,
    Unsure,
    interrupted,
    mark_of,
    offers_of,
    plan_id_of,
)

CLOCK_SLACK = 1.0  # seconds that the due time of a plan may lie beyond its delay
NO_LOG = LogSeen(None, why="this runtime writes no event log")
FORGET_EVERY = 100  # looks
LogReader = Callable[[str], LogSeen]  # folder of a run -> what the end of its event log says


@dataclass(slots=True, eq=False)
class _Runner:
    """What is remembered of the process that runs a run."""

    pid: int
    remembered: Identity | None = None
    gone_at: float | None = None  # monotonic time at which it was first seen to be gone
    seen: ProcessSeen = HIDDEN


@dataclass(slots=True, eq=False)
class Recovering:
    """Plans, by id; and who runs the runs that are watched."""

    book: Book
    processes: Processes
    managed: set[str]  # roots whose runs crewd itself runs
    strangers: Callable[[], Container[str]]  # runs that could never be read
    options: RecoveryOptions = field(default_factory=RecoveryOptions)
    logs: Mapping[str, LogReader] = field(default_factory=dict)  # by runtime
    redact: Callable[[str], str] = str
    was_planned: Callable[[str], bool] = lambda plan_id: (
        False
    )  # whether the ledger has a plan of this id; in a thread
    plans: dict[str, RecoveryPlan] = field(default_factory=dict)
    busy: set[str] = field(default_factory=set)  # plans whose command is being run: the applier's
    damaged: dict[str, str] = field(default_factory=dict)  # plan that cannot be read in the ledger -> why
    failed: str = ""  # what of the latest look could not be done, which is a defect
    woken: asyncio.Event = field(default_factory=asyncio.Event)  # something may be applied
    _ready: dict[str, None] = field(default_factory=dict)  # approved, and interrupted as of the latest round
    _open: dict[str, str] = field(default_factory=dict)  # run id -> its plan that has not ended
    _running: set[str] = field(default_factory=set)  # observed runs that say they are running
    _runners: dict[str, _Runner] = field(default_factory=dict)
    _unmoved: dict[str, str] = field(default_factory=dict)  # run id -> mark at which all was said of it
    _marks: dict[str, str] = field(default_factory=dict)  # open plan -> how its run stands now
    _waited: dict[str, float] = field(default_factory=dict)  # applied plan -> observed seconds since its command
    _failed: set[str] = field(default_factory=set)  # failed plans of which a person should know
    _looks: int = 0
    _changed: set[str] = field(default_factory=set)  # runs whose incidents may be others now

    def recall(self, plans: Iterable[RecoveryPlan]) -> None:
        """Take over the plans of a former crewd. What was applied is watched, and never applied again."""
        for plan in plans:
            self._keep(plan)
            self._changed.add(plan.run_id)

    def reload(self, options: RecoveryOptions) -> None:
        """Take over other options; what was passed over under the former ones is looked at again."""
        self.options = options
        self._unmoved.clear()

    def open_plan(self, run_id: str) -> RecoveryPlan | None:
        plan_id = self._open.get(run_id)
        return None if plan_id is None else self.plans[plan_id]

    def counts(self) -> dict[str, int]:
        """State -> plans that have not ended, and those that failed while that matters."""
        counts = {state.value: 0 for state in PlanState if state not in PLAN_ENDED or state is PlanState.FAILED}
        for plan_id in (*self._open.values(), *self._failed):
            counts[self.plans[plan_id].state.value] += 1
        return counts

    async def look(
        self, now: Reading, here: Here, touched: Iterable[str], settle: float, restraint: tuple[str, str],
        counted: float, tidings: Tidings,
    ) -> None:  # fmt: skip
        """Follow one round. `settle`: seconds between two looks that agree that a process is gone; `restraint`: why
        nobody may get worse just now (hold, brake); `counted`: observed seconds since the round before."""
        self._ready.clear()
        for run_id in touched:
            self._meet(run_id)
        found: dict[str, Interruption] = {}
        for run_id in {*self._running, *self._open}:
            plan = self.open_plan(run_id)
            if plan is not None and plan.plan_id in self.busy:
                continue
            verdict = self._judge(run_id, plan, now, here, settle, restraint)
            match verdict:
                case Interruption():
                    if plan is None or plan.state is PlanState.APPROVED:
                        found[run_id] = verdict
                case Moves() if plan is not None and plan.state is not PlanState.APPLIED:
                    step = Step.RUN_ENDED if verdict.ended else Step.MOVED
                    self._take(plan, step, now.wall, tidings, note=verdict.because)
        logs = await self._read_logs(found)
        self._plan(found, logs, await self._settled_before(found, logs), now, tidings)
        self._watch(counted, now, tidings)
        if self._looks % FORGET_EVERY == 0:
            self._forget(now.wall)
        self._looks += 1

    def incidents(self, wall: float, hold: bool) -> dict[str, list[Incident]]:
        """Which incidents the runs call for whose plans changed, by run id."""
        wanted: dict[str, list[Incident]] = {}
        for plan_id in list(self._failed):
            plan = self.plans[plan_id]
            entry = self.book.entries.get(plan.run_id)
            if entry is None and (hold or plan.root not in self.book.read):
                continue  # not met again yet
            if entry is None or self._goes_on(plan, entry):
                self._failed.discard(plan_id)
                self._changed.add(plan.run_id)
        failed = {self.plans[plan_id].run_id: self.plans[plan_id] for plan_id in self._failed}
        for run_id in self._changed:
            known = self.open_plan(run_id) or failed.get(run_id)
            wanted[run_id] = [] if known is None else plan_incidents(known, self.options, wall)
        self._changed.clear()
        return wanted

    @property
    def trouble(self) -> str:
        """What of recovery does not work just now; "": all of it does."""
        if self.failed or not self.damaged:
            return self.failed
        return f"no plan is made in place of {', '.join(sorted(self.damaged))}: {next(iter(self.damaged.values()))}"

    def hand_over(self, wall: float) -> None:
        """Hand what may be applied now to the applier. Called once the round is durable."""
        if any(self._is_due(plan_id, wall) for plan_id in self._ready):
            self.woken.set()

    def take_ready(self, wall: float, most: int) -> list[str]:
        """Give the applier the ids of plans whose run is interrupted as of the latest round, each once.

        `most`: how many it can begin at once. What waits is looked at again by each round, as its run may go on.
        """
        taken = [plan_id for plan_id in self._ready if self._is_due(plan_id, wall)][:most]
        for plan_id in taken:
            del self._ready[plan_id]
            self.busy.add(plan_id)
        return taken

    def mark_now(self, plan: RecoveryPlan) -> str:
        """How the run of an open plan stands as of the latest round."""
        return self._marks.get(plan.plan_id, plan.mark)

    def keep(self, plan: RecoveryPlan) -> None:
        """Take in a plan that others changed, once that is durable."""
        self._keep(plan)
        self._changed.add(plan.run_id)

    def _is_due(self, plan_id: str, wall: float) -> bool:
        plan = self.plans[plan_id]
        if plan.state is not PlanState.APPROVED or plan.plan_id in self.busy:
            return False
        left = (plan.due_at or 0.0) - wall
        return left <= 0 or left > (plan.delay or 0.0) + CLOCK_SLACK  # else a clock set back would put it off as far

    def _keep(self, plan: RecoveryPlan) -> None:
        self.plans.pop(plan.plan_id, None)
        self.plans[plan.plan_id] = plan
        if plan.state not in PLAN_ENDED:
            self._open[plan.run_id] = plan.plan_id
            self._failed.discard(plan.plan_id)
        else:
            if self._open.get(plan.run_id) == plan.plan_id:
                del self._open[plan.run_id]
            self._marks.pop(plan.plan_id, None)
            if plan.state is PlanState.FAILED:
                self._failed.add(plan.plan_id)
        if plan.state is not PlanState.APPLIED:
            self._waited.pop(plan.plan_id, None)

    def _meet(self, run_id: str) -> None:
        entry = self.book.entries.get(run_id)
        if entry is not None and entry.root not in self.managed and entry.run.status is RunStatus.RUNNING:
            self._running.add(run_id)
            return
        self._running.discard(run_id)
        if run_id not in self._open:
            self._runners.pop(run_id, None)
            self._unmoved.pop(run_id, None)

    def _judge(
        self, run_id: str, plan: RecoveryPlan | None, now: Reading, here: Here, settle: float, why: tuple[str, str]
    ) -> Interruption | Moves | Unsure:
        entry = self.book.entries.get(run_id)
        if entry is None:
            return Unsure("it is not in sight")
        known = self._runners.get(run_id)
        if plan is None:
            mark = self._unmoved.get(run_id)
            if mark is not None and mark == mark_of(entry.run, None):
                return Unsure("all has been said of it")
            alive = any(worker.standing.level is not Level.DEAD for worker in entry.workers.values())
            if alive and known is not None and entry.run.runner is not None and known.pid == entry.run.runner.pid:
                return Unsure("somebody is at work")  # the common case, without a system call
        runner = self._see_runner(entry, here, now)
        workers = [
            (task_id, worker.standing.level, worker.process.state) for task_id, worker in entry.workers.items()
        ]
        confirmed = runner.gone_at is not None and now.mono - runner.gone_at >= settle
        return interrupted(RunSeen(entry.run, runner.seen, confirmed, workers, self._is_read(entry)), *why)

    def _see_runner(self, entry: Entry, here: Here, now: Reading) -> _Runner:
        """Look at the process that runs a run, and remember who it is from the first sight on."""
        claim = entry.run.runner
        if claim is None:
            return _Runner(0)
        runner = self._runners.get(entry.run.run_id)
        if runner is None or runner.pid != claim.pid:
            runner = self._runners[entry.run.run_id] = _Runner(claim.pid)
        facts = self.processes.facts(claim.pid, claim.marks if runner.remembered is None else ())
        runner.seen = recognise(claim, facts, runner.remembered, here)
        if runner.seen.state is ProcessState.EXITED:
            runner.gone_at = now.mono if runner.gone_at is None else runner.gone_at
        else:
            if runner.gone_at is not None:
                runner.remembered = None  # it is back: then it was never seen rightly
            runner.gone_at = None
            runner.remembered = runner.seen.identity or runner.remembered
        return runner

    def _is_read(self, entry: Entry) -> bool:
        unread = entry.unread is not None or any(each.unread is not None for each in entry.workers.values())
        return not unread and entry.root in self.book.read

    async def _read_logs(self, found: Mapping[str, Interruption]) -> dict[str, LogSeen]:
        """Read the ends of the event logs that matter now, in a thread: of new interruptions, and of runs for which
        something is done."""
        wanted: dict[str, tuple[LogReader, str]] = {}
        doing = {run_id for run_id, plan in self._open.items() if self.plans[plan].state is not PlanState.PLANNED}
        for run_id in {*found, *doing}:
            entry = self.book.entries.get(run_id)
            if entry is not None and (reader := self.logs.get(entry.run.runtime)) is not None:
                wanted[run_id] = reader, entry.run.folder
        if not wanted:
            return {}
        return await asyncio.to_thread(lambda: {run_id: read(folder) for run_id, (read, folder) in wanted.items()})

    async def _settled_before(self, found: Mapping[str, Interruption], logs: Mapping[str, LogSeen]) -> set[str]:
        """Name those plans that would be made now and are in the ledger already: settled, and let go of since."""
        entries = {run_id: self.book.entries[run_id] for run_id in found if run_id not in self._open}
        ids = {plan_id_of(entry.run, logs.get(run_id, NO_LOG).seq) for run_id, entry in entries.items()}
        unknown = ids - self.plans.keys()
        self.damaged = {}
        if not unknown:
            return set()
        return await asyncio.to_thread(lambda: {plan_id for plan_id in unknown if self._was_planned(plan_id)})

    def _was_planned(self, plan_id: str) -> bool:
        """Ask the ledger. A plan that is there and not what was written costs itself: none is made in its place."""
        try:
            return self.was_planned(plan_id)
        except LedgerDamaged as error:
            self.damaged[plan_id] = str(error)
            return True

    def _forget(self, wall: float) -> None:
        """Let go of settled plans, in bounds. Whether one was made is then known to the ledger."""
        for plan_id in forgettable(self.plans, self._failed | self.busy, self.book.entries, wall):
            del self.plans[plan_id]

    def _plan(
        self,
        found: Mapping[str, Interruption],
        logs: Mapping[str, LogSeen],
        settled: Container[str],
        now: Reading,
        tidings: Tidings,
    ) -> None:
        for run_id, plan_id in list(self._open.items()):
            entry, plan = self.book.entries.get(run_id), self.plans[plan_id]
            has_log = plan.runtime in self.logs
            if entry is not None and (run_id in logs or not has_log) and self._is_read(entry):
                seq = logs.get(run_id, NO_LOG).seq
                self._marks[plan_id] = mark_of(entry.run, seq if seq is not None else plan.event_seq)
        for run_id, interruption in found.items():
            open_plan = self.open_plan(run_id)
            if open_plan is not None:
                self._ready[open_plan.plan_id] = None
                continue
            entry = self.book.entries[run_id]
            rule = self.options.rule(entry.run.runtime, entry.root)
            self._unmoved[run_id] = mark_of(entry.run, None)
            if rule.mode == "off":
                continue
            log = logs.get(run_id, NO_LOG)
            plan_id = plan_id_of(entry.run, log.seq)
            if plan_id in self.damaged:
                del self._unmoved[run_id]  # asked again with each look, until it is mended or matters no more
            if log.ended or plan_id in self.plans or plan_id in settled:
                continue  # its end is on disk, or a plan for this interruption has been settled
            self._propose(entry, interruption, log, rule, now, tidings)

    def _propose(
        self, entry: Entry, found: Interruption, log: LogSeen, rule: RecoveryRule, now: Reading, tidings: Tidings
    ) -> None:
        run = entry.run
        plan = RecoveryPlan(
            plan_id=plan_id_of(run, log.seq),
            run_id=run.run_id,
            runtime=run.runtime,
            root=entry.root,
            crew=run.crew,
            folder=run.folder,
            cause=found.cause,
            because=self.redact(found.because),
            state=PlanState.PLANNED,
            resumable=found.resumable,
            preserved=found.preserved,
            event_seq=log.seq,
            offers=offers_of(log),
            mark=mark_of(run, log.seq),
            created_at=now.wall,
            note=f"only a cancel is offered: {log.why}" if log.seq is None else "",
        )
        self._tell(plan, now.wall, tidings)
        if rule.mode == "auto" and RESUME in plan.offers and rule.command:
            words = {"action": RESUME, "decided_at": now.wall, "decided_by": "auto", "reason": "recovery.mode = auto"}
            self._take(plan, Step.APPROVE, now.wall, tidings, **words)

    def _watch(self, counted: float, now: Reading, tidings: Tidings) -> None:
        """Say of every open plan whether its run is gone; of every applied one whether its run moved."""
        for run_id, plan_id in list(self._open.items()):
            plan, entry = self.plans[plan_id], self.book.entries.get(run_id)
            if plan_id in self.busy or plan.root not in self.book.read:
                continue
            if entry is None:
                if run_id not in self.strangers():
                    self._take(plan, Step.VANISHED, now.wall, tidings, note="the run is gone from disk")
                continue
            if plan.state is not PlanState.APPLIED or not self._is_read(entry):
                continue
            waited = self._waited[plan_id] = self._waited.get(plan_id, 0.0) + counted
            if entry.run.status in RUN_ENDED:
                self._take(plan, Step.RUN_ENDED, now.wall, tidings, note=f"the run is {entry.run.status_text}")
            elif self._has_moved(plan):
                self._take(plan, Step.MOVED, now.wall, tidings, note="the run moved")
            elif waited >= self.options.deadline:
                words = f"the run did not move within {self.options.deadline:g} s"
                self._take(plan, Step.DEADLINE, now.wall, tidings, note=words, error=plan.error or words)

    def _has_moved(self, plan: RecoveryPlan) -> bool:
        return self.mark_now(plan) != plan.mark

    def _goes_on(self, plan: RecoveryPlan, entry: Entry) -> bool:
        """Whether a failed plan matters no more: its run ended, waits, or is run by another process."""
        runner = self._runners.get(plan.run_id)
        alive = runner is not None and runner.seen.state is ProcessState.ALIVE
        return entry.run.status is not RunStatus.RUNNING or alive

    def _take(self, plan: RecoveryPlan, step: Step, wall: float, tidings: Tidings, **words: Any) -> None:
        changed = taken(plan, step, wall, **words)
        if changed is not None:
            self._tell(changed, wall, tidings)

    def _tell(self, plan: RecoveryPlan, wall: float, tidings: Tidings) -> None:
        self.keep(plan)
        tidings.recoveries[plan.plan_id] = plan
        tidings.tell(plan_event(plan, wall))
