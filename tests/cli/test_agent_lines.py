"""What is told in few words of an agent, and what is told of it in full."""

from typing import Any

import pytest

from crewd.cli.agent_lines import doing, facts, in_short, used, used_by, used_by_all
from tests.cli.contract import attempt, task

USED = {"input": 1000, "output": 20, "cache_read": 300, "cache_write": 7, "cost_usd": 0.0045, "model": "m"}


def agent(**others: Any) -> dict[str, Any]:
    known = {"understood": True, "session": "s-1", "model": "m-1", "version": "2.1.3", "rung": "fresh"}
    more = {"because": "it is the first attempt", "tools": [], "tools_begun": 0, "moves": 1, "usage": None}
    rest = {"refused": None, "throttled": False, "throttled_for_seconds": None, "denied": []}
    return {**known, **more, **rest, **others}


def at_work(**others: Any) -> dict[str, Any]:
    return task("t", "running", profile="claude", agent=agent(**others))


TOOL = {"name": "Bash", "for_seconds": 65.2}


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        ({}, "waits for its model"),
        ({"session": ""}, "has not said anything yet"),
        ({"tools": [TOOL]}, "in Bash for 1m05s"),
        ({"tools": [TOOL] * 5}, "in Bash for 1m05s, in Bash for 1m05s, in Bash for 1m05s and 2 more"),
        ({"refused": "overloaded"}, "means to ask again: overloaded"),
        ({"throttled": True, "throttled_for_seconds": 3600.0, "refused": "429"}, "throttled, for 1h00m more: 429"),
        ({"throttled": True, "refused": "429"}, "throttled, its provider did not say for how long: 429"),
        ({"understood": False}, "prints what claude is not known to print: judged as any command"),
    ],
)
def test_what_an_agent_does_now_is_a_tool_a_wait_or_its_model(shown: dict[str, Any], words: str) -> None:
    assert doing(at_work(**shown)) == words


def test_nothing_is_told_of_what_is_no_agent() -> None:
    plain = task("t", "running", attempt(1))
    assert (doing(plain), in_short(plain), list(facts(plain))) == ("", "", [])


def test_what_a_tool_is_called_cannot_act_on_a_terminal() -> None:
    words = doing(at_work(tools=[{"name": "\x1b[31m" + "x" * 500, "for_seconds": 1.0}]))
    assert "\x1b" not in words
    assert len(words) < 100


@pytest.mark.parametrize(
    ("usage", "words"),
    [
        (None, ""),
        (USED, "1,027 tokens, 0.0045 USD"),
        (USED | {"cost_usd": None}, "1,027 tokens"),
        (dict.fromkeys(USED, 0) | {"cost_usd": None}, ""),
    ],
)
def test_tokens_are_told_as_budgets_count_them(usage: Any, words: str) -> None:
    assert used(usage) == words


def test_a_cost_of_which_a_killed_attempt_told_none_is_a_lower_bound() -> None:
    killed, whole = {"profile": "claude", "tokens": 1020}, {"profile": "claude", "tokens": 7, "cost_usd": 0.0045}
    for first, words in ((killed, "1,027 tokens, at least 0.0045 USD"), (whole, "1,027 tokens, 0.0045 USD")):
        attempts = attempt(1, "worker_killed", details=first), attempt(2, None, details=whole)
        assert used_by(task("t", "completed", *attempts, usage=USED)) == words


def test_what_all_tasks_used_is_their_sum_and_the_cost_of_those_who_tell_one() -> None:
    tasks = [task("a", "completed", usage=each) for each in (USED, USED | {"cost_usd": None}, None)]
    total = used_by_all(tasks)
    assert total is not None
    assert (total["input"], total["output"], total["cost_usd"]) == (2000, 40, 0.0045)
    assert used_by_all([task("a", "completed")]) is None


def test_an_attempt_at_work_is_told_in_short_with_what_it_resumed_and_used() -> None:
    one = {**at_work(rung="resume", tools=[TOOL]), "usage": USED}
    assert in_short(one) == "in Bash for 1m05s; resumed its session; 1,027 tokens, 0.0045 USD"


def test_everything_is_told_of_the_attempt_at_work() -> None:
    told = dict(facts(at_work(tools=[TOOL], tools_begun=3, denied=["Write"], usage=USED)))
    assert told["agent"] == "claude 2.1.3, model m-1"
    assert (told["does"], told["session"]) == ("in Bash for 1m05s", "s-1")
    assert told["began"] == "afresh: it is the first attempt"
    assert (told["tools"], told["denied"]) == ("3 calls", "Write")


def test_of_a_task_that_is_over_its_last_attempt_is_told() -> None:
    details = {"profile": "codex", "rung": "resume", "session": "s-2", "model": "", "tools": 1, "saved_tokens": 2086}
    told = dict(facts(task("t", "completed", attempt(1), attempt(2, None, details=details), usage=USED)))
    assert told["agent"] == "codex"
    assert told["session"] == "s-2"
    assert told["began"] == "it resumed its session; 2,086 tokens saved"
    assert (told["does"], told["tools"], told["used"]) == ("", "1 call", "1,027 tokens, 0.0045 USD")
