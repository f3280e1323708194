"""Orphans: processes that outlived the run they belong to, and what is known of both."""

from collections.abc import Mapping

import msgspec

from crewd.model.process import Identity

# Variables of an environment that name a run. Whatever carries one says itself whose it is.
ATTEMPT_DIR = "CREWD_ATTEMPT_DIR"  # crewd: the folder of one attempt
STATE_ROOT, EVENTS_PATH = "PI_CREW_STATE_ROOT", "PI_CREW_EVENTS_PATH"  # pi-crew: the run's folder, a file in it
RUN_ID, BROKER_RUN_ID = "PI_CREW_RUN_ID", "PI_CREW_BROKER_RUN_ID"  # pi-crew: the run's id
TASK_ID = "PI_CREW_TASK_ID"
MARKS = (ATTEMPT_DIR, STATE_ROOT, EVENTS_PATH, RUN_ID, BROKER_RUN_ID, TASK_ID)


class Bystander(msgspec.Struct, frozen=True):
    """One living process of this user, as /proc shows it."""

    identity: Identity
    name: str
    letter: str  # state letter of /proc/PID/stat
    parent: int
    started_at: float  # wall time, from the boot clock
    rss: int = 0  # bytes of memory that are its own or shared, and in memory now
    marks: tuple[tuple[str, str], ...] = ()  # the variables of its environment that are in `MARKS`
    run_argument: str = ""  # what follows `--run-id` in its arguments; "" = nothing
    readable: bool = True  # its environment was read to its end
    session: int = 0  # pid of the process that leads its session; 0: not known
    terminal: int = 0  # device number of its controlling terminal; 0: it has none


class Owner(msgspec.Struct, frozen=True):
    """A run, or an attempt of a managed task, to whom processes may belong. Times are wall times, as written."""

    runtime: str
    run_id: str
    folder: str  # the run's; of a managed attempt its own
    task_id: str = ""  # of a managed attempt
    began_at: float | None = None
    ended_at: float | None = None  # None: it goes on


class Recorded(msgspec.Struct, frozen=True):
    """What an ended run's files say about the pid of one of its processes."""

    folder: str  # of its owner
    pid: int
    task_id: str = ""  # "" = the run's own runner
    not_before: float | None = None  # wall time before which the process meant cannot have started
    recorded_at: float | None = None  # wall time at which it ran, since its pid was written then
    start_ticks: int | None = None
    boot_id: str | None = None
    pid_namespace: int | None = None
    host: str | None = None
    local: bool = True  # False: the file lies on a network filesystem, and another machine may have written it


class Known(msgspec.Struct, frozen=True):
    """Everything that is known of runs, as far as it could be read. What is not in here is not known."""

    owners: Mapping[str, Owner] = {}  # folder -> owner
    ids: Mapping[str, tuple[Owner, ...]] = {}  # run id -> those observed runs that bear it
    recorded: Mapping[int, tuple[Recorded, ...]] = {}  # pid -> records of ended runs
    living: frozenset[int] = frozenset()  # pids that runs name which have not ended


class Proof(msgspec.Struct, frozen=True):
    """Why a process belongs to a run that has ended."""

    owner: Owner
    task_id: str
    because: str


class Spared(msgspec.Struct, frozen=True):
    """Why a process that has to do with runs is left alone."""

    because: str
    # Of a process that would be proven, had it not started after the end of this owner, or in a pid namespace of its
    # own: a child of an orphan does so.
    late_for: Owner | None = None
    serves: bool = False  # it would be proven, did it not serve others: a person should know of it


class Orphan(msgspec.Struct, frozen=True):
    """A process that outlived its run."""

    process: Bystander
    proof: Proof
    rss_with_children: int  # bytes; pages that they share are counted for each


class Sighting(msgspec.Struct, frozen=True):
    """What one search found."""

    orphans: tuple[Orphan, ...] = ()  # the oldest first
    spared: tuple[tuple[Bystander, Spared], ...] = ()
