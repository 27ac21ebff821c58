"""What a detector saw in the photos of a run, in a real database."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from camera_trap_al.photos.catalogue import PhotoBoxes
from camera_trap_al.run_store import box_table
from camera_trap_al.run_store.photo_table import SCHEMA

SEEN = {0: PhotoBoxes((0.1, 0.2, 1 / 3, 0.4), 2, 0.9), 2: PhotoBoxes(None, 0, 0.15), 3: PhotoBoxes(None, 0, 0.0)}


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    """A database that knows five photos."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(SCHEMA)
        db.executemany("INSERT INTO photos (photo_row, role, path) VALUES (?, 1, ?)", [(n, f"a/{n}") for n in range(5)])
        yield db


def test_boxes_come_back_to_the_last_digit(db: sqlite3.Connection) -> None:
    assert box_table.boxes(db) == {}
    box_table.store_boxes(db, SEEN)
    assert box_table.boxes(db) == SEEN
    stored = db.execute("SELECT box, n_boxes, surest_box FROM photos ORDER BY photo_row").fetchall()
    assert stored[1:] == [(None, None, None), (None, 0, 0.15), (None, 0, 0.0), (None, None, None)]
    assert stored[0] == ("[0.1, 0.2, 0.3333333333333333, 0.4]", 2, 0.9)


def test_only_what_is_new_is_written_and_what_is_not_seen_any_more_is_forgotten(db: sqlite3.Connection) -> None:
    box_table.store_boxes(db, SEEN)
    n_changes = db.total_changes
    box_table.store_boxes(db, SEEN)
    assert db.total_changes == n_changes
    changed = {0: SEEN[0]._replace(surest=0.8), 3: SEEN[3], 4: PhotoBoxes((0.0, 0.0, 1.0, 1.0), 1, 0.5)}
    box_table.store_boxes(db, changed)
    assert box_table.boxes(db) == changed
    assert db.total_changes == n_changes + 3, "the first, the third and the last"
