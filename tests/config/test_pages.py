"""The example file and the reference page say what the settings say."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from crewd.config.keys import ANY_NAME, every_key
from crewd.config.load import flat, load
from crewd.config.pages import as_markdown, as_toml, toml_value
from crewd.config.run_file.layers import tables_of, values_of
from crewd.config.settings import Settings
from crewd.model.plan import Limits, StopPlan

PROJECT = Path(__file__).parents[2]
EXAMPLE = PROJECT / "config/crewd.toml"
REFERENCE = PROJECT / "docs/reference/settings.md"

# Tables that the example writes in one line, as a value.
IN_ONE_LINE = tuple(f"executors.{ANY_NAME}.{name}" for name in ("env", "secrets", "retry.classes"))


def uncommented(text: str) -> str:
    return re.sub(r"^# (?=\[|\w+ = )", "", text, flags=re.MULTILINE)


def test_the_example_file_is_up_to_date() -> None:
    assert EXAMPLE.read_text() == as_toml(), "write it anew: crewd config schema --format toml > config/crewd.toml"


def test_the_reference_page_is_up_to_date() -> None:
    assert REFERENCE.read_text() == as_markdown(), (
        "write it anew: crewd config schema --format markdown > docs/reference/settings.md"
    )


def test_the_example_file_as_it_stands_changes_nothing() -> None:
    loaded = load(EXAMPLE, {})
    assert loaded.settings == Settings()
    assert loaded.origins == {}


def test_the_example_file_uncommented_loads_and_says_what_the_defaults_say(tmp_path: Path) -> None:
    path = tmp_path / "crewd.toml"
    path.write_text(uncommented(EXAMPLE.read_text()))
    loaded = load(path, {})
    override = loaded.settings.heartbeat.overrides[ANY_NAME]
    for name in ("warn_after", "stale_after", "dead_after", "hung_after", "startup_grace"):
        assert getattr(override, name) == getattr(Settings().heartbeat, name)
    own = {key: value for key, value in flat(loaded.settings).items() if f".{ANY_NAME}." not in key}
    assert own == flat(Settings())
    given = {key for key in loaded.origins if not key.startswith(tuple(f"{each}." for each in IN_ONE_LINE))}
    given |= {key for key in IN_ONE_LINE if any(origin.startswith(f"{key}.") for origin in loaded.origins)}
    assert given == {key.name for key in every_key()}, "every key stands in it"


def test_what_the_example_shows_of_an_executor_is_what_a_task_has_anyway(tmp_path: Path) -> None:
    path = tmp_path / "crewd.toml"
    path.write_text(uncommented(EXAMPLE.read_text()))
    executor = load(path, {}).settings.executors[ANY_NAME]
    found = tables_of(values_of(executor))
    assert found.stop == StopPlan()
    assert (found.retry.max_attempts, found.retry.base, found.retry.factor, found.retry.cap) == (3, 5.0, 2.0, 300.0)
    assert found.success.exit_codes == (0,)
    assert found.limits.output_bytes == Limits().output_bytes


def leaves(schema: dict[str, Any], prefix: str, table: dict[str, Any]) -> list[str]:
    """Name what stands in no table of its own below `prefix`."""
    (named,) = [each["$ref"] for each in (table, *table.get("anyOf", ())) if "$ref" in each] or [""]
    for entry in table.get("patternProperties", {}).values():
        if "$ref" in entry:
            return leaves(schema, f"{prefix}.{ANY_NAME}", entry)
    if not named:
        return [prefix]
    inner = schema["$defs"][named.rsplit("/", 1)[1]]["properties"]
    return [leaf for name, field in inner.items() for leaf in leaves(schema, f"{prefix}.{name}", field)]


def test_every_key_of_the_schema_is_in_the_example_and_in_the_reference() -> None:
    schema = Settings.model_json_schema()
    names = [name for group, table in schema["properties"].items() for name in leaves(schema, group, table)]
    example, reference_page = EXAMPLE.read_text(), REFERENCE.read_text()
    for name in names:
        assert f"| `{name}` |" in reference_page
        assert re.search(rf"^# {name.rsplit('.', 1)[1]} = ", example, re.MULTILINE)
    assert {key.name for key in every_key()} == set(names)


def test_every_key_is_explained() -> None:
    for key in every_key():
        assert key.description, key.name


@pytest.mark.parametrize("value", ['a"b', "back\\slash", "line\nbreak", "\x7f\x00", "zażółć"])
def test_any_text_survives_being_written_as_toml(value: str) -> None:
    import tomllib

    assert tomllib.loads(f"x = {toml_value(value, 'text')}")["x"] == value


def test_the_schema_is_json() -> None:
    assert json.loads(json.dumps(Settings.model_json_schema()))["additionalProperties"] is False
