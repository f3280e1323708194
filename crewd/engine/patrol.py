"""The patrol: look, judge, decide, act, tell, once a round. `Patrol.round` is the list of what the daemon does."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import msgspec
import structlog

from crewd.detection.explain import explain
from crewd.detection.gradient import Restraint, is_flapping
from crewd.detection.identity import Here
from crewd.detection.options import Override, Patience, Thresholds
from crewd.engine.audience import Audience
from crewd.engine.book import Book, Entry, Worker
from crewd.engine.braking import UNKNOWN_CAUSE, Braking
from crewd.engine.bundling import Bundling
from crewd.engine.burning import Burning
from crewd.engine.desk import Desk
from crewd.engine.figures import Figures
from crewd.engine.hints import Refusals
from crewd.engine.incidents import (
    RECOVERY,
    SPENT,
    STANDING,
    STUCK,
    Incidents,
    News,
    has_ended,
    incident_event,
    over_now,
    run_incidents,
    stranger_incident,
    worker_incidents,
)
from crewd.engine.intake import Intake
from crewd.engine.judging import AT_ONCE, Court, due_from, is_due, judge_worker
from crewd.engine.letters import TOO_MANY, Letters
from crewd.engine.lookout import Lookout
from crewd.engine.mass_deaths import MassDeaths, told_apart
from crewd.engine.options import PatrolOptions
from crewd.engine.oversight import Oversight
from crewd.engine.pace import Pace
from crewd.engine.picture import Picture
from crewd.engine.recorder import Commits, Recorder
from crewd.engine.recovering import Recovering
from crewd.engine.shadowing import Shadowing
from crewd.engine.telling import tell_standing, verdict_event
from crewd.engine.verdicts import Verdicts
from crewd.engine.witness import Witness
from crewd.host.clock import Clock
from crewd.ledger.batch import Memory, StandingRow
from crewd.model.incident import ABOUT_ALL, subject_of
from crewd.model.moment import Reading
from crewd.model.process import Identity
from crewd.model.snapshot import Health, ManagedFigures, Snapshot
from crewd.model.verdict import Incident, Level, Outcome, Standing
from crewd.telemetry.listener import Listener

STRANGERS_TOLD = 100  # incidents at once for runs that could never be read
LOOKED_AT_ONCE = 100  # processes
REST_MIN = 0.05  # seconds: a daemon whose rounds take too long still lets others run
log = structlog.get_logger("crewd.patrol")


@dataclass(slots=True, eq=False)
class Patrol:
    """One daemon's rounds. Wired in daemon.py; tests wire the same parts to fakes."""

    clock: Clock
    lookout: Lookout
    witness: Witness
    ledger: Commits
    listeners: Sequence[Listener]
    options: PatrolOptions = field(default_factory=PatrolOptions)
    thresholds: Thresholds = field(default_factory=Thresholds)
    overrides: tuple[Override, ...] = ()
    patience: Patience = field(default_factory=Patience)
    pressure: Callable[[], float] = lambda: 0.0
    oom_kills: Callable[[], int | None] = lambda: None  # processes that the kernel ended for want of memory, so far
    redact: Callable[[str], str] = str
    complain: Callable[[str], None] = lambda complaint: None
    number: int = 0
    book: Book = field(default_factory=Book)
    verdicts: Verdicts = field(default_factory=Verdicts)
    incidents: Incidents = field(default_factory=Incidents)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    beforehand: Callable[[], None] = lambda: None  # called before each look
    managed: Callable[[], ManagedFigures | None] = lambda: None  # how managed runs stand; None: there are none
    oversight: Oversight = field(default_factory=Oversight)
    burning: Burning = field(default_factory=Burning)
    refusals: Refusals = field(default_factory=Refusals)
    started_at: float = 0.0
    overflows: int = 0  # of file notification, since the last round: nothing is lost by them, the round reads all
    bundling: Bundling = field(default_factory=Bundling)
    deaths: MassDeaths = field(default_factory=MassDeaths)
    shadowing: Shadowing = field(default_factory=Shadowing)  # overrides that are only tried
    defects: Counter[str] = field(default_factory=Counter)  # part -> failures of crewd's own that were survived
    stopping: str = ""  # why nothing new is begun: crewd ends, and waits for what runs
    audience: Audience = field(init=False)
    desk: Desk = field(init=False)  # where people say something of incidents
    letters: Letters = field(init=False)
    recovering: Recovering = field(init=False)
    intake: Intake = field(init=False)
    recorder: Recorder = field(init=False)
    pace: Pace = field(init=False)
    braking: Braking = field(init=False)
    picture: Picture = field(init=False)
    _changed: list[tuple[Entry, Worker]] = field(default_factory=list)  # whose level changed this round
    _met: list[tuple[Entry, Worker]] = field(default_factory=list)  # who came to work this round
    _noticed: list[Worker] = field(default_factory=list)  # whose process was seen to be otherwise than before
    _live: int = 0  # workers, as of the latest round
    _confirm_in: float | None = None  # seconds after which a second look must confirm an exit

    def __post_init__(self) -> None:
        self.recorder = Recorder(self.ledger, self.complain, self.options.pending_events_max)
        self.audience = Audience(lambda: self.listeners, self.defects)
        self.letters = Letters(self.book, self.redact)
        self.intake = Intake(self.book, self.letters, self.redact)
        self.recovering = Recovering(
            self.book, self.witness.processes, self.intake.managed, lambda: self.intake.strangers, redact=self.redact
        )
        self.pace = Pace.start(self.options.interval, self.thresholds.warn_after)
        self.braking = Braking(self.patience)
        self.desk = Desk(self.incidents, self.wake.set, lambda: self.clock.read().wall, self.redact)
        self.picture = Picture(self.thresholds)

    def recall(self, memory: Memory) -> None:
        """Take over what a former crewd wrote down, so that nothing is told twice."""
        rows = memory.standings.values()
        self.book.remember(memory.runs, {(row.run_id, row.task_id, row.attempt): row.standing for row in rows})
        self.letters.known.update(memory.letter_keys)
        self.letters.recall(memory.letters_open, memory.managed_letters, memory.own_letters)
        too_many = [each.cause for each in memory.incidents_open if each.cause.startswith(TOO_MANY)]
        self.letters.recall_hour(
            told_apart(memory.letters_at, [*memory.incidents_open, *memory.incidents_closed]),
            [cause.removeprefix(TOO_MANY) for cause in too_many],
            self.pace.running,
            self.clock.read().wall,
        )
        self.recovering.recall(memory.recoveries)
        for verdict in memory.verdicts_open:
            self.verdicts.recall(verdict)
        for incident in memory.incidents_open:
            self.incidents.recall(incident)
            self.deaths.recall(incident)
            self.oversight.recall(incident)
            self.burning.recall(incident)
        for incident in memory.incidents_closed:
            self.incidents.recall(incident)

    async def run(self) -> None:
        """Patrol until cancelled."""
        while True:
            began = self.clock.read().mono
            await self.round()
            await self._rest(began)

    async def round(self) -> Snapshot:
        """One round. Everything that waits is read before anybody is judged."""
        self.wake.clear()  # what comes from now on may be missed by this round, and wakes the next
        now = self.clock.read()
        self.number += 1
        self.started_at = self.started_at or now.wall
        figures = Figures()
        self.recorder.tidings.tell(*self.pace.step(now, self.pressure()))
        if (self.number - 1) % self.options.discover_every == 0:
            await self.lookout.find()
        self.beforehand()
        await self._look(now, figures)
        self._weigh(now)
        await self._see(now, figures)
        self._judge(now, figures)
        self._oversee(now)
        await self._recover(now)
        self._settle(now)
        self._review(now)
        snapshot = self._picture(now)
        await self._tell(now, snapshot, figures)
        return snapshot

    async def _look(self, now: Reading, figures: Figures) -> None:
        """LOOK: read what changed, at every root that answers."""
        self.book.read.clear()
        for source, look in await self.lookout.look(now):
            self.intake.take_in(source, look, self.pace, now, self.recorder.tidings, figures)
        for folder in self.lookout.stuck:
            if folder not in self.picture.snapshot.health.roots_stuck:
                figures.complaints.append(f"{folder}: it does not answer: rounds go on without it, see crewd doctor")
        left = self.book.left
        self.recorder.tidings.gone += left
        self.braking.forget(left)
        self.refusals.forget(left)
        for run_id, task_id in left:
            self.bundling.forget(subject_of(run_id, task_id))
            self.deaths.forget(subject_of(run_id, task_id))
            self._set_incidents(subject_of(run_id, task_id), [], now)
        left.clear()

    def _weigh(self, now: Reading) -> None:
        """LOOK at what the agents of observed runs use, against what they do: of those runs alone that changed."""
        self.burning.begin()
        for run_id in self.intake.touched:
            entry = self.book.entries.get(run_id)
            if entry is None:
                for subject in self.burning.forget(run_id):
                    self._set_incidents(subject, [], now, SPENT)
            elif entry.root not in self.intake.managed:
                for subject, wanted, events in self.burning.follow(entry.run, now.wall):
                    self._set_incidents(subject, wanted, now, SPENT)
                    self.recorder.tidings.tell(*events)

    async def _see(self, now: Reading, figures: Figures) -> None:
        """LOOK, at the kernel: which of the processes that the files name are alive, and do something."""
        for entry, worker in self.book.moved:
            figures.count_beat(entry.run.runtime, worker.beat_interval)
        here = self.witness.here(now)
        kept: set[Identity] = set()
        gone: list[tuple[str, float]] = []
        looked = 0
        self._confirm_in = None
        for entry in self.book.seen.values():
            for worker in entry.workers.values():
                if worker.task.waiting is not None or entry.run.waiting is not None:
                    self.book.stand_still(entry, worker, self.pace.gap.counted)
                    worker.waited += self.pace.gap.counted
                if worker.task.claim is not None:
                    looked += 1
                    if looked % LOOKED_AT_ONCE == 0:
                        await asyncio.sleep(0)  # each look costs some system calls, and others wait for their turn
                    self._see_process(entry, worker, here, now)
                    if worker.process.identity is not None:
                        kept.add(worker.process.identity)
                    if worker.gone_at is not None:
                        gone.append((subject_of(entry.run.run_id, worker.task.task_id), worker.gone_at))
        self.witness.forget_all_but(kept)
        self.deaths.note_oom_kills(self.oom_kills(), now.mono)
        # At least until all who are gone have been looked at twice.
        window = max(self.thresholds.warn_after, 2.0 * (self.options.exit_settle + self.options.interval))
        self.deaths.look(gone, self.patience.brake_minimum, window, now.mono)
        if self.witness.handles_refused:
            figures.complaints.append("no descriptor is left to watch exits with; rounds notice them, a little later")
            self.witness.handles_refused = 0

    def _see_process(self, entry: Entry, worker: Worker, here: Here, now: Reading) -> None:
        before = worker.process
        self.witness.see(worker, here, now)
        observed = self.book.observed.get(entry.root, 0.0)
        if worker.process.identity is not None and worker.silence(observed) >= self._looked_at_after(worker):
            self.witness.sample(worker, observed, self.options.activity_every)
        if worker.process != before:
            worker.noticed = True
            self._noticed.append(worker)
            entry.due_at = AT_ONCE
            self.intake.touched.add(entry.run.run_id)
        if worker.gone_at is not None and now.mono - worker.gone_at < self.options.exit_settle:
            self._confirm_in = self.options.exit_settle

    def _looked_at_after(self, worker: Worker) -> float:
        """Silence in seconds from which it is asked what a worker does: no later than it could be warned of."""
        wanted, usual = worker.task.expectation, self.thresholds.warn_after
        if wanted is None or wanted.warn_after is None:
            return usual
        return min(usual, wanted.warn_after)

    def _judge(self, now: Reading, figures: Figures) -> None:
        """JUDGE everyone whose verdict could differ; DECIDE: observed workers are reported, never touched."""
        court = self._court(now)
        live, clocks = 0, self.book.observed
        for entry in self.book.live.values():
            live += len(entry.workers)
            observed = clocks.get(entry.root, 0.0)
            if observed < entry.due_at:
                continue
            for worker in entry.workers.values():
                if is_due(entry, worker, observed):
                    before, judged = worker.standing, worker.verdict
                    judge_worker(entry, worker, observed, court)
                    if entry.root not in self.intake.managed:
                        self.refusals.note(entry, worker)
                        if worker.standing.level is Level.DEAD:
                            self.letters.died(entry, worker)
                    if worker.verdict != judged:
                        self.intake.touched.add(entry.run.run_id)
                    self.braking.note(entry, worker)
                    self._take_down(entry, worker, before, observed, now)
                    if worker.silence(observed) > self.pace.running:
                        figures.violations.append("I18")  # silence beyond our own running time cannot be observed
            entry.due_at = min(due_from(entry, worker) for worker in entry.workers.values())
        self._shadow(court)
        self._live = live
        dead_window = self.thresholds.dead_after
        brake = self.braking.step(live, self.pace.running, dead_window, self._common_cause(), now.wall)
        self.recorder.tidings.tell(*brake)
        counts = self.pace.regular and not self.pace.hold.on and not self.braking.why
        tells_of = self.deaths.tells_of
        self.letters.bury(self.options.dead_rounds, counts, now, self.pace.running, self.recorder.tidings, tells_of)

    def _shadow(self, court: Court) -> None:
        """Try what is only tried: a defect of it costs what it would have told."""
        try:
            self.shadowing.step(self.book, court, self.recorder.tidings)
        except Exception as error:
            self.defects["shadowing"] += 1
            if not self.shadowing.failed:
                log.exception("shadowing.defect")
            self.shadowing.failed = f"{type(error).__name__}: no override is tried; the log tells where. Report it"
        else:
            self.shadowing.failed = ""

    def _oversee(self, now: Reading) -> None:
        """JUDGE crewd itself: what concerns no single worker, and the engine of managed runs."""
        tidings, per_hour = self.recorder.tidings, self.options.dead_letters_per_hour
        tidings.tell(*self.oversight.look(self.managed(), self.pace.gap.counted, self.options.interval, now.wall))
        self.letters.over_threshold(self.pace.running, per_hour, now, tidings)
        about_all = self.braking.incidents(now.wall) + self.letters.incidents(now.wall, per_hour)
        about_all += self.oversight.incidents(now.wall) + self.burning.incidents(now.wall)
        self.deaths.step(self.patience.brake_minimum, lambda runs: self._common_end(runs, now), now.mono)
        about_all += self.deaths.incidents(now.wall, self.pace.hold.on)
        about_all += [
            stranger_incident(run_id, root, why.value, now.wall)
            for run_id, (root, why, rounds) in list(self.intake.strangers.items())[:STRANGERS_TOLD]
            if rounds >= self.options.unreadable_after
        ]
        self._set_incidents(ABOUT_ALL, about_all, now)
        stuck = self.oversight.unkillable(self._crew_of, now.wall)
        for subject in {*stuck, *self.incidents.subjects(STUCK)}:
            # After a start it takes a while to find again who does not end.
            if subject in stuck or not self.pace.hold.on:
                self._set_incidents(subject, [stuck[subject]] if subject in stuck else [], now, STUCK)
        for subject in self.incidents.subjects(SPENT):
            if not self.pace.hold.on and not self.burning.knows(subject):
                self._set_incidents(subject, [], now, SPENT)  # of a former crewd, and nobody is at work there

    def _review(self, now: Reading) -> None:
        """Look through the open incidents: those of what has ended, what time does to them, and what people said."""
        for subject, causes in over_now(self.incidents, self.book):
            self._set_incidents(subject, [], now, causes)
        self._tell_incidents(self.incidents.pass_time(now.wall, self.options, self.pace.running), now)
        self._tell_incidents(self.desk.serve(now.wall), now)

    async def _recover(self, now: Reading) -> None:
        """DECIDE what to propose for interrupted runs of others; the applier does what a person approves.

        A defect of it costs what it would have proposed, never the round; the health of crewd tells it.
        """
        try:
            await self._plan_recovery(now)
        except Exception as error:
            self.defects["recovery"] += 1
            if not self.recovering.failed:
                log.exception("recovery.defect")
            self.recovering.failed = f"{type(error).__name__}: no run is recovered; the log tells where. Report it"
        else:
            self.recovering.failed = ""

    async def _plan_recovery(self, now: Reading) -> None:
        await self.recovering.look(
            now,
            self.witness.here(now),
            self.intake.touched,
            self.options.exit_settle,
            (self.pace.hold.why, self.braking.why),
            self.pace.gap.counted,
            self.recorder.tidings,
        )
        for run_id, wanted in self.recovering.incidents(now.wall, self.pace.hold.on).items():
            self._set_incidents(subject_of(run_id), wanted, now, RECOVERY)

    def _settle(self, now: Reading) -> None:
        """Label the dead verdicts whose truth has arrived. After this, the round's progress is old news."""
        settled = self.verdicts.settle(self.book, self.pace.gap.counted, self.thresholds.dead_after, now.wall)
        for verdict, why in settled:
            self.recorder.tidings.verdicts.append(verdict)
            self.recorder.tidings.tell(verdict_event(verdict, now.wall, why))
            if verdict.outcome is Outcome.FALSE:
                self._refute(verdict.run_id, verdict.task_id, verdict.attempt, why, now)
        for entry, worker in self.book.moved:
            worker.progressed = False
            if self.letters.own:  # it may move long after its verdict was settled
                run_id, task = entry.run.run_id, worker.task
                self._refute(run_id, task.task_id, task.attempt, "the attempt moved again", now)
        for worker in self._noticed:
            worker.noticed = False
        self.book.moved.clear()
        self._noticed.clear()

    async def _tell(self, now: Reading, snapshot: Snapshot, figures: Figures) -> None:
        """TELL: first make it durable, then let everyone hear it."""
        standings = self.recorder.tidings.standings
        standings += [_row(entry, worker) for entry, worker in self._met]
        standings += [_row(entry, worker, snapshot) for entry, worker in self._changed]
        self._met.clear()
        self._changed.clear()
        for complaint in figures.complaints:
            self.complain(complaint)
        events = await self.recorder.commit(now.wall)
        self.desk.answer(self.recorder.failed)
        if not self.recorder.failed:
            self.recovering.hand_over(now.wall)
        ended, stuck = self.clock.read(), len(self.lookout.stuck)
        report = figures.report(self.number, now, ended, self.pace, stuck, self.overflows)
        self.overflows = 0
        self.audience.hear_round(events, report, snapshot)

    async def _rest(self, began: float) -> None:
        """Wait for the next round: its time, a wake-up, or a second look at a process that seems gone."""
        planned = self.options.interval if self._confirm_in is None else min(self._confirm_in, self.options.interval)
        left = began + planned - self.clock.read().mono
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(REST_MIN, left)):
                await self.wake.wait()

    def _court(self, now: Reading) -> Court:
        return Court(
            default=self.thresholds,
            overrides=self.overrides,
            patience=self.patience,
            options=self.options,
            restraint=Restraint(hold=self.pace.hold.why, brake=self.braking.why),
            health=self.pace.health,
            now=now,
            regular=self.pace.regular,
            read=frozenset(self.book.read),
            disk_full=self.lookout.disk_full,
        )

    def _take_down(self, entry: Entry, worker: Worker, before: Standing, observed: float, now: Reading) -> None:
        """Note what a judgement changed: the picture, the events, the open incidents."""
        if worker.standing is not before:
            self.intake.touched.add(entry.run.run_id)
        flapped = is_flapping(before, observed)
        is_news = tell_standing(entry, worker, flapped, observed, self.verdicts, self.recorder.tidings, now)
        if is_news:
            self._changed.append((entry, worker))
        elif not worker.recorded and worker.told is worker.standing.level:
            # So that the ledger knows of everybody at work, also of those of whom there is nothing else to tell.
            self._met.append((entry, worker))
        worker.recorded = True
        if worker.told is worker.standing.level:
            subject = subject_of(entry.run.run_id, worker.task.task_id)
            wanted = worker_incidents(entry, worker, now.wall, self.options)
            self._set_incidents(subject, self._sifted(subject, wanted, entry, worker, is_news, now), now)

    def _sifted(
        self, subject: str, wanted: list[Incident], entry: Entry, worker: Worker, is_news: bool, now: Reading
    ) -> list[Incident]:
        """Those of a worker's incidents that are its own, and not part of a mass."""
        known = self.incidents.open.get(subject, {})
        wanted = self.deaths.sift(wanted, entry, worker, known, now.mono, is_news)
        many = self._live > self.patience.brake_minimum
        return self.bundling.sift(
            subject,
            wanted,
            known,
            self.pace.running,
            self.thresholds.warn_after if many else 0.0,
            self.braking.tells_of(entry.run.run_id, worker.task.task_id),
        )

    def _refute(self, run_id: str, task_id: str, attempt: int, why: str, now: Reading) -> None:
        self.letters.refute((run_id, task_id, attempt), why, now, self.recorder.tidings)

    def _crew_of(self, run_id: str) -> str:
        run = self.book.known(run_id)
        return run.crew if run is not None else ""

    def _set_incidents(
        self, subject: str, wanted: list[Incident], now: Reading, of: frozenset[str] = STANDING
    ) -> None:
        if wanted and of is not STUCK and has_ended(subject, self.book):
            wanted = []
        self._tell_incidents(self.incidents.set(subject, wanted, now.wall, of, self.options), now)

    def _tell_incidents(self, news: list[News], now: Reading) -> None:
        for each in news:
            self.recorder.tidings.incidents.append(each.incident)
            self.recorder.tidings.tell(incident_event(each, now.wall))

    def _common_cause(self) -> str:
        """The best guess at why many fall silent at once."""
        if self.lookout.disk_full:
            return "the disk is full"
        if self.lookout.stuck:
            return "a root does not answer"
        if self.braking.mostly_stopped():
            return "their processes are stopped: SIGSTOP, a debugger or a frozen control group"
        if self.pace.health > 1.5:
            return "this machine is overloaded"
        return UNKNOWN_CAUSE

    def _common_end(self, runs: Collection[str], now: Reading) -> str:
        """The best guess at why workers of these runs died together; "" for none."""
        here = self.witness.here(now)
        found = [entry.run.runner for entry in map(self.book.entries.get, runs) if entry is not None]
        runners = [claim for claim in found if claim is not None and self.witness.is_gone(claim, here)]
        if runners and len(runners) == len(runs):
            pids = ", ".join(sorted({str(claim.pid) for claim in runners})[:3])
            return f"their runner ended, pid {pids}" if len(runners) == 1 else f"their runners ended, pids {pids}"
        cause = self._common_cause()
        return "" if cause == UNKNOWN_CAUSE else cause

    def _picture(self, now: Reading) -> Snapshot:
        touched = self.intake.touched
        for run_id in touched:
            if entry := self.book.entries.get(run_id):
                self._set_incidents(subject_of(run_id), run_incidents(entry, now.wall, self.options), now)
        hold = self.pace.hold
        health = Health(
            started_at=self.started_at,
            round_number=self.number,
            round_at=now.wall,
            round_interval=self.options.interval,
            hold=hold.why,
            hold_seconds_left=hold.seconds_left,
            brake=self.braking.why,
            local_health=self.pace.health,
            roots_stuck=self.lookout.stuck,
            degraded=self._degraded(),
            defects=dict(self.defects),
            parts={"patrol": True, "ledger": not self.recorder.failed} | self.oversight.parts(),
        )
        snapshot = self.picture.take(
            self.book,
            self.intake.strangers,
            touched,
            now.wall,
            health,
            self.letters.totals(),
            self.verdicts.counts(),
            self.oversight.figures,
            self.refusals.told(),
            self.incidents.all_open(),
            self.recovering.counts(),
        )
        touched.clear()
        return snapshot

    def _degraded(self) -> dict[str, str]:
        own = {
            "ledger": self.recorder.failed,
            "recovery": self.recovering.trouble,
            "shadowing": self.shadowing.failed,
            "listeners": self.audience.failed,
            "stopping": self.stopping,
        }
        return {part: why for part, why in own.items() if why} | self.oversight.degraded()


def _row(entry: Entry, worker: Worker, explained: Snapshot | None = None) -> StandingRow:
    """A worker's standing for the ledger; with the evidence behind it where something was concluded."""
    run, task = entry.run, worker.task
    view = explained.runs.get(run.run_id) if explained is not None else None
    explanation = None
    if explained is not None and view is not None:
        explanation = msgspec.to_builtins(explain(view, worker.view(), explained))
    return StandingRow(run.run_id, task.task_id, task.attempt, run.runtime, run.crew, worker.standing, explanation)
