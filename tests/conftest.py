"""Settings of the whole suite: the same examples in every run; HYPOTHESIS_PROFILE=explore asks for new ones."""

import os

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the longest begin first: side by side with others, a simulated day at the end has everybody wait for it."""
    items.sort(key=lambda item: not {"simulation", "test_nemesis.py"} & set(item.path.parts))
