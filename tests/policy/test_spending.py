"""What agents have used: by day, by crew, and how fast."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.model.run import Usage
from crewd.policy.spending import (
    CREWS_MAX,
    DAYS_MAX,
    OTHER,
    RECENT,
    STEPS,
    Spending,
    Spent,
    day_of,
    spent,
    tokens_of,
)

DAY = 86_400.0
NOON = 1_795_262_400.0  # 2026-11-21T12:00:00Z
MIDNIGHT = NOON + DAY / 2  # that ends this day


def used(tokens: int, cost_usd: float | None = None) -> Usage:
    return Usage(output=tokens, cost_usd=cost_usd)


def book(*entries: tuple[str, int, float | None, float]) -> Spending:
    spending = Spending()
    for crew, tokens, cost, at in entries:
        spending.add(crew, used(tokens, cost), at)
    return spending


@pytest.mark.parametrize(
    ("at", "day"),
    [
        (NOON, "2026-11-21"),
        (MIDNIGHT - 0.001, "2026-11-21"),
        (MIDNIGHT, "2026-11-22"),
        (0.0, "1970-01-01"),
        (-1.0, "1970-01-01"),
        (1e300, "9999-12-31"),
        (math.inf, "1970-01-01"),
        (math.nan, "1970-01-01"),
    ],
)
def test_a_day_begins_at_midnight_in_utc_and_every_number_has_one(at: float, day: str) -> None:
    assert day_of(at) == day


def test_tokens_are_counted_in_and_out_without_what_came_from_a_cache() -> None:
    usage = Usage(input=1, output=20, cache_read=300, cache_write=4000)
    assert tokens_of(usage) == 4021
    assert spent(usage) == Spent(4021, None)
    assert spent(None) == Spent(0, None)
    assert spent(used(1, 0.0)) == Spent(1, 0.0)


def test_a_day_is_the_sum_of_its_crews_and_ends_at_midnight() -> None:
    spending = book(("a", 10, 0.5, NOON), ("b", 5, 0.25, NOON), ("a", 1, 0.125, MIDNIGHT))
    assert spending.of_day(NOON) == Spent(15, 0.75)
    assert spending.of_crew("a", MIDNIGHT - 1) == Spent(10, 0.5)
    assert spending.of_crew("b", NOON) == Spent(5, 0.25)
    assert spending.of_day(MIDNIGHT) == Spent(1, 0.125)
    assert spending.of_crew("b", MIDNIGHT) == Spent()
    assert (spending.crews(NOON), spending.crews(MIDNIGHT)) == (("a", "b"), ("a",))


def test_a_cost_that_is_not_known_is_not_0_and_hides_none_that_is() -> None:
    spending = book(("a", 10, None, NOON))
    assert spending.of_day(NOON) == Spent(10, None)
    assert spending.of_crew("a", NOON).cost_usd is None
    spending.add("b", used(0, 0.0), NOON)
    assert spending.of_day(NOON) == Spent(10, 0.0)
    spending.add("a", used(1, 0.5), NOON)
    assert (spending.of_day(NOON), spending.of_crew("a", NOON)) == (Spent(11, 0.5), Spent(11, 0.5))


@pytest.mark.parametrize("cost", [math.nan, math.inf, -math.inf, 2e9, 1e300])
def test_a_cost_that_cannot_be_one_is_not_known(cost: float) -> None:
    assert book(("a", 1, cost, NOON)).of_day(NOON) == Spent(1, None)
    assert spent(used(1, cost)) == Spent(1, None)


def test_ten_times_ten_cents_are_a_dollar() -> None:
    assert book(*[("a", 1, 0.1, NOON)] * 10).of_day(NOON).cost_usd == 1.0


def test_a_correction_takes_away_what_was_counted_too_much_and_never_more_than_there_was() -> None:
    assert book(("a", 100, 1.0, NOON), ("a", -5, -0.25, NOON)).of_day(NOON) == Spent(95, 0.75)
    spending = book(("a", 3, 0.5, NOON), ("a", -5, -1.0, NOON))
    assert (spending.of_day(NOON), spending.of_crew("a", NOON)) == (Spent(0, 0.0), Spent(0, 0.0))
    assert spending.burn("a", NOON) == (0.0, 0.0)


def test_older_days_are_forgotten() -> None:
    spending = book(*[("a", 1, None, NOON + number * DAY) for number in range(DAYS_MAX + 1)])
    assert spending.of_day(NOON) == Spent()
    assert all(spending.of_day(NOON + number * DAY).tokens == 1 for number in range(1, DAYS_MAX + 1))


def test_a_clock_that_ran_ahead_for_a_while_ends_no_account() -> None:
    spending = book(*[("a", 1, None, NOON + 4000 * DAY + number * 10) for number in range(100)])
    for number in range(1, 4):
        spending.add("a", used(1), NOON + (5000 + number) * DAY)
    for number in range(100):
        spending.add("a", used(30), NOON + number)
    assert spending.of_day(NOON).tokens == 3000
    assert spending.burn("a", NOON + 100)[0] == 10.0


def test_the_day_that_was_written_last_is_kept_longest() -> None:
    spending = book(*[("a", 1, None, at) for at in (NOON, NOON + 4000 * DAY, NOON + 4001 * DAY, NOON)])
    spending.add("a", used(1), NOON + 4002 * DAY)
    assert spending.of_day(NOON).tokens == 2
    assert spending.of_day(NOON + 4000 * DAY).tokens == 0


def test_crews_that_find_no_room_share_one_account_and_nothing_is_lost() -> None:
    spending = book(*[(f"crew {number}", 1, 0.5, NOON) for number in range(CREWS_MAX + 40)])
    assert spending.of_day(NOON) == Spent(CREWS_MAX + 40, (CREWS_MAX + 40) / 2)
    assert len(spending.crews(NOON)) == len(spending.burning(NOON)) == CREWS_MAX + 1
    assert spending.of_crew("crew 0", NOON) == Spent(1, 0.5)
    assert spending.of_crew(f"crew {CREWS_MAX}", NOON) == spending.of_crew(OTHER, NOON) == Spent(40, 20.0)
    spending.add("crew 0", used(1), NOON)
    assert spending.of_crew("crew 0", NOON).tokens == 2
    # A new day has room again.
    spending.add("late", used(7), MIDNIGHT)
    assert (spending.crews(MIDNIGHT), spending.of_crew("late", MIDNIGHT).tokens) == (("late",), 7)


def test_a_crew_that_uses_nothing_any_more_gives_its_meter_to_another() -> None:
    spending = book(*[(f"crew {number}", 1, None, NOON) for number in range(CREWS_MAX)])
    spending.add("late", used(300), NOON + RECENT + 20)
    assert spending.burning(NOON + RECENT + 20) == ("late",)
    assert spending.burn("late", NOON + RECENT + 20) == (1.0, None)


def test_what_was_used_at_once_is_spread_over_five_minutes_and_then_gone() -> None:
    spending = book(("a", 3000, 30.0, NOON))
    rates = [spending.burn("a", NOON + passed) for passed in (0.0, 100.0, 299.9, 300.0, 305.0, 310.0, 1e6)]
    assert rates == [(10.0, 0.1)] * 4 + [(5.0, 0.05), (0.0, 0.0), (0.0, 0.0)]
    assert spending.burning(NOON + 1e6) == ()


def test_an_even_use_has_an_even_rate_at_every_moment() -> None:
    spending = Spending()
    for second in range(1000):
        spending.add("a", used(7, 0.001), NOON + second)
        if second > 320:
            tokens, usd = spending.burn("a", NOON + second)
            assert tokens == pytest.approx(7.0, rel=0.01)
            assert usd == pytest.approx(0.001, rel=0.01)


def test_the_rate_of_a_cost_is_unknown_while_no_cost_is() -> None:
    spending = book(("a", 300, None, NOON))
    assert spending.burn("a", NOON) == (1.0, None)
    assert spending.burn("nobody", NOON) == (0.0, None)
    spending.add("a", used(0, 3.0), NOON + 400)
    assert spending.burn("a", NOON + 400) == (0.0, 0.01)
    # Nothing was used since, so nothing was paid; but what is used without a price may cost anything.
    assert spending.burn("a", NOON + 800) == (0.0, 0.0)
    spending.add("a", used(300), NOON + 800)
    assert spending.burn("a", NOON + 800) == (1.0, None)


moments = st.floats(NOON - 10 * DAY, NOON + 10 * DAY) | st.floats(NOON, NOON + 1000) | st.floats()
entries = st.tuples(
    st.sampled_from("abc"), st.integers(-(10**6), 10**400), st.none() | st.floats() | st.floats(0, 100), moments
)


@given(st.lists(entries, max_size=60), moments)
def test_whatever_is_written_it_stays_small_and_tells_no_nonsense(
    written: list[tuple[str, int, float | None, float]], now: float
) -> None:
    spending = book(*written)
    figures = [spending.of_day(now), *(spending.of_crew(crew, now) for crew in "abc")]
    assert all(each.tokens >= 0 for each in figures)
    assert all(each.cost_usd is None or 0 <= each.cost_usd < math.inf for each in figures)
    for crew in "abc":
        tokens, usd = spending.burn(crew, now)
        assert tokens >= 0
        assert usd is None or usd >= 0


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 10**9), st.floats(0, 100)), max_size=40), st.randoms()
)
def test_the_order_in_which_it_is_written_changes_no_sum(
    written: list[tuple[str, int, float]], chance: object
) -> None:
    whole = book(*[(crew, tokens, cost, NOON) for crew, tokens, cost in written])
    shuffled = list(written)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    again = book(*[(crew, tokens, cost, NOON) for crew, tokens, cost in shuffled])
    assert whole.of_day(NOON) == again.of_day(NOON)
    assert whole.of_day(NOON).tokens == sum(tokens for _, tokens, _ in written)
    assert whole.of_day(NOON).tokens == sum(whole.of_crew(crew, NOON).tokens for crew in "abc")


@given(st.lists(st.floats(0, 600), min_size=1, max_size=400), st.floats(0, 1200))
def test_no_rate_is_above_what_was_used_in_the_time_that_it_speaks_of(passed: list[float], now: float) -> None:
    spending = book(*[("a", 1, 0.5, NOON + at) for at in sorted(passed)])
    within = sum(1 for at in passed if now - RECENT - 10 < at <= now + 10)
    assert spending.burn("a", NOON + now)[0] <= within / RECENT + 1e-9


def test_one_that_writes_at_a_thousand_moments_costs_no_more_than_one_that_writes_at_thirty() -> None:
    import pickle

    def size(times: int, apart: float) -> int:
        return len(pickle.dumps(book(*[("a", 1, None, NOON + number * apart) for number in range(times)])))

    assert size(1000, 10.0) <= size(STEPS + 1, 10.0) + 200
