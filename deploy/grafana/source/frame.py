"""What every dashboard has: variables, links, annotations, and panels placed line by line on the grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import dashboard, prometheus
from grafana_foundation_sdk.models import dashboard as model

from deploy.grafana.source import colours
from deploy.grafana.source.panels import DATASOURCE, PAGE, Built
from deploy.grafana.source.queries import FIRING, INSTANCE, JOB, of

TAG = "crewd"
GRID_WIDTH = 24
UIDS = {
    "crewd-overview": "Overview",
    "crewd-crew": "One crew",
    "crewd-detection": "Detection",
    "crewd-retries": "Retries and dead letters",
    "crewd-daemon": "Daemon",
}


@dataclass(frozen=True)
class Line:
    """Panels side by side, of one height. `cells` are widths and panels."""

    height: int
    cells: tuple[tuple[int, Built], ...]


@dataclass(frozen=True)
class Section:
    """Lines below one heading; the first section of a dashboard needs none."""

    title: str
    lines: tuple[Line, ...]


def line(height: int, *cells: tuple[int, Built]) -> Line:
    if sum(width for width, _ in cells) > GRID_WIDTH:
        raise ValueError(f"wider than {GRID_WIDTH}: {[width for width, _ in cells]}")
    return Line(height, cells)


def evenly(height: int, *panels: Built) -> Line:
    """Panels of one width, which fill the line."""
    return line(height, *((GRID_WIDTH // len(panels), panel) for panel in panels))


def framed(
    uid: str,
    description: str,
    sections: Sequence[Section],
    variables: Sequence[Any] = (),
    *,
    since: str = "now-6h",
    refresh: str = "30s",
) -> Any:
    """Build one dashboard. `variables` are those beyond datasource, job and instance."""
    made = dashboard.Dashboard(f"crewd / {UIDS[uid]}").uid(uid).description(description).tags([TAG])
    made.readonly().time(since, "now").refresh(refresh).timezone("browser")
    made.tooltip(model.DashboardCursorSync.CROSSHAIR)
    made.timepicker(dashboard.TimePicker().refresh_intervals(["10s", "30s", "1m", "5m", "15m", "1h"]))
    for variable in (_datasource(), _job(), _instance(), *variables, _page()):
        made.with_variable(variable)
    for other, title in UIDS.items():
        if other != uid:
            made.link(_link(title, f"/d/{other}", icon="dashboard", keep=True))
    made.link(_link("crewd's page", f"{PAGE}/", icon="external link"))
    made.link(_link("Runbooks", f"{PAGE}/runbooks", icon="doc"))
    for annotation in _annotations():
        made.annotation(annotation)
    _place(made, sections)
    return made.build()


def crews(*, many: bool) -> Any:
    """Choose crews: those of the time shown, also where their last run is over."""
    variable = _asked("crew", "Crew", "crew", of("crew_runs", crew=".+"))
    return _all(variable).all_value(".+") if many else variable.multi(False).include_all(False)


def runtimes() -> Any:
    return _all(_asked("runtime", "Runtime", "runtime", of("crew_heartbeats_total")))


def _place(made: Any, sections: Sequence[Section]) -> None:
    down, id = 0, 0
    for section in sections:
        if section.title:
            id += 1
            row = dashboard.Row(section.title).id(id).collapsed(False)
            made.with_row(row.grid_pos(model.GridPos(h=1, w=GRID_WIDTH, x=0, y=down)))
            down += 1
        for each in section.lines:
            across = 0
            for width, panel in each.cells:
                id += 1
                made.with_panel(panel.id(id).grid_pos(model.GridPos(h=each.height, w=width, x=across, y=down)))
                across += width
            down += each.height


def _datasource() -> Any:
    return dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus").multi(False)


def _job() -> Any:
    # "All" is the list of the jobs of crewd, never ".+": `up` and `process_...` belong to every job there is.
    # The alerts name it still where crewd has been down for longer than the time shown.
    return _all(_asked("job", "Job", "job", '{__name__=~"crewd_build_info|ALERTS", alertname=~"Crewd.+|"}'))


def _instance() -> Any:
    # Of `up`, for one that is down must not vanish from the list.
    return _all(_asked("instance", "Instance", "instance", f"up{{{JOB}}}"))


def _page() -> Any:
    """The address for links: one instance, the first of those that are chosen."""
    variable = _asked("page", "Page", "instance", f"up{{{JOB}, {INSTANCE}}}")
    return variable.multi(False).include_all(False).hide(model.VariableHide.HIDE_VARIABLE)


def _asked(name: str, label: str, key: str, series: str) -> Any:
    query = f"label_values({series}, {key})"
    variable = dashboard.QueryVariable(name).label(label).datasource(DATASOURCE)
    variable.query({"query": query, "refId": f"variable-{name}"})
    return variable.refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(model.VariableSort.ALPHABETICAL_ASC)


def _all(variable: Any) -> Any:
    everything = model.VariableOption(selected=True, text=["All"], value=["$__all"])
    return variable.multi(True).include_all(True).current(everything)


def _link(title: str, url: str, *, icon: str, keep: bool = False) -> Any:
    link = dashboard.DashboardLink(title).type(model.DashboardLinkType.LINK).url(url).icon(icon)
    return link.include_vars(keep).keep_time(keep).target_blank(not keep)


def _annotations() -> list[Any]:
    # The value is the moment, in milliseconds.
    return [
        _annotation(
            "crewd started",
            f"{of('process_start_time_seconds')} * 1000",
            colours.WAITS,
            "crewd started",
            "{{instance}}",
        ).use_value_for_time(True),
        _annotation(
            "Settings loaded",
            f"{of('crewd_config_last_reload_success_timestamp_seconds')} * 1000",
            colours.NOTHING,
            "Settings loaded",
            "{{instance}}",
        ).use_value_for_time(True),
        _annotation(
            "Alerts",
            f'{FIRING}, severity=~"critical|warning"}}',
            colours.ACT,
            "{{alertname}}",
            "{{crew}} {{instance}}",
        ).tag_keys("severity"),
    ]


def _annotation(name: str, expr: str, colour: str, title: str, text: str) -> Any:
    target = prometheus.Dataquery().expr(expr).ref_id("Anno").interval("1m")
    annotation = dashboard.AnnotationQuery().name(name).datasource(DATASOURCE).enable(True).icon_color(colour)
    return annotation.target(target).title_format(title).text_format(text)
