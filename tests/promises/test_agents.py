"""The page on agents says of each profile what the profile says."""

import re
from pathlib import Path

import pytest

from crewd.cli.demo_agents import ACTS
from crewd.model.plan import ResumePlan, WatchPlan
from crewd.policy.profiles import PROFILES, Profile

PAGE = (Path(__file__).parents[2] / "docs" / "agents.md").read_text(encoding="utf-8")
HEAD, *ROWS = (
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.partition("## Profiles")[2].partition("\n\nThe fifth")[0].splitlines()
    if line.startswith("| ") or line.startswith("| |")
)
TABLE = {row[0]: dict(zip(HEAD[1:], row[1:], strict=True)) for row in ROWS}
PROGRAMS = [profile for profile in PROFILES.values() if profile.program]


@pytest.mark.parametrize("profile", PROGRAMS, ids=lambda profile: profile.name)
def test_the_table_of_profiles_is_that_of_the_code(profile: Profile) -> None:
    cell = {name: row[profile.name] for name, row in TABLE.items()}
    assert cell["program, tried with"] == f"`{profile.program}` {', '.join(profile.versions)}"
    added = [*profile.subcommand, *(word for flag in profile.flags for word in flag.words)]
    assert cell["added"] == f"`{' '.join(added)}`"
    assert cell["the model"] == f"`{profile.model_flag[0]}`"
    assert re.findall(r"`(\w+)`", cell["set"]) == list(profile.env)
    assert cell["stopped by"] == ", then ".join(step.signal for step in profile.stop)
    assert profile.provider in ("", cell["provider"])
    assert profile.resume[0] in cell["resumed by"]


@pytest.mark.parametrize(
    "profile", [each for each in PROGRAMS if each.name != "pi"], ids=lambda profile: profile.name
)
def test_every_variable_that_logs_in_is_named(profile: Profile) -> None:
    assert tuple(re.findall(r"`([A-Z_]+)`", TABLE["logged in by"][profile.name])) == profile.signed_in_by


def test_only_the_program_that_repeats_cut_calls_is_said_to() -> None:
    (words,) = (line for line in PAGE.splitlines() if "calls it again" in line)
    names = ("claude", "codex", "gemini", "pi")
    told = [name for name, cell in zip(names, words.strip("|").split("|"), strict=True) if "calls it again" in cell]
    assert told == [profile.name for profile in PROGRAMS if profile.repeats_cut_calls]


def test_the_figures_on_the_page_are_the_defaults() -> None:
    watch, resume = WatchPlan(), ResumePlan()
    assert f"`watch.stream_hang_after` ({watch.stream_hang_after / 60:g} minutes)" in PAGE
    assert f"`watch.park_after` ({watch.park_after / 60:g} minutes)" in PAGE
    assert f"`same_tool_warn` {watch.same_tool_warn} | `same_tool_max` {watch.same_tool_max}" in PAGE
    assert f"`same_error_warn` {watch.same_error_warn} | `same_error_max` {watch.same_error_max}" in PAGE
    assert f"`burn_tokens_min` ({watch.burn_tokens_min:,}) and `burn_factor` ({watch.burn_factor:g})" in PAGE
    assert f"`resume.attempts_max`\ntimes ({resume.attempts_max})" in PAGE
    assert f"plays {len(ACTS)} recorded runs" in PAGE
