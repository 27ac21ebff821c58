import numpy as np
import pytest

from camera_trap_al.exceptions import LabelFileError
from camera_trap_al.labelling import KnownLabels, LabelRetriever
from camera_trap_al.labelling.sources import FunctionLabels, Reading, label_source_for
from camera_trap_al.labelling.waiting import LabelsNeeded
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


def test_known_labels_may_skip_photos_and_add_classes():
    reading = Reading(new_classes="add", class_aliases={"Reh": "deer"})
    answer = KnownLabels({"1.jpg": "badger", "a/2.jpg": "Reh"}, reading=reading).request_labels(QUERY, lambda _: None)
    assert (answer.labels, answer.new_classes) == ({3: 2, 5: 0}, ("badger",))
    answer = KnownLabels({"1.jpg": "skip", "a/2.jpg": "unusable"}).request_labels(QUERY, lambda _: None)
    assert (answer.labels, answer.skipped, answer.unusable) == ({}, (3,), (5,))


@pytest.mark.parametrize(
    "said",
    [{"1.jpg": "boar", "a/2.jpg": "deer"}, ["deer", "boar"], np.array(["deer", "boar"]), iter(["deer", "boar"])],
)
def test_a_function_answers_by_path_or_in_order(said):
    asked: list[Query] = []

    def expert(query: Query):
        asked.append(query)
        return said

    committed: list[Answer] = []
    answer = FunctionLabels(expert).request_labels(QUERY, committed.append)
    assert (answer.labels, answer.source) == ({5: 0, 3: 1}, "expert")
    assert (asked, committed) == ([QUERY], [answer])


def test_a_function_stops_by_saying_nothing():
    assert FunctionLabels(lambda query: None).request_labels(QUERY, pytest.fail) == Answer(stop=True)


@pytest.mark.parametrize(("said", "told"), [(["deer"], "it returned 1 names"), ("me", "'me'"), (3, "it returned 3")])
def test_a_function_that_returns_something_else_is_told_what_it_returned(said, told):
    with pytest.raises(LabelFileError, match=rf"<lambda>\(\) must return one class name for each of 2 photos.*{told}"):
        FunctionLabels(lambda query: said).request_labels(QUERY, pytest.fail)


@pytest.mark.parametrize("said", [{"1.jpg": "boar"}, ["deer", "bore"]])
def test_a_function_that_does_not_answer_each_photo_is_refused(said):
    with pytest.raises(LabelFileError):
        FunctionLabels(lambda query: said).request_labels(QUERY, pytest.fail)


def test_label_source_names_the_ways_to_answer(tmp_path, make_data_file):
    photos, data = ("1.jpg", "a/2.jpg"), tmp_path / "photos"
    data.mkdir()
    make_data_file(data / "TimelapseData.ddb", [("1.jpg", "", "boar", "true"), ("2.jpg", "a", "deer", "true")])
    truth = tmp_path / "truth.csv"
    truth.write_text("File,RelativePath,Species\n1.jpg,,boar\n2.jpg,a,deer\n", "utf-8")

    def source_for(choice) -> LabelSource:
        return label_source_for(choice, photos, data, tmp_path / "run", Reading(), "all")

    own = KnownLabels({})
    assert source_for(own) is own
    assert isinstance(source_for(lambda query: None), FunctionLabels)
    assert source_for(str(truth)).request_labels(QUERY, lambda _: None).labels == {5: 0, 3: 1}
    for choice in (None, "watch", "exit", "timelapse", data / "TimelapseData.ddb"):
        assert isinstance(source_for(choice), LabelRetriever)
    with pytest.raises(LabelsNeeded):
        source_for("exit").request_labels(QUERY, pytest.fail)


@pytest.mark.parametrize("choice", ["timelapse", "TimelapseData.ddb"])
def test_labels_are_read_from_timelapse(tmp_path, make_data_file, monkeypatch, capsys, choice):
    file = tmp_path / "TimelapseData.ddb"
    source = tmp_path / choice if choice.endswith(".ddb") else choice
    make_data_file(file, [("1.jpg", "", "boar", "false"), ("2.jpg", "a", "", "TRUE")])
    labels = label_source_for(source, ("1.jpg", "a/2.jpg"), tmp_path, tmp_path / "run", Reading(), "all")
    answers = iter(["", "", "q"])
    later = iter(
        [
            [("1.jpg", "", "boar", "false"), ("2.jpg", "a", "deer", "TRUE")],
            [("1.jpg", "", "boar", "true"), ("2.jpg", "a", "deer", "true")],
        ]
    )

    def press_enter(prompt: str) -> str:
        print(prompt)
        file.unlink()
        make_data_file(file, next(later))
        return next(answers)

    monkeypatch.setattr("builtins.input", press_enter)
    committed: list[Answer] = []
    answer = labels.request_labels(QUERY, committed.append)
    said = capsys.readouterr().out
    assert "Photos of this question that have a species there already: 1." in said
    assert said.count("Its flag Selected is not ticked in Timelapse.") == 1
    assert (answer.labels, answer.source, answer.file_content) == ({5: 0, 3: 1}, "TimelapseData.ddb", None)
    assert committed == [answer]
