"""Command lines: what is missing is added once, what is there stays, and a prompt arrives as the text that it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.model.agent import Flag, Profile, PromptBy
from crewd.policy.command_line import argv, can_resume, completed, config_option, is_shell_text, model_in, program_of
from crewd.policy.profiles import PROFILES

AGENTS = [each for each in PROFILES.values() if each.program]
CLAUDE, CODEX, GEMINI, PI, PLAIN = (PROFILES[name] for name in ("claude", "codex", "gemini", "pi", "plain"))
SESSION = "01a1fbb2-14f0-7ac0-afdb-6fd5fb222d37"

COMPLETED = [
    (CLAUDE, "claude", "", "claude -p --output-format stream-json --verbose --include-partial-messages"),
    (CODEX, "codex", "", "codex exec --json"),
    (GEMINI, "gemini", "", "gemini -o stream-json"),
    (PI, "pi", "", "pi --mode json -p"),
    (PLAIN, "make test", "big", "make test"),
    # the model
    (CODEX, "codex", "gpt-5", "codex exec --json -m gpt-5"),
    (CODEX, "codex exec -m o3", "gpt-5", "codex exec --json -m o3"),
    (CODEX, "codex exec -mo3", "gpt-5", "codex exec --json -mo3"),
    (CODEX, "codex exec --model=o3", "gpt-5", "codex exec --json --model=o3"),
    (CODEX, 'codex exec -c model="o3"', "gpt-5", 'codex exec --json -c model="o3"'),
    (CODEX, "codex -c model_provider=x", "gpt-5", "codex exec --json -m gpt-5 -c model_provider=x"),
    (PI, "pi --provider mock", "m", "pi --mode json -p --model m --provider mock"),
    # what is there stays where it is, in whatever spelling
    (CODEX, "codex exec --json -s read-only", "", "codex exec --json -s read-only"),
    (CODEX, "codex -c a=b exec -s read-only", "", "codex -c a=b exec --json -s read-only"),
    (GEMINI, "gemini --output-format=stream-json", "", "gemini --output-format=stream-json"),
    (GEMINI, "gemini -ojson", "", "gemini -ojson"),
    (PI, "pi --print --mode json", "", "pi --print --mode json"),
    (
        CLAUDE,
        "claude --print --verbose --output-format=stream-json --include-partial-messages",
        "",
        "claude --print --verbose --output-format=stream-json --include-partial-messages",
    ),
    # nothing is swallowed, neither by an option of many words nor by --
    (PI, "pi --tools a b", "", "pi --mode json -p --tools a b"),
    (GEMINI, "gemini -- -o text", "", "gemini -o stream-json -- -o text"),
    # the program by a path, and by another program
    (CODEX, "/opt/codex/bin/codex", "", "/opt/codex/bin/codex exec --json"),
    (CODEX, "npx -y @openai/codex@0.169.0 exec", "", "npx -y @openai/codex@0.169.0 exec --json"),
    (GEMINI, "npx -y @google/gemini-cli", "", "npx -y @google/gemini-cli -o stream-json"),
    (GEMINI, "node /opt/gemini/bundle/gemini.js -m x", "", "node /opt/gemini/bundle/gemini.js -o stream-json -m x"),
    (PI, "timeout 60 pi", "", "timeout 60 pi --mode json -p"),
    (CODEX, "./run-it -m gemini-2.5-pro", "", "./run-it exec --json -m gemini-2.5-pro"),
]


@pytest.mark.parametrize(("profile", "command", "model", "expected"), COMPLETED)
def test_what_is_missing_is_added_right_behind_the_program(
    profile: Profile, command: str, model: str, expected: str
) -> None:
    assert completed(profile, tuple(command.split()), model) == tuple(expected.split())


WORDS = st.lists(
    st.sampled_from(
        [
            "-p",
            "exec",
            "--json",
            "--verbose",
            "-o",
            "json",
            "--mode=json",
            "-m",
            "--model",
            "--",
            "x",
            "--tools",
            "-s",
        ]
    ),
    max_size=6,
)


@given(st.sampled_from(AGENTS), WORDS, st.sampled_from(["", "a-model"]))
def test_nothing_of_the_operators_is_changed_and_a_whole_command_stays(
    profile: Profile, words: list[str], model: str
) -> None:
    command = (profile.program, *words)
    whole = completed(profile, command, model)
    left = list(whole)
    for word in command:  # in the same order
        left = left[left.index(word) + 1 :]
    assert completed(profile, whole, model) == whole


@pytest.mark.parametrize("profile", AGENTS, ids=lambda profile: profile.name)
@pytest.mark.parametrize("prompt", ["fix it", "-x", "--help", "@file", "resume", "a\nb", "/quit", "ż" * 70_000])
def test_a_prompt_goes_to_stdin_as_it_is_and_is_no_word_of_the_command(profile: Profile, prompt: str) -> None:
    command = completed(profile, (profile.program,), "m")
    assert argv(profile, command, prompt, "") == (command, prompt)


@pytest.mark.parametrize("profile", [*AGENTS, PLAIN], ids=lambda profile: profile.name)
def test_without_a_prompt_a_command_is_run_as_it_stands(profile: Profile) -> None:
    assert argv(profile, ("x", "y"), None, "") == (("x", "y"), None)


RESUMED = [
    (CLAUDE, f"claude -p --resume {SESSION}"),
    (CODEX, f"codex exec --json -s read-only resume {SESSION}"),
    (GEMINI, f"gemini -o stream-json --resume {SESSION}"),
    (PI, f"pi --mode json -p --session {SESSION}"),
]


def test_what_resumes_a_session_never_stands_where_no_option_does() -> None:
    command, _ = argv(CLAUDE, ("claude", "-p", "--", "x"), "fix it", SESSION)
    assert command == ("claude", "-p", "--resume", SESSION, "--", "x")


@pytest.mark.parametrize(("profile", "expected"), RESUMED)
def test_a_session_is_resumed_behind_everything_else_with_the_words_of_the_profile(
    profile: Profile, expected: str
) -> None:
    words = tuple(expected.split())
    command = words[: len(words) - len(profile.resume)]
    assert argv(profile, command, "fix it", SESSION) == (words, "Continue where you left off.")


@pytest.mark.parametrize(
    "session", ["-x", "--yolo", "a b", "../x", "a/b", "", "a\n", "x" * 129, "ż", "_a", "a;b", "{session}", " "]
)
def test_what_is_no_id_of_a_session_is_refused(session: str) -> None:
    if not session:
        assert argv(PI, ("pi",), "p", session) == (("pi",), "p")
        return
    with pytest.raises(ValueError, match="no id of a session"):
        argv(PI, ("pi",), "p", session)


def test_a_task_whose_prompt_stands_in_its_command_is_not_resumed() -> None:
    assert not can_resume(CLAUDE, None)
    with pytest.raises(ValueError, match="cannot be resumed"):
        argv(CLAUDE, ("claude", "-p", "fix it"), None, SESSION)
    assert not can_resume(PLAIN, "p")
    with pytest.raises(ValueError, match="cannot be resumed"):
        argv(PLAIN, ("x",), "p", SESSION)
    assert can_resume(CLAUDE, "p")


@pytest.mark.parametrize(
    ("flag", "prompt", "expected"),
    [
        ("--prompt=", "fix it", ("--prompt=fix it",)),
        ("--prompt=", "-x", ("--prompt=-x",)),
        ("-p", "fix it", ("-p", "fix it")),
        ("-p", "-x", ("-p", " -x")),
        ("", "fix it", ("fix it",)),
        ("", "--yolo", (" --yolo",)),
        ("--", "--yolo", ("--", "--yolo")),
    ],
)
def test_as_an_argument_a_prompt_is_never_an_option(flag: str, prompt: str, expected: tuple[str, ...]) -> None:
    profile = Profile(name="x", program="x", prompt_by=PromptBy.ARGUMENT, prompt_flag=flag)
    assert argv(profile, ("x",), prompt, "") == (("x", *expected), None)


@given(st.text(), st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}", fullmatch=True))
def test_no_prompt_and_no_session_ever_adds_an_option(prompt: str, session: str) -> None:
    profile = Profile(
        name="x", program="x", prompt_by=PromptBy.ARGUMENT, resume=("--resume", "{session}"), prompt_flag=""
    )
    fresh, _ = argv(profile, ("x",), prompt, "")
    assert not fresh[1].startswith("-")
    resumed, _ = argv(profile, ("x",), prompt, session)
    assert resumed == ("x", "--resume", session, profile.resume_prompt)


@pytest.mark.parametrize(
    ("profile", "command", "model"),
    [
        (CLAUDE, "claude --model opus", "opus"),
        (CLAUDE, "claude -p -- --model opus", ""),
        (CLAUDE, "claude --model", ""),
        (CODEX, "codex exec -c 'model=o3'", ""),
        (CODEX, "codex exec -c model=o3", "o3"),
        (CODEX, 'codex exec --config=model="o3"', "o3"),
        (CODEX, "codex exec -cmodel=o3", "o3"),
        (GEMINI, "gemini --model=gemini-2.5-pro", "gemini-2.5-pro"),
        (PI, "pi --models a,b", ""),
    ],
)
def test_a_model_is_found_where_the_command_names_it(profile: Profile, command: str, model: str) -> None:
    assert model_in(profile, command.split()) == model


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-c", "a=1"], "1"),
        (["--config", ' a = "x" '], "x"),
        (["-c=a=1"], "1"),
        (["-c", "b=2", "-c", "a=1"], "1"),
        (["-c"], ""),
        (["-c", "a"], ""),
        (["a=1"], ""),
        ([], ""),
    ],
)
def test_a_setting_of_codex_is_found_on_its_command_line(words: list[str], said: str) -> None:
    assert config_option(words, "a") == said


@pytest.mark.parametrize(
    ("command", "is_text"),
    [
        ("/bin/sh -c x", True),
        ("bash -lc x", True),
        ("sh run.sh -c x", True),
        ("sh run.sh", False),
        ("codex -c a=b", False),
        ("", False),
    ],
)
def test_a_text_for_a_shell_is_told_from_a_program(command: str, is_text: bool) -> None:
    assert is_shell_text(command.split()) is is_text


def test_the_program_is_what_an_option_may_stand_behind() -> None:
    assert program_of(CODEX, ("npx", "-y", "@openai/codex", "exec", "--json")) == ("npx", "-y", "@openai/codex")
    assert program_of(CODEX, ("./mine", "exec")) == ("./mine",)


def test_a_flag_without_other_spellings_is_known_by_its_first_word() -> None:
    profile = Profile(name="x", program="x", flags=(Flag(("--a", "1")), Flag(("--b",), ("-b", "--b"))))
    assert completed(profile, ("x", "--a", "2", "-b"), "") == ("x", "--a", "2", "-b")
    assert completed(profile, ("x", "--aa", "2", "-bc"), "") == ("x", "--a", "1", "--b", "--aa", "2", "-bc")
