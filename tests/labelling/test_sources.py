import numpy as np
import pytest

from camera_trap_al.exceptions import LabelFileError
from camera_trap_al.labelling import KnownLabels, LabelRetriever
from camera_trap_al.query import Answer, LabelSource, Query

QUERY = Query(1, np.array([5, 3]), ("a/2.jpg", "1.jpg"), ("deer", "boar"))


def test_known_labels_answer_at_once_and_commit_first():
    committed: list[Answer] = []
    source: LabelSource = KnownLabels({"1.jpg": "boar", "a/2.jpg": "deer", "a/3.jpg": "unicorn"})
    answer = source.request_labels(QUERY, committed.append)
    assert answer == Answer({5: 0, 3: 1}, source="known labels")
    assert committed == [answer]


def test_every_photo_without_a_usable_label_is_named_and_nothing_committed():
    committed: list[Answer] = []
    with pytest.raises(LabelFileError) as caught:
        KnownLabels({"1.jpg": "bore"}, name="truth").request_labels(QUERY, committed.append)
    assert sorted(fault.file for fault in caught.value.faults) == ["1.jpg", "a/2.jpg"]
    assert str(caught.value).startswith("truth cannot answer")
    assert committed == []


def test_known_labels_are_read_from_a_csv(tmp_path):
    path = tmp_path / "truth.csv"
    path.write_text("File;RelativePath;Species\n1.jpg;;boar\n2.jpg;a\\;deer\n2.jpg;a;deer\n3.jpg;a;\n", "utf-8")
    answer = KnownLabels.from_csv(path).request_labels(QUERY, lambda answer: None)
    assert answer == Answer({5: 0, 3: 1}, source="truth.csv")


def test_a_csv_that_contradicts_itself_is_refused_with_the_row(tmp_path):
    path = tmp_path / "truth.csv"
    path.write_text("File,RelativePath,Species\n1.jpg,,boar\n1.jpg,,deer\n", "utf-8")
    with pytest.raises(LabelFileError) as caught:
        KnownLabels.from_csv(path)
    assert [(fault.row, fault.file) for fault in caught.value.faults] == [(3, "1.jpg")]


def test_a_csv_that_is_not_there_is_a_label_file_error(tmp_path):
    with pytest.raises(LabelFileError, match=r"truth\.csv"):
        KnownLabels.from_csv(tmp_path / "truth.csv")


def test_a_failed_commit_is_let_through():
    def fail(answer: Answer) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        KnownLabels({"1.jpg": "boar", "a/2.jpg": "deer"}).request_labels(QUERY, fail)


def test_the_retriever_is_a_label_source(tmp_path):
    source: LabelSource = LabelRetriever(["1.jpg"], tmp_path)
    assert callable(source.request_labels)
