"""How good detection is: whether verdicts are true, how fast they come, and what crewd thinks of its own senses."""

from typing import Any

from deploy.grafana.source import colours
from deploy.grafana.source.colours import ANY_ACTS, ANY_LOOKS, steps
from deploy.grafana.source.frame import Line, Section, evenly, framed, line, runtimes
from deploy.grafana.source.panels import About, Column, bars, buckets, gauges, lines, number, rows, states
from deploy.grafana.source.queries import Query, events, in_range, quantile, rate, share, total, worst
from deploy.grafana.source.queries import of as everywhere

CHOSEN = "~$runtime"
YES_NO = {"0": ("no", colours.WELL), "1": ("yes", colours.LOOK)}
BRAKED = {"0": ("no", colours.WELL), "1": ("yes", colours.ACT)}
WORSE = {"warn": colours.LOOK, "stale": colours.BAD, "dead": colours.ACT}


def of(metric: str, **labels: str) -> str:
    """Select the series of the runtimes that are chosen."""
    return everywhere(metric, runtime=CHOSEN, **labels)


def built() -> Any:
    return framed(
        "crewd-detection",
        "Can crewd be believed: are its verdicts true, how fast do they come, and how are its own senses?",
        [
            Section("", (_tiles(),)),
            Section("Verdicts", (_verdicts(), _fate())),
            Section("How fast", (_latency(), _slow())),
            Section("crewd's own senses", (_restraint(), _stalls())),
            Section("Signs of life", (_heartbeats(), _thresholds())),
            Section("Silence, and what it means", (_levels(), _wedges())),
        ],
        [runtimes()],
        since="now-24h",
        refresh="1m",
    )


def _tiles() -> Line:
    return evenly(
        4,
        number(
            "False deaths, 7 days",
            About(
                "What part of the dead verdicts of seven days proved wrong?",
                "it should be 0; above 5 %, read each with `crewd explain`, and lengthen that runtime's thresholds.",
                ("CrewdFalseDeaths",),
            ),
            f"sum(increase({of('crew_verdicts_total', outcome='false')}[7d])) / "
            f"(sum(increase({of('crew_verdicts_total', outcome='open')}[7d])) > 0)",
            unit="percentunit",
            steps=steps((0.0001, colours.LOOK), (0.05, colours.ACT)),
            none="no verdict",
        ),
        number(
            "False deaths",
            About(
                "How many dead verdicts in the time shown proved wrong?",
                "one is too many: `crewd events --type verdict.refuted` names them.",
                ("CrewdFalseDeaths",),
            ),
            in_range(of("crew_verdicts_total", outcome="false")),
            steps=ANY_ACTS,
            decimals=0,
        ),
        number(
            "Deaths confirmed",
            About(
                "How many dead verdicts in the time shown proved true?",
                "nothing: each of them was a death that somebody would have waited for.",
            ),
            in_range(of("crew_verdicts_total", outcome="true")),
            decimals=0,
        ),
        number(
            "Open verdicts",
            About(
                "About how many verdicts has the truth not arrived?",
                "look whether the workers are gone; a verdict that stays open counts neither way.",
            ),
            total(of("crew_verdicts_open")),
            steps=ANY_LOOKS,
        ),
        number(
            "Exit noticed, 95 %",
            About(
                "How long does it take from the exit of a worker to the verdict?",
                "above 10 s crewd is slower than its objective: see its rounds on the daemon dashboard.",
                ("CrewdSlowDetectionBudgetBurn",),
            ),
            quantile(0.95, "crew_detection_latency_seconds", window="$__range", reason="exited", runtime=CHOSEN),
            unit="s",
            steps=steps((5, colours.LOOK), (10, colours.ACT)),
            none="no exit",
        ),
        number(
            "Holds back",
            About(
                "May nobody get worse just now, because crewd itself stood still or has just started?",
                "wait a minute; if it lasts, see crewd's own stalls below.",
                ("CrewdDoubtsItself",),
            ),
            worst(everywhere("crewd_hold")),
            unit="none",
            steps=ANY_LOOKS,
            words=YES_NO,
        ),
        number(
            "Mass brake",
            About(
                "Did too many workers turn worse at once to be believed?",
                "look for what they share: a disk, a network, a suspend. `crewd status` says who is held.",
                ("CrewdMassBrake",),
            ),
            worst(everywhere("crewd_mass_brake")),
            unit="none",
            steps=ANY_ACTS,
            words=BRAKED,
        ),
        number(
            "Doubt of itself",
            About(
                "By which factor does crewd lengthen all thresholds, because it doubts itself?",
                "1 is well; above 2 the machine is overloaded, or crewd does not get its turn.",
                ("CrewdDoubtsItself",),
            ),
            worst(everywhere("crewd_local_health")),
            steps=steps((1.5, colours.LOOK), (3, colours.BAD)),
            decimals=1,
        ),
    )


def _verdicts() -> Line:
    return evenly(
        7,
        bars(
            "Verdicts given, by reason",
            About(
                "When did crewd say dead, and on what ground?",
                "exited is the kernel's word; hung and presumed come from silence, and are worth a look.",
                ("CrewdWorkerDead", "CrewdWorkerHung"),
            ),
            Query(events(of("crew_verdicts_total", outcome="open"), "reason"), "{{reason}}"),
            colours={"exited": colours.WELL, "hung": colours.BAD, "presumed": colours.LOOK},
        ),
        bars(
            "What became of them",
            About(
                "When did verdicts prove true or false?",
                "a red bar: read that verdict with `crewd explain`.",
                ("CrewdFalseDeaths",),
            ),
            Query(events(of("crew_verdicts_total", outcome="~true|false"), "outcome"), "{{outcome}}"),
            colours=colours.OUTCOMES,
        ),
        lines(
            "Open verdicts, by reason",
            About(
                "Of which kind are the verdicts that nobody has confirmed?",
                "presumed ones stay open until somebody can see the process: run crewd where it can.",
            ),
            Query(total(of("crew_verdicts_open"), "reason"), "{{reason}}"),
            stacked=True,
        ),
    )


def _fate() -> Line:
    fate = ("runtime", "reason")
    false = of("crew_verdicts_total", outcome="false")
    given = of("crew_verdicts_total", outcome="open")
    return line(
        6,
        (
            14,
            rows(
                "Verdicts of the time shown",
                About(
                    "Of which runtime, and on which ground, are verdicts wrong?",
                    "lengthen the thresholds of that runtime, or give it heartbeats of its own (`crewd beat`).",
                    ("CrewdFalseDeaths",),
                ),
                [
                    Column("runtime"),
                    Column("reason"),
                    Column("given", Query(f"round({in_range(given, *fate)})")),
                    Column("true", Query(f"round({in_range(of('crew_verdicts_total', outcome='true'), *fate)})")),
                    Column("false", Query(f"round({in_range(false, *fate)})"), steps=ANY_ACTS),
                    Column("open now", Query(total(of("crew_verdicts_open"), *fate)), steps=ANY_LOOKS),
                ],
                worst_first=Query(f"{in_range(false, *fate)} * 1e6 + {in_range(given, *fate)}"),
            ),
        ),
        (
            10,
            bars(
                "Late results behind their fence",
                About(
                    "Did somebody who was given up still deliver?",
                    "their results had no effect, and are kept: each is a verdict or a limit that came too early.",
                ),
                Query(events(of("crew_fenced_results_total"), "runtime"), "{{runtime}}"),
            ),
        ),
    )


def _latency() -> Line:
    family = "crew_detection_latency_seconds"
    return evenly(
        8,
        buckets(
            "From the last life to the verdict",
            About(
                "How long were deaths unnoticed?",
                "cells far above the rest: click on a trace, or `crewd events --type verdict.opened` of that time.",
                ("CrewdSlowDetectionBudgetBurn",),
            ),
            Query(events(of(f"{family}_bucket"), "le"), exemplars=True),
        ),
        lines(
            "Latency by reason, of one hour",
            About(
                "How fast is each kind of verdict, and is it getting slower?",
                "exited should stay near one round; hung and presumed follow the thresholds.",
                ("CrewdSlowDetectionBudgetBurn",),
            ),
            *(
                Query(quantile(of_all, family, "reason", window="1h", runtime=CHOSEN), f"{{{{reason}}}} {name}", ref)
                for ref, of_all, name in (("A", 0.5, "50 %"), ("B", 0.95, "95 %"), ("C", 0.99, "99 %"))
            ),
            unit="s",
        ),
    )


def _slow() -> Line:
    family = "crew_detection_latency_seconds"
    exits = of(f"{family}_count", reason="exited")
    late = f"{in_range(exits)} - {in_range(of(f'{family}_bucket', reason='exited', le='10.0'))}"
    return line(
        5,
        (
            6,
            number(
                "Exits noticed later than 10 s",
                About(
                    "What part of the exits of the time shown did crewd notice late?",
                    "the objective is 1 % at most: see the duration of its rounds on the daemon dashboard.",
                    ("CrewdSlowDetectionBudgetBurn",),
                ),
                f"({late}) / ({in_range(exits)} > 0)",
                unit="percentunit",
                steps=steps((0.01, colours.LOOK), (0.05, colours.ACT)),
                none="no exit",
            ),
        ),
        (
            9,
            lines(
                "Exits noticed late, against the objective",
                About(
                    "Since when does crewd notice more than 1 % of exits later than 10 s?",
                    "compare with its own stalls and with the duration of its rounds at that time.",
                    ("CrewdSlowDetectionBudgetBurn",),
                ),
                Query(worst(everywhere("job:crew_detection_slow:ratio_rate1h")), "of 1 hour", "A"),
                Query(worst(everywhere("job:crew_detection_slow:ratio_rate6h")), "of 6 hours", "B"),
                unit="percentunit",
                steps=steps((0.01, colours.ACT)),
            ),
        ),
        (
            9,
            gauges(
                "Latency of the time shown, 50 %",
                About(
                    "How long does each kind of verdict usually take?",
                    "shorten the thresholds of what is too slow; `crewd replay` shows what that would have done.",
                ),
                Query(quantile(0.5, family, "reason", window="$__range", runtime=CHOSEN), "{{reason}}"),
                unit="s",
            ),
        ),
    )


def _restraint() -> Line:
    held = Query(worst(everywhere("crewd_hold"), "instance"), "{{instance}}")
    braked = Query(worst(everywhere("crewd_mass_brake"), "instance"), "{{instance}}")
    return evenly(
        6,
        states(
            "When it held back",
            About(
                "When might nobody get worse, because crewd stood still or had just started?",
                "long stripes: see its stalls, and what else the machine did.",
            ),
            held,
            YES_NO,
        ),
        states(
            "When the mass brake was on",
            About(
                "When did too many turn worse at once?",
                "look for what they shared at that time: a disk, a network, a suspend.",
                ("CrewdMassBrake",),
            ),
            braked,
            BRAKED,
        ),
        lines(
            "Doubt of itself, over time",
            About(
                "When did crewd lengthen its thresholds, and by which factor?",
                "compare with the load of the machine at that time.",
            ),
            Query(worst(everywhere("crewd_local_health"), "instance"), "{{instance}}"),
            steps=steps((1.5, colours.LOOK), (3, colours.BAD)),
        ),
    )


def _stalls() -> Line:
    return evenly(
        6,
        lines(
            "crewd's own stalls",
            About(
                "For which part of the time did crewd itself stand still?",
                "above a few percent the machine is overloaded: give crewd a share of CPU of its own.",
                ("CrewdPatrolStalled",),
            ),
            Query(rate(everywhere("crewd_own_stall_seconds_total"), "instance"), "{{instance}}"),
            unit="percentunit",
        ),
        bars(
            "Suspends and steps of the clock",
            About(
                "Did the machine sleep, or its clock jump?",
                "nothing: crewd counts no silence for it. Many steps: see the time service.",
            ),
            Query(events(everywhere("crewd_suspends_total")), "suspends", "A"),
            Query(events(everywhere("crewd_clock_steps_total")), "clock steps", "B"),
            colours={"suspends": colours.WAITS, "clock steps": colours.LOOK},
        ),
        lines(
            "Roots that do not answer",
            About(
                "Is there a folder whose look has not come back?",
                "see the disk or the network filesystem below it; its crews are not judged meanwhile.",
                ("CrewdLookStuck",),
            ),
            Query(worst(everywhere("crewd_looks_stuck"), "instance"), "{{instance}}"),
            steps=steps((1, colours.ACT)),
        ),
    )


def _heartbeats() -> Line:
    interval = "crew_heartbeat_interval_seconds"
    return evenly(
        7,
        lines(
            "Signs of life in a second",
            About(
                "Does crewd hear of its workers?",
                "a fall to nothing while workers run: see whether their files can be read.",
                ("CrewdManifestErrors",),
            ),
            Query(rate(of("crew_heartbeats_total"), "runtime"), "{{runtime}}"),
            unit="cps",
        ),
        bars(
            "Heartbeats that were not believed",
            About(
                "Does somebody write heartbeats that cannot be true?",
                "future and regressed: a clock is wrong; malformed: see the program that writes them.",
            ),
            Query(events(of("crew_heartbeats_rejected_total"), "reason"), "{{reason}}"),
            colours={"future": colours.LOOK, "regressed": colours.LOOK, "malformed": colours.BAD},
        ),
        lines(
            "Between two signs of life",
            About(
                "How often do workers show themselves?",
                "the threshold of warn should lie well above the upper curve.",
                ("CrewdWorkerFlapping",),
            ),
            Query(quantile(0.5, interval, "runtime", runtime=CHOSEN), "{{runtime}} 50 %", "A"),
            Query(quantile(0.99, interval, "runtime", runtime=CHOSEN), "{{runtime}} 99 %", "B"),
            unit="s",
        ),
    )


def _thresholds() -> Line:
    def at(level: str) -> Query:
        return Query(
            worst(everywhere("crew_heartbeat_threshold_seconds", runtime="~$runtime|default", level=level), "runtime")
        )

    return line(
        6,
        (
            10,
            rows(
                "Thresholds",
                About(
                    "After which silence is a worker warned of, stale, hung, dead?",
                    "`default` counts where a runtime has no row; change them in the settings, "
                    "and try that first with `crewd replay`.",
                ),
                [
                    Column("runtime"),
                    Column("warn", at("warn"), unit="s"),
                    Column("stale", at("stale"), unit="s"),
                    Column("hung", at("hung"), unit="s"),
                    Column("dead", at("dead"), unit="s"),
                ],
            ),
        ),
        (
            14,
            rows(
                "The most silent workers",
                About(
                    "Who is silent for longest?",
                    "`crewd explain RUN TASK`. Empty without `metrics.per_worker` in the settings.",
                ),
                [
                    Column("run"),
                    Column("task"),
                    Column("instance"),
                    Column(
                        "silent for",
                        Query(
                            "topk(20, time() - max by (instance, run, task) "
                            f"({everywhere('crew_worker_last_progress_timestamp_seconds')}))"
                        ),
                        unit="s",
                        steps=steps((120, colours.LOOK), (300, colours.BAD)),
                    ),
                ],
            ),
        ),
    )


def _levels() -> Line:
    changes = of("crew_worker_level_changes_total", to_level="~warn|stale|dead")
    back = of("crew_worker_level_changes_total", from_level="~stale|dead", to_level="healthy")
    return evenly(
        7,
        bars(
            "Workers that turned worse",
            About(
                "When did workers become silent, and how far did it go?",
                "many warnings and few deaths: the threshold of warn is too tight.",
                ("CrewdWorkersStale",),
            ),
            Query(events(changes, "to_level"), "{{to_level}}"),
            colours=WORSE,
        ),
        bars(
            "Workers that came back",
            About(
                "How many were stale or dead, and lived?",
                "those from dead are false deaths; those from stale say that the threshold is near the edge.",
                ("CrewdFalseDeaths", "CrewdWorkerFlapping"),
            ),
            Query(events(back, "from_level"), "from {{from_level}}"),
            colours={"from stale": colours.LOOK, "from dead": colours.ACT},
        ),
        bars(
            "What thresholds on trial would have said",
            About(
                "How would the overrides that are only tried have judged?",
                "compare with the first of these panels; when they are better, let them count.",
            ),
            Query(events(of("crew_shadow_verdicts_total"), "level"), "{{level}}"),
            colours=WORSE,
        ),
    )


def _wedges() -> Line:
    judged = of("crew_verdicts_total", outcome="false")
    return line(
        7,
        (
            16,
            lines(
                "Why silent workers are silent",
                About(
                    "What keeps the living silent?",
                    "auth_expired, disk_full and waiting_human need a person; tool_running needs patience.",
                    ("CrewdWorkersStale",),
                ),
                Query(total(of("crew_wedges"), "wedge"), "{{wedge}}"),
                stacked=True,
            ),
        ),
        (
            8,
            gauges(
                "False deaths of the time shown, by runtime",
                About(
                    "Whose verdicts are wrong?",
                    "lengthen its thresholds, or let it write heartbeats of its own.",
                    ("CrewdFalseDeaths",),
                ),
                Query(
                    share(judged, of("crew_verdicts_total", outcome="open"), "runtime"), "{{runtime}}", instant=True
                ),
                unit="percentunit",
                steps=steps((0.0001, colours.LOOK), (0.05, colours.ACT)),
                most=1,
                none="no verdict",
            ),
        ),
    )
