"""Exposition: with a collector that counts how often it is asked, and a loop whose time stands still."""

import asyncio
import gc
import gzip
import threading
from collections.abc import Iterable
from contextlib import ExitStack

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from crewd.telemetry.exposition import Exposition, Format, accepts_gzip, choose_format, collector_asleep


class Slow(Collector):
    """A collector that remembers who asked, in which thread, and whether two asked at once."""

    def __init__(self) -> None:
        self.asked = 0
        self.inside = 0
        self.at_once = 0
        self.threads: set[int] = set()

    def describe(self) -> Iterable[Metric]:
        return [GaugeMetricFamily("slow", "A gauge.")]

    def collect(self) -> Iterable[Metric]:
        self.asked += 1
        self.inside += 1
        self.at_once = max(self.at_once, self.inside)
        self.threads.add(threading.get_ident())
        family = GaugeMetricFamily("slow", "A gauge.", labels=["n"])
        for number in range(200):
            family.add_metric([str(number)], number)
        self.inside -= 1
        return [family]


def registry(*collectors: Collector) -> CollectorRegistry:
    made = CollectorRegistry()
    for collector in collectors:
        made.register(collector)
    return made


def test_scrapes_at_once_are_encoded_once_and_off_the_loop() -> None:
    slow = Slow()

    async def run() -> None:
        exposition = Exposition(registry(slow), fresh_seconds=60)
        bodies = {answer.body for answer in await asyncio.gather(*(exposition.answer() for _ in range(20)))}
        assert len(bodies) == 1

    asyncio.run(run())
    assert slow.asked == 1 and slow.at_once == 1
    assert threading.get_ident() not in slow.threads


class Watcher(Slow):
    """A collector that looks whether the garbage collector is awake."""

    def __init__(self) -> None:
        super().__init__()
        self.awake: list[bool] = []

    def collect(self) -> Iterable[Metric]:
        self.awake.append(gc.isenabled())
        return super().collect()


def test_the_garbage_collector_sleeps_while_a_scrape_is_encoded_and_no_longer() -> None:
    watcher = Watcher()
    asyncio.run(_answer(Exposition(registry(watcher))))
    assert watcher.awake == [False]
    assert gc.isenabled()


def test_the_garbage_collector_is_woken_after_a_scrape_that_failed_too() -> None:
    class Broken(Slow):
        def collect(self) -> Iterable[Metric]:
            raise RuntimeError("no")

    asyncio.run(_answer(Exposition(registry(Broken()))))
    assert gc.isenabled()


def test_where_the_process_runs_without_garbage_collector_it_stays_off() -> None:
    gc.disable()
    try:
        asyncio.run(_answer(Exposition(registry(Slow()))))
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize("first_to_leave", [0, 1])
def test_of_two_scrapes_at_once_whichever_ends_last_the_collector_is_awake(first_to_leave: int) -> None:
    sleeps = [ExitStack(), ExitStack()]
    for sleep in sleeps:
        sleep.enter_context(collector_asleep())
    sleeps.pop(first_to_leave).close()
    sleeps.pop().close()
    assert gc.isenabled()


async def _answer(exposition: Exposition) -> None:
    await exposition.answer()


def test_an_answer_is_given_again_only_while_it_is_fresh() -> None:
    slow = Slow()

    async def run() -> None:
        exposition = Exposition(registry(slow), fresh_seconds=0)
        await exposition.answer()
        await exposition.answer()

    asyncio.run(run())
    assert slow.asked == 2


def test_different_questions_never_run_at_once_and_are_not_all_remembered() -> None:
    slow = Slow()

    async def run() -> None:
        exposition = Exposition(registry(slow), fresh_seconds=60, kept_max=3)
        await asyncio.gather(*(exposition.answer(names=[f"n{number}", "slow"]) for number in range(10)))
        await exposition.answer(names=["n9", "slow"])
        await exposition.answer(names=["n0", "slow"])

    asyncio.run(run())
    assert slow.at_once == 1
    assert slow.asked == 11


def test_a_family_may_be_named_by_itself_or_by_a_sample() -> None:
    made = CollectorRegistry()
    Counter("jobs_total", "Jobs.", registry=made)
    Histogram("wait_seconds", "Wait.", registry=made)

    async def text(*names: str) -> str:
        return (await Exposition(made).answer(names=names)).body.decode()

    assert "wait_seconds_bucket" in asyncio.run(text("wait_seconds"))
    assert "jobs_total 0.0" in asyncio.run(text("jobs_total")) and "jobs_total" in asyncio.run(text("jobs"))
    assert "jobs" not in asyncio.run(text("wait_seconds_sum"))
    assert asyncio.run(text("nothing")) == ""


def test_gzip_is_used_where_it_is_taken_and_pays() -> None:
    async def run() -> None:
        exposition = Exposition(registry(Slow()))
        plain, zipped = await exposition.answer(), await exposition.answer(accept_encoding="gzip, deflate;q=0.5")
        assert not plain.gzipped and zipped.gzipped
        assert gzip.decompress(zipped.body) == plain.body and len(zipped.body) < len(plain.body) / 2
        small = await exposition.answer(accept_encoding="gzip", names=["nothing"])
        assert not small.gzipped

    asyncio.run(run())


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", Format.PLAIN),
        ("*/*", Format.PLAIN),
        ("application/openmetrics-text", Format.OPENMETRICS),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", Format.OPENMETRICS),
        ("Application/OpenMetrics-Text;version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", Format.OPENMETRICS),
        ("text/plain, application/openmetrics-text;q=0.5", Format.PLAIN),
        ("application/openmetrics-text; version=abc", Format.PLAIN),
        ("application/openmetrics-text; version=2.0.0", Format.PLAIN),
        ("application/openmetrics-text;q=0", Format.PLAIN),
        ("application/openmetrics-text;q=nan", Format.PLAIN),
        (";=;q", Format.PLAIN),
        (",".join(["a/b"] * 10_000), Format.PLAIN),
    ],
)
def test_the_form_follows_the_accept_header(accept: str, form: Format) -> None:
    assert choose_format(accept) is form


@pytest.mark.parametrize(
    ("header", "taken"),
    [("", False), ("gzip", True), ("br, GZIP;q=0.3", True), ("gzip;q=0", False), ("gzip;q=x", False)],
)
def test_gzip_follows_the_accept_encoding_header(header: str, taken: bool) -> None:
    assert accepts_gzip(header) is taken


def test_even_an_encoder_that_fails_gives_an_answer() -> None:
    class Broken(Slow):
        def collect(self) -> Iterable[Metric]:
            raise RuntimeError("no")

    async def run() -> None:
        exposition = Exposition(registry(Broken()))
        answer = await exposition.answer("application/openmetrics-text")
        assert answer.body == b"# EOF\n" and exposition.failures == 1

    asyncio.run(run())
