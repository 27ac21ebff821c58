"""The photos and classes of a run in its database: append-only, whatever happens to the folders."""

import json
import logging
import re
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PureWindowsPath
from unicodedata import normalize

import numpy as np

from camera_trap_al.exceptions import CheckpointError
from camera_trap_al.photos.catalogue import Catalogue, class_of
from camera_trap_al.photos.folders import FolderScan
from camera_trap_al.pools import UNLABELLED, Pools, Role

__all__ = [
    "AUDIT_DRAWN_FROM",
    "SCHEMA",
    "add_classes",
    "class_ids",
    "class_names",
    "fits",
    "leaves_its_folder",
    "load_catalogue",
    "register",
    "registered_roots",
    "reserve_for_audit",
]

logger = logging.getLogger(__name__)

VANISHED = "not there"
AUDIT_DRAWN_FROM = "audit_drawn_from"  # the setting that says from how many photos, by row, the audit was drawn

SCHEMA = """
CREATE TABLE classes (class_id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE photos (
    photo_row INTEGER PRIMARY KEY, role INTEGER NOT NULL, path TEXT NOT NULL,
    class_id INTEGER REFERENCES classes, set_aside TEXT,
    unusable INTEGER NOT NULL DEFAULT 0, is_initial INTEGER NOT NULL DEFAULT 0, audit_lot REAL,
    taken_at INTEGER, time_source TEXT, site TEXT, sequence INTEGER,
    box TEXT, n_boxes INTEGER, surest_box REAL,
    is_held_out INTEGER NOT NULL DEFAULT 0, propagated_class INTEGER, UNIQUE (role, path)
);
"""


def register(db: sqlite3.Connection, scans: Mapping[Role, FolderScan], classes: Sequence[str] = ()) -> Catalogue:
    """Give new photos a row, set vanished ones aside, try all others again, and load everything.

    Parameters
    ----------
    db
        The database of the run.
    scans
        What the data folders hold.
    classes
        Names of classes besides the folders of the training data.

    Raises
    ------
    CheckpointError
        If most photos of a data set are not under the folder given now, so that it is another folder.
    """
    roots = registered_roots(db)
    folders = scans[Role.TRAIN].folders if Role.TRAIN in scans else ()
    add_classes(db, sorted({*folders, *classes}))
    for role, scan in sorted(scans.items()):
        _register_folder(db, role, scan, roots.get(role))
    roots |= {role: scan.root for role, scan in scans.items()}
    stored_roots = {role.name: str(root) for role, root in roots.items()}
    db.execute("INSERT OR REPLACE INTO settings VALUES ('frozen.roots', ?)", (json.dumps(stored_roots),))
    return load_catalogue(db, roots)


def registered_roots(db: sqlite3.Connection) -> dict[Role, Path]:
    """Give the folder that each data set had at the last start."""
    found = db.execute("SELECT value FROM settings WHERE name = 'frozen.roots'").fetchone()
    return {Role[name]: Path(root) for name, root in json.loads(found[0]).items()} if found else {}


def add_classes(db: sqlite3.Connection, names: Sequence[str]) -> None:
    """Give the next class ids to those of `names` that are new."""
    known = class_names(db)
    new = [name for name in names if name not in known]
    db.executemany("INSERT INTO classes VALUES (?, ?)", enumerate(new, start=len(known)))
    if known and new:
        logger.info("New classes: %s", ", ".join(new))


def class_names(db: sqlite3.Connection) -> tuple[str, ...]:
    """Give the class names by class id."""
    return tuple(name for (name,) in db.execute("SELECT name FROM classes ORDER BY class_id"))


def class_ids(db: sqlite3.Connection) -> dict[str, int]:
    """Give the class ids by class name."""
    return {name: class_id for class_id, name in enumerate(class_names(db))}


def fits(db: sqlite3.Connection, role: Role, scan: FolderScan) -> bool:
    """Whether a folder holds at least half of the photos of a data set that were there at the last start."""
    expected = [path for path, set_aside in _stored(db, role).items() if set_aside != VANISHED]
    present = {normalize("NFC", path) for path in scan.photos}
    return 2 * sum(normalize("NFC", path) in present for path in expected) >= len(expected)


def _stored(db: sqlite3.Connection, role: Role) -> dict[str, str | None]:
    """Say of each photo of a data set why it is set aside, None if it is not."""
    return dict(db.execute("SELECT path, set_aside FROM photos WHERE role = ?", (role,)))


def _respell(db: sqlite3.Connection, role: Role, photos: Collection[str]) -> None:
    """Find photos whose accents are written otherwise than they were, as when a Mac copied them."""
    present = set(photos)
    stored = _stored(db, role)
    new = {normalize("NFC", path): path for path in present.difference(stored)}
    respelled = [
        (new[plain], role, path) for path in stored.keys() - present if (plain := normalize("NFC", path)) in new
    ]
    db.executemany("UPDATE photos SET path = ? WHERE role = ? AND path = ?", respelled)


def _register_folder(db: sqlite3.Connection, role: Role, scan: FolderScan, old_root: Path | None) -> None:
    _respell(db, role, scan.photos)
    stored, present = _stored(db, role), set(scan.photos)
    expected = [path for path, set_aside in stored.items() if set_aside != VANISHED]
    vanished = [path for path in expected if path not in present]
    if len(vanished) > len(expected) // 2:
        raise CheckpointError(
            f"{scan.root}: {len(vanished)} of the {len(expected)} photos that this run knows from {role.argument}"
            f"{f' (last in {old_root})' if old_root else ''} are not in this folder, so it looks like another one. "
            f"Give {role.argument} the folder that holds them, or start a new run with another output_dir.",
            scan.root,
        )
    if vanished:
        logger.warning("%d photos of %s are not there any more and are set aside.", len(vanished), scan.root)
    to_try_again = [path for path, set_aside in stored.items() if set_aside is not None and path in present]
    change = "UPDATE photos SET set_aside = ? WHERE role = ? AND path = ?"
    db.executemany(change, [(VANISHED, role, path) for path in vanished])
    db.executemany(change, [(None, role, path) for path in to_try_again])
    _add_photos(db, role, [path for path in scan.photos if path not in stored], grown=bool(stored))


def _add_photos(db: sqlite3.Connection, role: Role, paths: Sequence[str], *, grown: bool) -> None:
    ids = class_ids(db)
    (first,) = db.execute("SELECT COALESCE(MAX(photo_row) + 1, 0) FROM photos").fetchone()
    db.executemany(
        "INSERT INTO photos (photo_row, role, path, class_id) VALUES (?, ?, ?, ?)",
        (
            (row, role, path, None if role is Role.UNLABELLED else ids[class_of(path)])
            for row, path in enumerate(paths, start=first)
        ),
    )
    if grown and paths:
        logger.info("%d new photos in %s", len(paths), role.argument)


def reserve_for_audit(db: sqlite3.Connection, lots: Mapping[int, float]) -> list[tuple[str, float]]:
    """Reserve photos for the audit, and give the path and lot of all that are reserved by now.

    The photos that are registered are never drawn from again: only those that come later.
    """
    db.executemany("UPDATE photos SET audit_lot = ? WHERE photo_row = ?", [(lot, row) for row, lot in lots.items()])
    db.execute("INSERT OR REPLACE INTO settings SELECT ?, COUNT(*) FROM photos", (f"frozen.{AUDIT_DRAWN_FROM}",))
    return db.execute("SELECT path, audit_lot FROM photos WHERE audit_lot IS NOT NULL ORDER BY photo_row").fetchall()


def leaves_its_folder(path: str) -> bool:
    """Whether a path that should lie below a folder does not, on any operating system."""
    parts = re.split(r"[/\\]", path)
    windows = PureWindowsPath(path)
    return ".." in parts or "" in parts[:1] or bool(windows.drive) or "\0" in path


def _check_paths(db: sqlite3.Connection) -> None:
    """Refuse a database that somebody has made to read other files than photos of the data folders."""
    suspects = db.execute(
        "SELECT path FROM photos WHERE instr(path, '..') OR instr(path, ':') = 2 OR instr(path, char(0))"
        " OR substr(path, 1, 1) IN ('', '/', char(92))"
    )
    outside = next((path for (path,) in suspects if leaves_its_folder(path)), None)
    if outside is not None:
        database = Path(db.execute("PRAGMA database_list").fetchone()[2])
        raise CheckpointError(
            f"{database}: the path of a photo in it leaves its folder ({outside!r}), which no run of this package "
            "writes. Do not use this run: somebody has altered it.",
            database,
        )


def load_catalogue(db: sqlite3.Connection, roots: Mapping[Role, Path]) -> Catalogue:
    """Give every photo by row, as it stands in the database.

    Raises
    ------
    CheckpointError
        If a path leaves the folder of its data set.
    """
    _check_paths(db)
    photos = db.execute(
        "SELECT role, path, COALESCE(class_id, :none), set_aside IS NOT NULL OR unusable, is_initial, audit_lot,"
        " is_held_out, COALESCE(propagated_class, :none) FROM photos ORDER BY photo_row",
        {"none": UNLABELLED},
    ).fetchall()
    roles, paths, targets, is_set_aside, is_initial, audit_lots, is_held_out, propagated = zip(*photos, strict=True)
    pools = Pools(
        np.array(roles, np.int8),
        np.array(targets, np.int64),
        np.array(is_set_aside, np.bool_),
        np.array(is_initial, np.bool_),
        np.array(audit_lots, np.float64),
        np.array(is_held_out, np.bool_),
        np.array(propagated, np.int64),
    )
    return Catalogue(roots, class_names(db), paths, pools)
