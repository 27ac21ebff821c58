"""When and where the photos of a run were taken, and which of them are one burst, in its database."""

import sqlite3
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from camera_trap_al.photos.times import PhotoTime
from camera_trap_al.pools import IndexArray

__all__ = ["HELD_OUT_FROM", "hold_out", "rows_to_read", "store_places", "store_propagated", "store_times", "times"]

HELD_OUT_FROM = "held_out_from"  # the setting that says of how many photos, by row, it was decided what is held out

OF_THE_FILE = "file"


def rows_to_read(db: sqlite3.Connection, *, or_of_file: bool = False) -> IndexArray:
    """Give the rows, ascending, whose photos have not been asked for their time, or could not be read then.

    Parameters
    ----------
    db
        The database of the run.
    or_of_file
        Whether photos without a time of their own are among them, if their file has not been asked for one.
    """
    wanted = "time_source IS NULL OR time_source = 'unreadable'"
    wanted += " OR time_source IN ('missing', 'impossible')" if or_of_file else ""
    return np.array([row for (row,) in db.execute(f"SELECT photo_row FROM photos WHERE {wanted} ORDER BY 1")], np.int64)


def store_times(db: sqlite3.Connection, found: Mapping[int, PhotoTime]) -> None:
    """Store when photos were taken, by row."""
    lines = [(time.taken_at, time.source, int(row)) for row, time in found.items()]
    db.executemany("UPDATE photos SET taken_at = ?, time_source = ? WHERE photo_row = ?", lines)


def times(db: sqlite3.Connection, *, or_of_file: bool = False) -> NDArray[np.float64]:
    """Give (n_rows,) when each photo was taken, in ms since 1970 of the camera's clock; NaN where that is not known.

    Parameters
    ----------
    db
        The database of the run.
    or_of_file
        Whether a time that only the file has counts.
    """
    known = "taken_at" if or_of_file else f"CASE WHEN time_source = '{OF_THE_FILE}' THEN NULL ELSE taken_at END"
    return np.array([each for (each,) in db.execute(f"SELECT {known} FROM photos ORDER BY photo_row")], np.float64)


def store_places(db: sqlite3.Connection, sites: Sequence[str], sequences: IndexArray) -> None:
    """Store the site and sequence of each photo where they differ from what is there; a sequence of -1 is none."""
    known = db.execute("SELECT site, COALESCE(sequence, -1) FROM photos ORDER BY photo_row").fetchall()
    found = list(zip(sites, sequences.tolist(), strict=True))
    lines = [(*new, row) for row, (new, old) in enumerate(zip(found, known, strict=True)) if new != old]
    db.executemany("UPDATE photos SET site = ?, sequence = NULLIF(?, -1) WHERE photo_row = ?", lines)


def hold_out(db: sqlite3.Connection, rows: IndexArray) -> list[tuple[int, str]]:
    """Keep rows out of the training for the life of the run; give role and path of all that are kept out by now.

    It is never decided about the photos that are registered again: only about those that come later.
    """
    db.executemany("UPDATE photos SET is_held_out = 1 WHERE photo_row = ?", [(row,) for row in rows.tolist()])
    db.execute("INSERT OR REPLACE INTO settings SELECT ?, COUNT(*) FROM photos", (f"frozen.{HELD_OUT_FROM}",))
    return db.execute("SELECT role, path FROM photos WHERE is_held_out ORDER BY photo_row").fetchall()


def store_propagated(db: sqlite3.Connection, propagated: IndexArray) -> None:
    """Store `Pools.propagated` where it differs from what is there."""
    known = np.array(
        [each for (each,) in db.execute("SELECT COALESCE(propagated_class, -1) FROM photos ORDER BY photo_row")],
        np.int64,
    )
    rows = np.flatnonzero(known != propagated)
    lines = zip(propagated[rows].tolist(), rows.tolist(), strict=True)
    db.executemany("UPDATE photos SET propagated_class = NULLIF(?, -1) WHERE photo_row = ?", lines)
