"""Settings of the whole suite: the same examples in every run; HYPOTHESIS_PROFILE=explore asks for new ones."""

import logging
import os
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

settings.register_profile("crewd", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "crewd"))

# Where nobody set logs up, structlog paints each traceback with everything that its frames hold: seconds, in which
# the loop of the test stands still.
PLAIN = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
structlog.configure(processors=[PLAIN])


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """Let no test that sets logs up change how those after it log."""
    before, root, own = structlog.get_config(), logging.getLogger(), logging.getLogger("crewd")
    handlers, levels = root.handlers[:], (root.level, own.level)
    yield
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    own.setLevel(levels[1])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the longest begin first: side by side with others, a simulated day at the end has everybody wait for it."""
    items.sort(key=lambda item: not {"simulation", "test_nemesis.py"} & set(item.path.parts))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse to run where groups are not kept together: what a whole module shares would be made once a worker."""
    if not getattr(session.config.option, "loadgroup", False):
        return
    for item in session.items:
        mark = item.get_closest_marker("xdist_group")
        if mark is not None and not item.nodeid.endswith(f"@{mark.args[0]}"):
            raise pytest.UsageError(f"{item.nodeid}: this pytest-xdist does not group tests under this pytest")
