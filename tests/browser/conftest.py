"""One browser and one daemon for all tests of the page: each test goes to the view that it is about."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.browser.chrome import Chrome
    from tests.browser.world import World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, chrome: "Chrome") -> Iterator["World"]:
    """A daemon with everything to be seen. Where there is no browser, none is started."""
    from tests.browser import world

    with world.world(tmp_path_factory.mktemp("world")) as made:
        yield made


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Chrome"]:
    """A Chromium of its own. Skips, and says why, where this machine has none."""
    pytest.importorskip("selenium", reason="selenium is not installed: it is in the extra `dev`")
    from tests.browser.chrome import Chrome, missing

    if why := missing():
        pytest.skip(why)
    made = Chrome(tmp_path_factory.mktemp("chromium"))
    try:
        yield made
    finally:
        made.close()
