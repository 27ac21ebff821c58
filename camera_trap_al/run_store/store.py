"""A run on disk: settings, photos, labels, questions and models, whole or not at all."""

import json
import logging
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from camera_trap_al.config import RunConfig
from camera_trap_al.exceptions import CheckpointError, DiskFullError
from camera_trap_al.files import (
    aside,
    explained,
    left_if_open,
    put_in_place,
    remove_leftover,
    sha256_of,
    write_csv,
)
from camera_trap_al.photos.catalogue import Catalogue
from camera_trap_al.photos.folders import RUN_DATABASE, FolderScan
from camera_trap_al.pools import IndexArray, Role
from camera_trap_al.query import UNUSABLE, Answer, Query, Reasons, check_answer
from camera_trap_al.run_store import kept_settings, photo_table, query_table, run_folder, schema, writer
from camera_trap_al.run_store.artefact import Artefact
from camera_trap_al.run_store.database import check_whole, now, transaction
from camera_trap_al.run_store.label_archive import (
    LABEL_COLUMNS,
    NOT_ANSWERS,
    keep_answer,
    keep_audit,
    keep_file,
    keep_initial,
)
from camera_trap_al.run_store.query_table import AskedPhoto

__all__ = ["REBUILT", "CheckpointManager", "RunStore"]

logger = logging.getLogger(__name__)

REBUILT = "frozen.rebuilt"  # a setting that says when the database was made anew


class RunStore:
    """The run folder, of which ``data/run.sqlite`` is the truth.

    Every method opens the database, does one transaction and closes it, so that nothing is open while a person labels.
    One process works on a run; to be closed, or used as a context manager, so that another one may.

    Attributes
    ----------
    folder
        The run folder.
    config
        The settings in force: those asked for, but with the kept settings of the run that is resumed.
    """

    def __init__(self, folder: Path, config: RunConfig) -> None:
        self.folder = folder
        self.config = config

    @classmethod
    def open(cls, config: RunConfig) -> "RunStore":
        """Open the run in the folder that `config` names, or begin a new one there.

        Raises
        ------
        CheckpointError
            If the run there was made by a newer version, is damaged, or another process works on it; or the folder
            cannot be made.
        RunFileError
            If the folder cannot be written to.
        """
        folder = config.run_dir
        writer.check_free(folder)  # before anything that would disturb the other program
        if not config.use_checkpoints and run_folder.has_results(folder):
            run_folder.move_aside(folder)
        run_folder.check_database(folder)
        run_folder.make(folder)
        store = cls(folder, config)
        try:
            store._create_or_check()
            store._begin_or_go_on(config)
        except BaseException:
            store.close()
            raise
        return store

    def _begin_or_go_on(self, config: RunConfig) -> None:
        stored = self._settings()
        if self.has_begun():
            self.config = kept_settings.with_kept_settings(config, stored)
            self._save_settings(kept_settings.to_store(config, begins=False))
            logger.info("Going on with the run in %s", self.folder)
        else:
            self._begin(config if config.seed is not None else replace(config, seed=stored.get("seed")))

    def close(self) -> None:
        """Let other processes work on the run."""
        writer.leave(self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.folder / RUN_DATABASE

    def transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        """Open the database for one transaction, for the modules that know its tables."""
        return transaction(self.database)

    def _create_or_check(self) -> None:
        with self.transaction() as db:
            writer.take(self.folder)
            check_whole(db, self.database)
            schema.bring_up_to_date(db, self.database)

    def has_begun(self) -> bool:
        """Whether the run got as far as a first model or a first question."""
        with self.transaction() as db:
            tables = ("artefacts", "queries", f"settings WHERE name = '{REBUILT}'")
            return any(db.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() for table in tables)

    def _begin(self, config: RunConfig) -> None:
        """Begin anew: what an earlier start registered before it failed binds nobody."""
        self.config = replace(config.with_seed(), audit_fraction=config.audit_share)
        with self.transaction() as db:
            for table in ("label_events", "photos", "classes", "settings"):  # nobody was asked yet: initial labels only
                db.execute(f"DELETE FROM {table}")
        for left_over in (self.folder / name for name in NOT_ANSWERS):
            with explained(left_over):
                left_over.unlink(missing_ok=True)
        self._save_settings(kept_settings.to_store(self.config, begins=True))
        logger.info("New run in %s with seed %d", self.folder, self.config.seed)

    def _settings(self) -> dict[str, Any]:
        with self.transaction() as db:
            return {name: json.loads(value) for name, value in db.execute("SELECT name, value FROM settings")}

    def _save_settings(self, settings: Mapping[str, Any]) -> None:
        values = [(name, json.dumps(value, default=str)) for name, value in settings.items()]
        with self.transaction() as db:
            db.executemany("INSERT OR REPLACE INTO settings VALUES (?, ?)", values)

    def recall(self, name: str) -> Any:
        """Give a value that was stored under `name`, or None."""
        return self._settings().get(f"frozen.{name}")

    def remember(self, name: str, value: Any) -> None:
        """Store a plain value under `name`, in the place of an earlier one."""
        self._save_settings({f"frozen.{name}": value})

    def root_of(self, role: Role) -> Path | None:
        """Give the folder that a data set had at the last start; None if the run has no such data set."""
        with self.transaction() as db:
            return photo_table.registered_roots(db).get(role)

    def class_names(self) -> tuple[str, ...]:
        """Give the names of the classes so far, by class id."""
        with self.transaction() as db:
            return photo_table.class_names(db)

    def register(self, scans: Mapping[Role, FolderScan], classes: Sequence[str] = ()) -> Catalogue:
        """Give new photos a row, set vanished ones aside, take back returned ones, and load everything.

        Rows and class ids are append-only. A data set that is not scanned this time keeps its photos and the folder
        that it had.

        Parameters
        ----------
        scans
            What the data folders hold.
        classes
            Names of classes besides the folders of the training data.

        Raises
        ------
        CheckpointError
            If most photos of a data set are not under the folder given now, so that it is another folder.
        """
        with self.transaction() as db:
            return photo_table.register(db, scans, classes)

    def fits(self, role: Role, scan: FolderScan) -> bool:
        """Whether a folder holds at least half of the photos that the run knows of a data set."""
        with self.transaction() as db:
            return photo_table.fits(db, role, scan)

    def set_aside(self, reasons: Mapping[int, str]) -> None:
        """Record that photos cannot be used, and why, and list them in ``unreadable_images.csv``."""
        with self.transaction() as db:
            db.executemany(
                "UPDATE photos SET set_aside = ? WHERE photo_row = ?", [(why, int(row)) for row, why in reasons.items()]
            )
            listed = db.execute(
                "SELECT role, path, COALESCE(set_aside, 'marked as unusable') FROM photos"
                " WHERE set_aside IS NOT NULL OR unusable ORDER BY photo_row"
            ).fetchall()
        rows = [(f"{Role(role).argument}/{path}", why) for role, path, why in listed]
        with left_if_open():
            write_csv(self.folder / "unreadable_images.csv", ("path", "reason"), rows)

    def reserve_for_audit(self, lots: Mapping[int, float]) -> None:
        """Reserve photos for the audit by their lots, and keep beside the database which ones."""
        with self.transaction() as db:
            keep_audit(self.folder, photo_table.reserve_for_audit(db, lots))

    def ask(self, rows: IndexArray, reasons: Reasons | None = None) -> Query:
        """Store the next round's query.

        Parameters
        ----------
        rows
            (n,) rows to ask about, in the strategy's order.
        reasons
            What was thought of them.
        """
        with self.transaction() as db:
            return query_table.ask(db, rows, now(), reasons)

    def asked_photos(self) -> list[AskedPhoto]:
        """Give every photo that was asked about, in the order of asking."""
        with self.transaction() as db:
            return query_table.asked_photos(db)

    def open_query(self, at_most: int | None = None) -> Query | None:
        """Give what was asked and is not answered, without the photos set aside since; None if there is nothing.

        Parameters
        ----------
        at_most
            Give only so many of its photos, the first ones.
        """
        with self.transaction() as db:
            found = db.execute("SELECT round FROM queries WHERE answered_at IS NULL").fetchone()
            if found is None:
                return None
            query = query_table.load_query(db, found[0], at_most)
            if not len(query):
                db.execute("UPDATE queries SET answered_at = ? WHERE round = ?", (now(), query.round))
                return None
            return query

    def commit(self, query: Query, answer: Answer) -> None:
        """Store an answer: one transaction holds all that it says, and ends when its file is in the archive too.

        When this returns, no crash can lose a label of it.

        Raises
        ------
        LabelFileError
            If it does not fit the question (see `query.check_answer`) or would leave no labelled photo; nothing is
            stored then.
        CheckpointError
            If another program has answered the question meanwhile; nothing is stored then.
        """
        check_answer(query, answer)
        with self.transaction() as db:
            is_stored = query_table.store_answer(db, query, answer, now())
            if is_stored:
                query_table.check_something_is_labelled(db, answer.source)
                keep_answer(self.folder, query, answer)
        if not is_stored:
            raise CheckpointError(
                f"{self.folder}: another program has answered this question meanwhile. Only one may work on a run: "
                "close the other one, then start again. Its labels are in the run, those of this answer are not.",
                self.database,
            )

    def catalogue(self, roots: Mapping[Role, Path]) -> Catalogue:
        """Load all photos, with the folders where they lie now."""
        with self.transaction() as db:
            return photo_table.load_catalogue(db, roots)

    def take_initial_labels(self, classes: Mapping[int, int | None], source: str, file_content: bytes | None) -> None:
        """Store what was known of unlabelled photos before the run asked anything.

        Parameters
        ----------
        classes
            Class id by row; None for an unusable photo.
        source
            Name of the file that says so.
        file_content
            The file, byte for byte, to be archived; None if it is too large for that.
        """
        if file_content is not None:
            keep_file(self.folder, "initial", source, file_content)
        with self.transaction() as db:
            query_table.take_initial_labels(db, classes, source, now())
            labels = db.execute(
                "SELECT path, CASE WHEN unusable THEN ? ELSE name END FROM photos LEFT JOIN classes USING (class_id)"
                " WHERE is_initial ORDER BY photo_row",
                (UNUSABLE,),
            )
            keep_initial(self.folder, labels)

    def skipped_rows(self, first_round: int, end_round: int) -> IndexArray:
        """Give the rows that the expert skipped from `first_round` to before `end_round`."""
        with self.transaction() as db:
            return query_table.skipped_rows(db, first_round, end_round)

    def n_rounds(self) -> int:
        """Count the rounds that were answered."""
        with self.transaction() as db:
            return int(db.execute("SELECT COUNT(*) FROM queries WHERE answered_at IS NOT NULL").fetchone()[0])

    def write_labels(self) -> None:
        """Write ``data/labels.csv``: every photo's label for people; the database stays the truth."""
        with self.transaction() as db:
            rows = db.execute(
                "SELECT role, path, CASE WHEN unusable THEN ? ELSE COALESCE(name, 'unlabelled') END"
                " FROM photos LEFT JOIN classes USING (class_id) ORDER BY photo_row",
                (UNUSABLE,),
            ).fetchall()
        folders = {role: role.argument for role in Role}
        labels = ((f"{folders[role]}/{path}", name) for role, path, name in rows)
        with left_if_open():
            write_csv(self.folder / "data" / "labels.csv", LABEL_COLUMNS, labels)

    def record_evaluation(self, train_set_size: int, metrics: Mapping[str, Any]) -> None:
        """Store the validation figures of the model trained on so many labels."""
        with self.transaction() as db:
            db.execute("INSERT OR REPLACE INTO evaluations VALUES (?, ?)", (train_set_size, json.dumps(dict(metrics))))

    def validation_history(self) -> list[dict[str, Any]]:
        """Give the validation figures so far, in order of `train_set_size`, which is among their keys."""
        with self.transaction() as db:
            rows = db.execute("SELECT train_set_size, metrics FROM evaluations ORDER BY train_set_size").fetchall()
        return [{"train_set_size": size, **json.loads(metrics)} for size, metrics in rows]

    def record_round(self, n_answers: int, figures: Mapping[str, Any]) -> None:
        """Store how the run stood with so many answers, as plain values."""
        with self.transaction() as db:
            db.execute("INSERT OR REPLACE INTO rounds VALUES (?, ?)", (n_answers, json.dumps(dict(figures))))

    def round_history(self) -> list[dict[str, Any]]:
        """Give how the run stood, in order of `n_answers`, which is among the keys."""
        with self.transaction() as db:
            rows = db.execute("SELECT n_answers, figures FROM rounds ORDER BY n_answers").fetchall()
        return [{"n_answers": n_answers, **json.loads(figures)} for n_answers, figures in rows]

    def save(self, artefacts: Sequence[Artefact]) -> None:
        """Write artefacts so that files and database change together.

        The files are prepared aside, then their checksums are committed, then they are put in place. After a kill
        `lineage_of` finishes the last step, or finds that the prepared files were never committed.
        """
        try:
            entries = [artefact.prepare(self.folder) for artefact in artefacts]
            with self.transaction() as db:
                db.executemany("INSERT OR REPLACE INTO artefacts VALUES (?, ?, ?)", entries)
        except DiskFullError:  # nothing was committed, and room is what is needed now
            for artefact in artefacts:
                remove_leftover(aside(self.folder / artefact.file))
            raise
        for artefact in artefacts:
            put_in_place(self.folder / artefact.file)

    def lineage_of(self, file: str) -> dict[str, Any] | None:
        """Say what the artefact in `file` was made from; None if it is missing or not the one that was saved."""
        with self.transaction() as db:
            found = db.execute("SELECT sha256, lineage FROM artefacts WHERE file = ?", (file,)).fetchone()
        if found is None:
            return None
        checksum, lineage = found
        path, prepared = self.folder / file, aside(self.folder / file)
        if prepared.exists() and sha256_of(prepared) == checksum:
            put_in_place(path)
        if not path.exists() or sha256_of(path) != checksum:
            self.tell_made_again(file)
            return None
        return dict(json.loads(lineage))

    def tell_made_again(self, file: str) -> None:
        """Warn that an artefact cannot be used any more."""
        logger.warning("%s is missing or not the file that was saved; it is made again.", self.folder / file)


CheckpointManager = RunStore
