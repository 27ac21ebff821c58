"""The tables of a run's database, and how those of an older version become these."""

import sqlite3
from pathlib import Path

from camera_trap_al.exceptions import CheckpointError
from camera_trap_al.run_store import photo_table, query_table

__all__ = ["FORMAT", "bring_up_to_date"]

FORMAT = 4

SCHEMA = f"""
{photo_table.SCHEMA}
{query_table.SCHEMA}
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE artefacts (file TEXT PRIMARY KEY, sha256 TEXT NOT NULL, lineage TEXT NOT NULL);
CREATE TABLE evaluations (train_set_size INTEGER PRIMARY KEY, metrics TEXT NOT NULL);
CREATE TABLE rounds (n_answers INTEGER PRIMARY KEY, figures TEXT NOT NULL);
"""
MIGRATIONS = {  # from which format, and what makes it the next one
    1: """
ALTER TABLE photos ADD COLUMN unusable INTEGER NOT NULL DEFAULT 0;
ALTER TABLE photos ADD COLUMN is_initial INTEGER NOT NULL DEFAULT 0;
ALTER TABLE query_rows ADD COLUMN is_answered INTEGER NOT NULL DEFAULT 0;
ALTER TABLE label_events RENAME TO old_label_events;
CREATE TABLE label_events (
    event INTEGER PRIMARY KEY, happened_at TEXT NOT NULL, round INTEGER REFERENCES queries,
    photo_row INTEGER NOT NULL REFERENCES photos, kind TEXT NOT NULL, old_class INTEGER, new_class INTEGER,
    source TEXT NOT NULL
);
INSERT INTO label_events
    SELECT event, happened_at, round, photo_row, 'label', old_class, new_class, source FROM old_label_events;
DROP TABLE old_label_events;
""",
    2: """
ALTER TABLE photos ADD COLUMN audit_lot REAL;
ALTER TABLE query_rows ADD COLUMN score REAL;
ALTER TABLE query_rows ADD COLUMN guess INTEGER;
ALTER TABLE query_rows ADD COLUMN confidence REAL;
CREATE TABLE rounds (n_answers INTEGER PRIMARY KEY, figures TEXT NOT NULL);
""",
    3: """
ALTER TABLE photos ADD COLUMN taken_at INTEGER;
ALTER TABLE photos ADD COLUMN time_source TEXT;
ALTER TABLE photos ADD COLUMN site TEXT;
ALTER TABLE photos ADD COLUMN sequence INTEGER;
ALTER TABLE photos ADD COLUMN box TEXT;
ALTER TABLE photos ADD COLUMN n_boxes INTEGER;
ALTER TABLE photos ADD COLUMN surest_box REAL;
ALTER TABLE photos ADD COLUMN is_held_out INTEGER NOT NULL DEFAULT 0;
ALTER TABLE photos ADD COLUMN propagated_class INTEGER;
""",
}


def bring_up_to_date(db: sqlite3.Connection, database: Path) -> None:
    """Make the tables of a new database, or change those of an older format.

    Parameters
    ----------
    db
        A connection in a transaction.
    database
        The file, for messages.

    Raises
    ------
    CheckpointError
        If the format is newer than this version of the package.
    """
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > FORMAT:
        raise CheckpointError(
            f"{database}: this run has format {version}, and this version of camera_trap_al reads up to {FORMAT}. "
            "Install a newer camera_trap_al, or choose another output_dir.",
            database,
        )
    steps = [SCHEMA] if version == 0 else [MIGRATIONS[old] for old in range(version, FORMAT)]
    for statement in "".join(steps).split(";\n"):
        db.execute(statement)
    db.execute(f"PRAGMA user_version = {FORMAT}")
