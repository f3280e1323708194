"""Disguises: no form of a known secret is left in a text, and nothing else is taken out."""

import base64
import html
import json
import re
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.telemetry.disguises import Veil

SECRET = 'cAnary/7+"ü"\\x: 0123456789'
AROUND = st.text(st.characters(codec="ascii", exclude_characters="\r\n\\"), max_size=12)
SECRETS = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\\*"), min_size=8, max_size=40)

FORMS = {
    "raw": str,
    "json": lambda text: json.dumps(text)[1:-1],
    "json, not only ASCII": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "json in json": lambda text: json.dumps(json.dumps(text)[1:-1])[1:-1],
    "repr": lambda text: repr(text)[1:-1],
    "url": lambda text: urllib.parse.quote(text, safe=""),
    "url, small": lambda text: re.sub("%..", lambda found: found[0].lower(), urllib.parse.quote(text, safe="")),
    "path": urllib.parse.quote,
    "form": urllib.parse.quote_plus,
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 for urls": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "hex": lambda text: text.encode().hex(),
    "HEX": lambda text: text.encode().hex().upper(),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_taken_out_in_every_form(form: str) -> None:
    shown = Veil([SECRET]).text(f"before {FORMS[form](SECRET)} after")
    assert "***" in shown
    assert shown.startswith("before ") and shown.endswith(" after")
    assert FORMS[form](SECRET)[4:12] not in shown


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\\n", "\\r\\n"])
def test_a_secret_that_is_broken_over_two_lines_is_found_wherever_it_breaks(form: str, line_break: str) -> None:
    written = FORMS[form]("plain-Canary-0123456789")
    veil = Veil(["plain-Canary-0123456789"])
    for at in range(1, len(written)):
        shown = veil.text(f"x {written[:at]}{line_break}{written[at:]} y")
        assert written[:at][-6:] not in shown or at < 6
        assert "***" in shown


@pytest.mark.parametrize("before", ["", "a", "ab", "abc", "user:", "12345"])
def test_a_secret_within_the_base64_of_something_larger_is_found(before: str) -> None:
    coded = base64.b64encode(f"{before}long-canary-secret-0123456789:after".encode()).decode()
    shown = Veil(["long-canary-secret-0123456789"]).text(coded)
    # 29 bytes are 38 characters and two bits; of those that it shares with its neighbours one is left at each end.
    assert len(shown) <= len(coded) - 37 + len("***")


@given(SECRETS, AROUND, AROUND)
def test_no_form_of_any_secret_is_left(secret: str, before: str, after: str) -> None:
    for form, write in FORMS.items():
        written = write(secret)
        assert written not in Veil([secret]).text(f"{before}{written}{after}"), form


@given(st.text())
def test_where_there_is_no_secret_nothing_is_taken_out(text: str) -> None:
    assert Veil([]).text(text) == text
    assert Veil(["", "abc"]).text(text) == text  # shorter ones would mask ordinary words


def test_a_key_of_several_lines_is_known_by_each_of_them() -> None:
    key = "-----BEGIN KEY-----\nAAAABBBBCCCCDDDDEEEE\nFFFFGGGGHHHHIIIIJJJJ\n-----END KEY-----"
    veil = Veil([key])
    assert "AAAA" not in veil.text("x AAAABBBBCCCCDDDDEEEE y")
    assert "GGGG" not in veil.text(json.dumps({"key": key}))
    assert html.escape(veil.text(key)) == "***"
