"""Tasks of agents: what their profile adds, below whatever anybody says, and what does not go with it."""

from typing import Any

import pytest

from crewd.config.run_file import Executor, plan
from crewd.config.run_file.agent import clashes
from crewd.config.run_file.fields import PROMPT_MAX
from crewd.model.agent import Profile, PromptBy
from crewd.model.plan import HeartbeatPlan, StopPlan, StopStep
from crewd.policy.profiles import PROFILES
from tests.config.run_file.given import BASE, DEFAULTS, problems, run_plan, task_plan, told

CLAUDE = ("claude", "-p", "--output-format", "stream-json", "--verbose", "--include-partial-messages")


def agent_plan(executor: Executor | None = None, **fields: Any) -> Any:
    """Make the plan of one task that has no command of its own."""
    named = {} if executor is None else {"executor": "x"}
    data = {"tasks": [{"id": "t", **named, **fields}]}
    return run_plan(data, {} if executor is None else {"x": executor}).tasks[0]


def refused(**fields: Any) -> list[tuple[str, str]]:
    found = problems({"tasks": [{"id": "t", **fields}]})
    return [(pointer.removeprefix("/tasks/0"), code) for pointer, code in found]


def test_a_profile_alone_is_a_whole_command() -> None:
    found = agent_plan(profile="claude", prompt="fix it")
    assert found.command == CLAUDE
    assert (found.profile, found.prompt, found.stdin) == ("claude", "fix it", None)
    assert found.env["DISABLE_AUTOUPDATER"] == "1"
    assert found.env_pass[:2] == ("PATH", "HOME")
    assert "ANTHROPIC_API_KEY" in found.env_pass
    assert found.stop == StopPlan(steps=(StopStep("TERM", 10.0),))
    assert found.heartbeat == HeartbeatPlan(), "how patient one is with an agent is decided where it runs"
    assert found.provider == "anthropic"


def test_the_executors_command_is_completed_and_the_model_named_once() -> None:
    executor = Executor(profile="codex", command=("codex", "exec", "-s", "workspace-write"), model="gpt-5.1-codex")
    found = agent_plan(executor, prompt="p", args=["--ephemeral"])
    assert found.command == (
        "codex", "exec", "--json", "-m", "gpt-5.1-codex", "-s", "workspace-write", "--ephemeral",
    )  # fmt: skip
    named = Executor(profile="codex", command=("codex", "exec", "-m", "{model}"), model="o3")
    assert agent_plan(named, prompt="p").command == ("codex", "exec", "--json", "-m", "o3")
    assert agent_plan(named, prompt="p").provider == "openai/o3"


@pytest.mark.parametrize("profile", [None, "plain"])
def test_what_is_no_agent_stays_as_it_is(profile: str | None) -> None:
    found = task_plan(profile=profile, model="m", account="a")
    assert (found.command, found.env, found.env_pass, found.provider, found.stop) == (
        ("true",), {}, ("PATH", "HOME"), "", StopPlan(),
    )  # fmt: skip
    assert found.profile == (profile or "")


def test_a_plain_command_has_its_prompt_on_stdin_and_an_agent_none_yet() -> None:
    assert task_plan(profile="plain", prompt="p").stdin == "p"
    assert agent_plan(profile="pi", prompt="p").stdin is None


def test_what_a_profile_sets_lies_below_everything_that_anybody_says() -> None:
    executor = Executor(
        profile="claude", env={"DISABLE_TELEMETRY": "0"}, secrets={"DISABLE_ERROR_REPORTING": "x"}, provider="mine"
    )
    found = agent_plan(executor, prompt="p", env={"DISABLE_AUTOUPDATER": "no"}, stop={"steps": [], "drain": 1})
    assert found.env == {
        "DISABLE_AUTOUPDATER": "no",
        "DISABLE_TELEMETRY": "0",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    assert found.stop == StopPlan(steps=(), drain=1.0)
    assert found.provider == "mine"


def test_a_part_of_the_stop_plan_leaves_the_profiles_steps_in_place() -> None:
    found = agent_plan(profile="codex", prompt="p", stop={"drain": 1})
    assert found.stop == StopPlan(steps=(StopStep("INT", 10.0), StopStep("TERM", 5.0)), drain=1.0)


def test_each_task_has_the_stop_order_of_its_own_profile() -> None:
    data = {
        "defaults": {"profile": "codex", "prompt": "p", "limits": {"nice": 1}},
        "tasks": [{"id": "a"}, {"id": "b", "profile": "gemini"}, {"id": "c", "profile": "plain", "command": ["x"]}],
    }
    found = run_plan(data).tasks
    assert [[step.signal for step in task.stop.steps] for task in found] == [["INT", "TERM"], ["TERM"], ["TERM"]]
    assert [task.stop.steps[0].wait for task in found] == [10.0, 10.0, 5.0]
    assert [task.command[0] for task in found] == ["codex", "gemini", "x"]


@pytest.mark.parametrize(
    "fields",
    [
        {"env": {"ANTHROPIC_API_KEY": "k"}},
        {"secrets": {"CLAUDE_CODE_OAUTH_TOKEN": "team-a"}},
        {"env": {"CLAUDE_CONFIG_DIR": "/srv/team-a"}},
        {"env_pass": ["CLAUDE_CODE_OAUTH_TOKEN"]},
    ],
)
def test_where_a_task_names_credentials_crewds_own_are_kept_back(fields: dict[str, Any]) -> None:
    found = agent_plan(profile="claude", prompt="p", **fields)
    credentials = {"ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN", "CLAUDE_CONFIG_DIR"}
    assert credentials & {*found.env_pass} == {*fields.get("env_pass", ())}
    assert "HTTPS_PROXY" in found.env_pass


@pytest.mark.parametrize(
    ("fields", "circuit"),
    [
        ({"profile": "claude", "model": "claude-sonnet-4-5-20250929"}, "anthropic/claude-sonnet"),
        ({"profile": "claude", "model": "opus", "account": "team-a"}, "anthropic/team-a/claude-opus"),
        ({"profile": "claude", "command": ["claude", "--model", "haiku"]}, "anthropic/claude-haiku"),
        ({"profile": "claude", "env": {"CLAUDE_CODE_USE_BEDROCK": "1"}}, "bedrock"),
        ({"profile": "claude", "provider": "p", "account": "a"}, "p"),
        ({"profile": "claude", "provider": ""}, "anthropic"),
        ({"profile": "gemini"}, "google"),
        ({"profile": "pi", "model": "openrouter/anthropic/claude-opus-4.1"}, "openrouter/claude-opus"),
        ({"profile": "pi", "args": ["--provider", "mock"]}, "mock"),
    ],
)
def test_the_circuit_is_that_of_provider_account_and_model_unless_somebody_names_one(
    fields: dict[str, Any], circuit: str
) -> None:
    assert agent_plan(prompt="p", **fields).provider == circuit


def test_an_executor_says_what_its_tasks_leave_out_of_agents_too() -> None:
    executor = Executor(
        profile="pi",
        account="team-a",
        idempotent=False,
        resume={"attempts_max": 1},
        budget={"tokens": 7, "on_exceeded": "park"},
        watch={"on_loop": "warn"},
    )
    found = agent_plan(executor, prompt="p", resume={"tree": "any"}, budget={"tokens": 8})
    assert (found.account, found.idempotent) == ("team-a", False)
    assert (found.resume.attempts_max, found.resume.tree) == (1, "any")
    assert (found.budget.tokens, found.budget.on_exceeded, found.watch.on_loop) == (8, "park", "warn")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"command": ["x"], "prompt": "p"}, [("/prompt", "CONFLICT")]),
        ({"profile": "claude", "prompt": "p", "stdin": "s"}, [("/prompt", "CONFLICT")]),
        ({"profile": "claude", "prompt": "p", "mode": "protocol"}, [("/mode", "CONFLICT"), ("/prompt", "CONFLICT")]),
        ({"profile": "claude", "mode": "protocol"}, [("/mode", "CONFLICT")]),
        ({"profile": "plain", "command": ["x"], "prompt": "p", "mode": "protocol"}, [("/prompt", "CONFLICT")]),
        ({"profile": "claude", "shell": True, "command": "claude -p"}, [("/command", "CONFLICT")]),
        ({"profile": "claude", "command": ["claude", "--output-format", "json"]}, [("/command", "CONFLICT")]),
        ({"profile": "claude", "command": ["claude", "--output-format=text"]}, [("/command", "CONFLICT")]),
        ({"profile": "pi", "command": ["pi", "--mode", "rpc"]}, [("/command", "CONFLICT")]),
        ({"profile": "claude", "command": ["sh", "-c", "claude -p"]}, [("/command", "CONFLICT")]),
        ({"profile": "plain", "prompt": "p"}, [("/command", "MISSING_FIELD")]),
        ({"profile": "nope", "prompt": "p", "command": ["x"]}, [("/profile", "ENUM_MISMATCH")]),
        ({"profile": "claude", "prompt": ""}, [("/prompt", "BAD_TEXT")]),
    ],
)
def test_what_does_not_go_with_a_profile_is_refused_at_its_place(
    fields: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    assert refused(**fields) == expected


def test_stdin_may_hold_the_prompt_of_an_agent_instead() -> None:
    assert agent_plan(profile="codex", stdin="fix it").stdin == "fix it"


def test_an_agent_in_protocol_mode_is_told_what_to_do() -> None:
    line = told({"tasks": [{"id": "t", "profile": "pi", "mode": "protocol"}]})
    assert line.endswith(
        "an agent of profile pi prints its own lines, and none of crewd-worker/1 (leave mode out, or profile)"
    )


def test_a_prompt_is_never_quoted() -> None:
    assert "hunter2" not in told({"tasks": [{"id": "t", "profile": "pi", "prompt": ["hunter2"]}]})


def test_the_defaults_of_a_file_are_told_of_where_they_stand() -> None:
    data = {"defaults": {"prompt": "p"}, "tasks": [{"id": "t", "command": ["x"]}]}
    assert problems(data) == [("/defaults/prompt", "CONFLICT")]


@pytest.mark.parametrize(("size", "fits"), [(131_071 - 9, True), (131_071 - 8, False), (PROMPT_MAX, False)])
def test_a_prompt_that_is_an_argument_is_no_longer_than_an_argument_may_be(size: int, fits: bool) -> None:
    profile = Profile(name="x", program="x", prompt_by=PromptBy.ARGUMENT, prompt_flag="--prompt=")
    found = list(clashes(profile, {"profile": "x", "prompt": "a" * size}))
    assert [clash.field for clash in found] == ([] if fits else ["prompt"])


def test_a_prompt_on_stdin_may_be_a_mebibyte() -> None:
    assert len(agent_plan(profile="pi", prompt="a" * PROMPT_MAX).prompt) == PROMPT_MAX


def test_a_run_of_many_agents_shares_what_its_tasks_have_in_common() -> None:
    data = {"defaults": {"profile": "claude", "prompt": "p"}, "tasks": [{"id": f"t{n}"} for n in range(2)]}
    one, other = plan(data, executors={}, defaults=DEFAULTS, base=BASE, run_id="r").tasks
    assert one.stop is other.stop


@pytest.mark.parametrize("name", [name for name, profile in PROFILES.items() if profile.program])
def test_an_agent_in_an_executor_of_protocol_workers_is_refused_with_the_settings(name: str) -> None:
    with pytest.raises(ValueError, match=f"profile {name} in protocol mode"):
        Executor(profile=name, mode="protocol")
