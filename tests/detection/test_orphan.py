"""Only proof makes an orphan, and any doubt spares a process."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.detection.identity import Here
from crewd.detection.orphan import LEAVING, proven, search
from crewd.model.orphan import (
    ATTEMPT_DIR,
    BROKER_RUN_ID,
    EVENTS_PATH,
    MARKS,
    RUN_ID,
    STATE_ROOT,
    TASK_ID,
    Bystander,
    Known,
    Owner,
    Proof,
    Recorded,
    Spared,
)
from crewd.model.process import Identity

NOW = 10_000.0
ENDED_AT = 9_000.0
HERE = Here("host", "boot", 1, booted_at=1_000.0)
ENDED, LIVE = "/crews/state/runs/r-ended", "/crews/state/runs/r-live"
OVER, AT_WORK = "/state/runs/m/t/1", "/state/runs/m/t/2"
OWNERS = {
    ENDED: Owner("pi_crew", "r-ended", ENDED, began_at=5_000.0, ended_at=ENDED_AT),
    LIVE: Owner("pi_crew", "r-live", LIVE, began_at=5_000.0),
    OVER: Owner("managed", "m", OVER, "t", 5_000.0, ENDED_AT),
    AT_WORK: Owner("managed", "m", AT_WORK, "t"),
}
IDS = {owner.run_id: (owner,) for owner in OWNERS.values() if not owner.task_id}
KNOWN = Known(OWNERS, IDS)


def process(pid: int = 40, *marks: tuple[str, str], parent: int = 1, **more: Any) -> Bystander:
    identity = Identity(pid, 600_000 + pid, "boot", 1)
    return Bystander(identity, "node", more.pop("letter", "S"), parent, 6_000.0, 100, marks, **more)


def judged(each: Bystander, known: Known = KNOWN, now: float = NOW) -> Proof | Spared | None:
    return proven(each, known, HERE, now)


@pytest.mark.parametrize(
    ("marks", "whose"),
    [
        ([(STATE_ROOT, ENDED)], "r-ended"),
        ([(STATE_ROOT, ENDED + "/"), (RUN_ID, "r-ended"), (TASK_ID, "01")], "r-ended/01"),
        ([(EVENTS_PATH, ENDED + "/events.jsonl")], "r-ended"),
        ([(RUN_ID, "r-ended")], "r-ended"),
        ([(BROKER_RUN_ID, "r-ended"), (TASK_ID, "01")], "r-ended/01"),
        ([(ATTEMPT_DIR, OVER)], "m/t"),
        # An agent below a managed attempt that started a crew of its own: both are over.
        ([(ATTEMPT_DIR, OVER), (STATE_ROOT, ENDED)], "r-ended"),
    ],
)
def test_an_environment_that_names_an_ended_run_is_proof(marks: list[tuple[str, str]], whose: str) -> None:
    proof = judged(process(40, *marks))
    assert isinstance(proof, Proof)
    assert f"{proof.owner.run_id}/{proof.task_id}".rstrip("/") == whose


@pytest.mark.parametrize(
    ("marks", "more", "why"),
    [
        ([(STATE_ROOT, LIVE)], {}, "r-live has not ended"),
        ([(STATE_ROOT, "/elsewhere")], {}, "names nothing that is known"),
        ([(STATE_ROOT, ENDED), (STATE_ROOT, LIVE)], {}, "r-live has not ended"),
        ([(STATE_ROOT, ENDED), (RUN_ID, "r-live")], {}, "r-live has not ended"),
        ([(STATE_ROOT, ENDED), (RUN_ID, "r-other")], {}, "names no run"),
        ([(ATTEMPT_DIR, AT_WORK)], {}, "m/t has not ended"),
        ([(ATTEMPT_DIR, AT_WORK), (STATE_ROOT, ENDED)], {}, "m/t has not ended"),
        ([(ATTEMPT_DIR, "/another/crewd/1"), (STATE_ROOT, ENDED)], {}, "names nothing that is known"),
        ([(STATE_ROOT, ENDED)], {"readable": False}, "could not be read"),
        ([(STATE_ROOT, ENDED)], {"run_argument": "r-nested"}, "arguments name another run"),
    ],
)
def test_any_doubt_spares_a_process(marks: list[tuple[str, str]], more: dict[str, Any], why: str) -> None:
    spared = judged(process(40, *marks, **more))
    assert isinstance(spared, Spared)
    assert why in spared.because


@pytest.mark.parametrize(
    ("started_at", "now", "why"),
    [
        (ENDED_AT + 2.0, NOW, "started after"),
        (6_000.0, ENDED_AT + LEAVING - 1, "ago"),
        (6_000.0, ENDED_AT - 100, "ago"),  # a clock that was set back
        (1_000.0, NOW, "before"),
    ],
)
def test_the_times_must_fit(started_at: float, now: float, why: str) -> None:
    each = msgspec.structs.replace(process(40, (STATE_ROOT, ENDED)), started_at=started_at)
    spared = judged(each, now=now)
    assert isinstance(spared, Spared)
    assert why in spared.because


def test_an_id_that_two_runs_bear_proves_nothing() -> None:
    known = Known(OWNERS, {"r-ended": (OWNERS[ENDED], OWNERS[LIVE])})
    assert isinstance(judged(process(40, (RUN_ID, "r-ended")), known), Spared)
    assert isinstance(judged(process(40, (RUN_ID, "r-ended"), (STATE_ROOT, ENDED)), known), Proof)


@pytest.mark.parametrize("letter", ["Z", "X"])
def test_a_zombie_is_no_orphan(letter: str) -> None:
    assert judged(process(40, (STATE_ROOT, ENDED), letter=letter)) is None


def test_a_pid_that_a_living_run_names_is_spared() -> None:
    known = msgspec.structs.replace(KNOWN, living=frozenset({40}))
    assert isinstance(judged(process(40, (STATE_ROOT, ENDED)), known), Spared)


WORKER = Recorded(ENDED, 40, "01", not_before=5_990.0, recorded_at=6_010.0)
RUNNER = Recorded(ENDED, 40, recorded_at=6_010.0)
BEAT = Recorded(ENDED, 40, "t", start_ticks=600_040, boot_id="boot", pid_namespace=1, host="host")


@pytest.mark.parametrize(
    ("record", "change", "more", "is_proof"),
    [
        (WORKER, {}, {}, True),
        (WORKER, {"recorded_at": 5_995.0}, {}, False),  # started after the record: the pid is reused
        (WORKER, {"not_before": 6_005.0}, {}, False),  # older than the task: somebody else's
        (WORKER, {"not_before": None}, {}, False),
        (WORKER, {"recorded_at": None}, {}, False),
        (WORKER, {"local": False}, {}, False),
        (WORKER, {}, {"run_argument": "r-nested"}, False),
        (WORKER, {}, {"readable": False}, False),
        (RUNNER, {}, {}, False),  # nothing but a number and a time
        (RUNNER, {}, {"run_argument": "r-ended"}, True),
        (BEAT, {}, {}, True),
        (BEAT, {"start_ticks": 7}, {}, False),
        (BEAT, {"boot_id": "former"}, {}, False),
        (BEAT, {"host": "other"}, {}, False),
        (BEAT, {"pid_namespace": 9}, {}, False),
        (BEAT, {"pid": 41}, {}, False),
    ],
)
def test_a_recorded_pid_is_proof_only_with_the_identity(
    record: Recorded, change: dict[str, Any], more: dict[str, Any], is_proof: bool
) -> None:
    record = msgspec.structs.replace(record, **change)
    known = msgspec.structs.replace(KNOWN, recorded={record.pid: (record,)})
    assert isinstance(judged(process(40, **more), known), Proof) is is_proof


def test_a_record_of_a_former_boot_proves_nothing() -> None:
    known = msgspec.structs.replace(KNOWN, recorded={40: (WORKER,)})
    assert proven(process(40), known, msgspec.structs.replace(HERE, booted_at=6_020.0), NOW) is None


def test_where_processes_live_elsewhere_only_a_record_of_this_very_place_is_proof() -> None:
    blind = msgspec.structs.replace(HERE, sees=False)

    def found(record: Recorded) -> bool:
        known = msgspec.structs.replace(KNOWN, recorded={40: (record,)})
        return isinstance(proven(process(40), known, blind, NOW), Proof)

    assert found(BEAT)
    assert not found(WORKER)
    assert not found(msgspec.structs.replace(BEAT, pid_namespace=None))
    assert not found(msgspec.structs.replace(BEAT, boot_id=None))
    blind = msgspec.structs.replace(blind, pid_namespace=0)
    assert not found(msgspec.structs.replace(BEAT, pid_namespace=0)), "where the own one cannot be read, none is it"


def test_neither_crewd_nor_what_is_above_it_is_ever_found() -> None:
    found = search([process(40, (STATE_ROOT, ENDED))], KNOWN, HERE, {40}, NOW)
    assert found.orphans == ()


def test_who_hangs_below_an_orphan_belongs_to_it_and_counts_with_it() -> None:
    tool = process(41, parent=40)
    found = search([process(40, (STATE_ROOT, ENDED)), tool], KNOWN, HERE, (), NOW)
    assert [each.process.identity.pid for each in found.orphans] == [40, 41]
    assert [each.rss_with_children for each in found.orphans] == [200, 100]
    assert "below process 40" in found.orphans[1].proof.because


def test_what_an_orphan_starts_after_the_end_belongs_to_it_and_nobody_elses_does() -> None:
    late = [
        msgspec.structs.replace(process(pid, (STATE_ROOT, ENDED), parent=parent), started_at=ENDED_AT + 50)
        for pid, parent in ((41, 40), (42, 41), (50, 1))
    ]
    found = search([process(40, (STATE_ROOT, ENDED)), *late], KNOWN, HERE, (), NOW)
    assert [each.process.identity.pid for each in found.orphans] == [40, 41, 42]
    assert [each.identity.pid for each, _ in found.spared] == [50]


def test_a_living_run_below_spares_everyone_above_it() -> None:
    nested = process(42, (STATE_ROOT, LIVE), parent=41)
    found = search([process(40, (STATE_ROOT, ENDED)), process(41, parent=40), nested], KNOWN, HERE, (), NOW)
    assert found.orphans == ()
    assert {each.identity.pid for each, _ in found.spared} == {40, 42}


def test_who_hangs_below_a_pid_of_a_living_run_is_spared() -> None:
    known = msgspec.structs.replace(KNOWN, living=frozenset({40}))
    assert search([process(40), process(41, (STATE_ROOT, ENDED), parent=40)], known, HERE, (), NOW).orphans == ()


marks = st.lists(
    st.tuples(st.sampled_from(MARKS), st.sampled_from([ENDED, LIVE, OVER, AT_WORK, "r-ended", "r-live", "x", ""])),
    max_size=4,
)


@given(st.lists(st.tuples(st.integers(2, 9), st.integers(1, 9), marks), max_size=8), st.sets(st.integers(2, 9)))
def test_nobody_who_has_to_do_with_a_living_run_is_found(
    drawn: list[tuple[int, int, list[tuple[str, str]]]], living: set[int]
) -> None:
    processes = [
        process(pid, *said, parent=parent) for pid, (_, parent, said) in {each[0]: each for each in drawn}.items()
    ]
    known = msgspec.structs.replace(KNOWN, living=frozenset(living))
    found = {each.process.identity.pid for each in search(processes, known, HERE, (), NOW).orphans}
    for each in processes:
        if each.identity.pid in living or {LIVE, AT_WORK, "r-live"} & {value for _, value in each.marks}:
            assert each.identity.pid not in found or all(name == TASK_ID for name, _ in each.marks)
            assert each.identity.pid not in living & found


def sighted(*processes: Bystander, living: frozenset[int] = frozenset()) -> tuple[list[int], dict[int, str]]:
    found = search(processes, msgspec.structs.replace(KNOWN, living=living), HERE, (), NOW)
    orphans = [each.process.identity.pid for each in found.orphans]
    return orphans, {each.identity.pid: why.because for each, why in found.spared}


MARK = (STATE_ROOT, ENDED)


def at(process: Bystander, started_at: float) -> Bystander:
    return msgspec.structs.replace(process, started_at=started_at)


def test_a_server_in_which_somebody_opened_a_terminal_later_is_left_alone_with_all_below_it() -> None:
    """A multiplexer that an agent started: every window of it inherits the marks of that run, whoever opens it."""
    server = process(40, MARK, session=40)
    of_agent = process(41, MARK, parent=40, session=41, terminal=7)
    tool = process(42, MARK, parent=41, session=41, terminal=7)
    of_person = at(process(43, MARK, parent=40, session=43, terminal=8), ENDED_AT + 100)
    editor = at(process(44, MARK, parent=43, session=43, terminal=8), ENDED_AT + 200)
    assert sighted(server, of_agent, tool)[0] == [40, 41, 42]  # as long as nobody else uses it, it is the run's
    orphans, spared = sighted(server, of_agent, tool, of_person, editor)
    assert orphans == [] and set(spared) == {40, 41, 42, 43, 44}
    assert "terminal was opened below it" in spared[40] and "process 40, which others use" in spared[42]


@pytest.mark.parametrize(
    ("more", "is_spared"),
    [
        ({"session": 41}, True),
        ({"session": 40}, False),  # the same session: a tool of the agent, with an environment made clean
        ({"session": 0}, False),
        ({"session": 41, "readable": False}, False),  # whose it is cannot be read
    ],
)
def test_a_session_below_without_the_mark_is_somebody_elses(more: dict[str, Any], is_spared: bool) -> None:
    orphans, spared = sighted(process(40, MARK, session=40), process(41, parent=40, **more))
    assert (orphans == []) is is_spared
    assert ("bears no mark" in spared.get(40, "")) is is_spared


def test_who_leads_the_session_of_a_terminal_that_nobody_of_the_run_opened_is_left_alone() -> None:
    """Behind it sits a person: a terminal window that an agent opened, a login that passed the marks on."""
    shell, tool = process(40, MARK, session=40, terminal=7), process(41, MARK, parent=40, session=40, terminal=7)
    assert sighted(shell, tool)[0] == []
    agent = process(30, MARK, session=30)
    assert sighted(agent, process(40, MARK, parent=30, session=40, terminal=7))[0] == [30, 40]  # its own


def test_who_leads_a_session_in_which_a_living_run_works_is_left_alone() -> None:
    """The worker was given to process 1 meanwhile, so that nothing but the session ties them together."""
    server, at_work = process(40, MARK, session=40), process(41, (STATE_ROOT, LIVE), session=40)
    orphans, spared = sighted(server, at_work)
    assert orphans == [] and "process 41 is at work in its session" in spared[40]
    assert sighted(server, process(42, session=40), living=frozenset({42}))[0] == []


def test_a_worker_that_leads_a_session_of_its_own_and_serves_nobody_is_an_orphan_all_the_same() -> None:
    """Whoever started it detached it, and it detaches its tools: that alone is no server."""
    worker = process(40, MARK, session=40)
    tools = process(41, MARK, parent=40, session=41), at(process(42, MARK, parent=40, session=42), ENDED_AT + 9)
    assert sighted(worker, *tools)[0] == [40, 41, 42]
