"""The mass brake: many who fall silent together have a common cause, and nobody is declared dead for it."""

from hypothesis import given, settings
from hypothesis import strategies as st

from crewd.detection.brake import RELEASED, Brake, Worker, brake_after
from crewd.detection.options import Patience

PATIENCE = Patience()  # more than 3, and more than half
WINDOW = 300.0


def crew(*numbers: int) -> frozenset[Worker]:
    return frozenset(("run-1", f"task-{number}") for number in numbers)


def after(brake: Brake, turned: frozenset[Worker], silent: frozenset[Worker], live: int, now: float) -> Brake:
    return brake_after(brake, turned, silent, live, now, WINDOW, PATIENCE)


def engaged_by(count: int, live: int) -> bool:
    silent = crew(*range(count))
    return after(RELEASED, silent, silent, live, 1000.0).engaged


def test_three_are_too_few_however_small_the_crew() -> None:
    assert not engaged_by(3, live=3)
    assert not engaged_by(1, live=1)
    assert engaged_by(4, live=4)


def test_it_takes_more_than_half_of_the_living() -> None:
    assert not engaged_by(10, live=20)
    assert engaged_by(11, live=20)
    assert not engaged_by(50, live=100)
    assert engaged_by(51, live=100)


def test_those_who_fell_silent_within_one_dead_window_count_together() -> None:
    brake = after(RELEASED, crew(1, 2), crew(1, 2), 4, 1000.0)
    brake = after(brake, crew(3), crew(1, 2, 3), 4, 1200.0)
    assert not brake.engaged
    assert after(brake, crew(4), crew(1, 2, 3, 4), 4, 1299.0).engaged
    assert not after(brake, crew(4), crew(1, 2, 3, 4), 4, 1300.0).engaged


def test_one_who_moved_again_before_the_others_fell_silent_does_not_count() -> None:
    brake = after(RELEASED, crew(1, 2, 3), crew(1, 2, 3), 4, 1000.0)
    assert not after(brake, crew(4), crew(2, 3, 4), 4, 1005.0).engaged


def test_it_remembers_when_and_by_whom_it_was_engaged() -> None:
    brake = after(RELEASED, crew(1, 2, 3, 4), crew(1, 2, 3, 4), 4, 1000.0)
    assert (brake.engaged_at, brake.cohort) == (1000.0, crew(1, 2, 3, 4))
    later = after(brake, crew(5), crew(1, 2, 3, 4, 5), 5, 1005.0)
    assert (later.engaged_at, later.cohort) == (1000.0, crew(1, 2, 3, 4, 5))


def test_it_lets_go_when_half_of_them_move_or_have_ended() -> None:
    brake = after(RELEASED, crew(*range(6)), crew(*range(6)), 6, 1000.0)
    assert after(brake, crew(), crew(0, 1, 2, 3), 6, 1005.0).engaged
    assert not after(brake, crew(), crew(0, 1, 2), 6, 1005.0).engaged


def test_it_stays_engaged_for_ever_while_they_stay_silent() -> None:
    brake = after(RELEASED, crew(*range(6)), crew(*range(6)), 6, 1000.0)
    for round_number in range(1000):
        brake = after(brake, crew(), crew(*range(6)), 6, 1005.0 + 5 * round_number)
        assert brake.engaged


def test_others_who_are_silent_for_long_do_not_keep_it_engaged() -> None:
    old = crew(90, 91, 92)
    brake = after(RELEASED, old, old, 8, 100.0)
    brake = after(brake, crew(*range(5)), old | crew(*range(5)), 8, 1000.0)
    assert brake.cohort == crew(*range(5))
    assert not after(brake, crew(), old | crew(0, 1), 8, 1005.0).engaged


rounds = st.lists(
    st.tuples(
        st.frozensets(st.integers(min_value=0, max_value=11)),  # who is silent
        st.integers(min_value=0, max_value=8),  # others, who are well
        st.floats(min_value=0.1, max_value=200.0),  # seconds until then
    ),
    max_size=40,
)


@settings(deadline=None)
@given(rounds)
def test_it_engages_and_lets_go_exactly_where_it_says(rounds: list[tuple[frozenset[int], int, float]]) -> None:
    brake, silent, now = RELEASED, crew(), 0.0
    turned_at: dict[Worker, float] = {}
    for numbers, others, passed in rounds:
        now += passed
        before, silent_before, silent = brake, silent, crew(*numbers)
        live = 12 + others
        turned = silent - silent_before
        brake = after(before, turned, silent, live, now)
        turned_at = {worker: at for worker, at in turned_at.items() if worker in silent}
        turned_at.update(dict.fromkeys(turned, now))
        lately = {worker for worker, at in turned_at.items() if at > now - WINDOW}
        if before.engaged:
            cohort = before.cohort | turned
            assert brake.engaged == (len(cohort & silent) > len(cohort) / 2)
        else:
            assert brake.engaged == (len(lately) > max(3, live / 2))
        assert brake.engaged == bool(brake.cohort)
