"""Plans: what a file says, and what counts where it says nothing."""

import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.config.run_file import Executor, RunRefused
from crewd.config.run_file.fields import RetryRule, RunFile, TaskFields
from crewd.model.failure import ErrorClass
from crewd.model.plan import (
    BudgetPlan,
    HeartbeatPlan,
    Jitter,
    Limits,
    Mode,
    RequiredFile,
    ResumePlan,
    RetryPolicy,
    RunPlan,
    StopPlan,
    StopStep,
    Success,
    TaskPlan,
    WatchPlan,
)
from crewd.model.plan import RetryRule as PlannedRule
from tests.config.run_file.given import BASE, problems, run_plan, task_plan, task_problems, told

ONE = [{"id": "a", "command": ["true"]}]


def test_the_least_that_can_be_said_has_every_default() -> None:
    found = run_plan({"tasks": ONE})
    assert found == RunPlan(
        run_id="run-1",
        crew="default",
        tasks=(TaskPlan(task_id="a", command=("true",), cwd=BASE, env_pass=("PATH", "HOME")),),
        source="crew.toml",
    )


def test_a_run_says_what_it_is_called() -> None:
    found = run_plan(
        {
            "name": "n",
            "crew": "c",
            "run_id": "r.1",
            "labels": {"a/b": "x"},
            "max_parallel": 3,
            "priority": 7,
            "budget": {"tokens": 5, "on_exceeded": "park"},
            "tasks": ONE,
        }
    )
    assert found.budget == BudgetPlan(tokens=5, on_exceeded="park")
    assert (found.name, found.crew, found.run_id, found.labels, found.max_parallel) == (
        "n",
        "c",
        "r.1",
        {"a/b": "x"},
        3,
    )
    assert found.tasks[0].priority == 7


def test_every_field_of_a_task_reaches_the_plan() -> None:
    found = task_plan(
        args=["x"],
        cwd="sub",
        env_pass=["LD", "PATH"],
        stdin="text",
        kind="preview",
        on_dependency_failure="block",
        mode="command",
        timeout="5m",
        startup_timeout=1,
        stdin_timeout="500ms",
        bad_lines_max=2,
        priority=-5,
        concurrency_key="k",
        concurrency_max=4,
        type="build",
        model="m",
        provider="p",
        payload={"retry": {"a": [1, None]}},
        env={"A": "1"},
        secrets={"B": "b.key"},
        variants={"prompt": "short"},
        heartbeat={"warn_after": 1, "stale_after": "2s", "dead_after": 3, "hung_after": 3, "on_hung": "report"},
        retry={
            "max_attempts": 9,
            "base": "1s",
            "factor": 3,
            "cap": "1h",
            "jitter": "equal",
            "elapsed_max": "1d",
            "classes": {"rate_limited": {"base": "1m", "retry": True}, "timeout": {"retry": False}},
        },
        success={
            "exit_codes": [0, 4],
            "task_error_codes": [3],
            "files": ["a/b", {"path": "./c", "bytes_min": "1KiB"}],
            "output_bytes_min": 7,
            "command": ["test"],
            "command_timeout": 9,
        },
        stop={"grace": 1, "steps": [{"signal": "INT", "wait": "1s"}], "drain": 0},
        limits={
            "cpu_seconds": "1m",
            "memory_bytes": "1GiB",
            "files": 100,
            "processes": 10,
            "output_bytes": "1MiB",
            "nice": 3,
        },
        profile="plain",
        idempotent=False,
        account="team-a",
        resume={"mode": "never", "attempts_max": 0, "tree": "any"},
        budget={"tokens": 10, "cost_usd": 0.5, "warn_ratio": 1, "on_exceeded": "park"},
        watch={
            "stream_hang_after": "1m",
            "on_stream_hang": "stop",
            "park_after": 0,
            "same_tool_warn": 1,
            "same_tool_max": 2,
            "same_error_warn": 3,
            "same_error_max": 4,
            "on_loop": "park",
            "burn_tokens_min": 0,
            "burn_factor": 2,
            "on_burn": "stop",
            "on_denied": "allow",
        },
    )
    assert found == TaskPlan(
        task_id="t",
        command=("true", "x"),
        cwd=f"{BASE}/sub",
        env_pass=("PATH", "HOME", "LD"),
        stdin="text",
        kind="preview",
        on_dependency_failure="block",
        mode=Mode.COMMAND,
        timeout=300.0,
        startup_timeout=1.0,
        stdin_timeout=0.5,
        bad_lines_max=2,
        priority=-5,
        concurrency_key="k",
        concurrency_max=4,
        task_type="build",
        model="m",
        provider="p",
        payload={"retry": {"a": [1, None]}},
        env={"A": "1"},
        secrets={"B": "b.key"},
        variants={"prompt": "short"},
        heartbeat=HeartbeatPlan(1.0, 2.0, 3.0, 3.0, None, "report"),
        retry=RetryPolicy(
            9,
            1.0,
            3.0,
            3600.0,
            Jitter.EQUAL,
            86400.0,
            {
                ErrorClass.RATE_LIMITED: PlannedRule(retry=True, base=60.0),
                ErrorClass.TIMEOUT: PlannedRule(retry=False),
            },
        ),
        success=Success((0, 4), (3,), (RequiredFile("a/b", 1), RequiredFile("./c", 1024)), 7, ("test",), 9.0),
        stop=StopPlan(1.0, (StopStep("INT", 1.0),), 0.0),
        limits=Limits(60.0, 2**30, 100, 10, 2**20, 3),
        profile="plain",
        idempotent=False,
        account="team-a",
        resume=ResumePlan("never", 0, "any"),
        budget=BudgetPlan(10, 0.5, 1, "park"),
        watch=WatchPlan(60.0, "stop", 0.0, 1, 2, 3, 4, "park", 0, 2, "stop", "allow"),
    )


def test_every_field_of_a_task_is_one_of_the_plan() -> None:
    renamed = {"id": "task_id", "type": "task_type"}
    only_of_files = {"shell", "args"}
    named = {renamed.get(name, name) for name in (*TaskFields.model_fields, "id", "depends_on")} - only_of_files
    assert named == {field.name for field in msgspec.structs.fields(TaskPlan)}


def test_a_plan_survives_being_stored() -> None:
    found = run_plan({"tasks": [{"id": "a", "command": ["x"], "env": {"A": "1"}, "payload": {"n": 2**63 - 1}}]})
    assert msgspec.json.decode(msgspec.json.encode(found), type=RunPlan) == found


# What counts where several speak.

CLAUDE = Executor(
    command=("claude", "--model", "{model}", "{run}/{task}:{type}", "{{model}", "{nope}", '{"a": {}}'),
    env={"A": "executor", "B": "executor"},
    env_pass=("SSL_CERT_FILE",),
    secrets={"KEY": "key"},
    cwd="~/agents",
    mode="protocol",
    limits={"nice": 5, "files": 100},
    retry={"base": "1m", "classes": {"timeout": {"retry": False}, "rate_limited": {"base": "2m"}}},
    timeout="1h",
    provider="anthropic",
    model="small",
)


def test_what_a_task_leaves_out_is_as_its_executor_says() -> None:
    found = task_plan(CLAUDE, args=["go"], type="explore")
    assert found.command[-1] == "go"
    assert found.command[:4] == ("claude", "--model", "small", "run-1/t:explore")
    assert (found.cwd, found.mode, found.timeout) == ("/home/ann/agents", Mode.PROTOCOL, 3600.0)
    assert (found.provider, found.model, found.executor) == ("anthropic", "small", "x")
    assert (found.env, found.secrets) == ({"A": "executor", "B": "executor"}, {"KEY": "key"})
    assert found.env_pass == ("PATH", "HOME", "SSL_CERT_FILE")
    assert (found.limits.nice, found.limits.files, found.limits.output_bytes) == (5, 100, 256 * 2**20)


def test_what_a_task_says_counts_and_tables_are_laid_over_each_other_name_by_name() -> None:
    found = task_plan(
        CLAUDE,
        {"env": {"B": "defaults", "C": "defaults"}, "retry": {"base": "2m", "max_attempts": 2}, "timeout": "2h"},
        env={"C": "task"},
        retry={"max_attempts": 7, "classes": {"rate_limited": {"cap": "1h"}}},
        model="large",
        env_pass=["X"],
        type="t",
    )
    assert found.env == {"A": "executor", "B": "defaults", "C": "task"}
    assert (found.retry.base, found.retry.max_attempts, found.timeout) == (120.0, 7, 7200.0)
    assert found.retry.classes == {
        ErrorClass.TIMEOUT: PlannedRule(retry=False),
        ErrorClass.RATE_LIMITED: PlannedRule(base=120.0, cap=3600.0),
    }
    assert found.env_pass == ("PATH", "HOME", "X"), "a list is taken whole"
    assert found.command[2] == "large"


def test_a_payload_is_one_value_and_never_laid_over_another() -> None:
    assert task_plan(defaults={"payload": {"a": 1, "b": {"c": 1}}}, payload={"b": {}}).payload == {"b": {}}
    assert task_plan(defaults={"payload": {"a": 1}}).payload == {"a": 1}


def test_in_the_executors_command_four_names_are_filled_in_and_nothing_else() -> None:
    command = task_plan(CLAUDE, type="{model}", model="{task}").command
    assert command == ("claude", "--model", "{task}", "run-1/t:{model}", "{model}", "{nope}", '{"a": {}}')
    assert task_plan(command=["{model}", "{{"]).command == ("{model}", "{{"), "a file's own command is as written"


def test_a_name_that_the_executor_fills_in_and_nobody_says_is_missing() -> None:
    data = {"tasks": [{"id": "a", "executor": "x"}]}
    assert problems(data, {"x": Executor(command=("c", "{model}", "{type}"))}) == [
        ("/tasks/0/model", "MISSING_FIELD"),
        ("/tasks/0/type", "MISSING_FIELD"),
    ]


def test_a_task_that_names_no_executor_has_the_one_called_default() -> None:
    executors = {"default": Executor(timeout="1m", provider="p")}
    found = run_plan({"tasks": ONE}, executors).tasks[0]
    assert (found.timeout, found.provider, found.executor) == (60.0, "p", "default")
    assert run_plan({"tasks": [{**ONE[0], "executor": "default"}]}).tasks[0].executor == "default"


def test_null_says_the_same_as_leaving_out() -> None:
    fields = dict.fromkeys(TaskFields.model_fields)
    assert task_plan(**{**fields, "command": ["true"]}) == task_plan()
    head = dict.fromkeys(name for name in RunFile.model_fields if name != "tasks")
    assert run_plan({**head, "tasks": ONE}) == run_plan({"tasks": ONE})


@pytest.mark.parametrize(
    ("fields", "command"),
    [
        ({"command": ["a", "b"]}, ("a", "b")),
        ({"command": ["a"], "args": ["b", ""]}, ("a", "b", "")),
        ({"command": "a | b", "shell": True}, ("/bin/sh", "-c", "a | b")),
        ({"command": 'echo "$1"', "shell": True, "args": ["x"]}, ("/bin/sh", "-c", 'echo "$1"', "sh", "x")),
    ],
)
def test_a_command_is_a_list_and_a_text_only_where_a_shell_is_asked_for(
    fields: dict[str, Any], command: tuple[str, ...]
) -> None:
    assert task_plan(**fields).command == command


def test_a_list_stands_beside_a_shell_that_the_defaults_ask_for() -> None:
    data = {
        "defaults": {"shell": True},
        "tasks": [{"id": "a", "command": "a|b"}, {"id": "b", "command": ["c"]}],
    }
    assert [task.command for task in run_plan(data).tasks] == [("/bin/sh", "-c", "a|b"), ("c",)]


@pytest.mark.parametrize(
    ("given", "base", "cwd"),
    [
        (None, "/b", "/b"),
        (".", "/b", "/b"),
        ("x//y/.", "/b", "/b/x/y"),
        ("../x", "/b/c", "/b/c/../x"),
        ("/x/", "/b", "/x"),
        ("~", "/b", "/home/ann"),
        ("~/x", "/b", "/home/ann/x"),
        ("~//x", "/b", "/home/ann/x"),
        ("~ann", "/b", "/b/~ann"),
        ("/x", "", "/x"),
    ],
)
def test_a_relative_folder_begins_at_the_base(given: str | None, base: str, cwd: str) -> None:
    found = run_plan({"tasks": [{"id": "a", "command": ["x"], "cwd": given}]}, base=base)
    assert found.tasks[0].cwd == cwd


def test_without_a_base_each_task_needs_a_folder_of_its_own() -> None:
    data = {
        "tasks": [{**ONE[0], "cwd": "x"}, {"id": "b", "command": ["x"]}, {"id": "c", "command": ["x"], "cwd": "/x"}]
    }
    assert problems(data, base="") == [("/tasks/0/cwd", "BAD_PATH"), ("/tasks/1/cwd", "MISSING_FIELD")]


def test_a_dependency_that_is_named_twice_is_one() -> None:
    data = {"tasks": [*ONE, {"id": "b", "command": ["x"], "depends_on": ["a", "a"]}]}
    assert run_plan(data).tasks[1].depends_on == ("a",)


# What is refused.


@pytest.mark.parametrize(
    ("fields", "pointer", "code"),
    [
        ({"id": "-a"}, "/id", "BAD_ID"),
        ({"id": ""}, "/id", "BAD_ID"),
        ({"id": "a/b"}, "/id", "BAD_ID"),
        ({"id": ".."}, "/id", "BAD_ID"),
        ({"id": "a" * 129}, "/id", "BAD_ID"),
        ({"id": "a\n"}, "/id", "BAD_ID"),
        ({"id": 7}, "/id", "TYPE_MISMATCH"),
        ({"command": None}, "/command", "MISSING_FIELD"),
        ({"command": []}, "/command", "VALUE_OUT_OF_RANGE"),
        ({"command": [""]}, "/command/0", "VALUE_OUT_OF_RANGE"),
        ({"command": ["a\0"]}, "/command/0", "BAD_TEXT"),
        ({"command": ["a", 7]}, "/command/1", "TYPE_MISMATCH"),
        ({"command": "a b"}, "/command", "TYPE_MISMATCH"),
        ({"command": {"a": 1}}, "/command", "TYPE_MISMATCH"),
        ({"command": ["a"] * 1001}, "/command", "TOO_LARGE"),
        ({"command": ["a" * 131_072]}, "/command/0", "TOO_LARGE"),
        ({"command": ["a"], "shell": True}, "/command", "CONFLICT"),
        ({"shell": "yes"}, "/shell", "TYPE_MISMATCH"),
        ({"profile": "cladue"}, "/profile", "ENUM_MISMATCH"),
        ({"profile": "plain", "prompt": " \n"}, "/prompt", "BAD_TEXT"),
        ({"profile": "plain", "prompt": "a\0"}, "/prompt", "BAD_TEXT"),
        ({"profile": "plain", "prompt": 7}, "/prompt", "TYPE_MISMATCH"),
        ({"profile": "plain", "prompt": "a" * (2**20 + 1)}, "/prompt", "TOO_LARGE"),
        ({"profile": "plain", "prompt": "ż" * 2**19 + "a"}, "/prompt", "TOO_LARGE"),
        ({"idempotent": "no"}, "/idempotent", "TYPE_MISMATCH"),
        ({"account": "a\n"}, "/account", "BAD_NAME"),
        ({"resume": {"mode": "always"}}, "/resume/mode", "ENUM_MISMATCH"),
        ({"resume": {"attempts_max": 101}}, "/resume/attempts_max", "VALUE_OUT_OF_RANGE"),
        ({"budget": {"tokens": 0}}, "/budget/tokens", "VALUE_OUT_OF_RANGE"),
        ({"budget": {"cost_usd": 0}}, "/budget/cost_usd", "VALUE_OUT_OF_RANGE"),
        ({"budget": {"warn_ratio": 0}}, "/budget/warn_ratio", "VALUE_OUT_OF_RANGE"),
        ({"budget": {"warn_ratio": 1.1}}, "/budget/warn_ratio", "VALUE_OUT_OF_RANGE"),
        ({"budget": {"on_exceeded": "kill"}}, "/budget/on_exceeded", "ENUM_MISMATCH"),
        ({"watch": {"stream_hang_after": 0}}, "/watch/stream_hang_after", "VALUE_OUT_OF_RANGE"),
        ({"watch": {"burn_factor": 0.5}}, "/watch/burn_factor", "VALUE_OUT_OF_RANGE"),
        ({"watch": {"same_tool_warn": 21}}, "/watch/same_tool_max", "VALUE_OUT_OF_RANGE"),
        ({"watch": {"same_error_warn": 3, "same_error_max": 2}}, "/watch/same_error_max", "VALUE_OUT_OF_RANGE"),
        ({"args": "x"}, "/args", "TYPE_MISMATCH"),
        ({"cwd": ""}, "/cwd", "VALUE_OUT_OF_RANGE"),
        ({"cwd": "a\0"}, "/cwd", "BAD_TEXT"),
        ({"env": {"A": 1}}, "/env/A", "TYPE_MISMATCH"),
        ({"env": {"A": "x\0"}}, "/env/A", "BAD_TEXT"),
        ({"env": {"1A": "x"}}, "/env/1A", "BAD_NAME"),
        ({"env": {"A=B": "x"}}, "/env/A=B", "BAD_NAME"),
        ({"env": {"A/B": "x"}}, "/env/A~1B", "BAD_NAME"),
        ({"env": {"CREWD_FENCE": "1"}}, "/env/CREWD_FENCE", "BAD_NAME"),
        ({"env": {"TRACEPARENT": "1"}}, "/env/TRACEPARENT", "BAD_NAME"),
        ({"env": ["A=1"]}, "/env", "TYPE_MISMATCH"),
        ({"env_pass": ["CREWD_HTTP__TOKEN"]}, "/env_pass/0", "BAD_NAME"),
        ({"env_pass": ["A B"]}, "/env_pass/0", "BAD_NAME"),
        ({"secrets": {"A": "../x"}}, "/secrets/A", "BAD_NAME"),
        ({"secrets": {"A": ".x"}}, "/secrets/A", "BAD_NAME"),
        ({"secrets": {"A": "/x"}}, "/secrets/A", "BAD_NAME"),
        ({"secrets": {"CREWD_X": "x"}}, "/secrets/CREWD_X", "BAD_NAME"),
        ({"secrets": {"A": "a"}, "env": {"A": "1"}}, "/env/A", "CONFLICT"),
        ({"stdin": "a" * (2**20 + 1)}, "/stdin", "TOO_LARGE"),
        ({"stdin": "x", "mode": "protocol"}, "/stdin", "CONFLICT"),
        ({"mode": "protocl"}, "/mode", "ENUM_MISMATCH"),
        ({"kind": "dry"}, "/kind", "ENUM_MISMATCH"),
        ({"on_dependency_failure": "go"}, "/on_dependency_failure", "ENUM_MISMATCH"),
        ({"timeout": 0}, "/timeout", "VALUE_OUT_OF_RANGE"),
        ({"timeout": -5}, "/timeout", "VALUE_OUT_OF_RANGE"),
        ({"timeout": float("nan")}, "/timeout", "VALUE_OUT_OF_RANGE"),
        ({"timeout": float("inf")}, "/timeout", "VALUE_OUT_OF_RANGE"),
        ({"timeout": 10**5000}, "/timeout", "VALUE_OUT_OF_RANGE"),
        ({"timeout": "soon"}, "/timeout", "TYPE_MISMATCH"),
        ({"timeout": True}, "/timeout", "TYPE_MISMATCH"),
        ({"bad_lines_max": True}, "/bad_lines_max", "TYPE_MISMATCH"),
        ({"bad_lines_max": "7"}, "/bad_lines_max", "TYPE_MISMATCH"),
        ({"bad_lines_max": 1.5}, "/bad_lines_max", "TYPE_MISMATCH"),
        ({"priority": 1001}, "/priority", "VALUE_OUT_OF_RANGE"),
        ({"depends_on": "a"}, "/depends_on", "TYPE_MISMATCH"),
        ({"depends_on": ["../a"]}, "/depends_on/0", "BAD_ID"),
        ({"model": "a\nb"}, "/model", "BAD_NAME"),
        ({"executor": "a.b"}, "/executor", "BAD_NAME"),
        ({"concurrency_max": 2}, "/concurrency_max", "CONFLICT"),
        ({"heartbeat": {"warn_after": "5m", "dead_after": "1m"}}, "/heartbeat/dead_after", "VALUE_OUT_OF_RANGE"),
        ({"heartbeat": {"on_hung": "kill"}}, "/heartbeat/on_hung", "ENUM_MISMATCH"),
        ({"retry": {"max_attempts": 0}}, "/retry/max_attempts", "VALUE_OUT_OF_RANGE"),
        ({"retry": {"max_attempts": 101}}, "/retry/max_attempts", "VALUE_OUT_OF_RANGE"),
        ({"retry": {"base": "10m"}}, "/retry/cap", "VALUE_OUT_OF_RANGE"),
        ({"retry": {"jitter": "some"}}, "/retry/jitter", "ENUM_MISMATCH"),
        ({"retry": {"classes": {"ratelimited": {}}}}, "/retry/classes/ratelimited", "ENUM_MISMATCH"),
        ({"retry": {"classes": {"timeout": {"base": "1h"}}}}, "/retry/classes/timeout", "VALUE_OUT_OF_RANGE"),
        ({"retry": {"classes": {"timeout": {"bse": 1}}}}, "/retry/classes/timeout/bse", "UNKNOWN_FIELD"),
        ({"success": {"exit_codes": [256]}}, "/success/exit_codes/0", "VALUE_OUT_OF_RANGE"),
        ({"success": {"task_error_codes": [0]}}, "/success/task_error_codes", "CONFLICT"),
        ({"success": {"files": ["/etc/passwd"]}}, "/success/files/0/path", "BAD_PATH"),
        ({"success": {"files": ["a/../../b"]}}, "/success/files/0/path", "BAD_PATH"),
        ({"success": {"files": ["."]}}, "/success/files/0/path", "BAD_PATH"),
        ({"success": {"files": ["a\0"]}}, "/success/files/0/path", "BAD_TEXT"),
        ({"success": {"files": [{"path": "a", "size": 1}]}}, "/success/files/0/size", "UNKNOWN_FIELD"),
        ({"success": {"files": [7]}}, "/success/files/0", "TYPE_MISMATCH"),
        ({"success": {"output_bytes_min": -1}}, "/success/output_bytes_min", "VALUE_OUT_OF_RANGE"),
        ({"stop": {"steps": [{"signal": "KILL", "wait": 1}]}}, "/stop/steps/0/signal", "ENUM_MISMATCH"),
        ({"stop": {"steps": [{"signal": "INT"}]}}, "/stop/steps/0/wait", "MISSING_FIELD"),
        ({"limits": {"memory_bytes": "1kB"}}, "/limits/memory_bytes", "VALUE_OUT_OF_RANGE"),
        ({"limits": 7}, "/limits", "TYPE_MISMATCH"),
        ({"comand": 1}, "/comand", "UNKNOWN_FIELD"),
        ({"": 1}, "/", "UNKNOWN_FIELD"),
        ({"a/b~": 1}, "/a~1b~0", "UNKNOWN_FIELD"),
        ({"[key]": 1}, "/[key]", "UNKNOWN_FIELD"),
        ({"as a text": 1}, "/as a text", "UNKNOWN_FIELD"),
        ({"env": {"[key]": "x"}}, "/env/[key]", "BAD_NAME"),
        ({"payload": float("nan")}, "/payload", "VALUE_OUT_OF_RANGE"),
        ({"payload": {"a": [2**63]}}, "/payload/a/0", "VALUE_OUT_OF_RANGE"),
        ({"payload": {"a": "\ud800"}}, "/payload/a", "BAD_TEXT"),
        ({"payload": {1: 2}}, "/payload", "TYPE_MISMATCH"),
        ({"payload": {"a": {1, 2}}}, "/payload/a", "TYPE_MISMATCH"),
    ],
)
def test_one_wrong_field_is_one_problem_at_its_place(fields: dict[str, Any], pointer: str, code: str) -> None:
    assert task_problems(**fields) == [(pointer, code)]


@pytest.mark.parametrize(
    ("data", "pointer", "code"),
    [
        (None, "", "TYPE_MISMATCH"),
        ([], "", "TYPE_MISMATCH"),
        ("tasks", "", "TYPE_MISMATCH"),
        ({}, "/tasks", "MISSING_FIELD"),
        ({"tasks": []}, "/tasks", "VALUE_OUT_OF_RANGE"),
        ({"tasks": {"id": "a"}}, "/tasks", "TYPE_MISMATCH"),
        ({"tasks": None}, "/tasks", "TYPE_MISMATCH"),
        ({"tasks": [None]}, "/tasks/0", "TYPE_MISMATCH"),
        ({"tasks": [[]]}, "/tasks/0", "TYPE_MISMATCH"),
        ({"tasks": [{"command": ["x"]}]}, "/tasks/0/id", "MISSING_FIELD"),
        ({"task": [], "tasks": ONE}, "/task", "UNKNOWN_FIELD"),
        ({"name": 7, "tasks": ONE}, "/name", "TYPE_MISMATCH"),
        ({"crew": "", "tasks": ONE}, "/crew", "VALUE_OUT_OF_RANGE"),
        ({"crew": "a\x1b[2J", "tasks": ONE}, "/crew", "BAD_NAME"),
        ({"run_id": "../x", "tasks": ONE}, "/run_id", "BAD_ID"),
        ({"labels": {"a b": "x"}, "tasks": ONE}, "/labels/a b", "BAD_NAME"),
        ({"max_parallel": 0, "tasks": ONE}, "/max_parallel", "VALUE_OUT_OF_RANGE"),
        ({"defaults": [], "tasks": ONE}, "/defaults", "TYPE_MISMATCH"),
        ({"defaults": {"id": "a"}, "tasks": ONE}, "/defaults/id", "UNKNOWN_FIELD"),
        ({"defaults": {"depends_on": []}, "tasks": ONE}, "/defaults/depends_on", "UNKNOWN_FIELD"),
        ({"defaults": {"command": "x y"}, "tasks": [{"id": "a"}, {"id": "b"}]}, "/defaults/command", "TYPE_MISMATCH"),
        ({"defaults": {"retry": {"base": "1h"}}, "tasks": ONE}, "/defaults/retry/cap", "VALUE_OUT_OF_RANGE"),
        ({"defaults": {"executor": "x"}, "tasks": [{"id": "a"}, *ONE[:0]]}, "/defaults/executor", "UNKNOWN_EXECUTOR"),
        ({"tasks": [{"id": "a", "executor": "x"}]}, "/tasks/0/executor", "UNKNOWN_EXECUTOR"),
        ({"tasks": ONE * 10_001}, "/tasks", "TOO_LARGE"),
        ({"tasks": [{**ONE[0], "depends_on": ["b"] * 200_001}]}, "/tasks", "TOO_LARGE"),
    ],
)
def test_one_wrong_thing_about_a_run_is_one_problem_at_its_place(data: Any, pointer: str, code: str) -> None:
    assert problems(data) == [(pointer, code)]


def test_everything_that_is_wrong_is_told_at_once_in_the_order_of_the_file() -> None:
    data = {
        "nmae": "x",
        "defaults": {"timeot": 3, "env": {"CREWD_X": "1"}},
        "tasks": [
            {"id": "a", "command": ["x"], "depends_on": ["b", "bb"]},
            {"id": "b", "comand": ["x"], "depends_on": ["a", "b"], "retry": {"max_attempts": 0, "base": "x"}},
            {"id": "b", "executor": "claud", "timeout": -1},
            7,
        ],
    }
    assert problems(data, {"claude": Executor(command=("c",))}) == [
        ("/defaults/env/CREWD_X", "BAD_NAME"),
        ("/defaults/timeot", "UNKNOWN_FIELD"),
        ("/nmae", "UNKNOWN_FIELD"),
        ("/tasks/0/depends_on/1", "UNKNOWN_TASK"),
        ("/tasks/1/comand", "UNKNOWN_FIELD"),
        ("/tasks/1/command", "MISSING_FIELD"),
        ("/tasks/1/depends_on/0", "CYCLE"),
        ("/tasks/1/depends_on/1", "SELF_DEPENDENCY"),
        ("/tasks/1/retry/base", "TYPE_MISMATCH"),
        ("/tasks/1/retry/max_attempts", "VALUE_OUT_OF_RANGE"),
        ("/tasks/2/executor", "UNKNOWN_EXECUTOR"),
        ("/tasks/2/id", "DUPLICATE_ID"),
        ("/tasks/2/timeout", "VALUE_OUT_OF_RANGE"),
        ("/tasks/3", "TYPE_MISMATCH"),
    ]


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"timeot": 1}, "/tasks/0/timeot: 'timeot' is no field (did you mean timeout?)"),
        ({"Timeout": 1}, "/tasks/0/Timeout: 'Timeout' is no field (did you mean timeout?)"),
        ({"retry": {"bsae": 1}}, "/tasks/0/retry/bsae: 'bsae' is no field (did you mean base?)"),
        (
            {"retry": {"classes": {"rate_limit": {}}}},
            "/tasks/0/retry/classes/rate_limit: 'rate_limit' is unknown (did you mean rate_limited?)",
        ),
        ({"mode": "Protocol"}, "/tasks/0/mode: 'Protocol' is unknown (did you mean protocol?)"),
        ({"executor": "claud"}, "/tasks/0/executor: 'claud' is no executor (did you mean claude?)"),
        ({"executor": "zz"}, "/tasks/0/executor: 'zz' is no executor (add [executors.zz] to crewd.toml)"),
        ({"timeout": -5}, '/tasks/0/timeout: -5 is not a duration (write "30s", "1m30s"'),
        ({"priority": 7000}, "/tasks/0/priority: 7000 is out of range (-1000 to 1000)"),
        (
            {"command": "make"},
            '/tasks/0/command: \'make\' is no list of texts (write ["program", "argument"], or add',
        ),
        (
            {"success": {"files": ["../x"]}},
            "/tasks/0/success/files/0/path: '../x' does not stay inside the task's cwd",
        ),
    ],
)
def test_a_problem_names_its_place_the_value_and_the_remedy(fields: dict[str, Any], line: str) -> None:
    found = told({"tasks": [{"id": "a", "command": ["x"], **fields}]}, {"claude": Executor()})
    assert found.startswith(f"crew.toml: {line}")
    assert "\n" not in found


def test_what_may_be_a_secret_is_not_quoted() -> None:
    secret = 4071_1907
    fields = {"env": {"A": secret}, "stdin": secret, "secrets": {"B": f"../{secret}"}, "payload": 1e999}
    assert str(secret) not in told({"tasks": [{"id": "a", "command": ["x"], **fields}]})


def test_tasks_of_one_key_say_one_maximum() -> None:
    data = {
        "tasks": [
            {"id": "a", "command": ["x"], "concurrency_key": "k", "concurrency_max": 2},
            {"id": "b", "command": ["x"], "concurrency_key": "k"},
        ]
    }
    assert problems(data) == [("/tasks/1/concurrency_max", "CONFLICT")]


def test_a_base_beyond_the_cap_that_another_layer_set_is_told_where_it_was_written() -> None:
    data = {"defaults": {"retry": {"cap": "10s"}}, "tasks": [{**ONE[0], "retry": {"base": "1m"}}]}
    assert problems(data) == [("/tasks/0/retry/cap", "VALUE_OUT_OF_RANGE")]
    executors = {"default": Executor(retry={"base": "2m"})}
    assert problems({"defaults": {"retry": {"cap": "10s"}}, "tasks": ONE}, executors) == [
        ("/defaults/retry/cap", "VALUE_OUT_OF_RANGE")
    ]


def test_the_classes_of_errors_are_those_of_the_model() -> None:
    accepted = {each.value: {"retry": True} for each in ErrorClass}
    assert len(task_plan(retry={"classes": accepted}).retry.classes) == len(ErrorClass)
    assert {field.name for field in msgspec.structs.fields(PlannedRule)} == set(RetryRule.model_fields)


# Attacks.

INNER = ("id", "depends_on", "files", "steps", "classes", "base", "cap", "timeout", "path", "signal", "wait")
ODD = ("x", "[key]", "as a text", "", "__class__", "model_config", "a/b", "~", "\ud800")
NAMES = st.sampled_from([*RunFile.model_fields, *TaskFields.model_fields, *INNER, *ODD])
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        [
            "a",
            "b",
            "-1s",
            "5m",
            "1KiB",
            "command",
            "protocol",
            "claude",
            "sh",
            "-c",
            "x\0",
            "\ud800",
            2**63,
            10**400,
            b"x",
        ]
    )
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=5), max_leaves=30
)
FIELDS = dict.fromkeys((*TaskFields.model_fields, "depends_on"), VALUES)
IDS = st.sampled_from(["a", "b", "c"]) | LEAVES
TASKS = st.lists(st.fixed_dictionaries({"id": IDS}, optional=FIELDS) | VALUES, max_size=4)
HEAD = {name: VALUES for name in RunFile.model_fields if name != "tasks"}


@given(VALUES)
def test_any_value_is_a_plan_or_is_refused(value: Any) -> None:
    try:
        run_plan(value)
    except RunRefused as error:
        assert error.problems
        assert all(each.pointer == "" or each.pointer.startswith("/") for each in error.problems)
        str(error).encode("utf-8", "backslashreplace")


@given(
    st.fixed_dictionaries(
        {"tasks": TASKS}, optional={name: VALUES for name in RunFile.model_fields if name != "tasks"}
    )
)
def test_any_file_that_looks_like_one_is_a_plan_or_is_refused(data: Any) -> None:
    try:
        found = run_plan(data, {"a": Executor(command=("x", "{model}"))})
    except RunRefused as error:
        assert error.problems
        json.dumps([vars(each) for each in error.problems])
    else:
        assert msgspec.json.decode(msgspec.json.encode(found), type=RunPlan) == found


def test_a_value_that_is_nested_without_end_is_refused() -> None:
    value: Any = {}
    for _ in range(200_000):
        value = {"payload": value}
    assert [code for _, code in problems(value)] == ["TOO_LARGE"]
    assert [code for _, code in problems({"tasks": [{**ONE[0], "payload": [value]}]})] == ["TOO_LARGE"]


def test_a_value_with_too_many_parts_is_refused() -> None:
    assert problems({"tasks": [{**ONE[0], "payload": [0] * 500_001}]}) == [("", "TOO_LARGE")]


@pytest.mark.parametrize(
    "wrong", [{"comand": 1}, {"timeout": -1}, {"executor": "nope"}, {"depends_on": ["nope"]}, {"id": 7}]
)
def test_ten_thousand_wrong_tasks_are_told_in_a_second(wrong: dict[str, Any]) -> None:
    data = {"tasks": [{"id": f"t{n}", "command": ["x"], **wrong} for n in range(10_000)]}
    start = time.process_time()
    found = problems(data)
    assert time.process_time() - start < 2.0
    assert len(found) == 1001
