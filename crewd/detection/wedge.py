"""Why is a living worker silent? A name for the wedge, and what helps (docs/detection.md)."""

import re

from crewd.detection.liveness import moves
from crewd.detection.options import Patience
from crewd.model.process import ProcessSeen, ProcessState
from crewd.model.run import Waiting
from crewd.model.verdict import Wedge

REMEDIES = {
    Wedge.TOOL_RUNNING: "A tool runs below it. Wait, or look at the tool: it may wait for input.",
    Wedge.API_STREAM_HANG: "A connection is open and nothing moves on it. Restart the attempt; resume its session.",
    Wedge.WAITING_HUMAN: "It waits for an answer. Answer it; nobody else will.",
    Wedge.RATE_LIMITED: "The provider asked it to wait. Retrying sooner makes it worse.",
    Wedge.AUTH_EXPIRED: "Its login is refused. Log in again; retries cannot help.",
    Wedge.CONTEXT_EXHAUSTED: "Its context is full. Start afresh with a summary; the same session cannot go on.",
    Wedge.CPU_LOOP: "It computes without progress. Look at its stack, then stop it.",
    Wedge.STOPPED: "It was stopped by a signal. `kill -CONT` lets it go on.",
    Wedge.DISK_FULL: "The disk is full: it cannot write its progress. Make room first.",
    Wedge.UNKNOWN: "No cheap evidence says why. `crewd explain` shows what was looked at.",
}

# Words of a worker's own last lines. Only a hint for a worker that is silent already, never evidence of death.
HINTS = (
    (Wedge.DISK_FULL, re.compile(r"no space left on device|\bENOSPC\b|disk quota exceeded", re.I)),
    (
        Wedge.AUTH_EXPIRED,
        re.compile(r"\b401\b|unauthori[sz]ed|token (has )?expired|invalid api key|not logged in", re.I),
    ),
    (Wedge.RATE_LIMITED, re.compile(r"\b429\b|rate.?limit|too many requests|usage limit|overloaded", re.I)),
    (Wedge.CONTEXT_EXHAUSTED, re.compile(r"context (window|length)|prompt is too long|maximum context", re.I)),
    (
        Wedge.WAITING_HUMAN,
        re.compile(r"\[y/n\]|\(y/n\)|permission (is )?required|do you want to (proceed|allow)", re.I),
    ),
)


def diagnose(
    process: ProcessSeen,
    waiting: Waiting | None,
    tool: str,
    hint: str,
    disk_full: bool,
    patience: Patience,
    streams: bool = False,
) -> Wedge:
    """Sort a living, silent worker into one class, from the strongest evidence to the weakest.

    `streams`: an agent whose every word is followed. With no tool open it waits for its model, also where its
    connections may not be seen.
    """
    if process.state is ProcessState.STOPPED:
        return Wedge.STOPPED
    if waiting is not None:
        return Wedge.RATE_LIMITED if waiting.reason == "throttled" else Wedge.WAITING_HUMAN
    if disk_full:
        return Wedge.DISK_FULL
    activity = process.activity
    if activity is not None and activity.tools:
        return Wedge.TOOL_RUNNING
    for wedge, pattern in HINTS:
        if hint and pattern.search(hint):
            return wedge
    if activity is None:
        return Wedge.API_STREAM_HANG if streams and not tool else Wedge.UNKNOWN
    if activity.cpu_ticks_per_second > 10 * patience.cpu_idle_ticks:
        return Wedge.CPU_LOOP
    if tool:
        return Wedge.TOOL_RUNNING
    if (streams or activity.sockets) and not moves(activity, patience, waits_for_model=streams):
        return Wedge.API_STREAM_HANG
    return Wedge.UNKNOWN
