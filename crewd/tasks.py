"""The second ring, wired: managed runs, from the ledger's rows to the people who ask. One straight function."""

import asyncio
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from crewd import assembly
from crewd.config.settings import Settings
from crewd.engine.burning import Budgets
from crewd.engine.hints import hints
from crewd.engine.managed import recovery, retention, views
from crewd.engine.managed.actions import TaskActions
from crewd.engine.managed.board import Board
from crewd.engine.managed.circuits import Circuits
from crewd.engine.managed.conduct import Conductor
from crewd.engine.managed.dead_letters import DeadLetters, Loaded
from crewd.engine.managed.figures import figures
from crewd.engine.managed.hands import SystemHands
from crewd.engine.managed.hung import heed
from crewd.engine.managed.inbox import Inbox
from crewd.engine.managed.options import TaskOptions
from crewd.engine.managed.output import read_output, trim
from crewd.engine.managed.parole import Parole
from crewd.engine.managed.places import SECRET_MAX
from crewd.engine.managed.present import Present
from crewd.engine.managed.purse import Purse
from crewd.engine.managed.register import Register
from crewd.engine.managed.scheduler import Scheduler
from crewd.host import attempt_folder, inbox_folder
from crewd.host.cgroup import Cgroups
from crewd.host.chance import mint_run_id, roll
from crewd.host.clock import Clock
from crewd.host.processes import ProcProcesses
from crewd.host.spawning import keep_descriptors_private
from crewd.host.subreaper import become_subreaper
from crewd.ledger.batch import Memory
from crewd.ledger.ledger import Ledger
from crewd.ledger.reader import Reader
from crewd.ledger.work import LedgerWork
from crewd.model.asking import OutputPiece
from crewd.model.event import Event
from crewd.model.look import DeadLetter
from crewd.model.managed import ManagedTask
from crewd.model.report import RoundReport
from crewd.model.run import RUN_ENDED
from crewd.model.snapshot import ManagedFigures, Snapshot
from crewd.sources.managed.source import ManagedSource, View
from crewd.telemetry.redact import Redactor

TRIM_EVERY = 2.0  # seconds between two looks at how much workers have written
ENDED_RECALLED = 50  # runs
RETENTION_EVERY = 3600.0
log = structlog.get_logger("crewd.tasks")


@dataclass(eq=False)
class Tasks:
    """Managed runs, as the daemon holds them."""

    scheduler: Scheduler
    actions: TaskActions
    hands: SystemHands
    inbox: Inbox | None
    source: ManagedSource
    options: TaskOptions
    history: Reader
    parole: Parole
    purse: Purse
    present: Present
    _shown: dict[str, tuple[int, View]] = field(default_factory=dict)

    async def open(self) -> None:
        """Account for every attempt of a predecessor; only then is anything started."""
        await recovery.account(self.scheduler)
        await self._recall_ended()
        self.hands.inherit()

    def prepare(self, settings: Settings, environ: Mapping[str, str], state: Path) -> Callable[[], None]:
        """Make of settings what can change while attempts run: those under way keep what they were started with.

        What is returned takes it over, and cannot fail.
        """
        options = assembly.task_options(settings, environ, state)
        defaults = assembly.task_defaults(settings)

        def take_over() -> None:
            self.options = self.scheduler.options = self.scheduler.conductor.options = options
            self.scheduler.circuits.options = options.circuits
            self.actions.executors, self.actions.defaults = settings.executors, defaults
            self.actions.letters_open.redrive_rate = options.redrive_rate
            self.parole.mode = options.parole
            self.scheduler.register.wake.set()

        return take_over

    def publish(self) -> None:
        """Show the patrol how the runs stand, before it looks."""
        shown: dict[str, tuple[int, View]] = {}
        for run_id, entry in self.scheduler.board.runs.items():
            known = self._shown.get(run_id)
            if known is None or known[0] != entry.version or known[1].watched:
                try:
                    watched = views.watched(entry, self.scheduler.conductor)
                    run = known[1].run if known is not None and known[0] == entry.version else views.run_view(entry)
                    known = (entry.version, View(run, watched))
                except Exception:
                    # Whatever a worker wrote: it ends nobody's patrol. Its run is shown as it was.
                    self.scheduler.conductor.defects["publish"] += 1
                    log.exception("publish.defect", run_id=run_id)
            if known is not None:
                shown[run_id] = known
        self._shown = shown
        self.source.publish({run_id: view for run_id, (_, view) in shown.items()})

    def figures(self) -> ManagedFigures:
        """How managed runs stand, for the snapshot of this moment."""
        return figures(self.scheduler, self.purse)

    def budgets(self) -> Budgets:
        """What may be used in a day, for the patrol."""
        options = self.scheduler.options
        return Budgets(options.day_budget, options.crew_budget)

    async def _recall_ended(self) -> None:
        """Keep the newest ended runs in view, as before the restart."""
        runs = await asyncio.to_thread(self.history.managed_runs, ENDED_RECALLED, True)
        for run in reversed(runs):
            if run.plan.run_id not in self.scheduler.board.runs:
                tasks = await asyncio.to_thread(self.history.managed_tasks, run.plan.run_id)
                self.scheduler.board.add(run, {task.task_id: task for task in tasks})

    async def trim(self) -> None:
        """Give the older output of those back who write without end."""
        while True:
            try:
                await asyncio.to_thread(trim, list(self.scheduler.conductor.attempts.values()))
                self.hands.tidy()
            except Exception:
                self.scheduler.conductor.defects["trim"] += 1
                log.exception("trim.defect")  # whoever keeps house ends nobody's work
            await asyncio.sleep(TRIM_EVERY)

    async def retain(self, days: int, bytes_max: int) -> None:
        """Take the folders of runs away that ended long ago, or that are too many."""
        while True:
            now = self.scheduler.clock.read().wall
            try:
                await asyncio.to_thread(
                    retention.clean,
                    self.options.folder,
                    _Active(self.scheduler.board),
                    now - days * 86_400,
                    bytes_max,
                )
            except OSError as error:
                log.warning("retention.failed", folder=self.options.folder, error=str(error))
            except Exception:
                self.scheduler.conductor.defects["retention"] += 1
                log.exception("retention.defect", folder=self.options.folder)
            await asyncio.sleep(RETENTION_EVERY)

    def output(
        self, run_id: str, task_id: str, attempt: int, stream: str, offset: int, limit: int
    ) -> OutputPiece | None:
        """Read a piece of what an attempt wrote; attempt 0: the newest."""
        task = self._task(run_id, task_id)
        if task is None:
            return None
        return read_output(self.options.folder, task, attempt or task.attempt, stream, offset, limit)

    def on_events(self, events: Sequence[Event]) -> None:
        """Count what is used, by whomever."""
        self.purse.hear(events)

    def on_round(self, report: RoundReport, snapshot: Snapshot) -> None:
        """Whoever provably hangs is ended, where that was agreed; and what others suffer is a hint for circuits."""
        heed(snapshot, self.scheduler.conductor.attempts)
        self.scheduler.hints = hints(snapshot)

    def _task(self, run_id: str, task_id: str) -> ManagedTask | None:
        entry = self.scheduler.board.runs.get(run_id)
        if entry is not None:
            return entry.tasks.get(task_id)
        return next((task for task in self.history.managed_tasks(run_id) if task.task_id == task_id), None)


class _Active(Container[str]):
    """Runs that have not ended at the moment of the question: one may be brought back while others are looked at."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def __contains__(self, run_id: object) -> bool:
        entry = self._board.runs.get(str(run_id))
        return entry is not None and entry.run.status not in RUN_ENDED


def wire(
    settings: Settings,
    environ: Mapping[str, str],
    state: Path,
    clock: Clock,
    ledger: Ledger,
    history: Reader,
    redactor: Redactor,
    memory: Memory,
    *,
    heard: Callable[[Sequence[Event]], None],
    violated: Callable[[str], None],
    letter_added: Callable[[DeadLetter], None],
    letter_closed: Callable[[DeadLetter], None],
    on_handover: Callable[[], None],
    disk_free: Callable[[], bool],
) -> Tasks:
    """Make every part and give it its neighbours."""
    become_subreaper()
    keep_descriptors_private()
    options = assembly.task_options(settings, environ, state)
    board = Board()
    register = Register(board, ledger, LedgerWork(ledger), heard, violated)
    circuits = Circuits(options.circuits)
    cgroups = Cgroups.detect(owner=str(state)) if settings.tasks.cgroup == "auto" else None
    if cgroups is not None and (complaints := cgroups.enable()):
        # Attempts are held together all the same; what cannot be bounded is told again with each that wants it.
        log.info("cgroup.no_limits", folder=cgroups.folder, complaints=complaints)
    letters = DeadLetters(_loader(history), options.redrive_rate, letter_added, _open_letter(history), letter_closed)
    letters.recall(memory.managed_letters)
    hands = SystemHands(ProcProcesses(clock), cgroups)
    purse = Purse(board, clock, lambda: scheduler.options)
    conductor = Conductor(
        board=board,
        register=register,
        hands=hands,
        clock=clock,
        circuits=circuits,
        options=options,
        environ=environ,
        roll=roll,
        redact=redactor.text,
        learn=redactor.learn,
        paroled=letters.paroled.__contains__,
        settled=letters.add,
        alarms=purse.alarms,
        refuses=purse.refuses,
    )
    scheduler = Scheduler(board, register, conductor, circuits, clock, options, shut=purse.closed)
    purse.recall(history.usage_between)
    recovery.recall(scheduler, memory)
    actions = TaskActions(
        scheduler=scheduler,
        letters_open=letters,
        executors=settings.executors,
        defaults=assembly.task_defaults(settings),
        mint=lambda name: mint_run_id(name, clock.read().wall),
        on_handover=on_handover,
        history=history,
        redact=redactor.text,
    )
    inbox = None
    if settings.tasks.inbox_enabled:
        folder = str(Path(settings.tasks.inbox).expanduser()) if settings.tasks.inbox else f"{state}/inbox"
        inbox_folder.make(folder)
        inbox = Inbox(folder, actions)
    attempt_folder.make_root(options.folder)
    # Those who were given one by a predecessor still write, and what they wrote is still asked for.
    redactor.learn(*attempt_folder.read_secrets(options.secrets_folder, SECRET_MAX))
    parole = Parole(actions, options.parole, options.secrets_folder, disk_free)
    source = ManagedSource(options.folder)
    present = Present(board, source.key)
    return Tasks(scheduler, actions, hands, inbox, source, options, history, parole, purse, present)


def _open_letter(history: Reader) -> Callable[[str], DeadLetter | None]:
    def find(key: str) -> DeadLetter | None:
        letter = history.letter(key)
        return letter if letter is not None and letter.state == "open" else None

    return find


def _loader(history: Reader) -> Callable[[str], Awaitable[Loaded | None]]:
    async def load(run_id: str) -> Loaded | None:
        run = await asyncio.to_thread(history.managed, run_id)
        if run is None:
            return None
        tasks = await asyncio.to_thread(history.managed_tasks, run_id)
        return run, {task.task_id: task for task in tasks}

    return load
