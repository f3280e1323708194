"""The ladder of a retry: attempts are told as rows (how it began, its session, what became of it), oldest first."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.model.action import Fresh, Neither, Resume
from crewd.model.agent import Profile
from crewd.model.failure import ErrorClass, Exit
from crewd.model.managed import AttemptRecord
from crewd.model.plan import ResumePlan, TaskPlan
from crewd.policy.command_line import argv
from crewd.policy.profiles import PROFILES
from crewd.policy.resume import after, rung, session_of
from tests.policy.states import record, task_plan

CLAUDE = Profile("claude", program="claude", resume=("--resume", "{session}"), repeats_cut_calls=False)
GEMINI = Profile("gemini", program="gemini", resume=("--resume", "{session}"), repeats_cut_calls=True)
PLAIN = Profile("plain")
TREE = "1:aa"
FAILED = ErrorClass.PROVIDER_ERROR


def plan(**more: Any) -> TaskPlan:
    return task_plan("a", profile="claude", **{"prompt": "Do it.", **more})


ONCE = plan(idempotent=False)


def attempt(number: int, began: str = "fresh", error_class: ErrorClass | None = FAILED, **told: Any) -> AttemptRecord:
    """An attempt that ran and failed. `told`: its details; a value of None leaves one out."""
    details = {"session": "s-1", "tree": TREE, "rung": began, "cut": [], "tools": 3, "tokens": 100, **told}
    return record(
        number,
        error_class=error_class,
        interrupted=error_class is None,
        folder=f"/runs/{number}",
        exit=Exit(code=1),
        details={key: value for key, value in details.items() if value is not None},
    )


def stopped(number: int, began: str = "fresh", **told: Any) -> AttemptRecord:
    """An attempt that crewd itself interrupted."""
    return attempt(number, began, None, **told)


def next_one(
    *attempts: AttemptRecord,
    task: TaskPlan | None = None,
    profile: Profile = CLAUDE,
    tree_now: str | None = TREE,
    session_exists: bool = True,
) -> Resume | Fresh | Neither:
    return rung(task or plan(), profile, attempts, tree_now=tree_now, session_exists=session_exists)


def test_the_first_attempt_begins_afresh() -> None:
    assert next_one() == Fresh("it is the first attempt")
    assert next_one(task=ONCE) == Fresh("it is the first attempt")


def test_after_a_failure_the_session_goes_on() -> None:
    assert next_one(attempt(1)) == Resume(
        "s-1", "it goes on with session s-1: attempt 1 failed, and the working tree is as attempt 1 left it", 100
    )


def test_what_crewd_itself_interrupted_goes_on_too() -> None:
    found = next_one(stopped(1, cut=["Bash"]))
    assert isinstance(found, Resume)
    assert "crewd interrupted attempt 1" in found.reason


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ({"task": plan(resume=ResumePlan(mode="never"))}, 'resume.mode is "never"'),
        ({"profile": PLAIN}, "the profile plain cannot resume a session"),
        ({"task": plan(prompt=None)}, "its prompt is a part of its command, and would be given once more"),
        ({"session_exists": False}, "the file of session s-1 is not there any more"),
        ({"tree_now": "1:bb"}, "the working tree changed since attempt 1"),
        ({"tree_now": None}, "the working tree is too large to compare, or cannot be read"),
        (
            {"task": plan(resume=ResumePlan(attempts_max=0))},
            "0 attempts in a row went on with session s-1 in vain, and resume.attempts_max is 0",
        ),
    ],
)
def test_what_stands_against_it_is_said_and_the_next_begins_afresh(what: dict[str, Any], why: str) -> None:
    assert next_one(attempt(1), **what) == Fresh(f"it begins afresh, for {why}")


@pytest.mark.parametrize(
    ("latest", "why"),
    [
        (attempt(1, session=None), "attempt 1 told no session that can be named"),
        (attempt(1, session=""), "attempt 1 told no session that can be named"),
        (attempt(1, session=17), "attempt 1 told no session that can be named"),
        (attempt(1, error_class=ErrorClass.CONTEXT_EXHAUSTED), "attempt 1 filled the context window of its session"),
        (attempt(1, code="session_unknown"), "attempt 1 was told that there is no session s-1"),
        (
            attempt(1, tree=None),
            "the working tree after attempt 1 is not known: it is too large to compare, or cannot be read",
        ),
    ],
)
def test_what_the_attempt_before_shows_against_it_is_said_too(latest: AttemptRecord, why: str) -> None:
    assert next_one(latest) == Fresh(f"it begins afresh, for {why}")


@pytest.mark.parametrize(
    "session", ["--dangerously-skip", "-c", "../../etc/passwd", "a b", "a\n", "*", "[a]", "a" * 129, "\0", "ä"]
)
def test_a_session_whose_name_could_be_an_option_a_path_or_a_pattern_is_not_gone_on_with(session: str) -> None:
    assert isinstance(next_one(attempt(1, session=session)), Fresh)
    assert session_of([attempt(1, session=session)]) == ""


def test_where_the_tree_may_be_any_nobody_looks_at_it() -> None:
    task = plan(resume=ResumePlan(tree="any"))
    for latest, now in ((attempt(1), "1:bb"), (attempt(1), None), (attempt(1, tree=None), None)):
        assert isinstance(next_one(latest, task=task, tree_now=now), Resume)


def test_two_resumes_in_vain_are_followed_by_a_fresh_start_and_that_by_two_more() -> None:
    story = [attempt(1)]
    begun: list[str] = []
    for number in range(2, 9):
        match next_one(*story):
            case Resume(session=session):
                begun.append("resume")
                story.append(attempt(number, "resume", session=session))
            case Fresh():
                begun.append("fresh")
                story.append(attempt(number, "fresh", session=f"s-{number}"))
            case _:
                pytest.fail("nothing forbids a retry")
    assert begun == ["resume", "resume", "fresh", "resume", "resume", "fresh", "resume"]


def test_what_crewd_interrupts_uses_up_no_resume() -> None:
    story = [attempt(1), *(stopped(number, "resume") for number in range(2, 12))]
    assert isinstance(next_one(*story), Resume)
    story += [attempt(12, "resume"), stopped(13, "resume")]
    assert isinstance(next_one(*story), Resume)
    story += [attempt(14, "resume")]
    assert next_one(*story) == Fresh(
        "it begins afresh, for 2 attempts in a row went on with session s-1 in vain, and resume.attempts_max is 2"
    )
    assert isinstance(next_one(*story, stopped(15, "resume")), Fresh)


def test_what_all_attempts_of_a_session_used_is_saved_and_nothing_of_another() -> None:
    story = [
        attempt(1, session="s-0", tokens=7000),
        attempt(2, tokens=100),
        stopped(3, "resume", tokens=20),
        attempt(4, "resume", tokens=3),
    ]
    found = next_one(*story)
    assert isinstance(found, Resume)
    assert (found.session, found.saved_tokens) == ("s-1", 123)


@pytest.mark.parametrize("tokens", [None, "many", -5, 1.5])
def test_tokens_that_are_not_known_save_nothing(tokens: Any) -> None:
    found = next_one(attempt(1), attempt(2, "resume", tokens=tokens))
    assert isinstance(found, Resume)
    assert found.saved_tokens == 100


def test_who_was_ended_before_it_could_tell_its_session_had_the_one_it_was_given() -> None:
    story = [attempt(1, tokens=100), stopped(2, "resume", session=None, tokens=5)]
    assert session_of(story) == "s-1"
    found = next_one(*story)
    assert isinstance(found, Resume)
    assert found.saved_tokens == 105
    # A fresh start that told nothing has none; an older one is not dug up again.
    assert session_of([attempt(1), attempt(2, "fresh", session=None)]) == ""


def test_a_session_that_took_the_place_of_the_one_it_was_to_go_on_with_saves_only_what_it_used_itself() -> None:
    found = next_one(attempt(1, tokens=1000), attempt(2, "resume", session="s-2", tokens=10))
    assert isinstance(found, Resume)
    assert (found.session, found.saved_tokens) == ("s-2", 10)


@pytest.mark.parametrize(
    "never",
    [
        record(2, error_class=ErrorClass.SPAWN_FAILED),
        record(2, error_class=ErrorClass.UNKNOWN, folder="/runs/2", details={"code": "never_ran"}),
        record(2, interrupted=True),
    ],
)
def test_an_attempt_that_never_ran_changes_nothing(never: AttemptRecord) -> None:
    assert next_one(attempt(1), never) == next_one(attempt(1))
    assert session_of([attempt(1), never]) == "s-1"
    assert next_one(never, task=ONCE) == Fresh("no attempt has begun before")
    assert after(ONCE, CLAUDE, [never]) is None


# What may not be carried out twice.


def test_it_may_go_on_where_nothing_was_cut() -> None:
    for profile in (CLAUDE, GEMINI):
        assert isinstance(next_one(attempt(1), task=ONCE, profile=profile), Resume)


def test_where_a_call_was_cut_it_may_go_on_only_with_a_program_that_repeats_none() -> None:
    cut = attempt(1, cut=["run_shell_command", "write_file"])
    assert isinstance(next_one(cut, task=ONCE, profile=CLAUDE), Resume)
    assert next_one(cut, task=ONCE, profile=GEMINI) == Neither(
        "The task may not be carried out twice (idempotent = false): it cannot go on, for attempt 1 was cut in the "
        "middle of run_shell_command, write_file, which gemini may do once more; and it cannot begin afresh, for "
        "attempt 1 had begun 3 tool calls. Look at what was done, then redrive the task."
    )
    assert isinstance(next_one(cut, profile=GEMINI), Resume)


def test_where_nobody_knows_whether_a_call_was_cut_it_counts_as_one() -> None:
    assert isinstance(next_one(attempt(1, cut=None), task=ONCE, profile=GEMINI), Neither)
    assert isinstance(next_one(attempt(1, cut=None), task=ONCE, profile=CLAUDE), Resume)


def test_a_call_that_was_cut_earlier_in_the_session_counts_as_well() -> None:
    story = [attempt(1, cut=["Bash"]), stopped(2, "resume")]
    assert isinstance(next_one(*story, task=ONCE, profile=GEMINI), Neither)


def test_it_may_begin_afresh_only_where_no_attempt_began_a_tool() -> None:
    changed: dict[str, Any] = {"task": ONCE, "tree_now": "1:bb"}
    assert next_one(attempt(1, tools=0), **changed) == Fresh(
        "it begins afresh, for the working tree changed since attempt 1"
    )
    found = next_one(attempt(1, tools=1), attempt(2, "resume", tools=0), **changed)
    assert isinstance(found, Neither)
    assert "attempt 1 had begun 1 tool call." in found.reason


def test_an_attempt_of_which_nothing_is_known_may_have_done_anything() -> None:
    unknown = record(1, error_class=FAILED, folder="/runs/1", exit=Exit(code=1), details={"code": "undiagnosed"})
    # Its shim was killed before it could record anything: what has a folder was begun.
    silent = record(1, error_class=ErrorClass.WORKER_KILLED, folder="/runs/1")
    for story in (
        [unknown],
        [silent],
        [unknown, attempt(2, tools=0, session=None)],
        [attempt(1, tools=None, session=None)],
    ):
        found = next_one(*story, task=ONCE)
        assert isinstance(found, Neither)
        assert "nobody knows what attempt 1 did" in found.reason
        assert isinstance(next_one(*story), Fresh)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=list(PROFILES))
def test_a_profile_that_resumes_is_given_a_session_that_its_command_line_takes(profile: Profile) -> None:
    found = next_one(attempt(1, session="01a1fbb2-14f0-7ac0-afdb-6fd5fb222d37"), profile=profile)
    if profile.resume:
        assert isinstance(found, Resume)
        words, _ = argv(profile, (profile.program,), "Do it.", found.session)
        assert any(found.session in word for word in words)
    else:
        assert isinstance(found, Fresh)


# What is certain at once.


@pytest.mark.parametrize(
    "story",
    [
        [attempt(1, session=None)],
        [attempt(1, tree=None)],
        [attempt(1, error_class=ErrorClass.CONTEXT_EXHAUSTED)],
        [attempt(1, code="session_unknown")],
        [attempt(1), attempt(2, "resume"), attempt(3, "resume")],
        [attempt(1, cut=["Bash"])],
    ],
)
def test_where_neither_is_certain_it_is_said_at_the_failure(story: list[AttemptRecord]) -> None:
    found = after(ONCE, GEMINI, story)
    assert isinstance(found, Neither)
    assert found == next_one(*story, task=ONCE, profile=GEMINI)
    assert after(plan(), GEMINI, story) is None


def test_what_only_the_disk_can_show_is_left_to_the_next_start() -> None:
    assert after(ONCE, CLAUDE, [attempt(1)]) is None
    assert isinstance(next_one(attempt(1), task=ONCE, session_exists=False), Neither)
    assert isinstance(next_one(attempt(1), task=ONCE, tree_now="1:bb"), Neither)
    assert isinstance(next_one(attempt(1), task=ONCE, tree_now=None), Neither)


def test_before_the_first_attempt_nothing_stands_against_one() -> None:
    assert after(ONCE, PLAIN, []) is None


anything = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.text(max_size=3), max_size=2)
told = st.fixed_dictionaries(
    {},
    optional={
        "session": st.sampled_from(["s-1", "s-2", "", "-x"]) | anything,
        "tree": st.sampled_from([TREE, "1:bb"]) | anything,
        "rung": st.sampled_from(["fresh", "resume"]) | anything,
        "cut": st.sampled_from([[], ["Bash"]]) | anything,
        "tools": st.integers(0, 2) | anything,
        "tokens": st.integers(0, 100) | anything,
        "code": st.sampled_from(["session_unknown", "never_ran", "undiagnosed"]) | anything,
    },
)
records = st.lists(
    st.tuples(told, st.none() | st.sampled_from(ErrorClass), st.sampled_from(["", "/a"])), max_size=6
).map(
    lambda rows: [
        record(number, error_class=error_class, interrupted=error_class is None, folder=folder, details=details)
        for number, (details, error_class, folder) in enumerate(rows, 1)
    ]
)
tasks = st.builds(
    lambda once, mode, attempts_max, tree, prompt: plan(
        idempotent=not once, prompt=prompt, resume=ResumePlan(mode, attempts_max, tree)
    ),
    st.booleans(), st.sampled_from(["auto", "never"]), st.integers(0, 3), st.sampled_from(["same", "any"]),
    st.sampled_from(["Do it.", None]),
)  # fmt: skip
profiles = st.sampled_from([CLAUDE, GEMINI, PLAIN])
trees = st.sampled_from([TREE, "1:bb", None])


@given(tasks, profiles, records, trees, st.booleans())
def test_what_was_certain_at_the_failure_holds_whatever_the_disk_shows(
    task: TaskPlan, profile: Profile, story: list[AttemptRecord], tree_now: str | None, exists: bool
) -> None:
    found = rung(task, profile, story, tree_now=tree_now, session_exists=exists)
    if after(task, profile, story) is not None:
        assert isinstance(found, Neither)
    if task.idempotent:
        assert not isinstance(found, Neither)


@given(tasks, profiles, records, trees, st.booleans())
def test_no_resume_without_a_session_a_prompt_and_its_file(
    task: TaskPlan, profile: Profile, story: list[AttemptRecord], tree_now: str | None, exists: bool
) -> None:
    match rung(task, profile, story, tree_now=tree_now, session_exists=exists):
        case Resume(session=session, saved_tokens=saved):
            assert session == session_of(story) != ""
            assert exists and task.prompt and profile.resume and task.resume.mode == "auto"
            assert tree_now is not None or task.resume.tree == "any"
            assert saved >= 0
            argv(profile, (profile.program,), task.prompt, session)
        case Fresh() if not task.idempotent:
            for each in story:
                began = each.details.get("tools")
                assert not began or each.details.get("code") == "never_ran"
        case _:
            pass
