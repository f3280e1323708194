"""History in the ledger: written with its events, found page by page, made anew, forgotten run by run."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from crewd.ledger import cells, opening, rows, schema
from crewd.ledger.batch import Batch
from crewd.ledger.errors import LedgerDamaged
from crewd.ledger.ledger import Ledger
from crewd.ledger.options import LedgerOptions
from crewd.ledger.reader import Reader
from crewd.model.event import Event
from crewd.model.history import AttemptRow, HistoryQuery
from tests.fakes.clock import FakeClock

FROZEN = Path(__file__).parent / "frozen"
PATH = "ledger.sqlite3"
AT = 1_767_225_600.25
VARIANTS = {"prompt": "b", "skill": "é"}


def of_run(run_id: str, type: str, at: float = AT, **data: Any) -> Event:
    return Event(type, at, data, run_id, runtime="managed", crew="grün")


def of_task(run_id: str, type: str, attempt: int = 0, at: float = AT, task_id: str = "lint", **data: Any) -> Event:
    return Event(type, at, data, run_id, task_id, attempt, "managed", "grün")


def begun(run_id: str, number: int = 1, at: float = AT, executor: str = "fast", **kind: Any) -> list[Event]:
    kind |= {"task_type": "build", "executor": executor}
    return [of_task(run_id, "attempt.starting", number, at, queue_seconds=2.0, **kind)]


def ended(run_id: str, number: int = 1, at: float = AT + 5, outcome: str = "completed") -> list[Event]:
    end = of_task(run_id, "attempt.finished", number, at, outcome=outcome, duration_seconds=5.0)
    return [end, of_task(run_id, f"task.{outcome}", number, at)]


def a_story(run_id: str = "nightly-1") -> list[list[Event]]:
    """What is written of a run with a failed and a completed attempt, transaction by transaction."""
    data: dict[str, Any] = {"model": "opus", "variants": VARIANTS}
    used = of_task(run_id, "usage.recorded", 2, AT + 20, input=10, output=5, cost_usd=0.125)
    return [
        [of_run(run_id, "run.discovered", status="queued", goal="ship it", labels={"team": "ü"})],
        [*begun(run_id, 1, AT, **data), of_run(run_id, "run.started")],
        [of_task(run_id, "attempt.finished", 1, AT + 5, outcome="failed", error_class="worker_crash", error="é")],
        [of_task(run_id, "task.retry_scheduled", 1, AT + 5), *begun(run_id, 2, AT + 10, **data)],
        [used, of_task(run_id, "task.progressed", 2, AT + 21, iteration=1)],
        [*ended(run_id, 2, AT + 30), of_run(run_id, "run.completed", AT + 30, duration_seconds=30.0)],
    ]


Play = Callable[[Ledger], Awaitable[Any]]


def using(folder: Path, play: Play) -> Any:
    async def run() -> Any:
        ledger = Ledger.open(folder, FakeClock())
        try:
            return await play(ledger)
        finally:
            await ledger.close()

    return asyncio.run(run())


def keep(folder: Path, *batches: list[Event]) -> None:
    async def play(ledger: Ledger) -> None:
        for batch in batches:
            await ledger.commit(Batch(events=tuple(batch)))

    using(folder, play)


def everything(reader: Reader) -> tuple[Any, ...]:
    query = HistoryQuery(limit=500)
    return reader.attempts(query), reader.tasks(query), reader.past_runs(query)


def kept(folder: Path) -> tuple[Any, ...]:
    with Reader.open(folder) as reader:
        assert reader.history_problems() == []
        return everything(reader)


def the_attempts(folder: Path, **query: Any) -> list[tuple[str, int]]:
    with Reader.open(folder) as reader:
        return [(row.run_id, row.attempt) for row in reader.attempts(HistoryQuery(**query)).rows]


def test_a_run_and_its_attempts_are_there_as_soon_as_their_events_are(tmp_path: Path) -> None:
    keep(tmp_path, *a_story())
    attempts, tasks, runs = kept(tmp_path)
    assert attempts.rows[0] == AttemptRow(
        run_id="nightly-1",
        task_id="lint",
        attempt=2,
        first_seq=6,
        last_seq=9,
        runtime="managed",
        crew="grün",
        task_type="build",
        executor="fast",
        model="opus",
        variants=VARIANTS,
        outcome="completed",
        started_at=AT + 10,
        ended_at=AT + 30,
        queue_seconds=2.0,
        duration_seconds=5.0,
        usage=attempts.rows[0].usage,
        iterations=1,
    )
    assert attempts.rows[0].usage.cost_usd == 0.125
    assert [row.outcome for row in attempts.rows] == ["completed", "failed"]
    assert [(row.outcome, row.attempts) for row in tasks.rows] == [("completed", 2)]
    assert [(row.status, row.goal, row.labels, row.tasks) for row in runs.rows] == [
        ("completed", "ship it", {"team": "ü"}, {"completed": 1})
    ]


def test_what_a_killed_daemon_of_version_4_left_still_opens(tmp_path: Path) -> None:
    # frozen/v4 is never made anew: a change of `a_story` belongs into a frozen/v5 beside it.
    shutil.copytree(FROZEN / "v4", tmp_path / "state")
    keep(tmp_path / "state")
    keep(tmp_path / "fresh", *a_story())
    assert kept(tmp_path / "state") == kept(tmp_path / "fresh")


def test_the_events_of_a_ledger_of_version_3_become_its_history(tmp_path: Path) -> None:
    story = [event for batch in a_story() for event in batch]
    path = tmp_path / "old" / PATH
    path.parent.mkdir()
    opening.prepare_file(path, LedgerOptions(), schema.MIGRATIONS[:3])
    connection = apsw.Connection(str(path))
    with connection:
        written = rows.prepare(Batch(events=tuple(story)), 0, AT)
        for sql, bindings in written.statements:
            connection.executemany(sql, bindings)
        connection.execute(rows.INSERT_META, rows.meta_row("last_seq", len(story)))
        # One that is damaged tells nothing, and keeps nobody from starting.
        bad = (len(story) + 1, AT, "run.failed", "nightly-1", "", 0, "managed", "", "daemon", "{}", 7)
        connection.execute(rows.INSERT_EVENT, bad)
        connection.execute(rows.INSERT_META, rows.meta_row("last_seq", len(story) + 1))
    connection.close()
    keep(tmp_path / "old")
    keep(tmp_path / "new", *a_story())
    assert kept(tmp_path / "old") == kept(tmp_path / "new")


def some_attempts(count: int) -> list[Event]:
    told = []
    for number in range(count):
        run_id = f"run-{number:05}"
        outcome = ("completed", "failed", "timed_out")[number % 3]
        told += begun(run_id, 1, AT + number, ("fast", "slow")[number % 2])
        if number % 7:
            told += ended(run_id, 1, AT + number + 5, outcome)
    return told


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        pytest.param({"states": ("failed",), "executor": "slow"}, [19, 13, 1], id="state and executor"),
        pytest.param({"states": ("at_work",)}, [14, 7, 0], id="at work"),
        pytest.param({"states": ("failed", "timed_out"), "limit": 3}, [20, 19, 17], id="one of two states"),
        pytest.param({"executor": "slow", "limit": 3}, [19, 17, 15], id="executor alone"),
        pytest.param({"executor": "slow", "since": AT + 20, "until": AT + 24}, [17, 15], id="a time, with its start"),
        pytest.param({"run_id": "run-00003", "states": ("completed",)}, [3], id="a run"),
        pytest.param({"crew": "grün", "task_type": "build", "limit": 2}, [20, 19], id="crew and type"),
        pytest.param({"model": "opus"}, [], id="nothing matches"),
        pytest.param({"task_id": "build"}, [], id="no such task"),
    ],
)
def test_a_query_finds_what_matches_and_nothing_else(
    tmp_path: Path, query: dict[str, Any], numbers: list[int]
) -> None:
    keep(tmp_path, some_attempts(21))
    assert the_attempts(tmp_path, **query) == [(f"run-{number:05}", 1) for number in numbers]


def test_rows_are_found_by_variant_and_by_the_label_of_their_run(tmp_path: Path) -> None:
    keep(tmp_path, *a_story(), *a_story("nightly-2")[1:])
    assert len(the_attempts(tmp_path, variant=("skill", "é"))) == 4
    assert the_attempts(tmp_path, variant=("skill", "e")) == the_attempts(tmp_path, variant=("é", "skill")) == []
    assert the_attempts(tmp_path, label=("team", "ü")) == [("nightly-1", 2), ("nightly-1", 1)]
    with Reader.open(tmp_path) as reader:
        labelled = HistoryQuery(label=("team", "ü"), variant=("prompt", "b"), executor="fast")
        assert [row.run_id for row in reader.past_runs(labelled).rows] == ["nightly-1"]
        assert reader.past_runs(HistoryQuery(executor="slow")).rows == ()
        assert [row.run_id for row in reader.past_runs(HistoryQuery(states=("at_work",))).rows] == []


def test_pages_of_runs_leave_nothing_out_and_tell_nothing_twice_while_runs_are_added(tmp_path: Path) -> None:
    keep(tmp_path, [of_run(f"run-{number}", "run.discovered", status="running") for number in range(1205)])
    pages, before = [], None
    for late in ("a", "b", "c"):
        with Reader.open(tmp_path) as reader:
            page = reader.past_runs(HistoryQuery(limit=500, before_seq=before))
        pages.append([row.run_id for row in page.rows])
        before = page.next_before
        keep(tmp_path, [of_run(f"late-{late}", "run.discovered", status="running")])
    assert [len(page) for page in pages] == [500, 500, 205]
    assert before is None
    assert [run_id for page in pages for run_id in page] == [f"run-{number}" for number in reversed(range(1205))]


def test_how_much_there_is(tmp_path: Path) -> None:
    gap = [Event("daemon.recovered", AT + 30, {"events_dropped": number}) for number in (3, 4)]
    keep(tmp_path, *a_story(), gap)
    with Reader.open(tmp_path) as reader:
        stats = reader.history_stats()
    assert (stats.runs, stats.tasks, stats.attempts, stats.events, stats.corrupt) == (1, 1, 2, 13, 0)
    assert (stats.first_seq, stats.last_seq, stats.first_at, stats.last_at) == (1, 13, AT, AT + 30)
    assert stats.dropped == 7
    assert stats.bytes >= (tmp_path / PATH).stat().st_size > 0


DAMAGES = [
    pytest.param("UPDATE attempts SET outcome = 'completed' WHERE attempt = 1", "attempts", id="an attempt"),
    pytest.param("UPDATE outcomes SET cost_usd = 0", "outcomes", id="a task"),
    pytest.param("UPDATE run_history SET status = 'failed'", "run_history", id="a run"),
]


@pytest.mark.parametrize(("change", "table"), DAMAGES)
def test_a_row_that_is_not_what_was_written_is_named_and_never_believed(
    tmp_path: Path, change: str, table: str
) -> None:
    keep(tmp_path, *a_story())
    connection = apsw.Connection(str(tmp_path / PATH))
    connection.execute(change)
    connection.close()
    with Reader.open(tmp_path) as reader:
        assert any(table in problem for problem in reader.history_problems())
        assert reader.history_stats().corrupt == 1
        with pytest.raises(LedgerDamaged):
            everything(reader)


@pytest.mark.parametrize(("change", "table"), DAMAGES)
def test_damage_of_the_history_keeps_nobody_from_writing_and_is_not_hidden(
    tmp_path: Path, change: str, table: str
) -> None:
    keep(tmp_path, *a_story()[:-1])

    async def play(ledger: Ledger) -> int:
        connection = apsw.Connection(str(tmp_path / PATH))
        connection.execute(change)
        connection.close()
        told = [*a_story()[-1], of_task("nightly-1", "usage.recorded", 1, input=1)]
        assert len(await ledger.commit(Batch(events=tuple(told)))) == 4
        return ledger.stats().history_missed

    assert using(tmp_path, play) > 0
    with Reader.open(tmp_path) as reader:
        assert reader.history_stats().corrupt == 1
        assert any(table in problem for problem in reader.history_problems())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("DELETE FROM outcomes", "not kept"),
        ("DELETE FROM events WHERE type = 'usage.recorded'", "not what the events tell"),
        ("DELETE FROM events", "no event tells of it"),
    ],
)
def test_what_events_do_not_tell_is_found(tmp_path: Path, change: str, words: str) -> None:
    keep(tmp_path, *a_story())
    connection = apsw.Connection(str(tmp_path / PATH))
    connection.execute(change)
    connection.close()
    with Reader.open(tmp_path) as reader:
        assert any(words in problem for problem in reader.history_problems())


def test_history_outlives_its_events_and_goes_run_by_run(tmp_path: Path) -> None:
    keep(tmp_path, *a_story(), *a_story("nightly-2"))

    async def play(ledger: Ledger) -> tuple[int, int, int]:
        first = await ledger.prune(AT + 100, past_before=AT)  # all events, and no history
        return first, await ledger.prune(AT + 100, past_before=AT + 100, max_rows=3), 0

    before = kept(tmp_path)
    assert using(tmp_path, play) == (22, 3, 0)
    with Reader.open(tmp_path) as reader:
        assert reader.history_problems() == []
        assert [row.run_id for row in reader.attempts(HistoryQuery()).rows] == ["nightly-2"] * 2
        assert [row.run_id for row in reader.tasks(HistoryQuery()).rows] == ["nightly-2"]
        assert reader.past_runs(HistoryQuery()).rows == before[2].rows

    async def rest(ledger: Ledger) -> int:
        return await ledger.prune(AT + 100, past_before=AT + 100)

    assert using(tmp_path, rest) == 1 + 4
    assert all(page.rows == () for page in kept(tmp_path))


def test_of_a_run_that_goes_on_nothing_is_forgotten_and_what_follows_its_old_events_still_counts(
    tmp_path: Path,
) -> None:
    story = a_story()
    keep(tmp_path, *story[:3])

    async def play(ledger: Ledger) -> int:
        return await ledger.prune(AT + 6, past_before=AT + 6)

    assert using(tmp_path, play) == 4  # events
    keep(tmp_path, *story[3:])
    keep(tmp_path / "whole", *story)
    assert kept(tmp_path) == kept(tmp_path / "whole")


stories = st.lists(
    st.builds(
        Event,
        st.sampled_from(
            ("run.discovered", "run.started", "run.completed", "task.queued", "task.started", "task.failed",
             "task.completed", "attempt.starting", "attempt.finished", "usage.recorded", "task.progressed")
        ),
        st.floats(0, 1e9),
        st.dictionaries(
            st.sampled_from(("input", "cost_usd", "executor", "started_at", "variants", "tasks", "error")),
            st.one_of(st.integers(0, 5), st.floats(0, 5), st.sampled_from(("é", "\udce9", "a")), st.none()),
            max_size=4,
        ),
        st.sampled_from(("run-1", "run-é", "run-\udce9")),
        st.sampled_from(("", "a", "\udce9")),
        st.integers(0, 3),
        st.sampled_from(("managed", "pi_crew")),
    ),
    max_size=25,
)  # fmt: skip


@settings(max_examples=15, deadline=None)
@given(stories, st.lists(st.integers(1, 6), max_size=6))
def test_what_is_kept_is_what_the_events_tell(
    tmp_path_factory: pytest.TempPathFactory, told: list[Event], sizes: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("state")

    async def play(ledger: Ledger) -> None:
        left = told
        for size in (*sizes, len(told)):
            await ledger.commit(Batch(events=tuple(left[:size])))
            left = left[size:]
        assert ledger.stats().history_missed == 0

    using(folder, play)
    kept(folder)


def test_a_check_covers_every_column(tmp_path: Path) -> None:
    keep(tmp_path, *a_story())
    connection = apsw.Connection(str(tmp_path / PATH))
    for table in ("attempts", "outcomes", "run_history"):
        for row in connection.execute(f"SELECT * FROM {table}"):
            assert cells.verify(table, row[0], row)
    connection.close()


def test_a_run_of_which_an_event_is_left_is_not_forgotten(tmp_path: Path) -> None:
    late = of_task("nightly-1", "usage.recorded", 2, AT + 200, input=1)
    keep(tmp_path, *a_story(), [late])

    async def play(ledger: Ledger) -> int:
        return await ledger.prune(AT + 100, past_before=AT + 100)

    assert using(tmp_path, play) == 11
    assert len(kept(tmp_path)[0].rows) == 2


def test_a_run_of_which_nothing_was_heard_but_that_it_vanished_is_forgotten_too(tmp_path: Path) -> None:
    keep(tmp_path, [of_run("nightly-1", "run.vanished")])

    async def play(ledger: Ledger) -> int:
        return await ledger.prune(AT + 100, past_before=AT + 100)

    assert using(tmp_path, play) == 2
    assert kept(tmp_path)[2].rows == ()


def test_what_was_forgotten_and_began_anew_is_sound_although_an_event_of_before_is_left(tmp_path: Path) -> None:
    begin = Event("task.started", AT, {}, "run-1", "a", 1, "pi_crew")
    ahead = replace(begin, at=AT + 10_000)  # the clock was ahead
    over = Event("run.completed", AT, {}, "run-1", runtime="pi_crew")
    keep(tmp_path, [ahead, over])

    async def play(ledger: Ledger) -> int:
        return await ledger.prune(AT + 100, past_before=AT + 100)

    using(tmp_path, play)
    keep(tmp_path, [replace(begin, at=AT + 200)])
    attempts, _, runs = kept(tmp_path)
    assert (len(attempts.rows), len(runs.rows)) == (1, 1)


def test_what_becomes_of_an_attempt_does_not_depend_on_what_was_forgotten(tmp_path: Path) -> None:
    def begin(attempt: int, at: float) -> Event:
        return Event("task.started", at, {}, "run-1", "a", attempt, "pi_crew")

    keep(tmp_path, [begin(3, AT)])

    async def play(ledger: Ledger) -> int:
        return await ledger.prune(AT + 1)

    assert using(tmp_path, play) == 1
    keep(tmp_path, [begin(1, AT + 10)], [begin(5, AT + 20)])
    assert [row.outcome for row in kept(tmp_path)[0].rows] == ["", "failed", "failed"]
