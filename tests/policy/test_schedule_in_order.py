"""A choice without reasons starts the same tasks as one with them, and never looks again later."""

from collections import Counter
from collections.abc import Iterator

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from crewd.model.managed import Pause
from crewd.policy.schedule import Busy, Ready, Slots, choose, choose_in_order

NAMES = st.sampled_from(["a", "b"])
READY = st.lists(
    st.builds(
        Ready,
        key=st.tuples(NAMES, st.integers(0, 10**6).map(str)),
        executor=NAMES,
        priority=st.integers(0, 2),
        concurrency_key=st.sampled_from(["", "k"]),
        run_parallel_max=st.none() | st.integers(0, 3),
        circuit=st.sampled_from(["", "open", "shut"]),
        crew=NAMES,
        order=st.integers(0, 5),
        is_retry=st.booleans(),
    ),
    max_size=12,
    unique_by=lambda task: task.key,
)
SLOTS = st.builds(
    Slots,
    total=st.integers(0, 6),
    executors=st.dictionaries(NAMES, st.integers(0, 3)),
    start_rate=st.none() | st.sampled_from([0.5, 5.0]),
    start_burst=st.integers(1, 4),
    recent_starts=st.lists(st.floats(90, 100), max_size=5).map(lambda times: tuple(sorted(times))),
)
PAUSES = st.lists(st.builds(Pause, scope=st.sampled_from(["daemon", "crew:a", "executor:b"]),
                            mode=st.sampled_from(["pause", "drain"])), max_size=2)  # fmt: skip
NOW, WAIT = 100.0, 7.0
CIRCUITS = {"shut": (False, "", WAIT)}


@given(READY, SLOTS, PAUSES, st.sampled_from([0.1, 1.0, 6.9, 7.0, 60.0]))
def test_without_reasons_the_same_are_started_and_nobody_is_looked_at_too_late(
    ready: list[Ready], slots: Slots, pauses: list[Pause], later: float
) -> None:
    best = sorted(ready, key=lambda task: (-task.priority, task.since, task.order))
    told = choose(best, Busy(), slots, pauses=pauses, circuits=CIRCUITS, now_mono=NOW)
    silent = choose_in_order(best, Busy(), slots, pauses=pauses, circuits=CIRCUITS, now_mono=NOW)
    assert silent.keys == told.keys and not silent.held
    if silent.look_in is not None and silent.look_in <= later:
        return
    started = [task for task in best if task.key in silent.keys]
    busy = Busy(
        total=len(started),
        executors=Counter(task.executor for task in started),
        keys=Counter(task.concurrency_key for task in started if task.concurrency_key),
        runs=Counter(task.key[0] for task in started),
        circuits=Counter(task.circuit for task in started),
    )
    slots = msgspec.structs.replace(slots, recent_starts=(*slots.recent_starts, *(NOW for _ in started)))
    circuits = {} if later >= WAIT else CIRCUITS
    waiting = [task for task in best if task.key not in silent.keys]
    assert not choose(waiting, busy, slots, pauses=pauses, circuits=circuits, now_mono=NOW + later).keys


def test_a_full_house_looks_at_nobody_in_the_queue() -> None:
    seen = []

    def queue() -> Iterator[Ready]:
        for number in range(1000):
            seen.append(number)
            yield Ready(("r", str(number)))

    choose_in_order(queue(), Busy(2), Slots(2), pauses=(), circuits={}, now_mono=0.0)
    assert seen == [0]
