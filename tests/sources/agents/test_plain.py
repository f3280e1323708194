"""Any other program: every line of its output is progress, and nothing of it is understood."""

from hypothesis import given
from hypothesis import strategies as st

from crewd.sources.agents.plain import PlainReader
from crewd.sources.agents.signs import Moved


@given(line=st.binary(max_size=100), code=st.integers(0, 255))
def test_bytes_are_life_and_nothing_more(line: bytes, code: int) -> None:
    reader = PlainReader()
    assert reader.stdout(line) == (Moved(),)
    assert reader.stderr(line) == ()
    assert reader.session(line) == ()
    assert reader.exit(code) is None
