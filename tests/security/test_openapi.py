"""The description of the API is kept: what it allows is served, what it forbids is refused, nothing makes crewd fail.

Schemathesis makes the requests from the description that crewd itself serves, the same in every run. They go through
the whole application, guard included, in this process.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from crewd.web.app import build_app, routes
from tests.security.world import BODIES, JSON, Answer, Place, Watched, asked, places, trusted
from tests.web.world import State

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed: it is in the extra `dev`")

pytestmark = pytest.mark.slow

EXAMPLES = 8  # of each operation and kind
LAX = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
DESCRIBED: dict[str, Any] = routes(State()).openapi()
OPERATIONS = [
    (method.upper(), path)
    for path, methods in DESCRIBED["paths"].items()
    for method in methods
    if method != "parameters"
]
COUNTS: Counter[str] = Counter()


class Asking:
    """The application, and one loop to ask it in."""

    def __init__(self, folder: Path) -> None:
        self.state = Watched(folder)
        self._app = build_app(self.state)
        self._runner = asyncio.Runner()

    def __call__(self, method: str, path: str, body: bytes) -> Answer:
        return self._runner.run(asked(self._app, method, path, trusted(), body))

    def close(self) -> None:
        self._runner.close()


@pytest.fixture(scope="module")
def schema() -> Any:
    return schemathesis.openapi.from_dict(DESCRIBED)


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asking]:
    made = Asking(tmp_path_factory.mktemp("asking"))
    yield made
    made.close()
    print(f"schemathesis: {len(OPERATIONS)} operations, {dict(COUNTS)}")


def test_every_route_but_the_page_is_described() -> None:
    hidden = {"/", "/plain", "/runbooks", "/assets/{name}", "/openapi.json"}
    table = {(method, place.template) for place in places() for method in place.methods}
    assert {(method, path) for method, path in table if path not in hidden} == set(OPERATIONS)


def test_every_change_is_described_with_the_token_and_a_body_that_forbids_more() -> None:
    for method, path in OPERATIONS:
        if method != "POST":
            continue
        operation = DESCRIBED["paths"][path]["post"]
        assert operation["security"] == [{"token": []}], path
        reference = operation["requestBody"]["content"][JSON]["schema"]["$ref"].rpartition("/")[2]
        assert DESCRIBED["components"]["schemas"][reference]["additionalProperties"] is False, path


@pytest.mark.parametrize("mode", ["positive", "negative"])
@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=[f"{method} {path}" for method, path in OPERATIONS])
def test_what_is_described_is_so(schema: Any, method: str, path: str, mode: str, asking: Asking) -> None:
    operation = schema[path][method]
    kind = schemathesis.GenerationMode(mode)
    strategy = operation.as_strategy(generation_mode=kind)
    wrong: list[object] = []
    seen: set[str] = set()

    @LAX
    @given(strategy)
    def one(case: Any) -> None:
        target, body = address(case, path)
        if target + body.decode("latin-1") in seen:
            return
        seen.add(target + body.decode("latin-1"))
        before = asking.state.changes()
        answer = asking(method, target, body)
        COUNTS[f"{mode}, {'served' if answer.status < 300 else 'refused'}"] += 1
        found = wrongs(answer, path, method)
        if asking.state.changes() > before and (answer.status >= 400 or method == "GET"):
            found.append("changed something")
        if "body" in turned(case) and answer.status < 400:
            found.append("takes what is not described")
        if found:
            wrong.append((target, body[:200], answer.status, answer.body[:300], found))

    try:
        one()
    except Exception as error:
        if type(error).__name__ not in ("Unsatisfiable", "SkipTest", "Skipped"):
            raise
    assert not wrong, wrong[:3]


def turned(case: Any) -> set[str]:
    """Name the parts of a request that are not as described: only those that are sent count."""
    parts = case.meta.components if case.meta is not None else {}
    return {str(part.value) for part, made in parts.items() if made.mode is schemathesis.GenerationMode.NEGATIVE}


def address(case: Any, path: str) -> tuple[str, bytes]:
    """Write a generated case as a path with its query, and a body."""
    target = path
    for name, value in (case.path_parameters or {}).items():
        target = target.replace(f"{{{name}}}", str(value).encode("utf-8", "replace").decode("latin-1", "replace"))
    pairs = [
        (name, each)
        for name, value in (case.query or {}).items()
        for each in (value if isinstance(value, list) else [value])
    ]
    query = urlencode([(name, _word(value)) for name, value in pairs], errors="replace")
    body = b"" if case.body is schemathesis.core.NOT_SET else _encoded(case.body)
    return (f"{target}?{query}" if query else target), body


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _encoded(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode("utf-8", "replace")


def wrongs(answer: Answer, path: str, method: str) -> list[str]:
    """Say where an answer is not what is described."""
    described = DESCRIBED["paths"][path][method.lower()]["responses"]
    found = []
    status = str(answer.status)
    if answer.status >= 500 and status not in described:
        found.append("crewd failed, or cannot, and that is not described")
    if status not in described and f"{status[0]}XX" not in described:
        found.append(f"{status} is not described")
    if answer.status >= 400 and path != "/readyz":
        found.extend(refusal_wrongs(answer))
    if answer.status < 300:
        kinds = described.get(status, {}).get("content", {})
        told = (answer.values("content-type") or [""])[0].partition(";")[0]
        if kinds and told not in {each.partition(";")[0] for each in kinds}:
            found.append(f"{told} is not described")
    return found


def refusal_wrongs(answer: Answer) -> list[str]:
    """A refusal is one object of one shape, and each detail says what to do."""
    try:
        error = msgspec.json.decode(answer.body)["error"]
        shape = error.keys() == {"code", "message", "details"} and all(
            each.keys() == {"code", "path", "message", "next_action"} and each["next_action"]
            for each in error["details"]
        )
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        return ["a refusal of another shape"]
    return [] if shape and error["code"] and error["details"] else ["a refusal that says too little"]


@pytest.mark.parametrize(
    "place", [place for place in places() if place.template in BODIES], ids=lambda each: each.template
)
@pytest.mark.parametrize(
    "more", [{"unknown": 1}, {"by": None}, {"__proto__": {}}, {"reason": {"$ref": "#"}}, {"run": []}]
)
def test_a_field_that_is_not_described_is_refused(place: Place, more: dict[str, Any], asking: Asking) -> None:
    """What a caller misspells must not be taken for having been left out."""
    schema = DESCRIBED["paths"][place.template]["post"]["requestBody"]["content"][JSON]["schema"]["$ref"]
    known = DESCRIBED["components"]["schemas"][schema.rpartition("/")[2]]["properties"]
    before = asking.state.changes()
    answer = asking("POST", place.path, msgspec.json.encode({**BODIES[place.template], **more}))
    if not more.keys() & known.keys():
        assert answer.status == 400 and asking.state.changes() == before
    assert answer.status < 500
