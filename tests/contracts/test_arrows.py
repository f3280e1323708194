"""The arrows: who may know whom, and through which door clock, chance, processes and disk are reached."""

import ast
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

import crewd

PICTURE = """
    cli
    daemon | demo
    web | fleet
    engine
    sources | telemetry | ledger
    config | host
    detection | policy
    model

Higher may know lower; siblings on one line do not know each other.
"""
HEIGHT = {
    part: -number for number, line in enumerate(PICTURE.split("\n\n")[0].split("\n")) for part in line.split()[::2]
}
# Known to all, knowing none: the version, and the errors that end a command. `__main__` starts the command line.
FLOOR, ROOF = ("__init__", "errors", "worker"), "__main__"

PURE = {"detection", "policy", "model"}
# What would let a judgement be surprised.
SURPRISES = {"asyncio", "time", "random", "os", "logging", "structlog", "socket", "threading"}
DOORS = {"time", "random", "os", "secrets", "socket", "subprocess"}
# `host` is the door. The edges of the process itself (exit codes, standard streams, signals, environment) are the
# business of whoever starts and serves.
AT_THE_DOOR = {"host", "cli", "web", "daemon", "worker", ROOF}
ALLOWED = {("demo", "subprocess")}  # the workers of the demo are real processes
NOWS = {"now", "utcnow", "today"}  # of datetime and date: a clock that nobody injected
# The daemon is wired in several files; a format's package may name what it offers.
WIRING = {"assembly": "daemon", "tasks": "daemon", "upkeep": "daemon", "wired": "daemon"}
FACADES = {"sources/beat/__init__.py", "sources/pi_crew/__init__.py", "config/run_file/__init__.py"}
BUCKETS = {"utils", "util", "common", "helpers", "helper", "types", "interfaces", "misc"}

ROOT = Path(crewd.__file__).parent
MODULES = sorted(PurePosixPath(path.relative_to(ROOT).as_posix()) for path in ROOT.rglob("*.py"))


def part_of(module: PurePosixPath) -> str:
    part = module.parts[0].removesuffix(".py")
    return WIRING.get(part, part)


def imports(module: PurePosixPath, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Name every module that is imported anywhere, at the top or within a function: line, absolute dotted name."""
    package = ("crewd", *module.parts[:-1])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            name = ".".join([*above, *([node.module] if node.module else [])])
            # `from crewd import engine` imports crewd.engine; of other packages the first word is enough.
            yield from ((node.lineno, f"{name}.{alias.name}" if name == "crewd" else name) for alias in node.names)


def is_known_to(part: str, other: str) -> bool:
    """Whether `part` may import from `other`."""
    if other == part or other in FLOOR:
        return True
    if part in FLOOR or other == ROOF:
        return False
    return part == ROOF or HEIGHT[part] > HEIGHT[other]


def wrongs(name: str, source: str) -> list[str]:
    """Everything in one module that breaks a rule of this page: a line each."""
    module, tree = PurePosixPath(name), ast.parse(source)
    return [f"crewd/{name}:{line}: {wrong}" for line, wrong in sorted({*_wrongs(module, tree)})]


def _wrongs(module: PurePosixPath, tree: ast.Module) -> Iterator[tuple[int, str]]:
    part = part_of(module)
    if part not in HEIGHT and part not in (*FLOOR, ROOF):
        yield 1, f"{part} has no place in the picture"
        return
    if bucket := BUCKETS & {piece.removesuffix(".py").strip("_") for piece in module.parts}:
        yield 1, f"{bucket.pop()} says nothing about what lives there"
    if module.name == "__init__.py" and len(module.parts) > 1 and not _says_what_lives_there(module, tree):
        yield 1, "a package's __init__ is one docstring that says what may live there"
    for line, name in imports(module, tree):
        yield from ((line, wrong) for wrong in _wrong_import(part, name))
    if part not in AT_THE_DOOR:
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in NOWS and _names_a_date(node.value):
                yield node.lineno, f"{part} reads a clock with {node.attr}(); take the time from crewd.host.clock"


def _wrong_import(part: str, name: str) -> Iterator[str]:
    first, _, rest = name.partition(".")
    if first == "crewd":
        other = _part_named(rest.partition(".")[0])
        if not is_known_to(part, other):
            yield f"{part} may not know {other}"
    elif part in PURE and first in SURPRISES:
        yield f"{part} is pure and may not import {first}"
    elif first in DOORS and part not in AT_THE_DOOR and (part, first) not in ALLOWED:
        yield f"{part} may not import {first}; it is reached through crewd.host"


def _part_named(name: str) -> str:
    part = WIRING.get(name, name)
    # Any other name is one within crewd/__init__.py, such as __version__.
    return part if part in HEIGHT or part in (*FLOOR, ROOF) else "__init__"


def _says_what_lives_there(module: PurePosixPath, tree: ast.Module) -> bool:
    return ast.get_docstring(tree) is not None and (len(tree.body) == 1 or str(module) in FACADES)


def _names_a_date(node: ast.expr) -> bool:
    return (isinstance(node, ast.Name) and node.id in ("datetime", "date")) or (
        isinstance(node, ast.Attribute) and node.attr in ("datetime", "date")
    )


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_every_module_keeps_to_the_picture(module: PurePosixPath) -> None:
    found = wrongs(str(module), (ROOT / module).read_text(encoding="utf-8"))
    assert not found, "\n".join([*found, PICTURE])


def test_every_folder_of_the_code_is_a_package() -> None:
    folders = {module.parent for module in MODULES if len(module.parts) > 1}
    assert {folder for folder in folders if folder / "__init__.py" not in MODULES} == set()


def test_the_picture_is_the_one_that_is_meant() -> None:
    assert HEIGHT["cli"] > HEIGHT["daemon"] > HEIGHT["web"] > HEIGHT["engine"] > HEIGHT["sources"] > HEIGHT["host"]
    assert HEIGHT["host"] > HEIGHT["detection"] > HEIGHT["model"]
    for line in (("web", "fleet"), ("sources", "telemetry", "ledger"), ("config", "host"), ("detection", "policy")):
        assert len({HEIGHT[part] for part in line}) == 1


WRONG = [
    # the arrows
    ("model/task.py", "from crewd.detection.options import Patience", "model may not know detection"),
    ("detection/hold.py", "import crewd.engine.pace", "detection may not know engine"),
    ("detection/hold.py", "from crewd.policy.retry import after_failure", "detection may not know policy"),
    ("sources/beat.py", "from crewd.ledger.ledger import Ledger", "sources may not know ledger"),
    ("telemetry/sinks.py", "from crewd.sources.source import Source", "telemetry may not know sources"),
    ("ledger/log.py", "def log():\n    from crewd.telemetry import logs", "ledger may not know telemetry"),
    ("config/load.py", "from crewd.host.files import Root", "config may not know host"),
    ("host/files.py", "from crewd.config.load import load", "host may not know config"),
    ("engine/patrol.py", "from crewd import web", "engine may not know web"),
    ("engine/patrol.py", "from .. import cli", "engine may not know cli"),
    ("engine/patrol.py", "from ..cli.main import main", "engine may not know cli"),
    ("engine/rounds/look.py", "from ...daemon import serve", "engine may not know daemon"),
    ("web/app.py", "from crewd.daemon import serve", "web may not know daemon"),
    ("demo/crew.py", "from crewd.daemon import serve", "demo may not know daemon"),
    ("daemon.py", "from crewd.cli.main import main", "daemon may not know cli"),
    ("engine/patrol.py", "from crewd import assembly", "engine may not know daemon"),
    ("cli/main.py", "from crewd.__main__ import main", "cli may not know __main__"),
    ("errors.py", "from crewd.model.run import Run", "errors may not know model"),
    ("__init__.py", "from crewd.cli.main import main", "__init__ may not know cli"),
    ("brain/think.py", "", "brain has no place in the picture"),
    # purity
    ("model/run.py", "import asyncio", "model is pure and may not import asyncio"),
    ("policy/retry.py", "from random import random", "policy is pure and may not import random"),
    ("detection/hold.py", "def now():\n    import time", "detection is pure and may not import time"),
    ("detection/hold.py", "import os.path", "detection is pure and may not import os"),
    ("detection/hold.py", "import logging as log", "detection is pure and may not import logging"),
    (
        "detection/hold.py",
        "if TYPE_CHECKING:\n    import structlog",
        "detection is pure and may not import structlog",
    ),
    ("detection/hold.py", "import re, socket", "detection is pure and may not import socket"),
    ("detection/hold.py", "import threading", "detection is pure and may not import threading"),
    ("detection/hold.py", "datetime.now(UTC)", "detection reads a clock"),
    # the door
    ("engine/patrol.py", "import time", "engine may not import time"),
    ("sources/beat.py", "from os import path", "sources may not import os"),
    ("telemetry/sinks.py", "import secrets", "telemetry may not import secrets"),
    ("ledger/store.py", "import subprocess", "ledger may not import subprocess"),
    ("config/load.py", "from random import choice", "config may not import random"),
    ("demo/crew.py", "import os, subprocess, time", "demo may not import time"),
    ("engine/patrol.py", "import datetime\ndatetime.datetime.utcnow()", "engine reads a clock"),
    ("config/load.py", "date.today()", "config reads a clock"),
    # packages
    ("engine/__init__.py", '"""ACT."""\nfrom crewd.engine.patrol import Patrol', "one docstring"),
    ("engine/__init__.py", "", "one docstring"),
    ("engine/utils.py", "", "utils says nothing"),
    ("sources/_helpers/names.py", "", "helpers says nothing"),
    ("model/types.py", "", "types says nothing"),
]


@pytest.mark.parametrize(("name", "source", "wrong"), WRONG)
def test_a_module_that_breaks_a_rule_is_found(name: str, source: str, wrong: str) -> None:
    assert any(wrong in found for found in wrongs(name, source)), wrongs(name, source)


RIGHT = [
    ("model/run.py", "import msgspec\nfrom datetime import UTC, datetime\ndatetime.fromtimestamp(0, UTC)"),
    ("detection/hold.py", "from crewd.detection.silence import Gap\nfrom crewd.model.moment import Reading"),
    ("detection/hold.py", "import timeit_of_its_own, ostrich"),
    ("engine/patrol.py", "import asyncio\nfrom crewd.ledger.batch import Batch\nfrom crewd.host.clock import Clock"),
    ("engine/rounds/look.py", "from ..book import Book\nfrom ...sources.source import Source"),
    ("telemetry/labels.py", "from crewd import __version__\nfrom crewd.errors import CrewdError"),
    ("host/clock.py", "import time, os, secrets, socket, subprocess, random"),
    ("host/clock.py", "datetime.now(UTC)"),
    ("cli/main.py", "import os\nfrom crewd.daemon import serve\nfrom crewd.demo.crew import Crew"),
    ("web/app.py", "import os\nfrom crewd.telemetry.metrics import Metrics"),
    ("__main__.py", "from crewd.cli.main import main"),
    ("__init__.py", '__version__ = "1"'),
    ("engine/__init__.py", '"""ACT."""'),
    ("assembly.py", "from crewd.config.load import load\nfrom crewd.engine.options import PatrolOptions"),
    ("daemon.py", "from crewd import assembly"),
    ("engine/patrol.py", "snapshot.now\nself.clock.now()"),
]


@pytest.mark.parametrize(("name", "source"), RIGHT)
def test_a_module_that_keeps_the_rules_is_left_alone(name: str, source: str) -> None:
    assert wrongs(name, source) == []
