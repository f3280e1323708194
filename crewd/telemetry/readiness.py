"""Readiness: whether crewd does its whole work. Metrics and pages say the same of it."""

from crewd.model.snapshot import Health


def is_ready(health: Health) -> bool:
    """Say whether crewd does its whole work: a round is complete, every part is ready, and none is degraded."""
    return health.round_number > 0 and all(health.parts.values()) and not health.degraded
