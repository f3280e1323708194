"""The audience: whoever hears what was recorded. One that fails costs the others nothing, and no round its end."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import structlog

from crewd.model.event import Event
from crewd.model.report import RoundReport
from crewd.model.snapshot import Snapshot
from crewd.telemetry.listener import Listener

PART = "listener"  # what a failure of one counts as among the defects
ERROR_MAX = 300  # characters of what one of them said
log = structlog.get_logger("crewd.audience")


@dataclass(slots=True, eq=False)
class Audience:
    """Tells every listener by itself, counts the failures, and says who failed since the latest round but one."""

    listeners: Callable[[], Sequence[Listener]]
    defects: Counter[str]
    failed: str = ""  # which of them failed, and how; "" = none
    _failing: dict[str, str] = field(default_factory=dict)  # since the latest round: name -> its latest error
    _told: set[str] = field(default_factory=set)  # those whose failure is in the log; later ones are only counted

    def hear(self, events: Sequence[Event]) -> None:
        """Let all of them hear durable events."""
        for listener in self.listeners():
            self._let(listener, partial(listener.on_events, events))

    def hear_round(self, events: Sequence[Event], report: RoundReport, snapshot: Snapshot) -> None:
        """Let all of them hear the events of a round, and then how it went."""
        self.hear(events)
        for listener in self.listeners():
            self._let(listener, partial(listener.on_round, report, snapshot))
        self._told &= set(self._failing)
        whole = "; ".join(f"{name}: {error}" for name, error in sorted(self._failing.items()))
        self.failed = f"{whole}; what it tells is missing, the log tells where. Report it" if whole else ""
        self._failing.clear()

    def _let(self, listener: Listener, hear: Callable[[], None]) -> None:
        try:
            hear()
        except Exception as error:
            name = type(listener).__name__
            self.defects[PART] += 1
            self._failing[name] = f"{type(error).__name__}: {error}"[:ERROR_MAX]
            if name not in self._told:
                self._told.add(name)
                log.exception("listener.defect", listener=name)
