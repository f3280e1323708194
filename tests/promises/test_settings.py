"""The defaults of the settings are those that the parts have by themselves, and every setting reaches its part."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from crewd import assembly
from crewd.config.settings import Settings
from crewd.detection.options import Thresholds
from crewd.engine.options import PatrolOptions
from crewd.sources.pi_crew import PiCrewOptions
from crewd.telemetry.logs import LogOptions
from crewd.telemetry.sinks.options import SinkOptions
from crewd.telemetry.tallies import MetricsOptions
from crewd.web.broadcast import BroadcastOptions
from crewd.web.server import HttpOptions

STATE = Path("/state")


def test_the_defaults_are_those_of_the_parts() -> None:
    settings = Settings()
    assert assembly.thresholds(settings) == Thresholds()
    assert assembly.overrides(settings) == ()
    assert assembly.patrol_options(settings) == PatrolOptions()
    assert assembly.metrics_options(settings) == MetricsOptions()
    assert assembly.log_options(settings) == LogOptions()
    assert assembly.sink_options(settings, {}, STATE) == SinkOptions(folder="/state/logs")
    assert assembly.secrets(settings) == ()
    assert settings.sources.max_file_bytes == PiCrewOptions().file_max
    assert settings.sources.follow_index == PiCrewOptions().follow_index
    assert (settings.http.host, settings.http.port) == (HttpOptions().host, HttpOptions().port)
    assert settings.http.connections_max == HttpOptions().connections_max
    assert settings.http.streams_max == BroadcastOptions().streams_max


@pytest.mark.parametrize(
    ("given", "options", "changed"),
    [
        ({"patrol": {"interval": "10s"}}, "patrol_options", {"interval": 10.0, "discover_every": 6}),
        ({"patrol": {"unreadable_after": 5}}, "patrol_options", {"unreadable_after": 5}),
        ({"patrol": {"look_timeout": "5s"}}, "patrol_options", {"look_timeout": 5.0}),
        ({"patrol": {"waiting_alert_after": "1h"}}, "patrol_options", {"waiting_alert_after": 3600.0}),
        ({"sources": {"discover_every": "5m"}}, "patrol_options", {"discover_every": 60}),
        ({"incidents": {"reopen_window": "1h"}}, "patrol_options", {"reopen_window": 3600.0}),
        ({"incidents": {"damp_above": 5}}, "patrol_options", {"damp_above": 5.0}),
        ({"incidents": {"damp_half_life": "1h"}}, "patrol_options", {"damp_half_life": 3600.0}),
        ({"dead_letters": {"threshold_per_hour": 9}}, "patrol_options", {"dead_letters_per_hour": 9}),
        ({"heartbeat": {"warn_after": "40s"}}, "thresholds", {"warn_after": 40.0}),
        ({"heartbeat": {"stale_after": "70s"}}, "thresholds", {"stale_after": 70.0}),
        ({"heartbeat": {"dead_after": "400s"}}, "thresholds", {"dead_after": 400.0}),
        ({"heartbeat": {"hung_after": "1h"}}, "thresholds", {"hung_after": 3600.0}),
        ({"heartbeat": {"startup_grace": 0}}, "thresholds", {"startup_grace": 0.0}),
        ({"metrics": {"max_crews": 7}}, "metrics_options", {"max_crews": 7}),
        ({"metrics": {"per_worker": True}}, "metrics_options", {"per_worker": True}),
        ({"metrics": {"per_worker_max": 7}}, "metrics_options", {"per_worker_max": 7}),
        ({"log": {"level": "debug"}}, "log_options", {"level": "debug"}),
        ({"log": {"format": "json"}}, "log_options", {"format": "json"}),
    ],
)
def test_a_setting_reaches_the_option_it_means_and_no_other(
    given: dict[str, Any], options: str, changed: dict[str, Any]
) -> None:
    make = getattr(assembly, options)
    before, after = dataclasses.asdict(make(Settings())), dataclasses.asdict(make(Settings(**given)))
    assert {name: value for name, value in after.items() if value != before[name]} == changed


def test_what_an_override_leaves_out_is_as_for_everyone() -> None:
    override = {"tool": "bash", "task_type": "build", "crew": "blue", "runtime": "beat", "hung_after": "2h"}
    settings = Settings(heartbeat={"dead_after": "6m", "overrides": {"long": override}})  # type: ignore[arg-type]  # as words
    (found,) = assembly.overrides(settings)
    assert (found.name, found.shadow) == ("long", False)
    assert found.thresholds == dataclasses.replace(Thresholds(), dead_after=360.0, hung_after=7200.0)
    assert (found.tool, found.task_type, found.crew, found.runtime) == ("bash", "build", "blue", "beat")


def test_the_bounds_of_the_settings_lie_within_those_of_the_parts() -> None:
    for interval in ("1s", "1m"):
        for discover_every in ("1s", "1h"):
            given = {"patrol": {"interval": interval}, "sources": {"discover_every": discover_every}}
            assembly.patrol_options(Settings(**given))  # type: ignore[arg-type]  # one of several fields, by name
    assembly.sink_options(Settings(sinks={"retention_bytes": "1MiB", "metrics_every": 1}), {}, STATE)  # type: ignore[arg-type]  # as words
    PiCrewOptions(file_max=Settings(sources={"max_file_bytes": "1KiB"}).sources.max_file_bytes)  # type: ignore[arg-type]  # as words
