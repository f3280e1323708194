"""A bundle about a run: whole, bounded, the same each time, and without a trace of any secret."""

import base64
import gzip
import hashlib
import io
import json
import tarfile
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from crewd.cli import bundle as bundles
from crewd.cli.bundle import Bundle
from crewd.model.event import Event
from crewd.model.run import TaskStatus
from crewd.model.snapshot import RunView
from crewd.telemetry.disguises import Veil
from crewd.telemetry.redact import Redactor
from tests.cli.contract import Contract, managed, serving
from tests.cli.contract import attempt as an_attempt
from tests.cli.contract import task as a_task
from tests.cli.managed_ledger import write_managed
from tests.cli.world import NOW, crewd, daemon, run, snapshot, task, worker, write_ledger

FILES = [
    "manifest.json", "README.txt", "run.json", "why.json", "tasks.jsonl", "attempts.jsonl", "evidence.jsonl",
    "events.jsonl", "own_events.jsonl", "incidents.jsonl", "dead_letters.jsonl", "recoveries.jsonl", "metrics.txt",
    "settings.json", "environment.json", "doctor.json", "versions.json",
]  # fmt: skip
# What a password may be at its worst; none of it is found by its look.
CANARIES = {
    "settings": 'canary-A/5+"q"\\z=%41 é-settings',
    "credentials": "canary-B-0123456789-credentials",
    "environment": "canary-C+/=?&-environment",
    "variable": "canary-D-of-an-executor-55",
    "daemon": "canary-E-token-of-the-daemon",
}


def diagnose(folder: Path, *arguments: str, run: str = "r-bad", environ: Mapping[str, str] | None = None) -> Result:
    return crewd("diagnose", run, *arguments, "--state-dir", str(folder), folder=folder, environ=environ)


def opened(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        members = archive.getmembers()
        assert all(each.isfile() and each.mode == 0o600 and each.uid == each.gid == 0 for each in members)
        found = {}
        for each in members:
            file = archive.extractfile(each)
            assert file is not None
            found[each.name.partition("/")[2]] = file.read().decode()
        return found


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    write_ledger(folder)
    return folder


@pytest.mark.parametrize("is_up", [True, False])
def test_everything_is_in_it_whoever_answers(state: Path, is_up: bool) -> None:
    out = state.parent / "out.tar.gz"
    if is_up:
        with daemon(state):
            result = diagnose(state, "-o", str(out))
    else:
        result = diagnose(state, "-o", str(out))
    assert result.exit_code == 0, result.output
    assert out.stat().st_mode & 0o777 == 0o600
    files = opened(out)
    assert list(files) == [name for name in FILES if is_up or name != "metrics.txt"]
    manifest = json.loads(files["manifest.json"])
    assert (manifest["schema_version"], manifest["run_id"], manifest["redacted"]) == (1, "r-bad", True)
    assert manifest["source"] == ("daemon" if is_up else "ledger")
    assert [each["name"] for each in manifest["files"]] == list(files)[1:]
    for each in manifest["files"]:
        data = files[each["name"]].encode()
        assert (each["bytes"], each["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert manifest["missing"].keys() == {"daemon.log"} | (set() if is_up else {"metrics.txt"})
    assert "pid 9 is gone" in files["evidence.jsonl"] and "pid 9 is gone" in files["why.json"]
    assert [json.loads(line)["task_id"] for line in files["tasks.jsonl"].splitlines()] == ["t1", "t2", "t3"]
    assert [json.loads(line)["seq"] for line in files["events.jsonl"].splitlines()] == [1, 2, 3]
    for name in manifest["missing"].keys() | files.keys() - {"README.txt"}:
        assert name in files["README.txt"]


def test_the_manifest_alone_can_be_had(state: Path) -> None:
    result = diagnose(state, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["files"][0]["name"] == "README.txt"
    assert list(state.parent.glob("*.gz")) == []


def test_a_file_that_is_there_is_kept_unless_it_is_to_be_replaced(state: Path) -> None:
    out = state.parent / "out.tar.gz"
    out.write_text("mine")
    assert diagnose(state, "-o", str(out)).exit_code == 77
    assert out.read_text() == "mine"
    link = state.parent / "link.tar.gz"
    link.symlink_to(state.parent / "nowhere")
    assert diagnose(state, "-o", str(link)).exit_code == 77
    assert diagnose(state, "-o", str(out), "--force").exit_code == 0
    assert "run.json" in opened(out)
    assert [path.name for path in state.parent.iterdir() if path.name.endswith(".tmp")] == []


def test_what_makes_no_sense_leaves_with_its_code(state: Path) -> None:
    assert diagnose(state).exit_code == 2
    assert diagnose(state, "--json", run="nobody").exit_code == 3
    assert diagnose(state.parent / "none", "--json").exit_code == 69
    assert diagnose(state, "-o", str(state / "no" / "such" / "folder.tar.gz")).exit_code == 1


def forms(secret: str) -> list[str]:
    """A secret as it may stand in a text, whole."""
    data = secret.encode()
    escaped = [json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]]
    return [
        secret, *escaped, *(json.dumps(each)[1:-1] for each in escaped), urllib.parse.quote(secret, safe=""),
        urllib.parse.quote(secret), urllib.parse.quote_plus(secret), data.hex(), data.hex().upper(),
        *(each.decode().strip("=")[:-1] for each in (base64.b64encode(data), base64.urlsafe_b64encode(data))),
    ]  # fmt: skip


def traces(secret: str) -> list[str]:
    """What would give it away: each form, and its middle within the Base64 of something larger."""
    return [*forms(secret), *(each[8:-8] for each in within(secret))]


def within(secret: str) -> list[str]:
    return [base64.b64encode(b"x" * before + secret.encode() + b"yyyyyy").decode() for before in range(3, 6)]


def everywhere(secret: str) -> str:
    """A text that has it in every form, and broken over two lines in its middle."""
    half = len(secret) // 2
    broken = [f"{secret[:half]}{each}{secret[half:]}" for each in ("\n", "\r\n")]
    return " | ".join([*forms(secret), *within(secret), *broken])


def none_is_in(whole: str) -> None:
    flat = "".join(whole.split("\n")).replace("\\n", "").replace("\\r", "").replace("\r", "")
    for name, secret in CANARIES.items():
        for form in traces(secret):
            assert form not in whole and form not in flat, (name, form)


@pytest.fixture
def secretive(tmp_path: Path) -> dict[str, str]:
    """Settings, credentials and variables that hold secrets; the environment that names them."""
    credentials = tmp_path / "credentials"
    credentials.mkdir(mode=0o700)
    (credentials / "api").write_text(CANARIES["credentials"])
    (credentials / "api").chmod(0o600)
    (tmp_path / "crewd.toml").write_text(
        f"""
[redact]
secrets = [{json.dumps(CANARIES["settings"])}]
[executors.claude]
command = ["true"]
env = {{ SOME_TOKEN = {json.dumps(CANARIES["variable"])}, HARMLESS = "but-not-shown" }}
"""
    )
    return {
        "CREWD_CONFIG": str(tmp_path / "crewd.toml"),
        "CREDENTIALS_DIRECTORY": str(credentials),
        "CREWD_TOKEN": CANARIES["daemon"],
        "MY_API_KEY": CANARIES["environment"],
        "LANG": f"C.{CANARIES['environment']}",
    }


@pytest.mark.parametrize("is_up", [True, False])
def test_no_canary_is_in_the_bundle_of_an_observed_run(
    tmp_path: Path, secretive: dict[str, str], is_up: bool
) -> None:
    text = everywhere("".join(CANARIES.values())) + " ".join(map(everywhere, CANARIES.values()))
    bad = run("r-bad", task("t1", TaskStatus.FAILED, error=text, title=text), task("t2"), goal=text)
    taken = snapshot(RunView(bad, "root", (worker("t2", because=text),)))
    failed = {"error": text, "nested": [{"deep": text}]}
    events = [Event("task.failed", NOW, failed, run_id="r-bad"), Event("daemon.degraded", NOW, {"error": text})]
    state = tmp_path / "state"
    write_ledger(state, taken, events)
    (state / "run.log").write_text(f"first {text}\nlast\n")
    out = tmp_path / "out.tar.gz"
    if is_up:
        with daemon(state, taken):
            result = diagnose(state, "-o", str(out), environ=secretive)
    else:
        result = diagnose(state, "-o", str(out), environ=secretive)
    assert result.exit_code == 0, result.output
    files = opened(out)
    none_is_in(json.dumps(files, ensure_ascii=False))
    none_is_in("\n".join(files.values()))
    none_is_in(result.output)
    assert "***" in files["daemon.log"] and "last" in files["daemon.log"]
    assert "but-not-shown" not in "".join(files.values())
    told = json.loads(files["environment.json"])["command"]
    assert told["MY_API_KEY"] is None and "CREWD_TOKEN" not in told
    for name, data in files.items():
        if name.endswith(".json"):
            json.loads(data)
        if name.endswith(".jsonl"):
            [json.loads(line) for line in data.splitlines()]


def test_no_canary_is_in_what_a_managed_run_wrote(tmp_path: Path, secretive: dict[str, str]) -> None:
    text = everywhere(CANARIES["credentials"]) + "\n" + everywhere(CANARIES["environment"]) + "\nthe end\n"

    def written(query: Mapping[str, str], _: Any) -> Any:
        data = text.encode()[int(query["offset"]) :]
        return 200, data, {"X-Crewd-Next-Offset": str(len(text.encode())), "X-Crewd-Ended": "true"}

    body = managed("failed", a_task("build", "dead_lettered", an_attempt(1, error=text)), run_id="r-1")
    routes = {
        "GET /api/v1/runs/r-1/managed": body,
        "GET /api/v1/runs/r-1/tasks/build/output": written,
        "GET /metrics": b"# nothing",
    }
    state, out = tmp_path / "state", tmp_path / "out.tar.gz"
    write_managed(state)
    with serving(state, Contract(routes)):
        result = diagnose(state, "-o", str(out), run="r-1", environ=secretive)
    assert result.exit_code == 0, result.output
    files = opened(out)
    none_is_in("\n".join(files.values()))
    assert files["output/build/1.stdout"].endswith("the end\n")
    assert files["output/build/1.stdout"].count("***") > 20
    assert json.loads(files["attempts.jsonl"])["task_id"] == "build"
    assert json.loads(files["dead_letters.jsonl"].splitlines()[0])["run_id"] == "r-1"


def test_what_is_too_much_is_cut_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "PIECE_BYTES_MAX", 400)
    monkeypatch.setattr(bundles, "BYTES_MAX", 700)
    made = Bundle(Redactor(), Veil([]))
    made.rows("first.jsonl", lambda: range(1000))
    made.rows("last.jsonl", lambda: range(1000), last=True)
    made.text("end.txt", lambda: "\n".join(map(str, range(1000))))
    made.text("no_room.txt", lambda: "x" * 150)
    made.value("large.json", lambda: ["x" * 200, "x" * 200])

    def fail() -> str:
        raise KeyError("task")

    made.text("failed.txt", fail)
    manifest = made.manifest({})
    files = {each["name"]: each for each in manifest["files"]}
    assert files["first.jsonl"]["cut"].startswith("the last ") and files["last.jsonl"]["cut"].startswith("the first ")
    assert made.pieces[0].data.startswith(b"0\n1\n") and made.pieces[1].data.endswith(b"998\n999\n")
    assert made.pieces[2].data.endswith(b"998\n999\n")
    assert manifest["missing"].keys() == {"no_room.txt", "large.json", "failed.txt"}
    assert "KeyError" in manifest["missing"]["failed.txt"]


def test_half_of_a_secret_is_not_left_where_a_text_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "PIECE_BYTES_MAX", 400)
    secret = "a-canary-0123456789-abcdefghij"
    for filler in range(170, 220):
        made = Bundle(Redactor(), Veil([secret]))
        made.text("a.txt", lambda filler=filler: f"{secret[:15]}\n{secret[15:]}\n{'x' * filler}\n")  # type: ignore[misc]
        made.text("b.txt", lambda: f"{secret[:15]}\n{secret[15:]}\nlast\n", lines_max=2)
        assert all(secret[15:].encode() not in piece.data for piece in made.pieces)
        assert made.pieces[-1].data == b"***\nlast\n"


def test_the_same_gives_the_same_bytes() -> None:
    def packed() -> bytes:
        made = Bundle(Redactor(), Veil([]))
        made.value("a.json", lambda: {"b": 1})
        return made.packed({"run_id": "r"}, "crewd-r", NOW)

    assert packed() == packed()
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(packed()))) as archive:
        assert archive.getnames() == ["crewd-r/manifest.json", "crewd-r/a.json"]
