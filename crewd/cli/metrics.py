"""`crewd metrics`: the daemon's metrics, in either spelling."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import click

from crewd.cli.client import Place, find, say_notice
from crewd.cli.options import config_option, json_option, print_json, state_option
from crewd.cli.text import clean
from crewd.errors import DaemonUnreachable, NothingMatched, UsageProblem


@click.command()
@click.argument("glob", required=False)
@click.option("--dotted", is_flag=True, help="Spell names as pi-crew does, where it has a name: crew.run.count.")
@click.option("--buckets", is_flag=True, help="Also the buckets of histograms.")
@click.option("--window", metavar="WINDOW", help="How what ended in it came out instead: 1h to 90d, such as 7d.")
@click.option(
    "--group-by", metavar="NAMES", help="With --window: at most 4, commas between, such as model,task_type."
)
@click.option("--level", type=click.Choice(("attempt", "task")), help="With --window: what is counted; attempts.")
@click.option("--crew", metavar="NAME", help="With --window: only of this crew.")
@click.option("--runtime", metavar="NAME", help="With --window: only of this runtime.")
@click.option("--executor", metavar="NAME", help="With --window: only of this executor.")
@click.option("--model", metavar="NAME", help="With --window: only of this model.")
@click.option("--type", "task_type", metavar="NAME", help="With --window: only tasks of this type.")
@config_option
@state_option
@json_option
def metrics(
    glob: str | None,
    dotted: bool,
    buckets: bool,
    window: str | None,
    config_file: Path | None,
    state_dir: Path | None,
    as_json: bool,
    **which: str | None,
) -> None:
    """Show the daemon's metrics whose name fits GLOB, in either spelling, such as 'crew_workers' or 'crew.task.*'.

    With --window: how many attempts or tasks ended in it, how many of them well, how long they took and what they
    used, together and by --group-by; from the history, so that it is known without a daemon too.
    """
    place = find(state_dir, config_file)
    if window is not None:
        if glob is not None or dotted or buckets:
            raise UsageProblem(
                "--window sums up the history, which has no names: leave GLOB, --dotted, --buckets out"
            )
        _summary(place, {**which, "window": window}, as_json)
        return
    given = [f"--{name.replace('task_', '').replace('_', '-')}" for name, value in which.items() if value is not None]
    if given:
        raise UsageProblem(f"{', '.join(given)}: of a summary: name its --window too, such as 7d")
    _show(place, glob or "*", dotted, buckets, as_json)


def _summary(place: Place, asked: dict[str, str | None], as_json: bool) -> None:
    from crewd.cli.screen import print_lines
    from crewd.cli.summary import summary_lines, take_summary

    answer = take_summary(place, {**asked, "level": asked["level"] or "attempt", "group_by": asked["group_by"] or ""})
    say_notice(answer)
    if as_json:
        print_json({"source": answer.source, "as_of": answer.as_of or None, **answer.body})
    else:
        print_lines(summary_lines(answer.body))


def _show(place: Place, glob: str, dotted: bool, buckets: bool, as_json: bool) -> None:
    try:
        with place.daemon() as daemon:
            text = daemon.bytes("/metrics", {}, accept="text/plain").decode("utf-8", "replace")
    except DaemonUnreachable as error:
        # They count what happens in the daemon, so that the ledger cannot stand in for it.
        raise DaemonUnreachable(
            f"{error}; past metrics are in metrics-DATE.jsonl in the folder of the sinks"
        ) from None
    found = [sample for sample in _samples(text, dotted) if _fits(sample, glob) and (buckets or not sample["bucket"])]
    if not found:
        raise NothingMatched(f"no metric fits {glob!r}; `crewd metrics` lists them all")
    if as_json:
        keys = ("name", "labels", "value")
        print_json({"source": "daemon", "metrics": [{key: sample[key] for key in keys} for sample in found]})
        return
    for sample in found:
        click.echo(_line(sample))


def _samples(text: str, dotted: bool) -> Iterator[dict[str, Any]]:
    from prometheus_client.parser import text_string_to_metric_families

    spellings = _spellings()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            other = _other_spelling(sample.name, spellings)
            yield {
                "name": other if dotted and other else sample.name,
                "names": [name for name in (sample.name, family.name, other) if name],
                "labels": sample.labels,
                "value": sample.value,
                "bucket": family.type == "histogram" and sample.name.endswith("_bucket"),
            }


def _spellings() -> dict[str, str]:
    from crewd.telemetry.families import FAMILIES

    return {family.name: family.dotted[0] for family in FAMILIES if family.dotted}


def _other_spelling(name: str, spellings: dict[str, str]) -> str:
    for ending in ("", "_bucket", "_count", "_sum"):
        if name.endswith(ending) and (stem := name[: len(name) - len(ending)]) in spellings:
            return spellings[stem] + ending.replace("_", ".", 1)
    return ""


def _fits(sample: dict[str, Any], glob: str) -> bool:
    return any(fnmatchcase(name, glob) for name in sample["names"])


def _line(sample: dict[str, Any]) -> str:
    labels = ",".join(f'{name}="{clean(value)}"' for name, value in sample["labels"].items())
    return (
        f"{sample['name']}{{{labels}}} {sample['value']:.15g}"
        if labels
        else f"{sample['name']} {sample['value']:.15g}"
    )
