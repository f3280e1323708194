"""Names from outside lead nowhere: in paths and queries of every route, in arguments, in run files, in the inbox.

A name that is none is refused. None becomes a path beyond the folder that it belongs in, a header, or a failure.
"""

import asyncio
import contextlib
import itertools
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import pytest

from crewd.cli.main import COMMANDS, cli
from crewd.config.run_file import RunRefused, plan
from crewd.engine.managed.inbox import Inbox
from crewd.model.asking import Submitted
from crewd.web.app import build_app, routes
from crewd.web.export import FORMATS, file_name
from crewd.web.query import ID
from tests.cli.world import crewd, daemon, write_ledger
from tests.security.world import IDS, Place, Watched, asked, places, trusted
from tests.web.world import State

CANARY = "canary-of-a-file-elsewhere"
# As they may stand in a path, encoded or not; none of them is a name.
IN_PATHS = (
    "..", ".", "...", "../r1", "../../outside", "..%2fr1", "%2e%2e", "%2e%2e/%2e%2e/outside",
    "%2e%2e%2f%2e%2e%2foutside",
    "..\\r1", "..%5cr1", "%252e%252e%252fr1", "..;/r1", "/etc/passwd", "%2fetc%2fpasswd", "~", "~root", "%00",
    "r1%00",
    "r1%00.json", "r1%0a", "r1%0d%0aSet-Cookie:%20a=b", "-rf", "--help", "$(id)", "`id`", ";id", "|id", "r1&x",
    "r1%26x", "%",
    "%zz", "%c0%ae%c0%ae", "%e0%80%ae", "%ff", "%ed%a0%80", "%ef%bc%8e%ef%bc%8e", "%e2%80%ae", "%c3%a4", "{run}",
    "{0.__class__}", "%25s%25n", "r1'%20OR%20'1'='1", "r1%22", "%3Cscript%3E", "*", "[a-z]", "r1%20", "%20r1",
    "a" * 129,
    "a" * 5000, "r1:3", "r1,r2", "_r1", ".hidden", "C:r1", "r1@x", "r1=1", "r1+1", "r1%09",
)  # fmt: skip
# As arguments and in files: texts, which need no encoding.
NAMES = (
    "", ".", "..", "...", "../outside/secret", "../../outside/secret", "/etc/passwd", "..\\outside", "a/b",
    "a/../../b", "~", "~root",
    "$(id)", "`id`", "; id", "a\nb", "a\rb", "a\tb", "a\x00b", "\x1b[31m", "\u202e", "\uff0e\uff0e",
    "a" * 300, ".hidden", "%2e%2e",
    "{run}", "%s%n", "a'b", 'a"b', "<b>", "a b", "*",
)  # fmt: skip


def test_every_id_of_every_route_is_a_name_or_refused(tmp_path: Path) -> None:
    state = Watched(tmp_path)
    wrong: list[object] = []
    many = 0

    async def run() -> None:
        nonlocal many
        app = build_app(state)
        for place, path in hostile_paths():
            for method in sorted(place.methods):
                answer = await asked(app, method, path, trusted(), place.body)
                many += 1
                if not 400 <= answer.status < 500 or not answer.code or answer.values("set-cookie"):
                    wrong.append((method, path[:200], answer.status, answer.body[:100]))

    asyncio.run(run())
    print(f"ids in paths: {many}")
    assert many > 1000 and not wrong, wrong[:5]
    assert state.changes() == 0


def hostile_paths() -> Iterator[tuple[Place, str]]:
    """Every path with one of its names turned into none."""
    for place in places():
        for name in re.findall(r"{(\w+)}", place.template):
            for hostile in IN_PATHS:
                good = {each: value for each, value in IDS.items() if each != name}
                yield (
                    place,
                    place.template.replace(f"{{{name}}}", hostile).format(**good)
                    if "{" not in hostile
                    else (place.template.format(**good, **{name: quote(hostile)})),
                )


def test_no_text_in_a_query_leads_elsewhere_or_fails(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text(CANARY)
    state = Watched(tmp_path / "state")
    wrong: list[object] = []
    many = 0

    async def run() -> None:
        nonlocal many
        app = build_app(state)
        for template, name in queries():
            path = template.format(**IDS)
            for hostile in NAMES:
                answer = await asked(
                    app, "GET", f"{path}?{quote(name, safe='')}={quote(hostile, safe='')}", trusted()
                )
                many += 1
                if answer.status not in (200, 400, 404) or CANARY.encode() in answer.body:
                    wrong.append((path, name, hostile, answer.status, answer.body[:100]))

    asyncio.run(run())
    print(f"texts in queries: {many}")
    assert many > 1000 and not wrong, wrong[:5]


def queries() -> list[tuple[str, str]]:
    """Every parameter that a query of any route may have."""
    found = routes(State()).openapi()["paths"]
    return [
        (path, parameter["name"])
        for path, methods in found.items()
        for parameter in methods.get("get", {}).get("parameters", ())
        if parameter["in"] == "query"
    ]


def test_a_name_in_a_run_file_is_a_name_or_refused() -> None:
    many = 0
    for hostile in NAMES:
        if re.fullmatch(ID.removesuffix("$"), hostile):
            continue
        for where in RUN_FILE_NAMES:
            with pytest.raises(RunRefused):
                plan(where(hostile), executors={}, base="/", run_id="r1")
            many += 1
    print(f"names in run files: {many}")


def one_task(**more: Any) -> dict[str, Any]:
    return {"tasks": [{"id": "t1", "command": ["true"], "cwd": "/", **more}]}


RUN_FILE_NAMES = (
    lambda name: {**one_task(), "run_id": name},
    lambda name: {"tasks": [{"id": name, "command": ["true"], "cwd": "/"}]},
    lambda name: one_task(depends_on=[name]),
    lambda name: one_task(secrets={"KEY": name}),
    lambda name: one_task(executor=name),
)


def test_the_same_run_file_without_hostile_names_is_a_plan() -> None:
    made = plan({**one_task(secrets={"KEY": "api"}), "run_id": "r1"}, executors={}, base="/", run_id="x")
    assert made.run_id == "r1"


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "", ".", "a\x00b"])
def test_a_file_that_a_task_must_leave_lies_in_its_folder(path: str) -> None:
    with pytest.raises(RunRefused):
        plan(one_task(success={"files": [path]}), executors={}, base="/", run_id="r1")


class Taking:
    """Accepts everything."""

    def __init__(self) -> None:
        self.taken: list[Any] = []

    async def submit(self, data: Any, *, base: str, key: str, actor: str, source: str) -> Submitted:
        self.taken.append(data)
        return Submitted(f"run-{len(self.taken)}", False, 0)


def test_no_name_in_the_inbox_leads_out_of_it(tmp_path: Path) -> None:
    outside, inbox = tmp_path / "outside", tmp_path / "inbox"
    outside.mkdir()
    (outside / "secret.json").write_text(json.dumps({"name": CANARY}))
    for folder in (inbox, inbox / "accepted", inbox / "refused"):
        folder.mkdir()
    names = [name for name in NAMES if name and "/" not in name and "\x00" not in name and len(name) < 250]
    for name in names:
        (inbox / f"{name}.json").write_text("{}")
    Path(os.fsdecode(bytes(inbox) + b"/\xff\xfe.json")).write_text("{}")
    (inbox / "bad.json").write_text("{")
    for name, target in (("link.json", outside / "secret.json"), ("loop.json", inbox / "loop.json")):
        (inbox / name).symlink_to(target)
    (inbox / "folder.json").mkdir()
    os.mkfifo(inbox / "pipe.json")
    before = {path: path.lstat().st_mtime_ns for path in outside.rglob("*")}
    actions = Taking()

    async def run() -> None:
        looking = Inbox(str(inbox), actions)  # type: ignore[arg-type]  # all that it asks of them
        for _ in range(2):
            async with asyncio.timeout(10):
                await looking.look()

    asyncio.run(run())
    visible = [name for name in names if not name.startswith(".")]
    assert len(actions.taken) == len(visible) + 1  # and the one that is no Unicode
    assert all(CANARY not in str(each) for each in actions.taken)
    assert {path: path.lstat().st_mtime_ns for path in outside.rglob("*")} == before
    assert {path.name for path in tmp_path.iterdir()} == {"outside", "inbox"}
    assert len(os.listdir(inbox / "accepted")) == len(actions.taken)
    assert all(path.parent.parent == inbox for path in (inbox / "accepted").iterdir())
    assert (inbox / "link.json").is_symlink() and (inbox / "folder.json").is_dir()


def arguments() -> Iterator[tuple[list[str], list[click.Argument]]]:
    """Every command that takes arguments, with how it is called."""
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        inner = command.commands.items() if isinstance(command, click.Group) else []
        for words, each in [([name], command), *(([name, word], each) for word, each in inner)]:
            found = [parameter for parameter in each.params if isinstance(parameter, click.Argument)]
            # What is behind `worker check --` is a command that is to be run, and `assets dump` writes wherever it is
            # told to: both may be anything (tests/cli/test_assets.py has what stays within the folder).
            if found and name != "worker" and words != ["assets", "dump"]:
                yield words, found


GOOD = {"run": "r-bad", "task": "t1", "plan": IDS["plan"], "subject": "r-bad/t1", "reason": "x"}
NEEDED = {  # without which a command does not begin
    ("diagnose",): ["--json"], ("deadletter", "bury"): ["--reason", "x"], ("deadletter", "discard"): ["--reason",
    "x"],
    ("recover", "approve"): ["--by", "x"], ("recover", "decline"): ["--by", "x"], ("incidents",
    "snooze"): ["--for", "1h"],
}  # fmt: skip
# What a person may be told: found or failed, usage, nothing matched, unreachable, refused, bad run file.
TOLD = {1, 2, 3, 69, 77, 78}


@pytest.mark.slow
@pytest.mark.parametrize("is_up", [True, False])
def test_no_argument_of_any_command_leads_elsewhere(
    tmp_path: Path, is_up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    state = home / "state"
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text(CANARY)
    state.mkdir(parents=True)
    monkeypatch.chdir(home)  # what is relative is seen too
    write_ledger(state)
    wrong: list[object] = []
    many = 0
    before = tree(tmp_path)
    with daemon(state) if is_up else contextlib.nullcontext():
        for words, parameters in arguments():
            for turned, hostile in itertools.product(parameters, NAMES):
                if not hostile or "\x00" in hostile:
                    continue  # no argument of a process can have one, and "" is none
                values = [hostile if each is turned else GOOD.get(each.name or "", "x") for each in parameters]
                # A folder as the place of an export: the name of the file in it comes from the argument.
                more = ["-o", str(home)] if words == ["export"] else NEEDED.get(tuple(words), [])
                result = crewd(*words, *more, "--", *values, folder=home, environ=environment(state))
                many += 1
                crashed = result.exception is not None and not isinstance(result.exception, SystemExit)
                told = TOLD | {0} if words[0] in HARMLESS else TOLD
                if crashed or result.exit_code not in told or CANARY in result.output:
                    wrong.append((words, values, result.exit_code, repr(result.exception), result.output[-200:]))
                if "\x1b" in result.output or "\u202e" in result.output:
                    wrong.append((words, values, "a control character reaches the terminal"))
    after = tree(tmp_path)
    print(f"arguments, daemon {'up' if is_up else 'down'}: {many}")
    assert not wrong, wrong[:5]
    assert after == before


# What finds nothing by a pattern or a subject, and says so, has done what it was asked for.
HARMLESS = {"metrics"}


def environment(state: Path) -> dict[str, str]:
    return {"CREWD_LEDGER__FOLDER": str(state), "CREWD_HTTP__PORT": "9"}


def tree(folder: Path) -> dict[str, int]:
    """Everything there is, but for what a reader of a ledger leaves beside it."""
    return {
        str(path): path.lstat().st_size
        for path in sorted(folder.rglob("*"))
        if not path.name.endswith(("-shm", "-wal", "daemon.json"))
    }


@pytest.mark.parametrize("form", FORMATS)
def test_the_name_of_an_exported_file_is_one_name(form: str) -> None:
    for name in (*NAMES, *IDS.values()):
        if re.fullmatch(ID.removesuffix("$"), name):
            assert Path(file_name(name, form)).name == file_name(name, form)
            assert quote(file_name(name, form)) == file_name(name, form)
