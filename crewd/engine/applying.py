"""The applier: runs the operator's command for approved recovery plans, outside of every round."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import structlog

from crewd.engine.recorder import Commits
from crewd.engine.recovering import Recovering
from crewd.engine.recovery_telling import plan_event, taken
from crewd.engine.tidings import Tidings
from crewd.errors import NothingMatched, Refused, UsageProblem
from crewd.host.clock import Clock
from crewd.host.operator_command import Ended, run_command
from crewd.ledger.batch import Batch
from crewd.ledger.errors import BatchRefused, LedgerFailed
from crewd.model.action import RetryAt
from crewd.model.event import Event
from crewd.model.plan import RetryPolicy
from crewd.model.recovery import RESUME, RecoveryPlan
from crewd.policy.recovery import Cell, Step, after, failure_of, fill, project_of
from crewd.policy.retry import after_failure

AT_ONCE = 4  # commands; of one run at most one
BASE, CAP = 5.0, 300.0  # seconds between two attempts of a command
RunCommand = Callable[[Sequence[str], Mapping[str, str], str, float], Awaitable[Ended]]
log = structlog.get_logger("crewd.recovery")


class Plans(Protocol):
    """The history of plans, as the ledger keeps it."""

    def recoveries(self, state: str = "", limit: int = 1000) -> Sequence[RecoveryPlan]: ...


@dataclass(eq=False)
class Applier:
    """Applies what was approved, and takes the words of people on it."""

    recovering: Recovering
    ledger: Commits
    clock: Clock
    tell: Callable[[Sequence[Event]], None]  # lets everybody hear what is durable
    pending: Callable[[], Tidings]  # what the patrol has not made durable yet
    environ: Mapping[str, str]  # of commands: only what they may have
    roll: Callable[[], float]
    redact: Callable[[str], str] = str
    wake: Callable[[], None] = lambda: None  # has the patrol look soon
    run_command: RunCommand = run_command
    _applying: int = 0  # plans

    async def run(self) -> None:
        """Apply until cancelled. A command under way is ended then; the next crewd looks what came of it."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self.recovering.woken.wait()
                self.recovering.woken.clear()
                for plan_id in self.recovering.take_ready(self.clock.read().wall, AT_ONCE - self._applying):
                    self._applying += 1
                    group.create_task(self._apply(plan_id), name=f"recovery {plan_id}")

    def plans(self, *, state: str, limit: int) -> Sequence[RecoveryPlan]:
        chosen = [plan for plan in self.recovering.plans.values() if state in ("", plan.state.value)]
        return sorted(chosen, key=lambda plan: plan.created_at, reverse=True)[:limit]

    def plan(self, plan_id: str) -> RecoveryPlan | None:
        return self.recovering.plans.get(plan_id)

    def command(self, plan: RecoveryPlan, action: str) -> tuple[str, ...]:
        """Fill the command of an action with what the plan says; (): none is configured."""
        values = {
            "run": plan.run_id,
            "folder": plan.folder,
            "project": project_of(plan.folder, plan.root),
            "task": ",".join(plan.resumable),
        }
        return fill(self.recovering.options.rule(plan.runtime, plan.root).command_of(action), values)

    async def approve(self, plan_id: str, *, action: str, by: str, reason: str, actor: str) -> RecoveryPlan:
        """Have a plan applied. All that can fail does so before anything is changed."""
        plan = self._find(plan_id)
        _must_allow(plan, Step.APPROVE)
        action = action or plan.offers[0]
        if action not in plan.offers:
            raise UsageProblem(f"plan {plan_id} does not offer to {action}: {plan.note or ', '.join(plan.offers)}")
        if not self.command(plan, action):
            name = "command" if action == RESUME else "cancel_command"
            raise Refused(f"recovery.{name} is not set: configure it, reload with SIGHUP, and approve again")
        words = {"action": action, "attempts": 0, "error": "", "output": "", "delay": None, "due_at": None}
        words |= {"first_applied_at": None, "applied_at": None, "note": ""}
        return await self._decide(plan, Step.APPROVE, by, reason, actor, words)

    async def decline(self, plan_id: str, *, by: str, reason: str, actor: str) -> RecoveryPlan:
        """Settle a plan; nothing is done for this interruption of its run."""
        return await self._decide(self._find(plan_id), Step.DECLINE, by, reason, actor, {})

    async def _decide(
        self, plan: RecoveryPlan, step: Step, by: str, reason: str, actor: str, words: Mapping[str, Any]
    ) -> RecoveryPlan:
        if not by.strip():
            raise UsageProblem("by: name who decides")
        if plan.plan_id in self.recovering.busy:
            raise Refused(f"plan {plan.plan_id} is being applied")
        other = self.recovering.open_plan(plan.run_id)
        if other is not None and other.plan_id != plan.plan_id:
            raise Refused(f"plan {plan.plan_id} is {plan.state.value}; {other.plan_id} is about the same run now")
        wall = self.clock.read().wall
        told = {"decided_at": wall, "decided_by": by, "reason": self.redact(reason), **words}
        _must_allow(plan, step)
        changed = taken(plan, step, wall, **told)
        assert changed is not None, "it is allowed"
        self.recovering.busy.add(plan.plan_id)  # nobody else changes it meanwhile
        try:
            await self._commit(changed, plan_event(changed, wall, actor))
        finally:
            self.recovering.busy.discard(plan.plan_id)
        self.wake()
        return changed

    async def _apply(self, plan_id: str) -> None:
        try:
            await self._apply_one(self.recovering.plans[plan_id])
        except (LedgerFailed, BatchRefused) as error:
            # Not begun: a later round hands it over again. Begun: its run is watched until the deadline.
            log.error("recovery.not_recorded", plan=plan_id, error=str(error))  # noqa: TRY400 - it says it all
        except Exception:
            log.exception("recovery.defect", plan=plan_id)  # it costs this plan its command, and crewd nothing
        finally:
            self._applying -= 1
            self.recovering.busy.discard(plan_id)
            self.wake()

    async def _apply_one(self, plan: RecoveryPlan) -> None:
        begun_at = self.clock.read().wall
        applied = taken(
            plan,
            Step.APPLY,
            begun_at,
            applied_at=begun_at,
            first_applied_at=plan.first_applied_at or begun_at,
            attempts=plan.attempts + 1,
            mark=self.recovering.mark_now(plan),
            due_at=None,
            note="its command runs",
            error="",
        )
        if applied is None:
            return  # somebody declined it just now
        # Durable before anything is run: whatever happens to crewd, it is never run a second time.
        await self._commit(applied, plan_event(applied, begun_at))
        log.info("recovery.applied", plan=plan.plan_id, run=plan.run_id, action=plan.action)
        ended = await self._run(applied)
        at = self.clock.read().wall
        changed, events = self._outcome(applied, ended, at)
        await self._commit(changed, *events)

    async def _run(self, plan: RecoveryPlan) -> Ended:
        command = self.command(plan, plan.action)
        if not command:
            return Ended(spawn_error=f"no command is configured to {plan.action}")
        project = project_of(plan.folder, plan.root)
        return await self.run_command(command, self.environ, project, self.recovering.options.command_timeout)

    def _outcome(self, plan: RecoveryPlan, ended: Ended, at: float) -> tuple[RecoveryPlan, tuple[Event, ...]]:
        output = self.redact(ended.output)
        step, error = _how(ended, self.recovering.options.command_timeout)
        if step is None:
            note = "its command has run; the run has not moved yet"
            return msgspec.structs.replace(plan, output=output, note=note), ()
        failure = failure_of(step, self.redact(error), ended.passing)
        error = f"{failure.error_class.value}: {failure.message}"
        options = self.recovering.options
        policy = RetryPolicy(max_attempts=options.max_attempts, base=BASE, cap=CAP)
        decision = after_failure(
            policy,
            failure,
            counted=plan.attempts,
            of_class=plan.attempts,
            previous_delay=plan.delay,
            first_started_at=plan.first_applied_at or at,
            now=at,
            roll=self.roll(),
        )
        words: dict[str, Any] = {"output": output, "error": error}
        if isinstance(decision, RetryAt):
            words |= {"due_at": decision.due_at, "delay": decision.delay, "note": decision.reason}
            changed = taken(plan, Step.RETRY, at, **words)
        else:
            changed = taken(plan, step, at, **words, note=getattr(decision, "because", error))
        assert changed is not None, "TABLE lets an applied plan fail"
        return changed, (plan_event(changed, at),)

    async def _commit(self, plan: RecoveryPlan, *events: Event) -> None:
        """Make a change durable, and only then true. Raises LedgerFailed, BatchRefused."""
        told = await self.ledger.commit(Batch(events=events, recoveries=(plan,)))
        # The patrol may still hold an older word on it, which must not come after this one.
        pending = self.pending().recoveries
        if plan.plan_id in pending:
            pending[plan.plan_id] = plan
        self.recovering.keep(plan)
        self.tell(told)

    def _find(self, plan_id: str) -> RecoveryPlan:
        plan = self.plan(plan_id)
        if plan is None:
            raise NothingMatched(f"no recovery plan {plan_id!r}; `crewd recover list` names them")
        return plan


def _must_allow(plan: RecoveryPlan, step: Step) -> None:
    """Raise Refused where the plan is in no state for this step."""
    if after(plan.state, step) is Cell.REFUSED:
        raise Refused(f"plan {plan.plan_id} is {plan.state.value}: it cannot be {step.value}d")


def _how(ended: Ended, seconds: float) -> tuple[Step | None, str]:
    """What went wrong with a command; None: nothing."""
    if ended.spawn_error:
        return Step.SPAWN_FAILED, f"cannot be started: {ended.spawn_error}"
    if ended.timed_out:
        return Step.TIMED_OUT, f"it was not done after {seconds:g} s, and was ended"
    if ended.code:
        # What it said may be anything: that stays in `output`, which not everybody is told.
        how = f"signal {-ended.code} ended it" if ended.code < 0 else f"it exited with {ended.code}"
        return Step.EXITED_NONZERO, how
    return None, ""
