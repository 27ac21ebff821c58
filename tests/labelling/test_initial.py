import sqlite3
from contextlib import closing

import pytest

from camera_trap_al.exceptions import LabelFileError
from camera_trap_al.labelling.class_names import ClassNames
from camera_trap_al.labelling.csv_files import LabelEntry, LabelTable
from camera_trap_al.labelling.initial import (
    match_initial_labels,
    new_class_names,
    read_initial_labels,
)

PHOTOS = ("a/1.jpg", "a/2.jpg", "b/3.jpg", "b/4.jpg")
NAMES = ClassNames(["deer", "boar"])


def table(**labels: str) -> LabelTable:
    """A table of labels by the number of the photo."""
    return LabelTable("old.csv", tuple(LabelEntry(int(n[1:]), f"a/{n[1:]}.jpg", word) for n, word in labels.items()))


def test_a_label_csv_is_read_with_its_bytes(tmp_path):
    path = tmp_path / "old.csv"
    path.write_bytes(b"File;RelativePath;Art\r\n1.jpg;a;deer\r\n")
    found = read_initial_labels(path, "Art")
    assert found.table == LabelTable("old.csv", (LabelEntry(2, "a/1.jpg", "deer"),))
    assert found.content == path.read_bytes()


def test_labels_csv_of_a_run_gives_the_unlabelled_folder(tmp_path):
    """RunStore.write_labels: every photo of every data set, with "unlabelled" where there is no label."""
    path = tmp_path / "labels.csv"
    lines = ["path,label", "train_data/deer/1.jpg,deer", "unlabelled_data/a/1.jpg,boar"]
    lines += ['unlabelled_data/a/"2"\u00e9.jpg,unlabelled'.replace('"2"', "2"), "validation_data/deer/8.jpg,deer"]
    path.write_text("\r\n".join([*lines, "unlabelled_data/b/3.jpg,unusable", ""]), "utf-8")
    found = read_initial_labels(path, "Species")
    assert [(entry.row, entry.path, entry.species) for entry in found.table.entries] == [
        (3, "a/1.jpg", "boar"),
        (6, "b/3.jpg", "unusable"),
    ]


def test_predictions_are_refused(tmp_path):
    path = tmp_path / "predictions.csv"
    path.write_text("File,RelativePath,Species,confidence\n1.jpg,a,deer,0.9\n", "utf-8")
    with pytest.raises(LabelFileError, match="what the model predicted"):
        read_initial_labels(path, "Species")


def test_the_classes_are_the_names_with_aliases_and_without_special_words():
    words = table(_1="fox", _2="skip", _3="reh", _4="fox", _5="unusable", _6="Unlabelled")
    assert new_class_names(words, ClassNames((), {"Reh": "deer"})) == ("deer", "fox")


def test_spellings_of_one_class_are_one_class():
    words = table(_1="Fox", _2="fox", _3="fox", _4="wolf", _5="Wolf")
    assert new_class_names(words, ClassNames(())) == ("Wolf", "fox"), "the most frequent one, or else the first"
    names = ClassNames(("Wolf", "fox"))
    assert set(match_initial_labels(words, PHOTOS, names)[0].values()) <= {"Wolf", "fox"}


def test_photos_get_their_class_and_labels_of_others_are_counted():
    labels = LabelTable(
        "x",
        (
            LabelEntry(2, "A/1.JPG", "Deer"),
            LabelEntry(3, "b/3.jpg", "unusable"),
            LabelEntry(4, "b/4.jpg", "skip"),
            LabelEntry(5, "a/2.jpg", ""),
            LabelEntry(6, "gone/7.jpg", "deer"),
        ),
    )
    assert match_initial_labels(labels, PHOTOS, NAMES) == ({"a/1.jpg": "deer", "b/3.jpg": None}, 1)


def test_each_kind_of_fault_is_told_once_with_its_first_row():
    with pytest.raises(LabelFileError, match="initial_labels") as caught:
        match_initial_labels(table(_1="fox", _2="fox"), PHOTOS, NAMES)
    assert [(fault.row, fault.problem) for fault in caught.value.faults] == [(1, '"fox" is not a class.')]


def test_names_that_could_become_classes():
    assert new_class_names(table(_1="fox", _2="Deer", _3="skip", _4="badger"), NAMES) == ("badger", "fox")


def test_the_data_file_of_timelapse_needs_no_flag_selected_here(tmp_path, make_data_file):
    path = tmp_path / "TimelapseData.ddb"
    make_data_file(path, [("1.jpg", "a", "deer", "false"), ("2.jpg", "a", None, "true")])
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("ALTER TABLE DataTable DROP COLUMN Selected")
    found = read_initial_labels(path, "Species")
    assert found.table == LabelTable("TimelapseData.ddb", (LabelEntry(None, "a/1.jpg", "deer"),))
    assert found.content is None, "it may be large"


def test_labels_of_which_none_fits_are_refused_since_they_are_read_only_once():
    labels = LabelTable("x", (LabelEntry(2, "cameras/a/1.jpg", "deer"),))
    with pytest.raises(LabelFileError, match=r"None of its 1 labels, .*, is for a photo of the unlabelled folder"):
        match_initial_labels(labels, PHOTOS, NAMES)


@pytest.mark.parametrize("entries", [(), (LabelEntry(2, "a/1.jpg", ""),)])
def test_a_table_without_a_label_is_refused_and_its_paths_are_not_blamed(entries):
    with pytest.raises(LabelFileError, match=r"It holds no label\. Fill in the species"):
        match_initial_labels(LabelTable("x", entries), PHOTOS, NAMES)
