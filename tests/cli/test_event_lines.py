"""Events in lines: what stands where on a screen, and what a stranger's text may do to it."""

from typing import Any

import pytest

from crewd.cli.event_lines import screen_line, whole_line
from crewd.cli.screen import plain

RUN = "team_20261121035516_22db63c76ae12db2"
CHANGED = {
    "v": 1,
    "seq": 19,
    "ts": "2026-11-21T03:55:24.067Z",
    "type": "worker.level_changed",
    "run_id": RUN,
    "task_id": "02_write",
    "data": {
        "from_level": "warn",
        "to_level": "stale",
        "reason": "silent",
        "because": "silent for 10 s",
        "rounds": 2,
    },
}


def told(width: int, **changes: Any) -> str:
    return plain(screen_line({**CHANGED, **changes}, width))


def test_a_change_of_level_is_told_in_words_before_the_edge() -> None:
    line = told(80)
    assert line.startswith(
        "03:55:24     19  worker.level_changed  …e12db2/02_write  warn → stale (silent) silent for 10 s"
    )
    assert line.endswith("rounds=2")


@pytest.mark.parametrize(("width", "name"), [(80, "…e12db2/"), (159, "…e12db2/"), (160, f"{RUN}/")])
def test_a_run_is_named_whole_where_there_is_room(width: int, name: str) -> None:
    assert name in told(width)


def test_a_short_name_is_not_shortened() -> None:
    assert " r-1/02_write" in told(80, run_id="r-1")


def test_a_sentence_comes_before_the_facts() -> None:
    line = told(80, type="incident.opened", data={"subject": "x", "summary": "02_write is dead"})
    assert line.endswith("  02_write is dead  subject=x")


def test_an_event_of_crewd_itself_names_no_run() -> None:
    bare = {"seq": 1, "ts": CHANGED["ts"], "type": "daemon.started", "data": {"pid": 7}}
    assert plain(screen_line(bare, 80)) == "03:55:24      1  daemon.started        pid=7"


def test_off_a_screen_nothing_is_left_out() -> None:
    line = plain(whole_line(CHANGED))
    assert line.startswith(
        "2026-11-21T03:55:24.067Z      19  worker.level_changed  " + RUN + "/02_write  from_level=warn"
    )
    assert 'because="silent for 10 s"' in line


@pytest.mark.parametrize("tell", [lambda record: screen_line(record, 80), whole_line])
def test_a_hostile_text_stays_in_its_line(tell: Any) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\r\nfake"
    record = {
        **CHANGED,
        "type": evil,
        "run_id": evil,
        "task_id": evil,
        "data": {evil: evil, "because": evil, "n": [evil]},
    }
    for kind in (evil, "worker.level_changed"):
        for part, _ in tell({**record, "type": kind}):
            assert not set(part) & set("\x1b\x07\x9b\u202e\r\n")
