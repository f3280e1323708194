"""Bundling: what may be part of a mass is kept back for a moment, a proven exit never."""

from crewd.engine.bundling import Bundling
from crewd.model.verdict import Incident

PATIENCE = 30.0


def one(cause: str) -> Incident:
    return Incident("r/t", cause, "warning", cause, 0.0)


def sifted(bundling: Bundling, cause: str, running: float, **more: object) -> bool:
    """Whether the incident may open."""
    known = more.get("known", ())
    assert isinstance(known, tuple)
    patience = PATIENCE if more.get("many", True) else 0.0
    return bool(bundling.sift("r/t", [one(cause)], known, running, patience, bool(more.get("braked"))))


def test_a_silence_waits_for_others_and_then_is_told() -> None:
    bundling = Bundling()
    assert [sifted(bundling, "stopped", running) for running in (100.0, 129.0, 130.0)] == [False, False, True]


def test_where_there_are_few_nothing_waits() -> None:
    assert sifted(Bundling(), "silent", 100.0, many=False)


def test_who_is_part_of_a_mass_has_no_incident_of_its_own_until_that_is_over() -> None:
    bundling = Bundling()
    assert not sifted(bundling, "silent", 100.0)
    assert not sifted(bundling, "silent", 1000.0, braked=True)
    assert not sifted(bundling, "silent", 1005.0), "the others came back just now: it may follow"
    assert sifted(bundling, "silent", 1030.0)


def test_what_is_open_stays_open() -> None:
    assert sifted(Bundling(), "silent", 100.0, known=("silent",), braked=True)


def test_a_death_is_told_at_once() -> None:
    assert sifted(Bundling(), "dead", 100.0) and sifted(Bundling(), "dead", 100.0, braked=True)


def test_a_silence_that_was_interrupted_waits_anew() -> None:
    bundling = Bundling()
    assert not sifted(bundling, "silent", 100.0)
    assert bundling.sift("r/t", [], (), 110.0, PATIENCE, False) == []
    assert not sifted(bundling, "silent", 135.0)
    bundling.forget("r/t")
    assert not sifted(bundling, "silent", 200.0)
