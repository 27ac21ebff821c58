"""What was asked and answered, in the database of a run: every word of an expert is an event that stays."""

import sqlite3
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from camera_trap_al.exceptions import LabelFault, LabelFileError
from camera_trap_al.pools import UNLABELLED, IndexArray, Role
from camera_trap_al.query import UNUSABLE, Answer, KnownLabel, Query, Reasons
from camera_trap_al.run_store.photo_table import add_classes, class_names

__all__ = [
    "SCHEMA",
    "AskedPhoto",
    "ask",
    "asked_photos",
    "check_something_is_labelled",
    "load_query",
    "skipped_rows",
    "store_answer",
    "take_initial_labels",
]

SCHEMA = """
CREATE TABLE queries (round INTEGER PRIMARY KEY, asked_at TEXT NOT NULL, answered_at TEXT);
CREATE TABLE query_rows (
    round INTEGER NOT NULL REFERENCES queries, position INTEGER NOT NULL,
    photo_row INTEGER NOT NULL REFERENCES photos, is_answered INTEGER NOT NULL DEFAULT 0,
    score REAL, guess INTEGER, confidence REAL, PRIMARY KEY (round, position)
);
CREATE TABLE label_events (
    event INTEGER PRIMARY KEY, happened_at TEXT NOT NULL, round INTEGER REFERENCES queries,
    photo_row INTEGER NOT NULL REFERENCES photos, kind TEXT NOT NULL, old_class INTEGER, new_class INTEGER,
    source TEXT NOT NULL
);
"""


class AskedPhoto(NamedTuple):
    """A photo that was asked about.

    Attributes
    ----------
    round
        The round that asked, counted from 1.
    row, path
        The photo's row, and its path relative to the unlabelled folder.
    score, guess, confidence
        What was thought of it when it was chosen, as in `Reasons`; None where nothing was.
    label
        Its label by now; None if it has none.
    is_audit
        Whether it was asked about for the audit, as 1 or 0.
    """

    round: int
    row: int
    path: str
    score: float | None
    guess: str | None
    confidence: float | None
    label: str | None
    is_audit: int


def ask(db: sqlite3.Connection, rows: IndexArray, asked_at: str, reasons: Reasons | None = None) -> Query:
    """Store the next round's query."""
    (last,) = db.execute("SELECT COALESCE(MAX(round), 0) FROM queries").fetchone()
    db.execute("INSERT INTO queries (round, asked_at) VALUES (?, ?)", (last + 1, asked_at))
    positions = [(last + 1, position, int(row)) for position, row in enumerate(rows)]
    db.executemany("INSERT INTO query_rows (round, position, photo_row) VALUES (?, ?, ?)", positions)
    if reasons is not None:
        thoughts = zip(reasons.scores.tolist(), reasons.class_ids.tolist(), reasons.confidences.tolist(), strict=True)
        db.executemany(  # SQLite stores NaN as NULL
            "UPDATE query_rows SET score = ?, guess = NULLIF(?, -1), confidence = ? WHERE round = ? AND position = ?",
            [(*thought, last + 1, position) for position, thought in enumerate(thoughts)],
        )
    return load_query(db, last + 1)


def asked_photos(db: sqlite3.Connection) -> list[AskedPhoto]:
    """Give every photo that was asked about, in the order of asking, with what was thought and what was said."""
    found = db.execute(
        "SELECT round, photo_row, path, score, guesses.name, confidence,"
        " CASE WHEN unusable THEN ? ELSE labels.name END, audit_lot IS NOT NULL"
        " FROM query_rows JOIN photos USING (photo_row)"
        " LEFT JOIN classes AS labels ON photos.class_id = labels.class_id"
        " LEFT JOIN classes AS guesses ON guess = guesses.class_id ORDER BY round, position",
        (UNUSABLE,),
    )
    return [AskedPhoto(*values) for values in found]


def load_query(db: sqlite3.Connection, round_number: int, at_most: int | None = None) -> Query:
    """Give the photos of a round that are neither answered nor set aside, the first `at_most` of them."""
    found = db.execute(
        "SELECT photo_row, path FROM query_rows JOIN photos USING (photo_row)"
        " WHERE round = ? AND NOT is_answered AND set_aside IS NULL AND class_id IS NULL AND NOT unusable"
        " ORDER BY position LIMIT ?",
        (round_number, -1 if at_most is None else at_most),
    ).fetchall()
    ever_asked = db.execute("SELECT path FROM photos WHERE photo_row IN (SELECT photo_row FROM query_rows)")
    known = db.execute(  # +role: most photos are unlabelled ones, so that the index over role would only cost
        "SELECT path, photo_row, COALESCE(class_id, ?) FROM photos"
        " WHERE +role = ? AND (class_id IS NOT NULL OR unusable)",
        (UNLABELLED, Role.UNLABELLED),
    )
    paths = tuple(path for _, path in found)
    asked = frozenset(paths)
    return Query(
        round_number,
        np.array([row for row, _ in found], np.int64),
        paths,
        class_names(db),
        tuple(path for (path,) in ever_asked if path not in asked),
        {path: KnownLabel(row, class_id) for path, row, class_id in known},
    )


def skipped_rows(db: sqlite3.Connection, first_round: int, end_round: int) -> IndexArray:
    """Give the rows that were skipped from `first_round` to before `end_round`."""
    found = db.execute(
        "SELECT DISTINCT photo_row FROM label_events WHERE kind = 'skip' AND round >= ? AND round < ?"
        " ORDER BY photo_row",
        (first_round, end_round),
    ).fetchall()
    return np.array([row for (row,) in found], np.int64)


def store_answer(db: sqlite3.Connection, query: Query, answer: Answer, happened_at: str) -> bool:
    """Store all that an answer says.

    Returns
    -------
    False, and nothing is stored, if the question is answered already, so that another program must have done it.
    """
    is_open = db.execute("SELECT 1 FROM queries WHERE round = ? AND answered_at IS NULL", (query.round,)).fetchone()
    answered = {int(row) for row in (*answer.labels, *answer.skipped, *answer.unusable)}
    answered.intersection_update(query.rows.tolist())  # others that are unusable were answered before
    asked = db.execute("SELECT photo_row, position, is_answered FROM query_rows WHERE round = ?", (query.round,))
    taken = [(position, is_answered) for row, position, is_answered in asked if row in answered]
    if not is_open or any(is_answered for _, is_answered in taken):
        return False
    add_classes(db, answer.new_classes)
    when_and_where = (happened_at, query.round, answer.source)
    _record(db, "label", answer.labels, *when_and_where)
    _record(db, "correction", answer.corrections, *when_and_where)
    _record(db, "skip", dict.fromkeys(answer.skipped), *when_and_where)
    _record(db, "unusable", dict.fromkeys(answer.unusable), *when_and_where)
    changed = {**answer.labels, **answer.corrections, **dict.fromkeys(answer.unusable)}
    _change_photos(db, changed)
    _decide_again_about_mates(db, changed)
    positions = [(query.round, position) for position, _ in taken]
    db.executemany("UPDATE query_rows SET is_answered = 1 WHERE round = ? AND position = ?", positions)
    if not answer.is_partial:
        db.execute("UPDATE queries SET answered_at = ? WHERE round = ?", (happened_at, query.round))
    return True


def check_something_is_labelled(db: sqlite3.Connection, source: str) -> None:
    """Refuse what has just been stored from `source` if it leaves no label.

    Raises
    ------
    LabelFileError
        If no labelled photo is left to learn from.
    """
    labelled = "SELECT 1 FROM photos WHERE role != ? AND class_id IS NOT NULL AND audit_lot IS NULL AND NOT is_held_out"
    if not db.execute(labelled, (Role.VALIDATION,)).fetchone():
        advice = "Give one photo a species, or take back one of the corrections."
        fault = LabelFault(
            None, "", "No photo would have a label then, and there would be nothing to learn from.", advice
        )
        raise LabelFileError(f"{source} cannot be accepted.", [fault])


def take_initial_labels(
    db: sqlite3.Connection,
    classes: Mapping[int, int | None],
    source: str,
    happened_at: str,
) -> None:
    """Store what was known before the run asked anything: a class per row, None for an unusable photo."""
    _record(db, "initial", classes, happened_at, None, source)
    _change_photos(db, classes)
    db.executemany("UPDATE photos SET is_initial = 1 WHERE photo_row = ?", [(int(row),) for row in classes])


def _record(
    db: sqlite3.Connection,
    kind: str,
    classes: Mapping[int, int | None] | Mapping[int, int],
    happened_at: str,
    round_number: int | None,
    source: str,
) -> None:
    source = source.encode(errors="replace").decode()  # a file name may be no valid text
    db.executemany(
        "INSERT INTO label_events (happened_at, round, photo_row, kind, old_class, new_class, source)"
        " SELECT ?, ?, photo_row, ?, class_id, ?, ? FROM photos WHERE photo_row = ?",
        [(happened_at, round_number, kind, _plain(class_id), source, int(row)) for row, class_id in classes.items()],
    )


def _change_photos(db: sqlite3.Connection, classes: Mapping[int, int | None]) -> None:
    """Give each row its class, or make it unusable where that is None."""
    db.executemany(
        "UPDATE photos SET class_id = ?, unusable = ? WHERE photo_row = ?",
        [(_plain(class_id), class_id is None, int(row)) for row, class_id in classes.items()],
    )


def _decide_again_about_mates(db: sqlite3.Connection, rows: Iterable[int]) -> None:
    """Take back what labels said of other photos of sequences in which there are new ones."""
    found = (db.execute("SELECT sequence FROM photos WHERE photo_row = ?", (int(row),)).fetchone() for row in rows)
    sequences = {sequence for (sequence,) in found if sequence is not None}
    decided = db.execute("SELECT photo_row, sequence FROM photos WHERE propagated_class IS NOT NULL").fetchall()
    db.executemany(
        "UPDATE photos SET propagated_class = NULL WHERE photo_row = ?",
        [(row,) for row, sequence in decided if sequence in sequences],
    )


def _plain(class_id: int | None) -> int | None:
    return None if class_id is None else int(class_id)  # NumPy's whole numbers are not SQLite's
