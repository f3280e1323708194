"""The kinds of panels. Each says which question it answers and what to do; a missing answer is a ValueError."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heat
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from deploy.grafana.source.colours import NOTHING, PLAIN, UNKNOWN, WELL, Steps
from deploy.grafana.source.queries import ALERT_NAMES, Query, or_nothing

Built = Any  # the SDK's panel builders share no base class that names their setters
DATASOURCE = kinds.DataSourceRef(type_val="prometheus", uid="${datasource}")
PAGE = "http://${page}"
BAR = "1m"  # the least width of a bar
NOBODY_KNOWS = "not known"


@dataclass(frozen=True)
class About:
    """What a panel is for: the question that it answers, what to do about it, and the alerts of the matter."""

    asks: str
    do: str
    alerts: tuple[str, ...] = ()

    def text(self) -> str:
        if not self.asks.endswith("?") or not self.do.endswith("."):
            raise ValueError(f"not a question and a sentence: {self.asks!r}, {self.do!r}")
        return f"{self.asks}\n\nDo: {self.do}"


@dataclass(frozen=True)
class Link:
    title: str
    url: str

    def built(self) -> Any:
        return dashboard.DashboardLink(self.title).url(self.url).type(model.DashboardLinkType.LINK)

    def as_data(self) -> dict[str, Any]:
        """The form in which an override carries it."""
        return {"title": self.title, "url": self.url}


def runbook(alert: str) -> Link:
    if alert not in ALERT_NAMES:
        raise ValueError(f"no such alert: {alert}")
    return Link(f"Runbook {alert}", f"{PAGE}/runbooks#{alert.lower()}")


def to_dashboard(title: str, uid: str, **variables: str) -> Link:
    """A link that keeps datasource, job and time; `variables` are taken from what was clicked."""
    chosen = "".join(f"&var-{name}={value}" for name, value in variables.items())
    if "instance" not in variables:
        chosen += "&${instance:queryparam}"
    return Link(title, f"/d/{uid}?${{__url_time_range}}&${{datasource:queryparam}}&${{job:queryparam}}{chosen}")


def number(
    title: str,
    about: About,
    query: Query | str,
    *,
    unit: str = "short",
    steps: Steps = PLAIN,
    words: Mapping[str, tuple[str, str]] | None = None,
    none: str = "none",
    unknown: str = "",
    decimals: int | None = None,
    link: Link | None = None,
) -> Built:
    """One number of now in its colour.

    Without a curve: that would take a query over time, whose newest value may be hours old. What has vanished (nobody
    waits any more; crewd is down) must not stand there as if it were so still. `none` says that crewd is there and
    tells of nothing; where one cannot be scraped the tile says so, and is not green. A query that has an answer of
    its own for that names with `unknown` what its absence means, and begins its steps with the colour of it.
    """
    if not unknown:
        query, words = or_nothing(_query(query).expr), {"-1": (none, WELL), **(words or {})}
        steps = steps if steps is PLAIN else ((None, UNKNOWN), (0, steps[0][1]), *steps[1:])
    panel = stat.Panel().graph_mode(kinds.BigValueGraphMode.NONE)
    panel.color_mode(kinds.BigValueColorMode.BACKGROUND_SOLID if steps is not PLAIN else kinds.BigValueColorMode.NONE)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    panel.text_mode(kinds.BigValueTextMode.VALUE).justify_mode(kinds.BigValueJustifyMode.CENTER)
    panel.no_value(unknown or NOBODY_KNOWS)
    _thresholds(panel, steps)
    _finish(panel, title, about, [_now(query)], unit, decimals)
    if words is not None:
        panel.mappings([_words(words)])
    if link is not None:
        panel.data_links([link.built()])
    return panel


def lines(
    title: str,
    about: About,
    *queries: Query | str,
    unit: str = "short",
    colours: Mapping[str, str] | None = None,
    steps: Steps | None = None,
    stacked: bool = False,
    most: float | None = None,
    dashed: Sequence[str] = (),
    logarithmic: bool = False,
    none: str = "nothing",
    link: Link | None = None,
) -> Built:
    """Curves over time. `steps` draws bounds as dashed lines; the series named `dashed` are bounds themselves."""
    panel = timeseries.Panel().draw_style(kinds.GraphDrawStyle.LINE).line_width(1).no_value(none)
    if logarithmic:
        panel.scale_distribution(common.ScaleDistributionConfig().type(kinds.ScaleDistribution.LOG).log(10))
    else:
        panel.min(0)
    panel.fill_opacity(60 if stacked else 8).show_points(kinds.VisibilityMode.NEVER)
    if unit == "short":
        panel.axis_soft_max(1)  # a single one is not drawn as high as the panel
    _curves(panel, stacked)
    if most is not None:
        panel.max(most)
    if steps is not None:
        _thresholds(panel, steps)
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(kinds.GraphThresholdsStyleMode.DASHED))
    _finish(panel, title, about, [_query(each) for each in queries], unit, None)
    _colour(panel, colours)
    for name in dashed:
        style = {"dash": [8, 8], "fill": "dash"}
        panel.override_by_name(
            name,
            [
                model.DynamicConfigValue("custom.lineStyle", style),
                model.DynamicConfigValue("custom.fillOpacity", 0),
            ],
        )
    if link is not None:
        panel.data_links([link.built()])
    return panel


def bars(
    title: str,
    about: About,
    *queries: Query,
    unit: str = "short",
    colours: Mapping[str, str] | None = None,
    none: str = "none in the time shown",
    link: Link | None = None,
) -> Built:
    """How many in each stretch of time, one upon the other: for what happens rarely.

    The width is the panel's and not the queries': where a query asks for a least step, Grafana makes $__rate_interval
    four times as long as that, and each event would stand in four bars.
    """
    panel = timeseries.Panel().draw_style(kinds.GraphDrawStyle.BARS).line_width(0).fill_opacity(90).min(0)
    panel.show_points(kinds.VisibilityMode.NEVER).axis_soft_max(1).no_value(none)
    _curves(panel, True)
    _finish(panel, title, about, queries, unit, 0)
    panel.interval(BAR)
    _colour(panel, colours)
    if link is not None:
        panel.data_links([link.built()])
    return panel


def states(
    title: str,
    about: About,
    query: Query,
    words: Mapping[str, tuple[str, str]],
    *,
    none: str = "nothing",
    link: Link | None = None,
) -> Built:
    """One stripe a series, in the colour of its state: since when."""
    panel = statetimeline.Panel().merge_values(True).show_value(kinds.VisibilityMode.AUTO).row_height(0.8)
    panel.fill_opacity(80).line_width(0).tooltip(common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.SINGLE))
    panel.legend(common.VizLegendOptions().display_mode(kinds.LegendDisplayMode.LIST).show_legend(False).calcs([]))
    panel.mappings([_words(words)]).no_value(none)
    _thresholds(panel, PLAIN)
    _finish(panel, title, about, [query], "none", None)
    if link is not None:
        panel.data_links([link.built()])
    return panel


def buckets(title: str, about: About, query: Query, *, unit: str = "s") -> Built:
    """How observations spread over the buckets of a histogram, over time."""
    colour = heatmap.HeatmapColorOptions().mode(heat.HeatmapColorMode.SCHEME).scheme("Oranges").steps(64)
    colour = colour.scale(heat.HeatmapColorScale.EXPONENTIAL).exponent(0.5).fill("dark-orange").reverse(False)
    panel = heatmap.Panel().calculate(False).color(colour).cell_gap(1).no_value("none in the time shown")
    panel.y_axis(heatmap.YAxisConfig().unit(unit).axis_placement(kinds.AxisPlacement.LEFT).reverse(False))
    panel.filter_values(heatmap.FilterValueRange().le(1e-9))
    panel.tooltip(heatmap.HeatmapTooltip().mode(kinds.TooltipDisplayMode.SINGLE).y_histogram(True))
    panel.hide_legend()
    drawn = Query(query.expr, "{{le}}", query.ref, heatmap=True, exemplars=query.exemplars)
    _finish(panel, title, about, [drawn], "short", None)
    panel.interval(BAR)
    return panel


def gauges(
    title: str,
    about: About,
    query: Query | str,
    *,
    unit: str = "short",
    steps: Steps = PLAIN,
    most: float | None = None,
    colours: Mapping[str, str] | None = None,
    none: str = "none",
) -> Built:
    """One bar a series: how much there is now."""
    panel = bargauge.Panel().orientation(kinds.VizOrientation.HORIZONTAL).min(0)
    panel.display_mode(kinds.BarGaugeDisplayMode.BASIC).show_unfilled(True)
    panel.value_mode(kinds.BarGaugeValueMode.COLOR).no_value(f"{none}, or {NOBODY_KNOWS}")
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    if most is not None:
        panel.max(most)
    _thresholds(panel, steps)
    _finish(panel, title, about, [_now(query)], unit, None)
    _colour(panel, colours)
    return panel


@dataclass(frozen=True)
class Column:
    """A column of a table: of the labels if `query` is none, else the value of that query."""

    title: str
    query: Query | None = None
    unit: str = "short"
    steps: Steps | None = None
    words: Mapping[str, tuple[str, str]] | None = None
    link: Link | None = None
    width: int | None = None


def rows(
    title: str,
    about: About,
    columns: Sequence[Column],
    *,
    worst_first: Query | None = None,
    hidden: Sequence[str] = (),
) -> Built:
    """A row for each set of labels, the worst first where a query says what is worst.

    A column of a label has the label's name as its title. The labels `hidden` are queried and not shown.
    """
    asked = [column for column in columns if column.query is not None]
    queries = [Query(each.query.expr, ref=chr(66 + place)) for place, each in enumerate(asked) if each.query]
    names = {f"Value #{query.ref}": column.title for query, column in zip(queries, asked, strict=True)}
    if worst_first is not None:
        queries.insert(0, Query(worst_first.expr, ref="A"))
    if len(queries) == 1:
        names = {"Value": asked[0].title}
    order = [{title: key for key, title in names.items()}.get(column.title, column.title) for column in columns]
    panel = table.Panel().show_header(True).cell_height(kinds.TableCellHeight.SM)
    panel.with_transformation(model.DataTransformerConfig("merge", options={}))
    if worst_first is not None:
        worst_at_top = {"fields": {}, "sort": [{"field": "Value #A", "desc": True}]}
        panel.with_transformation(model.DataTransformerConfig("sortBy", options=worst_at_top))
    left_out = ["Time", *hidden, *(["Value #A"] if worst_first is not None else [])]
    arranged = {
        "excludeByName": dict.fromkeys(left_out, True),
        "indexByName": {name: place for place, name in enumerate(order)},
        "renameByName": names,
    }
    panel.with_transformation(model.DataTransformerConfig("organize", options=arranged))
    panel.no_value("")
    _thresholds(panel, PLAIN)
    drawn = [Query(each.expr, ref=each.ref, instant=True, table=True) for each in queries]
    _finish(panel, title, about, drawn, "short", None)
    for column in columns:
        _column(panel, column)
    return panel


def _column(panel: Built, column: Column) -> None:
    known: list[tuple[str, Any]] = []
    if column.query is not None:
        known.append(("unit", column.unit))
    if column.steps is not None:
        bounds = [{"value": value, "color": colour} for value, colour in column.steps]
        known.append(("thresholds", {"mode": "absolute", "steps": bounds}))
        known.append(("color", {"mode": "thresholds"}))
    if column.words is not None:
        known.append(("mappings", [_words(column.words).to_json()]))
    if column.steps is not None or any(colour != NOTHING for _, colour in (column.words or {}).values()):
        known.append(("custom.cellOptions", {"type": "color-background", "mode": "basic"}))
    if column.link is not None:
        known.append(("links", [column.link.as_data()]))
    if column.width is not None:
        known.append(("custom.width", column.width))
    if known:
        panel.override_by_name(column.title, [model.DynamicConfigValue(name, value) for name, value in known])


def _finish(
    panel: Built, title: str, about: About, queries: Sequence[Query], unit: str, decimals: int | None
) -> None:
    panel.title(title).description(about.text()).datasource(DATASOURCE).unit(unit)
    if decimals is not None:
        panel.decimals(decimals)
    panel.links([runbook(alert).built() for alert in about.alerts])
    for place, query in enumerate(queries):
        panel.with_target(_target(query, chr(65 + place) if query.ref == "A" else query.ref))


def _query(query: Query | str) -> Query:
    return query if isinstance(query, Query) else Query(query)


def _now(query: Query | str) -> Query:
    return replace(_query(query), instant=True)


def _target(query: Query, ref: str) -> Any:
    target = prometheus.Dataquery().expr(query.expr).ref_id(ref).datasource(DATASOURCE)
    target = target.instant() if query.instant else target.range()
    form = PromQueryFormat.TABLE if query.table else PromQueryFormat.HEATMAP if query.heatmap else None
    target.format(form or PromQueryFormat.TIME_SERIES)
    target.legend_format(query.legend or "__auto")
    if query.exemplars:
        target.exemplar(True)
    return target


def _curves(panel: Built, stacked: bool) -> None:
    panel.legend(
        common.VizLegendOptions()
        .display_mode(kinds.LegendDisplayMode.LIST)
        .placement(kinds.LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs([])
    )
    panel.tooltip(common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI).sort(kinds.SortOrder.DESCENDING))
    if stacked:
        panel.stacking(common.StackingConfig().mode(kinds.StackingMode.NORMAL).group("A"))


def _thresholds(panel: Built, steps: Steps) -> None:
    bounds = [model.Threshold(value, colour) for value, colour in steps]
    panel.thresholds(dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(bounds))
    if not isinstance(panel, timeseries.Panel):
        panel.color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))


def _colour(panel: Built, colours: Mapping[str, str] | None) -> None:
    for name, colour in (colours or {}).items():
        fixed = {"mode": "fixed", "fixedColor": colour}
        panel.override_by_name(name, [model.DynamicConfigValue("color", fixed)])


def _words(words: Mapping[str, tuple[str, str]]) -> model.ValueMap:
    """The word and the colour for each value."""
    results = {
        value: model.ValueMappingResult(text=text, color=colour if colour != NOTHING else None, index=place)
        for place, (value, (text, colour)) in enumerate(words.items())
    }
    return model.ValueMap(results)
