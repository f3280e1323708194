"""How much of a run is done."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.policy.progress import OVER, Progress, progress


@pytest.mark.parametrize(
    ("states", "expected", "ratio"),
    [
        pytest.param(["completed"] * 4 + ["skipped", "waiting"], Progress(4, 5, "f"), 0.8, id="one is left out"),
        pytest.param(["waiting", "completed", "running"], Progress(1, 3, "a"), 1 / 3, id="in the run's own order"),
        pytest.param(["completed", "failed", "dead_lettered"], Progress(3, 3, ""), 1.0, id="over, well or badly"),
        pytest.param(["skipped"], Progress(0, 0, ""), 1.0, id="nothing is expected"),
        pytest.param([], Progress(0, 0, ""), 1.0, id="there is nothing"),
    ],
)
def test_progress(states: list[str], expected: Progress, ratio: float) -> None:
    found = progress(zip("abcdef", states, strict=False))
    assert found == expected
    assert found.ratio == pytest.approx(ratio)


@given(st.lists(st.sampled_from([*sorted(OVER), "waiting", "running", "never heard of"])))
def test_it_is_never_more_than_all_and_all_only_where_nothing_is_next(states: list[str]) -> None:
    found = progress((str(number), state) for number, state in enumerate(states))
    assert 0 <= found.done <= found.expected
    assert (found.ratio == 1.0) == (found.next == "")
