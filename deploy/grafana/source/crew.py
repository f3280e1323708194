"""One crew: how its workers stand, what it gets done, what fails, what it costs."""

from typing import Any

from deploy.grafana.source import colours
from deploy.grafana.source.colours import ANY_ACTS, ANY_IS_BAD, ANY_LOOKS, steps
from deploy.grafana.source.frame import Line, Section, crews, evenly, framed, line
from deploy.grafana.source.panels import About, bars, buckets, gauges, lines, number, states, to_dashboard
from deploy.grafana.source.queries import (
    Query,
    events,
    in_range,
    least,
    rate,
    share,
    some,
    total,
    worst,
)
from deploy.grafana.source.queries import of as everywhere
from deploy.grafana.source.queries import quantile as quantile_of

THE_CREW = "=$crew"


def of(metric: str, *, crew: str = THE_CREW, **labels: str) -> str:
    """Select by the name itself: Grafana does not mask what a pattern would read otherwise, as in `c++ (old)`."""
    return everywhere(metric, crew=crew, **labels)


def age(metric: str, *by: str) -> str:
    return f"time() - {least(of(metric), *by)}"


def quantile(share: float, family: str, *, window: str) -> str:
    return quantile_of(share, family, window=window, crew=THE_CREW)


LEVEL_STATES = {
    "0": ("none", colours.NOTHING),
    "1": ("healthy", colours.WELL),
    "2": ("waiting", colours.WAITS),
    "3": ("warn", colours.LOOK),
    "4": ("unreadable", colours.UNKNOWN),
    "5": ("stale", colours.BAD),
    "6": ("dead", colours.ACT),
}


def built() -> Any:
    return framed(
        "crewd-crew",
        "How does one crew do: who is silent, what does it get done, what fails, and what does it cost?",
        [
            Section("", (_tiles(), _standing(), _silence())),
            Section("Runs", (_runs(),)),
            Section("Tasks", (_tasks(), _ways())),
            Section("What fails", (_failures(),)),
            Section("What it costs", (_costs(),)),
        ],
        [crews(many=False)],
    )


def _tiles() -> Line:
    return evenly(
        4,
        number(
            "Healthy",
            About("How many of its workers are well?", "nothing; the other tiles say what is not."),
            total(of("crew_workers", level="healthy")),
            none="no run",
        ),
        number(
            "Silent: warn or stale",
            About(
                "How many of its workers are silent for longer than they should be?",
                "`crewd explain RUN TASK` says why, and what helps.",
                ("CrewdWorkersStale",),
            ),
            total(of("crew_workers", level="~warn|stale")),
            steps=ANY_LOOKS,
        ),
        number(
            "Dead",
            About(
                "How many of its workers does crewd hold for dead?",
                "see whether its runtime tries again; if not, `crewd status` names the command that comes next.",
                ("CrewdWorkerDead", "CrewdWorkerHung"),
            ),
            total(of("crew_workers", level="dead")),
            steps=ANY_ACTS,
            link=to_dashboard("Detection", "crewd-detection"),
        ),
        number(
            "Flapping",
            About(
                "How many of its workers go to and fro between levels?",
                "crewd has doubled their thresholds: compare the silence below, and lengthen them for good.",
                ("CrewdWorkerFlapping",),
            ),
            total(of("crew_workers_flapping")),
            steps=ANY_LOOKS,
        ),
        number(
            "Waits for a person for",
            About(
                "For how long has somebody waited for an answer?",
                "answer: `crewd status` names the run and the task.",
                ("CrewdWaitingHuman",),
            ),
            age("crew_waiting_human_oldest_timestamp_seconds"),
            unit="s",
            steps=steps((0, colours.WAITS), (3600, colours.BAD)),
            none="nobody waits",
        ),
        number(
            "Waits for a provider for",
            About(
                "For how long has the rate limit of a provider kept it waiting?",
                "nothing if it passes; if it lasts, let fewer tasks run at one time.",
                ("CrewdThrottled",),
            ),
            age("crew_throttled_oldest_timestamp_seconds"),
            unit="s",
            steps=steps((0, colours.WAITS), (1800, colours.BAD)),
            none="nobody waits",
        ),
        number(
            "Dead letters",
            About(
                "How many of its tasks were given up and not looked at?",
                "`crewd deadletter list`: redrive or discard them.",
                ("CrewdDeadLettersGrowing", "CrewdDeadLettersOld"),
            ),
            total(of("crew_dead_letters_open")),
            steps=ANY_IS_BAD,
            link=to_dashboard("Retries and dead letters", "crewd-retries", crew="${crew:percentencode}"),
        ),
        number(
            "Runs that failed",
            About(
                "What part of its runs that ended in the time shown failed?",
                "see below which tasks fail, and with which class of error.",
                ("CrewdRunFailureBudgetBurn",),
            ),
            share(
                of("crew_runs_finished_total", status="failed"),
                of("crew_runs_finished_total", status="~completed|failed"),
            ),
            unit="percentunit",
            steps=steps((0.01, colours.LOOK), (0.05, colours.BAD), (0.2, colours.ACT)),
            none="no run ended",
        ),
    )


def _standing() -> Line:
    ranks = {"dead": 6, "stale": 5, "unreadable": 4, "warn": 3, "waiting": 2, "healthy": 1}
    each = " or ".join(f"({of('crew_workers', level=level)} > bool 0) * {rank}" for level, rank in ranks.items())
    return line(
        7,
        (
            12,
            lines(
                "Workers by level",
                About(
                    "How many workers does it have, and how do they stand?",
                    "red or orange that stays: `crewd explain RUN TASK` for the evidence.",
                    ("CrewdWorkerDead",),
                ),
                Query(total(of("crew_workers"), "level"), "{{level}}"),
                colours=colours.LEVELS,
                stacked=True,
            ),
        ),
        (
            12,
            states(
                "Its worst worker, by daemon and runtime",
                About(
                    "Since when is something wrong with it, and how often was it before?",
                    "put the pointer on a stripe for its times; `crewd history runs` tells what became of its runs.",
                ),
                Query(f"max by (instance, runtime) ({each})", "{{instance}} {{runtime}}"),
                LEVEL_STATES,
            ),
        ),
    )


def _silence() -> Line:
    silent = age("crew_oldest_progress_timestamp_seconds", "instance", "runtime")
    bound = least(of("crew_heartbeat_threshold_seconds", runtime="default"), "level")
    return line(
        7,
        (
            12,
            lines(
                "The longest silence, against the thresholds",
                About(
                    "How near is its most silent worker to being called stale or dead?",
                    "a curve that touches the dashed lines again and again asks for a longer threshold; "
                    "`crewd replay` tries one on what happened. Those of `heartbeat.overrides` are not drawn.",
                    ("CrewdWorkersStale", "CrewdWorkerFlapping"),
                ),
                Query(silent, "{{instance}} {{runtime}}", "A"),
                Query(bound, "{{level}}", "B"),
                unit="s",
                colours=colours.THRESHOLDS,
                dashed=tuple(colours.THRESHOLDS),
            ),
        ),
        (
            6,
            lines(
                "Why they are stale or dead",
                About(
                    "What does crewd see of those in trouble?",
                    "exited is certain; silent and busy may come back; stopped waits for a signal to go on.",
                    ("CrewdWorkerDead", "CrewdWorkerHung", "CrewdWorkersStale"),
                ),
                Query(total(of("crew_workers_in_trouble"), "reason"), "{{reason}}"),
                colours=colours.TROUBLES,
                stacked=True,
            ),
        ),
        (
            6,
            lines(
                "Who waits",
                About(
                    "Does it wait for a person or for a provider?",
                    "answer the first; the second passes, or asks for fewer tasks at one time.",
                    ("CrewdWaitingHuman",),
                ),
                Query(total(of("crew_waiting_human")), "for a person", "A"),
                Query(total(of("crew_throttled")), "for a provider", "B"),
                colours={"for a person": colours.WAITS, "for a provider": colours.LOOK},
            ),
        ),
    )


def _runs() -> Line:
    return line(
        7,
        (
            5,
            gauges(
                "Runs now",
                About("How many runs does it have, and how do they stand?", "a blocked run waits for somebody."),
                Query(total(of("crew_runs"), "status"), "{{status}}"),
                colours=colours.RUN_STATUSES,
            ),
        ),
        (
            10,
            bars(
                "Runs that ended",
                About(
                    "Does it get runs done, and do they succeed?",
                    "`crewd why RUN` names the one cause of a run that failed.",
                    ("CrewdRunFailureBudgetBurn",),
                ),
                Query(events(of("crew_runs_finished_total"), "status"), "{{status}}"),
                colours=colours.RUN_ENDS,
            ),
        ),
        (
            9,
            buckets(
                "How long its runs take",
                About(
                    "How long do its runs take, and does that change?",
                    "a band that climbs is worth a look at its slowest task: `crewd history tasks`.",
                ),
                Query(events(of("crew_run_duration_seconds_bucket"), "le"), exemplars=True),
            ),
        ),
    )


def _tasks() -> Line:
    return evenly(
        7,
        gauges(
            "Tasks now",
            About("How many tasks of its runs stand where?", "many that wait and none that run: see its slots."),
            Query(total(of("crew_tasks"), "status"), "{{status}}"),
            colours=colours.TASK_STATUSES,
        ),
        bars(
            "Tasks that ended",
            About(
                "How do its tasks end?",
                "where failures or time-outs begin, see their type beside this.",
            ),
            Query(events(of("crew_tasks_finished_total"), "outcome"), "{{outcome}}"),
            colours=colours.TASK_OUTCOMES,
        ),
        bars(
            "Tasks that did not succeed, by type",
            About(
                "Which kind of task fails?",
                "`crewd why RUN` of a run in which it failed.",
            ),
            Query(some(of("crew_tasks_finished_total", outcome="~failed|timed_out"), "task_type"), "{{task_type}}"),
        ),
    )


def _ways() -> Line:
    attempts = f"ceil({quantile(0.95, 'crew_task_attempts', window='$__range')})"
    return line(
        6,
        (
            6,
            number(
                "Attempts of a task, 95 %",
                About(
                    "How many attempts do tasks take until they end?",
                    "above 2, most tasks fail at first: see the classes of errors below.",
                ),
                attempts,
                steps=steps((2, colours.LOOK), (3, colours.BAD)),
                none="no task ended",
            ),
        ),
        (
            18,
            lines(
                "Tasks that end in a minute",
                About(
                    "How fast does it work?",
                    "a fall to nothing while runs are running: see who is silent above.",
                ),
                Query(f"{rate(of('crew_tasks_finished_total'), 'task_type')} * 60", "{{task_type}}"),
                unit="cpm",
                stacked=True,
            ),
        ),
    )


def _failures() -> Line:
    return evenly(
        7,
        bars(
            "Retries, by class of error",
            About(
                "What makes its tasks try again?",
                "rate_limited and provider_error pass; auth_error and config_invalid need a person.",
                ("CrewdRetryStorm",),
            ),
            Query(some(of("crew_retries_total"), "error_class"), "{{error_class}}"),
            link=to_dashboard("Retries and dead letters", "crewd-retries", crew="${crew:percentencode}"),
        ),
        lines(
            "Delay before a retry",
            About(
                "How long does it hold back between attempts?",
                "delays near their most mean that something fails for long: see the class of error.",
            ),
            Query(quantile(0.5, "crew_retry_delay_seconds", window="1h"), "50 %, of one hour", "A"),
            Query(quantile(0.95, "crew_retry_delay_seconds", window="1h"), "95 %, of one hour", "B"),
            unit="s",
        ),
        bars(
            "Tasks given up, by reason",
            About(
                "Which of its tasks are given up, and why?",
                "`crewd deadletter show KEY` has every attempt and its last words.",
                ("CrewdDeadLettersGrowing",),
            ),
            Query(events(of("crew_dead_letters_total"), "reason"), "{{reason}}"),
        ),
    )


def _costs() -> Line:
    return evenly(
        7,
        lines(
            "Tokens in a second",
            About(
                "How fast does it burn tokens?",
                "far more than usual and no task that ends: an agent may go in circles.",
            ),
            Query(total(of("crew_burn_tokens_per_second")), "tokens in a second"),
        ),
        lines(
            "US dollars in an hour",
            About(
                "What does an hour of it cost now?",
                "compare with what it gets done; absent where nobody states a cost.",
            ),
            Query(f"{total(of('crew_burn_usd_per_second'))} * 3600", "US dollars in an hour"),
            unit="currencyUSD",
            none="nobody states a cost",
        ),
        gauges(
            "Budgets",
            About(
                "How much of its budgets, and of that of the day of all crews, is used?",
                "a full budget parks its tasks: raise it, or let it be.",
                ("CrewdBudgetSpent",),
            ),
            Query(
                f"{worst(of('crew_budget_used_ratio'), 'scope')} or "
                f"{worst(of('crew_budget_used_ratio', crew='=', scope='day'), 'scope')}",
                "{{scope}}",
            ),
            unit="percentunit",
            steps=steps((0.8, colours.LOOK), (1, colours.ACT)),
            most=1,
            none="no budget set",
        ),
        number(
            "Tasks redriven",
            About(
                "How many of its dead letters got a new budget of attempts in the time shown?",
                "many that are redriven and come back have a cause that stays: `crewd deadletter show KEY`.",
            ),
            in_range(of("crew_dead_letter_redrives_total", outcome="redriven")),
            decimals=0,
        ),
    )
