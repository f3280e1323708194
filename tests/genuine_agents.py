"""The genuine agent runs, out of their archive: CORPUS/CLI/CASE holds what one program printed, left and took.

Recorded once with the real programs against a model server on loopback (docs/agents.md); kept packed, for it is forty
times smaller so.
"""

import atexit
import shutil
import tarfile
import tempfile
from pathlib import Path

ARCHIVE = Path(__file__).parent / "formats" / "agents.tar.xz"


def _unpacked() -> Path:
    root = Path(tempfile.mkdtemp(prefix="crewd-agents-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    with tarfile.open(ARCHIVE) as archive:
        for member in archive:
            path = root / member.name
            if member.isdir():
                path.mkdir(parents=True, exist_ok=True)
            elif (file := archive.extractfile(member)) is not None:
                path.write_bytes(file.read())
    return root / "agents"


CORPUS = _unpacked()
