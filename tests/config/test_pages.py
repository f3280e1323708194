"""The example file and the reference page say what the settings say."""

import json
import re
from pathlib import Path

import pytest

from crewd.config.keys import ANY_NAME, every_key
from crewd.config.load import flat, load
from crewd.config.pages import as_markdown, as_toml, toml_value
from crewd.config.settings import Settings

PROJECT = Path(__file__).parents[2]
EXAMPLE = PROJECT / "config/crewd.toml"
REFERENCE = PROJECT / "docs/reference/settings.md"


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
    own = {key: value for key, value in flat(loaded.settings).items() if ".overrides." not in key}
    assert own == flat(Settings())
    assert set(loaded.origins) == {key.name for key in every_key()}, "every key stands in it"


def test_every_key_of_the_schema_is_in_the_example_and_in_the_reference() -> None:
    schema = Settings.model_json_schema()
    names = []
    for group, reference in schema["properties"].items():
        table = schema["$defs"][reference.get("$ref", "").rsplit("/", 1)[-1] or reference["allOf"][0]["$ref"]]
        names += [f"{group}.{name}" for name in table["properties"]]
    names.remove("heartbeat.overrides")
    names += [f"heartbeat.overrides.{ANY_NAME}.{name}" for name in schema["$defs"]["Override"]["properties"]]
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
