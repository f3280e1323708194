"""Assembly: turns the settings that a person wrote into the options that the parts own."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from crewd.config.folders import logs_folder
from crewd.config.run_file import TaskDefaults
from crewd.config.settings import Settings
from crewd.detection.options import Override, Thresholds
from crewd.engine.managed.options import TaskOptions
from crewd.engine.options import PatrolOptions
from crewd.host.machine import home_folder, is_own_folder
from crewd.model.plan import BudgetPlan
from crewd.policy.circuit import CircuitOptions
from crewd.sources.beat import BeatOptions
from crewd.sources.discover import default_roots, discover
from crewd.sources.pi_crew import PiCrewOptions
from crewd.sources.source import Source
from crewd.telemetry.logs import LogOptions
from crewd.telemetry.sinks.options import SinkOptions
from crewd.telemetry.tallies import MetricsOptions


def thresholds(settings: Settings) -> Thresholds:
    """What silence means, for everyone whom no override fits."""
    heartbeat = settings.heartbeat
    return Thresholds(
        warn_after=heartbeat.warn_after,
        stale_after=heartbeat.stale_after,
        dead_after=heartbeat.dead_after,
        hung_after=heartbeat.hung_after,
        startup_grace=heartbeat.startup_grace,
    )


def overrides(settings: Settings) -> tuple[Override, ...]:
    """What silence means for some. What an override leaves out is as for everyone."""
    default = thresholds(settings)
    return tuple(
        Override(
            thresholds=Thresholds(
                warn_after=default.warn_after if other.warn_after is None else other.warn_after,
                stale_after=default.stale_after if other.stale_after is None else other.stale_after,
                dead_after=default.dead_after if other.dead_after is None else other.dead_after,
                hung_after=default.hung_after if other.hung_after is None else other.hung_after,
                startup_grace=default.startup_grace if other.startup_grace is None else other.startup_grace,
            ),
            runtime=other.runtime,
            crew=other.crew,
            task_type=other.task_type,
            tool=other.tool,
        )
        for other in settings.heartbeat.overrides.values()
    )


def patrol_options(settings: Settings) -> PatrolOptions:
    """The rhythm of the rounds."""
    patrol = settings.patrol
    return PatrolOptions(
        interval=patrol.interval,
        unreadable_after=patrol.unreadable_after,
        look_timeout=patrol.look_timeout,
        activity_every=min(30.0, 6 * patrol.interval),
        discover_every=max(1, round(settings.sources.discover_every / patrol.interval)),
        waiting_alert_after=patrol.waiting_alert_after,
        dead_letters_per_hour=settings.dead_letters.threshold_per_hour,
        dead_rounds=settings.dead_letters.dead_rounds,
    )


def task_options(settings: Settings, environ: Mapping[str, str], state: Path) -> TaskOptions:
    """How managed runs are run."""
    tasks, circuits = settings.tasks, settings.circuits
    return TaskOptions(
        folder=str(Path(tasks.folder).expanduser().absolute()) if tasks.folder else f"{state}/runs",
        max_parallel=tasks.max_parallel,
        executors_max={
            name: each.max_parallel for name, each in settings.executors.items() if each.max_parallel is not None
        },
        start_rate=tasks.start_rate,
        start_burst=tasks.start_burst,
        poll_seconds=tasks.poll_seconds,
        drain_timeout=tasks.drain_timeout,
        retries_per_hour=tasks.retries_per_hour,
        secrets_folder=settings.secrets.folder or environ.get("CREDENTIALS_DIRECTORY", ""),
        env_pass=tuple(tasks.env_pass),
        circuits=CircuitOptions(
            failures=circuits.failures,
            window=circuits.window,
            open_for=circuits.open_for,
            open_for_max=circuits.open_for_max,
        ),
        day_budget=_budget(settings, settings.budgets.day_tokens, settings.budgets.day_cost_usd),
        crew_budget=_budget(settings, settings.budgets.crew_day_tokens, settings.budgets.crew_day_cost_usd),
        redrive_rate=settings.dead_letters.redrive_rate,
        parole=settings.dead_letters.parole,
    )


def _budget(settings: Settings, tokens: int | None, cost_usd: float | None) -> BudgetPlan:
    budgets = settings.budgets
    return BudgetPlan(tokens, cost_usd, budgets.warn_ratio, budgets.on_exceeded)


def task_defaults(settings: Settings) -> TaskDefaults:
    """What every plan takes from this machine."""
    return TaskDefaults(env_pass=tuple(settings.tasks.env_pass), home=home_folder())


def metrics_options(settings: Settings) -> MetricsOptions:
    """What /metrics shows."""
    metrics = settings.metrics
    return MetricsOptions(
        max_crews=metrics.max_crews,
        per_worker=metrics.per_worker,
        per_worker_max=metrics.per_worker_max,
        executors=tuple({"default", *settings.executors}),
    )


def sink_options(settings: Settings, environ: Mapping[str, str], state: Path) -> SinkOptions:
    """How the daily files are kept, and where."""
    sinks = settings.sinks
    return SinkOptions(
        folder=str(logs_folder(environ, state, sinks.folder)),
        retention_days=sinks.retention_days,
        retention_bytes=sinks.retention_bytes,
        gzip=sinks.gzip,
        metrics_every=sinks.metrics_every,
    )


def log_options(settings: Settings) -> LogOptions:
    """How crewd speaks of itself."""
    return LogOptions(level=settings.log.level, format=settings.log.format)


def discoverer(
    settings: Settings, state: Path, more: Sequence[Source] = ()
) -> Callable[[Sequence[Source]], list[Source]]:
    """The search for roots: what the settings name, and without any, what every user has. `more` is always there."""
    chosen = settings.sources
    pi_crew, beat = default_roots(home_folder(), str(state))
    roots = chosen.roots or (tuple(pi_crew) if not chosen.beat_roots else ())
    beats = chosen.beat_roots or tuple(beat)
    options = PiCrewOptions(
        follow_index=chosen.follow_index,
        # Only what a person named is missed when it is not there.
        may_be_missing=not chosen.roots,
        is_own_folder=is_own_folder,
        file_max=chosen.max_file_bytes,
    )
    beat_options = BeatOptions(may_be_missing=not chosen.beat_roots)
    return lambda known: [*discover(roots, beats, known, options, beat_options), *more]


def secrets(settings: Settings) -> tuple[str, ...]:
    """The texts that must never be written."""
    return tuple(secret.get_secret_value() for secret in settings.redact.secrets)
