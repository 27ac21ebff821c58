"""A run whose database is damaged or gone has every label again when it is rebuilt."""

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
import pytest

from camera_trap_al import files, run_active_learning
from camera_trap_al.config import RunConfig
from camera_trap_al.exceptions import CheckpointError, RunFileError
from camera_trap_al.files import aside
from camera_trap_al.photos.folders import FolderScan
from camera_trap_al.pools import Role
from camera_trap_al.query import Answer
from camera_trap_al.run_store import RunStore
from camera_trap_al.run_store import rebuild as run_rebuild
from camera_trap_al.run_store.artefact import Artefact
from camera_trap_al.run_store.label_archive import ACCEPTED, INITIAL
from camera_trap_al.run_store.rebuild import open_run
from camera_trap_al.run_store.writer import WRITER_FILE

CLASSES = ("Red_Deer", "fox, red", 'say "boar"', "R\u00e4h", "=sum", "'quote", "'-both")
NEW = ("-new", "Ma\u0301rder", "class 3")
SITES = ("site 1", 'b, "c"', "\u00c4cker/north", "=d", "'e")
KEPT = {"seed": 5, "feat_dim": 8, "embedding_train_lr": 0.25}


@dataclass
class RandomRun:
    """A run with answers of every kind; another one for each seed."""

    folder: Path
    seed: int
    n_rounds: int = 3
    publishes_last: bool = True
    has_initial_labels: bool | None = None
    answered: set[int] = field(default_factory=set)

    def make(self) -> "RandomRun":
        self.dice = random.Random(self.seed)
        self.sites = self.dice.sample(SITES, 3)
        self.n_unlabelled = 24
        with RunStore.open(RunConfig(output_dir=self.folder, **KEPT)) as store:
            store.register(self.scans(), CLASSES)
            if self.has_initial_labels if self.has_initial_labels is not None else self.dice.random() < 0.6:
                self._take_initial_labels(store)
            store.save([Artefact("classifier/classifier.npz", {}, lambda path: path.write_bytes(b"model"))])
            self._publish(store)
            for number in range(self.n_rounds):
                if self.dice.random() < 0.3:  # photos that come later have later rows
                    self.n_unlabelled += 3
                    store.register(self.scans())
                    store.write_labels()
                self._answer(store)
                if number + 1 < self.n_rounds or self.publishes_last:
                    self._publish(store)
            if self.dice.random() < 0.5 and len(rows := self._unlabelled(store)):
                store.ask(rows[:2])
        return self

    def scans(self) -> dict[Role, FolderScan]:
        classes = CLASSES[: 3 + self.seed % 4]
        labelled = [f"{name}/{index}.jpg" for name in classes for index in range(2)]
        unlabelled = [f"{self.sites[index % 3]}/{index}.jpg" for index in range(self.n_unlabelled)]
        photos = {Role.TRAIN: labelled, Role.UNLABELLED: unlabelled, Role.VALIDATION: labelled}
        folders = {role: tuple(sorted({path.partition("/")[0] for path in paths})) for role, paths in photos.items()}
        return {
            role: FolderScan(Path(f"/{role.argument}"), tuple(sorted(paths)), folders[role], {}, 0)
            for role, paths in photos.items()
        }

    def _unlabelled(self, store: RunStore) -> np.ndarray:
        rows = store.catalogue({}).pools.unlabelled
        return np.array(self.dice.sample(rows.tolist(), len(rows)), np.int64)

    def _take_initial_labels(self, store: RunStore) -> None:
        rows = self._unlabelled(store)[:5].tolist()
        store.take_initial_labels({row: self.dice.choice([0, 1, 2, None]) for row in rows}, "old.csv", b"x")

    def _answer(self, store: RunStore) -> None:
        store.ask(self._unlabelled(store)[: self.dice.randint(1, 4)])
        n_parts = self.dice.randint(1, 3)
        for part in range(n_parts):
            query = store.open_query()
            if query is None:
                return
            rows = query.rows.tolist()
            is_last = part == n_parts - 1
            new = (self.dice.choice(NEW),) if self.dice.random() < 0.3 else ()
            new = tuple(name for name in new if name not in query.classes)
            class_ids = range(len(query.classes) + len(new))
            labels: dict[int, int] = {}
            skipped, unusable = [], []
            for row in rows if is_last else rows[: self.dice.randint(0, len(rows))]:
                kind = self.dice.random()
                if kind < 0.6:
                    labels[row] = self.dice.choice(class_ids)
                else:
                    (skipped if kind < 0.8 else unusable).append(row)
            known = [label.row for label in query.known.values() if label.row not in rows]
            corrected = self.dice.sample(known, min(len(known), self.dice.randint(0, 2)))
            corrections = {row: self.dice.choice(class_ids) for row in corrected[:1]}
            answer = Answer(
                labels,
                skipped=tuple(skipped),
                unusable=(*unusable, *corrected[1:]),
                corrections=corrections,
                new_classes=new,
                is_partial=not is_last,
                source="anna.csv",
                file_content=b"anything",
            )
            store.commit(query, answer)
            if labels or skipped or unusable or corrected:
                self.answered.add(query.round)

    def _publish(self, store: RunStore) -> None:
        store.write_labels()
        size = self.dice.randint(1, 1000)
        metrics = {"accuracy": self.dice.random(), "per_class": {"R\u00e4h": [1, 2.5]}}
        folder = store.folder / "test_results" / f"train_set_size_{size}"
        folder.mkdir(exist_ok=True)
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=2, ensure_ascii=False), "utf-8")
        store.record_evaluation(size, metrics)


@dataclass
class State:
    """What a rebuilt run must have in common with the one that it was."""

    photos: list[tuple[Any, ...]]
    evaluations: list[dict[str, Any]]
    skipped: dict[int, list[int]]

    @classmethod
    def of(cls, folder: Path) -> "State":
        with closing(sqlite3.connect(folder / "data" / "run.sqlite")) as db:
            photos = db.execute(
                "SELECT photo_row, role, path, name, unusable, is_initial"
                " FROM photos LEFT JOIN classes USING (class_id) ORDER BY photo_row"
            ).fetchall()
        store = RunStore(folder, RunConfig(output_dir=folder))
        skipped = {number: store.skipped_rows(number, number + 1).tolist() for number in range(1, 12)}
        return cls(photos, store.validation_history(), skipped)

    @property
    def said(self) -> dict[str, tuple[Any, ...]]:
        """What was said of each unlabelled photo of which anything was."""
        return {path: said for _, role, path, *said in self.photos if role == Role.UNLABELLED and (said[0] or said[1])}


def answered_rounds(folder: Path) -> list[int]:
    with closing(sqlite3.connect(folder / "data" / "run.sqlite")) as db:
        answered = "SELECT round FROM queries WHERE answered_at IS NOT NULL ORDER BY round"
        return [number for (number,) in db.execute(answered)]


def deleted(database: Path) -> None:
    database.unlink()


def emptied(database: Path) -> None:
    database.write_bytes(b"")


def garbage(database: Path) -> None:
    database.write_bytes(random.Random(1).randbytes(10_000))


def zeros(database: Path) -> None:
    database.write_bytes(b"\0" * database.stat().st_size)  # as a power cut leaves some


def cut_short(database: Path) -> None:
    os.truncate(database, 2 * 4096 + 10)


def photos_overwritten(database: Path) -> None:
    with closing(sqlite3.connect(database)) as db:
        (page,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'photos'").fetchone()
    with database.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)


def with_hot_journal(damage: Callable[[Path], None]) -> Callable[[Path], None]:
    """Damage to the database of a program that was killed while it wrote."""

    def killed_and_damaged(database: Path) -> None:
        journal = database.with_name("run.sqlite-journal")
        with closing(sqlite3.connect(database, isolation_level=None)) as db:
            db.execute("PRAGMA cache_size = 1")
            db.execute("BEGIN IMMEDIATE")
            db.execute("DELETE FROM photos")
            db.execute("DELETE FROM settings")
            torn = database.read_bytes(), journal.read_bytes()
        database.write_bytes(torn[0])
        journal.write_bytes(torn[1])
        damage(database)

    return killed_and_damaged


DAMAGES = {
    **{damage.__name__: damage for damage in (deleted, emptied, garbage, zeros, cut_short, photos_overwritten)},
    "deleted, hot journal": with_hot_journal(deleted),
    "emptied, hot journal": with_hot_journal(emptied),
    "garbage, hot journal": with_hot_journal(garbage),
    "cut short, hot journal": with_hot_journal(cut_short),
}
LEAVES_SETTINGS = {"photos_overwritten", "cut short, hot journal"}  # the journal has what was cut off


def rebuilding(folder: Path, **settings: Any) -> RunConfig:
    return RunConfig(output_dir=folder, rebuild=True, **settings)


@pytest.mark.parametrize("seed", range(20))
def test_a_rebuilt_run_is_as_it_was(tmp_path: Path, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    run = RandomRun(tmp_path / "run", seed, n_rounds=1 + seed % 4, publishes_last=seed % 3 > 0).make()
    before, database = State.of(run.folder), run.folder / "data" / "run.sqlite"
    name = list(DAMAGES)[seed % len(DAMAGES)]
    DAMAGES[name](database)
    left = {path.name: path.read_bytes() for path in database.parent.glob("run.sqlite*")}
    with pytest.raises(CheckpointError, match="rebuild=True"):
        RunStore.open(RunConfig(output_dir=run.folder))
    caplog.clear()
    with open_run(rebuilding(run.folder)) as store:
        assert State.of(run.folder) == before
        assert set(answered_rounds(run.folder)) == run.answered
        assert store.n_rounds() == len(run.answered)
        assert store.has_begun() and store.open_query() is None
        kept = {name: getattr(store.config, name) for name in KEPT}
        if name in LEAVES_SETTINGS:
            assert kept == KEPT
            assert store.root_of(Role.UNLABELLED) == Path("/unlabelled_data")
        else:
            assert kept["feat_dim"] == 256 and kept["seed"] is not None
            assert "cannot be read any more; these are kept instead: " in caplog.text and "feat_dim=256" in caplog.text
        assert f"it has {len(before.photos)} photos" in caplog.text
        assert store.lineage_of("classifier/classifier.npz") is None, "models are trained again"
        catalogue = store.register(run.scans(), CLASSES)
        labels = [(path, label) for _, _, path, label, _, _ in before.photos]
        names = [catalogue.classes[target] if target >= 0 else None for target in catalogue.pools.targets]
        assert list(zip(catalogue.paths, names, strict=True)) == labels, "no photo is new"
        assert store.ask(np.array([0])).round == max(run.answered, default=0) + 1
    kept_files = {path.name: path.read_bytes() for path in database.parent.glob("run (damaged, *).sqlite*")}
    if left.keys() == {"run.sqlite"}:
        assert list(kept_files.values()) == list(left.values())
    assert bool(kept_files) == bool(left)
    assert {path.name for path in database.parent.glob("run.*")} == {"run.sqlite"}
    with open_run(rebuilding(run.folder)) as store:  # the word may stay in a script
        assert store.ask(np.array([1])).round == max(run.answered, default=0) + 2


@pytest.fixture
def run(tmp_path: Path) -> RandomRun:
    """A run with initial labels, whose last answers are not in labels.csv."""
    return RandomRun(tmp_path / "run", seed=3, publishes_last=False, has_initial_labels=True).make()


def rebuilt(run: RandomRun) -> State:
    deleted(run.folder / "data" / "run.sqlite")
    open_run(rebuilding(run.folder)).close()
    return State.of(run.folder)


@pytest.mark.parametrize("seed", range(8))
def test_without_the_list_of_labels_the_archive_has_them_all(tmp_path: Path, seed: int) -> None:
    run = RandomRun(tmp_path / "run", seed, publishes_last=False).make()
    before = State.of(run.folder)
    (run.folder / "data" / "labels.csv").unlink()
    assert rebuilt(run).said == before.said
    assert set(answered_rounds(run.folder)) == run.answered


def test_an_archive_of_taken_labels_alone_is_a_run(run: RandomRun) -> None:
    before = State.of(run.folder)
    for file in run.folder.rglob("*"):
        if file.is_file() and file.parent != run.folder / ACCEPTED and file.name != "run.sqlite":
            file.unlink()
    assert rebuilt(run).said == before.said


def test_without_the_archive_the_list_of_labels_has_them_all_as_answers(tmp_path: Path) -> None:
    run = RandomRun(tmp_path / "run", seed=3, has_initial_labels=True).make()
    before = State.of(run.folder)
    shutil.rmtree(run.folder / "data" / "label_archive")
    after = rebuilt(run)
    assert [photo[:-1] for photo in after.photos] == [photo[:-1] for photo in before.photos]
    assert answered_rounds(run.folder) == []
    assert not any(is_initial for *_, is_initial in after.photos), "nothing says which"


def test_of_a_run_that_did_not_keep_initial_labels_those_are_initial_that_no_round_answered(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    scans = RandomRun(folder, 0).make().scans()
    with RunStore.open(RunConfig(output_dir=folder, use_checkpoints=False)) as store:
        catalogue = store.register(scans, CLASSES)
        first, second, third, *_ = catalogue.pools.unlabelled.tolist()
        store.take_initial_labels({first: 0, second: None}, "old.csv", None)
        store.commit(store.ask(np.array([third])), Answer({third: 1}))
        store.write_labels()
    before = State.of(folder)
    (folder / INITIAL).unlink()
    deleted(folder / "data" / "run.sqlite")
    open_run(rebuilding(folder)).close()
    assert State.of(folder) == before


def test_with_neither_labels_nor_archive_there_is_nothing_to_rebuild(run: RandomRun) -> None:
    shutil.rmtree(run.folder / "data" / "label_archive")
    (run.folder / "data" / "labels.csv").unlink()
    garbage(database := run.folder / "data" / "run.sqlite")
    before = database.read_bytes()
    with pytest.raises(CheckpointError, match=r"neither data/labels\.csv nor data/label_archive/accepted") as caught:
        open_run(rebuilding(run.folder))
    assert "Begin a new run, with the labels that you have as initial_labels" in str(caught.value)
    assert {path.name: path.read_bytes() for path in database.parent.glob("*.*")} == {"run.sqlite": before}


@pytest.mark.parametrize("name", ["data/labels.csv", f"{ACCEPTED}/round_0001.csv", INITIAL])
@pytest.mark.parametrize("content", [b"\xff\xfe", b"path,label\r\ntrain_data/../../secret.jpg,fox\r\n"])
def test_labels_that_cannot_be_read_are_named_and_the_old_database_stays(
    run: RandomRun, name: str, content: bytes
) -> None:
    garbage(database := run.folder / "data" / "run.sqlite")
    before = database.read_bytes()
    (run.folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match="the labels in it cannot be read") as caught:
        open_run(rebuilding(run.folder))
    assert caught.value.path == run.folder / name
    assert {path.name for path in database.parent.glob("*.*")} == {"run.sqlite", "labels.csv"}
    assert database.read_bytes() == before
    (run.folder / name).rename(run.folder.with_name("moved away.csv"))
    open_run(rebuilding(run.folder)).close()  # as the error advises


def test_a_whole_database_stays_as_it_is(run: RandomRun, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    before = State.of(run.folder)
    with open_run(rebuilding(run.folder)) as store:
        assert store.config.feat_dim == 8
    assert State.of(run.folder) == before
    assert not list(run.folder.glob("data/run (damaged*"))
    assert "the database of the run is whole and stays as it is" in caplog.text


def test_what_a_killed_program_was_writing_is_undone_and_no_damage(run: RandomRun) -> None:
    before = State.of(run.folder)
    with_hot_journal(lambda database: None)(run.folder / "data" / "run.sqlite")
    open_run(rebuilding(run.folder)).close()
    assert State.of(run.folder) == before
    assert not list(run.folder.glob("data/run (damaged*"))


def test_a_database_that_another_program_holds_is_not_taken_for_damaged(
    run: RandomRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = State.of(run.folder)
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **kwargs: connect(*args, **kwargs, timeout=0.05))
    with closing(connect(run.folder / "data" / "run.sqlite", isolation_level=None)) as viewer:
        viewer.execute("BEGIN EXCLUSIVE")
        with pytest.raises(CheckpointError, match="another program is writing"):
            open_run(rebuilding(run.folder))
    assert State.of(run.folder) == before
    assert not list(run.folder.glob("data/run (damaged*"))


def test_a_disk_that_does_not_answer_is_not_taken_for_damage(run: RandomRun, monkeypatch: pytest.MonkeyPatch) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR

    def no_answer(*_: object) -> None:
        raise error

    monkeypatch.setattr(run_rebuild, "check_whole", no_answer)
    with pytest.raises(RunFileError, match="Look whether the drive is connected"):
        open_run(rebuilding(run.folder))
    assert not list(run.folder.glob("data/run (damaged*"))


def test_a_run_that_another_program_works_on_is_not_rebuilt(run: RandomRun) -> None:
    garbage(run.folder / "data" / "run.sqlite")
    entry = {"computer": "elsewhere", "address": 1, "user": "anna", "process": 1, "began": 1.0, "folder": "x"}
    entry["since"] = "x"
    (run.folder / WRITER_FILE).write_text(json.dumps(entry))
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    with pytest.raises(CheckpointError, match="process 1 of anna on the computer elsewhere"):
        open_run(rebuilding(run.folder))
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")} == before


def test_a_new_folder_just_begins(tmp_path: Path) -> None:
    with open_run(rebuilding(tmp_path / "new", **KEPT)) as store:
        assert not store.has_begun()
        assert store.config.feat_dim == 8
    assert not list(tmp_path.rglob("*damaged*"))


def test_a_run_that_is_to_make_way_is_not_rebuilt_first(run: RandomRun) -> None:
    garbage(run.folder / "data" / "run.sqlite")
    with open_run(rebuilding(run.folder, use_checkpoints=False)) as store:
        assert not store.has_begun()
    assert not list(run.folder.parent.rglob("*damaged*"))


def test_photos_whose_accents_are_written_otherwise_today_are_the_same(tmp_path: Path) -> None:
    """As when the run was copied from a Mac: labels.csv has the new spelling, older answers have the old one."""
    folder = tmp_path / "run"

    def scans(form: str) -> dict[Role, FolderScan]:
        photos = tuple(sorted(normalize(form, f"\u00c4cker/{index}.jpg") for index in range(6)))
        train = FolderScan(Path("/train"), ("fox/1.jpg", "deer/1.jpg"), ("deer", "fox"), {}, 0)
        return {Role.TRAIN: train, Role.UNLABELLED: FolderScan(Path("/photos"), photos, (), {}, 0)}

    with RunStore.open(RunConfig(output_dir=folder)) as store:
        store.register(scans("NFD"))
        store.take_initial_labels({2: 0}, "old.csv", None)
        store.commit(store.ask(np.array([3, 4])), Answer({3: 0}, skipped=(4,)))
        store.register(scans("NFC"))
        store.write_labels()
        store.commit(store.ask(np.array([5, 4])), Answer({5: 1, 4: 1}, corrections={3: 1}))
    before = State.of(folder)
    deleted(folder / "data" / "run.sqlite")
    open_run(rebuilding(folder)).close()
    assert State.of(folder) == before


def test_rounds_without_a_label_are_rounds_also_where_nothing_else_is_known(tmp_path: Path) -> None:
    with RunStore.open(RunConfig(output_dir=tmp_path / "run")) as store:
        train = FolderScan(Path("/train"), ("fox/1.jpg",), ("fox",), {}, 0)
        photos = FolderScan(Path("/photos"), ("a/1.jpg", "a/2.jpg"), ("a",), {}, 0)
        store.register({Role.TRAIN: train, Role.UNLABELLED: photos})
        store.commit(store.ask(np.array([1, 2])), Answer(skipped=(1,), unusable=(2,)))
    deleted(store.database)  # labels.csv was never written
    with open_run(rebuilding(store.folder)) as again:
        assert again.n_rounds() == 1
        assert [photo[2:] for photo in State.of(store.folder).photos] == [
            ("a/1.jpg", None, 0, 0),
            ("a/2.jpg", None, 1, 0),
        ]


def test_figures_that_cannot_be_read_are_left_out(run: RandomRun) -> None:
    before = State.of(run.folder).evaluations
    for size, content in ((2001, "[1]"), (2002, "no json"), ("x", "{}")):
        (folder := run.folder / "test_results" / f"train_set_size_{size}").mkdir()
        (folder / "metrics.json").write_text(content)
    assert rebuilt(run).evaluations == before


class Killed(BaseException):
    """The end of the process, as far as the run folder can see."""


def killed_at(change: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process end before the renaming of that number, and nobody clear up."""
    changes = iter(range(1000))

    def unless_killed(really: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
        def rename(self: Path, target: Path) -> Path:
            if next(changes) == change:
                raise Killed
            return really(self, target)

        return rename

    monkeypatch.setattr(Path, "replace", unless_killed(Path.replace))
    monkeypatch.setattr(Path, "rename", unless_killed(Path.rename))
    monkeypatch.setattr(files, "remove_leftover", lambda leftover: None)
    monkeypatch.setattr(run_rebuild.writer, "leave", lambda folder: None)


@pytest.mark.parametrize("damage", ["photos_overwritten", "garbage, hot journal"])
def test_a_rebuild_that_was_killed_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    run = RandomRun(tmp_path / "run", seed=3, publishes_last=False).make()
    before = State.of(run.folder)
    DAMAGES[damage](run.folder / "data" / "run.sqlite")
    change, was_killed = 0, True
    while was_killed:
        folder = shutil.copytree(run.folder, tmp_path / f"killed {change}")
        with monkeypatch.context() as patch:
            killed_at(change, patch)
            try:
                run_rebuild.rebuild(rebuilding(folder))
                was_killed = False
            except Killed:
                change += 1
        with open_run(rebuilding(folder)) as store:
            assert State.of(folder) == before
            if damage in LEAVES_SETTINGS:
                assert store.config.feat_dim == 8, "of the old database under either name"
        assert len(list(folder.glob("data/run (damaged*.sqlite"))) == 1
        assert {path.name for path in (folder / "data").glob("run.*")} == {"run.sqlite"}
    assert change >= 3


def test_what_a_rebuild_that_was_killed_left_is_written_over(run: RandomRun) -> None:
    before = State.of(run.folder)
    prepared = aside(run.folder / "data" / "run.sqlite")
    with_hot_journal(garbage)(run.folder / "data" / "run.sqlite")
    shutil.copyfile(run.folder / "data" / "run.sqlite", prepared)
    shutil.copyfile(run.folder / "data" / "run.sqlite-journal", f"{prepared}-journal")
    assert rebuilt(run) == before
    assert {path.name for path in prepared.parent.glob("run.*")} == {"run.sqlite"}


COMMAND = f"""
import sys
sys.path.append({str(Path(__file__).parents[1] / "support")!r})
import sixteen_pixels
sixteen_pixels.put_in_place()
from camera_trap_al.cli import main
raise SystemExit(main(sys.argv[1:]))
"""


def typed(arguments: dict[str, Any]) -> Sequence[str]:
    words = []
    for name, value in arguments.items():
        option = f"--{'no-' if value is False else ''}{name.replace('_', '-')}"
        words += (
            [option] if isinstance(value, bool) else [option, value if isinstance(value, str) else json.dumps(value)]
        )
    return words


def test_a_run_is_rebuilt_from_the_command_line_and_goes_on_to_its_end(
    format_1: dict[str, Any], sixteen_pixels: None, tmp_path: Path
) -> None:
    format_1["write_photos"](tmp_path / "photos")
    arguments = format_1["arguments"](tmp_path / "photos", tmp_path / "run")
    expert = format_1["Expert"](2)
    with pytest.raises(KeyboardInterrupt):
        run_active_learning(**arguments, label_source=expert)
    (first, second, _) = expert.asked
    before = State.of(tmp_path / "run")
    photos_overwritten(database := tmp_path / "run" / "data" / "run.sqlite")
    truth = [(path, format_1["truth_of"](path)) for _, role, path, *_ in before.photos if role == Role.UNLABELLED]
    table = tmp_path / "truth.csv"
    lines = [f"{path.rpartition('/')[2]},{path.rpartition('/')[0]},{name}\n" for path, name in truth]
    table.write_text("File,RelativePath,Species\n" + "".join(lines), "utf-8")
    command = [sys.executable, "-c", COMMAND, "run", *typed(arguments | {"label_source": str(table)})]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "the run database is damaged" in refused.stderr and "--rebuild" in refused.stderr
    ended = subprocess.run([*command, "--rebuild"], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "Labels given: 12." in ended.stdout
    assert "The database of the run has been made anew: it has 24 photos" in ended.stderr
    after = State.of(tmp_path / "run")
    assert [photo[:3] for photo in after.photos] == [photo[:3] for photo in before.photos]
    assert {path: name for path, (name, *_) in after.said.items()} == dict(truth)
    with closing(sqlite3.connect(database)) as db:
        asked = db.execute("SELECT round, path FROM query_rows JOIN photos USING (photo_row)").fetchall()
    assert {path for number, path in asked if number == 1} == set(first)
    assert {path for number, path in asked if number == 2} == set(second)
    assert len(asked) == 12 and {number for number, _ in asked} == {1, 2, 3, 4}, "nothing is asked twice"
