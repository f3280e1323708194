"""Assembly: turns the settings that a person wrote into the options that the parts own."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from crewd.config.folders import logs_folder
from crewd.config.notifications import NotifyChannel, header_of, label_of
from crewd.config.run_file import TaskDefaults
from crewd.config.run_file.layers import tables_of, values_of
from crewd.config.settings import Settings
from crewd.detection.options import Override, Thresholds
from crewd.engine.managed.options import TaskOptions
from crewd.engine.options import PatrolOptions
from crewd.engine.recovering import LogReader
from crewd.engine.recovery_options import RecoveryOptions, RecoveryRule
from crewd.engine.replay import Rules
from crewd.host.machine import home_folder, is_own_folder
from crewd.model.plan import BudgetPlan, RetryPolicy
from crewd.policy.circuit import CircuitOptions
from crewd.policy.notifying import Route, quiet_hours
from crewd.sources.beat import BeatOptions
from crewd.sources.discover import Expander, default_roots, discover
from crewd.sources.pi_crew import PiCrewOptions
from crewd.sources.pi_crew.last_event import last_event
from crewd.sources.source import Source
from crewd.telemetry.logs import LogOptions
from crewd.telemetry.notify.options import ChannelOptions, DeadManOptions, NotifyOptions
from crewd.telemetry.sinks.options import SinkOptions
from crewd.telemetry.tallies import MetricsOptions

SECRET_PART_MIN = 12  # characters: a shorter part of an address, such as /hook, is a word like others


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
            shadow=other.shadow,
            name=name,
        )
        for name, other in settings.heartbeat.overrides.items()
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
        reopen_window=settings.incidents.reopen_window,
        damp_above=settings.incidents.damp_above,
        damp_half_life=settings.incidents.damp_half_life,
    )


def recovery_options(settings: Settings) -> RecoveryOptions:
    """What is done for interrupted runs of others. What an override leaves out is as for everyone."""
    chosen = settings.recovery
    rules = [
        RecoveryRule(
            mode=other.mode or chosen.mode,
            command=chosen.command if other.command is None else other.command,
            cancel_command=chosen.cancel_command if other.cancel_command is None else other.cancel_command,
            runtime=other.runtime,
            root=str(Path(other.root).expanduser().absolute()) if other.root else "",
        )
        for other in chosen.overrides.values()
    ]
    return RecoveryOptions(
        rules=(*rules, RecoveryRule(chosen.mode, chosen.command, chosen.cancel_command)),
        deadline=chosen.deadline,
        command_timeout=chosen.command_timeout,
        max_attempts=chosen.max_attempts,
    )


# Runtimes whose event logs crewd can read to their end. Of others it proposes no more than a cancel.
EVENT_LOGS: Mapping[str, LogReader] = {"pi_crew": last_event}


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


def replay_rules(settings: Settings, environ: Mapping[str, str]) -> Rules:
    """What a recorded period is run through: thresholds, retries of tasks that say nothing, and channels."""
    retries = {name: tables_of(values_of(each)).retry for name, each in settings.executors.items()}
    return Rules(
        thresholds=thresholds(settings),
        overrides=overrides(settings),
        retries={"default": RetryPolicy(), **retries},
        routes={channel.name: channel.route for channel in notify_options(settings, environ).channels},
        letters_per_hour=settings.dead_letters.threshold_per_hour,
        apart={
            "tasks.retries_per_hour": settings.tasks.retries_per_hour,
            "patrol.waiting_alert_after": settings.patrol.waiting_alert_after,
            "incidents.reopen_window": settings.incidents.reopen_window,
            "incidents.damp_above": settings.incidents.damp_above,
            "incidents.damp_half_life": settings.incidents.damp_half_life,
        },
    )


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
    settings: Settings, state: Path, more: Sequence[Source] = (), expander: Expander | None = None
) -> Callable[[Sequence[Source]], list[Source]]:
    """The search for roots: what the settings name, and without any, what every user has. `more` is always there.

    `expander` remembers what patterns named, from one search to the next.
    """
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
    expander = expander or Expander()
    return lambda known: [*discover(roots, beats, known, options, beat_options, expander), *more]


def secrets(settings: Settings) -> tuple[str, ...]:
    """The texts that must never be written."""
    token = (settings.http.token,) if settings.http.token is not None else ()
    return (
        *(secret.get_secret_value() for secret in (*settings.redact.secrets, *token)),
        *_channel_secrets(settings),
    )


def notify_options(settings: Settings, environ: Mapping[str, str]) -> NotifyOptions:
    """Who is told of incidents, and how."""
    channels, dead_man = settings.notifications.channels, settings.dead_man
    return NotifyOptions(
        channels=tuple(_channel(name, each, environ) for name, each in channels.items())
        if settings.notifications.enabled
        else (),
        dead_man=DeadManOptions(
            url=dead_man.url.get_secret_value() if dead_man.url is not None else "",
            method=dead_man.method,
            file=str(Path(dead_man.file).expanduser().absolute()) if dead_man.file else "",
            every=dead_man.every,
            timeout=dead_man.timeout,
        ),
    )


def _channel(name: str, channel: NotifyChannel, environ: Mapping[str, str]) -> ChannelOptions:
    headers = (header_of(each.get_secret_value()) for each in channel.headers)
    return ChannelOptions(
        name=name,
        kind=channel.kind,
        url=channel.url.get_secret_value() if channel.url is not None else "",
        format=channel.format,
        headers=tuple(each for each in headers if each is not None),
        labels=tuple(each for each in map(label_of, channel.labels) if each is not None),
        command=tuple(channel.command),
        # The operator's own program runs as crewd does, without what is said to crewd alone.
        environ={key: value for key, value in environ.items() if not key.startswith(("CREWD_", "CREDENTIALS_"))},
        route=Route(
            min_severity=channel.min_severity,
            crews=tuple(channel.crews),
            quiet=quiet_hours(channel.quiet_hours),
            quiet_critical=channel.quiet_critical,
        ),
        rate_per_minute=channel.rate_per_minute,
        burst=channel.burst,
        timeout=channel.timeout,
        attempts_max=channel.attempts_max,
        age_max=channel.age_max,
        remind_every=channel.remind_every,
    )


def _channel_secrets(settings: Settings) -> Iterator[str]:
    """Addresses and headers of channels: whole, and the parts of them that a message might quote."""
    urls = [channel.url for channel in settings.notifications.channels.values()] + [settings.dead_man.url]
    for url in (each.get_secret_value() for each in urls if each is not None):
        parts = urlsplit(url)
        yield url
        yield from (part for part in (parts.path, parts.query) if len(part) >= SECRET_PART_MIN)
    for channel in settings.notifications.channels.values():
        for header in (each.get_secret_value() for each in channel.headers):
            value = header.partition(":")[2].strip()
            yield from (part for part in (header, value, value.rpartition(" ")[2]) if len(part) >= SECRET_PART_MIN)
