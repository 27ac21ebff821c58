"""Rounds with Timelapse from end to end, as the facts say that it behaves: request, import, labelling, labels back."""

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from camera_trap_al.interchange.timelapse import split_path
from camera_trap_al.labelling import LabelRetriever
from camera_trap_al.labelling.places import TimelapseData
from camera_trap_al.query import KnownLabel, Query

CLASSES = ("Roe_Deer", "wild boar, sow", "Füchse")
PHOTOS = tuple(
    f"{folder}/{name}"
    for folder in ("Site 1/d1", "Site 1", "Sité,2/d1/card 'a'")
    for name in ("IMG_1.JPG", "IMG_2.JPG", "b c.jpg")
)
ROUNDS = ([0, 4, 8], [1, 5], [2, 3, 6, 7])
EXPORTS = {
    "2.2": {"version": "2.2"},
    "2.2, decimal comma": {"version": "2.2", "decimal_comma": True},
    "2.3": {"version": "2.3"},
    "2.3, date columns": {"version": "2.3", "datetime_style": "columns"},
    "2.4": {"version": "2.4"},
    "2.5": {"version": "2.5"},
    "2.5, folder levels": {"version": "2.5", "folder_levels": ("Site", "Deployment")},
    "2.5, folder levels without names or root folder": {"folder_levels": ("", "", ""), "root_folder": False},
    "2.5, T in dates": {"datetime_style": "T", "space_before_dates": False},
    "dev": {"version": "dev"},
}


@pytest.fixture
def data_file(tmp_path, make_data_file) -> Path:
    """What Timelapse keeps when it has found the photos."""
    records = [(*split_path(path), "", "false") for path in PHOTOS]
    return make_data_file(tmp_path / "TimelapseData.ddb", records, choices=[*CLASSES, "skip", "unusable"])


def query_about(rows: list[int], asked_before: list[int]) -> Query:
    paths = tuple(PHOTOS[row] for row in rows)
    return Query(1, np.array(rows), paths, CLASSES, tuple(PHOTOS[row] for row in asked_before))


def label_selected(data_file: Path) -> int:
    """Give each photo that is shown after Custom Select its species; return how many are shown."""
    with closing(sqlite3.connect(data_file)) as db, db:
        shown = db.execute("SELECT Id FROM DataTable WHERE lower(Selected) = 'true'").fetchall()
        species = [(CLASSES[(photo_id - 1) % len(CLASSES)], photo_id) for (photo_id,) in shown]
        db.executemany("UPDATE DataTable SET Species = ? WHERE Id = ?", species)
    return len(shown)


def expected(rows: list[int]) -> dict[int, int]:
    return {row: row % len(CLASSES) for row in rows}  # the Ids of the records follow the rows


@pytest.mark.parametrize("selected_only", [True, False])
@pytest.mark.parametrize("request_rows", ["all", "changed"])
@pytest.mark.parametrize("options", EXPORTS.values(), ids=EXPORTS)
def test_every_version_and_option_brings_the_labels_back(
    tmp_path, data_file, timelapse_import, timelapse_export, options, request_rows, selected_only
):
    labels = LabelRetriever(PHOTOS, tmp_path / "run", request_rows=request_rows)
    asked_before: list[int] = []
    for rows in ROUNDS:
        query = query_about(rows, asked_before)
        labels.write_request(query)
        imported = timelapse_import(labels.request_path, data_file, version=options.get("version", "2.5"))
        assert imported.errors == [] and imported.n_unmatched == 0
        assert label_selected(data_file) == len(rows), "what the program says that Timelapse must show"
        timelapse_export(data_file, labels.labels_bin / "ImageData.csv", selected_only=selected_only, **options)
        answer = labels.read_answer(query)
        assert answer.labels == expected(rows)
        assert answer.read_as == {}
        asked_before += rows


def test_labels_come_straight_from_the_data_file(tmp_path, data_file, timelapse_import):
    labels = LabelRetriever(PHOTOS, tmp_path / "run", place=TimelapseData(data_file))
    for rows in ROUNDS:
        query = query_about(rows, [])
        labels.write_request(query)
        timelapse_import(labels.request_path, data_file)
        label_selected(data_file)
        assert labels.read_answer(query).labels == expected(rows)


def test_a_flag_correct_in_the_template_marks_corrections(tmp_path, make_data_file):
    records = [("1.jpg", "a", "deer", "true"), ("2.jpg", "a", "boar", "false"), ("3.jpg", "a", "boar", "false")]
    controls = [("Flag", "Correct", "false")]
    data_file = make_data_file(tmp_path / "TimelapseData.ddb", records, more_controls=controls)
    with closing(sqlite3.connect(data_file)) as db, db:
        db.execute("UPDATE DataTable SET Correct = 'true' WHERE File = '2.jpg'")
    known = {"a/2.jpg": KnownLabel(2, 0), "a/3.jpg": KnownLabel(3, 0)}
    query = Query(2, np.array([1]), ("a/1.jpg",), ("deer", "boar"), known=known)
    labels = LabelRetriever(["a/1.jpg", "a/2.jpg", "a/3.jpg"], tmp_path / "run", place=TimelapseData(data_file))
    answer = labels.read_answer(query)
    assert (answer.labels, answer.corrections, answer.n_differing) == ({1: 0}, {2: 1}, 1)
