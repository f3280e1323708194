"""Replay: a recorded period under two sets of rules, and where they part. Nothing is read or written here."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from crewd.detection import replay as silences
from crewd.detection.liveness import NOTHING_MOVES
from crewd.detection.options import Override, Patience, Thresholds
from crewd.detection.replay import Episode, Reached
from crewd.model.action import Decision, GiveUp, RetryAt
from crewd.model.event import Event
from crewd.model.moment import rfc3339
from crewd.model.notice import Notice, notice_of
from crewd.model.plan import RetryPolicy
from crewd.model.replay import Difference, Replay
from crewd.model.run import Expectation
from crewd.model.verdict import Level, Reason, Verdict
from crewd.policy import notifying
from crewd.policy import replay as failures

HEARD = silences.HEARD | failures.HEARD | {"incident.opened", "deadletter.added"}
OF_WORKERS = ("dead", "silent", "stopped")  # causes of incidents that follow from a level, and are made anew
NOTHING = "nothing"
RETRIES_PER_HOUR, WAITING = "tasks.retries_per_hour", "patrol.waiting_alert_after"
DAMPING = ("incidents.reopen_window", "incidents.damp_above", "incidents.damp_half_life")
DISAGREEMENTS_MAX = 20

Key = tuple[str, str]  # run id, task id


@dataclass(frozen=True)
class Rules:
    """What a configuration says about silences, retries and messages."""

    thresholds: Thresholds = field(default_factory=Thresholds)
    overrides: tuple[Override, ...] = ()
    retries: Mapping[str, RetryPolicy] = field(default_factory=dict)  # of tasks that say nothing, by executor
    routes: Mapping[str, notifying.Route] = field(default_factory=dict)  # by channel
    letters_per_hour: int = 3
    apart: Mapping[str, float] = field(default_factory=dict)  # setting that is not replayed -> its value


@dataclass(frozen=True)
class Context:
    """What a ledger knows beside its events; of files of events alone all of it is empty."""

    task_types: Mapping[Key, str] = field(default_factory=dict)
    expectations: Mapping[Key, Expectation] = field(default_factory=dict)  # what tasks say of their own silence
    policies: Mapping[Key, RetryPolicy] = field(default_factory=dict)  # as accepted with the run


@dataclass
class _Told:
    """What is put together."""

    differences: list[Difference] = field(default_factory=list)
    looked_at: Counter[str] = field(default_factory=Counter)
    disagreements: list[str] = field(default_factory=list)


def replay(events: Sequence[Event], base: Rules, new: Rules, context: Context | None = None) -> Replay:
    """Run a record through both sets of rules. The same rules twice differ in nothing."""
    context = context or Context()
    told = _Told()
    before, after = _levels(events, base, new, context, told)
    _notifications(events, base, new, before, after, told)
    _retries(events, base, new, context, told)
    _letters(events, base, new, told)
    told.differences.sort(key=lambda each: (each.at, each.run_id, each.task_id, each.kind))
    return Replay(
        tuple(told.differences),
        dict(told.looked_at),
        tuple(told.disagreements[:DISAGREEMENTS_MAX]),
        tuple(_unknown(base, new, context)),
    )


def _levels(
    events: Iterable[Event], base: Rules, new: Rules, context: Context, told: _Told
) -> tuple[list[Notice], list[Notice]]:
    """Compare how far every silence gets; returns the incidents that follow from it, under either."""
    notices: tuple[list[Notice], list[Notice]] = ([], [])
    for episode in silences.episodes(events):
        told.looked_at["silences"] += 1
        was, now = (_reached(episode, rules, context) for rules in (base, new))
        if not silences.fits(episode, was.least):
            where = f"{episode.worker.run_id}/{episode.worker.task_id}"
            told.disagreements.append(
                f"{where} at {rfc3339(episode.at)}: recorded as {episode.level.value}, which the base rules do not "
                f"make of {episode.least:.0f} s of silence"
            )
        for rules, found in ((0, was), (1, now)):
            if (notice := _notice(episode, found.most)) is not None:
                notices[rules].append(notice)
        told.differences += _level_differences(episode, was, now)
    return notices


def _reached(episode: Episode, rules: Rules, context: Context) -> Reached:
    key = episode.worker.run_id, episode.worker.task_id
    thresholds = silences.rules_for(episode, rules.thresholds, rules.overrides, context.task_types.get(key, ""))
    if key in context.expectations:
        thresholds = thresholds.expecting(context.expectations[key])
    return silences.reached(episode, thresholds, Patience())


def _level_differences(episode: Episode, was: Reached, now: Reached) -> Iterator[Difference]:
    before, after = _words(was), _words(now)
    if before == after:
        return
    certain = was.certain and now.certain and silences.fits(episode, was.least)
    silent = f"silent for {episode.least:.0f} s"
    if episode.most > episode.least + 1:
        silent += f" to {episode.most:.0f} s"
    yield _difference("verdict", episode, before, after, certain, silent)
    incidents = [_cause(each.most) for each in (was, now)]
    if incidents[0] != incidents[1]:
        yield _difference("incident", episode, incidents[0] or NOTHING, incidents[1] or NOTHING, certain, silent)


def _words(found: Reached) -> str:
    least, most = (f"{each.level.value}({each.reason.value})" for each in (found.least, found.most))
    after = f" after {found.after:g} s" if found.after is not None else ""
    return f"{most}{after}" if least == most else f"{least} or {most}{after}"


def _cause(verdict: Verdict) -> str:
    """The incident that a worker's level opens (incidents.py); "": none."""
    match verdict.level, verdict.reason:
        case Level.DEAD, _:
            return "dead"
        case Level.STALE, Reason.STOPPED:
            return "stopped"
        case Level.STALE, Reason.SILENT if verdict.row in NOTHING_MOVES:
            return "silent"
    return ""


def _notice(episode: Episode, verdict: Verdict) -> Notice | None:
    cause = _cause(verdict)
    if not cause:
        return None
    run_id, task_id, _ = episode.worker
    severity = "critical" if cause == "dead" else "warning"
    subject = f"{run_id}/{task_id}"
    return Notice("opened", subject, cause, severity, "", episode.at, episode.at, episode.crew, run_id, task_id)


def _notifications(
    events: Iterable[Event], base: Rules, new: Rules, before: list[Notice], after: list[Notice], told: _Told
) -> None:
    """Compare what every channel is given: recorded incidents, and those of workers as their levels open them."""
    recorded = [notice for notice in map(_recorded_notice, events) if notice is not None]
    told.looked_at["incidents"] += len(recorded) + len(before)
    doubtful = {(each.run_id, each.task_id, each.at) for each in told.differences if not each.certain}
    was, now = _sent(base, [*recorded, *before]), _sent(new, [*recorded, *after])
    for key in sorted(was.keys() | now.keys()):
        one, other = was.get(key), now.get(key)
        words = [each[1] if each is not None else NOTHING for each in (one, other)]
        if words[0] != words[1]:
            notice = (one or other or (None,))[0]
            assert notice is not None
            told.differences.append(
                Difference(
                    "notification",
                    notice.at,
                    notice.crew,
                    notice.run_id,
                    notice.task_id,
                    words[0],
                    words[1],
                    (notice.run_id, notice.task_id, notice.at) not in doubtful,
                    f"channel {key[0]}, incident {notice.cause}",
                )
            )


def _recorded_notice(event: Event) -> Notice | None:
    notice = notice_of(event) if event.type == "incident.opened" else None
    return notice if notice is not None and notice.cause not in OF_WORKERS else None


def _sent(rules: Rules, notices: Iterable[Notice]) -> dict[tuple[str, str, float], tuple[Notice, str]]:
    """What becomes of each notice at each channel. What is not sent is as good as not there."""
    found = {}
    for notice in notices:
        for name, route in rules.routes.items():
            match notifying.decide(route, notice, notice.at):
                case notifying.Send():
                    found[name, notice.key, notice.at] = notice, f"sent ({notice.severity})"
                case notifying.Hold(because=because):
                    found[name, notice.key, notice.at] = notice, f"held: {because}"
    return found


def _retries(events: Iterable[Event], base: Rules, new: Rules, context: Context, told: _Told) -> None:
    for chain in failures.chains(events):
        key = chain.run_id, chain.task_id
        was = base.retries.get(chain.executor) or base.retries.get("default") or RetryPolicy()
        now = new.retries.get(chain.executor) or new.retries.get("default") or RetryPolicy()
        accepted = context.policies.get(key)
        if accepted is not None and accepted != was:
            was = now = accepted  # the run file says its own, and the settings have no part in it
        for step in failures.compare(chain, was, now):
            told.looked_at["failures"] += 1
            failed = step.failed
            if not step.fits:
                recorded = f"a retry in {failed.delay:.1f} s" if failed.delay is not None else f"({failed.given_up})"
                told.disagreements.append(
                    f"{chain.run_id}/{chain.task_id} attempt {failed.attempt} ({failed.error_class.value}): recorded "
                    f"is {recorded}, the base rules say: {_decision(step.base)}"
                )
            elif failures.differ(step.base, step.new):
                more = isinstance(step.base, GiveUp) and isinstance(step.new, RetryAt)
                why = f"attempt {failed.attempt} failed: {failed.error_class.value}"
                told.differences.append(
                    Difference(
                        "retry",
                        failed.at,
                        chain.crew,
                        chain.run_id,
                        chain.task_id,
                        _decision(step.base),
                        _decision(step.new),
                        why=why + ("; how another attempt would have ended is unknown" if more else ""),
                    )
                )


def _decision(decision: Decision) -> str:
    match decision:
        case RetryAt(delay=delay):
            return f"retry in {delay:.1f} s"
        case GiveUp(reason=reason):
            return f"given up ({reason})"
    return "waits"


def _letters(events: Iterable[Event], base: Rules, new: Rules, told: _Told) -> None:
    crews: dict[str, list[float]] = {}
    for event in events:
        if event.type == "deadletter.added":
            crews.setdefault(event.crew, []).append(event.at)
    for crew, times in crews.items():
        told.looked_at["dead_letters"] += len(times)
        was, now = (failures.crossings(times, rules.letters_per_hour) for rules in (base, new))
        for at in sorted(set(was) ^ set(now)):
            words = ["alarm" if at in found else NOTHING for found in (was, now)]
            why = f"more than {base.letters_per_hour} or {new.letters_per_hour} within an hour"
            told.differences.append(Difference("dead_letters", at, crew, "", "", words[0], words[1], why=why))


def _difference(kind: str, episode: Episode, base: str, new: str, certain: bool, why: str) -> Difference:
    run_id, task_id, _ = episode.worker
    return Difference(kind, episode.at, episode.crew, run_id, task_id, base, new, certain, why)


def _unknown(base: Rules, new: Rules, context: Context) -> Iterator[str]:
    """Say what no record can tell about these rules."""
    warned = min(each.warn_after for each in _all(base))
    earlier = min(each.warn_after for each in _all(new))
    if earlier < warned:
        yield (
            f"unknown below {warned:g} s: a shorter silence was not recorded, nor who would have been warn from "
            f"{earlier:g} s on"
        )
    if any(each.tool for each in (*base.overrides, *new.overrides)):
        yield "the tool that a worker was inside of is not recorded: overrides by tool are passed over"
    if base.thresholds != new.thresholds or base.overrides != new.overrides:
        yield (
            "what a process did (tools, CPU, connections) is recorded only where it decided; times in which crewd "
            "held back, doubted itself or doubled thresholds are not made again"
        )
    if not context.policies and base.retries != new.retries:
        yield "files of events hold no run files: every task is taken to retry as its executor says"
    if base.retries != new.retries:
        yield "what a worker itself said of a retry, and waits that a provider named, are not recorded"
    yield from _not_replayed(base, new)


def _not_replayed(base: Rules, new: Rules) -> Iterator[str]:
    """Say which rules are left out, where they have a part in what differs: events do not hold what they go by."""
    changed = {name for name in base.apart.keys() | new.apart.keys() if base.apart.get(name) != new.apart.get(name)}
    judged = (base.thresholds, base.overrides) != (new.thresholds, new.overrides)
    if base.retries != new.retries or changed & {RETRIES_PER_HOUR}:
        yield (
            f"not replayed: {RETRIES_PER_HOUR}: which retries were spent, and which waited for the next to be free, "
            "is not in the events"
        )
    if changed & {WAITING}:
        yield f"not replayed: {WAITING}: how long somebody or something was waited for is not in the events"
    if judged or base.routes != new.routes or changed & {*DAMPING}:
        yield (
            f"not replayed: {', '.join(DAMPING)}: each incident is taken to be told, as if it opened for the first "
            "time; neither damping nor what was snoozed or acknowledged is applied"
        )


def _all(rules: Rules) -> Iterator[Thresholds]:
    yield rules.thresholds
    yield from (each.thresholds for each in rules.overrides)


def task_context(task_types: Mapping[Key, str], events: Iterable[Event]) -> dict[Key, str]:
    """The task types that events tell, under those that are known anyway."""
    found = {
        (event.run_id, event.task_id): str(event.data["task_type"])
        for event in events
        if event.task_id and "task_type" in event.data
    }
    return found | dict(task_types)


def as_json(difference: Difference) -> dict[str, object]:
    """Lay a difference out for a program."""
    told: dict[str, object] = msgspec.to_builtins(difference)
    return told | {"at": rfc3339(difference.at)}
