"""What each error class is met with: one closed table, and words that a person can follow."""

import re

import pytest

from crewd.model.failure import ErrorClass
from crewd.policy.handling import HANDLING, ONCE, handling_of

NO_RETRY = {
    "spawn_failed", "config_invalid", "input_invalid", "auth_error", "budget_exceeded", "disk_full",
    "context_exhausted", "task_error", "gate_failed", "dependency_failed", "cancelled",
}  # fmt: skip
TRIED_ONCE_MORE = {"output_invalid", "output_empty", "protocol_error", "unknown"}
RETRIED = {"timeout", "heartbeat_lost", "worker_crash", "worker_killed", "rate_limited", "provider_error"}


def test_every_class_is_handled_and_none_besides() -> None:
    assert set(HANDLING) == set(ErrorClass)
    assert set(ErrorClass) == NO_RETRY | TRIED_ONCE_MORE | RETRIED


@pytest.mark.parametrize("error_class", ErrorClass)
def test_a_class_is_retried_as_the_table_says(error_class: ErrorClass) -> None:
    handling = handling_of(error_class)
    assert handling.retry == (error_class not in NO_RETRY)
    assert handling.attempts_max == (ONCE if error_class in TRIED_ONCE_MORE else None)


def test_only_what_speaks_of_the_provider_opens_its_circuit() -> None:
    opens = {each for each in ErrorClass if handling_of(each).opens_circuit}
    assert opens == {"rate_limited", "provider_error", "auth_error", "budget_exceeded", "disk_full"}
    assert {each for each in ErrorClass if handling_of(each).pauses} == {"budget_exceeded", "disk_full"}
    assert {each for each in ErrorClass if handling_of(each).waits_for_human} == {"auth_error"}


@pytest.mark.parametrize("error_class", ErrorClass)
def test_guidance_is_whole_sentences_without_gaps_to_fill(error_class: ErrorClass) -> None:
    guidance = handling_of(error_class).guidance
    assert len(guidance) > 80
    assert guidance.endswith(".")
    assert not re.search(r"[{}<>%$]|\b(?:TODO|XXX|RUN|TASK|NAME)\b|\.\.\.|  ", guidance)


def test_no_two_classes_give_the_same_guidance() -> None:
    assert len({handling.guidance for handling in HANDLING.values()}) == len(ErrorClass)
