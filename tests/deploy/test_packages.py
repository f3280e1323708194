"""Wheel and sdist: what is in them, that one makes the other, and that both tell of themselves what is so."""

import email
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from crewd import __version__
from crewd.host.assets import RUNBOOKS, SHIPPED, asset, names

hatchling = pytest.importorskip(
    "hatchling.builders.wheel", reason="hatchling is not installed: it is in the extra `dev`"
)

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
INFO = f"crewd-{__version__}.dist-info"
CLUTTER = re.compile(r"__pycache__|\.pyc$|\.venv|\.egg-info|_cache/|node_modules|\.hypothesis|/\.agents/")


def build(kind: str, root: Path, folder: Path) -> Path:
    """Build in this process, as a frontend without isolation does."""
    from hatchling.builders.sdist import SdistBuilder
    from hatchling.builders.wheel import WheelBuilder

    builder = {"wheel": WheelBuilder, "sdist": SdistBuilder}[kind](str(root))
    return Path(next(iter(builder.build(directory=str(folder), versions=["standard"]))))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return contents(build("wheel", ROOT, tmp_path_factory.mktemp("wheel")))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(build("sdist", ROOT, folder)) as archive:
        archive.extractall(folder, filter="data")
    return folder / f"crewd-{__version__}"


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_wheel_holds_the_code_what_is_shipped_and_nothing_else(wheel: dict[str, bytes]) -> None:
    code = {path.relative_to(ROOT).as_posix() for path in (ROOT / "crewd").rglob("*") if path.is_file()}
    code = {name for name in code if not CLUTTER.search(name)}
    shipped = {f"crewd/deploy/{name}": name for name in names()}
    own = {f"{INFO}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")}
    assert set(wheel) == code | set(shipped) | own
    assert {"crewd/py.typed", "crewd/web/assets/index.html", f"crewd/deploy/{RUNBOOKS}"} <= set(wheel)
    assert not [name for name in wheel if name.startswith(("tests/", "bench/", "docs/", "crewd/deploy/deb/"))]
    assert not [name for name in wheel if "/source/" in name or CLUTTER.search(name)]
    for path, name in shipped.items():
        assert wheel[path] == asset(name).read_bytes(), name


def test_what_is_shipped_is_named_once_here_and_there() -> None:
    included = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert included.pop(f"docs/{RUNBOOKS}") == f"crewd/deploy/{RUNBOOKS}"
    assert included == {f"deploy/{name}": f"crewd/deploy/{name}" for name in SHIPPED}


def test_an_installed_wheel_finds_what_it_ships(wheel: dict[str, bytes], tmp_path: Path) -> None:
    for name, data in wheel.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    code = "import json; from crewd.host.assets import names, root; print(json.dumps([str(root()), names()]))"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    told = subprocess.check_output([sys.executable, "-c", code], cwd=tmp_path, env=environment, timeout=60)
    assert json.loads(told) == [str(tmp_path / "crewd/deploy"), names()]


def test_the_wheel_tells_what_it_is(wheel: dict[str, bytes]) -> None:
    told = email.message_from_bytes(wheel[f"{INFO}/METADATA"])
    assert (told["Name"], told["Version"], told["Requires-Python"]) == ("crewd", __version__, ">=3.11")
    assert told["License-Expression"] == "MIT" and told["License-File"] == "LICENSE"
    assert told["Description-Content-Type"] == "text/markdown"
    told_of = told.get_payload(decode=True)
    assert isinstance(told_of, bytes)
    assert told_of.decode().strip() == (ROOT / "README.md").read_text().strip()
    assert told["Summary"] and len(told["Summary"]) < 200 and "\n" not in told["Summary"]
    wanted = [each for each in told.get_all("Requires-Dist", ()) if "extra ==" not in each]
    required = {name for each in wanted for name in re.findall(r"^[\w-]+", each)}
    locked = set(re.findall(r"(?m)^([\w.-]+)==", (ROOT / "requirements.lock").read_text()))
    assert required and required <= locked
    assert wheel[f"{INFO}/entry_points.txt"].decode().split() == [
        "[console_scripts]",
        "crewd",
        "=",
        "crewd.__main__:main",
    ]
    assert "Root-Is-Purelib: true" in wheel[f"{INFO}/WHEEL"].decode()


def test_classifiers_are_ones_that_an_index_knows() -> None:
    known = pytest.importorskip("trove_classifiers", reason="trove-classifiers comes with hatchling").classifiers
    assert set(PROJECT["project"]["classifiers"]) <= known


def test_the_sdist_makes_the_same_wheel(wheel: dict[str, bytes], sdist: Path, tmp_path: Path) -> None:
    assert contents(build("wheel", sdist, tmp_path)) == wheel


def test_the_sdist_holds_what_is_needed_to_test_and_to_package(sdist: Path) -> None:
    there = {path.relative_to(sdist).as_posix() for path in sdist.rglob("*") if path.is_file()}
    for needed in ("tests/conftest.py", "deploy/deb/build.py", "deploy/grafana/source", "docs/runbooks.md",
                   "Makefile", "requirements.lock", "config/crewd.toml", "LICENSE", "PKG-INFO"):  # fmt: skip
        assert any(name == needed or name.startswith(f"{needed}/") for name in there), needed
    assert not [name for name in there if CLUTTER.search(name)]
    assert not [
        name
        for name in there
        if PurePosixPath(name).parts[0].startswith(".") and name not in (".gitignore", ".containerignore")
    ]


def test_neither_takes_up_an_environment_that_lies_about(sdist: Path, tmp_path: Path) -> None:
    """As in a checkout in which somebody works: environments of another name, caches, a build of before."""
    stray = tmp_path / "checkout"
    shutil.copytree(sdist, stray, ignore=shutil.ignore_patterns("formats", "frozen", "images"))  # large, and alike
    before = {path.relative_to(stray) for path in stray.rglob("*")}
    for name in ("env/bin/python", "env/pyvenv.cfg", "dist/crewd-0.whl", "crewd/__pycache__/x.cpython-311.pyc",
                 ".tox/x", "deploy/systemd/__pycache__/x.pyc", "node_modules/x.js"):  # fmt: skip
        (stray / name).parent.mkdir(parents=True, exist_ok=True)
        (stray / name).write_text("")
    with tarfile.open(build("sdist", stray, tmp_path / "made")) as archive:
        files = {Path(*PurePosixPath(member.name).parts[1:]) for member in archive.getmembers() if member.isfile()}
    assert files <= before, files - before
    assert not [name for name in contents(build("wheel", stray, tmp_path / "made")) if CLUTTER.search(name)]
