"""The ladder: whether the next attempt of an agent goes on with its session, begins afresh, or is not made at all.

The rungs are chosen by `policy.resume`, which is pure; what it needs to know of the disk is looked up here.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from crewd.engine.managed import sessions
from crewd.engine.managed.attempt import Attempt
from crewd.engine.managed.places import Opening, cannot
from crewd.host import tree
from crewd.host.tails import size
from crewd.model.action import Fresh, Neither, Resume
from crewd.model.agent import Profile
from crewd.model.failure import ErrorClass
from crewd.model.managed import AttemptRecord, ManagedTask
from crewd.model.plan import TaskPlan
from crewd.model.run import Usage
from crewd.policy import resume
from crewd.policy.command_line import can_resume
from crewd.policy.profiles import PROFILES


def profile_of(plan: TaskPlan) -> Profile | None:
    """The profile of a task whose words mean something; None: any command, judged by its exit."""
    profile = PROFILES.get(plan.profile)
    return profile if profile is not None and profile.program else None


@dataclass(frozen=True, slots=True)
class Ladder:
    """Looks at working trees and sessions. `own`: crewd's own folders, whose changes are nobody's work."""

    own: tuple[str, ...]

    async def climb(self, attempt: Attempt, task: ManagedTask, environ: Mapping[str, str]) -> Opening:
        """Choose how an attempt begins. Raises CannotStart where it must not begin at all."""
        plan, profile = attempt.plan, profile_of(attempt.plan) or PROFILES["plain"]
        before = [each for each in task.attempts if each.attempt > task.budget_from]
        if not before:
            return Opening(reason="it is the first attempt")
        session = resume.session_of(before)
        now = await asyncio.to_thread(self._tree, plan) if session else None
        file = await asyncio.to_thread(sessions.find, profile, environ, session) if session else ""
        match resume.rung(plan, _resumable(profile, plan), before, tree_now=now, session_exists=bool(file)):
            case Resume() as rung:
                base, cost = _base(before, rung.session)
                return Opening("resume", rung.session, rung.reason, rung.saved_tokens, base, cost, file, size(file))
            case Fresh() as rung:
                return Opening(reason=rung.reason)
            case Neither() as rung:
                guidance = "Look at what it did, then redrive it; idempotent = true lets it be carried out twice."
                raise cannot(ErrorClass.TASK_ERROR, rung.reason, guidance, "not_idempotent")

    def refuses(self, attempt: Attempt, attempts: Sequence[AttemptRecord]) -> Neither | None:
        """Whether it is certain already that no attempt may follow."""
        profile = profile_of(attempt.plan) or PROFILES["plain"]
        return resume.after(attempt.plan, _resumable(profile, attempt.plan), attempts)

    async def left_behind(self, attempt: Attempt) -> dict[str, Any]:
        """How the working tree looks now that nothing of the attempt is left, for the record."""
        profile = profile_of(attempt.plan)
        if profile is None or not profile.resume or attempt.plan.resume.mode == "never":
            return {}
        found = await asyncio.to_thread(self._tree, attempt.plan)
        return {} if found is None else {"tree": found}

    def _tree(self, plan: TaskPlan) -> str | None:
        return tree.digest(plan.cwd, skipped=self.own)


def _resumable(profile: Profile, plan: TaskPlan) -> Profile:
    """The profile as it holds for this task: one whose command holds the prompt would be asked the same again."""
    return profile if can_resume(profile, plan.prompt) else msgspec.structs.replace(profile, resume=())


def _base(attempts: Sequence[AttemptRecord], session: str) -> tuple[Usage | None, float | None]:
    """What the session had used before, as its program counts it: it goes on from what it told at its latest end.

    A program that was killed told nothing, and its successor begins at nothing (docs/agents.md).
    """
    latest = next((each for each in reversed(attempts) if each.details.get("session") == session), None)
    if latest is None:
        return None, None
    thread, cost = latest.details.get("thread"), latest.details.get("thread_cost")
    return msgspec.convert(thread, Usage) if thread is not None else None, float(cost) if cost is not None else None
