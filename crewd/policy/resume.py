"""The ladder of a retry: go on with the session of the attempt before, begin afresh, or neither.

To go on costs least, and is right only where the session still fits what it speaks of. To begin afresh is right only
where a task may be carried out twice. See docs/agents.md.
"""

import re
from collections.abc import Sequence

from crewd.model.action import Fresh, Neither, Resume, Rung
from crewd.model.agent import Profile
from crewd.model.failure import ErrorClass, Exit
from crewd.model.managed import AttemptRecord
from crewd.model.plan import TaskPlan

SESSION_UNKNOWN = "session_unknown"  # code of an attempt whose session was refused
NEVER_RAN = "never_ran"  # code of an attempt whose command was never begun
# An agent names its session itself, and the name becomes a word of a command and a part of a path.
SESSION_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
CUT_NAMED_MAX = 5
TREE_UNKNOWN = "too large to compare, or cannot be read"


def rung(
    plan: TaskPlan,
    profile: Profile,
    attempts: Sequence[AttemptRecord],
    *,
    tree_now: str | None,
    session_exists: bool,
) -> Rung:
    """Decide how the next attempt of a task begins.

    `attempts`: those of the present budget that are over, oldest first; what crewd itself interrupted is among them,
    and its session goes on like any other. `tree_now`: digest of the working tree, None where it cannot be had.
    `session_exists`: whether the file of the session that `session_of` names is there.
    """
    ran = [each for each in attempts if not _never_ran(each)]
    if not ran:
        return Fresh("no attempt has begun before" if attempts else "it is the first attempt")
    chain = _chain(ran)
    session = _session(chain)
    why_not = _why_not_resume(plan, profile, chain, session)
    if not why_not and not session_exists:
        why_not = f"the file of session {session} is not there any more"
    if not why_not and plan.resume.tree != "any":
        why_not = _why_another_tree(ran[-1], tree_now)
    if not why_not:
        return Resume(session, _why_resume(plan, ran[-1], session), _tokens(chain, session))
    if not plan.idempotent and (why_not_fresh := _why_not_fresh(ran)):
        return Neither(
            f"The task may not be carried out twice (idempotent = false): it cannot go on, for {why_not}; "
            f"and it cannot begin afresh, for {why_not_fresh}. Look at what was done, then redrive the task."
        )
    return Fresh(f"it begins afresh, for {why_not}")


def after(plan: TaskPlan, profile: Profile, attempts: Sequence[AttemptRecord]) -> Neither | None:
    """Say at once after a failure that no attempt may follow, where that is certain whatever the disk shows.

    None: `rung` will tell when the next attempt is to begin.
    """
    ran = [each for each in attempts if not _never_ran(each)]
    at_best = _text(ran[-1], "tree") if ran else ""
    match rung(plan, profile, attempts, tree_now=at_best or None, session_exists=True):
        case Neither() as neither:
            return neither
        case _:
            return None


def session_of(attempts: Sequence[AttemptRecord]) -> str:
    """Name the session that the next attempt would go on with, if it may; "": there is none."""
    return _session(_chain([each for each in attempts if not _never_ran(each)]))


def _why_not_resume(plan: TaskPlan, profile: Profile, chain: list[AttemptRecord], session: str) -> str:
    """What is certain of the attempts alone; "": nothing speaks against it."""
    latest = chain[-1]
    number = latest.attempt
    if plan.resume.mode == "never":
        return 'resume.mode is "never"'
    if not profile.resume:
        return f"the profile {profile.name} cannot resume a session"
    if plan.prompt is None:
        # Given again to the session, the whole task would be done a second time within it.
        return "its prompt is a part of its command, and would be given once more"
    if not session:
        return f"attempt {number} told no session that can be named"
    if latest.error_class is ErrorClass.CONTEXT_EXHAUSTED:
        return f"attempt {number} filled the context window of its session"
    if _text(latest, "code") == SESSION_UNKNOWN:
        return f"attempt {number} was told that there is no session {session}"
    resumed = sum(1 for each in chain if _is_resumed(each) and not each.interrupted)
    if resumed >= plan.resume.attempts_max:
        times = f"{resumed} {'attempt' if resumed == 1 else 'attempts'} in a row"
        return (
            f"{times} went on with session {session} in vain, and resume.attempts_max is {plan.resume.attempts_max}"
        )
    if not plan.idempotent and profile.repeats_cut_calls:
        return _why_cut(profile, chain)
    return ""


def _why_cut(profile: Profile, chain: list[AttemptRecord]) -> str:
    for each in chain:
        cut = each.details.get("cut")
        if not isinstance(cut, list | tuple):
            return f"nobody knows whether attempt {each.attempt} was cut in the middle of a tool call"
        if cut:
            names = ", ".join(str(name) for name in cut[:CUT_NAMED_MAX])
            return f"attempt {each.attempt} was cut in the middle of {names}, which {profile.name} may do once more"
    return ""


def _why_not_fresh(ran: list[AttemptRecord]) -> str:
    for each in ran:
        tools = each.details.get("tools")
        if not isinstance(tools, int):
            return f"nobody knows what attempt {each.attempt} did"
        if tools:
            return f"attempt {each.attempt} had begun {tools} tool {'call' if tools == 1 else 'calls'}"
    return ""


def _why_another_tree(latest: AttemptRecord, tree_now: str | None) -> str:
    """Why the working tree is not, or may not be, as the attempt before left it."""
    before = _text(latest, "tree")
    if not before:
        return f"the working tree after attempt {latest.attempt} is not known: it is {TREE_UNKNOWN}"
    if tree_now is None:
        return f"the working tree is {TREE_UNKNOWN}"
    return "" if before == tree_now else f"the working tree changed since attempt {latest.attempt}"


def _why_resume(plan: TaskPlan, latest: AttemptRecord, session: str) -> str:
    tree = (
        "and the working tree may be as it likes"
        if plan.resume.tree == "any"
        else f"and the working tree is as attempt {latest.attempt} left it"
    )
    stopped = (
        f"crewd interrupted attempt {latest.attempt}" if latest.interrupted else f"attempt {latest.attempt} failed"
    )
    return f"it goes on with session {session}: {stopped}, {tree}"


def _chain(ran: list[AttemptRecord]) -> list[AttemptRecord]:
    """The latest attempt and those whose session it went on with: back to one that began afresh."""
    first = len(ran) - 1
    while first > 0 and _is_resumed(ran[first]):
        first -= 1
    return ran[max(0, first) :]


def _session(chain: list[AttemptRecord]) -> str:
    """The newest session that was told. Who was ended before it could tell had the one it was given."""
    told = next((name for each in reversed(chain) if (name := _text(each, "session"))), "")
    return told if SESSION_NAME.fullmatch(told) else ""


def _tokens(chain: list[AttemptRecord], session: str) -> int:
    used = 0
    for each in chain:
        tokens = each.details.get("tokens")
        # What was used in a session that another one took the place of is lost.
        if isinstance(tokens, int) and (_text(each, "session") or session) == session:
            used += max(0, tokens)
    return used


def _is_resumed(record: AttemptRecord) -> bool:
    return _text(record, "rung") == "resume"


def _never_ran(record: AttemptRecord) -> bool:
    """Whether it is certain that nothing of the command was carried out."""
    if _text(record, "code") == NEVER_RAN:
        return True
    nothing_left = not record.folder and record.exit == Exit() and not record.output_bytes
    return nothing_left and not record.details.keys() & {"session", "tools", "rung"}


def _text(record: AttemptRecord, key: str) -> str:
    value = record.details.get(key)
    return value if isinstance(value, str) else ""
