"""A bundle: files in one archive, bounded, in a fixed order, with a manifest of what is in it and what is not."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from crewd.errors import CrewdError
from crewd.telemetry.disguises import Veil
from crewd.telemetry.redact import Redactor

SCHEMA_VERSION = 1  # of the manifest, and of what the files are
PIECE_BYTES_MAX = 4 * 2**20
BYTES_MAX = 32 * 2**20  # of all pieces, before they are packed
LINE_TEXT_MAX = 64 * 1024
MARGIN = 20  # lines


@dataclass(frozen=True)
class Piece:
    """One file."""

    name: str
    data: bytes
    cut: str = ""  # what was left out, and why; "": nothing


@dataclass
class Bundle:
    """The files of an archive while they are gathered. Whatever goes in goes through the redactor and the veil."""

    redactor: Redactor
    veil: Veil
    pieces: list[Piece] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)  # name -> why it could not be had

    def value(self, name: str, make: Callable[[], Any]) -> None:
        """Add a JSON value."""
        self._add(name, lambda: (json.dumps(self.redactor.value(make()), ensure_ascii=False, indent=1) + "\n", ""))

    def rows(self, name: str, make: Callable[[], Iterable[Any]], last: bool = False) -> None:
        """Add JSON values, one a line; where they are too many the first of them, or the last."""

        def lines() -> tuple[str, str]:
            written = [json.dumps(self.redactor.value(row), ensure_ascii=False) for row in make()]
            kept = _within(written[::-1] if last else written)
            left_out = len(written) - len(kept)
            cut = f"the {'first' if last else 'last'} {left_out} of {len(written)} rows" if left_out else ""
            return "".join(f"{line}\n" for line in (kept[::-1] if last else kept)), cut

        self._add(name, lines)

    def text(self, name: str, make: Callable[[], str], lines_max: int | None = None) -> None:
        """Add a text; of one that is too long the end.

        Whoever cuts it beforehand gives MARGIN lines more than are to be kept: a secret that was cut in two is known
        no more, and what is left of it must not be kept.
        """

        def lines() -> tuple[str, str]:
            clear = self.veil.text(make())
            written = [self.redactor.text(line[:LINE_TEXT_MAX]) for line in clear.splitlines()]
            kept = _within(written[::-1][:lines_max])[::-1]
            left_out = len(written) - len(kept)
            return "".join(f"{line}\n" for line in kept), f"the first {left_out} lines" if left_out else ""

        self._add(name, lines)

    def manifest(self, head: dict[str, Any]) -> dict[str, Any]:
        """Tell what is in it and what is not."""
        files = [
            {
                "name": piece.name,
                "bytes": len(piece.data),
                "sha256": hashlib.sha256(piece.data).hexdigest(),
                "cut": piece.cut or None,
            }
            for piece in self.pieces
        ]
        told = {"schema_version": SCHEMA_VERSION, **head, "redacted": True, "files": files, "missing": self.missing}
        clear: dict[str, Any] = json.loads(self.veil.text(json.dumps(self.redactor.value(told), ensure_ascii=False)))
        # A digest that looks like a secret is none, and must be the file's.
        return {**clear, "files": files}

    def packed(self, head: dict[str, Any], folder: str, at: float) -> bytes:
        """Pack the manifest and all files, in the order in which they were added, as a .tar.gz."""
        written = json.dumps(self.manifest(head), ensure_ascii=False, indent=1) + "\n"
        tape = io.BytesIO()
        with tarfile.open(fileobj=tape, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for piece in (Piece("manifest.json", written.encode()), *self.pieces):
                entry = tarfile.TarInfo(f"{folder}/{piece.name}")
                entry.size, entry.mode, entry.mtime = len(piece.data), 0o600, int(at)
                archive.addfile(entry, io.BytesIO(piece.data))
        return gzip.compress(tape.getvalue(), mtime=int(at))

    def _add(self, name: str, make: Callable[[], tuple[str, str]]) -> None:
        try:
            text, cut = make()
            data = self.veil.text(text).encode("utf-8", "replace")
        except Exception as error:  # noqa: BLE001 - what cannot be had is told, and the rest is worth having without
            self.missing[name] = str(error) if isinstance(error, CrewdError) else f"{type(error).__name__}: {error}"
            return
        if len(data) > PIECE_BYTES_MAX:
            self.missing[name] = f"{len(data)} bytes are more than the {PIECE_BYTES_MAX} that a file may have"
        elif sum(len(piece.data) for piece in self.pieces) + len(data) > BYTES_MAX:
            self.missing[name] = f"the bundle has its {BYTES_MAX} bytes"
        else:
            self.pieces.append(Piece(name, data, cut))


def _within(lines: list[str]) -> list[str]:
    """As many of the first lines as a file may have."""
    kept, room = [], PIECE_BYTES_MAX // 2  # what is masked may grow
    for line in lines:
        room -= len(line.encode("utf-8", "replace")) + 1
        if room < 0:
            break
        kept.append(line)
    return kept
