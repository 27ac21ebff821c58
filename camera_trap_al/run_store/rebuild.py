"""A new database for a run whose own is damaged or gone, from the labels that lie beside it."""

import json
import logging
import re
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np

from camera_trap_al.config import RunConfig
from camera_trap_al.exceptions import CheckpointError
from camera_trap_al.files import aside, explained, prepared_aside, put_in_place
from camera_trap_al.logs import stage
from camera_trap_al.photos.folders import RUN_DATABASE
from camera_trap_al.pools import Role
from camera_trap_al.query import SKIP, UNUSABLE, Answer, Query
from camera_trap_al.run_store import (
    REBUILT,
    RunStore,
    kept_settings,
    photo_table,
    place_table,
    query_table,
    run_folder,
    schema,
    writer,
)
from camera_trap_al.run_store.database import DamagedError, check_whole, now, transaction
from camera_trap_al.run_store.label_archive import ACCEPTED, AUDIT, HELD_OUT, INITIAL, read_labels

__all__ = ["open_run", "rebuild"]

logger = logging.getLogger(__name__)

ROUND_FILE = re.compile(r"round_(\d+)(?: \((\d+)\))?\.csv")
NO_CLASS = {"unlabelled", SKIP, UNUSABLE}
Photo = tuple[Role, str]  # its data set and path
Labels = dict[Photo, str]


def open_run(config: RunConfig) -> RunStore:
    """Open a run, with a new database if that was asked for and the old one is not whole; errors as `RunStore.open`."""
    if config.rebuild and config.use_checkpoints and run_folder.has_results(config.run_dir):
        writer.check_free(config.run_dir)
        if _is_whole(config.run_dir / RUN_DATABASE):
            logger.info("rebuild=True: the database of the run is whole and stays as it is")
        else:
            rebuild(config)
    return RunStore.open(config)


def _is_whole(database: Path) -> bool:
    """Whether there is a database of a run that can be read to its end; one that cannot be looked at is an error."""
    if not database.is_file():
        return False
    try:
        with transaction(database) as db:
            check_whole(db, database)
            return bool(db.execute("SELECT 1 FROM settings LIMIT 1").fetchone())
    except DamagedError as error:
        logger.warning("%s is damaged (%s)", database, error.why)
        return False


def rebuild(config: RunConfig) -> None:
    """Make the database of a run anew from ``data/labels.csv`` and what was accepted since; keep the old file.

    Photos keep their rows, and labels, skipped and unusable photos their rounds. Models are not in the database: they
    are trained again, as are class ids given anew.

    Raises
    ------
    CheckpointError
        If there are no labels to begin with, or they cannot be read; or another process works on the run.
    """
    folder = config.run_dir
    run_folder.make(folder)
    writer.take(folder)
    try:
        _rebuild(config, folder / RUN_DATABASE)
    except BaseException:
        writer.leave(folder)
        raise


def _rebuild(config: RunConfig, database: Path) -> None:
    # A rebuild that was killed after the old database had got its other name has left the new one prepared.
    salvaged = _salvaged_settings(database) or _salvaged_settings(aside(database))
    with stage(logger, "Making the database of the run anew"), prepared_aside(database) as prepared:
        prepared.unlink(missing_ok=True)
        with transaction(prepared) as db:
            schema.bring_up_to_date(db, prepared)
            n_photos, n_labels = _fill(db, config.run_dir, database)
            _store_settings(db, config, salvaged)
    with explained(database):
        _keep_old(database)
    put_in_place(database)
    given = config.kept_settings().items()
    lost = [f"{name}={value!r}" for name, value in given if name not in salvaged and value is not None]  # None: drawn
    if lost:
        logger.warning("What the run began with cannot be read any more; these are kept instead: %s", ", ".join(lost))
    logger.warning(
        "The database of the run has been made anew: it has %d photos, and of those in unlabelled_data %d with a "
        "label. Models are trained again.",
        n_photos,
        n_labels,
    )


def _fill(db: sqlite3.Connection, folder: Path, database: Path) -> tuple[int, int]:
    """Enter what is known of the run; count its photos, and the labels that are not those of folders."""
    labels, initial, rounds = _read(folder / "data" / "labels.csv"), _read(folder / INITIAL), _rounds(folder)
    spelled = {(role, normalize("NFC", path)): path for role, path in labels}
    initial = _respelled(initial, labels, spelled)
    rounds = {number: _respelled(answers, labels, spelled) for number, answers in rounds.items()}
    for photo in (photo for answers in (initial, *rounds.values()) for photo in answers):
        labels.setdefault(photo, "unlabelled")
    if not labels:
        raise CheckpointError(
            f"{folder}: the run cannot be rebuilt, since there is neither data/labels.csv nor {ACCEPTED}. Begin a new "
            "run, with the labels that you have as initial_labels.",
            database,
        )
    answered = {photo for answers in rounds.values() for photo in answers}
    if not initial and answered:  # a run of a version that did not keep them: what no round answered must be initial
        initial = {
            (role, path): label
            for (role, path), label in labels.items()
            if role is Role.UNLABELLED and label != "unlabelled" and (role, path) not in answered
        }
    _add_photos(db, labels | dict.fromkeys(answered, "unlabelled") | initial, initial)
    _reserve_for_audit(db, _respelled(_read(folder / AUDIT), labels, spelled))
    _hold_out(db, _respelled(_read(folder / HELD_OUT), labels, spelled))
    for number, answers in rounds.items():
        _replay(db, number, answers)
    _add_evaluations(db, folder)
    labelled = "SELECT COUNT(*) FROM photos WHERE role = ? AND class_id IS NOT NULL"
    return len(labels), int(db.execute(labelled, (Role.UNLABELLED,)).fetchone()[0])


def _read(file: Path) -> Labels:
    return {(role, path): label for role, path, label in (read_labels(file) if file.exists() else ())}


def _respelled(answers: Labels, labels: Labels, spelled: Mapping[Photo, str]) -> Labels:
    """Find photos by their paths of today: the accents may have been written otherwise when they were answered."""
    return {
        photo if photo in labels else (photo[0], spelled.get((photo[0], normalize("NFC", photo[1])), photo[1])): label
        for photo, label in answers.items()
    }


def _rounds(folder: Path) -> dict[int, Labels]:
    """Give what was accepted in each round, in their order; of two words on one photo in a round the later."""
    files = [
        (int(found[1]), int(found[2] or 1), file)
        for file in (folder / ACCEPTED).glob("*.csv")
        if (found := ROUND_FILE.fullmatch(file.name))
    ]
    rounds: dict[int, Labels] = {}
    for number, _, file in sorted(files):
        rounds.setdefault(number, {}).update(_read(file))
    return rounds


def _add_photos(db: sqlite3.Connection, labels: Labels, initial: Iterable[Photo]) -> None:
    """Enter all photos, with the labels that they had before the first round, or that no round is kept of."""
    photo_table.add_classes(db, sorted({*labels.values()} - NO_CLASS))
    ids = photo_table.class_ids(db)
    initially = set(initial)
    db.executemany(
        "INSERT INTO photos (photo_row, role, path, class_id, unusable, is_initial) VALUES (?, ?, ?, ?, ?, ?)",
        (
            (row, *photo, ids.get(label), label == UNUSABLE, photo in initially)
            for row, (photo, label) in enumerate(labels.items())
        ),
    )


def _reserve_for_audit(db: sqlite3.Connection, lots: Labels) -> None:
    """Reserve the photos that were reserved before, by the lots that stand in the place of labels."""
    if lots:
        rows = _rows(db)
        photo_table.reserve_for_audit(db, {rows[photo]: float(lot) for photo, lot in lots.items() if photo in rows})


def _hold_out(db: sqlite3.Connection, held_out: Labels) -> None:
    """Keep the photos out of the training that were kept out before."""
    if held_out:
        rows = _rows(db)
        place_table.hold_out(db, np.array([rows[photo] for photo in held_out if photo in rows], np.int64))


def _rows(db: sqlite3.Connection) -> dict[Photo, int]:
    return {(role, path): row for row, role, path in db.execute("SELECT photo_row, role, path FROM photos")}


def _replay(db: sqlite3.Connection, number: int, answers: Labels) -> None:
    """Enter a round as if it were answered now; a word on a photo that has a label already corrects it."""
    photo_table.add_classes(db, sorted({*answers.values()} - NO_CLASS))
    ids = photo_table.class_ids(db)
    find = "SELECT photo_row, class_id IS NOT NULL OR unusable FROM photos WHERE role = ? AND path = ?"
    said = [(*db.execute(find, photo).fetchone(), label) for photo, label in answers.items()]
    db.execute("INSERT INTO queries (round, asked_at) VALUES (?, ?)", (number, now()))
    db.executemany(
        "INSERT INTO query_rows (round, position, photo_row) VALUES (?, ?, ?)",
        [(number, position, row) for position, (row, is_known, _) in enumerate(said) if not is_known],
    )
    answer = Answer(
        {row: ids[label] for row, is_known, label in said if label in ids and not is_known},
        skipped=tuple(row for row, _, label in said if label == SKIP),
        unusable=tuple(row for row, _, label in said if label == UNUSABLE),
        corrections={row: ids[label] for row, is_known, label in said if label in ids and is_known},
        source="rebuilt",
    )
    asked = [(row, path) for (row, is_known, _), (_, path) in zip(said, answers, strict=True) if not is_known]
    rows, paths = np.array([row for row, _ in asked], np.int64), tuple(path for _, path in asked)
    query_table.store_answer(db, Query(number, rows, paths, photo_table.class_names(db)), answer, now())


def _add_evaluations(db: sqlite3.Connection, folder: Path) -> None:
    for file in (folder / "test_results").glob("train_set_size_*/metrics.json"):
        size = file.parent.name.rpartition("_")[2]
        with suppress(OSError, ValueError):  # figures that cannot be read are computed again as the run goes on
            metrics = json.loads(file.read_text(encoding="utf-8"))
            if isinstance(metrics, dict):
                db.execute("INSERT OR REPLACE INTO evaluations VALUES (?, ?)", (int(size), json.dumps(metrics)))


def _salvaged_settings(database: Path) -> dict[str, Any]:
    """Read the settings from what is left of a database, as many as can be read."""
    found: dict[str, Any] = {}
    if database.is_file():  # SQLite would make one
        with suppress(sqlite3.Error, ValueError, TypeError), closing(sqlite3.connect(database)) as db:
            for name, value in db.execute("SELECT name, value FROM settings"):
                found[name] = json.loads(value)
    return found


def _store_settings(db: sqlite3.Connection, config: RunConfig, salvaged: dict[str, Any]) -> None:
    seeded = replace(config, seed=salvaged.get("seed", config.seed)).with_seed()
    settings = kept_settings.to_store(seeded, begins=True) | salvaged | {REBUILT: now()}
    db.executemany(
        "INSERT OR IGNORE INTO settings VALUES (?, ?)", [(name, json.dumps(value)) for name, value in settings.items()]
    )


def _keep_old(database: Path) -> None:
    """Give what is left of the old database another name, with its journal, which must not meet the new one."""
    name = f"run (damaged, {datetime.now():%Y-%m-%d %H.%M.%S}).sqlite"
    for ending in ("-journal", "-wal", "-shm", ""):
        old = database.with_name(database.name + ending)
        if old.exists():
            old.rename(database.with_name(name + ending))
