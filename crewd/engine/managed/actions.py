"""Actions: what people may ask of managed runs. Each is durable before it is answered."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from crewd.config.run_file import Executor, TaskDefaults
from crewd.config.run_file import plan as read_plan
from crewd.engine.managed import transitions
from crewd.engine.managed.attempt import Attempt, Over
from crewd.engine.managed.board import Key, RunEntry
from crewd.engine.managed.dead_letters import DeadLetters, laid_out
from crewd.engine.managed.listening import Listening
from crewd.engine.managed.preview import run_preview
from crewd.engine.managed.scheduler import Scheduler
from crewd.engine.managed.views import details
from crewd.errors import NothingMatched, Refused, UsageProblem
from crewd.ledger.batch import Batch
from crewd.ledger.errors import KeyTaken
from crewd.ledger.reader import Reader
from crewd.model.action import GiveUp
from crewd.model.asking import Done, Submitted
from crewd.model.event import Event
from crewd.model.failure import ErrorClass, Failure
from crewd.model.managed import (
    AT_WORK,
    Blocked,
    DeadLettered,
    ManagedRun,
    ManagedTask,
    Pause,
    RetryWait,
    Waiting,
)
from crewd.model.run import RUN_ENDED, RunStatus
from crewd.model.work import Conflict, Item
from crewd.policy.lifecycle import Step, step

SCOPES = ("crew", "executor")
UNDONE_MAX = 100_000  # tasks that have not ended; beyond it, crewd takes no more until some have
NOT_AT_WORK = (Waiting, RetryWait, Blocked)


@dataclass(slots=True, eq=False)
class TaskActions:
    """Answers of the scheduler to people. `mint` makes a run id out of a name."""

    scheduler: Scheduler
    letters_open: DeadLetters
    executors: Mapping[str, Executor]
    defaults: TaskDefaults
    mint: Callable[[str], str]
    on_handover: Callable[[], None]
    history: Reader
    redact: Callable[[str], str] = str

    async def submit(self, data: Any, *, base: str, key: str, actor: str, source: str) -> Submitted:
        """Accept a run. The same key never makes a second one. Raises RunRefused, Refused, LedgerFailed."""
        if self.scheduler.closing:
            raise Refused(f"{self.scheduler.closing}: nothing is accepted any more; submit it to its successor")
        name = data.get("name", "") if isinstance(data, dict) else ""
        # In a thread: a file of ten thousand tasks costs a second, and others want answers meanwhile.
        plan = await asyncio.to_thread(
            read_plan,
            data,
            executors=self.executors,
            defaults=self.defaults,
            base=base,
            run_id=self.mint(name if isinstance(name, str) else ""),
        )
        plan = msgspec.structs.replace(plan, source=source)
        at = self.scheduler.clock.read().wall
        run = ManagedRun(plan, RunStatus.QUEUED, at, key, actor=actor)
        events = [transitions.run_event("run.discovered", run, at, transitions.portrait(plan), actor)]
        tasks = []
        for each in plan.tasks:
            task, told = transitions.queued(run, each, at)
            tasks.append(task)
            events += told
        undone = sum(len(entry.tasks) for entry in self.scheduler.board.active())
        if undone + len(tasks) > UNDONE_MAX:
            raise Refused(f"{undone} tasks have not ended, and {UNDONE_MAX} is the most; submit it again later")
        batch = Batch(events=tuple(events), managed=(run,), tasks=tuple(tasks))
        async with self.scheduler.turns:
            known = await self._submitted(plan.run_id)
            if known is not None:
                # A run is never begun anew under its own name: what is completed would run again.
                if key and known.key != key:
                    raise Refused(
                        f"run {plan.run_id} exists, submitted with another key; give this one another run_id"
                    )
                return Submitted(plan.run_id, True, len(known.plan.tasks))
            try:
                await self.scheduler.register.admit(run, batch)
            except KeyTaken as taken:
                return Submitted(taken.run_id, True, len(tasks))
        return Submitted(plan.run_id, False, len(tasks))

    async def cancel(self, run_id: str, task_id: str, *, reason: str, actor: str) -> Done:
        """Cancel a run or one of its tasks; returns when nothing of it is left."""
        reason = self.redact(reason) or f"cancelled by {actor}"
        async with self.scheduler.turns:
            entry = await self._entry(run_id)
            if task_id and task_id not in entry.tasks:
                raise NothingMatched(f"run {run_id} has no task {task_id}")
            wanted = [task_id] if task_id else list(entry.tasks)
            quiet, busy = self._to_cancel(entry, wanted)
            if not quiet and not busy:
                raise Refused(
                    f"{run_id}{'/' + task_id if task_id else ''} has ended already; nothing is left to cancel"
                )
            if not task_id:
                run = msgspec.structs.replace(entry.run, cancelled=True)
                await self.scheduler.register.commit(Batch(managed=(run,)))
            await self._cancel(entry, quiet, busy, reason, actor)
        names = [*(each.task_id for each in quiet), *(each.key[1] for each in busy)]
        words = (
            f"{len(names)} {'task' if len(names) == 1 else 'tasks'} of {run_id} cancelled; nothing of them is left"
        )
        words += await self._until_cancelled(run_id, busy, reason, actor)
        self.scheduler.register.wake.set()
        return Done(words, tuple(names))

    async def retry(self, run_id: str, task_id: str, *, actor: str) -> Done:
        """Start a waiting retry now; give a dead letter a new budget."""
        async with self.scheduler.turns:
            entry = await self._entry(run_id)
            task = self._task(entry, task_id)
            if isinstance(task.state, RetryWait):
                at = self.scheduler.clock.read().wall
                after = step(task, Step.DUE, Waiting(at, f"{actor} asked for it now"))
                told = transitions.event(
                    "task.queued", entry.run, after, at, {"state": "waiting", "reason": "asked for"}
                )
                batch = Batch(events=(msgspec.structs.replace(told, actor=actor),), tasks=(after,))
                await self._offer_again(entry, after, batch)
                return Done(f"{run_id}/{task_id} starts as soon as there is a slot", (task_id,))
        if isinstance(task.state, DeadLettered):
            return await self.redrive([task.state.letter], "", dry_run=False, limit=1, actor=actor)
        raise Refused(f"{run_id}/{task_id} neither waits for a retry nor is a dead letter; see crewd why {run_id}")

    async def bury(self, run_id: str, task_id: str, *, reason: str, actor: str) -> Done:
        """Make a task a dead letter by hand."""
        async with self.scheduler.turns:
            entry = await self._entry(run_id)
            task = self._task(entry, task_id)
            failure = Failure(ErrorClass.CANCELLED, self.redact(reason) or f"given up by {actor}", code="manual")
            if isinstance(task.state, NOT_AT_WORK):
                at = self.scheduler.clock.read().wall
                plan = entry.plans[task_id]
                decision = GiveUp("manual", failure.message)
                after, events, letter = transitions.given_up(
                    entry.run, plan, task, None, decision, failure, {"executor": plan.executor}, at, actor
                )
                await self.scheduler.register.commit(Batch(events=events, tasks=(after,), letters=(letter,)))
                self.letters_open.add(letter)
                await self._withdraw((run_id, task_id))
                return Done(f"{run_id}/{task_id} is a dead letter now", (letter.key,))
        raise Refused(f"{run_id}/{task_id} is at work or has ended; cancel it first")

    async def pause(self, scope: str, *, drain: bool, reason: str, actor: str) -> Done:
        """Close a door: nothing behind it is started."""
        _check_scope(scope)
        at = self.scheduler.clock.read().wall
        pause = Pause(scope, "drain" if drain else "pause", self.redact(reason), at, actor)
        async with self.scheduler.turns:
            data = {"scope": scope, "mode": pause.mode, "reason": pause.reason}
            told = Event("scheduler.paused", at, data, runtime=transitions.RUNTIME, actor=actor)
            await self.scheduler.register.commit(Batch(events=(told,), pauses=(pause,)))
            self.scheduler.pauses[scope] = pause
        return Done(f"{scope} is {'draining' if drain else 'paused'}; crewd resume opens it again", (scope,))

    async def resume(self, scope: str, *, actor: str) -> Done:
        """Open a door again."""
        _check_scope(scope)
        async with self.scheduler.turns:
            if scope not in self.scheduler.pauses:
                raise Refused(f"{scope} is not paused")
            at = self.scheduler.clock.read().wall
            told = Event("scheduler.resumed", at, {"scope": scope}, runtime=transitions.RUNTIME, actor=actor)
            await self.scheduler.register.commit(Batch(events=(told,), resumed=(scope,)))
            del self.scheduler.pauses[scope]
        self.scheduler.register.wake.set()
        return Done(f"{scope} goes on", (scope,))

    async def redrive(self, keys: Sequence[str], fingerprint: str, *, dry_run: bool, limit: int, actor: str) -> Done:
        """Give dead letters a new budget of attempts, one after the other, not too fast."""
        letters = [each for each in self.letters_open.find(keys, fingerprint) if each.runtime == transitions.RUNTIME]
        letters = letters[: limit or len(letters)]
        if not letters:
            raise NothingMatched("no open dead letter of a managed run is named so")
        chosen = tuple(each.key for each in letters)
        if dry_run:
            return Done(f"{len(letters)} would be redriven", chosen, {"dry_run": True})
        if actor.startswith("daemon:"):
            # Tried again because its cause seemed gone: if it fails once more, a person decides.
            self.letters_open.paroled.update((each.run_id, each.task_id) for each in letters)
        for place, letter in enumerate(letters):
            if place:
                await self.letters_open.pace()
            async with self.scheduler.turns:
                await self._redrive(letter.key, actor)
        return Done(f"{len(letters)} redriven", chosen)

    async def discard(self, keys: Sequence[str], fingerprint: str, *, reason: str, dry_run: bool, actor: str) -> Done:
        """Close dead letters that nobody wants any more. Their tasks stay what they are."""
        letters = self.letters_open.find(keys, fingerprint)
        if not letters:
            raise NothingMatched("no open dead letter is named so")
        chosen = tuple(each.key for each in letters)
        if dry_run:
            return Done(f"{len(letters)} would be discarded", chosen, {"dry_run": True})
        at = self.scheduler.clock.read().wall
        settled, events = [], []
        for letter in letters:
            note = self.redact(reason)
            settled.append(
                msgspec.structs.replace(letter, state="discarded", settled_at=at, settled_by=actor, note=note)
            )
            data = {"key": letter.key, "reason": note, "error_class": letter.error_class}
            told = Event(
                "deadletter.discarded", at, data, letter.run_id, letter.task_id, letter.attempts, letter.runtime
            )
            events.append(msgspec.structs.replace(told, crew=letter.crew, actor=actor))
        await self.scheduler.register.commit(Batch(events=tuple(events), letters_settled=tuple(settled)))
        self.letters_open.settle(letters)
        return Done(f"{len(letters)} discarded", chosen)

    async def handover(self, *, actor: str) -> Done:
        """End crewd, and leave its workers to the next one."""
        at = self.scheduler.clock.read().wall
        try:
            await self.scheduler.hand_over()
            workers = len(self.scheduler.conductor.attempts)
            told = Event("daemon.handed_over", at, {"workers": workers}, actor=actor)
            await self.scheduler.register.commit(Batch(events=(told,)))
        except BaseException:
            self.scheduler.closing = ""  # nobody takes over: whoever refuses all work must at least end
            raise
        self.on_handover()
        return Done(f"crewd ends; {workers} workers go on, and the next crewd takes them over")

    def managed(self, run_id: str) -> Mapping[str, Any] | None:
        """Lay out a managed run, also one that ended long ago; None: there is none of that id."""
        entry = self.scheduler.board.runs.get(run_id)
        if entry is None:
            return self._of_old(run_id)
        conductor = self.scheduler.conductor
        held = self.scheduler.held | conductor.short | conductor.stuck
        agents = {
            key: voice.shown()
            for key, voice in conductor.voices.items()
            if key[0] == run_id and isinstance(voice, Listening)
        }
        return details(entry.run, entry.tasks, held, self.scheduler.clock.read().wall, agents)

    def _of_old(self, run_id: str) -> Mapping[str, Any] | None:
        run = self.history.managed(run_id)
        if run is None:
            return None
        tasks = {task.task_id: task for task in self.history.managed_tasks(run_id)}
        return details(run, tasks, {}, self.scheduler.clock.read().wall)

    async def plan(self, run_id: str) -> Mapping[str, Any] | None:
        """Lay out what will run, or ran, also long ago; None: there is no managed run of that id."""
        run = await self._submitted(run_id)
        return await asyncio.to_thread(run_preview, run.plan) if run is not None else None

    def letters(self, *, state: str, crew: str, limit: int) -> Sequence[Mapping[str, Any]]:
        """Dead letters of every runtime, the oldest first; "" as state or crew means any."""
        letters = self.history.letters(state or None)
        return [laid_out(each) for each in letters if not crew or each.crew == crew][:limit]

    def letter(self, key: str) -> Mapping[str, Any] | None:
        """One dead letter, with all its attempts; None: there is none of that key."""
        found = self.history.letter(key)
        return laid_out(found) if found is not None else None

    def circuits(self) -> Sequence[Mapping[str, Any]]:
        """Every circuit of which something is known."""
        return [msgspec.to_builtins(state) for _, state in sorted(self.scheduler.circuits.states.items())]

    def pauses(self) -> Sequence[Mapping[str, Any]]:
        """Every closed door."""
        doors = {pause.scope: pause for pause in self.scheduler.shut()} | self.scheduler.pauses
        return [msgspec.to_builtins(pause) for _, pause in sorted(doors.items())]

    async def _submitted(self, run_id: str) -> ManagedRun | None:
        entry = self.scheduler.board.runs.get(run_id)
        return entry.run if entry is not None else await asyncio.to_thread(self.history.managed, run_id)

    async def _entry(self, run_id: str) -> RunEntry:
        """Find a run on the board, or bring it back from the ledger. Raises NothingMatched."""
        entry = self.scheduler.board.runs.get(run_id)
        if entry is None:
            found = await self.letters_open.load(run_id)
            if found is None:
                raise NothingMatched(f"no managed run is called {run_id}")
            # Somebody else may have brought it back meanwhile.
            entry = self.scheduler.board.runs.get(run_id) or self.scheduler.board.add(*found)
        return entry

    def _task(self, entry: RunEntry, task_id: str) -> ManagedTask:
        if task_id not in entry.tasks:
            raise NothingMatched(f"run {entry.plan.run_id} has no task {task_id}")
        return entry.tasks[task_id]

    def _to_cancel(self, entry: RunEntry, wanted: Sequence[str]) -> tuple[list[ManagedTask], list[Attempt]]:
        """Name those of a run's tasks that have not ended: who waits, and who is at work."""
        quiet = [entry.tasks[each] for each in wanted if isinstance(entry.tasks[each].state, NOT_AT_WORK)]
        attempts = self.scheduler.conductor.attempts
        keys = [(entry.plan.run_id, each) for each in wanted if isinstance(entry.tasks[each].state, AT_WORK)]
        return quiet, [attempts[key] for key in keys if key in attempts]

    async def _cancel(
        self, entry: RunEntry, quiet: Sequence[ManagedTask], busy: Sequence[Attempt], reason: str, actor: str
    ) -> None:
        for attempt in busy:
            attempt.end(Over(reason, cancelled=True, actor=actor))
        await self._cancel_quiet(entry, quiet, reason, actor)

    async def _until_cancelled(self, run_id: str, busy: Sequence[Attempt], reason: str, actor: str) -> str:
        """Wait for the end of those at work; returns who does not end, for a person.

        An attempt that had ended by itself a moment before is settled by how it ended: its task may wait for a retry
        now, or be at work again. Whoever asked for a cancel is answered when it is not.
        """
        told = ""
        while busy:
            for attempt in busy:
                await attempt.settled.wait()
            told += await self._ended(busy)
            async with self.scheduler.turns:
                entry = await self._entry(run_id)
                quiet, busy = self._to_cancel(entry, [attempt.key[1] for attempt in busy])
                await self._cancel(entry, quiet, busy, reason, actor)
        return told

    async def _cancel_quiet(self, entry: RunEntry, tasks: Sequence[ManagedTask], reason: str, actor: str) -> None:
        at = self.scheduler.clock.read().wall
        changed: list[ManagedTask] = []
        events: list[Event] = []
        for task in tasks:
            plan = entry.plans[task.task_id]
            after, told = transitions.cancelled(entry.run, plan, task, None, reason, at, actor)
            changed.append(after)
            events += told
        if changed:
            await self.scheduler.register.commit(Batch(events=tuple(events), tasks=tuple(changed)))
        for task in tasks:
            await self._withdraw((task.run_id, task.task_id))

    async def _ended(self, busy: Sequence[Attempt]) -> str:
        left = [attempt.name for attempt in busy if attempt.key in self.scheduler.conductor.stuck]
        return f"; except {', '.join(left)}" if left else ""

    async def _redrive(self, key: str, actor: str) -> None:
        letter = self.letters_open.open.get(key)
        if letter is None:
            return  # somebody else was faster
        entry = await self._entry(letter.run_id)
        task = self._task(entry, letter.task_id)
        if not isinstance(task.state, DeadLettered):
            raise Refused(f"{letter.run_id}/{letter.task_id} is no dead letter any more")
        at = self.scheduler.clock.read().wall
        after, events = transitions.redriven(entry.run, task, at, actor)
        settled = msgspec.structs.replace(letter, state="redriven", settled_at=at, settled_by=actor)
        told = Event("deadletter.redriven", at, {"key": key}, letter.run_id, letter.task_id, task.attempt)
        told = msgspec.structs.replace(told, runtime=transitions.RUNTIME, crew=letter.crew, actor=actor)
        runs: tuple[ManagedRun, ...] = ()
        more: tuple[Event, ...] = ()
        if entry.run.status in RUN_ENDED:
            run = msgspec.structs.replace(entry.run, status=RunStatus.RUNNING, ended_at=None)
            data = {"from_status": entry.run.status.value, "status": run.status.value, "redriven": key}
            runs, more = (run,), (transitions.run_event("run.resumed", run, at, data, actor),)
        batch = Batch(events=(*more, told, *events), managed=runs, tasks=(after,), letters_settled=(settled,))
        await self._offer_again(entry, after, batch)
        self.letters_open.settle((letter,))

    async def _offer_again(self, entry: RunEntry, task: ManagedTask, batch: Batch) -> None:
        """Bring the item of a task back, with what tells it, in one transaction."""
        plan = entry.plans[task.task_id]
        item = Item(f"{task.run_id}/{task.task_id}", plan.executor, plan.priority)
        try:
            await self.scheduler.register.offer_again(item, batch)
        except Conflict as error:
            raise Refused(f"{item.key} cannot be offered again: {error}") from error

    async def _withdraw(self, key: Key) -> None:
        with contextlib.suppress(Conflict):  # it was never offered, or is buried already
            await self.scheduler.register.work.withdraw("/".join(key))


def _check_scope(scope: str) -> None:
    kind, _, name = scope.partition(":")
    if scope != "daemon" and not (kind in SCOPES and name):
        raise UsageProblem(f"{scope!r} is no scope; give daemon, crew:NAME or executor:NAME")
