"""Limits that are set from outside hold for the command, and what cannot be set is told."""

import os
import resource
from pathlib import Path

import pytest

from crewd.host.limits import CPU_GRACE, FILES_MIN, apply
from crewd.model.failure import Exit
from crewd.model.plan import Limits
from tests.fakes.workers import attempt, python
from tests.host.limits import ordinary_user

pytestmark = pytest.mark.real_time

SHOW = "from resource import *\n"
SHOW += "for n in (RLIMIT_CPU, RLIMIT_DATA, RLIMIT_NOFILE, RLIMIT_NPROC):\n print(*getrlimit(n))\n"
SHOW += "print(os.getpriority(os.PRIO_PROCESS, 0), open('/proc/self/oom_score_adj').read())"


def test_the_command_finds_every_limit(tmp_path: Path) -> None:
    limits = Limits(cpu_seconds=1.5, memory_bytes=1 << 30, files=64, processes=5000, nice=3)
    with attempt(tmp_path / "a", python(SHOW)) as this:
        complaints = apply(this.shim, limits)
        this.begin().end()
    assert [text for text in complaints if "root" not in text] == []
    cpu, data, files, processes, rest = this.stdout().decode().splitlines()[:5]
    assert cpu == f"2 {2 + CPU_GRACE}"
    assert (data, files, processes) == (f"{1 << 30} {1 << 30}", "64 64", "5000 5000")
    own = int(Path("/proc/self/oom_score_adj").read_text())
    assert rest == f"{os.getpriority(os.PRIO_PROCESS, 0) + 3} {min(1000, max(0, own) + 100)}"


def test_without_limits_only_the_oom_killer_knows_of_it(tmp_path: Path) -> None:
    with attempt(tmp_path / "a", ("sleep", "30")) as this:
        kinds = (resource.RLIMIT_CPU, resource.RLIMIT_DATA, resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC)
        before = [resource.prlimit(this.shim, kind) for kind in kinds]
        assert apply(this.shim, Limits()) == []
        assert [resource.prlimit(this.shim, kind) for kind in kinds] == before


def test_memory_that_is_taken_counts_and_what_is_reserved_does_not(tmp_path: Path) -> None:
    reserve = "import mmap\nmmap.mmap(-1, 1 << 36, prot=0, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\n"
    for name, code, end in (("reserves", reserve, 0), ("takes", "bytearray(1 << 29)", 1)):
        with attempt(tmp_path / name, python(code)) as this:
            assert apply(this.shim, Limits(memory_bytes=1 << 28)) == []
            ended = this.begin().end()
            assert ended is not None and ended.exit == Exit(code=end), this.stderr()


def test_who_uses_up_the_processor_is_ended(tmp_path: Path) -> None:
    with attempt(tmp_path / "a", python("while True: pass")) as this:
        assert apply(this.shim, Limits(cpu_seconds=0.1)) == []
        ended = this.begin().end()
        assert ended is not None and ended.exit == Exit(signal=24)


def test_too_few_descriptors_to_start_with_are_raised_and_told(tmp_path: Path) -> None:
    with attempt(tmp_path / "a", ("true",)) as this:
        (complaint,) = apply(this.shim, Limits(files=3))
        assert "files 3" in complaint and str(FILES_MIN) in complaint
        ended = this.begin().end()
        assert ended is not None and ended.exit == Exit(code=0)


def test_a_limit_of_the_system_is_never_raised(tmp_path: Path) -> None:
    with attempt(tmp_path / "a", ("sleep", "30")) as this:
        resource.prlimit(this.shim, resource.RLIMIT_NOFILE, (100, 200))
        assert apply(this.shim, Limits(files=1 << 20)) == []
        assert resource.prlimit(this.shim, resource.RLIMIT_NOFILE) == (200, 200)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user's process")
def test_what_may_not_be_set_is_told(tmp_path: Path) -> None:
    with attempt(tmp_path / "a", ("sleep", "30")) as this:
        with ordinary_user():
            complaints = apply(this.shim, Limits(cpu_seconds=1, nice=-5))
        assert [text.split(":")[0] for text in complaints] == ["cpu_seconds 1", "nice -5", "oom_score_adj"]
