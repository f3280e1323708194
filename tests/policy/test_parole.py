"""Parole: a dead letter is offered again only when a probe says that its own cause has passed, one canary first."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.model.failure import ErrorClass
from crewd.model.look import DeadLetter
from crewd.policy.parole import Offer, Probes, on_parole

ALL_WELL = Probes(frozenset({"anthropic", "openai"}), True, {"API_KEY": 150.0}, now=200.0)
NOTHING_PASSED = Probes(frozenset(), False, {}, now=200.0)


def letter(key: str, error_class: str, at: float | None = 100.0, **more: Any) -> DeadLetter:
    fields = {"runtime": "managed", "fingerprint": "f1", **more}
    return DeadLetter("run-1", key, "max-retries", "", 3, "it failed", at, key=key, error_class=error_class, **fields)


CURABLE = {
    ErrorClass.RATE_LIMITED: {"circuit": "anthropic"},
    ErrorClass.PROVIDER_ERROR: {"circuit": "anthropic"},
    ErrorClass.DISK_FULL: {},
    ErrorClass.AUTH_ERROR: {"secrets": ["API_KEY"]},
}


@pytest.mark.parametrize(
    ("error_class", "why"),
    [
        (ErrorClass.RATE_LIMITED, "the circuit anthropic is closed again"),
        (ErrorClass.PROVIDER_ERROR, "the circuit anthropic is closed again"),
        (ErrorClass.DISK_FULL, "the disk has room again"),
        (ErrorClass.AUTH_ERROR, "the credential API_KEY was changed since"),
    ],
)
def test_what_a_probe_says_has_passed_is_offered(error_class: ErrorClass, why: str) -> None:
    dead = letter("a", error_class, evidence=CURABLE[error_class])
    assert on_parole([dead], ALL_WELL) == [Offer("f1", ("a",), "a", why)]
    assert on_parole([dead], NOTHING_PASSED) == []


@pytest.mark.parametrize("error_class", sorted(set(ErrorClass) - set(CURABLE)))
def test_what_has_no_probe_is_never_offered(error_class: ErrorClass) -> None:
    evidence = {"circuit": "anthropic", "secrets": ["API_KEY"]}
    assert on_parole([letter("a", error_class, evidence=evidence)], ALL_WELL) == []


@pytest.mark.parametrize(
    "evidence",
    [{}, {"circuit": None}, {"circuit": "other"}, {"circuit": ["anthropic"]}, {"secrets": ["API_KEY"]}],
)
def test_a_letter_that_does_not_name_a_closed_circuit_is_not_offered(evidence: dict[str, object]) -> None:
    assert on_parole([letter("a", ErrorClass.RATE_LIMITED, evidence=evidence)], ALL_WELL) == []


@pytest.mark.parametrize(
    ("at", "changed", "offered"),
    [(100.0, 100.1, True), (100.0, 100.0, False), (100.0, 99.0, False), (100.0, 200.0, True), (100.0, 201.0, False),
     (None, 150.0, False)],
)  # fmt: skip
def test_a_credential_has_to_change_after_the_letter_and_not_in_the_future(
    at: float | None, changed: float, offered: bool
) -> None:
    dead = letter("a", ErrorClass.AUTH_ERROR, at, evidence={"secrets": ["API_KEY"]})
    probes = Probes(frozenset(), False, {"API_KEY": changed}, now=200.0)
    assert bool(on_parole([dead], probes)) is offered


@pytest.mark.parametrize("secrets", [None, "API_KEY", 7, [], ["OTHER"], [["API_KEY"], None]])
def test_only_credentials_that_the_task_has_can_have_been_the_cause(secrets: object) -> None:
    assert on_parole([letter("a", ErrorClass.AUTH_ERROR, evidence={"secrets": secrets})], ALL_WELL) == []


def test_one_changed_credential_of_several_is_enough() -> None:
    dead = letter("a", ErrorClass.AUTH_ERROR, evidence={"secrets": ("OTHER", "API_KEY")})
    assert on_parole([dead], ALL_WELL)[0].why == "the credential API_KEY was changed since"


@pytest.mark.parametrize(
    "more", [{"state": "redriven"}, {"state": "discarded"}, {"runtime": "pi-crew"}, {"evidence": {"paroled": 1}}]
)
def test_what_is_settled_or_not_ours_or_was_on_parole_before_is_not_offered(more: dict[str, Any]) -> None:
    assert on_parole([letter("a", ErrorClass.DISK_FULL, **more)], ALL_WELL) == []


def test_letters_of_one_cause_are_offered_together_behind_the_oldest() -> None:
    letters = [
        letter("a-young", ErrorClass.DISK_FULL, 120.0),
        letter("undated", ErrorClass.DISK_FULL, None),
        letter("also-undated", ErrorClass.DISK_FULL, None),
        letter("other", ErrorClass.DISK_FULL, 115.0, fingerprint="f2"),
        letter("z-old", ErrorClass.DISK_FULL, 110.0),
        letter("x-as-old", ErrorClass.DISK_FULL, 110.0),
    ]
    assert on_parole(letters, ALL_WELL) == [
        Offer(
            "f1",
            ("x-as-old", "z-old", "a-young", "also-undated", "undated"),
            "x-as-old",
            "the disk has room again",
        ),
        Offer("f2", ("other",), "other", "the disk has room again"),
    ]


def test_of_one_kind_only_those_are_offered_whose_own_cause_has_passed() -> None:
    letters = [
        letter("a", ErrorClass.RATE_LIMITED, 101.0, evidence={"circuit": "openai"}),
        letter("b", ErrorClass.RATE_LIMITED, 102.0, evidence={"circuit": "local"}),
        letter("c", ErrorClass.RATE_LIMITED, 103.0, evidence={"circuit": "anthropic"}),
        letter("d", ErrorClass.RATE_LIMITED, 104.0, evidence={"circuit": "openai"}),
    ]
    why = "the circuit openai is closed again; the circuit anthropic is closed again"
    assert on_parole(letters, ALL_WELL) == [Offer("f1", ("a", "c", "d"), "a", why)]


def test_letters_without_a_fingerprint_are_offered_one_by_one() -> None:
    letters = [letter(key, ErrorClass.DISK_FULL, fingerprint="") for key in "ab"]
    assert [offer.keys for offer in on_parole(letters, ALL_WELL)] == [("a",), ("b",)]


letters = st.builds(
    lambda number, **fields: letter(f"k{number}", **fields),
    st.integers(min_value=0, max_value=99),
    error_class=st.sampled_from([*ErrorClass, "made up", ""]),
    at=st.none() | st.floats(min_value=0.0, max_value=200.0),
    state=st.sampled_from(["open", "redriven"]),
    fingerprint=st.sampled_from(["", "f1", "f2"]),
    evidence=st.dictionaries(
        st.sampled_from(["circuit", "secrets", "paroled"]),
        st.sampled_from(["anthropic", "local", ["API_KEY"], [], None, 0, 1]),
    ),
)


@given(st.lists(letters, max_size=12, unique_by=lambda each: each.key), st.sampled_from([ALL_WELL, NOTHING_PASSED]))
def test_each_offered_letter_is_open_and_offered_once(letters: list[DeadLetter], probes: Probes) -> None:
    offers = on_parole(letters, probes)
    offered = [key for offer in offers for key in offer.keys]
    assert len(offered) == len(set(offered))
    assert set(offered) <= {each.key for each in letters if each.state == "open"}
    assert all(offer.canary == offer.keys[0] and offer.why for offer in offers)
    assert not offers or probes is ALL_WELL
