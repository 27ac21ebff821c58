"""What a model thought of photos so far, kept so that a stop loses nothing."""

import json
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from camera_trap_al.exceptions import DataError, DiskFullError
from camera_trap_al.files import make_folder
from camera_trap_al.inference.classification import ModelAnswer
from camera_trap_al.inference.photos import PhotoSet, PhotoToClassify, was_there
from camera_trap_al.pools import IndexArray
from camera_trap_al.predictions import Predictions

__all__ = ["RESULTS_FILE", "AnswerRow", "Results", "TimeRow", "as_row"]

logger = logging.getLogger(__name__)

RESULTS_FILE = "predictions.sqlite"
FORMAT_VERSION = 1
SCHEMA = """
CREATE TABLE IF NOT EXISTS models (
    model INTEGER PRIMARY KEY,
    made_by TEXT UNIQUE NOT NULL -- JSON: what answers depend on besides the photo
);
CREATE TABLE IF NOT EXISTS answers (
    model INTEGER NOT NULL REFERENCES models,
    name TEXT NOT NULL,         -- of the photo
    asked TEXT NOT NULL,        -- what was looked at: an answer to anything else is none
    problem TEXT,               -- why the photo could not be read
    class_ids BLOB NOT NULL,    -- int64, a row for the photo or each of its boxes, the likeliest class first
    probabilities BLOB NOT NULL, -- float32, likewise
    PRIMARY KEY (model, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS times (
    name TEXT PRIMARY KEY,      -- of the photo
    seen TEXT NOT NULL,         -- the file that was looked at: the time of any other is not known
    taken_at INTEGER            -- ms by the clock of the camera, nothing if the photo does not say it
) WITHOUT ROWID;
"""
DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
IN_USE = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


class AnswerRow(NamedTuple):
    """An answer as a database or another table keeps it."""

    name: str
    asked: str
    problem: str | None
    class_ids: bytes
    probabilities: bytes


class TimeRow(NamedTuple):
    """When a photo was taken, None if it does not say it, by the file as it was (`PhotoToClassify.state`)."""

    name: str
    seen: str
    taken_at: int | None


class Results:
    """Answers of one model by photo.

    Parameters
    ----------
    db
        The database that holds them, and those of other models.
    made_by
        What answers depend on besides the photo.
    """

    def __init__(self, db: sqlite3.Connection, made_by: Mapping[str, Any]) -> None:
        self._db = db
        self._away: dict[str, str] = {}  # why photos cannot be found in this call that have an answer of an earlier one
        made = (json.dumps({"format_version": FORMAT_VERSION, **made_by}),)
        (n_others,) = db.execute("SELECT count(*) FROM models WHERE made_by != ?", made).fetchone()
        if db.execute("INSERT OR IGNORE INTO models (made_by) VALUES (?)", made).rowcount and n_others:
            logger.warning(
                "This folder has predictions of another model, or of animals cut out otherwise; all begins anew."
            )
        (self._model,) = db.execute("SELECT model FROM models WHERE made_by = ?", made).fetchone()

    @classmethod
    @contextmanager
    def open(cls, folder: Path | None, made_by: Mapping[str, Any]) -> Iterator["Results"]:
        """Open the results in a folder, or begin some.

        Parameters
        ----------
        folder
            Where they are kept, and made if it is missing; None keeps them in memory.
        made_by
            What answers depend on besides the photo. Answers that something else made are kept apart.

        Raises
        ------
        DataError
            If they cannot be kept there, or another program works on them.
        DiskFullError
            If there is no room.
        """
        if folder is None:
            with cls._begun(":memory:", made_by) as results:
                yield results
            return
        make_folder(folder)
        file = folder / RESULTS_FILE
        with _told(file), ExitStack() as stack:
            try:
                results = stack.enter_context(cls._begun(file, made_by))
            except sqlite3.DatabaseError as error:
                if _code(error) not in DAMAGED:
                    raise
                logger.warning("%s is damaged and is made again.", file)
                file.unlink()
                results = stack.enter_context(cls._begun(file, made_by))
            yield results

    @classmethod
    @contextmanager
    def _begun(cls, file: Path | str, made_by: Mapping[str, Any]) -> Iterator["Results"]:
        with closing(sqlite3.connect(file, isolation_level=None, timeout=1)) as db:
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
            db.execute("BEGIN EXCLUSIVE")  # from here on nobody else works on it, until it is closed
            for statement in SCHEMA.split(";")[:-1]:
                db.execute(statement)
            results = cls(db, made_by)
            db.execute("COMMIT")
            yield results

    def tell_others(self, photos: PhotoSet) -> None:
        """Warn if there are answers to photos that are not among these, and so will be in no table any more."""
        (n_answers,) = self._db.execute("SELECT count(*) FROM answers WHERE model = ?", (self._model,)).fetchone()
        find = "SELECT count(*) FROM answers WHERE model = ? AND name = ?"
        n_others = n_answers - sum(self._db.execute(find, (self._model, name)).fetchone()[0] for name in photos.names)
        if n_others:
            message = "%d photos that were classified before are not in %s: the tables are written without them."
            logger.warning(message, n_others, photos.root)

    def missing(self, photos: PhotoSet) -> IndexArray:
        """Give the positions of photos with no answer yet, that changed since, or that could not be read then."""
        return np.fromiter((at for at, photo in enumerate(photos) if not self._is_answered(photo)), np.int64)

    def _is_answered(self, photo: PhotoToClassify) -> bool:
        if photo.boxes == ():
            return True
        asked = self._answered_as(photo.name)
        return asked is not None and asked == photo.state()

    def _answered_as(self, name: str) -> str | None:
        """Give what was looked at of a photo when it was answered; None if there is no answer."""
        find = "SELECT asked FROM answers WHERE model = ? AND name = ? AND problem IS NULL"
        found = self._db.execute(find, (self._model, name)).fetchone()
        return None if found is None else str(found[0])

    def add(self, answers: Iterable[ModelAnswer]) -> None:
        """Keep answers for good."""
        self.add_rows(map(as_row, answers))

    def add_rows(self, rows: Iterable[AnswerRow]) -> None:
        """Keep answers that `as_row` has made rows of, for good.

        That a photo is not there replaces no answer of an earlier call, since its drive may come back; it is told in
        this call alone.
        """
        self._db.execute("BEGIN")
        self._db.executemany(
            "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?)",
            ((self._model, *row) for row in rows if not self._is_away(row)),
        )
        self._db.execute("COMMIT")

    def _is_away(self, row: AnswerRow) -> bool:
        if row.problem is not None and not was_there(row.asked) and self._answered_as(row.name) is not None:
            self._away[row.name] = row.problem
            return True
        self._away.pop(row.name, None)
        return False

    def answers(self, photos: PhotoSet) -> Iterator[ModelAnswer]:
        """Give the answers to photos, in their order; a photo without boxes needs none and has an empty one."""
        find = "SELECT problem, class_ids, probabilities FROM answers WHERE model = ? AND name = ?"
        for photo in photos:
            if photo.boxes == ():
                yield ModelAnswer(photo, Predictions.join([]))
            elif photo.name in self._away:
                yield ModelAnswer(photo, Predictions.join([]), self._away[photo.name])
            else:
                problem, *blobs = self._db.execute(find, (self._model, photo.name)).fetchone()
                n_rows = 1 if photo.boxes is None else len(photo.boxes)
                yield ModelAnswer(photo, _restored(*blobs, n_rows=n_rows), problem)

    def time_of(self, photo: PhotoToClassify) -> TimeRow | str:
        """Say when a photo was taken, if it was asked before as it is now, or is not there now; else what it is now."""
        seen = replace(photo, boxes=None).state()
        found = self._db.execute("SELECT name, seen, taken_at FROM times WHERE name = ?", (photo.name,)).fetchone()
        return TimeRow(*found) if found is not None and (found[1] == seen or not was_there(seen)) else seen

    def add_times(self, times: Iterable[TimeRow]) -> None:
        """Keep when photos were taken, so that they need not be looked at again."""
        self._db.execute("BEGIN")
        self._db.executemany("INSERT OR REPLACE INTO times VALUES (?, ?, ?)", times)
        self._db.execute("COMMIT")


def as_row(answer: ModelAnswer) -> AnswerRow:
    """Put an answer into a row."""
    predictions = answer.predictions
    blobs = predictions.class_ids.tobytes(), predictions.probabilities.tobytes()
    return AnswerRow(answer.photo.name, answer.asked, answer.problem, *blobs)


def _restored(class_ids: bytes, probabilities: bytes, *, n_rows: int) -> Predictions:
    if not class_ids:
        return Predictions.join([])
    shape = (n_rows, -1)
    return Predictions(
        np.arange(n_rows),
        np.frombuffer(class_ids, np.int64).reshape(shape),
        np.frombuffer(probabilities, np.float32).reshape(shape),
    )


@contextmanager
def _told(file: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = _code(error)
        if code == sqlite3.SQLITE_FULL:
            raise DiskFullError(file) from error
        what = (
            "another program is working on these predictions. Wait until it is done, or give another output_dir."
            if code in IN_USE
            else "it cannot be written or read. Look whether its drive is connected, and whether you may write there."
        )
        raise DataError(f"{file}: {what} (SQLite says: {error})", file) from error


def _code(error: sqlite3.DatabaseError) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the other bits tell variants of one error
