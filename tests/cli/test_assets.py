"""`crewd assets`: what is shipped, written whole over nothing that differs, and fit for another address and job."""

import errno
import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from crewd.cli.assets import PARTS, part_of
from crewd.cli.assets_fitted import ADDRESS, Fit, fitted
from crewd.errors import UsageProblem
from crewd.host import assets as shipped
from crewd.host.assets import RUNBOOKS, Target, asset, names
from crewd.host.writing import write_atomically
from tests.cli.world import crewd

URL, JOB, GRAFANA = "https://crewd.example:9999/team", "crewd-blue", "https://grafana.example/g"


@pytest.fixture(scope="module")
def dumped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything, for another address and job."""
    folder = tmp_path_factory.mktemp("dumped")
    result = crewd("assets", "dump", str(folder), "--url", URL, "--job", JOB, "--grafana", GRAFANA, folder=folder)
    assert result.exit_code == 0, result.output
    return folder


def umask() -> int:
    value = os.umask(0)
    os.umask(value)
    return value


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_file_belongs_to_a_part_that_says_what_to_do_with_it() -> None:
    parts = {part_of(name) for name in names()}
    assert parts <= set(PARTS) and {"systemd", "prometheus", "runbooks"} <= parts
    assert not [name for name in names() if name.startswith(("deb/", "grafana/source/")) or ".." in name]
    assert all(asset(name).is_file() for name in names())


def test_the_list_names_every_file_and_its_size(tmp_path: Path) -> None:
    told = json.loads(crewd("assets", "list", "--json", folder=tmp_path).stdout)
    assert [each["name"] for each in told] == names()
    assert {each["bytes"] for each in told} == {asset(name).stat().st_size for name in names()}
    shown = crewd("assets", "list", folder=tmp_path).stdout
    assert all(name in shown for name in names())
    only = json.loads(
        crewd("assets", "list", "--only", "systemd", "--only", "runbooks", "--json", folder=tmp_path).stdout
    )
    assert {each["part"] for each in only} == {"systemd", "runbooks"}


def test_a_dump_holds_the_bytes_that_are_shipped_and_says_what_to_do_next(tmp_path: Path) -> None:
    result = crewd("assets", "dump", str(tmp_path / "a/b"), folder=tmp_path)
    assert result.exit_code == 0, result.output
    assert files(tmp_path / "a/b") == {name: asset(name).read_bytes() for name in names()}
    for part in {part_of(name) for name in names()}:
        assert PARTS[part][1].partition("{}")[0].rstrip() in result.stdout, part
    assert stat.S_IMODE((tmp_path / "a/b/prometheus").stat().st_mode) == 0o755 & ~umask()
    for name in names():
        assert stat.S_IMODE((tmp_path / "a/b" / name).stat().st_mode) == 0o644, name
        assert not os.access(asset(name), os.X_OK), "a program: what is written has to be one too"


def test_a_second_dump_changes_nothing_and_says_so(tmp_path: Path) -> None:
    crewd("assets", "dump", str(tmp_path / "x"), "--only", "systemd", folder=tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "x").rglob("*")}
    told = json.loads(
        crewd("assets", "dump", str(tmp_path / "x"), "--only", "systemd", "--json", folder=tmp_path).stdout
    )
    assert {each["state"] for each in told["files"]} == {"unchanged"}
    assert told["next"].keys() == {"systemd"}
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "x").rglob("*")} == before


def test_what_differs_is_named_in_full_and_nothing_is_written_unless_forced(tmp_path: Path) -> None:
    target = tmp_path / "x"
    for name in ("prometheus/rules.yml", "systemd/crewd.service"):
        (target / name).parent.mkdir(parents=True)
        (target / name).write_text("mine\n")
    before = files(target)
    result = crewd("assets", "dump", str(target), folder=tmp_path)
    assert result.exit_code == 77
    assert "2 files" in result.stderr and "--force replaces it" in result.stderr
    assert all(name in result.stderr for name in before)
    assert files(target) == before
    result = crewd("assets", "dump", str(target), "--force", folder=tmp_path)
    assert result.exit_code == 0 and "1 replaced" in result.stdout
    assert files(target)["prometheus/rules.yml"] == asset("prometheus/rules.yml").read_bytes()
    assert not [name for name in files(target) if name.endswith(".tmp")]


def test_no_link_beneath_the_folder_is_followed(tmp_path: Path) -> None:
    target, outside = tmp_path / "x", tmp_path / "outside"
    (target / "systemd").mkdir(parents=True)
    outside.mkdir()
    victim = outside / "victim"
    victim.write_text("precious")
    (target / "systemd/crewd.service").symlink_to(victim)
    (target / "prometheus").symlink_to(outside)
    result = crewd("assets", "dump", str(target), folder=tmp_path)
    assert result.exit_code == 77
    assert "systemd/crewd.service: is a link" in result.stderr and "prometheus/rules.yml: a link" in result.stderr
    # Not even by force is a folder replaced by another: that link has to be moved by its owner.
    assert crewd("assets", "dump", str(target), "--force", folder=tmp_path).exit_code == 77
    (target / "prometheus").unlink()
    assert crewd("assets", "dump", str(target), "--force", folder=tmp_path).exit_code == 0
    assert not (target / "systemd/crewd.service").is_symlink()
    assert victim.read_text() == "precious" and [path.name for path in outside.iterdir()] == ["victim"]


def test_what_is_no_file_is_never_replaced_nor_waited_for(tmp_path: Path) -> None:
    (tmp_path / "x/systemd/crewd.service").mkdir(parents=True)
    os.mkfifo(tmp_path / "x" / RUNBOOKS)
    result = crewd("assets", "dump", str(tmp_path / "x"), "--force", folder=tmp_path)
    assert result.exit_code == 77 and result.stderr.count("is no file") == 2
    (tmp_path / "file").write_text("")
    result = crewd("assets", "dump", str(tmp_path / "file"), folder=tmp_path)
    assert result.exit_code == 1 and "name another" in result.stderr


def test_what_lies_in_the_way_is_read_only_as_far_as_it_could_be_the_same(tmp_path: Path) -> None:
    (tmp_path / "x/lnav").mkdir(parents=True)
    name = next(name for name in names() if part_of(name) == "lnav")
    (tmp_path / "x" / name).write_bytes(asset(name).read_bytes() + b"\n")
    result = crewd("assets", "dump", str(tmp_path / "x"), "--only", "lnav", folder=tmp_path)
    assert result.exit_code == 77 and "differs" in result.stderr
    target = Target(tmp_path / "x", make=False)
    try:
        os.truncate(tmp_path / "x" / name, 1 << 40)
        assert len(target.present(name, 10) or b"") == 10
    finally:
        target.close()


def test_a_full_disk_is_told_with_the_file_and_how_far_it_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, left = Target.write, [2]

    def filling(self: Target, name: str, data: bytes) -> None:
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left[0] -= 1
        write(self, name, data)

    monkeypatch.setattr(Target, "write", filling)
    result = crewd("assets", "dump", str(tmp_path / "x"), folder=tmp_path)
    assert result.exit_code == 1
    assert f"x/{names()[2]} cannot be written: No space left on device" in result.stderr
    assert f"2 of {len(names())} files written" in result.stderr and "call again" in result.stderr
    left[0] = 10_000
    result = crewd("assets", "dump", str(tmp_path / "x"), "--json", folder=tmp_path)
    assert [each["state"] for each in json.loads(result.stdout)["files"]].count("unchanged") == 2


def test_a_folder_that_becomes_a_link_meanwhile_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "x").mkdir()
    target = Target(tmp_path / "x", make=False)
    try:
        assert target.present("a/b", 1) is None
        (tmp_path / "x/a").symlink_to(tmp_path / "outside")
        with pytest.raises(NotADirectoryError):
            target.write("a/b", b"")
    finally:
        target.close()
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_folder_that_is_replaced_while_a_file_is_written_gets_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "x/a").mkdir(parents=True)

    def swapping(path: str, data: bytes, mode: int, durable: bool) -> None:
        (tmp_path / "x/a").rename(tmp_path / "x/was")
        (tmp_path / "x/a").symlink_to(tmp_path / "outside")
        write_atomically(path, data, mode, durable)

    monkeypatch.setattr(shipped, "write_atomically", swapping)
    target = Target(tmp_path / "x", make=False)
    try:
        target.write("a/b", b"1")
    finally:
        target.close()
    assert files(tmp_path) == {"x/was/b": b"1"}


def test_an_installation_that_is_not_whole_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path / "crewd")
    unit = tmp_path / "crewd/deploy/systemd/crewd.service"
    (unit.parent / "__pycache__").mkdir(parents=True)
    unit.touch()
    (unit.parent / "__pycache__/x.pyc").touch()
    result = crewd("assets", "list", folder=tmp_path)
    assert result.exit_code == 1 and "runbooks.md: missing from this installation; install crewd" in result.stderr
    (tmp_path / "crewd/deploy" / RUNBOOKS).touch()
    told = json.loads(crewd("assets", "list", "--json", folder=tmp_path).stdout)
    assert [each["name"] for each in told] == [RUNBOOKS, "systemd/crewd.service"]
    with pytest.raises(FileNotFoundError, match="install crewd again"):
        asset("systemd/crewd@.service")
    result = crewd("assets", "dump", str(tmp_path / "x"), "--only", "lnav", folder=tmp_path)
    assert result.exit_code == 3 and "nothing of lnav is shipped" in result.stderr and not (tmp_path / "x").exists()


def test_another_address_and_job_stand_wherever_the_shipped_ones_did(dumped: Path) -> None:
    links = boards = 0
    for name, data in files(dumped).items():
        text = data.decode()
        if part_of(name) in ("prometheus", "alertmanager", "grafana", "kubernetes", "runbooks"):
            assert ADDRESS not in text and "http://127.0.0.1:3000" not in text, name
            links += text.count(f"{URL}/runbooks#")
            boards += text.count(f"{GRAFANA}/d/crewd-")
            assert not re.search(r'job\s*=~?\s*\\?"crewd\\?"', text), name
        if name.startswith("prometheus/"):
            assert "127.0.0.1:9464" not in text, name
    assert links >= 20 and boards >= 20
    for name, document in documents(dumped):
        assert not list(jobs(document)), name
    rules = (dumped / "prometheus/rules.yml").read_text()
    assert "job:" in rules, "names of recording rules begin with a label, not with the job"


def documents(folder: Path) -> Iterator[tuple[str, Any]]:
    for name, data in files(folder).items():
        if name.endswith((".yml", ".yaml")):
            yield from ((name, each) for each in yaml.safe_load_all(data))
        elif name.endswith(".json"):
            yield name, json.loads(data)


def jobs(value: Any) -> Iterator[Any]:
    """Find what is still labelled with the shipped job."""
    if isinstance(value, dict):
        if "crewd" in (value.get("job"), value.get("job_name")):
            yield value
        for each in value.values():
            yield from jobs(each)
    elif isinstance(value, list):
        for each in value:
            yield from jobs(each)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here (Debian: apt install prometheus)")
def test_prometheus_takes_what_was_fitted(dumped: Path) -> None:
    folder = dumped / "prometheus"
    (folder / "crewd-token").touch()
    configurations = sorted(str(path) for path in folder.glob("prometheus*.yml"))
    for command in (["check", "config", *configurations], ["check", "rules", "rules.yml", "alerts.yml"]):
        done = subprocess.run(["promtool", *command], cwd=folder, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("url", "target", "more"),
    [
        ("http://crewd.example:9464", "crewd.example:9464", ""),
        ("http://crewd.example", "crewd.example:80", ""),
        ("http://crewd.example/", "crewd.example:80", ""),
        ("https://crewd.example", "crewd.example:443", "scheme: https"),
        ("http://[::1]:9464", "[::1]:9464", ""),
        ("https://x.example:1/a/b/", "x.example:1", "scheme: https and metrics_path: /a/b/metrics"),
    ],
)
def test_an_address_says_whom_prometheus_asks(url: str, target: str, more: str) -> None:
    assert (Fit(url).target, Fit(url).needs_more) == (target, more)


@pytest.mark.parametrize(
    "url",
    [
        "", "crewd.example:9464", "ftp://x", "http://", "http://x:0", "http://x:99999", "http://x:", "http://u:p@x",
        "http://[::1", "http://]", "http://[x]:1", "http://[]", "http://[[::1]]:9", "http://a[b]:1", "http://[::1]x:9",
        "http://-x", "http://x/?a=b", "http://x/#a", 'http://x"', "http://x y", "http://x\n", "http://{{ x }}", "http://x/$y",
    ],
)  # fmt: skip
def test_what_cannot_stand_in_every_file_is_no_address(url: str, tmp_path: Path) -> None:
    result = crewd("assets", "dump", str(tmp_path / "x"), "--url", url, folder=tmp_path)
    assert result.exit_code == 2 and "--url" in result.stderr and not (tmp_path / "x").exists()
    with pytest.raises(UsageProblem, match="--grafana"):
        Fit(grafana=url)


def test_an_address_may_be_that_of_the_other() -> None:
    text = f"{ADDRESS}/runbooks http://127.0.0.1:3000/d/x 127.0.0.1:9464 {ADDRESS}".encode()
    fit = Fit("http://127.0.0.1:3000/", grafana="http://127.0.0.1:9464/g/")
    shown = b"http://127.0.0.1:3000/runbooks http://127.0.0.1:9464/g/d/x 127.0.0.1:3000 http://127.0.0.1:3000"
    assert fitted("prometheus/x.yml", text, fit) == shown


@pytest.mark.parametrize("job", ["", 'a"', "a b", "a\\", "a\n", "{{a}}", "-a", "x" * 101, "ü", "a'"])
def test_what_would_need_escaping_is_no_job(job: str) -> None:
    with pytest.raises(UsageProblem, match="--job"):
        Fit(job=job)


@pytest.mark.parametrize("job", ["7", "null", "true", "ns/pod:x", "1e3"])
def test_a_job_is_a_text_whatever_it_looks_like(job: str) -> None:
    text = "scrape_configs:\n  - job_name: crewd # ours\n  - job_name: crewd-ready\nlabels: {job: x}\n"
    made = yaml.safe_load(fitted("prometheus/x.yml", text.encode(), Fit(job=job)))
    assert [each["job_name"] for each in made["scrape_configs"]] == [job, "crewd-ready"]
    record = fitted(
        "prometheus/x.yml", b'expr: sum by (job) (x{job="crewd"}) / on (job) y{job = "crewd"}', Fit(job=job)
    )
    assert record.decode() == f'expr: sum by (job) (x{{job="{job}"}}) / on (job) y{{job = "{job}"}}'
    panel = fitted("grafana/x.json", json.dumps({"expr": 'x{job="crewd"}', "job": "crewd"}).encode(), Fit(job=job))
    assert json.loads(panel) == {"expr": f'x{{job="{job}"}}', "job": job}


def test_what_is_no_text_and_the_inside_of_containers_stay_as_they_are() -> None:
    fit = Fit(URL, JOB)
    assert fitted("grafana/x.png", b"\xff\x00", fit) == b"\xff\x00"
    assert fitted("container/healthy.py", ADDRESS.encode(), fit) == ADDRESS.encode()
    assert fitted("systemd/crewd.service", b'job="crewd"', fit) == b'job="crewd"'
