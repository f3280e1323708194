"""Build the Debian package: `python deploy/deb/build.py --output FOLDER`, in a checkout, on the release it is for.

It holds an environment of its own, /opt/crewd, of exactly what requirements.lock names, checked by hash; of Debian it
needs the interpreter that it was built with, and nothing else. uv makes that environment, since it can make one that
may be moved; it is found in PATH, or named with --uv. The same sources, uv and interpreter give the same bytes; the
time within the package is that of $SOURCE_DATE_EPOCH, or of the last commit. Imports the standard library alone.
"""

import argparse
import email.parser
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from email.utils import formatdate
from pathlib import Path

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
MAINTAINER = "The crewd authors <crewd@example.org>"
REVISION = 1
# What `crewd top` needs besides; pinned in the other lock.
TOP = ("textual", "linkify-it-py", "mdit-py-plugins", "platformdirs")
SCRIPTS = ("postinst", "prerm", "postrm")
COMPLETIONS = {
    "bash": "usr/share/bash-completion/completions/crewd",
    "zsh": "usr/share/zsh/vendor-completions/_crewd",
    "fish": "usr/share/fish/vendor_completions.d/crewd.fish",
}
UNITS = {
    "systemd/crewd.service": "usr/lib/systemd/user/crewd.service",
    "systemd/crewd@.service": "usr/lib/systemd/system/crewd@.service",
}
HOME = "opt/crewd"
# Where it lies is known: nothing that an account sets for its own Python reaches it.
COMMAND = """#!/opt/crewd/bin/python -I
import sys

from crewd.__main__ import main

sys.exit(main())
"""
# Parts of what is imported that nothing here uses: command lines and extensions of SQLite, tests. 4 of 9 MB.
UNUSED = ("apsw/sqlite_extra_binaries", "apsw/tests")


def main() -> None:
    options = _options()
    began = time.monotonic()
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or _last_commit())
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch), "UV_NO_CONFIG": "1", "LC_ALL": "C.UTF-8"}
    with tempfile.TemporaryDirectory(prefix="crewd-deb-") as folder:
        scratch, tree = Path(folder), Path(folder, "tree")
        wheel = options.wheel or _build_wheel(scratch, options.uv, options.python, environment)
        _make_home(tree / HOME, scratch, wheel, options, environment)
        crewd = [str(tree / HOME / "bin/crewd")]
        version = subprocess.check_output([*crewd, "--version"], text=True).split()[1]
        site = next((tree / HOME / "lib").glob("python*/site-packages"))
        _add_system_files(tree, site, crewd, environment)
        _add_documents(tree, site, debian_version(version), epoch)
        (tree / HOME / "bin/crewd").write_text(COMMAND)
        _clean(tree)
        control = _control(tree, debian_version(version), options.python)
        made = _pack(tree, control, options.output, debian_version(version), epoch, environment)
    sys.stdout.write(
        f"{made}: {made.stat().st_size / 1e6:.1f} MB, {time.monotonic() - began:.0f} s, sha256 {_sha256(made)}\n"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Build the Debian package of crewd.")
    parser.add_argument("--output", type=Path, default=Path("dist"), help="folder for the package (dist)")
    parser.add_argument("--wheel", type=Path, help="a wheel that is built already")
    parser.add_argument("--python", default="/usr/bin/python3", help="interpreter of Debian (/usr/bin/python3)")
    parser.add_argument("--uv", default=shutil.which("uv"), help="the program uv (the one in PATH)")
    options = parser.parse_args()
    missing = [name for name in ("dpkg-deb", "dpkg") if shutil.which(name) is None]
    if options.uv is None:
        missing.append("uv (name it with --uv)")
    if missing:
        sys.exit(f"build.py: not here: {', '.join(missing)}")
    options.python = os.path.realpath(options.python)
    return options


def _last_commit() -> str:
    done = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit("build.py: no checkout of git, and so no time for the package: set SOURCE_DATE_EPOCH")
    return done.stdout.strip()


def _build_wheel(scratch: Path, uv: str, python: str, environment: dict[str, str]) -> Path:
    _run([uv, "build", "--quiet", "--wheel", "--python", python, "--out-dir", scratch / "wheel", ROOT], environment)
    return next((scratch / "wheel").glob("*.whl"))


def _make_home(
    home: Path, scratch: Path, wheel: Path, options: argparse.Namespace, environment: dict[str, str]
) -> None:
    """Make the environment: what the locks name, by hash, and the wheel; without what only installers need."""
    home.parent.mkdir(parents=True)
    _run([options.uv, "venv", "--quiet", "--relocatable", "--python", options.python, home], environment)
    top = scratch / "top.lock"
    top.write_text("".join(_pinned(ROOT / "requirements-dev.lock", TOP)))
    install = [options.uv, "pip", "install", "--quiet", "--link-mode", "copy", "--python", home / "bin/python"]
    # --no-deps: the locks are whole, and whatever they do not name must not come in.
    for lock in (ROOT / "requirements.lock", top):
        _run([*install, "--no-deps", "--require-hashes", "-r", lock], environment)
    _run([*install, "--no-deps", wheel], environment)
    _run([options.uv, "pip", "check", "--quiet", "--python", home / "bin/python"], environment)
    for path in (home / "bin").iterdir():
        if path.name != "crewd" and not path.name.startswith("python"):
            path.unlink()
    for name in (".gitignore", ".lock", "CACHEDIR.TAG"):
        (home / name).unlink(missing_ok=True)


def _pinned(lock: Path, names: Iterable[str]) -> Iterator[str]:
    """Take some packages out of a lock, each with its hashes."""
    wanted = set(names)
    for entry in re.split(r"(?m)^(?=\S)", lock.read_text()):
        name = entry.partition("==")[0]
        if name in wanted:
            wanted.remove(name)
            yield entry
    if wanted:
        sys.exit(f"build.py: {lock} does not pin {', '.join(sorted(wanted))}")


def _add_system_files(tree: Path, site: Path, crewd: list[str], environment: dict[str, str]) -> None:
    assets = site / "crewd/deploy"
    for name, place in UNITS.items():
        unit = (assets / name).read_text()
        if "ExecStart=/usr/bin/crewd " not in unit:
            sys.exit(f"build.py: {name} does not start /usr/bin/crewd, where this package puts it")
        _write(tree / place, unit)
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "usr/bin/crewd").symlink_to(f"/{HOME}/bin/crewd")
    (tree / "usr/share").mkdir(parents=True, exist_ok=True)
    (tree / "usr/share/crewd").symlink_to(f"/{assets.relative_to(tree)}")
    for shell, place in COMPLETIONS.items():
        _write(tree / place, subprocess.check_output([*crewd, "completion", shell], text=True, env=environment))
    man = tree / "usr/share/man/man1"
    _run([*crewd, "man", "--write", man], environment)
    for page in sorted(man.iterdir()):
        _compress(page)


def _add_documents(tree: Path, site: Path, version: str, epoch: int) -> None:
    folder = tree / "usr/share/doc/crewd"
    _write(folder / "changelog", (ROOT / "CHANGELOG.md").read_text())
    entry = f"crewd ({version}) stable; urgency=medium\n\n  * See changelog.gz beside this file.\n\n"
    _write(folder / "changelog.Debian", f"{entry} -- {MAINTAINER}  {formatdate(epoch, localtime=False)}\n")
    for name in ("changelog", "changelog.Debian"):
        _compress(folder / name)
    _write(folder / "examples/crewd.toml", (ROOT / "config/crewd.toml").read_text())
    _write(folder / "copyright", "\n".join(_copyright(site)))
    overrides = (HERE / "lintian-overrides").read_text()
    _write(tree / "usr/share/lintian/overrides/crewd", overrides)


def _copyright(site: Path) -> Iterator[str]:
    """Lay out the licence, and that of every package within, in the machine-readable form of Debian."""
    licence = (ROOT / "LICENSE").read_text()
    holder = re.search(r"Copyright \(c\) (.+)", licence)
    assert holder is not None
    yield "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/"
    yield "Upstream-Name: crewd"
    yield "Comment: What crewd imports lies within the package; the texts of its licences are in *.dist-info."
    yield from ("", "Files: *", f"Copyright: {holder[1]}", "License: Expat")
    body = licence.partition(holder[0])[2].strip()
    yield from (f" {line}" if line.strip() else " ." for line in body.split("\n"))
    for info in sorted(site.glob("*.dist-info")):
        told = email.parser.Parser().parsestr((info / "METADATA").read_text(errors="replace"), headersonly=True)
        if told["Name"] == "crewd":
            continue
        named = (told["License-Expression"] or told["License"] or "").strip().split("\n")[0]
        classified = [each.rpartition(" :: ")[2] for each in told.get_all("Classifier", ()) if "License ::" in each]
        authors = (
            told["Author"] or told["Author-email"] or told["Maintainer-email"] or f"the authors of {told['Name']}"
        )
        yield from ("", f"Files: {info.parent.relative_to(site.parents[4])}/{info.name}/*")
        yield f"Copyright: {' '.join(authors.split())}"
        yield f"License: {_short_name(told['Name'])}"
        yield f" {told['Name']} {told['Version']}: {named[:80] or ', '.join(classified) or 'see its folder'}"
    yield ""


def _short_name(name: str) -> str:
    return f"of-{name.lower()}"


def _clean(tree: Path) -> None:
    """Take out what differs between two builds, or names the machine this one was made on."""
    for name in UNUSED:
        for folder in tree.glob(f"{HOME}/lib/python*/site-packages/{name}"):
            shutil.rmtree(folder)
    for path in [*tree.rglob("__pycache__"), *tree.rglob("uv_cache.json"), *tree.rglob("direct_url.json")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for record in tree.rglob("RECORD"):
        if not record.parent.name.endswith(".dist-info"):
            continue
        site = record.parent.parent
        lines = record.read_text().splitlines(keepends=True)
        # Scripts lie above the folder: they are this package's own business.
        record.write_text("".join(sorted(line for line in lines if _is_there(site, line.partition(",")[0]))))
    settings = next(tree.glob(f"{HOME}/pyvenv.cfg"))
    # pip would look for it here; the prompt and the version of uv say nothing to anybody.
    kept = [
        line for line in settings.read_text().splitlines(keepends=True) if not line.startswith(("uv =", "prompt"))
    ]
    settings.write_text("".join(kept))
    for path in tree.rglob("*"):
        if not path.is_symlink():
            is_program = path.is_dir() or (path.parent == tree / HOME / "bin")
            path.chmod(0o755 if is_program else 0o644)


def _is_there(site: Path, name: str) -> bool:
    return not name.startswith("../") and (site / name).is_file()


def _control(tree: Path, version: str, python: str) -> Path:
    """Write the control files beside the tree."""
    folder = tree / "DEBIAN"
    folder.mkdir()
    files = sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
    # As dpkg-gencontrol counts: each file in whole KiB, and one for everything else.
    size = sum((path.stat().st_size + 1023) // 1024 for path in files) + sum(
        1 for path in tree.rglob("*") if path.is_dir() or path.is_symlink()
    )
    fields = (HERE / "control").read_text().format(
        version=version,
        architecture=subprocess.check_output(["dpkg", "--print-architecture"], text=True).strip(),
        size=size,
        depends=", ".join(_depends(tree, python)),
        maintainer=MAINTAINER,
    )  # fmt: skip
    _write(folder / "control", fields)
    sums = [f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(tree)}\n" for path in files]  # noqa: S324
    _write(folder / "md5sums", "".join(sums))
    for name in SCRIPTS:
        _write(folder / name, (HERE / name).read_text())
        (folder / name).chmod(0o755)
    return folder


def _depends(tree: Path, python: str) -> Iterator[str]:
    """Name the interpreter, whose minor version the compiled modules are made for, and the least C library."""
    code = "import sys; print(*sys.version_info[:2])"
    major, minor = map(int, subprocess.check_output([python, "-c", code], text=True).split())
    wanted = [
        int(found)
        for path in tree.rglob("*.so*")
        for found in re.findall(rb"GLIBC_2\.(\d+)\b", path.read_bytes())
    ]  # fmt: skip
    yield f"libc6 (>= 2.{max(wanted, default=0)})"
    yield f"python3 (>= {major}.{minor})"
    yield f"python3 (<< {major}.{minor + 1})"


def _pack(tree: Path, control: Path, output: Path, version: str, epoch: int, environment: dict[str, str]) -> Path:
    output.mkdir(parents=True, exist_ok=True)
    architecture = re.search(r"(?m)^Architecture: (\S+)$", (control / "control").read_text())
    assert architecture is not None
    made = output / f"crewd_{version}_{architecture[1]}.deb"
    for path in [*tree.rglob("*"), tree]:
        os.utime(path, (epoch, epoch), follow_symlinks=False)
    tree.chmod(0o755)
    _run(["dpkg-deb", "-Zxz", "--root-owner-group", "--build", tree, made], environment)
    return made


def debian_version(version: str) -> str:
    """Write a version as Debian orders it: 1.0.dev1 comes before 1.0a1, and that before 1.0."""
    upstream = re.sub(r"(a|b|rc)(?=[0-9])", r"~\1", version).replace(".dev", "~~dev")
    return f"{upstream}-{REVISION}"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _compress(path: Path) -> None:
    data = path.read_bytes()
    path.unlink()
    # Neither name nor time within: the same text gives the same bytes.
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(data, 9, mtime=0))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _run(command: list[object], environment: dict[str, str]) -> None:
    done = subprocess.run([str(each) for each in command], env=environment, stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        sys.exit(f"build.py: {' '.join(map(str, command))}: exit code {done.returncode}")


if __name__ == "__main__":
    main()
