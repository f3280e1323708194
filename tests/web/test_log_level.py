"""The level of the log over HTTP: shown to everybody, changed by whoever may."""

import pytest

from tests.web.world import State, ask, change


def test_everybody_is_told_and_whoever_may_changes_it() -> None:
    state = State()
    assert ask(state, "/-/log-level").json() == {"level": "info", "configured": "info"}
    answer = change(state, "/-/log-level", {"level": "debug"})
    assert answer.status_code == 200
    assert answer.json()["what"] == "crewd logs from debug on until the settings, which say info, are read again"
    assert answer.json()["details"] == {"level": "debug", "configured": "info"}
    assert (state.level, state.level_by) == ("debug", "operator:anna")
    assert change(state, "/-/log-level", {"level": "info"}).json()["what"] == "crewd logs from info on"


@pytest.mark.parametrize("body", [{}, {"level": "loud"}, {"level": None}, {"level": "debug", "for": "1h"}, b"debug"])
def test_what_is_no_level_changes_nothing(body: object) -> None:
    state = State()
    assert change(state, "/-/log-level", body).status_code in (400, 415)
    assert (state.level, state.level_by) == ("info", "")


def test_a_stranger_changes_nothing() -> None:
    state = State()
    assert change(state, "/-/log-level", {"level": "debug"}, peer=None).status_code in (401, 403)
    assert ask(state, "/-/log-level?level=debug").status_code == 400
    assert state.level == "info"
