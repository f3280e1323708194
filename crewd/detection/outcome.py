"""Verdict outcomes: whether a `dead` verdict was true. crewd publishes how often it was not."""

import msgspec

from crewd.model.verdict import Outcome, Reason


class Truth(msgspec.Struct, frozen=True):
    """What became known of the judged attempt since the verdict."""

    progressed: bool = False  # a late beat or progress of the same attempt
    ended_well: bool = False  # a clean result of the same attempt
    ended_badly: bool = False  # the runtime gave it up itself
    exit_proven: bool = False
    replaced: bool = False  # another attempt runs
    seconds_open: float = 0.0  # observed seconds since the verdict


def outcome_of(reason: Reason, truth: Truth, dead_after: float) -> tuple[Outcome, str]:
    """Label a verdict, with the reason in words. It stays open while nothing is known."""
    if truth.ended_well:
        return Outcome.FALSE, "the attempt brought a clean result"
    if truth.progressed:
        return Outcome.FALSE, "the attempt moved again"
    if truth.exit_proven and reason is not Reason.EXITED:
        return Outcome.TRUE, "its process is proven gone"
    if truth.ended_badly:
        return Outcome.TRUE, "its runtime gave it up"
    if truth.replaced:
        return Outcome.TRUE, "another attempt took its place"
    if truth.seconds_open >= 2 * dead_after:
        return Outcome.TRUE, "no life for twice the dead window"
    return Outcome.OPEN, ""
