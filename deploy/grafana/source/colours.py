"""What a colour means: the same on every dashboard."""

WELL = "green"
LOOK = "yellow"  # may need somebody soon
BAD = "orange"  # needs somebody today
ACT = "red"  # needs somebody now
WAITS = "blue"  # waits for a person or for a provider; nothing is broken
UNKNOWN = "purple"  # crewd cannot tell
NOTHING = "text"  # neither good nor bad

LEVELS = {"healthy": WELL, "warn": LOOK, "stale": BAD, "dead": ACT, "waiting": WAITS, "unreadable": UNKNOWN}
TROUBLES = {
    "silent": BAD,
    "stopped": UNKNOWN,
    "busy": LOOK,
    "exited": ACT,
    "hung": "dark-red",
    "presumed": "semi-dark-orange",
}
RUN_STATUSES = {
    "queued": NOTHING,
    "planning": NOTHING,
    "running": "semi-dark-green",
    "blocked": WAITS,
    "completed": WELL,
    "failed": ACT,
    "cancelled": LOOK,
    "unknown": UNKNOWN,
}
TASK_STATUSES = {
    "queued": NOTHING,
    "running": "semi-dark-green",
    "waiting": WAITS,
    "completed": WELL,
    "failed": ACT,
    "cancelled": LOOK,
    "skipped": NOTHING,
    "needs_attention": BAD,
    "unknown": UNKNOWN,
}
RUN_ENDS = {status: RUN_STATUSES[status] for status in ("completed", "failed", "cancelled")}
TASK_OUTCOMES = {"completed": WELL, "failed": ACT, "timed_out": BAD, "cancelled": LOOK, "skipped": NOTHING}
OUTCOMES = {"open": WAITS, "true": WELL, "false": ACT}
RECOVERIES = {"verified": WELL, "failed": ACT, "declined": NOTHING, "withdrawn": LOOK}
PLANS = {"planned": WAITS, "approved": LOOK, "applied": WELL, "failed": ACT}
REDRIVES = {"redriven": WELL, "discarded": NOTHING}
TOLD = {"sent": WELL, "failed": ACT, "dropped": NOTHING, "suppressed": WAITS}
SEVERITIES = {"critical": ACT, "warning": BAD, "info": WAITS}

THRESHOLDS = {"warn": LOOK, "stale": BAD, "hung": "dark-red", "dead": ACT}

# Steps of a number: from this value on, this colour.
Steps = tuple[tuple[float | None, str], ...]
PLAIN: Steps = ((None, NOTHING),)
ANY_ACTS: Steps = ((None, WELL), (1, ACT))
ANY_IS_BAD: Steps = ((None, WELL), (1, BAD))
ANY_LOOKS: Steps = ((None, WELL), (1, LOOK))
ANY_WAITS: Steps = ((None, WELL), (1, WAITS))
NONE_ACTS: Steps = ((None, ACT), (1, WELL))
# Seconds; patrol.interval is a minute at most.
LAST_ROUND: Steps = ((None, WELL), (75, LOOK), (180, ACT))


def steps(*bounds: tuple[float, str], first: str = WELL) -> Steps:
    """Steps that begin with `first`."""
    return ((None, first), *bounds)
