"""crewd itself: whether it keeps its pace, remembers, tells, and with what it does so."""

from typing import Any

from deploy.grafana.source import colours
from deploy.grafana.source.colours import ANY_IS_BAD, LAST_ROUND, steps
from deploy.grafana.source.frame import Line, Section, evenly, framed, line
from deploy.grafana.source.panels import PAGE, About, Link, bars, buckets, gauges, lines, number, states
from deploy.grafana.source.queries import (
    Query,
    age,
    age_when_scraped,
    events,
    in_range,
    least,
    of,
    quantile,
    rate,
    some,
    total,
    worst,
)

READY = {"0": ("not ready", colours.ACT), "1": ("ready", colours.WELL)}
UP = {"0": ("down", colours.ACT), "1": ("up", colours.WELL)}
LOADED = {"0": ("refused", colours.BAD), "1": ("loaded", colours.WELL)}
OWN_PAGE = Link("crewd's page", "http://${__field.labels.instance}/")
EACH = "{{instance}}"


def built() -> Any:
    return framed(
        "crewd-daemon",
        "Does crewd itself keep its pace, remember what it saw, tell it on, and have what it needs?",
        [
            Section("", (_tiles(), _presence())),
            Section("The patrol", (_rounds(), _reads())),
            Section("Managed tasks", (_attempts(), _workers())),
            Section("Memory and files", (_ledger(), _sinks(), _disk())),
            Section("Who is told", (_notifications(), _web())),
            Section("The process", (_process(), _oddities())),
        ],
        since="now-6h",
    )


def _tiles() -> Line:
    return evenly(
        4,
        number(
            "Ready",
            About(
                "Is every part of each crewd ready, and does each answer?",
                "`curl /readyz` names the part that is not; then its journal.",
                ("CrewdNotReady", "CrewdDown"),
            ),
            # One that is down tells nothing of itself: it counts as not ready.
            Query(least(f"({of('crewd_ready')} or on (job, instance) {of('up')} * 0)")),
            unit="none",
            steps=((None, colours.ACT), (1, colours.WELL)),
            words=READY,
            unknown="not scraped",
            link=Link("Readiness", f"{PAGE}/readyz"),
        ),
        number(
            "Runs for",
            About(
                "Since when has the youngest of these daemons been running?",
                "minutes, and nobody restarted it: see the journal of the one before.",
                ("CrewdRestartingOften",),
            ),
            f"time() - {worst(of('process_start_time_seconds'))}",
            unit="s",
            steps=((None, colours.LOOK), (600, colours.WELL)),
        ),
        number(
            "Since the last round",
            About(
                "How long ago had crewd looked at everything, when it was last scraped?",
                "above `patrol.interval` (5 s), and growing: its patrol stands still. See roots that do not answer.",
                ("CrewdPatrolStalled",),
            ),
            age_when_scraped("crewd_last_round_timestamp_seconds"),
            unit="s",
            steps=LAST_ROUND,
            none="no round yet",
        ),
        number(
            "A round takes, 99 %",
            About(
                "How long does a round take?",
                "near the interval of the patrol: fewer or faster roots, or a longer interval.",
                ("CrewdPatrolStalled",),
            ),
            quantile(0.99, "crewd_round_duration_seconds"),
            unit="s",
            steps=steps((1, colours.LOOK), (5, colours.ACT)),
        ),
        number(
            "Loop lag, 99 %",
            About(
                "How late does crewd's event loop wake?",
                "above half a second the machine is overloaded, or a part of crewd blocks.",
                ("CrewdEventLoopLag",),
            ),
            quantile(0.99, "crewd_event_loop_lag_seconds"),
            unit="s",
            steps=steps((0.1, colours.LOOK), (0.5, colours.ACT)),
        ),
        number(
            "Settings",
            About(
                "Do the settings in the file count?",
                "refused: `crewd config check` names the key; the former ones count meanwhile.",
                ("CrewdReloadFailed",),
            ),
            least(of("crewd_config_last_reload_successful")),
            unit="none",
            steps=((None, colours.BAD), (1, colours.WELL)),
            words=LOADED,
        ),
        number(
            "Defects",
            About(
                "Did a part of crewd fail, or break a promise, in the time shown?",
                "`crewd diagnose RUN` gathers what a report needs; the log has the whole of it.",
                ("CrewdDefect", "CrewdInvariantViolated"),
            ),
            f"{in_range(of('crewd_defects_total'))} + {in_range(of('crewd_invariant_violations_total'))}",
            steps=((None, colours.WELL), (0.5, colours.ACT)),
            decimals=0,
        ),
        number(
            "Degraded parts",
            About(
                "With how many parts of crewd is something wrong?",
                "`crewd status` names them in its first lines.",
                ("CrewdNotReady",),
            ),
            total(of("crewd_degraded")),
            steps=ANY_IS_BAD,
        ),
    )


def _presence() -> Line:
    return line(
        6,
        (
            8,
            states(
                "When it could be scraped",
                About(
                    "When could Prometheus reach it?",
                    "down: `systemctl status`, its journal, then its address in the scrape configuration.",
                    ("CrewdDown", "CrewdAbsent"),
                ),
                Query(least(of("up"), "instance"), EACH),
                UP,
                link=OWN_PAGE,
            ),
        ),
        (
            8,
            states(
                "When it was ready",
                About(
                    "When was it ready?",
                    "stripes of red after a start are recovery; others: the part that /readyz names.",
                    ("CrewdNotReady",),
                ),
                Query(least(of("crewd_ready"), "instance"), EACH),
                READY,
                link=OWN_PAGE,
            ),
        ),
        (
            8,
            lines(
                "Degraded, by reason",
                About(
                    "What is wrong with crewd itself?",
                    "ledger: the disk; listeners: a sink; the others: the log.",
                    ("CrewdNotReady", "CrewdSinkErrors"),
                ),
                Query(total(of("crewd_degraded"), "reason"), "{{reason}}"),
                stacked=True,
            ),
        ),
    )


def _rounds() -> Line:
    return line(
        7,
        (
            8,
            buckets(
                "Duration of a round",
                About(
                    "How long does crewd take to look at everything?",
                    "a band that climbs with the number of runs is normal; one that jumps is a slow disk.",
                    ("CrewdPatrolStalled",),
                ),
                Query(rate(of("crewd_round_duration_seconds_bucket"), "le")),
            ),
        ),
        (
            8,
            lines(
                "Since the last success of each loop",
                About(
                    "Does each of crewd's loops still turn?",
                    "patrol and scheduler stay within seconds, sinks within minutes, retention within a day: "
                    "see the log of one that does not.",
                    ("CrewdLoopStalled", "CrewdPatrolStalled"),
                ),
                Query(age("crewd_loop_last_success_timestamp_seconds", "loop"), "{{loop}}", "A"),
                Query(worst(of("crewd_round_interval_seconds")), "planned between two rounds", "B"),
                unit="s",
                dashed=("planned between two rounds",),
                logarithmic=True,
            ),
        ),
        (
            8,
            lines(
                "Lag of the event loop",
                About(
                    "Does crewd get its turn?",
                    "above half a second: give it a share of CPU of its own, or find what blocks it in the log.",
                    ("CrewdEventLoopLag",),
                ),
                Query(quantile(0.5, "crewd_event_loop_lag_seconds", "instance"), f"{EACH} 50 %", "A"),
                Query(quantile(0.99, "crewd_event_loop_lag_seconds", "instance"), f"{EACH} 99 %", "B"),
                unit="s",
                steps=steps((0.5, colours.ACT)),
            ),
        ),
    )


def _reads() -> Line:
    return evenly(
        7,
        lines(
            "Reads of runs' files",
            About(
                "Can crewd read what runs write?",
                "torn ones pass; invalid, refused and io_error do not: `crewd doctor` and the log name the file.",
                ("CrewdManifestErrors",),
            ),
            Query(rate(of("crewd_manifest_reads_total"), "result"), "{{result}}"),
            unit="cps",
            colours={
                "ok": colours.WELL,
                "unchanged": colours.NOTHING,
                "torn": colours.LOOK,
                "invalid": colours.BAD,
                "io_error": colours.ACT,
                "refused": colours.ACT,
            },
        ),
        lines(
            "Runs watched",
            About("How much does crewd watch?", "a fall to nothing: see whether its roots are still there."),
            Query(total(of("crewd_runs_watched"), "instance", "runtime"), f"{EACH} {{{{runtime}}}}"),
            stacked=True,
        ),
        lines(
            "Lines of event logs",
            About(
                "How much do runtimes write down?",
                "lines beyond the cap are left out: too much for one round, or a runtime that writes without end.",
            ),
            Query(rate(of("crewd_happenings_total"), "runtime"), "{{runtime}}", "A"),
            Query(rate(of("crewd_happenings_dropped_total")), "beyond the cap", "B"),
            unit="cps",
            colours={"beyond the cap": colours.BAD},
        ),
        bars(
            "What is new to this crewd",
            About(
                "Do runtimes write what this version does not know, or the kernel lose notices?",
                "unknown fields and statuses: look for a newer crewd; overflows cost nothing but time.",
            ),
            Query(events(of("crewd_unknown_fields_total")), "unknown fields", "A"),
            Query(events(of("crewd_unknown_statuses_total")), "unknown statuses", "B"),
            Query(events(of("crewd_watch_overflows_total")), "lost notices of files", "C"),
        ),
    )


def _attempts() -> Line:
    return evenly(
        7,
        lines(
            "Slots",
            About(
                "Is there room for more work?",
                "at the most and tasks ready: raise `limits`, or wait. Stuck ones: look for processes in state D.",
                ("CrewdAttemptStuck",),
            ),
            Query(total(of("crewd_attempts_running"), "instance"), f"{EACH} running", "A"),
            Query(total(of("crewd_attempts_max"), "instance"), f"{EACH} at most", "B"),
            Query(total(of("crewd_attempts_stuck"), "instance"), f"{EACH} stuck", "C"),
        ),
        lines(
            "Ready and not started",
            About(
                "Do tasks wait for crewd?",
                "many and free slots: a pause, a circuit or the rate of starts holds them; see `crewd status`.",
                ("CrewdLoopStalled",),
            ),
            Query(total(of("crewd_tasks_ready"), "instance"), EACH),
        ),
        lines(
            "Time until a slot, of one hour",
            About(
                "How long do tasks wait for a slot?",
                "minutes: more slots, or smaller tasks.",
            ),
            Query(quantile(0.5, "crew_task_queue_duration_seconds", window="1h"), "50 %", "A"),
            Query(quantile(0.95, "crew_task_queue_duration_seconds", window="1h"), "95 %", "B"),
            unit="s",
            none="nothing managed",
        ),
        buckets(
            "How long tasks take",
            About(
                "How long do tasks take, of all crews?",
                "a band at the time limit is a time limit that is too short.",
            ),
            Query(events(of("crew_task_duration_seconds_bucket"), "le"), exemplars=True),
        ),
    )


def _workers() -> Line:
    return evenly(
        6,
        bars(
            "Messages of protocol workers",
            About(
                "What do protocol workers say?",
                "unknown words come from a newer worker; they do no harm.",
            ),
            Query(some(of("crewd_worker_messages_total"), "type"), "{{type}}"),
        ),
        bars(
            "Lines that are no messages",
            About(
                "Does a worker write what crewd cannot read?",
                "see docs/reference/worker-protocol.md; often a library prints on stdout.",
            ),
            Query(some(of("crewd_worker_protocol_errors_total"), "kind"), "{{kind}}"),
        ),
        bars(
            "Attempts taken over",
            About(
                "How many living attempts did a new crewd take over?",
                "nothing: they went on across a restart.",
            ),
            Query(events(of("crewd_attempts_adopted_total"), "instance"), EACH),
        ),
    )


def _ledger() -> Line:
    return evenly(
        7,
        lines(
            "Commits in a second",
            About("Does crewd remember what it sees?", "nothing at all for minutes while runs move: see the log."),
            Query(rate(of("crewd_ledger_commits_total"), "instance"), EACH),
            unit="cps",
        ),
        lines(
            "Time of one commit",
            About(
                "How fast is the disk of the ledger?",
                "above 100 ms for long: the disk is slow or shared; move the state folder.",
            ),
            Query(quantile(0.5, "crewd_ledger_commit_duration_seconds", "instance"), f"{EACH} 50 %", "A"),
            Query(quantile(0.99, "crewd_ledger_commit_duration_seconds", "instance"), f"{EACH} 99 %", "B"),
            unit="s",
        ),
        bars(
            "Commits that failed, and gaps",
            About(
                "Was anything not remembered?",
                "failures: the disk is full or gone; gaps: `crewd history verify` names the row.",
                ("CrewdLedgerFailing", "CrewdDiskFilling"),
            ),
            Query(events(of("crewd_ledger_failures_total")), "failed commits", "A"),
            Query(events(of("crewd_ledger_history_missed_total")), "not in the history", "B"),
            colours={"failed commits": colours.ACT, "not in the history": colours.BAD},
        ),
        lines(
            "Size of the ledger",
            About(
                "How much does crewd keep?",
                "see `retention` in the settings if it climbs without end.",
                ("CrewdDiskFilling",),
            ),
            Query(worst(of("crewd_ledger_bytes"), "instance"), EACH),
            unit="bytes",
        ),
    )


def _sinks() -> Line:
    return evenly(
        7,
        lines(
            "Records written in a second",
            About("Are the day files written?", "nothing while events happen: see the errors beside this."),
            Query(rate(of("crewd_sink_records_total"), "sink"), "{{sink}}"),
            unit="cps",
        ),
        lines(
            "Bytes written in a second",
            About("How fast do the day files grow?", "set `retention` so that the disk holds them."),
            Query(rate(of("crewd_sink_bytes_total"), "sink"), "{{sink}}"),
            unit="Bps",
        ),
        lines(
            "Events not written yet",
            About(
                "Do the sinks keep up?",
                "a lag that climbs: the disk of the logs is slow or full. Nothing is lost: it is written later.",
                ("CrewdSinkLagging",),
            ),
            Query(worst(of("crewd_sink_lag_records"), "instance", "sink"), f"{EACH} {{{{sink}}}}"),
        ),
        bars(
            "Errors of sinks",
            About(
                "Why could a sink not write?",
                "no_space: make room; permission: see the owner of the folder.",
                ("CrewdSinkErrors",),
            ),
            Query(some(of("crewd_sink_errors_total"), "sink", "reason"), "{{sink}}, {{reason}}"),
        ),
    )


def _disk() -> Line:
    return line(
        6,
        (
            12,
            lines(
                "Free space",
                About(
                    "How long will the disk hold?",
                    "make room, or shorten `retention`, before it is full: a full disk stops what crewd remembers.",
                    ("CrewdDiskFilling",),
                ),
                Query(least(of("crewd_filesystem_free_bytes"), "instance", "folder"), f"{EACH} {{{{folder}}}}"),
                unit="bytes",
            ),
        ),
        (
            12,
            lines(
                "Since a sink last wrote",
                About(
                    "Does each sink still write?",
                    "a ramp while events happen: see its errors.",
                    ("CrewdSinkLagging", "CrewdSinkErrors"),
                ),
                Query(age("crewd_sink_last_write_timestamp_seconds", "instance", "sink"), f"{EACH} {{{{sink}}}}"),
                unit="s",
            ),
        ),
    )


def _notifications() -> Line:
    # Where it is set up, and none has ever succeeded.
    failures = f"increase({of('crewd_dead_man_failures_total')}[$__range])"
    never = f"time() - {least(of('process_start_time_seconds') + f' + on (job, instance) 0 * {failures}')}"
    return line(
        7,
        (
            8,
            bars(
                "Messages to people",
                About(
                    "Do people hear of incidents?",
                    "failed: `crewd notify test CHANNEL` says what the other side answers.",
                    ("CrewdNotificationsFailing",),
                ),
                Query(events(of("crewd_notifications_total"), "channel", "result"), "{{channel}}, {{result}}"),
                none="no channel set up",
            ),
        ),
        (
            8,
            lines(
                "Messages on their way",
                About(
                    "Is something still to be told, or was it given up?",
                    "not told ones are incidents of which nobody heard: tell them, and mend the channel.",
                    ("CrewdNotificationsFailing",),
                ),
                Query(total(of("crewd_notifications_pending"), "channel"), "{{channel}} pending", "A"),
                Query(total(of("crewd_notifications_not_told"), "channel"), "{{channel}} not told", "B"),
                Query(
                    f"{rate(of('crewd_notification_retries_total'), 'channel')} * 60",
                    "{{channel}} retries in a minute",
                    "C",
                ),
            ),
        ),
        (
            4,
            number(
                "Since the dead-man ping",
                About(
                    "Does somebody outside know that crewd lives?",
                    "older than a few of `dead_man.every`, a minute: see whether the other side answers. "
                    "Before the first it counts from the start of crewd.",
                    ("CrewdNotificationsFailing",),
                ),
                f"{age('crewd_dead_man_last_success_timestamp_seconds')} or {never}",
                unit="s",
                steps=steps((300, colours.LOOK), (900, colours.ACT)),
                none="none set up",
            ),
        ),
        (
            4,
            number(
                "Dead-man pings that failed",
                About(
                    "How many pings failed in the time shown?",
                    "one now and then is the network; many: see the address in the settings.",
                ),
                in_range(of("crewd_dead_man_failures_total")),
                steps=((None, colours.WELL), (0.5, colours.LOOK)),
                none="none set up",
                decimals=0,
            ),
        ),
    )


def _web() -> Line:
    return evenly(
        7,
        lines(
            "HTTP requests in a second",
            About(
                "Who asks crewd, and is anything refused?",
                "codes from 500 on are defects; 401 and 403 are strangers or a wrong token.",
            ),
            Query(rate(of("crewd_http_requests_total"), "route", "code"), "{{route}} {{code}}"),
            unit="reqps",
            stacked=True,
        ),
        lines(
            "Time to answer, 99 %",
            About(
                "Does crewd answer quickly?",
                "a scrape near the time-out of Prometheus: fewer crews, or `metrics.per_worker` off.",
            ),
            Query(quantile(0.99, "crewd_http_request_duration_seconds", "route"), "{{route}}"),
            unit="s",
        ),
        lines(
            "Open streams",
            About("How many follow the live stream?", "nothing; pages and `crewd events --follow` are streams."),
            Query(total(of("crewd_stream_clients"), "instance"), EACH),
        ),
        bars(
            "Streams that ended",
            About(
                "Why do streams end?",
                "overflow: that reader was too slow; it comes back where it was.",
            ),
            Query(events(of("crewd_stream_disconnects_total"), "reason"), "{{reason}}"),
            colours={"overflow": colours.BAD, "failed": colours.BAD, "gone": colours.NOTHING},
        ),
    )


def _process() -> Line:
    return evenly(
        7,
        lines(
            "CPU",
            About("How much CPU does crewd use?", "a whole core for long: see rounds and scrapes."),
            Query(rate(of("process_cpu_seconds_total"), "instance"), EACH),
            unit="percentunit",
        ),
        lines(
            "Memory",
            About("How much memory does crewd use?", "a line that only climbs for days is worth a report."),
            Query(worst(of("process_resident_memory_bytes"), "instance"), EACH),
            unit="bytes",
        ),
        lines(
            "File descriptors",
            About(
                "Will crewd run out of descriptors?",
                "near the most: raise LimitNOFILE of its unit.",
            ),
            Query(worst(of("process_open_fds"), "instance"), f"{EACH} open", "A"),
            Query(least(of("process_max_fds"), "instance"), f"{EACH} at most", "B"),
        ),
    )


def _oddities() -> Line:
    return evenly(
        6,
        bars(
            "Defects, by part",
            About(
                "Which part of crewd failed and went on?",
                "report it with what `crewd diagnose RUN` gathers; the log has the trace.",
                ("CrewdDefect",),
            ),
            Query(some(of("crewd_defects_total"), "part"), "{{part}}"),
        ),
        bars(
            "Broken promises",
            About(
                "Which promise did crewd find broken?",
                "docs/guarantees.md says what each number means; report it.",
                ("CrewdInvariantViolated",),
            ),
            Query(some(of("crewd_invariant_violations_total"), "id"), "{{id}}"),
        ),
        bars(
            "Names beyond a cap",
            About(
                "Were series told as `other`?",
                "somebody makes names without end; or raise `metrics.max_crews`.",
                ("CrewdSeriesLimit",),
            ),
            Query(some(of("crewd_metric_series_dropped_total"), "metric"), "{{metric}}"),
        ),
        bars(
            "Parts of scrapes that failed",
            About("Was a part of /metrics left out?", "the log says why; report it.", ("CrewdMetricsIncomplete",)),
            Query(some(of("crewd_metric_collect_errors_total"), "part"), "{{part}}"),
        ),
        gauges(
            "Incidents that opened",
            About(
                "How much did crewd raise in the time shown?",
                "many of info that nobody reads: see docs/incidents.md about damping.",
            ),
            Query(f"round({in_range(of('crewd_incidents_total'), 'severity')})", "{{severity}}"),
            colours=colours.SEVERITIES,
        ),
        gauges(
            "Versions",
            About(
                "Which versions are at work?",
                "more than one: bring the older ones up to date.",
            ),
            Query(
                f"count by (version, python_version) ({of('crewd_build_info')})",
                "crewd {{version}}, Python {{python_version}}",
            ),
        ),
    )
