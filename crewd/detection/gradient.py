"""The gradient: how a standing follows the verdicts. Worse slowly and one level at a time, better at once."""

import msgspec

from crewd.detection.options import Patience
from crewd.model.verdict import LEVEL_AT, RANK, Level, Reason, Standing, Verdict


class Restraint(msgspec.Struct, frozen=True):
    """What forbids a standing to get worse this round. Getting better is always allowed."""

    hold: str = ""  # nobody may get worse
    brake: str = ""  # nobody may become dead by silence


FREE = Restraint()
ROWS_OF_SILENCE = (6, 8, 9)  # of the evidence table: nothing but silence decides between them
ROW_INSIDE, ROW_STILL = 7, 11
BY_TIME = (Reason.PRESUMED, Reason.HUNG)
SILENT_REASONS = (Reason.SILENT, Reason.BUSY, Reason.PRESUMED, Reason.HUNG)


def follow(
    standing: Standing,
    verdict: Verdict,
    restraint: Restraint,
    patience: Patience,
    observed: float,
    wall: float,
    progressed: bool,
    regular: bool = True,
) -> Standing:
    """Let a standing follow one round's verdict.

    `observed` is the root's observed clock, on which flapping is measured; `wall` is for display. `regular` is
    False for a round that was woken early: it may make things better, it never counts towards worse.
    """
    if verdict.level not in RANK or standing.level not in RANK:
        return _outside(standing, verdict, restraint, patience, observed, wall, progressed)
    now, then = RANK[verdict.level], RANK[standing.level]
    if now < then:
        if _only_by_stretching(standing, verdict, progressed):
            return msgspec.structs.replace(standing, worse_rounds=0, held_by="hysteresis")
        return _changed(standing, verdict.level, verdict, patience, observed, wall)
    if now == then:
        return _same(standing, verdict)
    if held := _held_by(standing, verdict, restraint):
        return msgspec.structs.replace(standing, worse_rounds=0, held_by=held)
    if verdict.reason is Reason.EXITED:
        # The kernel's word needs no second opinion.
        return _changed(standing, Level.DEAD, verdict, patience, observed, wall)
    rounds = standing.worse_rounds + (1 if regular else 0)
    if rounds < patience.worse_rounds:
        return msgspec.structs.replace(standing, worse_rounds=rounds, held_by="hysteresis")
    return _changed(standing, LEVEL_AT[then + 1], verdict, patience, observed, wall)


def is_flapping(standing: Standing, observed: float) -> bool:
    """Whether the worker changes its level so often that its thresholds are doubled."""
    return standing.flapping_until is not None and observed < standing.flapping_until


def _held_by(standing: Standing, verdict: Verdict, restraint: Restraint) -> str:
    if restraint.hold:
        return f"hold: {restraint.hold}"
    # The brake holds the step into dead, no other.
    if restraint.brake and standing.level is Level.STALE and verdict.reason is not Reason.EXITED:
        return f"brake: {restraint.brake}"
    return ""


def _only_by_stretching(standing: Standing, verdict: Verdict, progressed: bool) -> bool:
    """Longer thresholds make no one well: silence that was too long stays so until the worker moves."""
    if progressed:
        return False
    if standing.reason is Reason.STOPPED:
        return verdict.reason is Reason.STOPPED
    if standing.reason is Reason.HUNG and verdict.row == ROW_STILL:
        return True
    if standing.reason is Reason.BUSY and verdict.row == ROW_INSIDE:
        return True
    return standing.reason in SILENT_REASONS and verdict.row in ROWS_OF_SILENCE


def _outside(
    standing: Standing,
    verdict: Verdict,
    restraint: Restraint,
    patience: Patience,
    observed: float,
    wall: float,
    progressed: bool,
) -> Standing:
    """Into or out of `waiting` and `unreadable`, which are facts, not degrees."""
    if verdict.level is standing.level:
        return _same(standing, verdict)
    if verdict.level not in RANK:
        if verdict.level is Level.UNREADABLE and restraint.hold:
            return msgspec.structs.replace(standing, held_by=f"hold: {restraint.hold}")
        before = standing.level if standing.level in RANK else standing.level_before
        entered = _changed(standing, verdict.level, verdict, patience, observed, wall)
        return msgspec.structs.replace(entered, level_before=before)
    if verdict.reason is Reason.EXITED and not restraint.hold:
        return _changed(standing, Level.DEAD, verdict, patience, observed, wall)
    # Coming back: to where it was, or better; worse only from there on, with the usual patience. New life is new.
    where = RANK[Level.HEALTHY if progressed else standing.level_before]
    return _changed(standing, LEVEL_AT[min(where, RANK[verdict.level])], verdict, patience, observed, wall)


def _same(standing: Standing, verdict: Verdict) -> Standing:
    same = (standing.reason, standing.because) == (verdict.reason, verdict.because)
    if same and not standing.worse_rounds and not standing.held_by:
        return standing
    return msgspec.structs.replace(
        standing, reason=verdict.reason, because=verdict.because, worse_rounds=0, held_by=""
    )


def _changed(
    standing: Standing, level: Level, verdict: Verdict, patience: Patience, observed: float, wall: float
) -> Standing:
    changes = tuple(at for at in standing.changes if at > observed - patience.flapping_window)
    if level in RANK and standing.level in RANK:  # waits and unreadable files come and go without anyone flapping
        changes = (*changes, observed)[-patience.flapping_changes :]
    flapping_until = standing.flapping_until
    if len(changes) >= patience.flapping_changes and changes[-1] == observed:
        flapping_until = observed + patience.flapping_window
    return Standing(
        level=level,
        # On the way up it is merely silent: the reason of a verdict belongs to the level of that verdict.
        reason=Reason.SILENT if level is not verdict.level and verdict.reason in BY_TIME else verdict.reason,
        because=verdict.because,
        since=wall,
        changes=changes,
        flapping_until=flapping_until,
        # Kept while it is still silent; the diagnosis is made anew when it changes.
        wedge=standing.wedge if level in (Level.STALE, Level.DEAD) else None,
    )
