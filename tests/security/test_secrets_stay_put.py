"""Secrets stay where they were put: planted in every place that may hold one, looked for in everything that is told.

A real crewd, with a channel, sinks and credentials; a run whose workers say their credential in every form they can
think of, a run of another program whose texts are full of secrets. Then every route, the streams, every format of an
export, the files of the sinks, the log, the messages of the channel, and the texts of every command that reads.
"""

import base64
import contextlib
import http.client
import json
import secrets
import sys
import tarfile
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from crewd.model.moment import rfc3339
from tests.cli.world import crewd as command
from tests.end_to_end.managed import OverSocket, ask, states, submit
from tests.end_to_end.running import Crewd, Worker, crewd, eventually

pytestmark = [pytest.mark.slow, pytest.mark.real_time]

RUN, OTHER, TASK = "run-1", "team_20260101000000_0123456789abcdef", "talk"
# What nobody could know by its look: blanks, quotes and all that has to be escaped somewhere.
PLANTED = {
    "credential": f'cr3d/"{secrets.token_hex(8)}"\\+=é',
    "plain credential": f"plain{secrets.token_hex(12)}",
    "setting": f"s3t+{secrets.token_hex(8)}/ting&=",
    "token": f"t0ken{secrets.token_hex(12)}",
    "webhook": f"h00k{secrets.token_hex(12)}",
    "variable": f"v4r{secrets.token_hex(12)}",
    "executor": f"ex3c{secrets.token_hex(12)}",
}
# What is known by its look, wherever it stands. Put together here, so that no scanner takes this file for a leak.
LOOKS = {
    "a key": "sk-" + "ant-api03-" + secrets.token_hex(20),
    "a password in an address": secrets.token_hex(12),
    "a bearer": secrets.token_hex(16),
}
SAID = (
    f"key {LOOKS['a key']} at postgres://me:{LOOKS['a password in an address']}@db/x, "
    f"Authorization: Bearer {LOOKS['a bearer']}"
)
TALK = """
import base64, json, os, pathlib, sys, time, urllib.parse
given = [os.environ["KEY"], os.environ["PLAIN"]]
for each in given:
    data = each.encode()
    forms = [
        each, json.dumps(each), json.dumps(each, ensure_ascii=False), json.dumps({"x": json.dumps(each)}),
        urllib.parse.quote(each, safe=""), urllib.parse.quote(each), urllib.parse.quote_plus(each), data.hex(),
        data.hex().upper(), base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode(),
        base64.b64encode(b"user:" + data).decode(), repr(each), "https://x/?key=" + urllib.parse.quote(each, safe=""),
    ]
    for form in forms:
        print("said", form, flush=True)
        print("failed:", form, file=sys.stderr, flush=True)
    print(*[each] * 300)
    half = len(each) // 2
    sys.stdout.write("half " + each[:half])
    sys.stdout.flush()
    pathlib.Path(sys.argv[1]).with_suffix(".halved").touch()
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.02)
    sys.stdout.write(each[half:] + "\\n")
    sys.stdout.flush()
print("failed with", *given, file=sys.stderr)
raise SystemExit(7)
"""
READING = [
    ["top", "--once"],
    ["status"], ["show", RUN], ["show", OTHER], ["explain", OTHER, "01_work"], ["why", RUN], ["why", OTHER],
    ["events"],
    ["events", "--run", RUN], ["incidents"], ["incidents", "list"], ["metrics"], ["metrics", "--window", "1d"],
    ["history"],
    ["history", "runs"], ["history", "tasks"], ["history", "attempts"], ["history", "stats"], ["history", "verify"],
    ["deadletter", "list"], ["deadletter", "show", f"managed:{RUN}/{TASK}/1"], ["recover", "list"], ["orphans"],
    ["logs", RUN, TASK],
    ["config", "show"], ["config", "show", "--origin"], ["config", "check"], ["doctor"], ["log-level"], ["man"],
    ["man", "serve"],
    ["export", RUN], ["export", OTHER], *(["export", RUN, "--format", form] for form in ("jsonl", "csv", "md")),
]  # fmt: skip


def forms(secret: str) -> set[str]:
    """Every form in which it would still be known, and each third of it that stands alone."""
    data = secret.encode()
    escaped = {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    coded = {base64.b64encode(b"\0" * before + data).decode()[4:-4] for before in range(3)}
    urls = {urllib.parse.quote(secret, safe=""), urllib.parse.quote(secret), urllib.parse.quote_plus(secret)}
    return {
        secret, *escaped, *(json.dumps(each)[1:-1] for each in escaped), *urls, data.hex(), data.hex().upper(),
        *coded, *(each.translate(str.maketrans("+/", "-_")) for each in coded),
    }  # fmt: skip


FORMS = {name: forms(secret) for name, secret in (PLANTED | LOOKS).items()}
# What a worker was given must not be known by its halves either, wherever an output was cut or asked for too early.
for given in ("credential", "plain credential"):
    FORMS[given] |= {PLANTED[given][: len(PLANTED[given]) // 2], PLANTED[given][-len(PLANTED[given]) // 2 :]}


def traces(text: str) -> list[str]:
    """Say which secrets a text gives away, and how. What is broken over two lines counts as well."""
    flat = text.replace("\\r", "").replace("\\n", "").replace("\r", "").replace("\n", "")
    return sorted(
        f"{name} as {form[:14]}..." for name, known in FORMS.items() for form in known if form in text or form in flat
    )


class Receiver:
    """A webhook: keeps what it is told."""

    def __init__(self) -> None:
        told = self.told = list[str]()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                told.append(self.rfile.read(int(self.headers["content-length"])).decode())
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *arguments: object) -> None:
                """Nobody reads it."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/{PLANTED['webhook']}"

    def __enter__(self) -> "Receiver":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(10)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


def test_no_secret_is_in_anything_that_is_told(tmp_path: Path, receiver: Receiver) -> None:
    environ = planted(tmp_path, receiver)
    state, go = tmp_path / "state", tmp_path / "go"
    other_program(tmp_path / "project")
    told: dict[str, str] = {}
    with crewd(state, tmp_path / "project", "--beat-root", str(tmp_path / "beats"), **environ) as running:
        running.wait_ready()
        worker = Worker(tmp_path / "beats", "beating", "t1")
        worker.beat(step=f"{PLANTED['setting']} {SAID}", message=f"{PLANTED['setting']} {SAID}")
        submit(running, the_run(tmp_path, go))
        with listening(running) as stream:
            eventually(go.with_suffix(".halved").exists, running.process)
            time.sleep(0.2)  # until what was written is there to be read
            for unfinished in ("true", "false"):
                told |= outputs(running, f"unfinished={unfinished}", when="halfway")
            go.touch()
            eventually(lambda: states(running, RUN).get(TASK) == "dead_lettered", running.process)
            worker.end()
            eventually(lambda: any("beating/t1" in each for each in receiver.told), running.process)
            told |= answers(running)
            told |= said_by_commands(tmp_path, state, environ, "up")
        told["stream"] = stream.text()
    told |= said_by_commands(tmp_path, state, environ, "down")
    for path in (running.log, *(path for path in state.rglob("*") if path.is_file())):
        if is_told(path.relative_to(tmp_path)):
            told[f"file {path.relative_to(tmp_path)}"] = path.read_bytes().decode("utf-8", "replace")
    told["channel"] = "\n".join(receiver.told)
    memory = b"".join(path.read_bytes() for path in state.glob("ledger.sqlite3*"))
    found = {where: which for where, text in told.items() if (which := traces(text))}
    many = sum(map(len, FORMS.values()))
    print(
        f"secrets: {len(FORMS)}, forms of them: {many}, outputs: {len(told)}, bytes: {sum(map(len, told.values()))}"
    )
    assert len(told) > 100
    assert "***" in told["stream"] and "***" in told["file state.log"] and "beating/t1" in told["channel"]
    for where, which in found.items():
        print("LEAK", where, which)
    assert found == {}
    # Not even crewd's own memory has what a worker was given.
    kept = [each for given in ("credential", "plain credential") for each in FORMS[given] if each.encode() in memory]
    assert kept == []


def is_told(path: Path) -> bool:
    """Whether a file is there to be read by others: not what workers wrote, and not crewd's own memory."""
    return "runs" not in path.parts and not path.name.startswith("ledger.")


def planted(folder: Path, receiver: Receiver) -> dict[str, str]:
    """Settings, credentials and variables that hold secrets; the environment that names them."""
    credentials = folder / "credentials"
    credentials.mkdir(mode=0o700)
    for name, which in (("api", "credential"), ("plain", "plain credential")):
        (credentials / name).write_text(PLANTED[which] + "\n")
        (credentials / name).chmod(0o600)
    (folder / "beats").mkdir()
    (folder / "crewd.toml").write_text(
        f"""
[redact]
secrets = [{json.dumps(PLANTED["setting"])}]
[executors.odd]
command = ["true"]
env = {{ ODD_TOKEN = {json.dumps(PLANTED["executor"])} }}
[notifications.channels.hook]
kind = "webhook"
url = {json.dumps(receiver.url)}
min_severity = "info"
"""
    )
    return {
        "CREWD_CONFIG": str(folder / "crewd.toml"),
        "CREWD_SECRETS__FOLDER": str(credentials),
        "CREWD_HTTP__TOKEN": PLANTED["token"],
    }


def the_run(folder: Path, go: Path) -> dict[str, Any]:
    """A run whose worker tells its credentials, and whose own words are full of them."""
    words = f"{PLANTED['setting']} {SAID}"
    talk = {
        "id": TASK, "command": [sys.executable, "-c", TALK, str(go)], "cwd": str(folder), "model": words,
        "secrets": {"KEY": "api", "PLAIN": "plain"}, "env": {"SOME_TOKEN": PLANTED["variable"]},
        "retry": {"max_attempts": 1},
    }  # fmt: skip
    return {
        "run_id": RUN,
        "name": words,
        "crew": "blue",
        "tasks": [talk, {**talk, "id": "after", "depends_on": [TASK]}],
    }


def other_program(project: Path) -> None:
    """A run of another program that failed with secrets in every text."""
    folder = project / ".crew/state/runs" / OTHER
    folder.mkdir(parents=True)
    now, words = rfc3339(time.time()), f"{PLANTED['setting']} {SAID}"
    known = {"schemaVersion": 1, "runId": OTHER, "team": words, "workflow": words, "goal": words, "status": "running"}
    manifest = {
        **known,
        "createdAt": now,
        "updatedAt": now,
        "cwd": str(project),
        "async": {"pid": 1, "spawnedAt": now},
    }
    task = {"id": "01_work", "runId": OTHER, "role": words, "agent": words, "title": words, "status": "failed",
            "error": words, "startedAt": now}  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "tasks.json").write_text(json.dumps([task]))
    line = {
        "time": now,
        "type": "task.failed",
        "runId": OTHER,
        "message": words,
        "metadata": {"seq": 1, "note": words},
    }
    (folder / "events.jsonl").write_text(json.dumps(line) + "\n")


def answers(running: Crewd) -> dict[str, str]:
    """What every route that reads answers, through both doors, for each run and task there is."""
    paths = ask(running, "GET", "/openapi.json")[1]["paths"]
    plans = [each["plan_id"] for each in ask(running, "GET", "/api/v1/recoveries")[1]["recoveries"]] or ["0" * 16]
    names = {"run": [RUN, OTHER, "beating"], "task": [TASK, "01_work", "t1"], "plan": plans}
    told = {}
    for template, methods in paths.items():
        if "get" not in methods or template.endswith("/output"):
            continue
        for path in {template.replace("{run}", run).replace("{task}", task).replace("{plan}", names["plan"][0])
                     for run in names["run"] for task in names["task"]}:  # fmt: skip
            for query in QUERIES.get(template, ("",)):
                told |= both(running, f"{path}{query}")
    for path in ("/", "/plain", "/openapi.json", "/metrics"):
        told |= both(running, path)
    return told | outputs(running, "limit=65536", when="after")


QUERIES = {
    "/api/v1/runs": ("", "?workers=true"),
    "/api/v1/events": ("?limit=1000", "?newest=true&limit=1000"),
    "/api/v1/deadletters": ("?state=all",),
    "/api/v1/deadletter": (f"?key=managed:{RUN}/{TASK}/1",),
    "/api/v1/incidents": ("?state=all",),
    "/api/v1/metrics/summary": ("?group_by=executor,error_class,crew", "?level=task&group_by=crew,runtime"),
    "/api/v1/runs/{run}/export": tuple(f"?format={form}" for form in ("json", "jsonl", "csv", "md")),
    "/api/v1/recoveries/{plan}": ("?output=true",),
}


def outputs(running: Crewd, query: str, when: str) -> dict[str, str]:
    """What the worker wrote, as it is told."""
    return {
        f"{when} {stream} {query}": both(running, f"/api/v1/runs/{RUN}/tasks/{TASK}/output?stream={stream}&{query}")[
            path
        ]
        for stream in ("stdout", "stderr")
        for path in [f"socket /api/v1/runs/{RUN}/tasks/{TASK}/output?stream={stream}&{query}"]
    }


def both(running: Crewd, path: str) -> dict[str, str]:
    """Ask through the socket and over TCP. Headers count as well."""
    host, port = (
        json.loads((running.state / "daemon.json").read_bytes())["url"].removeprefix("http://").rsplit(":", 1)
    )
    told = {}
    for door, connection in {
        "socket": OverSocket(running.state / "crewd.sock"),
        "tcp": http.client.HTTPConnection(host, int(port), timeout=20),
    }.items():
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            told[f"{door} {path}"] = str(answer.getheaders()) + answer.read().decode("utf-8", "replace")
            assert answer.status < 500 or path == "/readyz", (path, told)
    return told


class Stream:
    """Everything that a stream tells, from the first event on."""

    def __init__(self, running: Crewd) -> None:
        self.connection = OverSocket(running.state / "crewd.sock")
        self.connection.request("GET", "/api/v1/events?after=0&rounds=true", headers={"accept": "text/event-stream"})
        self.answer = self.connection.getresponse()
        self.pieces: list[bytes] = []
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            while piece := self.answer.read1():
                self.pieces.append(piece)

    def text(self) -> str:
        return b"".join(self.pieces).decode("utf-8", "replace")


@contextlib.contextmanager
def listening(running: Crewd) -> Iterator[Stream]:
    stream = Stream(running)
    try:
        yield stream
        deadline = time.monotonic() + 10
        while "incident." not in stream.text() and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        running.stop()  # which ends the stream
        stream.thread.join(10)
        stream.connection.close()


def said_by_commands(folder: Path, state: Path, environ: Mapping[str, str], when: str) -> dict[str, str]:
    """What every command that reads prints, as text and as JSON, and what is in a bundle."""
    told = {}
    named = {**environ, "CREWD_LEDGER__FOLDER": str(state)}
    for words in READING:
        for more in ([], ["--json"]):
            result = command(*words, *more, folder=folder, environ=named)
            assert result.exception is None or isinstance(result.exception, SystemExit), (words, result.exception)
            told[f"{when}: {' '.join([*words, *more])}"] = result.output
    for run in (RUN, OTHER):
        bundle = folder / f"{run}-{when}.tar.gz"
        result = command("diagnose", run, "-o", str(bundle), folder=folder, environ=named)
        assert result.exit_code == 0, result.output
        with tarfile.open(bundle) as archive:
            for each in archive.getmembers():
                file = archive.extractfile(each)
                assert file is not None
                told[f"{when}: diagnose {each.name}"] = f"{each.name} {file.read().decode()}"
    return told
