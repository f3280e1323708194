"""Listeners: whoever wants to hear what was recorded. They are told after it is durable, never before."""

from collections.abc import Sequence
from typing import Protocol

from crewd.model.event import Event
from crewd.model.report import RoundReport
from crewd.model.snapshot import Snapshot


class Listener(Protocol):
    """One reader of the same frozen events: metrics, sinks, log lines.

    Both calls come from the daemon's own loop and must return at once: no disk, no waiting.
    """

    def on_events(self, events: Sequence[Event]) -> None:
        """Hear durable events, in the order of their seq."""

    def on_round(self, report: RoundReport, snapshot: Snapshot) -> None:
        """Hear the figures of a complete round, with the picture that it left."""
