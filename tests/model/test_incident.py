"""Incidents laid out."""

import msgspec
import pytest

from crewd.model.incident import IncidentState, portrait, state_of
from crewd.model.verdict import Incident

NOW = 1_767_225_600.0
ONE = Incident("r/t", "dead", "critical", "t is dead", NOW, "blue", "r", "t")


@pytest.mark.parametrize(
    ("more", "state"),
    [
        ({}, IncidentState.OPEN),
        ({"acknowledged_by": "anna", "acknowledged_at": NOW}, IncidentState.ACKNOWLEDGED),
        ({"snoozed_until": NOW + 1}, IncidentState.SNOOZED),
        ({"snoozed_until": NOW}, IncidentState.OPEN),
        ({"acknowledged_at": NOW, "snoozed_until": NOW + 1}, IncidentState.SNOOZED),
        ({"acknowledged_at": NOW, "snoozed_until": NOW - 1}, IncidentState.ACKNOWLEDGED),
        ({"acknowledged_at": NOW, "snoozed_until": NOW + 1, "resolved_at": NOW}, IncidentState.RESOLVED),
    ],
)
def test_the_state_of_an_incident(more: dict[str, object], state: IncidentState) -> None:
    one = msgspec.structs.replace(ONE, **more)
    assert state_of(one, NOW) is state
    assert portrait(one, NOW)["state"] == state.value


def test_times_are_written_as_everywhere_and_what_is_unknown_is_null() -> None:
    told = portrait(msgspec.structs.replace(ONE, snoozed_until=NOW + 60, snoozed_by="bo"), NOW)
    assert (told["opened_at"], told["snoozed_until"]) == ("2026-01-01T00:00:00.000Z", "2026-01-01T00:01:00.000Z")
    assert (told["resolved_at"], told["acknowledged_by"], told["note"], told["kind"]) == (None, None, None, None)
    assert (told["openings"], told["damped"], told["crew"], told["run_id"], told["task_id"]) == (
        1, False, "blue", "r", "t"
    )  # fmt: skip


def test_what_a_former_crewd_wrote_is_still_understood() -> None:
    old = b'{"subject":"r/t","cause":"dead","severity":"critical","summary":"t is dead","opened_at":1767225600.0,'
    old += b'"crew":"blue","run_id":"r","task_id":"t","resolved_at":null}'
    assert msgspec.json.decode(old, type=Incident) == ONE
