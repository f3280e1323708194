"""Whether a `dead` verdict was true: what counts as the truth, and which truth outweighs which."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewd.detection.outcome import Truth, outcome_of
from crewd.model.verdict import Outcome, Reason

DEAD_AFTER = 300.0

truths = st.builds(
    Truth,
    progressed=st.booleans(),
    ended_well=st.booleans(),
    ended_badly=st.booleans(),
    exit_proven=st.booleans(),
    replaced=st.booleans(),
    seconds_open=st.floats(min_value=0.0, max_value=1e5),
)
reasons = st.sampled_from([Reason.EXITED, Reason.HUNG, Reason.PRESUMED])


@pytest.mark.parametrize(
    ("reason", "truth", "outcome"),
    [
        (Reason.PRESUMED, Truth(), Outcome.OPEN),
        (Reason.PRESUMED, Truth(seconds_open=599.9), Outcome.OPEN),
        (Reason.PRESUMED, Truth(seconds_open=600.0), Outcome.TRUE),  # the dead window doubled without life
        (Reason.HUNG, Truth(progressed=True), Outcome.FALSE),
        (Reason.EXITED, Truth(progressed=True), Outcome.FALSE),
        (Reason.PRESUMED, Truth(ended_well=True), Outcome.FALSE),
        (Reason.EXITED, Truth(ended_well=True, exit_proven=True), Outcome.FALSE),
        (Reason.PRESUMED, Truth(ended_badly=True), Outcome.TRUE),
        (Reason.PRESUMED, Truth(exit_proven=True), Outcome.TRUE),
        (Reason.HUNG, Truth(exit_proven=True), Outcome.TRUE),
        (Reason.EXITED, Truth(exit_proven=True), Outcome.OPEN),  # its own evidence is no second witness
        (Reason.HUNG, Truth(replaced=True), Outcome.TRUE),
        (Reason.HUNG, Truth(progressed=True, ended_badly=True, replaced=True, seconds_open=1e4), Outcome.FALSE),
    ],
)
def test_what_the_truth_says_of_a_verdict(reason: Reason, truth: Truth, outcome: Outcome) -> None:
    assert outcome_of(reason, truth, DEAD_AFTER)[0] is outcome


@settings(deadline=None)
@given(reason=reasons, truth=truths)
def test_life_refutes_whatever_else_is_known(reason: Reason, truth: Truth) -> None:
    outcome, why = outcome_of(reason, truth, DEAD_AFTER)
    assert (outcome is Outcome.FALSE) == (truth.progressed or truth.ended_well)
    assert bool(why) == (outcome is not Outcome.OPEN)


@settings(deadline=None)
@given(reason=reasons, truth=truths, longer=st.floats(min_value=0.0, max_value=1e5))
def test_a_settled_verdict_does_not_change_its_mind_by_waiting(reason: Reason, truth: Truth, longer: float) -> None:
    outcome, _ = outcome_of(reason, truth, DEAD_AFTER)
    later = msgspec.structs.replace(truth, seconds_open=truth.seconds_open + longer)
    if outcome is not Outcome.OPEN:
        assert outcome_of(reason, later, DEAD_AFTER)[0] is outcome


@settings(deadline=None)
@given(reason=reasons, truth=truths)
def test_no_verdict_stays_open_for_ever(reason: Reason, truth: Truth) -> None:
    in_the_end = msgspec.structs.replace(truth, seconds_open=2 * DEAD_AFTER)
    assert outcome_of(reason, in_the_end, DEAD_AFTER)[0] is not Outcome.OPEN
