"""The published schema and the reference page say what the validation does, and the examples keep to all three."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from crewd.config.load import load
from crewd.config.run_file import Code, Executor, RunRefused, format_of, read_text
from crewd.config.run_file.fields import RunFile, TaskFields
from crewd.config.run_file.page import as_markdown
from crewd.config.run_file.schema import DIALECT, run_schema
from crewd.policy.profiles import PROFILES
from tests.config.run_file.given import run_plan

PROJECT = Path(__file__).parents[3]
PAGE = PROJECT / "docs/reference/run-file.md"
EXAMPLES = sorted(path for path in (PROJECT / "config/examples").iterdir() if path.is_file())
SCHEMA = run_schema()


def test_the_reference_page_is_up_to_date() -> None:
    assert PAGE.read_text() == as_markdown(), (
        "write it anew: crewd config schema --run --format markdown > docs/reference/run-file.md"
    )


def test_every_field_of_the_schema_is_on_the_page_with_its_explanation() -> None:
    page = PAGE.read_text()
    tables = [SCHEMA, *SCHEMA["$defs"].values()]
    for table in tables:
        for name, field in table["properties"].items():
            assert f"| `{name}` |" in page
            assert field["description"] in page


def test_every_code_is_on_the_page() -> None:
    page = PAGE.read_text()
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", page, re.MULTILINE)) == {code.value for code in Code}


def test_the_schema_is_json_of_the_dialect_that_it_names_and_every_reference_leads_somewhere() -> None:
    text = json.dumps(SCHEMA)
    assert json.loads(text) == SCHEMA | {"$schema": DIALECT}
    for name in re.findall(r'"\$ref": "#/\$defs/(\w+)"', text):
        assert name in SCHEMA["$defs"]
    assert set(SCHEMA["properties"]) == set(RunFile.model_fields)
    assert set(SCHEMA["$defs"]["Task"]["properties"]) == {*TaskFields.model_fields, "id", "depends_on"}
    assert keywords(SCHEMA) <= KNOWN


def test_no_table_of_the_schema_is_open() -> None:
    for table in (SCHEMA, *SCHEMA["$defs"].values()):
        assert table["additionalProperties"] is False


def test_the_defaults_of_the_schema_are_those_of_a_plan() -> None:
    tables = SCHEMA["$defs"]
    assert tables["Retry"]["properties"]["max_attempts"]["default"] == 3
    assert tables["Stop"]["properties"]["steps"]["default"] == [{"signal": "TERM", "wait": "5s"}]
    assert tables["Task"]["properties"]["startup_timeout"]["default"] == 30.0
    for field in tables["TaskFields"]["properties"].values():
        assert "default" not in field, "what the file's defaults leave out may come from an executor"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_a_plan_and_keeps_to_the_schema(path: Path) -> None:
    data = read_text(path.read_bytes(), format_of(path.name))
    assert list(complaints(data, SCHEMA)) == []
    found = run_plan(data, executors_of_the_examples(), base=str(path.parent))
    assert found.tasks
    for task in found.tasks:
        for word in task.command:
            if word.startswith("workers/"):
                assert (path.parent / word).is_file()


def executors_of_the_examples() -> Mapping[str, Executor]:
    """What stands in crewd.toml where somebody copied all of them."""
    found: dict[str, Executor] = {}
    for path in sorted((PROJECT / "config/examples/executors").iterdir()):
        found |= load(path, {}).settings.executors
    return found


AGENTS = sorted(name for name, profile in PROFILES.items() if profile.program)
# Words that let an agent do whatever it likes.
UNSAFE = ("yolo", "danger", "bypass")


@pytest.mark.parametrize("name", AGENTS)
def test_there_is_an_executor_of_every_agent_and_a_run_that_uses_it(name: str) -> None:
    executor = executors_of_the_examples()[name]
    assert executor.profile == name
    data = read_text((PROJECT / f"config/examples/{name}.toml").read_bytes(), "toml")
    found = run_plan(data, executors_of_the_examples())
    assert found.budget.on_exceeded == "park"
    for task in found.tasks:
        assert (task.executor, task.profile, task.command[0]) == (name, name, name)
        assert task.prompt
        assert task.stdin is None
        assert task.timeout
        assert not any(unsafe in word.lower() for word in task.command for unsafe in UNSAFE)
        assert task.stop.steps == PROFILES[name].stop


def test_an_example_says_what_its_agent_may_do() -> None:
    pages = {name: (PROJECT / f"config/examples/executors/{name}.toml").read_text() for name in AGENTS}
    assert all("# What it may do" in page for page in pages.values())
    assert "no permission system" in pages["pi"]


def test_there_are_examples_of_every_format() -> None:
    assert {format_of(path.name) for path in EXAMPLES} == {"toml", "json", "yaml"}


ONE = {"id": "a", "command": ["x"]}
BOTH_REFUSE: tuple[dict[str, Any], ...] = (
    {},
    {"tasks": []},
    {"tasks": [{"command": ["x"]}]},
    {"tasks": [{**ONE, "id": "-a"}]},
    {"tasks": [{**ONE, "comand": 1}]},
    {"tasks": [{**ONE, "command": []}]},
    {"tasks": [{**ONE, "command": 7}]},
    {"tasks": [{**ONE, "env": {"A B": "x"}}]},
    {"tasks": [{**ONE, "env": {"A": 1}}]},
    {"tasks": [{**ONE, "secrets": {"A": "../x"}}]},
    {"tasks": [{**ONE, "timeout": 0}]},
    {"tasks": [{**ONE, "timeout": "soon"}]},
    {"tasks": [{**ONE, "timeout": True}]},
    {"tasks": [{**ONE, "mode": "x"}]},
    {"tasks": [{**ONE, "priority": 1.5}]},
    {"tasks": [{**ONE, "retry": {"classes": {"nope": {}}}}]},
    {"tasks": [{**ONE, "retry": {"max_attempts": 0}}]},
    {"tasks": [{**ONE, "success": {"exit_codes": [256]}}]},
    {"tasks": [{**ONE, "success": {"files": [7]}}]},
    {"tasks": [{**ONE, "stop": {"steps": [{"signal": "KILL", "wait": 1}]}}]},
    {"tasks": [{**ONE, "limits": {"nice": 20}}]},
    {"tasks": [{**ONE, "profile": "x"}]},
    {"tasks": [{**ONE, "resume": {"attempts_max": 101}}]},
    {"tasks": [{**ONE, "budget": {"tokens": 0}}]},
    {"tasks": [{**ONE, "budget": {"warn_ratio": 2}}]},
    {"tasks": [{**ONE, "watch": {"on_loop": "x"}}]},
    {"tasks": [ONE], "budget": {"cost": 1}},
    {"tasks": [ONE], "labels": {"a b": "c"}},
    {"tasks": [ONE], "defaults": {"id": "a"}},
)


@pytest.mark.parametrize("data", BOTH_REFUSE, ids=json.dumps)
def test_what_the_schema_refuses_the_validation_refuses_too(data: dict[str, Any]) -> None:
    assert list(complaints(data, SCHEMA))
    with pytest.raises(RunRefused):
        run_plan(data)


# As much of JSON Schema as the published one uses.

KNOWN = {
    *("$schema", "$defs", "$ref", "title", "description", "default", "type", "properties", "required"),
    *("additionalProperties", "patternProperties", "propertyNames", "minProperties", "maxProperties", "items"),
    *("minItems", "maxItems", "anyOf", "oneOf", "enum", "pattern", "minLength", "maxLength", "minimum", "maximum"),
}
KINDS: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}


def keywords(schema: Any) -> set[str]:
    if not isinstance(schema, dict):
        return set()
    found = set(schema)
    for inner in (
        *schema.get("anyOf", ()),
        *schema.get("oneOf", ()),
        schema.get("items"),
        schema.get("propertyNames"),
    ):
        found |= keywords(inner)
    for name in ("properties", "patternProperties", "$defs"):
        for inner in schema.get(name, {}).values():
            found |= keywords(inner)
    for name in ("items", "propertyNames", "additionalProperties"):
        found |= keywords(schema.get(name))
    return found


def complaints(value: Any, schema: Any, place: str = "") -> Iterator[str]:
    """What a schema has against a value."""
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rsplit("/", 1)[1]]
    for choice in ("anyOf", "oneOf"):
        if choice in schema and not any(not list(complaints(value, each, place)) for each in schema[choice]):
            yield f"{place}: {value!r} is none of {choice}"
    kinds = schema.get("type", [])
    if kinds and not any(is_a(value, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)):
        yield f"{place}: {value!r} is no {kinds}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{place}: {value!r} is not in {schema['enum']}"
    match value:
        case dict():
            yield from of_table(value, schema, place)
        case list():
            if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
                yield f"{place}: has {len(value)} entries"
            for number, inner in enumerate(value):
                yield from complaints(inner, schema.get("items", {}), f"{place}/{number}")
        case str():
            if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
                yield f"{place}: has {len(value)} characters"
            if not re.search(schema.get("pattern", ""), value):
                yield f"{place}: {value!r} does not match {schema['pattern']}"
        case int() | float() if not schema.get("minimum", value) <= value <= schema.get("maximum", value):
            yield f"{place}: {value} is out of range"


def of_table(value: Mapping[str, Any], schema: Mapping[str, Any], place: str) -> Iterator[str]:
    yield from (f"{place}: {name} is missing" for name in schema.get("required", ()) if name not in value)
    for name, inner in value.items():
        yield from complaints(name, schema.get("propertyNames", {}), f"{place}/{name}")
        fitting = [each for pattern, each in schema.get("patternProperties", {}).items() if re.search(pattern, name)]
        if name in schema.get("properties", {}):
            fitting.append(schema["properties"][name])
        others = schema.get("additionalProperties", True)
        if not fitting and others is False:
            yield f"{place}: {name} is unknown"
        elif not fitting and isinstance(others, dict):
            fitting.append(others)
        for each in fitting:
            yield from complaints(inner, each, f"{place}/{name}")


def is_a(value: Any, kind: str) -> bool:
    return isinstance(value, KINDS[kind]) and not (isinstance(value, bool) and kind in ("number", "integer"))
