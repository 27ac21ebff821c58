"""One transaction at a time on the database of a run, and what its errors mean to people."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from camera_trap_al.exceptions import CameraTrapALError, CheckpointError, DiskFullError, RunFileError

__all__ = ["DamagedError", "check_whole", "now", "transaction"]

DAMAGED = {  # ERROR: a table is not there
    *(sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH),
    sqlite3.SQLITE_ERROR,
}
IN_USE = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
REBUILD = (
    "Put back a copy of it, or have it made anew from data/labels.csv and data/label_archive with rebuild=True (on the "
    "command line: camera-trap-al run ... --rebuild)."
)


class DamagedError(CheckpointError):
    """The database of a run is damaged.

    Attributes
    ----------
    why
        What was found.
    """

    def __init__(self, database: Path, why: str) -> None:
        super().__init__(f"{database}: the run database is damaged ({why}). {REBUILD}", database)
        self.why = why


@contextmanager
def transaction(database: Path) -> Iterator[sqlite3.Connection]:
    """Open a database, begin to write, and commit and close at the end; nothing is changed if the block fails.

    Raises
    ------
    DiskFullError
        If there is no room.
    RunFileError
        If the file may not be written, or its drive is gone.
    CheckpointError
        If it is in use; a `DamagedError` if it is damaged.
    """
    try:
        with closing(sqlite3.connect(database, isolation_level=None)) as connection:  # rolls back at an error
            connection.execute("PRAGMA journal_mode = DELETE")  # WAL fails on network drives and leaves side files
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
    except sqlite3.DatabaseError as error:
        raise _explained(database, error) from error


def now() -> str:
    """Give the time as a database of a run keeps it: UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def check_whole(db: sqlite3.Connection, database: Path) -> None:
    """Read every page of a database.

    Raises
    ------
    DamagedError
        If one is damaged.
    """
    (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise DamagedError(database, str(found).splitlines()[-1])


def _explained(database: Path, error: sqlite3.DatabaseError) -> CameraTrapALError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the rest tells variants
    if code == sqlite3.SQLITE_FULL:
        return DiskFullError(database)
    if code in DAMAGED:
        return DamagedError(database, str(error))
    if code in IN_USE:
        return CheckpointError(
            f"{database}: another program is writing into the run database ({error}). Close it and start again.",
            database,
        )
    return RunFileError(database, _as_os_error(database, error))


def _as_os_error(database: Path, error: sqlite3.DatabaseError) -> OSError:
    """Find out what the operating system says, since SQLite does not pass it on."""
    try:
        with database.open("rb+"):
            pass
        with (database.parent / "run.probe").open("wb"):  # SQLite's journal is made beside the database
            pass
        (database.parent / "run.probe").unlink()
    except OSError as cause:
        return cause
    return OSError(f"the database says: {error}")
