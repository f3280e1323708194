"""The picture: the immutable snapshot of a round, made anew only where something changed."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from crewd.detection.options import Thresholds
from crewd.engine.book import Book
from crewd.model.look import ReadResult
from crewd.model.snapshot import Health, ManagedFigures, RunView, Snapshot
from crewd.model.verdict import Incident


@dataclass(slots=True, eq=False)
class Picture:
    """Keeps the views of all runs, so that an unchanged round copies nothing."""

    thresholds: Thresholds
    snapshot: Snapshot = field(default_factory=lambda: Snapshot(taken_at=0.0, health=Health()))
    _views: dict[str, RunView] = field(default_factory=dict)

    def take(
        self,
        book: Book,
        strangers: Mapping[str, tuple[str, ReadResult, int]],
        touched: set[str],
        at: float,
        health: Health,
        letters: Mapping[str, tuple[int, float | None]],
        verdicts_open: Mapping[tuple[str, str], int],
        managed: ManagedFigures | None = None,
        refused: tuple[tuple[str, str], ...] = (),
        incidents: tuple[Incident, ...] = (),
        recoveries: Mapping[str, int] | None = None,
    ) -> Snapshot:
        """Make this round's snapshot. `touched` names the runs whose view is out of date."""
        if touched:
            views = dict(self._views)
            for run_id in touched:
                entry = book.entries.get(run_id)
                if entry is None:
                    views.pop(run_id, None)
                else:
                    views[run_id] = entry.view()
            self._views = views
        self.snapshot = Snapshot(
            taken_at=at,
            health=health,
            runs=self._views,
            strangers={run_id: why for run_id, (_, why, _) in strangers.items()},
            observed=dict(book.observed),
            dead_letters=dict(letters),
            verdicts_open=dict(verdicts_open),
            managed=managed,
            refused=refused,
            incidents=incidents,
            recoveries=recoveries or {},
            thresholds={
                "default": {
                    "warn": self.thresholds.warn_after,
                    "stale": self.thresholds.stale_after,
                    "dead": self.thresholds.dead_after,
                    "hung": self.thresholds.hung_after,
                }
            },
        )
        return self.snapshot
