"""The pids that the beats of one ended run name."""

from crewd.host.files import Root
from crewd.model.look import ReadResult
from crewd.model.orphan import Recorded
from crewd.model.run import TASK_ENDED
from crewd.sources.beat.form import SUFFIX, decode_beat, task_status
from crewd.sources.names import valid_id

BEATS_MAX = 10_000  # of one run


def recorded_pids(folder: str, run_id: str, file_max: int) -> list[Recorded]:
    """Read the pids that ended tasks name, with start and boot: without those a number proves nothing.

    Raises OSError where the folder cannot be listed.
    """
    found = []
    with Root(folder) as root:
        names = sorted(entry.name for entry in root.names() if entry.name.endswith(SUFFIX))
        for name in names[:BEATS_MAX]:
            got = root.read(name, file_max)
            beat = decode_beat(got.data).beat if got.result is ReadResult.OK else None
            if beat is None or beat.run != run_id or not valid_id(beat.task) or name != f"{beat.task}{SUFFIX}":
                continue
            if task_status(beat.status) in TASK_ENDED and beat.pid and beat.boot_id and beat.start_ticks is not None:
                found.append(
                    Recorded(
                        folder,
                        beat.pid,
                        beat.task,
                        start_ticks=beat.start_ticks,
                        boot_id=beat.boot_id,
                        pid_namespace=beat.pid_namespace,
                        host=beat.host,
                    )
                )
    return found
