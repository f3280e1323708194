"""Parts: what is registered in a registry, each so that its failure costs its own families and no others."""

from collections.abc import Callable, Iterable
from functools import partial

import structlog
from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from crewd.telemetry.families import LIBRARY, Family


class Part(Collector):
    """One collector with a name. It always describes itself: without that, `name[]` would silently leave it out."""

    def __init__(
        self,
        name: str,
        describe: Callable[[], Iterable[Metric]],
        collect: Callable[[], Iterable[Metric]],
        failed: Callable[[str], None],
    ) -> None:
        self._name = name
        self._describe = describe
        self._collect = collect
        self._failed = failed

    def describe(self) -> Iterable[Metric]:
        return self._describe()

    def collect(self) -> Iterable[Metric]:
        # Family by family: all series of a large installation at once would make the garbage collector stop everyone.
        try:
            yield from self._collect()
        except Exception:  # noqa: BLE001 - a scrape is answered whatever happens to one part: the rest tells of it
            self._failed(self._name)
            structlog.get_logger("crewd.metrics").exception("metrics.part_failed", part=self._name)


def describe(families: Iterable[Family]) -> list[Metric]:
    """Name families, without their series."""
    return [Metric(sample_stem(family), family.help, family.kind.value) for family in families]


def sample_stem(family: Family) -> str:
    """Return the name of a family as the library keeps it: that of a counter without its `_total`."""
    return family.name.removesuffix("_total") if family.kind.value == "counter" else family.name


def register_library(registry: CollectorRegistry, failed: Callable[[str], None]) -> None:
    """Register the library's own collectors of the process and of the garbage collector."""
    scratch = CollectorRegistry()
    process, garbage = ProcessCollector(registry=scratch), GCCollector(registry=scratch)
    for name, collector in (("process", process), ("python_gc", garbage)):
        families = [family for family in LIBRARY if family.name.startswith(name)]
        registry.register(Part(name, partial(describe, families), collector.collect, failed))
