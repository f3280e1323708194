"""The evidence table: the first row that fits says how a worker is (docs/detection.md)."""

import msgspec

from crewd.detection.options import Patience, Thresholds
from crewd.model.process import Activity, ProcessSeen, ProcessState
from crewd.model.run import Waiting
from crewd.model.verdict import Level, Reason, Verdict

NOTHING_MOVES = (11, 12)  # rows of the table: alive, looked at, and still
WAITS = {"human": Reason.HUMAN, "throttled": Reason.THROTTLED}
WAITS_BECAUSE = {
    Reason.HUMAN: "waits for a human",
    Reason.THROTTLED: "throttled by its provider",
    Reason.PARKED: "parked",
}


class Evidence(msgspec.Struct, frozen=True):
    """Everything that is known of one worker in one round."""

    silence: float  # observed seconds
    process: ProcessSeen
    exit_confirmed: bool = False  # gone in two looks that lie a settling time apart
    waiting: Waiting | None = None
    lease_left: float = 0.0  # observed seconds for which the worker announced its silence
    tool: str = ""  # tool that the worker says it is inside of
    unread: str = ""  # why its files could not be read; "" = they can be
    unread_rounds: int = 0
    fresh: bool = False  # no progress of this attempt has been seen yet
    streams: bool = False  # an agent whose every word is followed: outside of a tool it waits for its model
    above: bool = False  # the process is its runner's: what lives below it may be the worker itself


class Row(msgspec.Struct, frozen=True):
    """One row of the table, for people."""

    number: int
    process: str
    silence: str
    verdict: str


TABLE = (
    Row(1, "any", "any", "waiting(reason): declared, the silence clock stands still"),
    Row(2, "exited", "any", "dead(exited), once confirmed"),
    Row(3, "any", "-", "unreadable, after 3 rounds without information"),
    Row(4, "alive, state T", "any", "warn(stopped), stale(stopped) from stale_after"),
    Row(5, "any", "inside a lease", "healthy(leased)"),
    Row(6, "alive or hidden", "< warn_after", "healthy"),
    Row(7, "alive", "warn_after to dead_after, inside a tool whose process runs", "healthy(busy)"),
    Row(8, "alive or hidden", "warn_after to stale_after", "warn"),
    Row(9, "alive or hidden", "stale_after to dead_after", "stale"),
    Row(10, "alive", ">= dead_after (an agent: stale_after), and something moves", "stale(busy)"),
    Row(11, "alive", ">= dead_after, nothing moves", "stale(silent), with a diagnosis"),
    Row(12, "alive", ">= hung_after (twice, in a tool or connected), provably nothing moves", "dead(hung)"),
    Row(13, "hidden", ">= dead_after", "dead(presumed)"),
)


def judge(evidence: Evidence, thresholds: Thresholds, patience: Patience, unreadable_after: int = 3) -> Verdict:
    """Say what the evidence of this round means: the first row of the table that fits."""
    process = evidence.process
    if evidence.waiting is not None:
        return _waiting(evidence.waiting, process)
    if process.state is ProcessState.EXITED and evidence.exit_confirmed:
        return Verdict(Level.DEAD, Reason.EXITED, process.why, 2)
    if evidence.unread and evidence.unread_rounds >= unreadable_after:
        because = f"its files cannot be read: {evidence.unread}"
        return Verdict(Level.UNREADABLE, Reason.UNREADABLE, because, 3)
    if process.state is ProcessState.STOPPED:
        return _stopped(evidence.silence, thresholds, process)
    if evidence.lease_left > 0:
        what = f" inside {evidence.tool}" if evidence.tool else ""
        return Verdict(Level.HEALTHY, Reason.LEASED, f"announced to be busy{what}", 5)
    return _by_silence(evidence, thresholds, patience)


def moves(activity: Activity | None, patience: Patience, waits_for_model: bool = False) -> str:
    """Which sign of life a silent process shows; "" when it shows none, or nothing was looked at.

    `waits_for_model`: an agent whose every word is followed, with no tool open. Its bytes say nothing: an answer
    comes by recv(2), which the kernel does not count, and the timers of some programs read and write for ever
    meanwhile (a Codex whose stream is dead: 200 to 1,000 bytes a second, as many as one that answers).
    """
    if activity is None:
        return ""
    if activity.tools:
        return f"a tool runs below it: {activity.tools[0]}"
    if activity.cpu_ticks_per_second > patience.cpu_idle_ticks:
        return "it computes"
    if not waits_for_model and (activity.io_chars_per_second or 0.0) > patience.io_idle_chars:
        return "it reads or writes"
    return ""


def _waiting(waiting: Waiting, process: ProcessSeen) -> Verdict:
    reason = WAITS.get(waiting.reason, Reason.PARKED)
    because = WAITS_BECAUSE[reason] + (f": {waiting.detail}" if waiting.detail else "")
    if process.state is ProcessState.EXITED:
        because += f" ({process.why})"
    return Verdict(Level.WAITING, reason, because, 1)


def _stopped(silence: float, thresholds: Thresholds, process: ProcessSeen) -> Verdict:
    if silence < thresholds.stale_after:
        return Verdict(Level.WARN, Reason.STOPPED, process.why, 4, until_silence=thresholds.stale_after)
    return Verdict(Level.STALE, Reason.STOPPED, process.why, 4)


def _by_silence(evidence: Evidence, thresholds: Thresholds, patience: Patience) -> Verdict:
    silence = evidence.silence
    warn_after = thresholds.warn_after + (thresholds.startup_grace if evidence.fresh else 0.0)
    stale_after = max(thresholds.stale_after, warn_after)
    if silence < warn_after:
        return Verdict(Level.HEALTHY, Reason.BEATING, "beating", 6, until_silence=warn_after)
    if silence < thresholds.dead_after and (process := _runs_inside(evidence)):
        because = f"inside {evidence.tool}, whose process runs: {process}"
        return Verdict(Level.HEALTHY, Reason.BUSY, because, 7, until_silence=thresholds.dead_after)
    said = f"silent, {evidence.process.why}"
    if evidence.streams and not evidence.tool:
        said += "; no tool is open, and its model says nothing"
    if silence < stale_after:
        return Verdict(Level.WARN, Reason.SILENT, said, 8, until_silence=stale_after)
    if evidence.streams and (sign := _sign_of_life(evidence, patience)):
        return Verdict(Level.STALE, Reason.BUSY, f"{said}; {sign}", 10)
    if silence < thresholds.dead_after or evidence.process.state is ProcessState.EXITED:
        # An exit that is not confirmed yet is no reason to be hasty on silence either.
        return Verdict(Level.STALE, Reason.SILENT, said, 9, until_silence=thresholds.dead_after)
    if evidence.process.state is ProcessState.HIDDEN:
        return Verdict(Level.DEAD, Reason.PRESUMED, said, 13)
    return _alive_but_silent(evidence, thresholds, patience, said)


def _alive_but_silent(evidence: Evidence, thresholds: Thresholds, patience: Patience, said: str) -> Verdict:
    if sign := _sign_of_life(evidence, patience):
        return Verdict(Level.STALE, Reason.BUSY, f"{said}; {sign}", 10)
    if evidence.streams and not evidence.tool:
        # Its model may keep it waiting for as long as it likes: that is named, and ended by a rule of its own.
        return Verdict(Level.STALE, Reason.SILENT, f"{said}; nothing moves", 11)
    if evidence.silence < thresholds.hung_after:
        return Verdict(Level.STALE, Reason.SILENT, f"{said}; nothing moves", 11, until_silence=thresholds.hung_after)
    if (explained := _in_flight(evidence)) and evidence.silence < 2 * thresholds.hung_after:
        because = f"{said}; nothing moves, but {explained}"
        return Verdict(Level.STALE, Reason.SILENT, because, 11, until_silence=2 * thresholds.hung_after)
    # Only what was looked at and found still counts as "nothing moves"; D is never escalated (proc(5)).
    activity = evidence.process.activity
    if activity is None or activity.io_chars_per_second is None or evidence.process.letter == "D":
        return Verdict(Level.STALE, Reason.SILENT, f"{said}; whether it moves cannot be seen from here", 11)
    return Verdict(Level.DEAD, Reason.HUNG, f"{said}; nothing moves", 12)


def _runs_inside(evidence: Evidence) -> str:
    """Name the process of the tool that the worker says it is inside of; "" where the kernel shows none."""
    process = evidence.process
    if not evidence.tool or evidence.above or process.state is not ProcessState.ALIVE or process.activity is None:
        return ""
    return process.activity.tools[0] if process.activity.tools else ""


def _sign_of_life(evidence: Evidence, patience: Patience) -> str:
    alive = evidence.process.state is ProcessState.ALIVE
    waits_for_model = evidence.streams and not evidence.tool
    return moves(evidence.process.activity, patience, waits_for_model) if alive else ""


def _in_flight(evidence: Evidence) -> str:
    """What may explain a long silence: a tool inside the process, or an answer that is waited for. For so long."""
    if evidence.tool:
        return f"it says that it is inside {evidence.tool}"
    if evidence.process.activity is not None and evidence.process.activity.sockets:
        return "a connection is open, on which it may wait for an answer"
    return ""
