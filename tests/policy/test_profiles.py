"""Profiles: what they hold makes a program supervisable, and never lets it do more."""

import json
from collections.abc import Iterator
from typing import get_args

import pytest

from crewd.config.run_file.fields import ProfileName
from crewd.model.agent import Profile
from crewd.policy.profiles import PLAIN, PROFILES, profile_of
from tests.genuine_agents import CORPUS

AGENTS = [each for each in PROFILES.values() if each.program]
# Whatever lets an agent do more is the operator's word: in any spelling, in no profile.
WIDENS = ("yolo", "danger", "bypass", "skip-perm", "allow", "approv", "trust", "sandbox", "permission", "skip-git")


def words_of(profile: Profile) -> Iterator[str]:
    yield from profile.subcommand
    yield from profile.resume
    yield profile.prompt_flag
    for flag in profile.flags:
        yield from flag.words
    for name, value in profile.env.items():
        yield f"{name}={value}"


def test_a_run_file_may_name_every_profile_and_no_other() -> None:
    assert set(get_args(ProfileName)) == set(PROFILES)
    assert all(name == profile.name for name, profile in PROFILES.items())


def test_a_profile_that_nobody_knows_is_plain_and_plain_adds_nothing() -> None:
    assert profile_of("") is profile_of("nobody") is profile_of("plain") is PLAIN
    assert (PLAIN.program, PLAIN.flags, dict(PLAIN.env), PLAIN.env_pass, PLAIN.stop, PLAIN.resume) == (
        "", (), {}, (), (), (),
    )  # fmt: skip


@pytest.mark.parametrize("profile", AGENTS, ids=lambda profile: profile.name)
def test_no_profile_widens_what_an_agent_may_do(profile: Profile) -> None:
    for word in words_of(profile):
        assert not any(each in word.lower() for each in WIDENS), word


@pytest.mark.parametrize("profile", AGENTS, ids=lambda profile: profile.name)
def test_every_agent_can_be_run_ended_resumed_and_logged_in(profile: Profile) -> None:
    assert profile.versions
    assert profile.flags
    assert profile.model_flag
    assert sum("{session}" in word for word in profile.resume) == 1
    assert profile.stop
    assert profile.stop[-1].signal == "TERM"
    assert profile.signed_in_by
    assert set(profile.signed_in_by) <= set(profile.env_pass), "what logs it in has to reach it"
    assert profile.login_files
    assert not any(file.startswith("/") for file in profile.login_files)
    assert profile.env.keys().isdisjoint(profile.env_pass)


def test_each_is_ended_in_the_order_that_leaves_least_behind() -> None:
    steps = {profile.name: [step.signal for step in profile.stop] for profile in AGENTS}
    assert steps == {"claude": ["TERM"], "codex": ["INT", "TERM"], "gemini": ["TERM"], "pi": ["TERM"]}


def test_only_an_agent_whose_model_is_not_told_of_the_cut_call_makes_it_again() -> None:
    assert {profile.name for profile in AGENTS if profile.repeats_cut_calls} == {"gemini"}


def test_an_agent_that_prints_no_pieces_of_an_answer_may_be_silent_for_longer() -> None:
    assert {profile.name: profile.silent_after for profile in AGENTS} == {
        "claude": 60.0,
        "codex": 120.0,
        "gemini": 60.0,
        "pi": 60.0,
    }


def test_gemini_is_never_started_as_a_launcher_that_swallows_signals() -> None:
    assert PROFILES["gemini"].env["GEMINI_CLI_NO_RELAUNCH"] == "true"


@pytest.mark.parametrize("profile", AGENTS, ids=lambda profile: profile.name)
def test_what_resumes_a_session_is_what_resumed_it_in_a_genuine_run(profile: Profile) -> None:
    resumed = json.loads((CORPUS / profile.name / "resume/resume.exit.json").read_text())["argv"]
    at = resumed.index(profile.resume[0])
    session = resumed[at + 1]
    assert tuple(resumed[at : at + 2]) == tuple(word.replace("{session}", session) for word in profile.resume)
