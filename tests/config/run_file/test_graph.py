"""What depends on what."""

import time
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.config.run_file import RunRefused
from tests.config.run_file.given import problems, run_plan, told


def tasks(graph: Mapping[str, Sequence[str]]) -> dict[str, object]:
    return {"tasks": [{"id": name, "command": ["x"], "depends_on": [*others]} for name, others in graph.items()]}


def lines(graph: Mapping[str, Sequence[str]]) -> list[str]:
    return [line.removeprefix("crew.toml: ") for line in told(tasks(graph)).splitlines()]


def test_a_circle_is_named() -> None:
    assert lines({"a": ["b"], "b": ["a"]}) == [
        "/tasks/1/depends_on/0: a -> b -> a is a circle (take out one of these dependencies)"
    ]


@pytest.mark.parametrize(
    ("graph", "circles"),
    [
        ({"a": ["b"], "b": ["c"], "c": ["a"]}, ["a -> b -> c -> a"]),
        ({"a": ["b"], "b": ["a"], "c": ["d"], "d": ["c"]}, ["a -> b -> a", "c -> d -> c"]),
        ({"a": ["b", "c"], "b": ["a"], "c": ["a"]}, ["a -> b -> a", "a -> c -> a"]),
        ({"x": ["a"], "a": ["b"], "b": ["a", "a"]}, ["a -> b -> a"]),
        ({"a": ["b"], "b": ["c", "a"], "c": ["b"]}, ["a -> b -> a", "b -> c -> b"]),
    ],
)
def test_every_circle_is_told_once(graph: Mapping[str, Sequence[str]], circles: list[str]) -> None:
    found = [
        line.split(": ", 1)[1].removesuffix(" is a circle (take out one of these dependencies)")
        for line in lines(graph)
    ]
    assert sorted(found) == sorted(circles)


def test_a_task_that_depends_on_itself_is_told_as_that_and_not_as_a_circle() -> None:
    assert problems(tasks({"a": ["a"]})) == [("/tasks/0/depends_on/0", "SELF_DEPENDENCY")]


def test_an_unknown_task_is_told_with_the_nearest_id() -> None:
    assert lines({"build": [], "test": ["biuld"], "lint": ["zzz"], "pack": ["Build"]}) == [
        "/tasks/1/depends_on/0: 'biuld' is no task of this run (did you mean build?)",
        "/tasks/2/depends_on/0: 'zzz' is no task of this run (name the id of a task of this file)",
        "/tasks/3/depends_on/0: 'Build' is no task of this run (did you mean build?)",
    ]


def test_among_thousands_the_nearest_id_is_found_too() -> None:
    graph: dict[str, Sequence[str]] = {f"task-{n:05}-{n % 7}": [] for n in range(9_000)}
    (found,) = lines({**graph, "last": ["task-0123x-2"]})
    assert found.endswith("(did you mean task-01234-2?)"), found


def test_every_id_that_stands_twice_is_told() -> None:
    data = {"tasks": [{"id": name, "command": ["x"]} for name in ("a", "b", "a", "b", "a", "c")]}
    assert problems(data) == [(f"/tasks/{n}/id", "DUPLICATE_ID") for n in (2, 3, 4)]
    assert "'a' is already the id of /tasks/0" in told(data)


N = 10_000
CHAIN = {f"t{n}": [f"t{n - 1}"] if n else [] for n in range(N)}


@pytest.mark.parametrize("turned", [False, True])
def test_a_chain_of_ten_thousand_tasks_is_a_plan_within_a_second(turned: bool) -> None:
    data = tasks(dict(reversed(CHAIN.items())) if turned else CHAIN)
    start = time.process_time()
    assert len(run_plan(data).tasks) == N
    assert time.process_time() - start < 1.5


def test_a_circle_of_ten_thousand_tasks_is_one_problem_and_one_line() -> None:
    data = tasks({**CHAIN, "t0": [f"t{N - 1}"]})
    start = time.process_time()
    assert [code for _, code in problems(data)] == ["CYCLE"]
    assert time.process_time() - start < 1.5
    assert f"({N - 12} more)" in told(data)
    assert len(told(data)) < 300


def test_circles_without_end_are_counted_and_cost_little() -> None:
    # Everyone depends on everyone: each dependency but those of one long way closes a circle.
    names = [f"t{n}" for n in range(440)]
    data = tasks({name: [other for other in names if other != name] for name in names})
    start = time.process_time()
    assert len(problems(data)) >= 1000
    assert time.process_time() - start < 2.0


GRAPHS = st.integers(1, 7).flatmap(
    lambda size: st.lists(st.lists(st.integers(0, size - 1), max_size=4), min_size=size, max_size=size)
)


@given(GRAPHS)
def test_a_plan_exists_exactly_where_the_tasks_can_be_brought_into_an_order(links: list[list[int]]) -> None:
    graph = {f"t{n}": [f"t{other}" for other in others] for n, others in enumerate(links)}
    if can_be_ordered(graph):
        assert [task.task_id for task in run_plan(tasks(graph)).tasks] == list(graph)
        return
    with pytest.raises(RunRefused) as caught:
        run_plan(tasks(graph))
    # Without the dependencies that were told there is an order.
    for problem in caught.value.problems:
        _, _, task, _, place = problem.pointer.split("/")
        name = f"t{task}"
        wanted = links[int(task)][int(place)]
        graph[name] = [each for each in graph[name] if each != f"t{wanted}"]
    assert can_be_ordered(graph)


def can_be_ordered(graph: Mapping[str, Sequence[str]]) -> bool:
    """Take out whoever waits for nobody, again and again."""
    left = {name: set(others) for name, others in graph.items()}
    while free := {name for name, others in left.items() if not others & left.keys()}:
        left = {name: others for name, others in left.items() if name not in free}
    return not left
