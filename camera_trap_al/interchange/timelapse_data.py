"""Timelapse's own data file, whose name ends in ``.ddb``: read while Timelapse may have it open, and never changed."""

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path, PurePath
from typing import NamedTuple
from urllib.parse import quote

from camera_trap_al.exceptions import DataError, LabelFault, LabelFileError
from camera_trap_al.interchange.timelapse import CORRECT, SELECTED, join_path

__all__ = ["TimelapseRecord", "find_data_file", "read_data_file"]

DATA_SUFFIX = ".ddb"
TIMELAPSES_OWN_COLUMNS = frozenset({"id", "file", "relativepath", "datetime", "deleteflag"})

LOCK_WAIT_S = 5.0
ATTEMPTS = 3
WAL_FORMAT = b"\x02\x02"  # bytes 18 and 19 of a SQLite file whose changes go into a file -wal first

IN_USE = (
    "Timelapse or another program is writing to it.",
    "Wait until it is done, or close the image set there, then try again.",
)
INTERRUPTED = (
    "Timelapse was interrupted while it saved.",
    "Open the image set in Timelapse and close it again, which repairs the file; then try again.",
)
DAMAGED = (
    "It is no data file of Timelapse, or it is damaged.",
    "Open the image set in Timelapse; if that fails too, put back a copy of the file from the folder Backups.",
)
OUT_OF_REACH = (
    "It cannot be opened.",
    "Look whether the file is still there and may be read, and whether its drive can be reached; then try again.",
)
PROBLEM_AND_ADVICE = {
    sqlite3.SQLITE_BUSY: IN_USE,
    sqlite3.SQLITE_LOCKED: IN_USE,
    sqlite3.SQLITE_READONLY: INTERRUPTED,  # only a program that may write can undo what was half saved
    sqlite3.SQLITE_ERROR: DAMAGED,
    sqlite3.SQLITE_CORRUPT: DAMAGED,
    sqlite3.SQLITE_NOTADB: DAMAGED,
}


class TimelapseRecord(NamedTuple):
    """What Timelapse knows about a photo.

    Attributes
    ----------
    path
        The photo, relative to the image folder, separated by ``/``.
    label
        What is chosen or typed in the label column, without spaces at its ends; "" if nothing is.
    is_selected
        Whether the flag Selected is ticked.
    is_correction
        Whether there is a flag Correct and it is ticked.
    """

    path: str
    label: str
    is_selected: bool
    is_correction: bool = False


def find_data_file(folder: Path) -> Path:
    """Find the data file directly in an image folder.

    Raises
    ------
    DataError
        If there is none, or several, or the folder cannot be read.
    """
    try:
        found = sorted(path for path in folder.iterdir() if _is_data_file(path))
    except OSError as error:
        raise DataError(f"{folder}: the folder cannot be read ({error.strerror or error}).", folder) from error
    if not found:
        raise DataError(
            f"{folder}: there is no data file of Timelapse (a name that ends in {DATA_SUFFIX}). Timelapse makes it "
            "when the images of this folder are opened for the first time; do so and start again.",
            folder,
        )
    if len(found) > 1:
        raise DataError(
            f"{folder}: there are several data files of Timelapse: {', '.join(path.name for path in found)}. Name the "
            "one to read by its path.",
            folder,
        )
    return found[0]


def _is_data_file(path: Path) -> bool:
    return path.suffix.casefold() == DATA_SUFFIX and not path.name.startswith(".") and path.is_file()


def read_data_file(path: Path, label_column: str = "Species", *, needs_selected: bool = True) -> list[TimelapseRecord]:
    """Read what Timelapse knows about all photos.

    The file is never changed, and no other is left beside it. Timelapse may have it open; while it writes, it is waited
    for, at most `LOCK_WAIT_S` seconds.

    Parameters
    ----------
    path
        The data file.
    label_column
        Data label of the control that holds the class; if none has just this name, case does not count.
    needs_selected
        Whether a file without the flag Selected is refused.

    Returns
    -------
    One for each record, in the order of their Ids; of a photo whose record was duplicated in Timelapse there are
    several.

    Raises
    ------
    LabelFileError
        If the file cannot be opened or is damaged or in use, or lacks a control that is needed.
    """
    try:
        rows = _rows(path, label_column, needs_selected)
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)  # has none if a text is no valid UTF-8
        problem, advice = PROBLEM_AND_ADVICE.get(code & 0xFF, OUT_OF_REACH)  # the other bits tell variants of one error
        raise _refusal(path, f"{problem} (SQLite says: {error}.)", advice) from error
    except OSError as error:
        problem, advice = OUT_OF_REACH
        raise _refusal(path, f"{problem} ({error.strerror or error}.)", advice) from error
    return [
        TimelapseRecord(join_path(file, folder), label.strip(), selected == 1, correct == 1)
        for file, folder, label, selected, correct in rows
    ]


def _refusal(path: Path, problem: str, advice: str) -> LabelFileError:
    return LabelFileError(f"{path} cannot be read.", [LabelFault(None, "", problem, advice)])


def _rows(path: Path, label_column: str, needs_selected: bool) -> list[tuple[str, str, str, int, int]]:
    """Read with SQLite's locks, or without them where these would leave files behind.

    That is so in the format WAL, into which Timelapse 2.4 and 2.5 turn a file for good when they merge or tidy it up.
    Unless a program has it open just then, there is no file ``-wal`` or it is empty, and all is in the data file; a
    read with locks would make that file and ``-shm``, and could not remove them.
    """
    address = _address(path.absolute())
    for _ in range(ATTEMPTS):
        before = _state(path)
        if before.n_waiting or not _is_wal(path):
            return _query(address, path, label_column, needs_selected)
        try:
            rows = _query(f"{address}&immutable=1", path, label_column, needs_selected)
        except sqlite3.DatabaseError:
            if _state(path) == before:
                raise
        else:
            if _state(path) == before:
                return rows
    raise _refusal(path, *IN_USE)


class _State(NamedTuple):
    n_waiting: int  # bytes in the file -wal
    size: int
    time_ns: int


def _state(path: Path) -> _State:
    try:
        n_waiting = path.with_name(f"{path.name}-wal").stat().st_size
    except FileNotFoundError:
        n_waiting = 0
    status = path.stat()
    return _State(n_waiting, status.st_size, status.st_mtime_ns)


def _is_wal(path: Path) -> bool:
    # On Linux, closing a file ends the locks that this process has on it: nothing else here may keep it open.
    with path.open("rb") as file:
        return file.read(20)[18:] == WAL_FORMAT


def _address(path: PurePath) -> str:
    r"""Write an absolute path as a URI for SQLite.

    Not by ``as_uri``, which writes the server of ``\\server\photos`` where SQLite allows no host.
    """
    posix = path.as_posix()
    return f"file://{'' if posix.startswith('/') else '/'}{quote(os.fsencode(posix))}?mode=ro"


def _query(address: str, path: Path, label_column: str, needs_selected: bool) -> list[tuple[str, str, str, int, int]]:
    with closing(sqlite3.connect(address, uri=True, timeout=LOCK_WAIT_S, isolation_level=None)) as db:
        db.execute("BEGIN")  # columns and records of one moment
        file, folder, label, selected, correct = map(_text, _columns(db, path, label_column, needs_selected))
        return db.execute(
            f"SELECT {file}, {folder}, {label}, lower({selected}) = 'true', lower({correct}) = 'true' "
            "FROM DataTable ORDER BY rowid"
        ).fetchall()  # all at once: Timelapse cannot save as long as we read


def _text(column: str | None) -> str:
    """Write the text of a column in SQL, which is empty where there is none."""
    if column is None:
        return "''"
    quoted = '"{}"'.format(column.replace('"', '""'))
    return f"ifnull(CAST({quoted} AS TEXT), '')"


def _columns(db: sqlite3.Connection, path: Path, label_column: str, needs_selected: bool) -> list[str | None]:
    """Give File, RelativePath, the label column, Selected and Correct as the file spells them; None where missing."""
    there = [name for (name,) in db.execute("SELECT name FROM pragma_table_info('DataTable')")]
    spelled = {name: _spelled(name, there) for name in ("File", "RelativePath", label_column, SELECTED, CORRECT)}
    optional = {CORRECT} if needs_selected else {CORRECT, SELECTED}
    faults = [_missing(db, there, name) for name in spelled if spelled[name] is None and name not in optional]
    if faults:
        raise LabelFileError(f"{path} cannot be read.", list(dict.fromkeys(faults)))
    return list(spelled.values())


def _spelled(name: str, there: Sequence[str]) -> str | None:
    alike = [column for column in there if column.casefold() == name.casefold()]
    return name if name in alike else next(iter(alike), None)


def _missing(db: sqlite3.Connection, there: Sequence[str], name: str) -> LabelFault:
    if "File" not in there or "RelativePath" not in there:
        problem = "It lacks the table DataTable with the columns File and RelativePath."
        return LabelFault(None, "", f"{problem} {DAMAGED[0]}", DAMAGED[1])
    editor = "in Timelapse's Template Editor and open the image set again."
    if name == SELECTED:
        flags = ", ".join(_controls(db, there, "Flag"))
        return LabelFault(None, "", f"It has no flag {SELECTED}, only: {flags}.", f"Add such a flag {editor}")
    lists = ", ".join(_controls(db, there, "FixedChoice"))
    advice = f"Name one of these as label_column (--column on a command line), or add {name!r} {editor}"
    return LabelFault(None, "", f"It has no control {name!r}, only: {lists}.", advice)


def _controls(db: sqlite3.Connection, there: Sequence[str], kind: str) -> list[str]:
    """Name the controls of a kind; all that the user made if there is none, or if no template tells the kinds."""
    try:
        found = db.execute("SELECT DataLabel FROM TemplateTable WHERE Type = ? ORDER BY Id", (kind,)).fetchall()
    except sqlite3.OperationalError:
        found = []
    own = [name for name in there if name.casefold() not in TIMELAPSES_OWN_COLUMNS]
    return [name for (name,) in found] or own
