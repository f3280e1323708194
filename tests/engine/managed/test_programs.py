"""Where a program is looked for: beside the loop, but where every folder is known to be on a disk of this machine."""

from pathlib import Path

import pytest

from crewd.engine.managed import places
from crewd.engine.managed.places import NEAR_MAX, NEAR_SECONDS, CannotStart, Programs
from crewd.model.plan import TaskPlan

ENV = {"PATH": "/usr/bin:/bin"}


def plan(cwd: str = "/", command: str = "true") -> TaskPlan:
    return TaskPlan(task_id="a", command=(command,), cwd=cwd)


def test_what_is_near_is_known_for_a_while_and_for_the_same_folders_only() -> None:
    programs = Programs()
    assert not programs.near(plan(), ENV, 100.0)
    assert programs.find(plan(), ENV, 100.0).endswith("/true")
    assert programs.near(plan(), ENV, 100.0) and programs.near(plan(), ENV, 99.9 + NEAR_SECONDS)
    assert not programs.near(plan(), ENV, 100.0 + NEAR_SECONDS)
    assert not programs.near(plan("/tmp"), ENV, 100.0)
    assert not programs.near(plan(), {"PATH": "/net/bin:/usr/bin"}, 100.0)


@pytest.mark.parametrize("far", ["/there", "/net/bin", "/opt/agent"], ids=["folder", "path", "program"])
def test_one_folder_that_may_not_answer_is_enough(far: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "is_network", lambda path: str(path) == far)
    monkeypatch.setattr(places, "find_command", lambda plan, env: "/opt/agent/run")
    programs, env = Programs(), {"PATH": "/net/bin:/usr/bin"} if far == "/net/bin" else ENV
    task = plan("/there" if far == "/there" else "/", "/opt/agent/run" if far == "/opt/agent" else "true")
    if far != "/opt/agent":
        monkeypatch.setattr(places, "find_command", lambda plan, env: "/usr/bin/true")
    programs.find(task, env, 1.0)
    assert not programs.near(task, env, 1.0)


def test_a_program_that_is_not_there_teaches_nothing(tmp_path: Path) -> None:
    programs = Programs()
    with pytest.raises(CannotStart):
        programs.find(plan(str(tmp_path / "none")), ENV, 1.0)
    with pytest.raises(CannotStart):
        programs.find(plan(command="no-such-program"), ENV, 1.0)
    assert not programs.near(plan(), ENV, 1.0)


def test_no_more_folders_are_remembered_than_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "is_network", lambda path: False)
    monkeypatch.setattr(places, "find_command", lambda plan, env: "/usr/bin/true")
    programs = Programs()
    for number in range(NEAR_MAX + 1):
        programs.find(plan(f"/{number}"), ENV, 1.0)
    assert not programs.near(plan("/0"), ENV, 1.0) and programs.near(plan(f"/{NEAR_MAX}"), ENV, 1.0)
