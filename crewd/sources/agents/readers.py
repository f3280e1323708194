"""The readers, by the name of their profile."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from crewd.sources.agents.claude import ClaudeReader
from crewd.sources.agents.codex import CodexReader
from crewd.sources.agents.gemini import GeminiReader
from crewd.sources.agents.pi import PiReader
from crewd.sources.agents.plain import PlainReader
from crewd.sources.agents.signs import Reader

READERS: Mapping[str, Callable[[], Reader]] = MappingProxyType(
    {
        "claude": ClaudeReader,
        "codex": CodexReader,
        "gemini": GeminiReader,
        "pi": PiReader,
        "plain": PlainReader,
    }
)
