"""Is anything wrong, where, since when, and what is to be done: the dashboard to begin with."""

from typing import Any

from deploy.grafana.source import colours
from deploy.grafana.source.colours import ANY_ACTS, ANY_IS_BAD, ANY_LOOKS, ANY_WAITS, LAST_ROUND, steps
from deploy.grafana.source.frame import Line, Section, crews, evenly, framed, line
from deploy.grafana.source.panels import (
    PAGE,
    About,
    Built,
    Column,
    Link,
    bars,
    gauges,
    lines,
    number,
    rows,
    states,
    to_dashboard,
)
from deploy.grafana.source.queries import (
    ALERT,
    ALERT_NAMES,
    FIRING,
    Query,
    age,
    age_when_scraped,
    events,
    in_range,
    least,
    of,
    rate,
    share,
    total,
    worst,
)

# The worst level at which a worker of a crew stands.
CREW_STATES = {
    "0": ("well", colours.WELL),
    "1": ("waits", colours.WAITS),
    "2": ("warn", colours.LOOK),
    "3": ("unreadable", colours.UNKNOWN),
    "4": ("stale", colours.BAD),
    "5": ("dead", colours.ACT),
}
DAEMON_STATES = {
    "0": ("down", colours.ACT),
    "1": ("not ready", colours.BAD),
    "2": ("holds back", colours.LOOK),
    "3": ("well", colours.WELL),
}
A_ROW = ("job", "instance", "crew")
CLICKED = {"instance": "${__data.fields.instance:percentencode}", "crew": "${__data.fields.crew:percentencode}"}
# The heading of a runbook is addressed in lower case, which PromQL cannot do: the words of the column do it.
RUNBOOKS = {alert: (alert.lower(), colours.NOTHING) for alert in ALERT_NAMES}
# What rules.yml records wherever a crewd is scraped: without it there are no alerts that could fire.
RULES_ARE_LOADED = f"count(count_over_time({of('job:crewd_event_loop_lag:p99_5m')}[1h]))"
NOT_READY = f"count({of('up')}) - ({total(of('crewd_ready'))} or vector(0))"


def built() -> Any:
    return framed(
        "crewd-overview",
        "Is anything wrong with the crews or with crewd itself, where, since when, and what is to be done?",
        [
            Section("", (_tiles(), _what_fires(), _since_when())),
            Section("The work", (_work(), _spending())),
            Section("Promises", (_promises(),)),
            Section("crewd itself", (line(6, (24, _daemons())),)),
        ],
        [crews(many=True)],
    )


def _tiles() -> Line:
    return evenly(
        4,
        number(
            "Critical alerts",
            About(
                "Does anything need a person now?",
                "read the table below: each alert links to its runbook. `no rules`: Prometheus has not loaded them.",
            ),
            f'count({FIRING}, severity="critical"}}) or {RULES_ARE_LOADED} * 0',
            steps=((None, colours.UNKNOWN), (0, colours.WELL), (1, colours.ACT)),
            unknown="no rules",
        ),
        number(
            "crewd not ready",
            About(
                "Is crewd itself there, and does it see?",
                "while this is not 0, believe no other number: look at the table of daemons at the end.",
                ("CrewdDown", "CrewdNotReady"),
            ),
            NOT_READY,
            steps=((None, colours.ACT), (0, colours.WELL), (1, colours.ACT)),
            unknown="not scraped",
            link=to_dashboard("Daemon", "crewd-daemon"),
        ),
        number(
            "Dead workers",
            About(
                "How many workers does crewd hold for dead?",
                "open the worst crew of the table; `crewd explain RUN TASK` tells the evidence.",
                ("CrewdWorkerDead", "CrewdWorkerHung"),
            ),
            total(of("crew_workers", level="dead")),
            steps=ANY_ACTS,
            none="no run",
            link=to_dashboard("Detection", "crewd-detection"),
        ),
        number(
            "Stale workers",
            About(
                "How many workers are silent for so long that they may be gone?",
                "wait for the verdict, or see what they wait for on crewd's page.",
                ("CrewdWorkersStale",),
            ),
            total(of("crew_workers", level="stale")),
            steps=ANY_IS_BAD,
            none="no run",
        ),
        number(
            "Waiting for a person",
            About(
                "How many workers and runs cannot go on without an answer?",
                "answer them: `crewd status` names them.",
                ("CrewdWaitingHuman",),
            ),
            total(of("crew_waiting_human")),
            steps=ANY_WAITS,
        ),
        number(
            "Dead letters",
            About(
                "How many tasks were given up and not looked at?",
                "redrive or discard them: `crewd deadletter list`.",
                ("CrewdDeadLettersGrowing", "CrewdDeadLettersOld"),
            ),
            total(of("crew_dead_letters_open")),
            steps=ANY_IS_BAD,
            link=to_dashboard("Retries and dead letters", "crewd-retries"),
        ),
        number(
            "Open incidents",
            About(
                "How many incidents has nobody acknowledged?",
                "take them: `crewd incidents list`, then `crewd incidents ack`.",
            ),
            total(of("crew_incidents_open", state="open")),
            steps=ANY_LOOKS,
            link=Link("Incidents on crewd's page", f"{PAGE}/"),
        ),
        number(
            "False deaths",
            About(
                "How many dead verdicts in the time shown proved wrong?",
                "one is too many: read how it came about with `crewd explain`, and see the detection dashboard.",
                ("CrewdFalseDeaths",),
            ),
            in_range(of("crew_verdicts_total", outcome="false")),
            steps=ANY_ACTS,
            decimals=0,
            link=to_dashboard("Detection", "crewd-detection"),
        ),
    )


def _what_fires() -> Line:
    return line(9, (11, _alerts()), (13, _crews()))


def _alerts() -> Built:
    since = f"(ALERTS_FOR_STATE{{{ALERT}}} and ignoring (alertstate) {FIRING}}}) * 1000"
    ranked = " or ".join(
        f'{FIRING}, severity="{severity}"}} * {rank}' for rank, severity in enumerate(reversed(colours.SEVERITIES))
    )
    words = {severity: (severity, colour) for severity, colour in colours.SEVERITIES.items()}
    return rows(
        "What fires now",
        About(
            "Which alerts of crewd fire, about whom, and since when?",
            "open the runbook of the alert: what it means, what to look at, what to do. "
            "While crewd itself is down it serves none: `crewd runbook NAME`, or docs/runbooks.md.",
        ),
        [
            Column("severity", words=words, width=90),
            Column("alertname"),
            Column("crew", link=to_dashboard("This crew", "crewd-crew", **CLICKED)),
            Column("instance", link=to_dashboard("This daemon", "crewd-daemon", instance=CLICKED["instance"])),
            Column("since", Query(_with_runbook(since)), unit="dateTimeFromNow"),
            Column("runbook", words=RUNBOOKS, link=Link("What to do", f"{PAGE}/runbooks#${{__value.text}}")),
        ],
        worst_first=Query(_with_runbook(ranked)),
    )


def _with_runbook(alerts: str) -> str:
    """Alerts with a label more, which becomes the column of runbooks."""
    named = f"max by (severity, alertname, crew, instance) ({alerts})"
    return f'label_replace({named}, "runbook", "$1", "alertname", "(.*)")'


def _crews() -> Built:
    def at(level: str) -> str:
        return total(of("crew_workers", level=level), *A_ROW)

    letters = f"({total(of('crew_dead_letters_open'), *A_ROW)} or {at('dead')} * 0)"
    people = f"({total(of('crew_waiting_human'), *A_ROW)} or {at('dead')} * 0)"
    trouble = (
        f"{at('dead')} * 1e9 + {at('stale')} * 1e6 + {people} * 1e4 + {at('warn')} * 100 + {letters}"
        f" or {total(of('crew_dead_letters_open'), *A_ROW)}"  # a crew whose runs are gone
    )
    return rows(
        "Crews, worst first",
        About(
            "Which crew is in trouble, and with what?",
            "begin at the top and click on the crew. First come dead workers, then stale ones, "
            "then waits for a person, warnings and dead letters. Empty: there is no run, or no crewd to see it.",
        ),
        [
            Column("crew", link=to_dashboard("This crew", "crewd-crew", **CLICKED)),
            Column("instance", link=Link("crewd's page", "http://${__data.fields.instance}/")),
            Column("dead", Query(at("dead")), steps=ANY_ACTS, width=60),
            Column("stale", Query(at("stale")), steps=ANY_IS_BAD, width=60),
            Column("warn", Query(at("warn")), steps=ANY_LOOKS, width=60),
            Column("for a person", Query(people), steps=ANY_WAITS, width=95),
            Column("healthy", Query(at("healthy")), width=70),
            Column(
                "silent for",
                Query(age("crew_oldest_progress_timestamp_seconds", *A_ROW)),
                unit="s",
                width=85,
            ),
            Column("letters", Query(letters), steps=ANY_IS_BAD, width=65),
        ],
        worst_first=Query(trouble),
        hidden=("job",),
    )


def _since_when() -> Line:
    levels = {"dead": 5, "stale": 4, "unreadable": 3, "warn": 2, "waiting": 1, "healthy": 0}
    each = " or ".join(f"({of('crew_workers', level=level)} > bool 0) * {rank}" for level, rank in levels.items())
    held = f"clamp_max({of('crewd_hold')} + {of('crewd_mass_brake')}, 1)"
    daemon = (
        f"{worst(of('up') + ' == 0', 'job', 'instance')} or on (job, instance) "
        f"clamp_min({of('crewd_ready')} * (3 - {held}), 1)"
    )
    return line(
        7,
        (
            14,
            states(
                "Crews: the worst worker",
                About(
                    "Since when is a crew in trouble, and has it been before?",
                    "click on the stripe to open the crew; a crew without a stripe had no run at that time.",
                    ("CrewdWorkerDead", "CrewdWorkersStale"),
                ),
                Query(f"max by (crew, instance) ({each})", "{{crew}}"),
                CREW_STATES,
                link=to_dashboard(
                    "This crew",
                    "crewd-crew",
                    instance="${__field.labels.instance:percentencode}",
                    crew="${__field.labels.crew:percentencode}",
                ),
            ),
        ),
        (
            10,
            states(
                "crewd itself",
                About(
                    "Was crewd there, and did it trust itself?",
                    "where it is down, see its journal; where it holds back, nobody gets worse until it sees again.",
                    ("CrewdDown", "CrewdNotReady", "CrewdMassBrake"),
                ),
                Query(daemon, "{{instance}}"),
                DAEMON_STATES,
                link=to_dashboard("This daemon", "crewd-daemon", instance="${__field.labels.instance:percentencode}"),
            ),
        ),
    )


def _work() -> Line:
    failed = of("crew_runs_finished_total", status="failed")
    return line(
        7,
        (
            8,
            lines(
                "Workers by level",
                About(
                    "How many workers are there, and how do they stand?",
                    "a band of red or orange that stays is worth a look at the table of crews.",
                ),
                Query(total(of("crew_workers"), "level"), "{{level}}"),
                colours=colours.LEVELS,
                stacked=True,
            ),
        ),
        (
            8,
            bars(
                "Runs that ended",
                About(
                    "Is work being finished, and does it succeed?",
                    "where red bars begin, open the crew and see at which task its runs end.",
                    ("CrewdRunFailureBudgetBurn",),
                ),
                Query(events(of("crew_runs_finished_total"), "status"), "{{status}}"),
                colours=colours.RUN_ENDS,
            ),
        ),
        (
            4,
            number(
                "Runs that failed",
                About(
                    "What part of the runs that ended in the time shown failed?",
                    "above 5 % more fail than the objective allows: see which crew's runs fail.",
                    ("CrewdRunFailureBudgetBurn",),
                ),
                share(failed, of("crew_runs_finished_total", status="~completed|failed")),
                unit="percentunit",
                steps=steps((0.01, colours.LOOK), (0.05, colours.BAD), (0.2, colours.ACT)),
                none="no run ended",
            ),
        ),
        (
            4,
            gauges(
                "Runs now",
                About("How many runs does crewd see?", "blocked runs wait for somebody: see the crew."),
                Query(total(of("crew_runs"), "status"), "{{status}}"),
                colours=colours.RUN_STATUSES,
            ),
        ),
    )


def _spending() -> Line:
    return evenly(
        7,
        lines(
            "Retries by crew",
            About(
                "Does anything fail again and again?",
                "a curve that climbs is a storm: see its classes of errors on the retries dashboard.",
                ("CrewdRetryStorm",),
            ),
            Query(rate(of("crew_retries_total"), "crew"), "{{crew}}"),
            unit="cps",
            link=to_dashboard("Retries and dead letters", "crewd-retries"),
        ),
        lines(
            "Tokens in a second",
            About(
                "Who burns tokens, and how fast?",
                "a crew that suddenly burns far more may go in circles: see its page.",
            ),
            Query(total(of("crew_burn_tokens_per_second"), "crew"), "{{crew}}"),
        ),
        gauges(
            "Budget of the day",
            About(
                "How much of the budgets of the day is used?",
                "raise the budget or stop what spends it before it is full; a full one starts nothing more.",
                ("CrewdBudgetSpent",),
            ),
            Query(
                worst(of("crew_budget_used_ratio", scope="~day|crew", crew="$crew|"), "scope", "crew"),
                "{{scope}} {{crew}}",
            ),
            unit="percentunit",
            steps=steps((0.8, colours.LOOK), (1, colours.ACT)),
            most=1,
            none="no budget set",
        ),
        lines(
            "Waiting for a provider",
            About(
                "Whom does the rate limit of a provider keep waiting?",
                "nothing, if it passes; if it lasts, let fewer run at one time.",
                ("CrewdThrottled",),
            ),
            Query(total(of("crew_throttled"), "crew"), "{{crew}}"),
        ),
    )


def _promises() -> Line:
    hour, hours = "of 1 hour", "of 6 hours"
    return evenly(
        6,
        lines(
            "Runs that failed, against the objective",
            About(
                "Are more runs failing than the objective of 5 % allows?",
                "above the dashed line the budget is being used up: find the crew, and what its runs share.",
                ("CrewdRunFailureBudgetBurn",),
            ),
            Query(worst(of("job:crew_runs_failed:ratio_rate1h")), hour, "A"),
            Query(worst(of("job:crew_runs_failed:ratio_rate6h")), hours, "B"),
            unit="percentunit",
            none="no run ended, or no rules in Prometheus",
            steps=steps((0.05, colours.ACT)),
        ),
        lines(
            "Exits noticed late, against the objective",
            About(
                "Does crewd notice more than 1 % of exits later than 10 s?",
                "above the dashed line crewd is slower than it promises: see its rounds on the daemon dashboard.",
                ("CrewdSlowDetectionBudgetBurn",),
            ),
            Query(worst(of("job:crew_detection_slow:ratio_rate1h")), hour, "A"),
            Query(worst(of("job:crew_detection_slow:ratio_rate6h")), hours, "B"),
            unit="percentunit",
            none="no exit, or no rules in Prometheus",
            steps=steps((0.01, colours.ACT)),
            link=to_dashboard("Detection", "crewd-detection"),
        ),
    )


def _daemons() -> Built:
    by = ("job", "instance")
    up = {"0": ("down", colours.ACT), "1": ("up", colours.WELL)}
    ready = {"0": ("no", colours.BAD), "1": ("yes", colours.WELL)}
    yes_no = {"0": ("no", colours.WELL), "1": ("yes", colours.LOOK)}
    link = to_dashboard("This daemon", "crewd-daemon", instance=CLICKED["instance"])
    return rows(
        "Daemons",
        About(
            "Which daemons are there, since when, and how do they do?",
            "click on the instance; one that is down must be started before anything else is believed.",
            ("CrewdDown", "CrewdRestartingOften"),
        ),
        [
            Column("instance", link=link),
            Column(
                "page",
                Query(f"{least(of('up'), *by)} * 0"),
                words={"0": ("open", colours.NOTHING)},
                link=Link("crewd's page", "http://${__data.fields.instance}/"),
                width=70,
            ),
            Column("up", Query(least(of("up"), *by)), words=up, width=70),
            Column("ready", Query(least(of("crewd_ready"), *by)), words=ready, width=70),
            Column("runs for", Query(age("process_start_time_seconds", *by)), unit="dtdurations"),
            Column(
                "last round",
                Query(age_when_scraped("crewd_last_round_timestamp_seconds", *by)),
                unit="s",
                steps=LAST_ROUND,
            ),
            Column("runs watched", Query(total(of("crewd_runs_watched"), *by))),
            Column("holds back", Query(worst(of("crewd_hold"), *by)), words=yes_no),
            Column("mass brake", Query(worst(of("crewd_mass_brake"), *by)), words=yes_no),
            Column("degraded parts", Query(total(of("crewd_degraded"), *by)), steps=ANY_IS_BAD),
            Column(
                "settings",
                Query(least(of("crewd_config_last_reload_successful"), *by)),
                words={"0": ("refused", colours.BAD), "1": ("loaded", colours.WELL)},
            ),
        ],
        hidden=by[:1],
    )
