import csv
from dataclasses import replace

import numpy as np
import pytest

from camera_trap_al.predictions import Predictions, write_predictions
from camera_trap_al.statistics.sequence_predictions import SequencePredictions

CLASSES = ("deer", "fox", "boar")
PROBABILITIES = np.array([[0.7, 0.1, 0.2], [0.25, 0.5, 0.25], [0.0, 0.0, 1.0]], np.float32)


def test_the_two_likeliest_classes_of_each_photo():
    found = Predictions.of(np.array([4, 9, 2]), PROBABILITIES)
    assert found.rows.tolist() == [4, 9, 2]
    assert found.first.tolist() == [0, 1, 2]
    assert found.second.tolist() == [2, 0, 0], "of equally likely classes the first"
    assert found.confidence.tolist() == pytest.approx([0.7, 0.5, 1.0])
    assert found.margin.tolist() == pytest.approx([0.5, 0.25, 1.0])


def test_a_single_class_has_no_second():
    found = Predictions.of(np.array([3]), np.ones((1, 1), np.float32))
    assert (found.first.tolist(), found.second.tolist()) == ([0], [-1])
    assert (found.confidence.tolist(), found.margin.tolist()) == ([1.0], [1.0])


def test_joined_predictions_ascend_by_row():
    parts = [
        Predictions.of(np.array([8, 1]), PROBABILITIES[:2]),
        Predictions.of(np.array([5]), PROBABILITIES[2:]),
    ]
    joined = Predictions.join(parts)
    assert joined.rows.tolist() == [1, 5, 8]
    assert joined.first.tolist() == [1, 2, 0]
    assert len(Predictions.join([])) == 0


def test_the_file_begins_with_the_columns_that_tell_it_from_labels(tmp_path):
    paths = ["", "north/a, 1/IMG_1.JPG", "IMG_2.JPG", "süd/IMG_3.JPG"]
    predictions = Predictions.of(np.array([1, 2, 3]), PROBABILITIES)
    write_predictions(tmp_path / "p.csv", predictions, paths, CLASSES)
    content = (tmp_path / "p.csv").read_bytes()
    assert content.startswith(b"File,RelativePath,Species,confidence,second_species,margin,decision\r\n")
    assert list(csv.reader(content.decode("utf-8").splitlines()))[1:] == [
        ["IMG_1.JPG", "north\\a, 1", "deer", "0.7000", "boar", "0.5000", ""],
        ["IMG_2.JPG", "", "fox", "0.5000", "deer", "0.2500", ""],
        ["IMG_3.JPG", "süd", "boar", "1.0000", "deer", "1.0000", ""],
    ]


def test_without_a_second_class_its_cell_is_empty(tmp_path):
    write_predictions(tmp_path / "p.csv", Predictions.of(np.array([0]), np.ones((1, 1))), ["a/b.jpg"], ("deer",))
    assert (tmp_path / "p.csv").read_text("utf-8").splitlines()[1] == "b.jpg,a,deer,1.0000,,1.0000,"


def test_five_classes_are_kept_the_likeliest_first():
    probabilities = np.random.default_rng(0).dirichlet(np.ones(9), 50).astype(np.float32)
    found = Predictions.of(np.arange(50), probabilities)
    for kept, sure, all_of_photo in zip(found.class_ids, found.probabilities, probabilities, strict=True):
        expected = sorted(range(9), key=lambda class_id: -all_of_photo[class_id])[:5]
        assert kept.tolist() == expected
        assert sure.tolist() == all_of_photo[expected].tolist()


def test_what_to_do_with_an_answer_stands_in_the_last_column(tmp_path):
    predictions = Predictions.of(np.array([0, 1]), PROBABILITIES[:2])
    write_predictions(tmp_path / "p.csv", predictions, ["a.jpg", "b.jpg"], CLASSES, ["accept", "review"])
    assert [line.rpartition(",")[2] for line in (tmp_path / "p.csv").read_text("utf-8").splitlines()] == [
        "decision",
        "accept",
        "review",
    ]


def test_sequences_stand_behind_the_other_columns(tmp_path):
    of_sequences = SequencePredictions(
        np.array([12, -1, 12]), np.array([2, 1, -1]), np.array([0.61, 0.5, np.nan], np.float32)
    )
    predictions = replace(Predictions.of(np.arange(3), PROBABILITIES), of_sequences=of_sequences)
    write_predictions(tmp_path / "p.csv", predictions, ["a/1.jpg", "a/2.jpg", "b/3.jpg"], CLASSES)
    assert (tmp_path / "p.csv").read_text("utf-8").splitlines() == [
        "File,RelativePath,Species,confidence,second_species,margin,decision,"
        "sequence,sequence_species,sequence_confidence",
        "1.jpg,a,deer,0.7000,boar,0.5000,,12,boar,0.6100",
        "2.jpg,a,fox,0.5000,deer,0.2500,,,fox,0.5000",
        "3.jpg,b,boar,1.0000,deer,1.0000,,12,,",
    ]
