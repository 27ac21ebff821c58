"""What a detector saw in the photos of a run, in its database."""

import json
import sqlite3
from collections.abc import Mapping

from camera_trap_al.photos.catalogue import PhotoBoxes

__all__ = ["boxes", "store_boxes"]


def store_boxes(db: sqlite3.Connection, found: Mapping[int, PhotoBoxes]) -> None:
    """Store what was seen in the photos of these rows, and that nothing is known of all others, where that is new."""
    known = boxes(db)
    forgotten = [(None, None, None, row) for row in known.keys() - found.keys()]
    new = [
        (None if seen.box is None else json.dumps(seen.box), seen.n_boxes, seen.surest, int(row))
        for row, seen in found.items()
        if known.get(row) != seen
    ]
    db.executemany("UPDATE photos SET box = ?, n_boxes = ?, surest_box = ? WHERE photo_row = ?", [*forgotten, *new])


def boxes(db: sqlite3.Connection) -> dict[int, PhotoBoxes]:
    """Give what was seen, by row; rows of which nothing is known are left out."""
    found = db.execute(
        "SELECT photo_row, box, n_boxes, surest_box FROM photos WHERE n_boxes IS NOT NULL ORDER BY photo_row"
    )
    return {
        row: PhotoBoxes(None if box is None else tuple(json.loads(box)), n_boxes, surest)
        for row, box, n_boxes, surest in found
    }
