"""The JSON Schema of run files, out of the classes that validate them."""

from typing import Any

from crewd.config.run_file.defaults import plan_default
from crewd.config.run_file.fields import RunFile

DIALECT = "https://json-schema.org/draft/2020-12/schema"

# Which table of a plan each class of fields becomes.
_TABLES = {
    "Task": "",
    "TaskFields": "",
    "TaskHeartbeat": "heartbeat",
    "Retry": "retry",
    "RetryRule": "classes",
    "Success": "success",
    "RequiredFile": "files",
    "Stop": "stop",
    "StopStep": "steps",
    "Limits": "limits",
    "Resume": "resume",
    "Budget": "budget",
    "Watch": "watch",
}


def run_schema() -> dict[str, Any]:
    """Describe a run file. What depends on several fields at once is said in the reference page alone."""
    made = RunFile.model_json_schema()
    for name, table in made["$defs"].items():
        for field, schema in table["properties"].items():
            schema.pop("default", None)
            default = plan_default(_TABLES[name], field)
            # A task that leaves a field out takes the default of the file, which the file's `defaults` says.
            if default not in (None, "", (), {}) and name != "TaskFields" and field not in table.get("required", ()):
                schema["default"] = default
    return {"$schema": DIALECT, **_tidied(made), "title": "A run file of crewd"}


def _tidied(value: Any) -> Any:
    """Say bounds the way of JSON Schema, and leave out titles that repeat a name."""
    if isinstance(value, list | tuple):
        return [_tidied(each) for each in value]
    if not isinstance(value, dict):
        return value
    tidied = {name: _tidied(inner) for name, inner in value.items() if name not in ("ge", "le")}
    if isinstance(tidied.get("title"), str):
        del tidied["title"]
    if tidied.get("default", "") is None:
        del tidied["default"]
    if "patternProperties" in tidied:  # the names of variables, labels and secrets
        tidied["additionalProperties"] = False
    # Of durations and sizes; what is written as a text is judged by crewd alone.
    if "ge" in value:
        tidied["minimum"] = value["ge"]
    if "le" in value:
        tidied["maximum"] = value["le"]
    return tidied
