"""What an attempt may use, set on its shim from outside while it waits at the gate; the command inherits it."""

import math
import os
import resource
from collections.abc import Callable

from crewd.host.proc_stat import read_proc
from crewd.model.plan import Limits

CPU_GRACE = 5  # seconds from SIGXCPU, which a program may answer, to SIGKILL
FILES_MIN = 16  # with fewer the shim itself, which puts descriptors aside from 10 on, could not work
OOM_ABOVE_US = 100  # of 1000: where memory ends, an attempt is ended before crewd (proc(5), oom_score_adj)
OOM_MAX = 1000


def apply(pid: int, limits: Limits) -> list[str]:
    """Limit a process that has not begun; returns what could not be set, and why. Never raises OSError.

    `cpu_seconds`, `memory_bytes` and `files` hold for each process by itself. Memory is RLIMIT_DATA: private memory
    that can be written, touched or not; what is merely reserved does not count, of which node, Go and Java take
    gigabytes (RLIMIT_AS would end them at their start). Only a cgroup bounds an attempt as a whole.
    """
    complaints: list[str] = []

    def attempt(what: str, act: Callable[[], object]) -> None:
        try:
            act()
        except (OSError, ValueError) as error:
            complaints.append(f"{what}: {error}")

    if limits.cpu_seconds is not None:
        seconds = max(1, math.ceil(limits.cpu_seconds))
        attempt(f"cpu_seconds {seconds}", lambda: _limit(pid, resource.RLIMIT_CPU, seconds, seconds + CPU_GRACE))
    if limits.memory_bytes is not None:
        memory = limits.memory_bytes
        attempt(f"memory_bytes {memory}", lambda: _limit(pid, resource.RLIMIT_DATA, memory, memory))
    if limits.files is not None:
        files = max(FILES_MIN, limits.files)
        if files != limits.files:
            complaints.append(f"files {limits.files}: fewer than {FILES_MIN} leave no room to start; {files} are set")
        attempt(f"files {files}", lambda: _limit(pid, resource.RLIMIT_NOFILE, files, files))
    if limits.processes is not None:
        processes = limits.processes
        if os.geteuid() == 0:
            complaints.append(f"processes {processes}: the kernel does not hold root to it; only a cgroup does")
        attempt(f"processes {processes}", lambda: _limit(pid, resource.RLIMIT_NPROC, processes, processes))
    if limits.nice:
        attempt(f"nice {limits.nice}", lambda: os.setpriority(os.PRIO_PROCESS, pid, limits.nice))
    attempt("oom_score_adj", lambda: _offer_to_the_oom_killer(pid))
    return complaints


def _limit(pid: int, which: int, soft: int, hard: int) -> None:
    """Lower a limit; where the system's own is lower already, that one stays."""
    _, most = resource.prlimit(pid, which)
    if most != resource.RLIM_INFINITY:
        soft, hard = min(soft, most), min(hard, most)
    resource.prlimit(pid, which, (soft, hard))


def _offer_to_the_oom_killer(pid: int) -> None:
    # A service manager may protect crewd itself (OOMScoreAdjust=); what it runs must not inherit that.
    score = min(OOM_MAX, max(0, int(read_proc("/proc/self/oom_score_adj"))) + OOM_ABOVE_US)
    handle = os.open(f"/proc/{pid}/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(handle, b"%d" % score)
    finally:
        os.close(handle)
