"""Runs as root inside the container: does what an operator does, and writes down what became of it, part by part.

Of the standard library alone; judged outside, in test_real_systemd.py.
"""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

ACCOUNT, UID = "ann", 4242
UNIT = f"crewd@{ACCOUNT}"
STATE = Path(f"/var/lib/crewd/{ACCOUNT}")
CONFIG = Path("/etc/crewd/crewd.toml")
TOKEN = "a-token-of-the-operator"
CHOSEN = '[http]\nport = 0\n[patrol]\ninterval = "1s"\nlook_timeout = "1s"\n[tasks]\ndrain_timeout = "2s"\n'
DROP_INS = Path("/opt/checkout/deploy/systemd/drop-ins")
# Counts as long as its file is there; whoever reads the numbers sees whether any is missing.
COUNTING = 'i=0; echo $$ > "$1.pid"; while [ -e "$1" ]; do echo $i; i=$((i+1)); sleep 0.05; done; echo done $i'
found: dict[str, Any] = {}


def said(*command: str, account: str = "", seconds: float = 60.0, **environ: str) -> tuple[int, str]:
    """Run a command; returns its exit code and everything it said."""
    if account:
        command = ("runuser", "-u", account, "--", "env", f"HOME=/home/{account}", *command)
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=seconds,
        env={
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "LANG": "C.UTF-8",
            "SYSTEMD_COLORS": "0",
            **environ,
        },
        cwd="/",
    )
    return done.returncode, done.stdout.decode("utf-8", "replace").strip()


def ann(*command: str, **environ: str) -> tuple[int, str]:
    """Run a command of crewd as the account whose agents they are."""
    return said("crewd", *command, account=ACCOUNT, CREWD_STATE_DIR=str(STATE), **environ)


def show(unit: str, *names: str, user: bool = False) -> dict[str, str]:
    _, text = (as_user if user else said)(
        "systemctl", *(["--user"] if user else []), "show", unit, f"-p{','.join(names)}"
    )
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def as_user(*command: str) -> tuple[int, str]:
    """Run a command as somebody who has logged in does."""
    return said(*command, account=ACCOUNT, XDG_RUNTIME_DIR=f"/run/user/{UID}")


def until(condition: Callable[[], Any], seconds: float = 30.0, every: float = 0.05) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s")
        time.sleep(every)
    return value


def inside() -> list[str]:
    """Whoever is in the control group of the unit: asked of the processes, as systemd tidies up when it likes."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cgroup"):
        with contextlib.suppress(OSError):  # it has just ended
            if UNIT in place.read_text():
                found.append(place.parent.name)
    return found


def main_pid() -> int:
    return int(show(UNIT, "MainPID")["MainPID"])


def status() -> str:
    return show(UNIT, "StatusText")["StatusText"]


def lives(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    return False


def attempts() -> list[int]:
    """Living processes of attempts of this crewd."""
    pids = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if f"CREWD_ATTEMPT_DIR={STATE}/".encode() in Path(f"/proc/{name}/environ").read_bytes() and lives(
                int(name)
            ):
                pids.append(int(name))
    return pids


def over_tcp(method: str, path: str, token: str = "", body: str = "{}") -> tuple[int, str]:
    """Ask the daemon. What is not about commands goes this way: a command costs a quarter of a second of CPU."""
    url = json.loads((STATE / "daemon.json").read_bytes())["url"]
    host, port = url.removeprefix("http://").rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    with contextlib.closing(connection):
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        connection.request(method, path, body if method == "POST" else None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def submit(name: str, script: str, *arguments: str) -> str:
    command = ["/bin/sh", "-c", script, name, *arguments]
    task = {"id": "t", "command": command, "cwd": "/", "retry": {"max_attempts": 1}}
    body = json.dumps({"run": {"name": name, "tasks": [task]}, "base": "/"})
    status, text = over_tcp("POST", "/api/v1/runs", TOKEN, body)
    assert status in (200, 201), text
    return str(json.loads(text)["run_id"])


def counting(name: str) -> tuple[str, Path, int]:
    """Start a task that counts; returns its run, the file that keeps it going, and its pid."""
    going = Path(f"/home/{ACCOUNT}/{name}.going")
    going.touch()
    os.chown(going, UID, UID)
    run_id = submit(name, COUNTING, str(going))
    pid = until(lambda: (pidfile := Path(f"{going}.pid")).exists() and pidfile.read_text().strip())
    return run_id, going, int(pid)


def drop_in(unit: str, name: str, text: str) -> None:
    path = Path(f"/etc/systemd/system/{unit}.service.d/{name}.conf")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    said("systemctl", "daemon-reload")


def part(name: str) -> Callable[[Callable[[], dict[str, Any]]], None]:
    """Do it now, and write down what it returns."""

    def do(act: Callable[[], dict[str, Any]]) -> None:
        began = time.monotonic()
        try:
            found[name] = act()
        except Exception as error:  # noqa: BLE001 - whatever it is, the other parts are tried
            found[name] = {"failed": "".join(traceback.format_exception(error))[-1500:]}
        found[name]["took"] = round(time.monotonic() - began, 2)
        Path("/out/found.json").write_text(json.dumps(found, indent=1))
        print(name, found[name]["took"], "failed" if "failed" in found[name] else "", flush=True)

    return do


until(lambda: said("systemctl", "is-active", "systemd-logind")[1] == "active")


@part("installed")
def _() -> dict[str, Any]:
    command = ("crewd", "install", "--system", "--user-name", ACCOUNT)
    stranger = said(*command, account="nobody")
    dry = said(*command, "--dry-run", "--json")
    untouched = not Path("/etc/systemd/system/crewd@.service").exists() and not CONFIG.exists()
    unknown = said("crewd", "install", "--system", "--user-name", "nemo")
    done = said(*command, "--json")
    again = said(*command)
    text = Path("/etc/systemd/system/crewd@.service").read_text()
    return {
        "stranger": stranger, "dry": dry, "untouched": untouched, "unknown": unknown, "done": done, "again": again,
        "text": text, "config": CONFIG.exists(), "version": said("systemctl", "--version")[1].splitlines()[0],
        "score": said("systemd-analyze", "security", "--no-pager", UNIT)[1].splitlines()[-1],
    }  # fmt: skip


@part("ready")
def _() -> dict[str, Any]:
    CONFIG.write_text(CHOSEN)
    Path("/etc/crewd/token").write_text(TOKEN + "\n")
    os.chmod("/etc/crewd/token", 0o600)
    drop_in(UNIT, "credentials", "[Service]\nLoadCredential=http__token:/etc/crewd/token\n")
    drop_in(UNIT, "quick", "[Service]\nWatchdogSec=6\n")
    began = time.monotonic()
    started = said("systemctl", "start", UNIT)
    seconds = time.monotonic() - began
    if started[0] != 0:
        print(said("journalctl", "-u", UNIT, "-o", "cat", "--no-pager", "-n", "40")[1], flush=True)
    return {
        "started": started, "seconds": seconds, "status": status(),
        "shown": show(UNIT, "ActiveState", "SubState", "NRestarts", "Type", "WatchdogUSec", "KillMode", "OOMPolicy"),
        "folders": [Path(f"{root}/crewd/{ACCOUNT}").is_dir() for root in ("/var/lib", "/var/log", "/run")],
        "owner": STATE.stat().st_uid, "mode": oct(STATE.stat().st_mode & 0o777),
    }  # fmt: skip


@part("credentials")
def _() -> dict[str, Any]:
    return {
        "without": over_tcp("POST", "/-/reload")[0],
        "wrong": over_tcp("POST", "/-/reload", "x" * 20)[0],
        "right": over_tcp("POST", "/-/reload", TOKEN)[0],
    }


@part("agents")
def _() -> dict[str, Any]:
    """What the programs of agents do: memory that is written and run, a sandbox of their own, home, /tmp."""
    script = (
        f"LD_LIBRARY_PATH={sys.base_prefix}/lib {sys.executable} -c"
        " 'import mmap; m = mmap.mmap(-1, 4096, prot=7); m.write(b\"x\")' && echo jit;"
        "unshare --user --map-root-user --mount true && echo sandbox;"
        "unshare --user --map-root-user --mount --pid --fork --mount-proc true && echo proc;"
        "touch ~/here && (cd /tmp && touch there) && echo home;"
        "ulimit -c; ulimit -Hc; touch /usr/no 2>/dev/null || echo system"
    )
    run_id = submit("agents", script)
    code, text = ann("wait", run_id, "--timeout", "20s")
    sandbox = ("unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc", "true")
    return {
        "waited": code, "text": text, "outside": said(*sandbox, account=ACCOUNT)[0],
        "said": ann("logs", run_id, "t")[1].split("\n"), "errors": ann("logs", run_id, "t", "--stderr")[1],
    }  # fmt: skip


@part("reload")
def _() -> dict[str, Any]:
    CONFIG.write_text(CHOSEN + '[heartbeat]\nwarn_after = "40s"\n[metrics]\nmax_crews = 7\n')
    good = said("systemctl", "reload", UNIT)
    CONFIG.write_text(CHOSEN + '[heartbeat]\nwarn_after = "41s"\n')
    by_hand = ann("reload")
    CONFIG.write_text(CHOSEN + '[heartbeat]\nwarn_afer = "40s"\nstale_after = "soon"\n')
    bad = said("systemctl", "reload", UNIT)
    refused = status()
    bad_by_hand = ann("reload")
    before = time.monotonic()
    until(lambda: time.monotonic() - before > 2.2)  # two rounds
    later, shown = status(), show(UNIT, "ActiveState", "SubState", "NRestarts")
    metric = re.findall(r"^crewd_config_last_reload_successful (\S+)", over_tcp("GET", "/metrics")[1], re.M)
    CONFIG.write_text(CHOSEN)
    said("systemctl", "kill", "--signal=HUP", "--kill-whom=main", UNIT)
    until(lambda: "refused" not in status())
    return {
        "good": good, "by_hand": by_hand, "bad": bad, "refused": refused, "bad_by_hand": bad_by_hand, "later": later,
        "shown": shown, "metric": metric, "after": show(UNIT, "ActiveState", "SubState"),
        "result": show(UNIT, "ReloadResult"),
    }  # fmt: skip


def watching() -> dict[str, Any]:
    """The strict drop-in: an account that systemd makes for it, and a crewd that runs nobody."""
    unit = "crewd@watcher"
    drop_in(unit, "watch-only", (DROP_INS / "watch-only.conf").read_text())
    started = said("systemctl", "start", unit)
    if started[0] != 0:
        print(said("journalctl", "-u", unit, "-o", "cat", "--no-pager", "-n", "40")[1], flush=True)
    told = show(unit, "ActiveState", "StatusText", "MainPID")
    uid = os.stat(f"/proc/{told['MainPID']}").st_uid if told["MainPID"] != "0" else 0
    score = said("systemd-analyze", "security", "--no-pager", unit)[1].splitlines()[-1]
    record = json.loads(Path("/var/lib/crewd/watcher/daemon.json").read_bytes())
    host, port = record["url"].removeprefix("http://").rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    connection.request("GET", "/metrics")
    metrics = connection.getresponse().read().decode()
    warnings = said("journalctl", "-u", unit, "-p", "warning", "-o", "cat", "--no-pager")[1]
    reload = said("systemctl", "reload", unit)
    in_use = said("crewd", "install", "--system", "--user-name", ACCOUNT, "--remove", "--dry-run")
    stopped = said("systemctl", "stop", unit)
    return {
        "started": started, "told": told, "uid": uid, "score": score, "warnings": warnings, "reload": reload,
        "process": "process_start_time_seconds" in metrics, "stopped": stopped, "in_use": in_use,
    }  # fmt: skip


def user() -> dict[str, Any]:
    """A user manager that lingers, as on a workstation or a server without a login."""
    no_manager = as_user("crewd", "install", "--user")
    linger = said("loginctl", "enable-linger", ACCOUNT)
    until(lambda: Path(f"/run/user/{UID}/systemd/private").exists())
    elsewhere = as_user("env", f"XDG_CONFIG_HOME=/home/{ACCOUNT}/elsewhere", "crewd", "install", "--user")
    dry = as_user("crewd", "install", "--user", "--dry-run")
    done = as_user("crewd", "install", "--user", "--json")
    config = Path(f"/home/{ACCOUNT}/.config/crewd/crewd.toml")
    made = config.exists()
    config.write_text(CHOSEN)
    started = as_user("systemctl", "--user", "enable", "--now", "crewd")
    told = show("crewd", "ActiveState", "StatusText", "MainPID", user=True)
    asked = as_user("crewd", "status")
    config.write_text(CHOSEN + "[nonsense]\n")
    bad = as_user("systemctl", "--user", "reload", "crewd")
    refused = show("crewd", "StatusText", user=True)["StatusText"]
    config.write_text(CHOSEN)
    good = as_user("systemctl", "--user", "reload", "crewd")
    ledger = Path(f"/home/{ACCOUNT}/.local/state/crewd/ledger.sqlite3")
    # A unit that somebody changed, and one that somebody else wrote, stay.
    unit = Path(f"/home/{ACCOUNT}/.config/systemd/user/crewd.service")
    text = unit.read_text()
    unit.write_text(text + "# mine\n")
    changed = as_user("crewd", "install", "--user")
    unit.write_text(text)
    over = as_user("crewd", "install", "--user")
    removed = as_user("crewd", "install", "--user", "--remove")
    after = show("crewd", "ActiveState", "LoadState", user=True)
    return {
        "no_manager": no_manager, "linger": linger, "elsewhere": elsewhere, "dry": dry, "done": done, "made": made,
        "started": started,
        "told": told, "asked": asked, "bad": bad, "refused": refused, "good": good, "changed": changed,
        "over": over, "removed": removed, "after": after, "left": [config.exists(), unit.exists(), ledger.exists()],
    }  # fmt: skip


def beside() -> None:
    """What takes its time and is nobody else's business."""
    part("watching")(watching)
    part("user")(user)


aside = threading.Thread(target=beside)
aside.start()


@part("widened")
def _() -> dict[str, Any]:
    """An interval that the watchdog of the unit would not survive."""

    def patience_after(settings: str) -> str:
        before = show(UNIT, "WatchdogUSec")
        CONFIG.write_text(settings)
        said("systemctl", "kill", "--signal=HUP", "--kill-whom=main", UNIT)
        until(lambda: show(UNIT, "WatchdogUSec") != before, every=0.2)
        return show(UNIT, "WatchdogUSec")["WatchdogUSec"]

    pid = main_pid()
    wide = patience_after(CHOSEN.replace('interval = "1s"', 'interval = "5s"'))
    began = time.monotonic()
    until(lambda: time.monotonic() - began > 6.3, every=0.3)
    told = show(UNIT, "NRestarts", "ActiveState")
    return {"wide": wide, "told": told, "back": patience_after(CHOSEN), "same": main_pid() == pid}


@part("journal")
def _() -> dict[str, Any]:
    lines = said("journalctl", "-u", UNIT, "-p", "warning", "-o", "cat", "--no-pager")[1].splitlines()
    every = said("journalctl", "-u", UNIT, "-o", "json", "--no-pager")[1].splitlines()
    records = [json.loads(line) for line in every]
    pairs = []
    for record in records:
        with contextlib.suppress(ValueError, TypeError, KeyError):
            pairs.append((record["PRIORITY"], json.loads(record["MESSAGE"])["level"]))
    if any("warning" in pair for pair in pairs):
        print(*lines, sep="\n", flush=True)
    return {"warnings": lines, "pairs": sorted(set(pairs))}


@part("watchdog")
def _() -> dict[str, Any]:
    run_id, going, worker = counting("hung")
    pid = main_pid()
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    until(lambda: main_pid() not in (0, pid) and show(UNIT, "SubState")["SubState"] == "running", 40, 0.3)
    seconds = time.monotonic() - began
    adopted = until(lambda: "attempt.adopted" in ann("events", "--run", run_id)[1])
    alive = lives(worker)
    told = show(UNIT, "NRestarts", "ActiveState")
    found["run"] = {"id": run_id, "going": str(going), "worker": worker}
    logged = said("journalctl", "-u", UNIT, "-o", "cat", "--no-pager", "-n", "60")[1]
    return {
        "seconds": seconds, "alive": alive, "adopted": adopted, "told": told,
        "watchdog": "atchdog timeout" in logged, "left_over": "left-over process" in logged,
    }  # fmt: skip


@part("handover")
def _() -> dict[str, Any]:
    run_id, going, worker = found["run"]["id"], Path(found["run"]["going"]), found["run"]["worker"]
    pid = main_pid()
    done = ann("handover")
    until(lambda: show(UNIT, "ActiveState")["ActiveState"] == "inactive")
    between = show(UNIT, "ActiveState", "Result", "ExecMainStatus")
    alive = lives(worker)
    said("systemctl", "restart", UNIT)
    same, after = lives(worker), main_pid()
    # As the page has it, in one line: the old one may still be about to end.
    ann("handover")
    at_once = said("systemctl", "restart", UNIT)
    same = same and lives(worker)
    going.unlink()
    code, _ = ann("wait", run_id, "--timeout", "20s")
    lines = ann("logs", run_id, "t")[1].splitlines()
    numbers = [*map(str, range(len(lines) - 1)), f"done {len(lines) - 1}"]
    return {
        "done": done, "between": between, "alive": alive, "same": same, "another": after not in (0, pid),
        "at_once": at_once, "waited": code, "whole": lines == numbers, "lines": len(lines), "last": lines[-2:],
    }  # fmt: skip


@part("stop")
def _() -> dict[str, Any]:
    short = submit("short", "sleep 1; echo whole")
    stubborn = submit("stubborn", "trap '' TERM; (setsid sleep 600 &) ; while :; do sleep 1; done")
    until(lambda: len(attempts()) >= 4)

    def looked() -> set[str]:
        places = set()
        for pid in attempts():
            with contextlib.suppress(OSError):  # it has just ended
                places.add(Path(f"/proc/{pid}/cgroup").read_text().splitlines()[-1])
        return places

    with contextlib.suppress(AssertionError):  # each is born beside crewd, and moved at once
        until(lambda: all(f"{UNIT}.service/" in place for place in looked()), 3)
    places = looked()
    limits = "cgroup.no_limits" in said("journalctl", "-u", UNIT, "-o", "cat", "--no-pager")[1]
    began = time.monotonic()
    stopped = said("systemctl", "stop", UNIT, seconds=90)
    seconds = time.monotonic() - began
    left = attempts()
    with contextlib.suppress(AssertionError):  # whoever was ended is in the group until init has heard of it
        until(lambda: not inside(), 10)
    group = show(UNIT, "ActiveState", "Result", "ExecMainStatus") | {"inside": inside()}
    return {
        "stopped": stopped, "seconds": seconds, "left": left, "group": group, "places": sorted(places),
        "limits": limits, "whole": ann("logs", short, "t")[1], "stubborn": ann("show", stubborn)[1],
    }  # fmt: skip


@part("bad_configuration")
def _() -> dict[str, Any]:
    CONFIG.write_text("[patrol]\nintervall = 3\n")
    started = said("systemctl", "start", UNIT)
    began = time.monotonic()
    until(lambda: time.monotonic() - began > 2.5)  # longer than RestartSec
    told = show(UNIT, "NRestarts", "ActiveState", "ExecMainStatus", "Result")
    logged = said("journalctl", "-u", UNIT, "-o", "cat", "--no-pager", "-n", "20")[1]
    CONFIG.write_text(CHOSEN)
    said("systemctl", "reset-failed", UNIT)
    return {"started": started, "told": told, "complaint": "did you mean" in logged, "logged": logged[-600:]}


aside.join()


@part("removed")
def _() -> dict[str, Any]:
    removed = said("crewd", "install", "--system", "--user-name", ACCOUNT, "--remove")
    return {
        "removed": removed,
        "left": [Path("/etc/systemd/system/crewd@.service").exists(), CONFIG.exists(), STATE.is_dir()],
    }
