import csv
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from camera_trap_al import files
from camera_trap_al.config import RunConfig
from camera_trap_al.exceptions import CheckpointError, DiskFullError, LabelFileError, RunFileError
from camera_trap_al.files import aside
from camera_trap_al.photos.folders import FolderScan, scan_data_folders
from camera_trap_al.pools import UNLABELLED, Role
from camera_trap_al.query import Answer, KnownLabel
from camera_trap_al.run_store import RunStore
from camera_trap_al.run_store.artefact import Artefact
from camera_trap_al.run_store.schema import FORMAT
from camera_trap_al.run_store.writer import WRITER_FILE

# Rows of the photo_folders fixture: training, unlabelled and validation photos, each sorted by path.
PATHS = (
    *("boar/1.jpg", "deer/2.jpg", "deer/3.jpg"),
    *("north/4.jpg", "north/5.jpg", "south/7.jpg", "south/8.jpg", "south/a/6.jpg"),
    *("boar/9.jpg", "deer/10.jpg"),
)
CLASSES = ("boar", "deer", "fox")
TARGETS = [0, 1, 1, *[UNLABELLED] * 5, 0, 1]
BOAR, DEER, FOX = range(3)


@pytest.fixture
def config(tmp_path) -> RunConfig:
    return RunConfig(output_dir=tmp_path / "run", seed=1)


@pytest.fixture
def store(config) -> RunStore:
    """A run that got as far as its first model, so that the next start continues it."""
    return begin(RunStore.open(config))


def begin(store: RunStore) -> RunStore:
    with closing(sqlite3.connect(store.database)) as db, db:
        db.execute("INSERT INTO artefacts VALUES ('first model', '', '{}')")
    return store


def is_new(store: RunStore) -> bool:
    """A new run has registered nothing."""
    with closing(sqlite3.connect(store.database)) as db:
        return db.execute("SELECT COUNT(*) FROM artefacts").fetchone() == (0,) and store.root_of(Role.TRAIN) is None


@pytest.fixture
def register(photo_folders):
    """Registers the three data folders as they are now."""

    def registered(store: RunStore):
        return store.register(scan_data_folders(*photo_folders))

    return registered


def files_in(folder: Path) -> set[str]:
    """All but the one that says who works on the run."""
    files = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    return {str(path) for path in files - {WRITER_FILE}}


def read_csv(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def scans_of(**photos: list[str]) -> dict[Role, FolderScan]:
    """Scans as of folders that need not be there."""
    return {
        Role[role.upper()]: FolderScan(Path(f"/{role}"), tuple(sorted(paths)), classes, {}, 0)
        for role, paths in photos.items()
        for classes in [tuple(sorted({path.partition("/")[0] for path in paths}))]
    }


# --- opening


def test_a_new_run_has_its_folders_a_drawn_seed_and_nothing_else(tmp_path, caplog):
    caplog.set_level("INFO")
    store = RunStore.open(RunConfig(output_dir=tmp_path / "a" / "run"))
    assert is_new(store)
    assert store.folder == tmp_path / "a" / "run"
    assert files_in(store.folder) == {"data/run.sqlite"}
    assert (store.folder / "new_labels_bin").is_dir()
    assert f"with seed {store.config.seed}" in caplog.text
    assert RunStore.open(RunConfig(output_dir=store.folder)).config.seed == store.config.seed


def test_a_run_is_resumed_with_what_it_kept(config, store, caplog):
    caplog.clear()
    caplog.set_level("INFO")
    resumed = RunStore.open(config)
    assert not is_new(resumed)
    assert resumed.config == store.config
    assert caplog.messages == [f"Going on with the run in {store.folder}"]


def test_a_start_that_failed_before_its_first_model_binds_nobody(config, tmp_path, register, photo_folders, caplog):
    """Such as one whose weights could not be downloaded: its advice, to change a setting, must work."""
    failed = RunStore.open(RunConfig(output_dir=tmp_path / "run", feat_dim=8, seed=5))
    register(failed)
    (photo_folders.train / "aardvark").mkdir()
    again = RunStore.open(RunConfig(output_dir=tmp_path / "run", feat_dim=16))
    assert (again.config.feat_dim, again.config.seed) == (16, 5)
    assert register(again).classes == ("aardvark", *CLASSES)
    assert not caplog.messages


def test_a_run_of_the_2023_package_is_not_written_over(config, tmp_path):
    old = tmp_path / "run" / "export" / "classifier.onnx"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"old")
    with pytest.raises(CheckpointError, match="one of the 2023 package"):
        RunStore.open(config)
    assert old.read_bytes() == b"old"
    RunStore.open(RunConfig(output_dir=tmp_path / "run", use_checkpoints=False))
    assert not old.exists(), "it was moved aside"


def test_an_open_query_can_be_trimmed(store, register):
    register(store)
    store.ask(np.array([5, 3, 4]))
    assert store.open_query(2).rows.tolist() == [5, 3]
    assert store.open_query().rows.tolist() == [5, 3, 4]


def test_a_run_of_a_newer_format_is_refused_and_left_alone(config, store):
    with sqlite3.connect(store.database) as db:
        db.execute(f"PRAGMA user_version = {FORMAT + 1}")
    db.close()
    before = store.database.read_bytes()
    with pytest.raises(CheckpointError, match=f"has format {FORMAT + 1}") as caught:
        RunStore.open(config)
    assert caught.value.path == store.database
    assert store.database.read_bytes() == before


def garbage(database: Path) -> None:
    database.write_bytes(b"This was a database once. " * 100)


def cut_short(database: Path) -> None:
    database.write_bytes(database.read_bytes()[:4096])


@pytest.mark.parametrize("damage", [garbage, cut_short])
def test_a_damaged_database_is_a_checkpoint_error(config, store, damage):
    damage(store.database)
    with pytest.raises(CheckpointError, match=r"the run database is damaged .* rebuild=True") as caught:
        RunStore.open(config).n_rounds()
    assert caught.value.path == store.database


def test_a_page_that_is_damaged_is_found_at_the_start(config, store):
    store.register(scans_of(train=["deer/1.jpg"], unlabelled=[f"a/{number}.jpg" for number in range(5000)]))
    with store.database.open("r+b") as file:
        file.seek(store.database.stat().st_size // 2)
        file.write(b"\xff" * 4096)
    with pytest.raises(CheckpointError, match="the run database is damaged"):
        RunStore.open(config)


def test_a_database_in_the_place_of_which_there_is_a_folder_cannot_be_used(config, store):
    store.database.unlink()
    store.database.mkdir()
    with pytest.raises(RunFileError, match="Is a directory"):
        RunStore.open(config)


@pytest.mark.parametrize("damage", [Path.unlink, lambda database: database.write_bytes(b"")])
def test_a_database_that_is_gone_is_not_begun_anew_over_accepted_labels(config, store, register, damage):
    register(store)
    store.commit(store.ask(np.array([3])), Answer({3: DEER}, source="a.csv", file_content=b"labels"))
    damage(store.database)
    with pytest.raises(CheckpointError, match=r"its database .* is empty or gone"):
        RunStore.open(config)
    assert RunStore.open(RunConfig(output_dir=store.folder, use_checkpoints=False)).n_rounds() == 0


def test_a_start_that_was_killed_before_anything_was_stored_is_begun_again(config, tmp_path):
    # SQLite makes the file empty and fills it at the first commit.
    (tmp_path / "run" / "data").mkdir(parents=True)
    (tmp_path / "run" / "data" / "run.sqlite").touch()
    assert is_new(RunStore.open(config))


def test_a_folder_that_cannot_be_made_is_a_checkpoint_error(config, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "embedding").write_text("in the way")
    with pytest.raises(CheckpointError, match="cannot be made"):
        RunStore.open(config)


def test_without_checkpoints_the_old_run_is_moved_aside_and_stays_complete(config, store, register, tmp_path, caplog):
    register(store)
    store.commit(store.ask(np.array([3])), Answer({3: DEER}, source="a.csv", file_content=b"labels"))
    (store.folder / "new_labels_bin" / "a.csv").write_bytes(b"labels")
    before = files_in(store.folder)
    new = RunStore.open(RunConfig(output_dir=tmp_path / "run", seed=2, use_checkpoints=False))
    assert is_new(new)
    assert (new.config.seed, new.n_rounds()) == (2, 0)
    assert files_in(new.folder) == {"data/run.sqlite"}
    (old,) = (folder for folder in tmp_path.iterdir() if folder.name.startswith("run (until "))
    assert f"moved to {old}" in caplog.text
    assert files_in(old) == before
    revived = RunStore.open(RunConfig(output_dir=old))
    assert register(revived).pools.targets[3] == DEER


def test_without_checkpoints_a_folder_that_is_no_run_is_left_where_it_is(tmp_path):
    (tmp_path / "run" / "data").mkdir(parents=True)
    (tmp_path / "run" / "data" / "mine.txt").touch()
    RunStore.open(RunConfig(output_dir=tmp_path / "run", use_checkpoints=False))
    assert files_in(tmp_path / "run") == {"data/mine.txt", "data/run.sqlite"}


def test_no_file_of_the_run_is_open_at_rest(store, register):
    register(store)
    store.ask(np.array([3]))
    # Only Linux lists a process's open files here; Windows would refuse the renaming in the next test.
    opened = {str(link.readlink()) for link in Path("/proc/self/fd").glob("*") if link.is_symlink()}
    assert not [file for file in opened if file.startswith(str(store.folder))]


def test_at_rest_there_is_no_side_file_and_the_database_can_be_copied_and_moved(config, store, register, tmp_path):
    register(store)
    query = store.ask(np.array([5, 3]))
    assert files_in(store.folder) == {"data/run.sqlite"}
    shutil.copytree(store.folder, tmp_path / "copy")
    store.folder.rename(tmp_path / "moved")
    for place in ("copy", "moved"):
        reopened = RunStore.open(RunConfig(output_dir=tmp_path / place)).open_query()
        assert reopened is not None
        assert reopened.paths == query.paths


# --- photos


def test_photos_get_rows_and_class_ids_when_first_seen(store, register, photo_folders):
    catalogue = register(store)
    assert tuple(catalogue.paths) == PATHS
    assert catalogue.classes == CLASSES
    assert catalogue.pools.targets.tolist() == TARGETS
    assert catalogue.roots == dict(zip(Role, photo_folders, strict=True))
    assert not catalogue.pools.is_set_aside.any()


def test_new_photos_and_classes_go_to_the_end(config, store, register, photo_folders, make_photo, caplog):
    register(store)
    caplog.set_level("INFO")
    for seed, path in enumerate(("train/badger/11.jpg", "train/boar/0.jpg", "unlabelled/a/12.jpg"), start=20):
        make_photo(photo_folders.train.parent / path, seed)
    catalogue = register(RunStore.open(config))
    assert tuple(catalogue.paths) == (*PATHS, "badger/11.jpg", "boar/0.jpg", "a/12.jpg")
    assert catalogue.classes == (*CLASSES, "badger")
    assert catalogue.pools.targets.tolist() == [*TARGETS, 3, 0, UNLABELLED]
    assert catalogue.pools.roles.tolist()[-3:] == [Role.TRAIN, Role.TRAIN, Role.UNLABELLED]
    assert "New classes: badger" in caplog.messages
    assert "2 new photos in train_data" in caplog.messages


def test_rows_do_not_depend_on_when_a_photo_was_added(config, store, register, photo_folders, make_photo):
    register(store)
    make_photo(photo_folders.unlabelled / "a" / "11.jpg", 20)
    register(RunStore.open(config))
    make_photo(photo_folders.unlabelled / "a" / "10.jpg", 21)
    for _ in range(2):
        assert tuple(register(RunStore.open(config)).paths) == (*PATHS, "a/11.jpg", "a/10.jpg")


def test_a_vanished_photo_keeps_its_row_and_label_and_comes_back(store, register, photo_folders, caplog):
    register(store)
    store.commit(store.ask(np.array([4])), Answer({4: FOX}))
    photo = photo_folders.unlabelled / "north" / "5.jpg"
    photo.rename(photo_folders.train.parent / "hidden.jpg")
    gone = register(store)
    assert tuple(gone.paths) == PATHS
    assert gone.pools.set_aside.tolist() == [4]
    assert 4 not in gone.pools.labelled
    assert f"1 photos of {photo_folders.unlabelled} are not there any more" in caplog.text
    store.set_aside({})
    assert read_csv(store.folder / "unreadable_images.csv")[1:] == [["unlabelled_data/north/5.jpg", "not there"]]
    (photo_folders.train.parent / "hidden.jpg").rename(photo)
    back = register(store)
    assert back.pools.answered.tolist() == [4]
    assert back.pools.targets[4] == FOX


def test_a_class_whose_folder_vanished_keeps_its_id(store, register, photo_folders):
    register(store)
    (photo_folders.train / "fox").rmdir()
    (photo_folders.train / "ant").mkdir()
    assert register(store).classes == (*CLASSES, "ant")


def test_photos_may_vanish_little_by_little(store):
    paths = [f"a/{number:02d}.jpg" for number in range(16)]
    for n_left in (16, 9, 5, 3):  # always less than half of what is left
        catalogue = store.register(scans_of(train=["deer/1.jpg"], unlabelled=paths[:n_left]))
        assert len(catalogue.pools.unlabelled) == n_left
    assert len(catalogue) == 17


def test_moved_and_grown_folders_are_accepted(store, register, photo_folders, make_photo, tmp_path):
    register(store)
    moved = photo_folders._replace(unlabelled=tmp_path / "drive E" / "photos")
    moved.unlabelled.parent.mkdir()
    photo_folders.unlabelled.rename(moved.unlabelled)
    make_photo(moved.unlabelled / "new site" / "20.jpg", 20)
    catalogue = store.register(scan_data_folders(*moved))
    assert tuple(catalogue.paths) == (*PATHS, "new site/20.jpg")
    assert catalogue.path(3) == moved.unlabelled / "north" / "4.jpg"
    assert store.root_of(Role.UNLABELLED) == moved.unlabelled


def test_another_folder_is_refused_and_changes_nothing(store, register, photo_folders, make_photo, tmp_path):
    register(store)
    before = store.database.read_bytes()
    make_photo(tmp_path / "others" / "north" / "4.jpg", 4)
    make_photo(tmp_path / "others" / "north" / "90.jpg", 30)
    with pytest.raises(CheckpointError, match=r"4 of the 5 photos .* from unlabelled_data") as caught:
        store.register(scan_data_folders(*photo_folders._replace(unlabelled=tmp_path / "others")))
    assert str(photo_folders.unlabelled) in str(caught.value)
    assert caught.value.path == tmp_path / "others"
    assert store.root_of(Role.UNLABELLED) == photo_folders.unlabelled
    assert store.database.read_bytes() == before


def test_a_data_set_that_is_not_given_again_keeps_its_photos_and_folder(store, register, photo_folders):
    register(store)
    catalogue = store.register(scan_data_folders(photo_folders.train, photo_folders.unlabelled, None))
    assert catalogue.path(8) == photo_folders.validation / "boar" / "9.jpg"
    assert catalogue.pools.validation.tolist() == [8, 9]
    assert store.root_of(Role.VALIDATION) == photo_folders.validation


def test_validation_photos_may_come_later(store, photo_folders):
    assert store.root_of(Role.VALIDATION) is None
    store.register(scan_data_folders(photo_folders.train, photo_folders.unlabelled, None))
    assert store.root_of(Role.VALIDATION) is None
    assert store.register(scan_data_folders(*photo_folders)).pools.validation.tolist() == [8, 9]


def test_set_aside_photos_are_listed_with_the_reason(store, register):
    register(store)
    store.set_aside({4: "cannot be read, \u00e4h", np.int64(8): "truncated"})
    assert read_csv(store.folder / "unreadable_images.csv") == [
        ["path", "reason"],
        ["unlabelled_data/north/5.jpg", "cannot be read, \u00e4h"],
        ["validation_data/boar/9.jpg", "truncated"],
    ]


def test_set_aside_photos_are_tried_again_at_the_next_start(store, register):
    register(store)
    store.set_aside({4: "truncated: it was being copied"})
    assert register(store).pools.set_aside.tolist() == []


def test_a_hundred_thousand_photos_are_registered_and_registered_again(store):
    paths = [f"site {number % 50}/{number}.jpg" for number in range(100_000)]
    for _ in range(2):
        catalogue = store.register(scans_of(train=["deer/1.jpg", "fox/2.jpg"], unlabelled=paths))
    assert len(catalogue) == 100_002
    assert list(catalogue.paths[2:]) == sorted(paths)


# --- questions and answers


def test_a_question_stays_open_over_restarts_until_it_is_answered(config, store, register):
    register(store)
    assert store.open_query() is None
    query = store.ask(np.array([7, 3]))
    assert (query.round, query.rows.tolist(), query.classes) == (1, [7, 3], CLASSES)
    assert query.paths == ("south/a/6.jpg", "north/4.jpg")
    reopened = RunStore.open(config).open_query()
    assert (reopened.round, reopened.rows.tolist(), reopened.paths) == (1, [7, 3], query.paths)
    assert store.n_rounds() == 0
    store.commit(query, Answer({3: DEER, 7: FOX}, source="x"))
    assert store.open_query() is None
    assert store.n_rounds() == 1
    assert register(RunStore.open(config)).pools.targets.tolist()[3:8] == [DEER, -1, -1, -1, FOX]
    assert store.ask(np.array([4])).round == 2


def test_photos_set_aside_since_are_not_asked_about(store, register):
    register(store)
    store.ask(np.array([7, 3, 5]))
    store.set_aside({3: "unreadable"})
    assert store.open_query().rows.tolist() == [7, 5]
    store.set_aside({5: "unreadable", 7: "unreadable"})
    assert store.open_query() is None
    assert store.ask(np.array([4])).round == 2


def test_the_record_tells_who_gave_each_label_in_which_round(store, register):
    register(store)
    store.commit(store.ask(np.array([7, 3])), Answer({7: FOX, 3: DEER}, source="first.csv"))
    store.commit(store.ask(np.array([4])), Answer({4: BOAR}, source="second.csv"))
    with sqlite3.connect(store.database) as db:
        events = db.execute(
            "SELECT round, photo_row, old_class, new_class, source FROM label_events ORDER BY event"
        ).fetchall()
    db.close()
    assert events == [
        (1, 7, None, FOX, "first.csv"),
        (1, 3, None, DEER, "first.csv"),
        (2, 4, None, BOAR, "second.csv"),
    ]


def test_the_accepted_file_is_archived_byte_for_byte(store, register):
    register(store)
    content = "File,Species\r\nR\u00e4h.jpg,deer\r\n".encode("cp1252")
    store.commit(store.ask(np.array([3])), Answer({3: DEER}, source="my labels.csv", file_content=content))
    store.commit(store.ask(np.array([4])), Answer({4: DEER}, source="known labels"))
    archive = store.folder / "data" / "label_archive"
    assert files_in(archive) == {
        "round_0001_my labels.csv",
        "accepted/round_0001.csv",
        "accepted/round_0002.csv",
    }
    assert read_csv(archive / "accepted" / "round_0002.csv") == [
        ["path", "label"],
        ["unlabelled_data/north/5.jpg", "deer"],
    ]
    assert (archive / "round_0001_my labels.csv").read_bytes() == content


@pytest.mark.parametrize("labels", [{3: 3}, {3: -1}, {3: DEER, 4: DEER}, {}])
def test_an_answer_that_does_not_fit_the_question_is_refused_whole(store, register, labels):
    register(store)
    query = store.ask(np.array([3]))
    with pytest.raises(LabelFileError, match="my source") as caught:
        store.commit(query, Answer(labels, source="my source", file_content=b"x"))
    assert len(caught.value.faults) == 1
    assert store.open_query().rows.tolist() == [3]
    assert register(store).pools.targets.tolist() == TARGETS
    assert files_in(store.folder / "data" / "label_archive") == set()


def events_of(store: RunStore) -> list[tuple]:
    with closing(sqlite3.connect(store.database)) as db:
        return db.execute(
            "SELECT round, photo_row, kind, old_class, new_class, source FROM label_events ORDER BY event"
        ).fetchall()


def test_a_part_of_an_answer_is_kept_and_the_rest_stays_asked(store, register):
    register(store)
    query = store.ask(np.array([7, 3, 4, 5]))
    store.commit(query, Answer({3: DEER}, skipped=(5,), is_partial=True, source="part.csv"))
    assert store.open_query().rows.tolist() == [7, 4]
    assert store.n_rounds() == 0
    assert store.open_query().asked_before == ("north/4.jpg", "south/7.jpg")
    store.commit(store.open_query(), Answer({7: FOX, 4: BOAR}, source="rest.csv"))
    assert (store.open_query(), store.n_rounds()) == (None, 1)


def test_what_one_part_of_an_answer_labelled_the_next_may_call_unusable(store, register):
    register(store)
    store.commit(store.ask(np.array([7, 3])), Answer({3: DEER}, is_partial=True))
    store.commit(store.open_query(), Answer({7: FOX}, unusable=(3,)))
    assert register(store).pools.is_set_aside[3]
    assert (store.open_query(), store.n_rounds()) == (None, 1)


def test_skipped_photos_are_known_by_the_round(store, register):
    register(store)
    store.commit(store.ask(np.array([7, 3])), Answer({7: FOX}, skipped=(3,)))
    store.commit(store.ask(np.array([4])), Answer(skipped=(4,)))
    assert store.skipped_rows(1, 3).tolist() == [3, 4]
    assert store.skipped_rows(2, 3).tolist() == [4]
    assert store.skipped_rows(1, 2).tolist() == [3]
    assert store.skipped_rows(3, 9).tolist() == []
    assert register(store).pools.targets.tolist()[3:5] == [UNLABELLED, UNLABELLED]


def test_unusable_photos_are_set_aside_for_good_and_listed(config, store, register):
    register(store)
    store.commit(store.ask(np.array([3, 4])), Answer({4: DEER}, unusable=(3,)))
    pools = register(RunStore.open(config)).pools
    assert pools.is_set_aside[3] and not pools.is_set_aside[4]
    store.set_aside({})
    listed = read_csv(store.folder / "unreadable_images.csv")
    assert listed[1:] == [["unlabelled_data/north/4.jpg", "marked as unusable"]]
    store.write_labels()
    assert ["unlabelled_data/north/4.jpg", "unusable"] in read_csv(store.folder / "data" / "labels.csv")


def test_corrections_change_labels_and_unusable_photos_and_stay_on_record(store, register):
    register(store)
    store.commit(store.ask(np.array([3, 4])), Answer({4: DEER}, unusable=(3,), source="first.csv"))
    query = store.ask(np.array([5]))
    assert query.known == {"north/4.jpg": KnownLabel(3, UNLABELLED), "north/5.jpg": KnownLabel(4, DEER)}
    store.commit(query, Answer({5: BOAR}, corrections={3: FOX}, unusable=(4,), source="second.csv"))
    pools = register(store).pools
    assert (pools.targets[3], pools.targets[4]) == (FOX, UNLABELLED)
    assert pools.is_set_aside.tolist()[3:5] == [False, True]
    assert events_of(store) == [
        (1, 4, "label", None, DEER, "first.csv"),
        (1, 3, "unusable", None, None, "first.csv"),
        (2, 5, "label", None, BOAR, "second.csv"),
        (2, 3, "correction", None, FOX, "second.csv"),
        (2, 4, "unusable", DEER, None, "second.csv"),
    ]


def test_new_classes_of_an_answer_follow_the_others(store, register):
    register(store)
    store.commit(store.ask(np.array([3])), Answer({3: 3}, new_classes=("badger",)))
    catalogue = register(store)
    assert catalogue.classes == (*CLASSES, "badger")
    assert catalogue.pools.targets[3] == 3
    assert store.ask(np.array([4])).classes == (*CLASSES, "badger")


def test_initial_labels_are_training_labels_and_no_answers(config, store, register):
    register(store)
    store.take_initial_labels({3: FOX, 4: BOAR, 5: None}, "old.csv", b"content")
    pools = register(RunStore.open(config)).pools
    assert pools.labelled.tolist() == [0, 1, 2, 3, 4] and len(pools.answered) == 0
    assert pools.is_set_aside[5]
    archive = store.folder / "data" / "label_archive"
    assert files_in(archive) == {"initial_old.csv", "accepted/initial.csv"}
    assert read_csv(archive / "accepted" / "initial.csv")[1:] == [
        ["unlabelled_data/north/4.jpg", "fox"],
        ["unlabelled_data/north/5.jpg", "boar"],
        ["unlabelled_data/south/7.jpg", "unusable"],
    ]
    assert [event[:3] for event in events_of(store)] == [(None, row, "initial") for row in (3, 4, 5)]


def test_initial_labels_of_a_start_that_failed_bind_nobody(tmp_path, register):
    config = RunConfig(output_dir=tmp_path / "run")
    store = RunStore.open(config)
    register(store)
    store.take_initial_labels({3: FOX}, "old.csv", None)
    again = RunStore.open(config)
    assert events_of(again) == []
    assert not (again.folder / "data" / "label_archive" / "accepted" / "initial.csv").exists()
    assert register(again).pools.targets.tolist() == TARGETS


def test_files_of_one_name_are_archived_side_by_side(store, register):
    register(store)
    query = store.ask(np.array([3, 4, 5]))
    for row, content in ((3, b"one"), (4, b"two"), (5, b"two")):
        store.commit(query, Answer({row: DEER}, is_partial=True, source="labels.csv", file_content=content))
    archive = store.folder / "data" / "label_archive"
    assert {path.name: path.read_bytes() for path in archive.glob("*.csv")} == {
        "round_0001_labels.csv": b"one",
        "round_0001 (2)_labels.csv": b"two",
    }
    assert len(list((archive / "accepted").iterdir())) == 3, "what was taken, in three parts"


def test_the_last_label_cannot_be_taken_away(store):
    store.register(scans_of(unlabelled=["a/1.jpg", "a/2.jpg"]), ["deer"])
    store.take_initial_labels({0: 0}, "old.csv", None)
    query = store.ask(np.array([1]))
    with pytest.raises(LabelFileError, match="nothing to learn from"):
        store.commit(query, Answer(skipped=(1,), unusable=(0,), source="x.csv"))
    assert store.open_query().known == {"a/1.jpg": KnownLabel(0, 0)}
    store.commit(query, Answer({1: 0}, unusable=(0,)))


def test_a_question_is_answered_once_whoever_answers(config, store, register):
    """Two programs on one run folder: the second finds the question answered."""
    register(store)
    query = store.ask(np.array([3, 4]))
    other = RunStore.open(config)
    other.commit(other.open_query(), Answer({3: DEER, 4: DEER}, source="other.csv"))
    with pytest.raises(CheckpointError, match="another program has answered"):
        store.commit(query, Answer({3: BOAR, 4: BOAR}, source="late.csv"))
    assert {event[-1] for event in events_of(store)} == {"other.csv"}
    query = store.ask(np.array([5, 6]))
    other.commit(other.open_query(), Answer({5: DEER}, is_partial=True))
    with pytest.raises(CheckpointError, match="another program has answered"):
        store.commit(query, Answer({5: BOAR, 6: BOAR}))
    assert store.open_query().rows.tolist() == [6]


def test_a_file_name_of_any_length_is_archived(store, register):
    register(store)
    name = "狐" * 83 + ".csv"
    assert len(name.encode()) <= 255
    store.commit(store.ask(np.array([3])), Answer({3: DEER}, source=name, file_content=b"labels"))
    (archived,) = (store.folder / "data" / "label_archive").glob("*.csv")
    assert archived.read_bytes() == b"labels" and archived.name.endswith("狐.csv")


@pytest.mark.parametrize("write", [lambda store: store.write_labels(), lambda store: store.set_aside({3: "no"})])
def test_a_list_for_people_that_is_open_in_excel_does_not_stop_the_run(store, register, monkeypatch, caplog, write):
    register(store)

    def refuse(self: Path, target: Path) -> Path:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    write(store)
    assert "is open in another program and stays as it was" in caplog.text


FORMAT_1 = """
CREATE TABLE classes (class_id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE photos (
    photo_row INTEGER PRIMARY KEY, role INTEGER NOT NULL, path TEXT NOT NULL,
    class_id INTEGER REFERENCES classes, set_aside TEXT, UNIQUE (role, path)
);
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE queries (round INTEGER PRIMARY KEY, asked_at TEXT NOT NULL, answered_at TEXT);
CREATE TABLE query_rows (
    round INTEGER NOT NULL REFERENCES queries, position INTEGER NOT NULL,
    photo_row INTEGER NOT NULL REFERENCES photos, PRIMARY KEY (round, position)
);
CREATE TABLE label_events (
    event INTEGER PRIMARY KEY, happened_at TEXT NOT NULL, round INTEGER NOT NULL REFERENCES queries,
    photo_row INTEGER NOT NULL REFERENCES photos, old_class INTEGER, new_class INTEGER NOT NULL, source TEXT NOT NULL
);
CREATE TABLE artefacts (file TEXT PRIMARY KEY, sha256 TEXT NOT NULL, lineage TEXT NOT NULL);
CREATE TABLE evaluations (train_set_size INTEGER PRIMARY KEY, metrics TEXT NOT NULL);
INSERT INTO classes VALUES (0, 'boar'), (1, 'deer'), (2, 'fox');
INSERT INTO photos VALUES
    (0, 0, 'boar/1.jpg', 0, NULL), (1, 0, 'deer/2.jpg', 1, NULL), (2, 0, 'deer/3.jpg', 1, NULL),
    (3, 1, 'north/4.jpg', 2, NULL), (4, 1, 'north/5.jpg', NULL, NULL), (5, 1, 'south/7.jpg', NULL, NULL),
    (6, 1, 'south/8.jpg', NULL, NULL), (7, 1, 'south/a/6.jpg', NULL, NULL),
    (8, 2, 'boar/9.jpg', 0, NULL), (9, 2, 'deer/10.jpg', 1, NULL);
INSERT INTO queries VALUES (1, '2026-01-01', '2026-01-02'), (2, '2026-01-02', NULL);
INSERT INTO query_rows VALUES (1, 0, 3), (2, 0, 7), (2, 1, 4);
INSERT INTO label_events VALUES (1, '2026-01-02', 1, 3, NULL, 2, 'a.csv');
PRAGMA user_version = 1;
"""  # as the first version of the package wrote it


def test_a_run_of_format_1_goes_on(tmp_path, register):
    (tmp_path / "run" / "data").mkdir(parents=True)
    with closing(sqlite3.connect(tmp_path / "run" / "data" / "run.sqlite")) as db, db:
        db.executescript(FORMAT_1)
    store = RunStore.open(RunConfig(output_dir=tmp_path / "run"))
    pools = register(store).pools
    assert pools.targets.tolist() == [*TARGETS[:3], FOX, *TARGETS[4:]]
    assert pools.answered.tolist() == [3]
    query = store.open_query()
    assert query.rows.tolist() == [7, 4]
    store.commit(query, Answer({7: FOX}, skipped=(4,), source="b.csv"))
    assert events_of(store) == [
        (1, 3, "label", None, FOX, "a.csv"),
        (2, 7, "label", None, FOX, "b.csv"),
        (2, 4, "skip", None, None, "b.csv"),
    ]


def test_a_migrated_database_is_like_a_new_one(tmp_path):
    schemas = []
    for name in ("old", "new"):
        database = tmp_path / name / "data" / "run.sqlite"
        database.parent.mkdir(parents=True)
        if name == "old":
            with closing(sqlite3.connect(database)) as db, db:
                db.executescript(FORMAT_1)
        RunStore.open(RunConfig(output_dir=tmp_path / name))
        with closing(sqlite3.connect(database)) as db:
            assert db.execute("PRAGMA user_version").fetchone() == (FORMAT,)
            tables = [
                table for (table,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY 1")
            ]
            schemas.append({table: sorted(db.execute(f"PRAGMA table_info({table})").fetchall()) for table in tables})
    without_order = [
        {table: sorted(column[1:] for column in columns) for table, columns in schema.items()} for schema in schemas
    ]
    assert without_order[0] == without_order[1]


CHILD = """
import os, signal, sys
from contextlib import contextmanager
from camera_trap_al.config import RunConfig
from camera_trap_al.query import Answer
from camera_trap_al.run_store import RunStore

store = RunStore.open(RunConfig(output_dir=sys.argv[1]))
query = store.open_query()
transaction = store.transaction

@contextmanager
def killed_before_the_commit():
    with transaction() as db:
        db.execute("PRAGMA cache_spill = 1")
        db.execute("PRAGMA cache_size = 1")  # so that changed pages and the journal are on the disk already
        yield db
        os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[2] == "before":
    store.transaction = killed_before_the_commit
store.commit(query, Answer({row: 1 for row in query.rows.tolist()}, source="a.csv", file_content=b"labels"))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_keeps_the_question_before_the_commit_and_the_labels_after_it(config, store, when):
    scans = scans_of(train=["boar/1.jpg", "deer/1.jpg"], unlabelled=[f"a/{number}.jpg" for number in range(2000)])
    asked = store.register(scans).pools.unlabelled[::2]
    store.ask(asked)
    store.close()
    killed = subprocess.run([sys.executable, "-c", CHILD, str(store.folder), when], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    hot_journal = store.database.with_name("run.sqlite-journal")
    assert hot_journal.exists() == (when == "before")
    resumed = RunStore.open(config)
    targets = resumed.register(scans).pools.targets
    if when == "before":
        np.testing.assert_array_equal(resumed.open_query().rows, asked)
        assert (targets[2:] == UNLABELLED).all()
        assert resumed.n_rounds() == 0
    else:
        assert resumed.open_query() is None
        assert (targets[asked] == DEER).all()
        assert resumed.n_rounds() == 1
    kept = {"round_0001_a.csv", "accepted/round_0001.csv"}  # before the commit: no harm if the commit never comes
    assert files_in(store.folder) == {"data/run.sqlite"} | {f"data/label_archive/{name}" for name in kept}


# --- what people read


def test_the_label_file_for_people_has_every_photo(store, register):
    register(store)
    store.commit(store.ask(np.array([7, 3])), Answer({7: FOX, 3: DEER}))
    store.write_labels()
    folders = ["train_data"] * 3 + ["unlabelled_data"] * 5 + ["validation_data"] * 2
    labels = ["boar", "deer", "deer", "deer", "unlabelled", "unlabelled", "unlabelled", "fox", "boar", "deer"]
    assert read_csv(store.folder / "data" / "labels.csv") == [
        ["path", "label"],
        *([f"{folder}/{path}", label] for folder, path, label in zip(folders, PATHS, labels, strict=True)),
    ]


def test_names_with_commas_and_foreign_letters_survive(store):
    store.register(scans_of(train=['R\u00e4h, "alt"/\u0416.jpg', "deer/1.jpg"]))
    store.write_labels()
    rows = read_csv(store.folder / "data" / "labels.csv")
    assert ['train_data/R\u00e4h, "alt"/\u0416.jpg', 'R\u00e4h, "alt"'] in rows


def test_evaluations_come_in_the_order_of_the_labels_behind_them(config, store):
    for size, accuracy in ((100, 0.5), (20, 0.25), (100, 0.75)):  # the same size again replaces
        store.record_evaluation(size, {"accuracy": accuracy})
    expected = [{"train_set_size": 20, "accuracy": 0.25}, {"train_set_size": 100, "accuracy": 0.75}]
    assert RunStore.open(config).validation_history() == expected


def test_a_remembered_value_comes_back_and_others_are_none(config, store):
    store.remember("pixel_statistics", [[0.1, 1 / 3], [1.0]])
    assert RunStore.open(config).recall("pixel_statistics") == [[0.1, 1 / 3], [1.0]]
    assert store.recall("something else") is None
    assert store.recall("seed") is None  # settings are not remembered values


# --- artefacts

FILES = ("embedding/embedding.npy", "classifier/classifier.npz")


def artefacts(version: str) -> list[Artefact]:
    def write(path: Path, file: str) -> None:
        path.write_text(f"{file} {version}")

    return [Artefact(file, {"version": version, "n": 1}, lambda path, file=file: write(path, file)) for file in FILES]


def versions(store: RunStore) -> list[str | None]:
    """The version that each file is believed to have, if its content agrees."""
    found = []
    for file in FILES:
        lineage = store.lineage_of(file)
        found.append(lineage and lineage["version"])
        if lineage:
            assert lineage == {"version": lineage["version"], "n": 1}
            assert (store.folder / file).read_text() == f"{file} {lineage['version']}"
    return found


def test_an_artefact_says_what_it_was_made_from_until_it_is_replaced(config, store):
    assert versions(store) == [None, None]
    for version in ("old", "new"):
        store.save(artefacts(version))
        assert versions(RunStore.open(config)) == [version, version]
    assert files_in(store.folder) == {"data/run.sqlite", *FILES}


class Killed(BaseException):
    """The end of the process, as far as the run folder can see."""


def kill_at_write(monkeypatch, kept):
    calls = iter(range(9))

    def flush(path):
        if next(calls) == kept:
            raise Killed

    monkeypatch.setattr(files, "flush", flush)
    monkeypatch.setattr(files, "remove_leftover", lambda leftover: None)  # nobody clears up after a kill


def kill_at_commit(monkeypatch, kept):
    monkeypatch.setattr(RunStore, "transaction", lambda self: (_ for _ in ()).throw(Killed))


def kill_at_rename(monkeypatch, kept):
    calls = iter(range(9))
    real = Path.replace

    def replace(self, target):
        if next(calls) == kept:
            raise Killed
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)


@pytest.mark.parametrize("begun_with", ["nothing", "old"])
@pytest.mark.parametrize(
    ("kill", "kept", "is_committed"),
    [
        (kill_at_write, 0, False),
        (kill_at_write, 1, False),
        (kill_at_commit, 0, False),
        (kill_at_rename, 0, True),
        (kill_at_rename, 1, True),
    ],
)
def test_a_kill_at_any_step_of_saving_leaves_all_old_or_all_new(
    config, store, monkeypatch, begun_with, kill, kept, is_committed
):
    if begun_with == "old":
        store.save(artefacts("old"))
    with monkeypatch.context() as patch:
        kill(patch, kept)
        with pytest.raises(Killed):
            store.save(artefacts("new"))
    before = {"nothing": None, "old": "old"}[begun_with]
    resumed = RunStore.open(config)
    for _ in range(2):  # asking must not change the answer
        assert versions(resumed) == ["new" if is_committed else before] * 2
    resumed.save(artefacts("newer"))
    assert versions(resumed) == ["newer", "newer"]
    assert not any(aside(store.folder / file).exists() for file in FILES)


@pytest.mark.parametrize("alter", [lambda path: path.write_text("something else"), Path.unlink])
def test_an_altered_or_missing_artefact_is_not_believed(store, caplog, alter):
    store.save(artefacts("old"))
    alter(store.folder / FILES[0])
    assert versions(store) == [None, "old"]
    assert "embedding.npy is missing or not the file that was saved; it is made again." in caplog.text


def test_a_full_disk_leaves_the_old_artefact_and_nothing_else(store):
    store.save(artefacts("old"))
    file = artefacts("new")[0].file
    aside(store.folder / file).symlink_to("/dev/full")
    with pytest.raises(DiskFullError, match="no room is left"):
        store.save(artefacts("new"))
    assert store.lineage_of(file) == dict(artefacts("old")[0].lineage)
    assert not aside(store.folder / file).is_symlink()


def test_a_database_without_room_keeps_what_it_holds(store, register, monkeypatch):
    register(store)
    query, connect = store.ask(np.array([3])), sqlite3.connect

    def connect_without_room(*args, **kwargs):
        connection = connect(*args, **kwargs)
        connection.execute("PRAGMA max_page_count = 1")  # SQLite takes the present size if that is more
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect_without_room)
    with pytest.raises(DiskFullError, match="no room is left") as caught:
        store.commit(query, Answer({3: DEER}, source="x" * 100_000))
    assert caught.value.path == store.database
    assert store.open_query().rows.tolist() == [3]
    store.commit(query, Answer({3: DEER}, source="x"))
    assert store.open_query() is None


def test_an_older_version_of_an_artefact_is_not_believed(store):
    store.save(artefacts("old"))
    old = (store.folder / FILES[0]).read_bytes()
    store.save(artefacts("new"))
    (store.folder / FILES[0]).write_bytes(old)
    assert versions(store) == [None, "new"]


def test_nothing_but_plain_text_and_numbers_is_stored(store, register):
    # The promise is that nothing in a run folder is ever unpickled.
    register(store)
    store.remember("x", {"a": [1, 2.5, None, "b"]})
    with sqlite3.connect(store.database) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        cells = [cell for table in tables for row in db.execute(f"SELECT * FROM {table}") for cell in row]
        values = [json.loads(value) for (value,) in db.execute("SELECT value FROM settings")]
    db.close()
    assert all(cell is None or isinstance(cell, str | int) for cell in cells)
    assert {"a": [1, 2.5, None, "b"]} in values
