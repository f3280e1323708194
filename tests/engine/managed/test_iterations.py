"""Iterations of an attempt: each an event while they are few, counted where they are many, and none told twice."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from crewd.engine.managed.iterations import BURST, PER_SECOND, TOLD_MAX, Iterations


def written(iterations: Iterations) -> list[int]:
    told = iterations.take()
    if told:
        iterations.told = told[-1]["iteration"]
    return [each["iteration"] for each in told]


def test_eight_iterations_are_eight_events_in_their_order() -> None:
    iterations = Iterations()
    for number in range(1, 9):
        iterations.note(number, 0.0, step=f"s{number}")
    told = iterations.take()
    assert [(each["iteration"], each["step"]) for each in told] == [(n, f"s{n}") for n in range(1, 9)]
    assert iterations.take() == iterations.rest() == []


def test_a_flood_is_told_in_part_and_what_was_left_out_is_counted() -> None:
    iterations = Iterations()
    for number in range(1, 1001):
        iterations.note(number, 0.0)
    assert written(iterations) == list(range(1, BURST + 1))
    iterations.note(1001, 3 / PER_SECOND)
    assert iterations.take() == [{"iteration": 1001, "left_out": 1000 - BURST}]


def test_the_newest_is_told_at_the_end_even_where_it_was_too_much() -> None:
    iterations = Iterations()
    for number in range(1, BURST + 6):
        iterations.note(number, 0.0)
    assert len(iterations.take()) == BURST
    assert iterations.rest() == [{"iteration": BURST + 5, "left_out": 4}]
    assert iterations.rest() == []


def test_a_successor_tells_nothing_that_its_predecessor_told() -> None:
    iterations = Iterations(told=5)
    for number in range(1, 8):
        iterations.note(number, 0.0)
    assert written(iterations) == [6, 7]


def test_what_could_not_be_written_counts_as_left_out() -> None:
    iterations = Iterations()
    for number in (1, 2):
        iterations.note(number, 0.0)
    iterations.untold(iterations.take())
    iterations.note(3, 0.0)
    assert iterations.rest() == [{"iteration": 3, "left_out": 2}]


@given(st.lists(st.tuples(st.integers(1, 3), st.floats(0, 2), st.booleans()), max_size=200))
def test_every_iteration_is_told_or_counted_once(steps: list[tuple[int, float, bool]]) -> None:
    iterations, told, number, mono = Iterations(), list[dict[str, Any]](), 0, 0.0
    for count, wait, is_written in steps:
        for _ in range(count):
            number += 1
            iterations.note(number, mono)
        mono += wait
        if is_written:
            told += iterations.take()
    told += iterations.rest()
    assert len(told) + sum(each.get("left_out", 0) for each in told) == number
    numbers = [each["iteration"] for each in told]
    assert numbers == sorted(set(numbers))
    assert len(told) <= min(TOLD_MAX + 1, BURST + mono * PER_SECOND + 1)
