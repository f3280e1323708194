"""Workers that do what they must not: the right class, a responsive loop, nothing left, whatever they do."""

from collections.abc import Iterator

import pytest

from tests.engine.managed.behaviours import ALONE, BESIDE
from tests.engine.managed.trial import BUSY_MAX, BUSY_MAX_BESIDE, LAG_MAX, Case, Trial, play
from tests.fakes.workers import subreaper

pytestmark = [pytest.mark.real_time, pytest.mark.slow, pytest.mark.xdist_group("hostile workers")]

GROWTH_MAX = 32 << 20  # bytes


@pytest.fixture(scope="module")
def beside(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    """All of them at once; of those chosen by name, these."""
    cases = [item.callspec.params.get("case") for item in request.session.items if hasattr(item, "callspec")]
    # Others may call their parameters so too, and those need not be hashable.
    chosen = {case.what for case in cases if isinstance(case, Case)}
    with subreaper():
        yield play([case for case in BESIDE if case.what in chosen] or BESIDE, tmp_path_factory.mktemp("beside"))


def names(cases: list[Case]) -> list[str]:
    return [case.what for case in cases]


@pytest.mark.parametrize("case", BESIDE, ids=names(BESIDE))
def test_it_ends_as_it_must(case: Case, beside: Trial) -> None:
    hold(case, beside)


def hold(case: Case, trial: Trial) -> None:
    """Whatever is promised of every worker, and of this one."""
    assert case.what in trial.seen, f"it never ended: {trial.unsettled}"
    seen = trial.seen[case.what]
    assert (seen.state, seen.classes) == (case.state_due, tuple(map(str, case.classes))), seen.task
    if case.code is not None:
        assert seen.last.details.get("code", "") == case.code
    assert seen.left == []
    for also in case.also:
        also(seen)


def test_beside_each_other_they_cost_the_loop_nothing(beside: Trial) -> None:
    hold_together(beside, BUSY_MAX_BESIDE)


def hold_together(trial: Trial, busy_max: float = BUSY_MAX) -> None:
    print(f"{len(trial.seen)} workers in {trial.seconds:.1f} s; {trial.pulse}; grown by {trial.grown >> 20} MiB")
    assert trial.unsettled == []
    assert trial.defects == []
    assert trial.violated == []
    assert trial.strangers == []
    assert trial.descriptors == []
    assert trial.pulse.busy < busy_max, trial.pulse
    assert trial.pulse.lag < LAG_MAX, trial.pulse


@pytest.mark.parametrize("case", ALONE, ids=names(ALONE))
def test_alone_it_ends_as_it_must(case: Case, tmp_path_factory: pytest.TempPathFactory) -> None:
    with subreaper():
        trial = play([case], tmp_path_factory.mktemp("alone"))
    hold(case, trial)
    hold_together(trial)
    assert trial.grown <= GROWTH_MAX
