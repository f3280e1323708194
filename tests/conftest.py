"""Settings of the whole suite: the same examples in every run; HYPOTHESIS_PROFILE=explore asks for new ones."""

import os

import structlog
from hypothesis import settings

settings.register_profile("crewd", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "crewd"))

# Where nobody set logs up, structlog paints each traceback with everything that its frames hold: seconds, in which
# the loop of the test stands still.
PLAIN = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
structlog.configure(processors=[PLAIN])
