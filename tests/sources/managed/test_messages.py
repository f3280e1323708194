"""What is a message, what is none, and why."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.sources.managed.framing import TOO_LONG
from crewd.sources.managed.messages import (
    BAD_KINDS,
    BRACKETS_MAX,
    DEPTH_MAX,
    DETAILS_BYTES_MAX,
    TYPES,
    ArtifactMade,
    Bad,
    Busy,
    Cancel,
    Chunk,
    Error,
    Heartbeat,
    Log,
    Ping,
    Pong,
    Ready,
    Result,
    Shutdown,
    TaskMessage,
    Unknown,
    UsageTold,
    capped,
    decode,
    encode,
    output_bytes,
)

ID = "run/task/1"
SOUND = [
    (b'{"type":"ready","protocol":"crewd-worker/1"}', Ready("crewd-worker/1")),
    (b'{"type":"ready","protocol":"x","heartbeat_interval_s":5}', Ready("x", 5.0)),
    (b'{"protocol":"x", "type" : "ready", "heartbeat_interval_s":null}', Ready("x")),
    (b'{"type":"heartbeat","id":"run/task/1","seq":0}', Heartbeat(ID, 0)),
    (b'{"type":"heartbeat","id":"run/task/1","seq":1,"step":"a","progress":[1,2]}', Heartbeat(ID, 1, "a", [1, 2])),
    (b'{"type":"busy","id":"run/task/1","until_s":60,"tool":"make"}', Busy(ID, 60.0, "make")),
    (b'{"type":"chunk","id":"run/task/1","stream":"stderr","text":"x"}', Chunk(ID, "x", "stderr")),
    (b'{"type":"log","level":"info","msg":"x: y"}', Log("x: y")),
    (b'{"type":"artifact","id":"run/task/1","path":"a/b","bytes":3}', ArtifactMade(ID, "a/b", bytes=3)),
    (b'{"type":"usage","id":"run/task/1","model":"m","input_tokens":3}', UsageTold(ID, "m", 3)),
    (b'{"type":"result","id":"run/task/1","output":{"a":[{}]}}', Result(ID, {"a": [{}]})),
    (b'{"type":"result","id":"run/task/1"}', Result(ID)),
    (
        b'{"type":"error","id":"run/task/1","class":"timeout","details":{"a":1}}',
        Error(ID, "timeout", details={"a": 1}),
    ),
    (b'{"type":"error","id":"run/task/1","class":"x","message":null,"guidance":null}', Error(ID, "x")),
    (b'{"type":"pong","later":{"field":[1]}}', Pong()),
    (b'{"type":"sparkle"}', Unknown("sparkle")),
    (b'{"type":"task","id":"run/task/1"}', Unknown("task")),
]


@pytest.mark.parametrize(("line", "message"), SOUND)
def test_a_sound_line_is_a_message(line: bytes, message: object) -> None:
    assert decode(line) == message


def nested(depth: int) -> bytes:
    """A result whose line is so many levels deep."""
    inner = depth - 1
    return b'{"type":"result","id":"run/task/1","output":' + b"[" * inner + b"]" * inner + b"}"


BAD = [
    (TOO_LONG, "line_too_long"),
    (b"hello", "bad_json"),
    (b'{"type":"pong"', "bad_json"),
    (b'{"type":"pong"}x', "bad_json"),
    (b'{"type":"pong","a":01}', "bad_json"),
    (b'{"type":"pong","a":"\x01"}', "bad_json"),
    (b'\xef\xbb\xbf{"type":"pong"}', "bad_json"),
    (b'{"type":"pong","a":' + b"9" * 5000 + b"}", "bad_json"),
    (b'{"type":"pong","a":"\xff"}', "bad_utf8"),
    (b'{"type":"pong","\xff":1}', "bad_utf8"),
    (b"\x7fELF\x02\xff\xfe", "bad_utf8"),
    (b"[1]", "not_object"),
    (b"7", "not_object"),
    (b'"\\ud800"', "not_object"),
    (b'{"type":"result","id":"run/task/1","output":{"v":NaN}}', "nan"),
    (b'{"type":"heartbeat","id":"run/task/1","seq":Infinity}', "nan"),
    (b'{"type":"busy","id":"run/task/1","until_s":1e400}', "nan"),
    (b'{"type":"heartbeat","id":"run/task/1","seq":1,"seq":2}', "duplicate_key"),
    (b'{"type":"pong","type":"pong"}', "duplicate_key"),
    (b'{"type":"pong","a":1,"\\u0061":1}', "duplicate_key"),
    (b'{"type":"result","id":"run/task/1","output":{"a":[{"b":1,"b":1}]}}', "duplicate_key"),
    # The text that the lost key leaves is as long as before, for the numbers are written shorter.
    (b'{"type":"result","id":"x","output":{"a":1,"a":2,"n":[1e2,1e2,1e2]}}', "duplicate_key"),
    (nested(DEPTH_MAX + 1), "too_deep"),
    (nested(900), "too_deep"),
    (nested(100_000), "too_deep"),
    (b"[" * (BRACKETS_MAX + 1), "too_deep"),
    (b'{"type":"pong","a":[' + b"[]," * BRACKETS_MAX + b"1]}", "too_deep"),
    (b'{"kind":"pong"}', "bad_field"),
    (b'{"type":7}', "bad_field"),
    (b'{"type":null}', "bad_field"),
    (b'{"type":"ready"}', "bad_field"),
    (b'{"type":"ready","protocol":"x","heartbeat_interval_s":0}', "bad_field"),
    (b'{"type":"ready","protocol":"x","heartbeat_interval_s":3601}', "bad_field"),
    (b'{"type":"heartbeat","id":"run/task/1"}', "bad_field"),
    (b'{"type":"heartbeat","id":"run/task/1","seq":true}', "bad_field"),
    (b'{"type":"heartbeat","id":"run/task/1","seq":-1}', "bad_field"),
    (b'{"type":"heartbeat","id":"run/task/1","seq":"1"}', "bad_field"),
    (b'{"type":"heartbeat","id":"run/task/1","seq":99999999999999999999}', "bad_field"),
    (b'{"type":"heartbeat","id":7,"seq":1}', "bad_field"),
    (b'{"type":"busy","id":"run/task/1","until_s":-1}', "bad_field"),
    (b'{"type":"busy","id":"run/task/1","until_s":false}', "bad_field"),
    (b'{"type":"usage","id":"run/task/1","cost_usd":true}', "bad_field"),
    (b'{"type":"usage","id":"run/task/1","cost_usd":1e300}', "bad_field"),
    (b'{"type":"artifact","id":"run/task/1","path":""}', "bad_field"),
    (b'{"type":"artifact","id":"run/task/1","path":"a\\u0000b"}', "bad_field"),
    (b'{"type":"artifact","id":"run/task/1","path":"a","sha256":"zz"}', "bad_field"),
    (b'{"type":"error","id":"run/task/1"}', "bad_field"),
    (b'{"type":"error","id":"run/task/1","class":"x","retryable":1}', "bad_field"),
    (b'{"type":"error","id":"run/task/1","class":"x","details":[]}', "bad_field"),
]


@pytest.mark.parametrize(("line", "kind"), BAD)
def test_a_line_that_is_no_message_has_a_kind_and_words(line: Any, kind: str) -> None:
    bad = decode(line)
    assert isinstance(bad, Bad), bad
    assert bad.kind == kind
    assert bad.kind in BAD_KINDS
    assert bad.words
    assert len(bad.words) < 600


def test_the_deepest_line_that_is_allowed_is_read() -> None:
    assert isinstance(decode(nested(DEPTH_MAX)), Result)
    # With brackets enough beside it that they must be looked at one by one.
    assert isinstance(decode(nested(DEPTH_MAX)[:-1] + b',"more":[[],[],[]]}'), Result)


def test_brackets_within_texts_are_not_nesting() -> None:
    text = "[{" * 500 + '"\\'
    assert decode(encode(Chunk(ID, text))[:-1]) == Chunk(ID, text)


def test_a_result_whose_emoji_was_cut_in_half_is_not_lost() -> None:
    # JSON.stringify("😀".slice(0, 1)), which no strict decoder takes.
    assert decode(b'{"type":"result","id":"x","output":"a\\ud83d","n":["\\ude00"]}') == Result("x", "a\ufffd")
    assert decode(b'{"type":"result","id":"x","output":"\\ud83d\\ude00"}') == Result("x", "😀")


def test_a_cut_emoji_does_not_hide_a_second_key() -> None:
    bad = decode(b'{"type":"result","id":"x","output":"\\ud83d","output":"b"}')
    assert isinstance(bad, Bad) and bad.kind == "duplicate_key"


def test_line_separators_stay_in_their_text() -> None:
    text = "one\u2028two\u2029three\u0085four\r\n"
    (line, rest) = encode(Result(ID, text)).split(b"\n")
    assert rest == b""
    assert decode(line) == Result(ID, text)


def test_texts_are_cut_and_never_within_a_word() -> None:
    message = "word " * 2000 + "secret"
    error = decode(encode(Error(ID, "timeout", message, guidance=message)))
    assert isinstance(error, Error)
    assert 4000 < len(error.message) <= 4096
    assert set(error.message.split()) == {"word"}
    assert len(error.guidance) <= 4096
    log = decode(encode(Log("word " * 2000)))
    assert isinstance(log, Log) and len(log.msg) <= 4096
    long = decode(b'{"type":"' + b"x" * 500 + b'"}')
    assert long == Unknown("x" * 64)


def test_what_crewd_says_is_compact_and_begins_with_type_and_id() -> None:
    task = TaskMessage(id=ID, run_id="run", task_id="task", attempt=1, fence=3, payload={"a": "b c"})
    assert encode(task) == (
        b'{"type":"task","id":"run/task/1","v":1,"run_id":"run","task_id":"task","attempt":1,"fence":3,"kind":"task",'
        b'"payload":{"a":"b c"},"deadline_s":null,"variants":{},"traceparent":""}\n'
    )
    assert (
        encode(Cancel(ID, "enough", 5.0)) == b'{"type":"cancel","id":"run/task/1","reason":"enough","grace_s":5.0}\n'
    )
    assert (encode(Ping()), encode(Shutdown())) == (b'{"type":"ping"}\n', b'{"type":"shutdown"}\n')
    resumed = msgspec.structs.replace(task, resume={"folder": "x"})
    assert json.loads(encode(resumed))["resume"] == {"folder": "x"}


def test_output_is_kept_as_text_or_as_json() -> None:
    assert [output_bytes(each) for each in (None, "", "é", {"a": 1}, 0)] == [b"", b"", "é".encode(), b'{"a":1}', b"0"]


def test_details_keep_what_fits() -> None:
    small = {"a": 1, "b": "x" * 100}
    assert capped(small) == small
    assert capped({"first": 1, "big": "x" * DETAILS_BYTES_MAX, "last": 2}) == {"first": 1, "last": 2, "cut": True}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from([*TYPES, "sparkle"])
FIELDS = st.sampled_from(
    ["id", "seq", "until_s", "text", "msg", "path", "class", "output", "details", "model", "bytes"]
)


@given(st.binary(max_size=200))
def test_no_bytes_make_it_raise(line: bytes) -> None:
    assert decode(line) is not None


@given(NAMES, st.dictionaries(FIELDS, VALUES, max_size=6))
def test_no_values_in_known_fields_make_it_raise(name: str, value: dict[str, Any]) -> None:
    message = decode(json.dumps({"type": name, **value}).encode())
    if not isinstance(message, Bad | Unknown):
        assert decode(encode(message)) == message


@given(st.lists(st.tuples(st.text(max_size=2), VALUES), max_size=5))
def test_a_key_that_stands_twice_is_always_found(pairs: list[tuple[str, Any]]) -> None:
    body = ",".join(f"{json.dumps(name)}:{json.dumps(value, allow_nan=True)}" for name, value in pairs)
    line = ('{"type":"sparkle"' + ("," if body else "") + body + "}").encode()
    twice = len({name for name, _ in pairs} | {"type"}) != len(pairs) + 1
    has_nan = b"NaN" in line or b"Infinity" in line
    message = decode(line)
    if twice:
        assert isinstance(message, Bad)
    elif not has_nan:
        assert message == Unknown("sparkle")
