"""Every setting of crewd, in groups: name, kind, bounds, default and one line of explanation."""

import ipaddress
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from crewd.config.group import Group
from crewd.config.notifications import DeadMan, Notifications
from crewd.config.quantities import duration_text
from crewd.config.recovery import Recovery
from crewd.config.run_file.executor import Executor
from crewd.config.values import Duration, Fixed, Name, Secrets, Size, Texts, Token, VariableNames


def _empty_is_none(value: object) -> object:
    """Take an empty text for none: neither TOML nor a variable of the environment can say it otherwise."""
    return None if value == "" else value


_EMPTY_IS_NONE = BeforeValidator(_empty_is_none)
_Tokens = Annotated[int | None, _EMPTY_IS_NONE]
_Money = Annotated[float | None, _EMPTY_IS_NONE]


def _check_order(which: str, warn: float, stale: float, dead: float, hung: float) -> None:
    if not warn < stale < dead <= hung:
        raise PydanticCustomError(
            "order",
            "{which}warn_after {warn}, stale_after {stale}, dead_after {dead}, hung_after {hung} are not in order",
            {
                "which": which,
                "warn": duration_text(warn),
                "stale": duration_text(stale),
                "dead": duration_text(dead),
                "hung": duration_text(hung),
                "remedy": "warn_after < stale_after < dead_after <= hung_after",
            },
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class Sources(Group):
    """Where crewd looks for runs."""

    roots: Texts = Field(
        default=(),
        description="Project folders or crew folders; ~ and globs such as ~/projects/*/.crew are expanded.",
    )
    beat_roots: Texts = Field(default=(), description="Folders of beat files; none = beats/ in the state folder.")
    follow_index: bool = Field(
        default=True,
        description="Also watch what the runtimes' own indexes of active runs name, and their per-user folder.",
    )
    discover_every: Duration = Field(
        default=60.0, ge=1, le=3600, description="How often the globs and indexes are searched for new folders."
    )
    max_file_bytes: Size = Field(
        default=4 * 2**20,
        ge=2**10,
        le=2**30,
        description="A larger file of a run is not read, and counted as too_large.",
    )
    watch: bool = Field(
        default=True, description="Look early when the kernel reports a change. Never needed for correctness."
    )
    processes: Literal["here", "elsewhere"] = Field(
        default="here",
        description="elsewhere = those that runs name are in other containers: a pid that is gone proves nothing.",
    )


class Patrol(Group):
    """How often crewd looks, and how it doubts itself."""

    interval: Duration = Field(default=5.0, ge=1, le=60, description="Time from one round to the next.")
    unreadable_after: int = Field(
        default=3,
        ge=1,
        le=100,
        description="Rounds in a row without a whole read after which a worker is unreadable.",
    )
    look_timeout: Duration = Field(
        default=30.0, ge=1, le=600, description="A round goes on without a root whose files take longer to read."
    )
    waiting_alert_after: Duration = Field(
        default=600.0,
        ge=1,
        le=7 * 86400,
        description="A worker that has waited so long, for a human or a rate limit, is an incident.",
    )


class Override(Group):
    """Other thresholds for some workers. The first override whose matchers all fit counts."""

    runtime: str = Field(default="", description="Fits workers of this runtime.")
    crew: str = Field(default="", description="Fits workers of this crew.")
    task_type: str = Field(default="", description="Fits workers with this role or step.")
    tool: str = Field(default="", description="Fits workers that say they are inside this tool.")
    warn_after: Duration | None = Field(default=None, description="Instead of heartbeat.warn_after.")
    stale_after: Duration | None = Field(default=None, description="Instead of heartbeat.stale_after.")
    dead_after: Duration | None = Field(default=None, description="Instead of heartbeat.dead_after.")
    hung_after: Duration | None = Field(default=None, description="Instead of heartbeat.hung_after.")
    startup_grace: Duration | None = Field(default=None, description="Instead of heartbeat.startup_grace.")
    shadow: bool = Field(
        default=False, description="Only try it: what it would have made of them is told, and nothing else follows."
    )

    @model_validator(mode="after")
    def _matches_some(self) -> Self:
        if not (self.runtime or self.crew or self.task_type or self.tool):
            raise PydanticCustomError(
                "matches_all", "fits every worker", {"remedy": "name runtime, crew, task_type or tool"}
            )
        return self


class Heartbeat(Group):
    """How long a worker may be silent."""

    warn_after: Duration = Field(
        default=30.0, ge=1, le=86400, description="Observed silence from which a worker is warn."
    )
    stale_after: Duration = Field(
        default=60.0, ge=1, le=86400, description="Observed silence from which it is stale."
    )
    dead_after: Duration = Field(
        default=300.0, ge=1, le=86400, description="Observed silence from which a worker that cannot be seen is dead."
    )
    hung_after: Duration = Field(
        default=900.0,
        ge=1,
        le=7 * 86400,
        description="Observed silence from which a living worker in which nothing moves is dead.",
    )
    startup_grace: Duration = Field(
        default=30.0, ge=0, le=3600, description="Added to warn_after until the first progress of an attempt."
    )
    overrides: Annotated[Mapping[Name, Override], Fixed, PlainSerializer(dict)] = Field(
        default={},
        validate_default=True,
        description="Other thresholds for some workers, each under a name of its own.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_order("", self.warn_after, self.stale_after, self.dead_after, self.hung_after)
        for name, other in self.overrides.items():
            _check_order(
                f"with overrides.{name} ",
                self.warn_after if other.warn_after is None else other.warn_after,
                self.stale_after if other.stale_after is None else other.stale_after,
                self.dead_after if other.dead_after is None else other.dead_after,
                self.hung_after if other.hung_after is None else other.hung_after,
            )
        return self


class Ledger(Group):
    """The memory of crewd: one SQLite file."""

    folder: str = Field(default="", description="Folder of ledger.sqlite3 and daemon.json; none = the state folder.")
    retention: Duration = Field(
        default=90 * 86400.0, ge=0, le=3650 * 86400, description="How long events are kept; 0 = for ever."
    )
    history_retention: Duration = Field(
        default=180 * 86400.0,
        ge=0,
        le=3650 * 86400,
        description="How long it is kept what became of runs, tasks and attempts: at least as long as the events; "
        "0 = for ever.",
    )


class Sinks(Group):
    """Daily JSONL files, for tail -F and for shipping."""

    enabled: bool = Field(default=True, description="Write them at all.")
    folder: str = Field(default="", description="Where; none = systemd's log folder, else logs/ in the state folder.")
    retention_days: int = Field(default=30, ge=1, le=3650, description="Older day files are removed.")
    retention_bytes: Size = Field(
        default=2**30,
        ge=2**20,
        le=2**44,
        description="The oldest day files are removed while all together are larger.",
    )
    gzip: bool = Field(default=True, description="Compress the files of days before yesterday.")
    metrics_every: Duration = Field(
        default=60.0, ge=1, le=3600, description="How often metrics-DATE.jsonl gets a snapshot."
    )


class Metrics(Group):
    """What /metrics shows."""

    max_crews: int = Field(
        default=100, ge=1, le=10_000, description="More crews than this share the label value other."
    )
    per_worker: bool = Field(default=False, description="Add one series for each worker.")
    per_worker_max: int = Field(
        default=200, ge=1, le=100_000, description="At most so many of them; the rest is counted."
    )


class Http(Group):
    """The address of /metrics, the health checks and the API."""

    enabled: bool = Field(default=True, description="Listen on TCP; the socket is another setting.")
    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(
        default=9464, ge=0, le=65535, description="Port to listen on; 0 = any free one, told in daemon.json."
    )
    token: Token = Field(
        default=None,
        description="With it, others than this machine's user may ask for changes; 16 characters or more.",
    )
    socket: bool = Field(
        default=True, description="Also listen on crewd.sock in the state folder, for this machine's user alone."
    )
    behind_proxy: bool = Field(
        default=False,
        description="Allow an address that others reach: something in front of it does TLS and logins.",
    )
    allowed_hosts: Texts = Field(
        default=(),
        description="Host headers answered besides localhost and the address itself, such as crewd.example:9464.",
    )
    connections_max: int = Field(
        default=256, ge=1, le=10_000, description="Connections that are answered, of TCP and of the socket each."
    )
    streams_max: int = Field(
        default=32, ge=0, le=1000, description="Streams of events at one time; they count as connections."
    )

    @model_validator(mode="after")
    def _closed_by_default(self) -> Self:
        if not (self.behind_proxy or _is_loopback(self.host)):
            raise PydanticCustomError(
                "open_to_others",
                "host {host} can be reached by other machines, and crewd asks nobody who they are",
                {"host": self.host, "remedy": "listen on 127.0.0.1, or set http.behind_proxy = true behind one"},
            )
        return self

    @model_validator(mode="after")
    def _leaves_room(self) -> Self:
        if self.streams_max >= self.connections_max:
            raise PydanticCustomError(
                "no_room_beside_streams",
                "streams_max {streams} takes all of connections_max {connections}",
                {
                    "streams": self.streams_max,
                    "connections": self.connections_max,
                    "remedy": "let streams_max be less than connections_max",
                },
            )
        return self


class Log(Group):
    """What crewd says of itself on stderr."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least that is written."
    )
    format: Literal["auto", "json", "console"] = Field(
        default="auto", description="auto = console on a terminal, json otherwise."
    )


class Tasks(Group):
    """Runs that crewd runs itself."""

    enabled: bool = Field(default=True, description="Take runs at all; crewd only watches otherwise.")
    max_parallel: int = Field(default=4, ge=1, le=10_000, description="Tasks of all runs at one time.")
    start_rate: float = Field(default=20.0, ge=0, le=10_000, description="Starts in a second; 0 = no limit.")
    start_burst: int = Field(
        default=20, ge=1, le=100_000, description="So many starts at once, before start_rate counts."
    )
    folder: str = Field(default="", description="Folder of the attempts; none = runs/ in the state folder.")
    inbox: str = Field(
        default="", description="Folder whose run files are submitted; none = inbox/ in the state folder."
    )
    inbox_enabled: bool = Field(default=True, description="Watch the inbox.")
    poll_seconds: Duration = Field(
        default=0.25, ge=0.01, le=60, description="How often the output of workers is looked at."
    )
    drain_timeout: Duration = Field(
        default=30.0, ge=0, le=86400, description="Told to stop, crewd waits so long for attempts that run."
    )
    shutdown_grace: Duration = Field(
        default=15.0, ge=0, le=3600, description="After that, they have so long to be stopped and proven gone."
    )
    keep_days: int = Field(
        default=14, ge=0, le=3650, description="Attempt folders of ended runs are removed after so many days."
    )
    keep_bytes: Size = Field(
        default=10 * 2**30,
        ge=0,
        le=2**50,
        description="The oldest of them are removed while all together are larger.",
    )
    cgroup: Literal["auto", "off"] = Field(
        default="auto", description="auto = a cgroup for each attempt, where systemd delegates one."
    )
    retries_per_hour: int = Field(
        default=200, ge=0, le=1_000_000, description="Retries of one crew within an hour; 0 = no limit."
    )
    env_pass: VariableNames = Field(
        default=(
            "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "TERM",
        ),
        description="Variables that every worker takes over from crewd's own environment; no others.",
    )  # fmt: skip


class Budgets(Group):
    """What agents may use, by the clock of UTC: all of them in a day, and those of each crew."""

    day_tokens: _Tokens = Field(
        default=None, ge=1, le=10**15, description="Tokens of the whole daemon in a day; none = no limit."
    )
    day_cost_usd: _Money = Field(
        default=None, ge=0.001, le=10**9, description="Cost of the whole daemon in a day; none = no limit."
    )
    crew_day_tokens: _Tokens = Field(
        default=None, ge=1, le=10**15, description="Tokens of each crew in a day; none = no limit."
    )
    crew_day_cost_usd: _Money = Field(
        default=None, ge=0.001, le=10**9, description="Cost of each crew in a day; none = no limit."
    )
    warn_ratio: float = Field(default=0.8, ge=0.01, le=1, description="The part of a budget at which crewd warns.")
    on_exceeded: Literal["stop", "park", "warn"] = Field(
        default="park",
        description="stop: tasks are given up; park: they wait until the next day or a person's word; warn: say so.",
    )


class Circuits(Group):
    """When a provider, or an executor, gets a rest: its tasks wait, and burn no attempts."""

    failures: int = Field(default=3, ge=1, le=1000, description="So many failures of one class open a circuit.")
    window: Duration = Field(default=300.0, ge=1, le=86400, description="Within this time.")
    open_for: Duration = Field(
        default=60.0, ge=1, le=86400, description="How long it stays open before one task tries again."
    )
    open_for_max: Duration = Field(
        default=900.0, ge=1, le=7 * 86400, description="The longest it stays open after several tries that failed."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.open_for > self.open_for_max:
            raise PydanticCustomError(
                "order",
                "open_for {least} is longer than open_for_max {most}",
                {
                    "least": duration_text(self.open_for),
                    "most": duration_text(self.open_for_max),
                    "remedy": "open_for <= open_for_max",
                },
            )
        return self


class Credentials(Group):
    """Where the secrets of workers are."""

    folder: str = Field(
        default="", description="Folder with one file for each secret that tasks name; none = $CREDENTIALS_DIRECTORY."
    )


class DeadLetters(Group):
    """Tasks that were given up: by their runtime, or by crewd."""

    threshold_per_hour: int = Field(
        default=3,
        ge=1,
        le=100_000,
        description="So many of one crew within an hour raise deadletter.threshold_exceeded.",
    )
    redrive_rate: float = Field(
        default=1.0, ge=0.001, le=1000, description="When many are tried again: so many in a second."
    )
    parole: Literal["offer", "automatic", "off"] = Field(
        default="offer",
        description="What follows when the cause of some has passed: they are offered for another try, or get it.",
    )
    dead_rounds: int = Field(
        default=3,
        ge=1,
        le=1000,
        description="Rounds for which an observed worker is dead before crewd writes a dead letter of its own.",
    )


class Incidents(Group):
    """What a person should know, while it lasts, and how often they are to hear of it."""

    reopen_window: Duration = Field(
        default=600.0, ge=0, le=86400, description="One that comes back so soon after its end is the same incident."
    )
    damp_above: float = Field(
        default=3.0,
        ge=1,
        le=1000,
        description="Each opening adds 1 to a penalty; above this, openings are recorded and told as damped.",
    )
    damp_half_life: Duration = Field(
        default=600.0,
        ge=1,
        le=86400,
        description="In which the penalty halves; at half of damp_above all is told again.",
    )


class Redact(Group):
    """What must never be written."""

    secrets: Secrets = Field(
        default=(), description="Texts that are replaced wherever they would appear; best given by a credential."
    )


class Settings(BaseSettings):
    """The settings of one crewd, frozen."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix="CREWD_",
        env_nested_delimiter="__",
        # Values arrive as the texts they are; each kind of value reads its own, so that one bad text is
        # one complaint among others instead of the end of the reading.
        enable_decoding=False,
        hide_input_in_errors=True,
    )

    sources: Sources = Field(default_factory=Sources)
    patrol: Patrol = Field(default_factory=Patrol)
    heartbeat: Heartbeat = Field(default_factory=Heartbeat)
    ledger: Ledger = Field(default_factory=Ledger)
    sinks: Sinks = Field(default_factory=Sinks)
    metrics: Metrics = Field(default_factory=Metrics)
    http: Http = Field(default_factory=Http)
    log: Log = Field(default_factory=Log)
    tasks: Tasks = Field(default_factory=Tasks)
    executors: Annotated[Mapping[Name, Executor], Fixed, PlainSerializer(dict)] = Field(
        default={}, validate_default=True, description="Templates that tasks build on, each under its name."
    )
    budgets: Budgets = Field(default_factory=Budgets)
    circuits: Circuits = Field(default_factory=Circuits)
    secrets: Credentials = Field(default_factory=Credentials)
    dead_letters: DeadLetters = Field(default_factory=DeadLetters)
    incidents: Incidents = Field(default_factory=Incidents)
    notifications: Notifications = Field(default_factory=Notifications)
    dead_man: DeadMan = Field(default_factory=DeadMan)
    recovery: Recovery = Field(default_factory=Recovery)
    redact: Redact = Field(default_factory=Redact)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *others: PydanticBaseSettingsSource,
        **named: Any,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # load() asks every other source itself and layers the answers, so that it knows where each value came
        # from. A Settings() that is made directly holds the defaults, whatever the environment says.
        return (init_settings,)


# What a reload cannot change in a running daemon.
NEEDS_RESTART = frozenset(
    {
        "sources.follow_index",
        "sources.max_file_bytes",
        "sources.processes",
        "sources.watch",
        "ledger.folder",
        "sinks.enabled",
        "sinks.folder",
        "sinks.retention_days",
        "sinks.retention_bytes",
        "sinks.gzip",
        "sinks.metrics_every",
        "metrics.max_crews",
        "metrics.per_worker",
        "metrics.per_worker_max",
        "http.enabled",
        "http.behind_proxy",
        "http.connections_max",
        "http.host",
        "http.port",
        "http.allowed_hosts",
        "http.socket",
        "http.streams_max",
        "http.token",
        "log.format",
        "redact.secrets",
        "secrets.folder",
        "tasks.cgroup",
        "tasks.enabled",
        "tasks.folder",
        "tasks.inbox",
        "tasks.inbox_enabled",
    }
)
