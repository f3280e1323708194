"""Evidence for the judges: builders whose defaults are a healthy worker, and strategies over all that may be true."""

from hypothesis import strategies as st

from crewd.detection.liveness import Evidence
from crewd.detection.options import Thresholds
from crewd.model.process import Activity, Identity, ProcessSeen, ProcessState
from crewd.model.run import Waiting
from crewd.model.verdict import RANK, Level, Reason, Verdict

IDENTITY = Identity(pid=700, start_ticks=12_345, boot_id="boot-1", pid_namespace=1)
STILL = Activity(cpu_ticks_per_second=0.2, io_chars_per_second=8.0, sockets=0)

ALIVE = ProcessSeen(ProcessState.ALIVE, "pid 700 is alive", IDENTITY, "S")
STOPPED = ProcessSeen(ProcessState.STOPPED, "pid 700 is stopped", IDENTITY, "T")
EXITED = ProcessSeen(ProcessState.EXITED, "pid 700 is gone")
ELSEWHERE = ProcessSeen(ProcessState.HIDDEN, "pid 700 is on host b")


def alive(activity: Activity | None = STILL, letter: str = "S") -> ProcessSeen:
    """A living process that was looked at: by default nothing moves in it."""
    return ProcessSeen(ProcessState.ALIVE, "pid 700 is alive", IDENTITY, letter, activity)


def verdict(level: Level, reason: Reason = Reason.SILENT, row: int = 9) -> Verdict:
    return Verdict(level, reason, f"{level.value} for a test", row)


seconds = st.floats(min_value=0.0, max_value=1e6)
activities = st.builds(
    Activity,
    cpu_ticks_per_second=st.floats(min_value=0.0, max_value=400.0),
    io_chars_per_second=st.none() | st.floats(min_value=0.0, max_value=1e9),
    tools=st.sampled_from([(), ("pytest",), ("bash", "make")]),
    sockets=st.none() | st.integers(min_value=0, max_value=9),
)
processes = st.builds(
    ProcessSeen,
    state=st.sampled_from(ProcessState),
    why=st.just("as seen"),
    identity=st.none() | st.just(IDENTITY),
    letter=st.sampled_from(["", "R", "S", "D", "T", "I"]),
    activity=st.none() | activities,
)
waits = st.builds(Waiting, reason=st.sampled_from(["human", "throttled", "parked", "for the moon"]))
evidences = st.builds(
    Evidence,
    silence=seconds,
    process=processes,
    exit_confirmed=st.booleans(),
    waiting=st.none() | waits,
    lease_left=st.just(0.0) | seconds,
    tool=st.sampled_from(["", "bash"]),
    unread=st.sampled_from(["", "torn"]),
    unread_rounds=st.integers(min_value=0, max_value=5),
    fresh=st.booleans(),
    streams=st.booleans(),
    above=st.booleans(),
)
POSSIBLE = [  # what the table can say: level, reason, row
    (Level.WAITING, Reason.HUMAN, 1),
    (Level.WAITING, Reason.THROTTLED, 1),
    (Level.WAITING, Reason.PARKED, 1),
    (Level.DEAD, Reason.EXITED, 2),
    (Level.UNREADABLE, Reason.UNREADABLE, 3),
    (Level.WARN, Reason.STOPPED, 4),
    (Level.STALE, Reason.STOPPED, 4),
    (Level.HEALTHY, Reason.LEASED, 5),
    (Level.HEALTHY, Reason.BEATING, 6),
    (Level.HEALTHY, Reason.BUSY, 7),
    (Level.WARN, Reason.SILENT, 8),
    (Level.STALE, Reason.SILENT, 9),
    (Level.STALE, Reason.BUSY, 10),
    (Level.STALE, Reason.SILENT, 11),
    (Level.DEAD, Reason.HUNG, 12),
    (Level.DEAD, Reason.PRESUMED, 13),
]
verdicts = st.sampled_from([verdict(*each) for each in POSSIBLE])
degrees = st.builds(  # verdicts by silence, from healthy to dead
    Verdict, level=st.sampled_from(sorted(RANK)), reason=st.just(Reason.SILENT), because=st.just("so"), row=st.just(9)
)


@st.composite
def thresholds(draw: st.DrawFn) -> Thresholds:
    steps = [draw(st.floats(min_value=0.5, max_value=1000.0)) for _ in range(4)]
    warn, stale, dead = steps[0], sum(steps[:2]), sum(steps[:3])
    hung = dead + draw(st.just(0.0) | st.just(steps[3]))
    return Thresholds(warn, stale, dead, hung, startup_grace=draw(st.floats(min_value=0.0, max_value=600.0)))
