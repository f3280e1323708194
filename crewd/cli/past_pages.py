"""Pages of the past, asked of the daemon or read in its ledger."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from crewd.cli.client import Answer, Daemon, Place, ask
from crewd.cli.picture import API
from crewd.cli.times import when

if TYPE_CHECKING:
    from crewd.ledger.reader import Reader
    from crewd.model.history import HistoryPage, HistoryQuery

LIMIT_MAX = 500  # model/history.LIMIT_MAX, which takes its time to import
ANSWER_SECONDS = 60.0  # a question may read through everything there is
OUTCOMES = ("completed", "failed", "timed_out", "cancelled", "skipped", "interrupted", "at_work")
STATUSES = (
    "queued", "planning", "running", "blocked", "completed", "failed", "cancelled", "unknown", "at_work",
)  # fmt: skip


def take_page(place: Place, name: str, asked: Mapping[str, Any]) -> Answer:
    """Ask for a page of runs, tasks or attempts. `asked` is named as the options of `crewd history`."""

    def online(daemon: Daemon) -> Any:
        query = {**asked, "since": when(asked["since"]), "until": when(asked["until"])}
        return daemon.json(
            f"{API}/history/{name}", {key: value or None for key, value in query.items()}, ANSWER_SECONDS
        )

    def offline(reader: "Reader") -> Any:
        from crewd.web.history_shapes import page_told

        query = _query(asked)
        pages: dict[str, Callable[[HistoryQuery], HistoryPage[Any]]] = {
            "runs": reader.past_runs,
            "tasks": reader.tasks,
            "attempts": reader.attempts,
        }
        told = page_told(name, pages[name](query))
        return told | {name: [place.redactor.value(row) for row in told[name]]}

    return ask(place, online, offline)


def take_stats(place: Place) -> Answer:
    """Ask how much history there is."""

    def offline(reader: "Reader") -> Any:
        from crewd.web.history_shapes import stats_told

        return stats_told(reader.history_stats())

    return ask(place, lambda daemon: daemon.json(f"{API}/history/stats", None, ANSWER_SECONDS), offline)


def _query(asked: Mapping[str, Any]) -> "HistoryQuery":
    from crewd.model.history import HistoryQuery

    return HistoryQuery(
        states=asked["state"],
        crew=asked["crew"] or "",
        runtime=asked["runtime"] or "",
        executor=asked["executor"] or "",
        model=asked["model"] or "",
        task_type=asked["task_type"] or "",
        run_id=asked["run"] or "",
        task_id=asked["task"] or "",
        since=asked["since"],
        until=asked["until"],
        variant=_pair(asked["variant"]),
        label=_pair(asked["label"]),
        before_seq=asked["cursor"],
        limit=asked["limit"],
    )


def _pair(text: str | None) -> tuple[str, str] | None:
    if not text:
        return None
    name, _, value = text.partition("=")
    return name, value
