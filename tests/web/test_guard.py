"""The guard: who may ask what, tried in every combination of what a request can claim."""

from collections.abc import Mapping
from itertools import product

import pytest

from crewd.web.caller import Peer
from tests.web.world import ANNA, TOKEN, WITH_TOKEN, Deeds, State, ask, ask_all, change

JSON = {"content-type": "application/json"}
DOORS = {"tcp": None, "socket": ANNA}
HOSTS = {"ours": {"host": "localhost:9464"}, "a word": {"host": "crewd"}, "foreign": {"host": "evil.example"}}
ORIGINS: dict[str, dict[str, str]] = {
    "none": {},
    "ours": {"origin": "http://127.0.0.1:9464"},
    "foreign": {"origin": "https://evil.example"},
}
SITES: dict[str, dict[str, str]] = {"none": {}, "cross": {"sec-fetch-site": "cross-site"}}
TOKENS: dict[str, dict[str, str]] = {
    "none": {},
    "right": WITH_TOKEN,
    "wrong": {"authorization": f"Bearer {TOKEN[:-1]}x"},
}
TYPES: dict[str, dict[str, str]] = {"json": JSON, "form": {"content-type": "text/plain"}, "none": {}}
METHODS = ("GET", "POST", "PUT")


def expected(door: str, host: str, origin: str, site: str, token: str, kind: str, method: str) -> int:
    """Say what P18 and P19 make of it."""
    if host == "foreign" or (host == "a word" and door == "tcp"):
        return 403
    if origin == "foreign" or (origin == "ours" and door == "socket") or site == "cross":
        return 403
    if method == "PUT":
        return 405
    if token == "wrong":
        return 401
    if method == "GET":
        return 200
    if door == "tcp" and token == "none":
        return 403
    return 200 if kind == "json" else 415


@pytest.mark.parametrize("door", DOORS)
def test_every_combination_is_served_or_refused_as_promised(door: str) -> None:
    state = State()
    asked = list(product(HOSTS, ORIGINS, SITES, TOKENS, TYPES, METHODS))
    answers = ask_all(
        state,
        [
            (
                method,
                "/api/v1/pauses" if method == "GET" else "/api/v1/pause",
                HOSTS[host] | ORIGINS[origin] | SITES[site] | TOKENS[token] | TYPES[kind],
                b'{"scope":"daemon"}' if method == "POST" else b"",
            )
            for host, origin, site, token, kind, method in asked
        ],
        DOORS[door],
    )
    wrong = [
        (each, answer.status_code, expected(door, *each))
        for each, answer in zip(asked, answers, strict=True)
        if answer.status_code != expected(door, *each)
    ]
    assert not wrong, wrong[:5]
    assert isinstance(state.actions, Deeds)
    allowed = sum(expected(door, *each) == 200 and each[-1] == "POST" for each in asked)
    assert [each[0] for each in state.actions.asked] == ["pause"] * allowed


def test_without_a_token_nothing_can_be_changed_over_tcp_and_one_is_told_how() -> None:
    answer = change(State(), "/api/v1/pause", {"scope": "daemon"}, peer=None)
    (detail,) = answer.json()["error"]["details"]
    assert answer.status_code == 403 and "unix socket" in detail["next_action"] and "token" in detail["next_action"]


@pytest.mark.parametrize("path", ["/nothing/here", "/api/v1/runs/r1/cancel", "/api/v1/runs/%ff/cancel", "/"])
def test_who_may_not_change_anything_does_not_learn_what_there_is(path: str) -> None:
    state = State()
    assert change(state, path, peer=None).status_code == 403
    assert state.observed == [("refused", "POST", 403)]


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer ", f"Bearer {TOKEN} x", f"Bearer{TOKEN}", "bearer\twrong"])
def test_what_is_no_right_token_opens_nothing(given: str) -> None:
    assert change(State(), "/api/v1/pause", {"scope": "daemon"}, {"authorization": given}, None).status_code in (
        401,
        403,
    )


def test_no_token_is_right_where_none_is_configured() -> None:
    state = State()
    state.token = ""
    for given in ("Bearer ", "Bearer x", 'Bearer ""'):
        answer = change(state, "/api/v1/pause", {"scope": "daemon"}, {"authorization": given}, None)
        assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"


def test_a_token_may_be_changed_while_crewd_runs() -> None:
    state = State()
    assert ask(state, "/healthz", headers={"authorization": "Bearer new"}).status_code == 401
    state.token = "new"
    assert ask(state, "/healthz", headers={"authorization": "Bearer new"}).status_code == 200


def test_somebody_elses_credentials_are_no_token_and_no_harm() -> None:
    basic = {"authorization": "Basic YTpi"}
    state = State()
    assert ask(state, "/api/v1/runs", headers=basic).status_code == 200
    assert change(state, "/api/v1/pause", {"scope": "daemon"}, basic, None).status_code == 403


def test_a_token_beyond_ascii_is_wrong_and_no_failure() -> None:
    assert ask(State(), "/healthz", headers={"authorization": b"Bearer \xff\xfe"}).status_code == 401


@pytest.mark.parametrize(
    ("headers", "peer", "actor"),
    [
        ({}, ANNA, "operator:anna"),
        ({"x-crewd-actor": "ci@build-7"}, ANNA, "operator:anna/ci@build-7"),
        (WITH_TOKEN, None, "operator:token"),
        ({**WITH_TOKEN, "x-crewd-actor": "bob"}, None, "operator:token/bob"),
        (WITH_TOKEN, ANNA, "operator:anna"),
    ],
)
def test_who_asked_is_recorded(headers: Mapping[str, str], peer: Peer | None, actor: str) -> None:
    state = State()
    assert change(state, "/api/v1/resume", {"scope": "daemon"}, headers, peer).status_code == 200
    assert state.actions is not None and state.actions.asked == [("resume", "daemon", actor)]


@pytest.mark.parametrize("name", ["", " ", "-x", "a/b", "a b", "a" * 65, "ä", "a\nb", "a:b"])
def test_an_actor_that_is_no_name_is_refused(name: str) -> None:
    state = State()
    assert change(state, "/api/v1/resume", {"scope": "daemon"}, {"x-crewd-actor": name}).status_code == 400
    assert state.actions is not None and not state.actions.asked


@pytest.mark.parametrize(
    "kind",
    [
        "application/json; charset=utf-8",
        'Application/JSON;charset="UTF-8"',
        " application/json ",
    ],
)
def test_json_may_say_that_it_is_utf_8(kind: str) -> None:
    assert change(State(), "/api/v1/resume", {"scope": "daemon"}, {"content-type": kind}).status_code == 200


@pytest.mark.parametrize(
    "kind",
    [
        "application/json; charset=utf-16",
        "application/json, application/json",
        "application/json; boundary=x",
        "application/jsonx",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=application/json",
        "text/plain; application/json",
        "",
    ],
)
def test_nothing_that_a_form_could_send_is_json(kind: str) -> None:
    assert change(State(), "/api/v1/resume", {"scope": "daemon"}, {"content-type": kind}).status_code == 415


def test_a_compressed_body_is_refused() -> None:
    assert change(State(), "/api/v1/resume", b"\x1f\x8b", {"content-encoding": "gzip"}).status_code == 415


@pytest.mark.parametrize("name", ["host", "content-type", "authorization", "x-crewd-actor", "idempotency-key"])
def test_a_header_that_decides_may_stand_once_only(name: str) -> None:
    values = {"host": "localhost", **JSON, **WITH_TOKEN, "x-crewd-actor": "a", "idempotency-key": "k"}
    state = State()
    doubled = Twice({**values, name: values[name]}, name)
    (answer,) = ask_all(state, [("POST", "/api/v1/runs", doubled, b'{"run":{}}')])
    assert answer.status_code in (400, 415)
    assert state.actions is not None and not state.actions.asked


class Twice(dict[str, "str | bytes"]):
    """Headers of which one stands twice."""

    def __init__(self, headers: Mapping[str, str | bytes], name: str) -> None:
        super().__init__(headers)
        self._name = name

    def items(self):  # type: ignore[no-untyped-def,override]
        return [*super().items(), (self._name, self[self._name])]


@pytest.mark.parametrize("host", ["localhost", "crewd", "", "d:80", "127.0.0.1", "[::1]"])
def test_through_the_socket_any_word_will_do_as_host(host: str) -> None:
    (answer,) = ask_all(State(), [("GET", "/healthz", {"host": host})], ANNA)
    assert answer.status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "crewd.evil.example:9464", "10.0.0.1", "evil.", "a b", "[::2"])
def test_a_name_of_the_network_is_none_for_the_socket_either(host: str) -> None:
    """A port that is forwarded to the socket is one that a browser may be led to."""
    (answer,) = ask_all(State(), [("GET", "/healthz", {"host": host})], ANNA)
    assert answer.status_code == 403


def test_no_header_makes_one_a_peer() -> None:
    state = State()
    headers = {**JSON, "peer": "anna", "x-forwarded-user": "root", "forwarded": "for=unix:", "x-real-ip": "127.0.0.1"}
    (answer,) = ask_all(state, [("POST", "/api/v1/pause", headers, b'{"scope":"daemon"}')])
    assert answer.status_code == 403


@pytest.mark.parametrize("name", ["x-http-method-override", "x-http-method", "x-method-override"])
def test_a_method_is_what_it_says(name: str) -> None:
    state = State()
    (answer,) = ask_all(state, [("GET", "/api/v1/pause?scope=daemon", {name: "POST", **WITH_TOKEN})])
    assert answer.status_code == 405
    assert state.actions is not None and not state.actions.asked
