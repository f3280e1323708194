"""Genuine crew folders go on before the eyes of a real daemon, with real processes in the place of the recorded ones.

Each folder is copied, its pids become those of stand-ins that bear pi-crew's own marks, and its times move so that
its snapshot was taken just now. Whoever META.json says was dead then is killed while crewd watches.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from crewd.model.moment import parse_rfc3339, rfc3339
from tests.end_to_end.running import Crewd, Worker, crewd, events, eventually
from tests.fakes.receiver import Receiver

pytestmark = [pytest.mark.slow, pytest.mark.real_time, pytest.mark.xdist_group("genuine rescue")]

FORMATS = Path(__file__).parent.parent / "formats" / "pi_crew"
ORPHAN, KILLED, FROZEN = "runner-sigkill-orphan-worker", "killed-stale-pid", "running-dead-heartbeat"
GIVEN_UP, UNSEEN = "deadlettered", "harness-heartbeat-dead-deadletter"
FRESH, STREAMING = "running-fresh-heartbeat", "running-false-dead-streaming"
WAITING, COMPLETED, CANCELLED = "harness-waiting-and-blocked", "completed", "cancelled"
NAMES = (ORPHAN, KILLED, FROZEN, GIVEN_UP, UNSEEN, FRESH, STREAMING, WAITING, COMPLETED, CANCELLED)
FIRST, LATER, AGAIN = WHEN = ("its orphan lives", "all ended", "after a restart")
WELL = 8  # workers beside them that beat: five of nine that fall silent are a matter for the mass brake
LEAVING = 30.0  # seconds that processes of an ended run have to leave, before `crewd orphans` names them
TIME = re.compile(rb"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z|\b17952\d{8}\b")
PID = re.compile(rb'("(?:pid|childPid)":\s*)(\d+)')
IDLE = "import sys; sys.stdin.read()"  # lives until its parent lets go
# What tokens every while cost: some ticks, and some hundred bytes that come in.
STREAMS = """
import os, select, sys, time
inward, outward = os.pipe()
while not select.select([sys.stdin], [], [], 0.1)[0]:
    os.write(outward, bytes(400))
    os.read(inward, 400)
    until = time.process_time() + 0.01
    while time.process_time() < until:
        pass
"""


class Replayed:
    """One genuine folder that goes on."""

    def __init__(self, name: str, below: Path) -> None:
        self.name, self.project = name, below / name
        self.meta = json.loads((FORMATS / name / "META.json").read_text())
        self.source = FORMATS / name / "project"
        (folder,) = [*self.source.glob(".crew/state/runs/*")][:1]
        self.run = folder.name
        self.folder = self.project / folder.relative_to(self.source)
        self.stand_ins = {int(pid): self._stand_in(truth["why"].split()) for pid, truth in self.meta["pids"].items()}
        self.moved = time.time() - self.meta["snapshotEpochMs"] / 1000
        if name == CANCELLED:  # it ends now, so that its stand-ins are older than its end
            ended = json.loads((folder / "manifest.json").read_text())["updatedAt"]
            self.moved = time.time() - (parse_rfc3339(ended) or 0.0)
        for path in self.source.rglob("*"):
            if path.is_file():
                copy = self.project / path.relative_to(self.source)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(self._of_now(path.read_bytes()))

    def worker(self) -> "subprocess.Popen[bytes]":
        """Who works, or worked, on the last task that somebody works on."""
        pid = [pid for pid, truth in self.meta["pids"].items() if truth["why"].endswith("checkpoint.childPid")][-1]
        return self.stand_ins[int(pid)]

    def kill_the_dead(self) -> None:
        for pid, process in self.stand_ins.items():
            if not self.meta["pids"][str(pid)]["alive"]:
                kill(process)

    def beat(self, task: bool) -> None:
        """What a living runner renews; with `task` also what it renews for a worker that uses tools."""
        self._renew("heartbeat.json", lambda value: value.update(at=int(time.time() * 1000)))
        if task:
            now = {"lastSeenAt": rfc3339(time.time())}
            self._renew("tasks.json", lambda value: value[0]["heartbeat"].update(now))

    def _stand_in(self, why: list[str]) -> "subprocess.Popen[bytes]":
        run, *rest = why
        worker = rest[-1] == "checkpoint.childPid"
        marks = {"PI_CREW_RUN_ID": run, "PI_CREW_STATE_ROOT": str(self.folder), "PI_CREW_TASK_ID": rest[0]}
        script = STREAMS if worker and self.name == STREAMING else IDLE
        return subprocess.Popen(
            [sys.executable, "-c", script, *([] if worker else ["--run-id", run])],
            stdin=subprocess.PIPE,
            env={"PATH": os.environ["PATH"], **(marks if worker else {})},
        )

    def _of_now(self, data: bytes) -> bytes:
        data = data.replace(self.meta["project"].encode(), str(self.project).encode())
        data = PID.sub(self._pid, data)
        return TIME.sub(self._time, data)

    def _pid(self, found: "re.Match[bytes]") -> bytes:
        stand_in = self.stand_ins.get(int(found[2]))
        return found[0] if stand_in is None else found[1] + str(stand_in.pid).encode()

    def _time(self, found: "re.Match[bytes]") -> bytes:
        if found[0].isdigit():
            return str(int(found[0]) + int(self.moved * 1000)).encode()
        return rfc3339((parse_rfc3339(found[0].decode()) or 0.0) + self.moved).encode()

    def _renew(self, name: str, change: Any) -> None:
        path = self.folder / name
        value = json.loads(path.read_bytes())
        change(value)
        path.with_suffix(".new").write_text(json.dumps(value))
        path.with_suffix(".new").rename(path)


@dataclass
class Told:
    """What crewd said at one moment, by its commands; of each crew what is told of it."""

    plans: list[dict[str, Any]]
    letters: list[dict[str, Any]]
    incidents: list[dict[str, Any]]
    orphans: list[dict[str, Any]]
    notices: list[tuple[str, str, str]]  # kind, cause, subject


@dataclass
class Played:
    """The whole play: what was told when."""

    folders: dict[str, Replayed]
    at: dict[str, Told] = field(default_factory=dict)
    happened: list[dict[str, Any]] = field(default_factory=list)

    def run(self, name: str) -> str:
        return self.folders[name].run


def kill(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def ask(daemon: Crewd, *words: str, status: int = 0) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "crewd", *words, "--json", "--state-dir", str(daemon.state)],
        env={"PATH": os.environ["PATH"], "HOME": str(daemon.state.parent)},
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode in (0, status), done.stderr.decode()
    return json.loads(done.stdout)


def all_told(daemon: Crewd, folders: dict[str, Replayed], receiver: Receiver) -> Told:
    roots = [word for each in folders.values() for word in ("--root", str(each.project))]
    return Told(
        ask(daemon, "recover", "list")["recoveries"],
        ask(daemon, "deadletter", "list", "--state", "all")["dead_letters"],
        ask(daemon, "incidents", "list", "--state", "all")["incidents"],
        ask(daemon, "orphans", *roots, status=1)["orphans"],
        notices(receiver),
    )


def notices(receiver: Receiver) -> list[tuple[str, str, str]]:
    return [(each["kind"], each["cause"], each["subject"]) for got in receiver.got for each in got["notices"]]


def keep_going(folders: dict[str, Replayed], well: list[Worker], over: threading.Event) -> None:
    """Write what living runners and well workers write, until it is over."""
    while not over.wait(0.5):
        for name in (FRESH, STREAMING, FROZEN):
            folders[name].beat(task=name == FRESH)
        for worker in well:
            worker.beat()


def no_hold(daemon: Crewd) -> bool:
    return bool((daemon.get("/api/v1/status")[1] or {"health": {"hold": "?"}})["health"]["hold"] == "")


def play(folders: dict[str, Replayed], beats: Path, base: Path, receiver: Receiver) -> Played:
    played = Played(folders)
    began = time.monotonic()
    config = base / "crewd.toml"
    config.write_text(f'[notifications.channels.hook]\nurl = "{receiver.url}/hook"\nburst = 50\n')
    first, *others = [str(folders[name].project) for name in NAMES]
    words = [word for other in others for word in ("--root", other)]
    words += ["--beat-root", str(beats), "--config", str(config)]
    quick = {"CREWD_HEARTBEAT__HUNG_AFTER": "80s"}
    run = {name: each.run for name, each in folders.items()}

    def told(*wanted: tuple[str, str, str]) -> bool:
        return set(wanted) <= set(notices(receiver))

    with crewd(base / "state", Path(first), *words, **quick) as daemon:
        daemon.wait_ready()
        eventually(lambda: no_hold(daemon), daemon.process)
        for name in (KILLED, ORPHAN):
            folders[name].kill_the_dead()
        eventually(
            lambda: told(
                ("opened", "interrupted", run[KILLED]),
                ("opened", "stopped", f"{run[FROZEN]}/01_explore"),
                ("opened", "silent", f"{run[ORPHAN]}/02_execute"),
                ("opened", "dead", f"{run[UNSEEN]}/03_step2"),
            ),
            daemon.process,
        )
        time.sleep(3.5)  # rounds in which a letter, or what is wrong, might follow
        played.at[FIRST] = all_told(daemon, folders, receiver)
        kill(folders[ORPHAN].worker())
        eventually(lambda: told(("opened", "interrupted", run[ORPHAN])), daemon.process)
        time.sleep(3.5)
        played.at[LATER] = all_told(daemon, folders, receiver)
        daemon.kill()
    with crewd(base / "state", Path(first), *words, **quick) as daemon:
        daemon.wait_ready()
        eventually(lambda: no_hold(daemon), daemon.process)
        time.sleep(max(13.0, LEAVING + 2 - (time.monotonic() - began)))  # past the dead window, and its rounds
        played.at[AGAIN] = all_told(daemon, folders, receiver)
    played.happened = events(base / "state")
    return played


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    base = tmp_path_factory.mktemp("rescue")
    beats = base / "beats"
    beats.mkdir()
    over = threading.Event()
    with ExitStack() as stack, Receiver() as receiver:
        folders: dict[str, Replayed] = {}
        for name in NAMES:
            folders[name] = Replayed(name, base)
            for process in folders[name].stand_ins.values():
                stack.callback(kill, process)
        for name in (GIVEN_UP, COMPLETED):
            folders[name].kill_the_dead()
        cancelled = folders[CANCELLED]
        for process in cancelled.stand_ins.values():
            if process is not cancelled.worker():  # who, other than META.json says, outlived its run here
                kill(process)
        folders[FROZEN].worker().send_signal(signal.SIGSTOP)
        well = []
        for number in range(WELL):
            well.append(Worker(beats, "well", f"w{number}"))
            stack.callback(well[-1].end)
        keeper = threading.Thread(target=keep_going, args=(folders, well, over))
        keeper.start()
        stack.callback(keeper.join)
        stack.callback(over.set)
        yield play(folders, beats, base, receiver)


# What each folder calls for: plans (cause, to do, done, last event), letters (task, reason, whose), incidents
# (task, cause, state), and notices (kind, task, cause), each of them once. Without a task: of the whole run.


@dataclass(frozen=True)
class Calls:
    plans: tuple[tuple[str, tuple[str, ...], tuple[str, ...], int], ...] = ()
    letters: tuple[tuple[str, str, str], ...] = ()
    incidents: tuple[tuple[str, str, str], ...] = ()
    notices: tuple[tuple[str, str, str], ...] = ()


def opened(*known: tuple[str, str]) -> tuple[tuple[str, str, str], ...]:
    return tuple(("opened", task, cause) for task, cause in known)


def still_open(*known: tuple[str, str]) -> tuple[tuple[str, str, str], ...]:
    return tuple((task, cause, "open") for task, cause in known)


DEAD_AND_INTERRUPTED = (("01_explore", "dead"), ("", "interrupted"))
UNSEEN_DEAD = tuple((task, "dead") for task in ("01_step0", "02_step1", "03_step2"))
EXPECTED = {
    # Runner and worker are proven gone, and the run says that it goes on.
    KILLED: Calls(
        (("all_exited", ("01_explore", "02_execute", "03_verify"), (), 83),),
        (("01_explore", "heartbeat-dead", "crewd"),),
        still_open(*DEAD_AND_INTERRUPTED),
        opened(*DEAD_AND_INTERRUPTED),
    ),
    # Once its orphan ended too; while that was at work, it was alive and silent, and nothing may be begun beside it.
    ORPHAN: Calls(
        (("all_exited", ("02_execute", "03_verify"), ("01_explore",), 35),),
        (("02_execute", "heartbeat-dead", "crewd"),),
        (*still_open(("02_execute", "dead"), ("", "interrupted")), ("02_execute", "silent", "resolved")),
        (*opened(("02_execute", "silent"), ("02_execute", "dead"), ("", "interrupted")),
         ("resolved", "02_execute", "silent")),
    ),
    # META.json: the runner lives and the worker is only stopped (SIGSTOP). Whoever can go on with SIGCONT is not
    # dead: an alert, and neither a letter nor a plan.
    FROZEN: Calls((), (), still_open(("01_explore", "stopped")), opened(("01_explore", "stopped"))),
    # The run has ended, and its runtime gave up: its letter is merged; of an ended run nobody is alerted.
    GIVEN_UP: Calls((), (("01_explore", "max-retries", "pi_crew"),)),
    # No process is named, so that all three are presumed dead. Nobody knows whether a runner lives: no plan. One of
    # the three its runtime gave up itself, and that letter is the only one of it.
    UNSEEN: Calls(
        (),
        (("01_step0", "heartbeat-dead", "pi_crew"), ("02_step1", "heartbeat-dead", "crewd"),
         ("03_step2", "heartbeat-dead", "crewd")),
        still_open(*UNSEEN_DEAD),
        opened(*UNSEEN_DEAD),
    ),
    FRESH: Calls(),
    STREAMING: Calls(),
    WAITING: Calls(),
    COMPLETED: Calls(),
    CANCELLED: Calls(),
}  # fmt: skip
BEFORE = {
    **EXPECTED,
    ORPHAN: Calls((), (), still_open(("02_execute", "silent")), opened(("02_execute", "silent"))),
}


def said_of(folder: Replayed, told: Told) -> Calls:
    """What was told of one folder, in the form in which it is expected."""
    runs = {path.name for path in folder.folder.parent.iterdir()}

    def split(subject: str) -> str:
        return subject.partition("/")[2]

    plans = [each for each in told.plans if each["run_id"] in runs]
    assert {each["state"] for each in plans} <= {"planned"}
    assert all(each["offers"] == ["resume", "cancel"] for each in plans)
    return Calls(
        tuple(
            (each["cause"], tuple(each["resumable"]), tuple(each["preserved"]), each["event_seq"]) for each in plans
        ),
        tuple(
            (each["task_id"], each["reason"], "crewd" if each["key"].startswith("crewd:") else each["runtime"])
            for each in sorted(told.letters, key=lambda each: str(each["task_id"]))
            if each["run_id"] in runs and each["state"] == "open" and each["crew"] == folder.name
        ),
        tuple(
            (split(each["subject"]), each["cause"], each["state"])
            for each in told.incidents
            if each["subject"].partition("/")[0] in runs
        ),
        tuple((kind, split(on), cause) for kind, cause, on in told.notices if on.partition("/")[0] in runs),
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("when", WHEN)
def test_each_folder_has_what_it_calls_for_once_and_nothing_else(played: Played, name: str, when: str) -> None:
    said, wanted = said_of(played.folders[name], played.at[when]), (BEFORE if when == FIRST else EXPECTED)[name]
    assert said.plans == wanted.plans
    assert said.letters == wanted.letters
    assert Counter(said.incidents) == Counter(wanted.incidents)
    assert Counter(said.notices) == Counter(wanted.notices)


@pytest.mark.parametrize("when", WHEN)
def test_of_crewd_itself_and_of_the_workers_that_are_well_nothing_is_told(played: Played, when: str) -> None:
    told, runs = (
        played.at[when],
        {path.name for each in played.folders.values() for path in each.folder.parent.iterdir()},
    )
    assert [each["subject"] for each in told.incidents if each["subject"].partition("/")[0] not in runs] == []
    assert [each for each in told.notices if each[2].partition("/")[0] not in runs] == []
    assert all(each["state"] == "open" for each in told.letters)


def test_every_fact_was_told_by_one_event(played: Played) -> None:
    keys = [event["data"]["key"] for event in played.happened if event["type"] == "deadletter.added"]
    plans = [event["data"]["plan_id"] for event in played.happened if event["type"] == "recovery.planned"]
    begun = [
        (event["data"]["subject"], event["data"]["cause"])
        for event in played.happened
        if event["type"] == "incident.opened"
    ]
    for facts in (keys, plans, begun):
        assert facts and max(Counter(facts).values()) == 1
    late = played.at[AGAIN]
    assert set(keys) == {each["key"] for each in late.letters}
    assert set(plans) == {each["plan_id"] for each in late.plans}
    assert set(begun) == {(each["subject"], each["cause"]) for each in late.incidents}


def test_only_whoever_outlived_an_ended_run_is_an_orphan(played: Played) -> None:
    """The worker that outlived its runner is none: its run has not ended, and may go on with it."""
    worker = played.folders[CANCELLED].worker().pid
    assert [each["pid"] for each in played.at[FIRST].orphans] == []  # it may still leave by itself
    [found] = played.at[AGAIN].orphans
    assert (found["pid"], found["run_id"], found["task_id"]) == (worker, played.run(CANCELLED), "01_explore")


def test_nobody_of_the_watched_runs_was_touched(played: Played) -> None:
    """crewd acts on nothing here: who was alive is so, and what it read is as it was written."""
    for name in (FRESH, STREAMING, FROZEN, CANCELLED):
        assert played.folders[name].worker().poll() is None
    for name in (KILLED, GIVEN_UP, UNSEEN, WAITING, COMPLETED):
        folder = played.folders[name]
        here = {path.relative_to(folder.project) for path in folder.project.rglob("*") if path.is_file()}
        assert here == {path.relative_to(folder.source) for path in folder.source.rglob("*") if path.is_file()}
