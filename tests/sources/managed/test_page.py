"""The page of the protocol and the code name the same messages, fields, faults and classes."""

import ast
import json
import re
from pathlib import Path

import msgspec
import pytest

from crewd import worker
from crewd.model.failure import ErrorClass
from crewd.sources.managed import conversation, messages
from crewd.sources.managed.messages import (
    BAD_KINDS,
    TEXT_MAX,
    TYPES,
    Bad,
    Cancel,
    Ping,
    Shutdown,
    TaskMessage,
    decode,
)

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/reference/worker-protocol.md").read_text()
SECTIONS = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))
TO_WORKER = {"task": TaskMessage, "cancel": Cancel, "ping": Ping, "shutdown": Shutdown}


def fields_of(kind: type[msgspec.Struct]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(kind)}


def named_in_table(section: str) -> set[str]:
    cells = re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def example_of(section: str) -> dict[str, object]:
    found = re.search(r"(\{\"type\":.*\})(?:`|\n)", section)
    assert found is not None
    example: dict[str, object] = json.loads(found[1])
    return example


def test_every_message_has_a_section_and_every_section_a_message() -> None:
    assert set(SECTIONS) == TYPES.keys() | TO_WORKER.keys()


@pytest.mark.parametrize("name", TYPES)
def test_the_fields_of_a_message_are_those_of_its_section(name: str) -> None:
    assert named_in_table(SECTIONS[name]) == fields_of(TYPES[name])


@pytest.mark.parametrize("name", TYPES)
def test_every_example_of_a_worker_is_a_message_with_known_fields(name: str) -> None:
    example = example_of(SECTIONS[name])
    message = decode(json.dumps(example).encode())
    assert not isinstance(message, Bad), message
    assert type(message) is TYPES[name]
    assert example.keys() - {"type"} <= fields_of(TYPES[name])


@pytest.mark.parametrize("name", TYPES)
def test_required_fields_are_called_required(name: str) -> None:
    required = {
        field.encode_name
        for field in msgspec.structs.fields(TYPES[name])
        if field.default is msgspec.NODEFAULT and field.default_factory is msgspec.NODEFAULT
    }
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*)\|", SECTIONS[name], re.MULTILINE)
    assert {field for field, kind in rows if "required" in kind} == required


@pytest.mark.parametrize("name", TEXT_MAX)
def test_the_lengths_at_which_texts_are_cut_are_told(name: str) -> None:
    for field, limit in TEXT_MAX[name].items():
        row = re.search(rf"^\| `{field}` \|[^\n]*", SECTIONS[name], re.MULTILINE)
        assert row is not None
        if (name, field) not in {("ready", "protocol"), ("error", "class")}:  # words of a closed set
            assert f"{limit:,} characters" in row[0], field


@pytest.mark.parametrize("name", TO_WORKER)
def test_what_crewd_says_is_shown_with_all_its_fields(name: str) -> None:
    example = example_of(SECTIONS[name])
    optional = {"resume"}
    assert example.keys() - {"type"} == fields_of(TO_WORKER[name]) - optional
    assert messages.encode(msgspec.convert(example, TO_WORKER[name])) == (
        json.dumps(example, separators=(",", ":")).encode() + b"\n"
    )
    if name == "task":
        assert named_in_table(SECTIONS[name]) == fields_of(TaskMessage)


def test_every_kind_of_bad_line_and_every_class_is_on_the_page() -> None:
    kinds = re.search(r"\| kind of bad line \|.*?\n\n", PAGE, re.DOTALL)
    assert kinds is not None
    assert named_in_table(kinds[0]) == set(BAD_KINDS)
    classes = re.search(r"The classes: (.*?)\n\n", PAGE, re.DOTALL)
    assert classes is not None
    assert set(re.findall(r"`(\w+)`", classes[1])) - {"retry_after_s"} == {each.value for each in ErrorClass}


def test_the_limits_are_those_of_the_code() -> None:
    for number in (f"{messages.DEPTH_MAX} levels", f"{messages.BRACKETS_MAX:,} opening", f"{messages.PATH_MAX:,}"):
        assert number in PAGE
    assert f"{conversation.ARTIFACTS_MAX:,} paths" in PAGE
    assert f"{conversation.NAMES_MAX} models" in PAGE
    assert messages.DETAILS_BYTES_MAX == 16 * 1024
    assert conversation.BAD_LINES_MAX == 10


def test_the_module_for_workers_says_only_what_crewd_understands() -> None:
    tree = ast.parse(Path(worker.__file__).read_text())
    said: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("say", "send"):
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant):
                said.setdefault(str(first.value), set()).update(word.arg for word in node.keywords if word.arg)
    assert {"ready", "busy", "chunk", "log", "usage", "artifact", "pong"} <= said.keys()
    for name, fields in said.items():
        # `id` is no field of `log`, and is ignored there.
        assert fields - {"id"} <= fields_of(TYPES[name]), name


def test_every_function_for_workers_is_on_the_page() -> None:
    python = PAGE.split("## Python: crewd.worker")[1].split("\n## ")[0]
    for name in worker.__all__:
        assert re.search(rf"[`.]{name}\b", python) or name == "Task", name
    for field in worker.Task._fields:
        assert f"`.{field}`" in python, field
