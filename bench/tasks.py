"""1,000 no-op tasks end to end, 4 at once: a real `crewd serve`, bare posix_spawn, and the queues that others use."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench import peers
from bench.crews import MEMORY
from bench.peers import PEERS, Turn
from bench.result import Result, main
from bench.serving import cpu_seconds, serving

TASKS = 1000
AT_ONCE = 4
ROUNDS = 3
TURN_MAX = 20.0  # seconds: on a busy machine fewer tasks count
FLOOR_MIN = 0.5  # of the rate of bare posix_spawn
CPU_MAX = 0.5  # of Dramatiq's CPU time a task
DONE = "SELECT count(*) FROM managed_tasks WHERE run_id = ? AND state = 'completed'"
COMMAND, SHELL = "/bin/true", "/bin/sh"


def compare() -> list[Result]:
    """Give each a turn, `ROUNDS` times, each round beginning with another."""
    environment, missing = peers.install()
    with TemporaryDirectory(prefix="crewd-bench-") as name, peers.redis(Path(name, "redis")) as (port, pid, no_redis):
        folder = Path(name)
        works: dict[str, Callable[[int], Turn]] = {
            "floor": lambda turn: _floor(),
            "shim": lambda turn: _shims(),
            "crewd": lambda turn: _crewd(folder / f"crewd-{turn}"),
        }
        for peer in PEERS:
            why = missing.get(peer.package) or (no_redis if peer.needs_redis else "")
            if why:
                missing[peer.package] = why
                continue
            works[peer.name] = lambda turn, peer=peer: peers.measure(  # type: ignore[misc]
                peer, environment, port, pid, folder / f"{peer.package}-{turn}", TURN_MAX
            )
        turns: dict[str, list[Turn]] = {each: [] for each in works}
        order = list(works.items())
        for turn in range(ROUNDS):
            first = turn % len(order)
            for each, work in order[first:] + order[:first]:
                if each in turns:
                    _take_turn(each, work, turn, turns, missing)
    return _results(turns, missing)


def _take_turn(
    name: str, work: Callable[[int], Turn], turn: int, turns: dict[str, list[Turn]], missing: dict[str, str]
) -> None:
    try:
        found = work(turn)
    except (OSError, RuntimeError, ValueError) as error:
        if name in ("floor", "shim", "crewd"):
            raise
        missing[name.lower()] = str(error)
        del turns[name]
        return
    turns[name].append(found)
    print(f"tasks: {name}: {found.rate:.0f}/s, {found.cpu * 1000:.2f} ms CPU a task", file=sys.stderr)


def _floor() -> Turn:
    """Start and bury, with nothing else: what nobody who starts processes can go below."""
    return _start_and_bury(lambda: os.posix_spawn(COMMAND, (COMMAND,), os.environ))


def _shims() -> Turn:
    """The same with the shell that records a command's end: what crewd, which promises that, cannot go below."""
    script = f"{COMMAND}; echo $? >/dev/null"
    return _start_and_bury(lambda: os.posix_spawn(SHELL, (SHELL, "-c", script), os.environ))


def _start_and_bury(start: Callable[[], int]) -> Turn:
    before, began = cpu_seconds(os.getpid()), time.perf_counter()
    living: set[int] = set()
    for _ in range(TASKS):
        if len(living) == AT_ONCE:
            living.discard(os.waitpid(-1, 0)[0])
        living.add(start())
    while living:
        living.discard(os.waitpid(-1, 0)[0])
    return Turn(TASKS / (time.perf_counter() - began), (cpu_seconds(os.getpid()) - before) / TASKS, TASKS)


def _crewd(folder: Path) -> Turn:
    """One run of 1,000 tasks, from the request to its end on disk. As shipped, but for the pace and one folder.

    The ledger is on the disk of the temporary folder. The files of attempts need not survive a loss of power, and lie
    in memory where they can: on ext4 a new file costs a search among all that were deleted within minutes, which is
    whatever else happens to run on this machine.
    """
    run = {"tasks": [{"id": f"t{number}", "command": [COMMAND], "cwd": "/"} for number in range(TASKS)]}
    with (
        TemporaryDirectory(prefix="crewd-bench-", dir=MEMORY if MEMORY.is_dir() else None) as attempts,
        serving(folder, TASKS__MAX_PARALLEL=str(AT_ONCE), TASKS__START_RATE="0", TASKS__FOLDER=attempts) as daemon,
    ):
        before, began = cpu_seconds(daemon.pid), time.perf_counter()
        run_id = daemon.submit(run)
        daemon.wait_ended(run_id, TURN_MAX)
        elapsed = time.perf_counter() - began
        cpu = cpu_seconds(daemon.pid) - before
        done = daemon.rows(DONE, run_id)[0][0]
    return Turn(done / elapsed, cpu / max(1, done), done)


def _results(turns: dict[str, list[Turn]], missing: dict[str, str]) -> list[Result]:
    rates = {name: median(turn.rate for turn in each) for name, each in turns.items()}
    cpus = {name: median(turn.cpu for turn in each) for name, each in turns.items()}
    own, floor = rates["crewd"], rates["floor"]
    what = f"{TASKS:,} no-op tasks, {AT_ONCE} at once, durable"
    results = [
        Result(
            f"{what}: tasks/s", f"{own:.0f}/s", f"bare posix_spawn: {floor:.0f}/s", own / floor,
            f">= {FLOOR_MIN:g}", own / floor >= FLOOR_MIN, _short(turns["crewd"], TASKS).removeprefix("; "),
        ),
        Result(
            f"{what}: against a bare shell around each", f"{own:.0f}/s", f"posix_spawn of it: {rates['shim']:.0f}/s",
            own / rates["shim"], "", None,
        ),
    ]  # fmt: skip
    for peer in PEERS:
        if peer.name not in turns:
            why = missing.get(peer.package) or missing.get(peer.name.lower()) or "it was not measured"
            results.append(Result(f"{what}: ahead of {peer.name}", f"{own:.0f}/s", "absent", None, "> 1", None, why))
            continue
        rate = rates[peer.name]
        results.append(
            Result(
                f"{what}: ahead of {peer.name}", f"{own:.0f}/s", f"{peer.name}: {rate:.0f}/s", own / rate, "> 1",
                own > rate, f"{peer.how}{_short(turns[peer.name], peer.tasks)}",
            )
        )  # fmt: skip
    return results + _cpu(turns, cpus)


def _cpu(turns: dict[str, list[Turn]], cpus: dict[str, float]) -> list[Result]:
    """CPU time of the processes that take and give out work; the commands they run count nowhere."""
    own = cpus["crewd"]
    results = []
    for peer in PEERS:
        if peer.name not in turns:
            continue
        theirs = cpus[peer.name]
        broker = median(turn.broker_cpu for turn in turns[peer.name])
        is_target = peer.name == "Dramatiq"
        results.append(
            Result(
                f"CPU a task, against {peer.name}", f"{own * 1000:.2f} ms", f"{peer.name}: {theirs * 1000:.2f} ms",
                own / theirs, f"<= {CPU_MAX:g}" if is_target else "", own / theirs <= CPU_MAX if is_target else None,
                f"with its broker {(theirs + broker) * 1000:.2f} ms" if broker else "",
            )
        )  # fmt: skip
    return results


def _short(turns: list[Turn], tasks: int) -> str:
    fewest = min(turn.done for turn in turns)
    return f"; in one turn only {fewest} of {tasks} within {TURN_MAX:g} s" if fewest < tasks else ""


if __name__ == "__main__":
    main(compare, __doc__)
