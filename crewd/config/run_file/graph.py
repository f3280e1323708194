"""What depends on what: ids that stand twice, dependencies on nothing, and circles. Never by recursion."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from crewd.config.run_file.problems import Code, Finds, nearest, shown

# Beyond these a remedy costs more than it is worth.
_COMPARED_MAX = 200
_SUGGESTED_MAX = 10
_NAMED_MAX = 12


@dataclass(frozen=True)
class Node:
    """One task as far as its dependencies go. What is no id is left out: that was told already."""

    place: int  # in the list of tasks
    task_id: str
    depends_on: tuple[tuple[int, str], ...]  # place in the list of dependencies, id


def check_graph(nodes: Sequence[Node], finds: Finds) -> None:
    """Add everything that keeps the tasks from ever being in an order."""
    first = _first_places(nodes, finds)
    _check_names(nodes, first, finds)
    for chain, (task, place) in _circles(first):
        location = ("tasks", task, "depends_on", place)
        finds.add(location, Code.CYCLE, f"{chain} is a circle", "take out one of these dependencies")
        if finds.is_full:
            return


def _first_places(nodes: Sequence[Node], finds: Finds) -> dict[str, Node]:
    first: dict[str, Node] = {}
    for node in nodes:
        known = first.setdefault(node.task_id, node)
        if known is not node:
            message = f"{shown(node.task_id)} is already the id of /tasks/{known.place}"
            finds.add(("tasks", node.place, "id"), Code.DUPLICATE_ID, message, "give each task an id of its own")
    return first


def _check_names(nodes: Sequence[Node], first: Mapping[str, Node], finds: Finds) -> None:
    suggested = 0
    for node in nodes:
        for place, wanted in node.depends_on:
            location = ("tasks", node.place, "depends_on", place)
            if wanted == node.task_id:
                message = f"{shown(wanted)} depends on itself"
                finds.add(location, Code.SELF_DEPENDENCY, message, "take it out")
            elif wanted not in first:
                near = _nearest_id(wanted, first) if suggested < _SUGGESTED_MAX else ""
                suggested += 1
                remedy = f"did you mean {near}?" if near else "name the id of a task of this file"
                finds.add(location, Code.UNKNOWN_TASK, f"{shown(wanted)} is no task of this run", remedy)


def _circles(first: Mapping[str, Node]) -> Iterator[tuple[str, tuple[int, int]]]:
    """Walk the dependencies depth first. Each one that leads back into the way that led to it closes a circle, and
    is told once, with that circle: taking out those that are told leaves none."""
    finished: set[str] = set()
    for start in first.values():
        if start.task_id in finished:
            continue
        way: list[str] = []
        position: dict[str, int] = {}
        open_ends: list[tuple[Node, Iterator[tuple[int, str]]]] = []
        _enter(start, way, position, open_ends)
        while open_ends:
            node, rest = open_ends[-1]
            for place, wanted in rest:
                if wanted in position:
                    if wanted != node.task_id:
                        yield _chain(way, position[wanted]), (node.place, place)
                elif wanted in first and wanted not in finished:
                    _enter(first[wanted], way, position, open_ends)
                    break
            else:
                open_ends.pop()
                way.pop()
                del position[node.task_id]
                finished.add(node.task_id)


def _enter(
    node: Node, way: list[str], position: dict[str, int], open_ends: list[tuple[Node, Iterator[tuple[int, str]]]]
) -> None:
    position[node.task_id] = len(way)
    way.append(node.task_id)
    # A task that is named twice in one list is one dependency.
    once = {wanted: place for place, wanted in reversed(node.depends_on)}
    open_ends.append((node, iter([(place, wanted) for wanted, place in reversed(once.items())])))


def _chain(way: Sequence[str], start: int) -> str:
    """Write a circle, never at length: there may be thousands in it, and thousands of them."""
    length = len(way) - start
    if length <= _NAMED_MAX:
        return " -> ".join([*way[start:], way[start]])
    left_out = f"... ({length - _NAMED_MAX} more) ..."
    return " -> ".join([*way[start : start + _NAMED_MAX - 2], left_out, *way[-2:], way[start]])


def _nearest_id(wanted: str, known: Mapping[str, Node]) -> str:
    if len(wanted) > 64:
        return ""
    if len(known) <= _COMPARED_MAX:
        return nearest(wanted, [*known])
    # Too many for a real comparison: the one that differs least between its beginning and its end.
    best = max(known, key=lambda each: _same_ends(each, wanted) - abs(len(each) - len(wanted)))
    return best if _same_ends(best, wanted) >= max(len(best), len(wanted)) - 2 else ""


def _same_ends(one: str, other: str) -> int:
    """Count the characters that both begin with, and those that both end with."""
    shorter = min(len(one), len(other))
    begins = next((n for n in range(shorter) if one[n] != other[n]), shorter)
    ends = next((n for n in range(shorter - begins) if one[-1 - n] != other[-1 - n]), shorter - begins)
    return begins + ends
