"""The Debian package, held without building it; `make deb` builds it, and tries it in a clean Debian."""

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
from email.parser import Parser
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

from crewd.cli.completion import SHELLS
from crewd.host.assets import asset

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/deb"
SCRIPTS = [FOLDER / name for name in ("postinst", "prerm", "postrm")]
SCRIPTS += [ROOT / f"tests/deploy/{name}.sh" for name in ("deb", "deb_booted")]


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_deb", FOLDER / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_shell_understands_each_script(script: Path) -> None:
    done = subprocess.run(["sh", "-n", str(script)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert script.read_text().startswith("#!/bin/sh\n")
    assert re.search(r"^set -eu?$", script.read_text(), re.MULTILINE)


def test_nothing_is_started_and_no_state_is_taken_away() -> None:
    for script in SCRIPTS[:3]:
        text = script.read_text()
        assert not re.search(
            r"systemctl[^|\n]*\b(start|restart|try-restart|enable|preset)\b", re.sub("(?m)echo .*", "", text)
        )
        assert not re.search(r"deb-systemd-invoke[^|\n]* (start|restart)\b|deb-systemd-helper", text)
        removed = re.findall(r"(?m)^.*\brm\b.*$", text)
        assert all("/opt/crewd/lib -name __pycache__" in line for line in removed), removed
    assert "stop" not in SCRIPTS[0].read_text()


# What dpkg tells its scripts: dpkg(1), "Internal environment".
OF_DPKG = {"DPKG_MAINTSCRIPT_PACKAGE", "DPKG_MAINTSCRIPT_ARCH", "DPKG_MAINTSCRIPT_NAME", "DPKG_ROOT"}


def test_scripts_ask_for_nothing_that_dpkg_does_not_tell() -> None:
    assert {name for script in SCRIPTS[:3] for name in re.findall(r"\bDPKG_\w+", script.read_text())} <= OF_DPKG


@pytest.mark.skipif(Path("/run/systemd/system").exists(), reason="its systemd would be told to read its units anew")
@pytest.mark.parametrize(("former", "told"), [((), False), (("",), False), (("0.0.9-1",), True)])
def test_only_who_had_a_former_crewd_is_told_how_to_change_over(former: tuple[str, ...], told: bool) -> None:
    done = subprocess.run(["sh", SCRIPTS[0], "configure", *former], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and ("crewd handover" in done.stdout) is told


def test_the_control_file_is_one(build: ModuleType) -> None:
    given = {
        "version": "1-1",
        "architecture": "amd64",
        "size": 1,
        "depends": "python3",
        "maintainer": build.MAINTAINER,
    }
    text = (FOLDER / "control").read_text().format(**given)
    fields = Parser().parsestr(text)
    assert {"Package", "Version", "Architecture", "Maintainer", "Installed-Size", "Depends", "Description"} <= set(
        fields
    )
    assert fields["Package"] == "crewd" and text.endswith("\n")
    assert all(len(line) <= 80 for line in text.splitlines())


def test_what_the_package_takes_from_elsewhere_is_there(build: ModuleType) -> None:
    assert all("ExecStart=/usr/bin/crewd " in asset(name).read_text() for name in build.UNITS)
    assert tuple(build.COMPLETIONS) == SHELLS
    pinned = list(build._pinned(ROOT / "requirements-dev.lock", build.TOP))
    assert len(pinned) == len(build.TOP) and all("--hash=sha256:" in entry for entry in pinned)
    with pytest.raises(SystemExit, match="does not pin"):
        list(build._pinned(ROOT / "requirements.lock", ["textual"]))


def test_versions_are_ordered_as_they_are(build: ModuleType) -> None:
    versions = ["0.9", "1.0.dev1", "1.0a1", "1.0b2", "1.0rc1", "1.0", "1.0.1"]
    written = [build.debian_version(each) for each in versions]
    assert written[1:4:2] == ["1.0~~dev1-1", "1.0~b2-1"] and written[5] == "1.0-1"
    if shutil.which("dpkg") is None:
        pytest.skip("dpkg is not here: the order is not tried")
    for less, more in pairwise(written):
        assert subprocess.run(["dpkg", "--compare-versions", less, "lt", more]).returncode == 0, (less, more)


def test_only_the_standard_library_is_needed_to_build() -> None:
    body = ast.parse((FOLDER / "build.py").read_text()).body
    names = {alias.name for each in body if isinstance(each, ast.Import) for alias in each.names}
    names |= {str(each.module) for each in body if isinstance(each, ast.ImportFrom)}
    assert names and {name.partition(".")[0] for name in names} <= sys.stdlib_module_names
