"""Mutated lines of genuine runs, in any order and on any stream, cost what they say and nothing else."""

import json
import math
import random
from functools import cache
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crewd.model.agent import AgentView
from crewd.model.failure import Exit, Failure
from crewd.model.run import Usage
from crewd.policy.profiles import PROFILES
from crewd.sources.agents.readers import READERS
from crewd.sources.agents.story import OPEN_MAX, NotUnderstood, Story, Stream
from crewd.sources.managed.framing import TOO_LONG, TooLong
from tests.agents.cases import Heard, here

NAMES_MOST = 64  # kinds of anything that are told apart by name
TEXT_MOST = 16 * 1024  # characters of anything that is kept to be shown
EXITS = (Exit(0), Exit(1), Exit(41), Exit(143), Exit(173), Exit(255), Exit(signal=9), Exit(signal=15), Exit())
WEIRD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 7.5, -0.0, 1e308, -1e308, 10**400, 2**63, -(2**64), "", "x" * 5000, "429", "\ud800",
    "\x00", "401: {", "Reconnecting... 999999999999/5 (try again in 1e999s)", "retry after NaNs", [], {}, [[[[]]]],
    {"type": {"type": []}}, [None, {"id": None}], {"id": 7, "name": [], "input": "x"},
)  # fmt: skip
WORDS = (
    b"Attempt 99999999999999999999 failed: Suggested retry after 999999999999999999999s.. Retrying after 1e9ms...",
    b"Attempt -1 failed with status 99999. Retrying with backoff...",
    b"\xff\xfe\x00{}", b"[" * 3000, b'{"type":' * 500, b'{"type":"result"', b'"', b"nul", b"NaN", b"-Infinity",
    b'{"type":"system","subtype":"api_retry","retry_delay_ms":-5}', b'{"type":"error","message":"Reconnecting... "}',
    b'{"type":"rate_limit_event","rate_limit_info":{"status":"rejected","resetsAt":1e300}}',
    b'{"type":"auto_retry_start","delayMs":1e300,"errorMessage":"429: try again in 99999999999999999h"}',
    b'{"type":"turn.completed","usage":{"input_tokens":-5,"cached_input_tokens":99999999999999999999}}',
)  # fmt: skip


@cache
def lines_of(profile: str) -> tuple[Heard, ...]:
    """Every line of this program, each once, in no order."""
    found = {heard.line: heard for case in here() if case.profile == profile for heard in case.heard}
    return tuple(found.values())


@cache
def lines_of_all() -> tuple[Heard, ...]:
    return tuple(heard for profile in sorted(READERS) for heard in lines_of(profile))


def bend(value: Any, dice: random.Random) -> Any:
    """The same document with one thing in it that is not as it should be."""
    if isinstance(value, dict) and value and dice.random() < 0.85:
        name = dice.choice(list(value))
        fate = dice.random()
        if fate < 0.1:
            return {key: each for key, each in value.items() if key != name}
        if fate < 0.2:
            return {**value, name + "_v2": value[name]}
        return {**value, name: bend(value[name], dice)}
    if isinstance(value, list) and value and dice.random() < 0.85:
        place = dice.randrange(len(value))
        return [
            *value[:place],
            bend(value[place], dice),
            *value[place + 1 :],
            *(value if dice.random() < 0.1 else []),
        ]
    return dice.choice(WEIRD)


def mutated(line: bytes, dice: random.Random) -> bytes | TooLong:
    fate = dice.random()
    if fate < 0.25:
        return line
    if fate < 0.65:
        try:
            return json.dumps(bend(json.loads(line), dice)).encode("utf-8", "surrogatepass")
        except (ValueError, RecursionError):
            return line + b"\xff"
    if fate < 0.75:
        return line[: dice.randrange(len(line) + 1)]
    if fate < 0.85 and line:
        place = dice.randrange(len(line))
        return line[:place] + bytes([dice.randrange(256)]) + line[place + 1 :]
    if fate < 0.95:
        return dice.choice(WORDS)
    if fate < 0.97:
        return TOO_LONG
    return dice.randbytes(dice.randrange(200))


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(
    profile=st.sampled_from(sorted(READERS)),
    seed=st.integers(min_value=0, max_value=2**32),
    length=st.integers(min_value=0, max_value=60),
    foreign=st.booleans(),
    has_base=st.booleans(),
)
def test_no_line_whatever_it_holds_takes_a_story_down(
    profile: str, seed: int, length: int, foreign: bool, has_base: bool
) -> None:
    dice = random.Random(seed)
    base = Usage(10**9, 10**9, 10**9, 10**9, 99.0) if has_base else None
    story = Story(PROFILES[profile], base, base.cost_usd if base is not None else None)
    pool = lines_of_all() if foreign or not lines_of(profile) else lines_of(profile)
    streams: list[Stream] = ["stdout", "stderr", "session"]
    for number in range(length):
        heard = dice.choice(pool)
        stream = heard.stream if dice.random() < 0.8 else dice.choice(streams)
        signs = story.hear(stream, mutated(heard.line, dice), float(number), 1_795_224_000.0 + number)
        assert isinstance(signs, list)
        for sign in signs:
            failure = story.is_permanent(sign)
            assert failure is None or is_sane(failure)
        assert_sane(story.view(float(number)))
    view = story.view(1e9)
    assert_sane(view)
    assert view.throttled_until is None or view.throttled_until > 1e9
    for exit in EXITS:
        outcome = story.outcome(exit)
        assert outcome is None or isinstance(outcome, NotUnderstood) or is_sane(outcome)
        # Whatever was heard: without a terminal event nobody succeeded, nor with a bad exit.
        assert outcome is not None or (view.ended and exit in (Exit(0), Exit()))


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(profile=st.sampled_from(sorted(READERS)), seed=st.integers(min_value=0, max_value=2**32))
def test_what_is_kept_stays_within_its_bounds(profile: str, seed: int) -> None:
    """Thousands of lines, each with ids, names and types of its own."""
    dice = random.Random(seed)
    story = Story(PROFILES[profile])
    pool = lines_of(profile) or lines_of_all()
    for number in range(2_000):
        heard = dice.choice(pool)
        own = heard.line.replace(b'":"', b'":"%d-' % number, dice.randrange(6))
        story.hear(heard.stream, own.replace(b"mock", b"%d" % number), float(number), 0.0)
    assert_sane(story.view(0.0))


def assert_sane(view: AgentView) -> None:
    assert len(view.tools) <= OPEN_MAX
    assert len(view.unknown) <= NAMES_MOST
    assert len(view.denied) <= NAMES_MOST
    assert view.tools_new <= view.tools_begun
    assert view.noise >= 0 and view.lines >= 0
    assert (
        max(map(len, (view.session, view.model, view.version, view.looped, *view.denied, *view.unknown))) < TEXT_MOST
    )
    assert all(len(tool.id) < TEXT_MOST and len(tool.name) < TEXT_MOST for tool in view.tools)
    for used in (view.usage, view.thread_usage):
        if used is not None:
            assert min(used.input, used.output, used.cache_read, used.cache_write) >= 0
            assert used.cost_usd is None or (used.cost_usd >= 0 and math.isfinite(used.cost_usd))
    assert view.throttled_until is None or not math.isnan(view.throttled_until)
    assert min(view.moves, view.beats, view.repeats, view.errors_repeated, view.tokens_since_new) >= 0
    assert view.refused is None or is_sane(view.refused)
    # It can be stored and shown: no half characters, no number that JSON does not have.
    assert msgspec.json.decode(msgspec.json.encode(view)) is not None


def is_sane(failure: Failure) -> bool:
    wait = failure.retry_after
    assert wait is None or (wait >= 0 and math.isfinite(wait))
    assert len(failure.message) < TEXT_MOST
    assert msgspec.json.encode(failure)
    return True
