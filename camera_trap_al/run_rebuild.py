"""A new database for a run whose own is damaged or gone, from the labels that lie beside it."""

import json
import logging
import re
import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from camera_trap_al import photo_table, query_table, run_folder, run_format, run_settings, run_writer
from camera_trap_al.config import RunConfig
from camera_trap_al.exceptions import CameraTrapALError, CheckpointError
from camera_trap_al.files import aside
from camera_trap_al.label_archive import ACCEPTED, read_labels
from camera_trap_al.logs import stage
from camera_trap_al.photo_folders import RUN_DATABASE
from camera_trap_al.pools import Role
from camera_trap_al.query import SKIP, UNUSABLE, Answer
from camera_trap_al.run_database import check_whole, transaction
from camera_trap_al.run_store import REBUILT, RunStore

__all__ = ["open_run", "rebuild"]

logger = logging.getLogger(__name__)

ROUND_FILE = re.compile(r"round_(\d+)(?: \((\d+)\))?\.csv")
NO_CLASS = {"unlabelled", SKIP, UNUSABLE}
Labels = dict[tuple[Role, str], str]  # by data set and path


def open_run(config: RunConfig) -> RunStore:
    """Open a run, with a new database if that was asked for and the old one is not whole; errors as `RunStore.open`."""
    if config.rebuild and run_folder.has_results(config.run_dir):
        if _is_whole(config.run_dir / RUN_DATABASE):
            logger.info("rebuild=True: the database of the run is whole and stays as it is")
        else:
            rebuild(config)
    return RunStore.open(config)


def _is_whole(database: Path) -> bool:
    """Whether there is a database of a run that can be read to its end."""
    if not database.is_file():
        return False
    try:
        with transaction(database) as db:
            check_whole(db, database)
            return bool(db.execute("SELECT 1 FROM settings LIMIT 1").fetchone())
    except CameraTrapALError as error:
        logger.warning("%s", error)
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
    run_writer.check_free(folder)
    database = folder / RUN_DATABASE
    prepared = aside(database)
    prepared.unlink(missing_ok=True)
    with stage(logger, "Making the database of the run anew"), transaction(prepared) as db:
        run_format.bring_up_to_date(db, prepared)
        n_photos = _fill(db, folder, database)
        _store_settings(db, config, _salvaged_settings(database))
    _keep_old(database)
    prepared.replace(database)
    logger.warning("The database of the run has been made anew with %d photos; models are trained again.", n_photos)


def _fill(db: sqlite3.Connection, folder: Path, database: Path) -> int:
    listed = folder / "data" / "labels.csv"
    labels: Labels = {(role, path): label for role, path, label in (read_labels(listed) if listed.exists() else ())}
    rounds = _rounds(folder)
    for answers in rounds.values():
        for photo in answers:
            labels.setdefault(photo, "unlabelled")
    if not labels:
        raise CheckpointError(
            f"{folder}: the run cannot be rebuilt, since there is neither data/labels.csv nor {ACCEPTED}. Begin a new "
            "run, with the labels that you have as initial_labels.",
            database,
        )
    outside = next((path for _, path in labels if photo_table.leaves_its_folder(path)), None)
    if outside is not None:
        raise CheckpointError(f"{listed}: the path {outside!r} leaves its folder. Correct it.", listed)
    answered = {photo for answers in rounds.values() for photo in answers}
    _add_photos(db, labels, answered)
    for number, answers in rounds.items():
        _replay(db, number, answers)
    _add_evaluations(db, folder)
    return len(labels)


def _rounds(folder: Path) -> dict[int, Labels]:
    """Give what was accepted in each round, in their order; of two words on one photo in a round the later."""
    files = [
        (int(found[1]), int(found[2] or 1), file)
        for file in (folder / ACCEPTED).glob("*.csv")
        if (found := ROUND_FILE.fullmatch(file.name))
    ]
    rounds: dict[int, Labels] = {}
    for number, _, file in sorted(files):
        rounds.setdefault(number, {}).update({(role, path): label for role, path, label in read_labels(file)})
    return rounds


def _add_photos(db: sqlite3.Connection, labels: Labels, answered: Iterable[tuple[Role, str]]) -> None:
    """Enter all photos; those that a round answered wait for it, other labels of unlabelled photos are initial ones."""
    photo_table.add_classes(db, sorted({*labels.values()} - NO_CLASS))
    ids: dict[str, int | None] = {name: class_id for class_id, name in enumerate(photo_table.class_names(db))}
    waiting, were_asked = set(answered), bool(answered)
    db.executemany(
        "INSERT INTO photos (photo_row, role, path, class_id, unusable, is_initial) VALUES (?, ?, ?, ?, ?, ?)",
        (
            (
                row,
                photo[0],
                photo[1],
                class_id := None if photo in waiting else ids.get(label),
                label == UNUSABLE and photo not in waiting,
                photo[0] is Role.UNLABELLED and class_id is not None and were_asked,
            )
            for row, (photo, label) in enumerate(labels.items())
        ),
    )


def _replay(db: sqlite3.Connection, number: int, answers: Labels) -> None:
    """Enter a round as if it were answered now; a word on a photo that has a label already corrects it."""
    photo_table.add_classes(db, sorted({*answers.values()} - NO_CLASS))
    ids = {name: class_id for class_id, name in enumerate(photo_table.class_names(db))}
    find = "SELECT photo_row, class_id IS NOT NULL OR unusable FROM photos WHERE role = ? AND path = ?"
    said = [(*db.execute(find, photo).fetchone(), label) for photo, label in answers.items()]
    db.execute("INSERT INTO queries (round, asked_at) VALUES (?, ?)", (number, _now()))
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
    query_table.store_answer(db, query_table.load_query(db, number), answer, _now())


def _add_evaluations(db: sqlite3.Connection, folder: Path) -> None:
    for file in (folder / "test_results").glob("train_set_size_*/metrics.json"):
        size = file.parent.name.rpartition("_")[2]
        with suppress(OSError, ValueError):  # figures that cannot be read are computed again as the run goes on
            metrics = json.loads(file.read_text(encoding="utf-8"))
            db.execute("INSERT OR REPLACE INTO evaluations VALUES (?, ?)", (int(size), json.dumps(metrics)))


def _salvaged_settings(database: Path) -> dict[str, Any]:
    """Read the settings from what is left of a database: none if it cannot be read."""
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
            return {name: json.loads(value) for name, value in db.execute("SELECT name, value FROM settings")}
    except (sqlite3.Error, ValueError):
        return {}


def _store_settings(db: sqlite3.Connection, config: RunConfig, salvaged: dict[str, Any]) -> None:
    seeded = replace(config, seed=salvaged.get("seed", config.seed)).with_seed()
    settings = run_settings.to_store(seeded, begins=True) | salvaged | {REBUILT: _now()}
    db.executemany(
        "INSERT INTO settings VALUES (?, ?)", [(name, json.dumps(value)) for name, value in settings.items()]
    )


def _keep_old(database: Path) -> None:
    """Give what is left of the old database another name, with its journal, which must not meet the new one."""
    name = f"run (damaged, {datetime.now():%Y-%m-%d %H.%M.%S}).sqlite"
    for ending in ("-journal", "-wal", "-shm", ""):
        old = database.with_name(database.name + ending)
        if old.exists():
            old.rename(database.with_name(name + ending))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
