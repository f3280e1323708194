"""The mass brake: when many fall silent at once, the cause is common, and acting on each would be a massacre."""

import msgspec

from crewd.detection.options import Patience

Worker = tuple[str, str]  # run id, task id


class Brake(msgspec.Struct, frozen=True):
    """Whether the brake is engaged, and the workers that fell silent lately without proof of an exit."""

    silent: tuple[tuple[Worker, float], ...] = ()  # worker, observed seconds at which it turned stale
    engaged_at: float | None = None  # observed seconds
    cohort: frozenset[Worker] = frozenset()  # those that made it engage

    @property
    def engaged(self) -> bool:
        return self.engaged_at is not None


RELEASED = Brake()


def brake_after(
    brake: Brake, turned_stale: frozenset[Worker], silent: frozenset[Worker], live: int, now: float,
    dead_window: float, patience: Patience,
) -> Brake:  # fmt: skip
    """Follow one round. `turned_stale`: who turned stale or worse just now, without exit evidence; `silent`: all
    who are so; `live`: how many workers are alive as far as is known; `now`: crewd's own running time in seconds.

    It engages when more than `brake_minimum` and more than `brake_share` of the live workers turned within one
    dead window. It lets go when at most half of those that engaged it are still silent: they recovered or ended.
    """
    kept = {worker: at for worker, at in brake.silent if worker in silent and at > now - dead_window}
    kept.update({worker: now for worker in turned_stale if worker not in kept})
    if brake.engaged:
        cohort = brake.cohort | turned_stale
        if 2 * len(cohort & silent) > len(cohort):
            return Brake(tuple(kept.items()), brake.engaged_at, cohort)
        return Brake(tuple(kept.items()))
    if len(kept) > max(patience.brake_minimum, patience.brake_share * live):
        return Brake(tuple(kept.items()), now, frozenset(kept))
    return Brake(tuple(kept.items()))
