"""Is the process behind a pid the one that is meant? What outweighs what, and what can never be concluded."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewd.detection.identity import START_SLACK, Here, recognise, same_process
from crewd.model.process import Identity, ProcessClaim, ProcessFacts, ProcessState

BOOTED_AT = 1_767_000_000.0
STARTED_AT = BOOTED_AT + 5000.0
HERE = Here(host="a", boot_id="boot-2", pid_namespace=1, booted_at=BOOTED_AT)
IDENTITY = Identity(pid=700, start_ticks=500_000, boot_id="boot-2", pid_namespace=1)
OTHER = Identity(pid=700, start_ticks=900_000, boot_id="boot-2", pid_namespace=1)
MARK = "PI_CREW_TASK_ID=task-1"
DAY = 86_400.0

ALIVE, STOPPED, GONE, HIDDEN = ProcessState.ALIVE, ProcessState.STOPPED, ProcessState.EXITED, ProcessState.HIDDEN


def claim(**more: Any) -> ProcessClaim:
    return ProcessClaim(**{"pid": 700, "recorded_at": STARTED_AT + 1.0, "marks": (MARK,), **more})


def facts(**more: Any) -> ProcessFacts:
    known: dict[str, Any] = {
        "identity": IDENTITY,
        "letter": "S",
        "parent": 1,
        "cpu_ticks": 10,
        "started_at": STARTED_AT,
        "mine": True,
        "marks_found": (MARK,),
    }
    return ProcessFacts(**{**known, **more})


UNMARKED: dict[str, Any] = {"marks": ()}
NO_MARKS_FOUND: dict[str, Any] = {"marks_found": ()}
NOT_MINE: dict[str, Any] = {"mine": False, "marks_found": ()}


@pytest.mark.parametrize(
    ("claimed", "shown", "state", "why"),
    [
        # it is the one
        (claim(), facts(), ALIVE, "alive"),
        (claim(), facts(letter="R"), ALIVE, "alive"),
        (claim(), facts(letter="D"), ALIVE, "alive"),
        (claim(), facts(letter="I"), ALIVE, "alive"),
        (claim(), facts(letter="T"), STOPPED, "stopped"),
        (claim(), facts(letter="t"), STOPPED, "stopped"),
        (claim(marks=(MARK, "--run-id=run-1")), facts(), ALIVE, "alive"),  # one of its marks is enough
        (claim(**UNMARKED), facts(**NO_MARKS_FOUND), ALIVE, "alive"),
        (claim(), facts(**NOT_MINE), ALIVE, "alive"),  # another user's: EPERM means that it exists
        (claim(recorded_at=None), facts(**NOT_MINE), ALIVE, "alive"),
        (claim(start_ticks=500_000), facts(), ALIVE, "alive"),
        (claim(boot_id="boot-2"), facts(), ALIVE, "alive"),
        (claim(pid_namespace=1), facts(), ALIVE, "alive"),
        (claim(host="a"), facts(), ALIVE, "alive"),
        # another container of this pid namespace
        (claim(host="b", boot_id="boot-2", pid_namespace=1), facts(), ALIVE, "alive"),
        (claim(host="b", boot_id="boot-2", pid_namespace=1), None, GONE, "gone"),
        # it has exited
        (claim(), None, GONE, "gone"),
        (claim(), facts(letter="Z"), GONE, "zombie"),
        (claim(), facts(letter="X"), GONE, "zombie"),
        (claim(), facts(letter="x"), GONE, "zombie"),
        (claim(), facts(letter="Z", **NO_MARKS_FOUND), GONE, "zombie"),
        (claim(), facts(**NO_MARKS_FOUND), GONE, "another process"),
        (claim(start_ticks=499_999), facts(), GONE, "another tick"),
        (claim(host="a", boot_id="boot-1"), facts(), GONE, "former boot"),
        (claim(host="a", boot_id="boot-1"), None, GONE, "former boot"),
        (claim(**UNMARKED, recorded_at=BOOTED_AT - START_SLACK - 1), facts(**NO_MARKS_FOUND), GONE, "before this"),
        (claim(**UNMARKED, recorded_at=STARTED_AT - START_SLACK - 1), facts(**NO_MARKS_FOUND), GONE, "started after"),
        (claim(recorded_at=STARTED_AT - START_SLACK - 1), facts(**NOT_MINE), GONE, "started after"),
        # it cannot be seen
        (None, None, HIDDEN, "no process is named"),
        (claim(host="b"), facts(), HIDDEN, "on host b"),
        (claim(host="b"), None, HIDDEN, "on host b"),
        (claim(host="b", boot_id="boot-1"), None, HIDDEN, "on host b"),
        (claim(host="b", boot_id="boot-2", pid_namespace=2), None, HIDDEN, "on host b"),
        (claim(boot_id="boot-1"), None, HIDDEN, "another boot"),  # of which machine, nobody said
        (claim(pid_namespace=2), None, HIDDEN, "pid namespace"),
        (claim(pid_namespace=2), facts(), HIDDEN, "pid namespace"),
        (claim(local=False), None, HIDDEN, "network filesystem"),
        # two machines, or two containers, that bear one name
        (claim(host="a", boot_id="boot-1", local=False), None, HIDDEN, "network filesystem"),
        (claim(host="a", boot_id="boot-1", local=False, pid_namespace=1), facts(), HIDDEN, "network filesystem"),
        (claim(local=False), facts(**NO_MARKS_FOUND), HIDDEN, "network filesystem"),
        (claim(), facts(visible=False, letter="?", **NOT_MINE), HIDDEN, "may not be seen"),
    ],
)
def test_what_is_true_of_the_process_that_a_claim_means(
    claimed: ProcessClaim | None, shown: ProcessFacts | None, state: ProcessState, why: str
) -> None:
    seen = recognise(claimed, shown, None, HERE)
    assert seen.state is state
    assert why in seen.why
    assert seen.identity == (IDENTITY if state in (ALIVE, STOPPED) else None)
    assert seen.letter == (shown.letter if shown is not None and state in (ALIVE, STOPPED) else "")


def test_a_small_disagreement_of_clocks_is_no_reuse() -> None:
    early = claim(marks=(), recorded_at=STARTED_AT - START_SLACK)
    assert recognise(early, facts(marks_found=()), None, HERE).state is ALIVE


def test_an_unread_namespace_differs_from_none() -> None:
    nowhere = msgspec.structs.replace(HERE, pid_namespace=0)
    assert recognise(claim(pid_namespace=2), facts(), None, nowhere).state is ALIVE
    assert recognise(claim(pid_namespace=0), facts(), None, HERE).state is ALIVE


@pytest.mark.parametrize(
    ("claimed", "shown", "state"),
    [
        # A bare pid may be anybody's here: nothing is proven by its absence, its marks, or a process that bears it.
        (claim(), None, HIDDEN),
        (claim(), facts(), HIDDEN),
        (claim(**UNMARKED), facts(**NO_MARKS_FOUND), HIDDEN),
        (claim(), facts(**NO_MARKS_FOUND), HIDDEN),
        (claim(), facts(letter="Z"), HIDDEN),
        (claim(start_ticks=499_999), facts(), HIDDEN),
        # Namespaces of two machines bear the same numbers, and one machine has many namespaces.
        (claim(pid_namespace=1), None, HIDDEN),
        (claim(boot_id="boot-2"), None, HIDDEN),
        (claim(boot_id="boot-2", pid_namespace=2), None, HIDDEN),
        # It names this very place.
        (claim(boot_id="boot-2", pid_namespace=1), facts(), ALIVE),
        (claim(boot_id="boot-2", pid_namespace=1), None, GONE),
    ],
)
def test_what_is_said_to_live_elsewhere_is_seen_only_where_its_record_names_this_place(
    claimed: ProcessClaim, shown: ProcessFacts | None, state: ProcessState
) -> None:
    blind = msgspec.structs.replace(HERE, sees=False)
    assert recognise(claimed, shown, None, blind).state is state


def test_where_not_even_the_own_namespace_can_be_read_every_process_is_elsewhere() -> None:
    blind = msgspec.structs.replace(HERE, sees=False, pid_namespace=0)
    assert recognise(claim(boot_id="boot-2", pid_namespace=0), None, None, blind).state is HIDDEN
    nameless = msgspec.structs.replace(HERE, sees=False, boot_id="")
    assert recognise(claim(boot_id="", pid_namespace=1), None, None, nameless).state is HIDDEN


# --- what crewd saw itself outweighs what is written


@pytest.mark.parametrize(
    "claimed",
    [
        claim(start_ticks=1),
        claim(marks=("NOT=there",)),
        claim(marks=(), recorded_at=BOOTED_AT - 10 * DAY),
        claim(marks=(), recorded_at=STARTED_AT - 10 * DAY),
        claim(local=False),
    ],
)
def test_a_remembered_identity_outweighs_everything_written(claimed: ProcessClaim) -> None:
    unmarked = facts(marks_found=())
    assert recognise(claimed, unmarked, IDENTITY, HERE).state is ALIVE
    assert recognise(claimed, unmarked, OTHER, HERE).state is GONE
    # It was of this machine, whatever filesystem its folder is on.
    rebooted = msgspec.structs.replace(claimed, host="a", boot_id="boot-1", local=False)
    assert recognise(rebooted, None, IDENTITY, HERE).state is GONE


def test_another_process_with_the_same_pid_is_known_even_by_the_right_marks() -> None:
    # A child of the worker inherits its environment; with the pid of its parent it is still another process.
    seen = recognise(claim(), facts(), OTHER, HERE)
    assert seen.state is GONE
    assert "another process since" in seen.why


@settings(deadline=None)
@given(
    recorded_at=st.none() | st.floats(min_value=0.0, max_value=4e9),
    start_ticks=st.none() | st.integers(min_value=0, max_value=2**40),
    marks=st.sampled_from([(), (MARK,), ("NOT=there",)]),
    found=st.booleans(),
    mine=st.booleans(),
    local=st.booleans(),
    started_at=st.floats(min_value=0.0, max_value=4e9),
    letter=st.sampled_from("RSDTtI"),
)
def test_no_writing_and_no_clock_makes_a_remembered_process_another(
    recorded_at: float | None,
    start_ticks: int | None,
    marks: tuple[str, ...],
    found: bool,
    mine: bool,
    local: bool,
    started_at: float,
    letter: str,
) -> None:
    claimed = ProcessClaim(700, recorded_at, marks, start_ticks, local=local)
    shown = facts(letter=letter, started_at=started_at, mine=mine, marks_found=(MARK,) if found else ())
    assert recognise(claimed, shown, IDENTITY, HERE).state in (ALIVE, STOPPED)


@pytest.mark.parametrize("step", [DAY, -DAY, 365 * DAY, -365 * DAY])
def test_a_step_of_the_wall_clock_never_makes_a_living_marked_process_another(step: float) -> None:
    # The kernel tells starts since boot: after a step, both the start and the boot seem to lie elsewhere.
    here = msgspec.structs.replace(HERE, booted_at=BOOTED_AT + step)
    assert recognise(claim(), facts(started_at=STARTED_AT + step), None, here).state is ALIVE


@settings(deadline=None)
@given(step=st.floats(min_value=-1e9, max_value=1e9), age=st.floats(min_value=-1e9, max_value=1e9))
def test_marks_that_are_found_outweigh_every_clock(step: float, age: float) -> None:
    here = msgspec.structs.replace(HERE, booted_at=BOOTED_AT + step)
    assert (
        recognise(claim(recorded_at=STARTED_AT - age), facts(started_at=STARTED_AT + step), None, here).state is ALIVE
    )


def test_a_zombie_has_exited_even_where_it_is_remembered() -> None:
    assert recognise(claim(), facts(letter="Z"), IDENTITY, HERE).state is GONE


def test_a_process_that_hides_after_it_was_seen_has_not_exited() -> None:
    assert recognise(claim(), facts(visible=False, letter="?", mine=False), IDENTITY, HERE).state is HIDDEN


# --- work that goes on without its process


@pytest.mark.parametrize(("beats", "state"), [(0, GONE), (1, GONE), (2, HIDDEN), (9, HIDDEN)])
@pytest.mark.parametrize("shown", [None, facts(letter="Z"), facts(marks_found=())])
def test_work_that_goes_on_after_its_pid_is_gone_is_done_elsewhere(
    beats: int, state: ProcessState, shown: ProcessFacts | None
) -> None:
    assert recognise(claim(), shown, None, HERE, beats_after_gone=beats).state is state


# --- sightings


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ({}, True),
        ({"pid": 701}, False),
        ({"start_ticks": 500_001}, False),
        ({"boot_id": "boot-3"}, False),
        ({"pid_namespace": 2}, False),
        ({"pid_namespace": 0}, True),
    ],
)
def test_two_sightings_are_of_one_process_only_if_everything_agrees(other: dict[str, Any], same: bool) -> None:
    sighting = msgspec.structs.replace(IDENTITY, **other)
    assert same_process(IDENTITY, sighting) is same
    assert same_process(sighting, IDENTITY) is same


claims = st.none() | st.builds(
    ProcessClaim,
    pid=st.just(700),
    recorded_at=st.none() | st.floats(min_value=0.0, max_value=4e9),
    marks=st.sampled_from([(), (MARK,)]),
    start_ticks=st.none() | st.sampled_from([500_000, 1]),
    boot_id=st.none() | st.sampled_from(["boot-1", "boot-2"]),
    pid_namespace=st.none() | st.sampled_from([0, 1, 2]),
    host=st.none() | st.sampled_from(["a", "b"]),
    local=st.booleans(),
)
sightings = st.none() | st.builds(
    facts,
    letter=st.sampled_from("RSDTtZXI"),
    started_at=st.floats(min_value=0.0, max_value=4e9),
    mine=st.booleans(),
    marks_found=st.sampled_from([(), (MARK,)]),
    visible=st.booleans(),
)


@settings(deadline=None)
@given(claimed=claims, shown=sightings, remembered=st.none() | st.sampled_from([IDENTITY, OTHER]))
def test_what_cannot_be_seen_from_here_is_never_said_to_have_exited(
    claimed: ProcessClaim | None, shown: ProcessFacts | None, remembered: Identity | None
) -> None:
    seen = recognise(claimed, shown, remembered, HERE)
    # Whoever names this boot and this namespace is here, whatever its container calls itself.
    here = claimed is not None and (claimed.boot_id, claimed.pid_namespace) == ("boot-2", 1)
    elsewhere = claimed is None or (claimed.host == "b" and not here) or claimed.pid_namespace == 2
    if elsewhere or (claimed is not None and claimed.host is None and claimed.boot_id == "boot-1"):
        assert seen.state is HIDDEN
    if seen.state in (ALIVE, STOPPED):
        assert shown is not None
        assert seen.identity == shown.identity
    assert seen.why
