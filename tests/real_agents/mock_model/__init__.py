"""A stand-in for the four providers: speaks their protocols on 127.0.0.1, and says what a scenario tells it to say.

`python -m tests.real_agents.mock_model` runs one by hand.
"""

from tests.real_agents.mock_model.dialects import TEXT_TOKENS, TOOL_TOKENS, Tokens
from tests.real_agents.mock_model.server import Asked, MockModel, Scenario

__all__ = ["TEXT_TOKENS", "TOOL_TOKENS", "Asked", "MockModel", "Scenario", "Tokens"]
