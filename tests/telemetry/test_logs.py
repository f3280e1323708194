import io
import json
import logging
import os
from typing import Any

import pytest
import structlog

from crewd.telemetry import logs
from crewd.telemetry.redact import Redactor


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_own_and_foreign_lines_look_the_same() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    structlog.get_logger("crewd.x").info("run.started", run_id="r1")
    logging.getLogger("somebody").warning("hello %s", "you", extra={"k": 1})
    own, foreign = lines(stream)
    assert own["event"] == "run.started" and own["run_id"] == "r1" and own["logger"] == "crewd.x"
    assert foreign["event"] == "hello you" and foreign["k"] == 1 and foreign["level"] == "warning"
    assert list(own)[:4] == list(foreign)[:4] == ["ts", "level", "event", "logger"]
    assert own["ts"].endswith("Z")


def test_the_level_changes_while_it_runs() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    log = structlog.get_logger("crewd.x")
    log.debug("one")
    logs.set_level("debug")
    log.debug("two")
    logs.set_level("error")
    log.warning("three")
    assert [line["event"] for line in lines(stream)] == ["two"]


def test_libraries_that_chatter_are_heard_only_when_something_is_wrong() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    logging.getLogger("uvicorn.error").info("Started server process")
    logging.getLogger("uvicorn.error").error("broken")
    assert [line["event"] for line in lines(stream)] == ["broken"]


def test_secrets_and_locals_stay_out_of_lines_and_tracebacks() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream, redactor=Redactor(["hunter2-9"]))
    hidden = "only a local " + "x" * 3
    try:
        raise RuntimeError("refused Bearer abcdefghijk hunter2-9")
    except RuntimeError:
        structlog.get_logger("crewd.x").exception("boom", api_key="zzz", deep={"password": "p"})
    text = stream.getvalue()
    for secret in ("abcdefghijk", "hunter2-9", "zzz", '"p"', hidden):
        assert secret not in text
    assert lines(stream)[0]["exception"][0]["exc_type"] == "RuntimeError"


def test_no_value_can_make_a_line_fail_or_begin_another() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    structlog.get_logger("crewd.x").info("a\nb", nan=float("nan"), text="\ud800", thing=object(), deep=[{1: {2}}])
    assert len(lines(stream)) == 1
    assert lines(stream)[0]["nan"] is None


def test_a_person_at_a_terminal_sees_no_control_characters_of_strangers() -> None:
    stream = io.StringIO()
    logs.configure(logs.LogOptions(format="console"), stream)
    structlog.get_logger("crewd.x").warning("run.failed", crew="\x1b[2Jgone\r\nfake line")
    logging.getLogger("somebody").warning("\x1b[2Jgone\nfake line")
    assert "\x1b" not in stream.getvalue() and stream.getvalue().count("\n") == 2


def test_lines_for_the_journal_begin_with_their_priority(tmp_path: Any) -> None:
    with open(tmp_path / "journal", "w+") as stream:
        seen = os.fstat(stream.fileno())
        logs.configure(stream=stream, environ={"JOURNAL_STREAM": f"{seen.st_dev}:{seen.st_ino}"})
        log = structlog.get_logger("crewd.x")
        log.error("bad")
        log.warning("so so")
        log.info("fine")
        stream.seek(0)
        text = stream.read().splitlines()
    assert [line[:3] for line in text] == ["<3>", "<4>", "<6>"]
    assert json.loads(text[0][3:])["event"] == "bad"


def test_a_journal_variable_inherited_from_elsewhere_changes_nothing() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream, environ={"JOURNAL_STREAM": "8:1"})
    structlog.get_logger("crewd.x").info("fine")
    assert stream.getvalue().startswith("{")


@pytest.mark.parametrize(("field", "value"), [("level", "loud"), ("format", "xml")])
def test_options_that_do_not_exist_are_refused_with_those_that_do(field: str, value: str) -> None:
    with pytest.raises(ValueError, match=rf"log\.{field} is '{value}': give"):
        logs.LogOptions(**{field: value})  # type: ignore[arg-type]  # one of several fields, by name


def test_a_level_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="no log level"):
        logs.set_level("loud")
