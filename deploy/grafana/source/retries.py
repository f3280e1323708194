"""What fails, what is tried again, what was given up, and what came back."""

from typing import Any

from deploy.grafana.source import colours
from deploy.grafana.source.colours import ANY_ACTS, ANY_IS_BAD, ANY_WAITS, steps
from deploy.grafana.source.frame import Line, Section, crews, evenly, framed, line
from deploy.grafana.source.panels import (
    About,
    Column,
    bars,
    buckets,
    gauges,
    lines,
    number,
    rows,
    states,
    to_dashboard,
)
from deploy.grafana.source.queries import Query, age, events, in_range, of, quantile, some, total, worst

CIRCUITS = {
    "0": ("closed", colours.WELL),
    "1": ("half open", colours.LOOK),
    "2": ("open", colours.ACT),
}
CREW = to_dashboard(
    "This crew",
    "crewd-crew",
    instance="${__data.fields.instance:percentencode}",
    crew="${__data.fields.crew:percentencode}",
)
BY_CREW = ("instance", "crew")


def built() -> Any:
    return framed(
        "crewd-retries",
        "What fails and is tried again, what was given up, and does what is tried again succeed?",
        [
            Section("", (_tiles(),)),
            Section("Retries", (_retries(), _errors(), _circuits())),
            Section("Dead letters", (_letters(), _redrives())),
            Section("Recovery of interrupted runs", (_recovery(),)),
            Section("Agents", (_agents(), _alarms())),
            Section("Budgets and doors", (_budgets(),)),
        ],
        [crews(many=True)],
        since="now-12h",
    )


def _tiles() -> Line:
    return evenly(
        4,
        number(
            "Between two attempts",
            About(
                "How many managed tasks wait for their next attempt?",
                "nothing while the number moves; if it climbs, see the classes of errors below.",
                ("CrewdRetryStorm",),
            ),
            total(of("crew_retries_pending")),
            none="nothing managed",
        ),
        number(
            "Retries",
            About(
                "How many retries were there in the time shown?",
                "compare with the runs that ended: see which crew and which class stands out.",
                ("CrewdRetryStorm",),
            ),
            in_range(of("crew_retries_total")),
            decimals=0,
        ),
        number(
            "Open circuits",
            About(
                "How many providers or executors are cut off because they failed?",
                "see below which; it is tried again by itself. `crewd status` says when.",
                ("CrewdCircuitOpen",),
            ),
            f"sum({of('crew_circuit_state')} == bool 2)",
            steps=ANY_ACTS,
            none="none failed",
        ),
        number(
            "Dead letters",
            About(
                "How many tasks were given up and not looked at?",
                "`crewd deadletter list`: redrive or discard them.",
                ("CrewdDeadLettersGrowing",),
            ),
            total(of("crew_dead_letters_open")),
            steps=ANY_IS_BAD,
        ),
        number(
            "Oldest dead letter",
            About(
                "For how long has nobody looked at the oldest of them?",
                "older than a day: decide, and redrive or discard it.",
                ("CrewdDeadLettersOld",),
            ),
            age("crew_dead_letters_oldest_timestamp_seconds"),
            unit="s",
            steps=steps((21600, colours.LOOK), (86400, colours.BAD)),
        ),
        number(
            "Recovery waits for you",
            About(
                "How many interrupted runs wait for a decision?",
                "`crewd recover list`, then approve or decline.",
                ("CrewdRecoveryWaiting",),
            ),
            total(of("crew_recovery_plans", state="planned")),
            steps=ANY_WAITS,
        ),
        number(
            "Stuck attempts",
            About(
                "How many attempts were killed and do not end?",
                "`crewd status` names them: look for a process in state D, and for the disk below it.",
                ("CrewdAttemptStuck",),
            ),
            total(of("crewd_attempts_stuck")),
            steps=ANY_ACTS,
            none="nothing managed",
        ),
        number(
            "Fullest budget",
            About(
                "How full is the fullest budget?",
                "raise it, or let its tasks be parked: see the budgets below.",
                ("CrewdBudgetSpent",),
            ),
            worst(of("crew_budget_used_ratio", crew="$crew|")),
            unit="percentunit",
            steps=steps((0.8, colours.LOOK), (1, colours.ACT)),
            none="no budget set",
        ),
    )


def _retries() -> Line:
    return evenly(
        7,
        bars(
            "Retries, by class of error",
            About(
                "What makes tasks try again?",
                "rate_limited and provider_error pass; auth_error and config_invalid need a person.",
                ("CrewdRetryStorm",),
            ),
            Query(some(of("crew_retries_total"), "error_class"), "{{error_class}}"),
        ),
        bars(
            "Retries, by crew",
            About(
                "Who tries again most?",
                "open that crew: one crew alone has a cause of its own, all together share one.",
                ("CrewdRetryStorm",),
            ),
            Query(events(of("crew_retries_total"), "crew"), "{{crew}}"),
            link=to_dashboard("This crew", "crewd-crew", crew="${__field.labels.crew:percentencode}"),
        ),
        buckets(
            "Delay before a retry",
            About(
                "How long is held back before an attempt?",
                "a band that climbs means failures one after another: their cause stays.",
            ),
            Query(events(of("crew_retry_delay_seconds_bucket"), "le")),
        ),
    )


def _errors() -> Line:
    executors = ("executor", "error_class")
    errors = in_range(of("crew_task_errors_total"), *executors)
    return line(
        7,
        (
            9,
            rows(
                "What failed in the time shown",
                About(
                    "Which executor fails, and how?",
                    "begin at the top; `crewd history attempts` names each attempt.",
                ),
                [
                    Column("executor"),
                    Column("error_class"),
                    Column("attempts", Query(f"round({errors}) > 0"), steps=((None, colours.BAD),)),
                ],
                worst_first=Query(f"{errors} > 0"),
            ),
        ),
        (
            8,
            bars(
                "Attempts that failed, by class",
                About(
                    "When did attempts of managed tasks fail?",
                    "compare with the start of a release, of a provider's trouble, or of a restart.",
                ),
                Query(some(of("crew_task_errors_total"), "error_class"), "{{error_class}}"),
            ),
        ),
        (
            7,
            lines(
                "Attempts that a task takes",
                About(
                    "How many attempts do tasks need?",
                    "above 2 for the middle: most first attempts are wasted.",
                ),
                Query(quantile(0.5, "crew_task_attempts", window="1h"), "50 %, of one hour", "A"),
                Query(quantile(0.95, "crew_task_attempts", window="1h"), "95 %, of one hour", "B"),
            ),
        ),
    )


def _circuits() -> Line:
    return line(
        6,
        (
            16,
            states(
                "Circuits",
                About(
                    "Which provider or executor was cut off, and since when?",
                    "see whether it answers at all: its keys, its status page, its limits.",
                    ("CrewdCircuitOpen",),
                ),
                Query(worst(of("crew_circuit_state"), "circuit"), "{{circuit}}"),
                CIRCUITS,
                none="none failed",
            ),
        ),
        (
            8,
            lines(
                "Between two attempts, by crew",
                About(
                    "Where do tasks pile up between attempts?",
                    "a pile that does not shrink: see its class of errors.",
                ),
                Query(total(of("crew_retries_pending"), "crew"), "{{crew}}"),
                stacked=True,
            ),
        ),
    )


def _letters() -> Line:
    return line(
        7,
        (
            8,
            bars(
                "Tasks given up, by reason",
                About(
                    "When were tasks given up, and why?",
                    "max-retries and not-retryable: see the error; heartbeat-dead: see detection.",
                    ("CrewdDeadLettersGrowing",),
                ),
                Query(events(of("crew_dead_letters_total"), "reason"), "{{reason}}"),
            ),
        ),
        (
            6,
            lines(
                "Open dead letters",
                About(
                    "Does somebody look at them, or do they pile up?",
                    "a line that only climbs: nobody does.",
                    ("CrewdDeadLettersGrowing",),
                ),
                Query(total(of("crew_dead_letters_open"), "crew"), "{{crew}}"),
                stacked=True,
            ),
        ),
        (
            10,
            rows(
                "Open dead letters, by crew",
                About(
                    "Whose tasks lie there, and for how long?",
                    "`crewd deadletter list`; click on the crew to see what fails there.",
                    ("CrewdDeadLettersOld",),
                ),
                [
                    Column("crew", link=CREW),
                    Column("instance"),
                    Column("open", Query(f"{total(of('crew_dead_letters_open'), *BY_CREW)} > 0"), steps=ANY_IS_BAD),
                    Column(
                        "oldest",
                        Query(age("crew_dead_letters_oldest_timestamp_seconds", *BY_CREW)),
                        unit="s",
                        steps=steps((21600, colours.LOOK), (86400, colours.BAD)),
                    ),
                    Column(
                        "new in the time shown",
                        Query(f"round({in_range(of('crew_dead_letters_total'), *BY_CREW)}) > 0"),
                    ),
                ],
                worst_first=Query(f"{total(of('crew_dead_letters_open'), *BY_CREW)} > 0"),
            ),
        ),
    )


def _redrives() -> Line:
    return evenly(
        6,
        bars(
            "What people did with dead letters",
            About(
                "Were they redriven or discarded?",
                "compare with the tasks given up after it: what comes back at once has not been mended.",
            ),
            Query(events(of("crew_dead_letter_redrives_total"), "outcome"), "{{outcome}}"),
            colours=colours.REDRIVES,
        ),
        bars(
            "Tasks given up, by crew",
            About("Which crew loses tasks?", "click to open that crew.", ("CrewdDeadLettersGrowing",)),
            Query(events(of("crew_dead_letters_total"), "crew"), "{{crew}}"),
            link=to_dashboard("This crew", "crewd-crew", crew="${__field.labels.crew:percentencode}"),
        ),
        bars(
            "Tasks that ended",
            About(
                "Beside what was given up: how much succeeded?",
                "failures without dead letters are failures that nobody retries: see the policy of the run.",
            ),
            Query(events(of("crew_tasks_finished_total"), "outcome"), "{{outcome}}"),
            colours=colours.TASK_OUTCOMES,
        ),
    )


def _recovery() -> Line:
    return line(
        7,
        (
            8,
            bars(
                "Recoveries that came to an end",
                About(
                    "Do interrupted runs come back?",
                    "a red bar: `crewd recover show PLAN` has the end of what its command said.",
                    ("CrewdRecoveryFailing",),
                ),
                Query(events(of("crew_recoveries_total"), "outcome"), "{{outcome}}"),
                colours=colours.RECOVERIES,
            ),
        ),
        (
            5,
            gauges(
                "Plans now",
                About(
                    "Of which interrupted runs may something still come?",
                    "planned ones wait for `crewd recover approve`.",
                ),
                Query(total(of("crew_recovery_plans"), "state"), "{{state}}"),
                colours=colours.PLANS,
            ),
        ),
        (
            6,
            bars(
                "How runs were interrupted",
                About(
                    "What interrupts runs?",
                    "runner_exited again and again: see how their runner is started, and who ends it.",
                ),
                Query(events(of("crew_recoveries_total"), "cause"), "{{cause}}"),
            ),
        ),
        (
            5,
            lines(
                "Until a run moves again",
                About(
                    "How long does a recovery take?",
                    "near the time limit of the command: let it have longer.",
                ),
                Query(quantile(0.5, "crew_recovery_duration_seconds", window="1h"), "50 %, of one hour", "A"),
                Query(quantile(0.95, "crew_recovery_duration_seconds", window="1h"), "95 %, of one hour", "B"),
                unit="s",
            ),
        ),
    )


def _agents() -> Line:
    return evenly(
        7,
        bars(
            "How attempts of agents begin",
            About(
                "Are sessions resumed, or does every attempt begin afresh?",
                "fresh ones after failures spend their tokens again: see docs/agents.md.",
            ),
            Query(some(of("crew_agent_starts_total"), "profile", "rung"), "{{profile}}, {{rung}}"),
        ),
        lines(
            "Tokens that resumed sessions saved",
            About(
                "What does resuming sessions save?",
                "nothing: the more, the better.",
            ),
            Query(
                f"sum by (profile) (increase({of('crew_agent_saved_tokens_total')}[1h]))", "{{profile}}, of one hour"
            ),
        ),
        bars(
            "Refusals of providers",
            About(
                "Which requests do providers refuse?",
                "rate_limited: let fewer run at one time; auth_error: log in again.",
                ("CrewdCircuitOpen",),
            ),
            Query(some(of("crew_agent_refusals_total"), "profile", "error_class"), "{{profile}}, {{error_class}}"),
        ),
    )


def _alarms() -> Line:
    return evenly(
        6,
        bars(
            "Alarms about agents",
            About(
                "Which agents go in circles, burn tokens or spend a budget?",
                "`crewd events --type worker.looping` names them; what follows is what the run file says.",
                ("CrewdBudgetSpent",),
            ),
            Query(some(of("crew_agent_alarms_total"), "cause", "then"), "{{cause}}, {{then}}"),
        ),
        bars(
            "Output that was not understood",
            About(
                "Did an agent's program change its output?",
                "`crewd doctor` says which versions are known; others are judged as plain commands.",
            ),
            Query(events(of("crew_agent_unknown_formats_total"), "profile"), "{{profile}}"),
        ),
        lines(
            "Tokens in an hour, by direction",
            About(
                "Where do tokens go?",
                "much input and little cache_read: sessions are begun afresh, or too long apart.",
            ),
            Query(f"sum by (direction) (increase({of('crew_tokens_total')}[1h]))", "{{direction}}"),
            stacked=True,
        ),
        lines(
            "Cost of an hour, by model",
            About("Which model costs what?", "choose a smaller one for what is cheap; see the crew."),
            Query(f"sum by (model) (increase({of('crew_cost_usd_total')}[1h]))", "{{model}}"),
            unit="currencyUSD",
            stacked=True,
            none="nobody states a cost",
        ),
    )


def _budgets() -> Line:
    spent = worst(of("crew_budget_used_ratio", crew="$crew|"), "scope", "crew")
    return evenly(
        7,
        gauges(
            "Budgets",
            About(
                "How much of each budget is used?",
                "a full one parks what it is for: raise it, or let it be.",
                ("CrewdBudgetSpent",),
            ),
            Query(spent, "{{scope}} {{crew}}"),
            unit="percentunit",
            steps=steps((0.8, colours.LOOK), (1, colours.ACT)),
            most=1,
            none="no budget set",
        ),
        lines(
            "Budgets over time",
            About(
                "When will a budget be full?",
                "a line that is steeper than a day allows: see who burns.",
                ("CrewdBudgetSpent",),
            ),
            Query(spent, "{{scope}} {{crew}}"),
            unit="percentunit",
            none="no budget set",
            steps=steps((0.8, colours.LOOK), (1, colours.ACT)),
        ),
        lines(
            "Doors that a person closed",
            About(
                "Is something paused, and since when?",
                "`crewd status` says by whom and why; `crewd resume` opens it.",
                ("CrewdPaused",),
            ),
            Query(total(of("crewd_paused"), "scope"), "{{scope}}"),
            stacked=True,
        ),
        lines(
            "Waiting for a provider, by crew",
            About(
                "Whom does a rate limit keep waiting?",
                "nothing, if it passes; if it lasts, let fewer run at one time.",
                ("CrewdThrottled",),
            ),
            Query(total(of("crew_throttled"), "crew"), "{{crew}}"),
            stacked=True,
        ),
    )
