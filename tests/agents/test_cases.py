"""Every genuine run, heard in the order in which it was recorded, is understood as the table says it was."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest

from crewd.model.agent import AgentView
from crewd.model.failure import ErrorClass, Failure
from crewd.model.run import Usage
from crewd.policy.profiles import PROFILES
from crewd.sources.agents.signs import Refused, Sign, ToolBegan, ToolEnded
from crewd.sources.agents.story import NotUnderstood, Story
from tests.agents.cases import CASES, CORPUS, GENUINE, Case, Heard, here

CENT = 1e-7  # dollars by which sums of floating-point numbers may differ


@dataclass
class Told:
    """What a story made of one run."""

    view: AgentView
    outcome: Failure | NotUnderstood | None
    signs: list[tuple[float, Sign]] = field(default_factory=list)

    @property
    def ends(self) -> ErrorClass | str | None:
        if isinstance(self.outcome, NotUnderstood):
            return f"not understood: {self.outcome.why}"
        return None if self.outcome is None else self.outcome.error_class

    @property
    def refusals(self) -> list[Failure]:
        """Those that a program said it would repeat, once for each attempt where it numbers them."""
        found = [sign for _, sign in self.signs if isinstance(sign, Refused)]
        by_attempt = {sign.attempt or -number: sign.failure for number, sign in enumerate(found)}
        return list(by_attempt.values())

    @property
    def tools(self) -> tuple[int, int, int]:
        """How many calls were begun, ended, denied."""
        begun = {sign.id for _, sign in self.signs if isinstance(sign, ToolBegan)}
        ended = {sign.id for _, sign in self.signs if isinstance(sign, ToolEnded)}
        return len(begun), len(ended & begun), len(self.view.denied)


def story_of(case: Case) -> Story:
    return Story(PROFILES[case.profile], case.base, case.base.cost_usd if case.base is not None else None)


def tell(case: Case, heard: Iterable[Heard]) -> Told:
    story, signs = story_of(case), []
    for each in heard:
        signs += [(each.at, sign) for sign in story.hear(each.stream, each.line, each.at, case.wall + each.at)]
    return Told(story.view(case.seconds), story.outcome(case.exit), signs)


def deviations(case: Case, told: Told, usage: Usage | None, model: str) -> list[str]:
    """Where a story differs from what is true."""
    view, found = told.view, list[str]()

    def compare(what: str, expected: object, got: object) -> None:
        if expected != got:
            found.append(f"{what}: expected {expected!r}, found {got!r}")

    if told.ends not in (case.ends, *case.also_ends):
        found.append(f"ends: expected {case.ends!r}, found {told.ends!r} ({told.outcome})")
    compare("session", case.session, view.session)
    compare("model", model, view.model)
    compare("understood", True, view.understood)
    compare("told how it ended", case.told, view.ended)
    compare("tools begun, ended, denied", case.tools, told.tools)
    compare("tools begun as counted", case.tools[0], view.tools_begun)
    compare("repeats", case.repeats if case.repeats is not None else min(1, case.tools[0]), view.repeats)
    compare("went in circles", case.looped, bool(view.looped))
    if not any(same(each, view.usage) for each in (usage, *case.also_usage)):
        found.append(f"usage: expected {usage}, found {view.usage}")
    found += refused_otherwise(case, told.refusals)
    if case.retry_after is not None and isinstance(told.outcome, Failure):
        wait = told.outcome.retry_after
        if wait is None or not math.isclose(wait, case.retry_after, abs_tol=1.0):
            found.append(f"wait told with the failure: expected {case.retry_after}, found {wait}")
    return found


def refused_otherwise(case: Case, found: list[Failure]) -> list[str]:
    if case.refusals is None:
        return [f"refusals: expected none, found {len(found)}: {found[0]}"] if found else []
    expected, wrong = case.refusals, list[str]()
    if len(found) != expected.count:
        wrong.append(f"refusals: expected {expected.count}, found {len(found)}")
    if classes := {each.error_class for each in found} - {expected.error_class}:
        wrong.append(f"refusals: expected {expected.error_class!r}, found {classes}")
    if found:
        wait = found[0].retry_after
        wanted = expected.first_wait
        is_right = wait is wanted if wait is None or wanted is None else math.isclose(wait, wanted)
        if not is_right:
            wrong.append(f"first wait: expected {wanted}, found {wait}")
    return wrong


def same(expected: Usage | None, found: Usage | None) -> bool:
    """Nothing known and nothing used look alike: a program that fails at once may print zeros or nothing."""
    one, other = expected or Usage(), found or Usage()
    tokens = [(each.input, each.output, each.cache_read, each.cache_write) for each in (one, other)]
    if tokens[0] != tokens[1]:
        return False
    if not any(tokens[0]):
        return not one.cost_usd and not other.cost_usd
    if one.cost_usd is None or other.cost_usd is None:
        return one.cost_usd is other.cost_usd
    return math.isclose(one.cost_usd, other.cost_usd, abs_tol=CENT)


def complain(case: Case, wrong: list[str]) -> str:
    return "\n  ".join([f"{case.name} -- {case.why}", *wrong])


def test_every_genuine_run_stands_in_the_table() -> None:
    folders = {f"{cli.name}/{case.name}" for cli in CORPUS.iterdir() for case in cli.iterdir()}
    resumed = {f"{path.parent.parent.name}/{path.parent.name}.2" for path in CORPUS.glob("*/*/resume.stdout.jsonl")}
    assert {case.name for case in GENUINE} == folders | resumed
    assert len(CASES) == len({*CASES})


@pytest.mark.parametrize("case", here(), ids=lambda case: case.name)
def test_a_run_is_understood_as_it_was(case: Case) -> None:
    told = tell(case, case.heard)
    wrong = deviations(case, told, case.usage, case.model)
    assert not wrong, complain(case, wrong)


@pytest.mark.parametrize("case", here(), ids=lambda case: case.name)
def test_a_run_is_understood_without_the_file_of_its_session(case: Case) -> None:
    told = tell(case, (heard for heard in case.heard if heard.stream != "session"))
    wrong = deviations(case, told, case.usage_printed, case.model_printed)
    assert not wrong, complain(case, wrong)


@pytest.mark.parametrize("case", here(), ids=lambda case: case.name)
def test_a_session_file_that_is_found_late_says_the_same(case: Case) -> None:
    """Its id must be heard before its file can be looked for: all of it may be read after the end."""
    late = sorted(case.heard, key=lambda heard: heard.stream == "session")
    wrong = deviations(case, tell(case, late), case.usage, case.model)
    assert not wrong, complain(case, wrong)


def test_a_session_that_counts_less_than_before_is_not_billed_below_nothing() -> None:
    """A killed session may have counted more than the program that goes on with it knows of."""
    case = CASES["claude/made/resume_after_kill"]
    story = Story(PROFILES["claude"], Usage(10**6, 10**6, 10**6, 10**6, 99.0), 99.0)
    for each in case.heard:
        story.hear(each.stream, each.line, each.at, case.wall + each.at)
    used = story.view(case.seconds).usage
    assert used is not None and used.cost_usd is not None and 0.0 <= used.cost_usd <= 0.0120252 + CENT
    assert (used.input, used.output) == (37, 57)  # of this run, whatever was before
