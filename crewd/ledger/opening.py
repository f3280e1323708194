"""Opening the file: making it once, looking for damage, bringing its schema up to date."""

import contextlib
import errno
from collections.abc import Iterator, Sequence
from pathlib import Path

import apsw

from crewd.host.files import write_atomically
from crewd.ledger import cells, log, rows, schema
from crewd.ledger.errors import LedgerDamaged, LedgerFailed, LedgerForbidden, LedgerTooNew
from crewd.ledger.options import LedgerOptions
from crewd.ledger.schema import Migration

NAME = "ledger.sqlite3"
LAST_SEQ = "last_seq"
PRUNED_TO = "pruned_to"

# SQLite's word for "this file is not sound", in its several forms. SQLError: a table or column is missing.
# A text that is not UTF-8 was none when it was written.
DAMAGE = (apsw.CorruptError, apsw.NotADBError, apsw.SQLError, apsw.FormatError, cells.Unsound, UnicodeDecodeError)
FAULTS = (apsw.Error, OSError, MemoryError)


def make_folder(folder: Path) -> None:
    """Make the state folder for nobody else to read. One that exists stays as its owner set it up."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        kind = LedgerForbidden if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) else LedgerFailed
        raise kind(f"{folder}: cannot be made: {error.strerror}; name another state folder") from error


def prepare_file(path: Path, options: LedgerOptions, migrations: Sequence[Migration] = schema.MIGRATIONS) -> None:
    """Make the file if this is the first start, else check it and bring its schema up to date.

    Raises LedgerDamaged, LedgerTooNew, LedgerFailed; only a sound file is written to.
    """
    with told_as_ledger_errors(path):
        if _is_first_start(path):
            write_atomically(path, schema.blank(migrations), mode=0o600)
        path.chmod(0o600)
        suspect = log.size(path) > 0  # a clean stop leaves none
        if suspect and (lost := log.lost_with_head(path)):
            raise LedgerDamaged(path, lost)
        connection = connect(path, options)
        try:
            # SQLite removes the log when the last connection closes: not before all of it is known to be sound.
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, int(suspect))
            _check_version(connection, path, len(migrations))
            if suspect or path.stat().st_size <= options.check_bytes_max:
                _check_pages(connection, path)
            if suspect and (lost := log.lost_after(path, connection)):
                raise LedgerDamaged(path, lost)
            _check_tables(connection, path, migrations)
            schema.migrate(connection, migrations)
        finally:
            connection.close()


def connect(path: Path, options: LedgerOptions) -> apsw.Connection:
    """Open a sound, present file for writing. Raises apsw.Error, LedgerFailed."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=options.vfs or None)
    try:
        connection.set_busy_timeout(int(options.busy_seconds * 1000))
        connection.config(apsw.SQLITE_DBCONFIG_DQS_DML, 0)
        connection.create_scalar_function("check_of", cells.check_of, deterministic=True)
        connection.pragma("cell_size_check", True)
        connection.pragma("synchronous", "FULL")
        mode = connection.pragma("journal_mode", "WAL")
        if mode != "wal":
            raise LedgerFailed(f"{path}: this file system has no write-ahead log (mode {mode}); use a local folder")
        connection.wal_autocheckpoint(0)  # the writer does it, after those who wait have their answer
        connection.pragma("journal_size_limit", options.wal_bytes_max)
    except BaseException:
        connection.close()
        raise
    return connection


def last_seq(connection: apsw.Connection, path: Path) -> int:
    """Read the newest number ever given to an event, also to one long deleted."""
    meta = read_meta(connection)
    newest = connection.execute("SELECT max(seq) FROM events").get or 0
    if meta.get(LAST_SEQ, 0) < newest:
        raise LedgerDamaged(path, f"event {newest} is newer than the last number given, {meta.get(LAST_SEQ, 0)}")
    return meta.get(LAST_SEQ, 0)


def read_meta(connection: apsw.Connection) -> dict[str, int]:
    """Read the ledger's numbers about itself. Raises apsw.Error, cells.Unsound."""
    return rows.read_meta(connection.execute("SELECT * FROM meta"))


@contextlib.contextmanager
def told_as_ledger_errors(path: Path) -> Iterator[None]:
    """Turn what SQLite and the system say into errors that name the file and the remedy."""
    try:
        yield
    except DAMAGE as error:
        raise LedgerDamaged(path, str(error)) from error
    except (apsw.CantOpenError, apsw.PermissionsError, apsw.ReadOnlyError, PermissionError) as error:
        raise LedgerFailed(f"{path}: cannot be opened: {error}; its folder must be this user's to write") from error
    except FAULTS as error:
        raise LedgerFailed(f"{path}: {words(error)}") from error


def words(error: BaseException) -> str:
    """Say what a fault means for whoever has to mend it."""
    match error:
        case apsw.FullError():
            return "the disk is full; make room"
        case apsw.BusyError():
            return "another program holds it locked; close that program"
        case apsw.IOError():
            return f"the disk failed a read, write or sync ({error})"
    return f"{type(error).__name__}: {error}"


def _is_first_start(path: Path) -> bool:
    """Tell a ledger that never was from one that lost a part. A new one appears whole (write_atomically)."""
    if not path.exists():
        if log.size(path) > 0:
            raise LedgerDamaged(path, f"it is missing, while its {path.name}-wal is there")
        return True
    if path.stat().st_size == 0:
        # SQLite would take it for a new one and throw the write-ahead log away.
        raise LedgerDamaged(path, "it is empty")
    return False


def _check_version(connection: apsw.Connection, path: Path, known: int) -> None:
    found = schema.version_of(connection)
    if found > known:
        raise LedgerTooNew(path, found, known)
    if found < 1:
        raise LedgerDamaged(path, f"schema version {found}; crewd did not write this")


def _check_pages(connection: apsw.Connection, path: Path) -> None:
    findings = [str(finding) for (finding,) in connection.execute("PRAGMA quick_check(3)")]
    if findings != ["ok"]:
        raise LedgerDamaged(path, "; ".join(findings))


def _check_tables(connection: apsw.Connection, path: Path, migrations: Sequence[Migration]) -> None:
    version = schema.version_of(connection)
    if name := schema.differences(connection, migrations[:version]):
        raise LedgerDamaged(path, f"{name} is not as version {version} of the schema has it")
