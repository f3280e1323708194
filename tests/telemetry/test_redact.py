import base64
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewd.telemetry.redact import MASK, TEXT_MAX, Redactor, names_secret

# Put together here, so that no scanner takes this file for a leak.
SECRETS = [
    "sk-" + "ant-api03-" + "a1B2" * 10,
    "ghp_" + "a1B2" * 9,
    "github_pat_" + "a1B2" * 9,
    "AKIA" + "ABCDEFGHIJKLMNOP",
    "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxIn0." + "c2lnbmF0dXJl",
    "xoxb-" + "1234567890-abc",
    "AIza" + "a" * 35,
    "glpat-" + "a1B2" * 6,
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("around", ["{}", "error: {} was refused", "x={}&y", '"{}"', "\n{}\n"])
def test_known_kinds_of_secrets_are_masked_wherever_they_stand(secret: str, around: str) -> None:
    told = Redactor().text(around.format(secret))
    assert secret not in told and MASK in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Authorization: Bearer abcdefghijk", "Authorization: Bearer ***"),
        ("Basic dXNlcjpwYXNz", "Basic ***"),
        ("postgres://user:pass@host/db", "postgres://***@host/db"),
        ("OPENAI_API_KEY=abcdefgh ./run", "OPENAI_API_KEY=*** ./run"),
        ("AWS_SECRET_ACCESS_KEY: abcdefgh", "AWS_SECRET_ACCESS_KEY: ***"),
        ('{"password": "a b"}', '{"password": "***"}'),
        ('{\\"apiKey\\": \\"x y\\"}', '{\\"apiKey\\": \\"***\\"}'),
        ("--token=abcdefgh --verbose", "--token=*** --verbose"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY----- after", "*** after"),
        ("-----BEGIN PRIVATE KEY-----\nMII cut", "***"),
    ],
)
def test_a_secret_is_taken_out_and_the_rest_stays(text: str, told: str) -> None:
    assert Redactor().text(text) == told


@pytest.mark.parametrize(
    "text",
    [
        "tokens: 12345", "input_tokens=500", "the token was refused", "http://host:8080/path", "monkey business",
        "task-list and risk-averse", "keyboard: qwerty", "a basic idea", "skeleton", "commit 3f2a9c1d0b",
        "2026-01-01T00:00:00.000Z", "max_tokens: 4096",
    ],
)  # fmt: skip
def test_ordinary_words_stay(text: str) -> None:
    assert Redactor().text(text) == text


def test_configured_secrets_are_masked_the_longest_first_and_as_they_are() -> None:
    redactor = Redactor(["hunter2", "hunter2.more", "a+b(c", ""])
    assert redactor.text("hunter2.more hunter2 a+b(c") == "*** *** ***"


def test_a_configured_secret_too_short_to_be_one_masks_no_words() -> None:
    assert Redactor(["the"]).text("the end") == "the end"


@pytest.mark.parametrize(
    "key",
    ["password", "apiKey", "API_KEY", "x-api-key", "db.password", "Authorization", "clientSecret", "auth_token"],
)
def test_keys_that_name_a_secret_are_known_in_any_spelling(key: str) -> None:
    assert names_secret(key)
    assert Redactor().value({key: "z"}) == {key: MASK}


@pytest.mark.parametrize(
    "key", ["tokens", "input_tokens", "key", "keys", "tokenizer", "secretary", "author", "", "***"]
)
def test_keys_that_name_none_are_left_alone(key: str) -> None:
    assert Redactor().value({key: "z"}) == {key: "z"}


def test_nested_values_keep_their_shape_and_numbers_stay_numbers() -> None:
    value = {"a": [1, None, True, 2.5, {"token": 7, "note": "Bearer abcdefghijk"}], "b": ("x",)}
    assert Redactor().value(value) == {"a": [1, None, True, 2.5, {"token": 7, "note": "Bearer ***"}], "b": ["x"]}


def test_depth_breadth_and_length_are_bounded_and_nothing_unchecked_passes() -> None:
    deep: list[object] = []
    for _ in range(500):
        deep = [deep, "sk-" + "a" * 30]
    assert "sk-" not in repr(Redactor().value(deep))
    wide = Redactor().value(["x"] * 50_000)
    assert wide[-1] == "[cut]"
    long = Redactor().text("y" * TEXT_MAX + "sk-" + "a" * 30)
    assert "sk-" not in long and len(long) < TEXT_MAX + 100


@settings(max_examples=300)
@given(
    st.lists(
        st.sampled_from(
            [*SECRETS, "Bearer ", "token=", "password: ", "://", ":", "@", '"', "-----BEGIN PRIVATE KEY-----"]
        )
        | st.text(max_size=12)
    ).map("".join)
)
def test_a_second_time_changes_nothing(text: str) -> None:
    redactor = Redactor(["configured"])
    once = redactor.text(text)
    assert redactor.text(once) == once


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('PASSWORD="hun ter2xx" next', 'PASSWORD="***" next'),
        ("password='a b'", "password='***'"),
        ("curl --password abc -v", "curl --password *** -v"),
        ("API_TOKEN=abc", "API_TOKEN=***"),
        ("hf_abcdefghijklmnopqrstuvwxyz", "***"),
        ("SG.abcdefghijklmnopqrst.abcdefghijklmnopqrstuv", "***"),
        ("input tokens=123456789", "input tokens=123456789"),
        ("12 tokens: 5 of them used", "12 tokens: 5 of them used"),
    ],
)
def test_quoted_short_and_named_secrets_are_masked_and_counts_are_not(text: str, left: str) -> None:
    assert Redactor().text(text) == left
    assert Redactor().text(left) == left


TOLD_OF = 'p/w+"d"=é'


@pytest.mark.parametrize(
    "form",
    [
        json.dumps(TOLD_OF)[1:-1],
        json.dumps(TOLD_OF, ensure_ascii=False)[1:-1],
        quote(TOLD_OF, safe=""),
        quote_plus(TOLD_OF),
        TOLD_OF.encode().hex(),
        base64.b64encode(TOLD_OF.encode()).decode(),
        base64.urlsafe_b64encode(b"user:" + TOLD_OF.encode()).decode(),
    ],
)
@pytest.mark.parametrize("others", [0, 40])
def test_what_it_was_told_of_is_masked_escaped_coded_and_in_a_url(form: str, others: int) -> None:
    redactor = Redactor([TOLD_OF, *(f"another-secret-{number}" for number in range(others))])
    told = redactor.text(f"x {form} y")
    assert MASK in told and form[4:-4] not in told
    assert redactor.text("nothing of it") == "nothing of it"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("x correct-h", 9),
        ("correct-horse", 0),
        ("x corr", 4),
        ("x cor", 0),
        ("correct-h x", 0),
        ("", 0),
        ("636f7272656374", 14),
    ],
)
def test_the_beginning_of_a_secret_at_the_end_is_told(text: str, size: int) -> None:
    assert Redactor(["correct-horse"]).begun(text) == size
    assert Redactor().begun(text) == 0
