import os
from pathlib import Path

import numpy as np
import pytest

from camera_trap_al.exceptions import DataError, LabelFileError
from camera_trap_al.labelling import places
from camera_trap_al.labelling.places import LabelsBin, TimelapseData
from camera_trap_al.query import Query

QUERY = Query(1, np.array([5, 3]), ("a/2.jpg", "1.jpg"), ("deer", "boar"))
ROW = b"File,RelativePath,Species\n1.jpg,,boar\n"


def test_the_files_of_the_bin_are_given_newest_first_with_their_bytes(tmp_path):
    place = LabelsBin(tmp_path / "bin")
    for age, name in enumerate(("b.csv", "a.CSV", "c.csv")):
        (place.folder / name).write_bytes(ROW + b"#" * age)
        os.utime(place.folder / name, (1e9 - age, 1e9 - age))
    found = list(place.labels(QUERY))
    assert [each.table.name for each in found] == ["b.csv", "a.CSV", "c.csv"]
    assert [each.content for each in found] == [ROW, ROW + b"#", ROW + b"##"]


def test_the_state_of_the_bin_changes_with_its_files(tmp_path):
    place = LabelsBin(tmp_path / "bin")
    empty = place.state()
    assert place.state() == empty
    (place.folder / "a.csv").write_bytes(ROW)
    with_file = place.state()
    (place.folder / "a.csv").write_bytes(ROW + ROW)
    assert len({str(each) for each in (empty, with_file, place.state())}) == 3


@pytest.mark.parametrize(
    ("name", "told"), [("labels.xlsx", "save it as CSV"), ("labels.txt", ""), ("round 1/labels.csv", "round 1/")]
)
def test_what_lies_in_the_bin_and_is_no_label_file_is_named(tmp_path, name, told):
    place = LabelsBin(tmp_path / "bin")
    file = place.folder / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(ROW)
    (place.folder / "~$labels.xlsx").write_bytes(b"lock")
    (fault,) = place.nothing_found().faults
    assert f"Other files there: {name.split('labels.csv')[0]}." in fault.advice and told in fault.advice


@pytest.fixture
def data_file(tmp_path, make_data_file):
    records = [("1.jpg", "", "boar", "true"), ("2.jpg", "a", "deer", "false"), ("3.jpg", "a", "deer", "false")]
    make_data_file(tmp_path / "TimelapseData.ddb", records)
    return tmp_path / "TimelapseData.ddb"


def test_records_are_given_with_their_flag(data_file):
    (found,) = TimelapseData(data_file.parent).labels(QUERY)
    assert [(entry.path, entry.species, entry.is_selected) for entry in found.table.entries] == [
        ("1.jpg", "boar", True),
        ("a/2.jpg", "deer", False),
        ("a/3.jpg", "deer", False),
    ]
    assert (found.table.name, found.content) == ("TimelapseData.ddb", None)


ALREADY = "Photos of this question that have a species there already: 2."


def test_what_stood_in_timelapse_before_the_question_is_told(data_file):
    told = TimelapseData(data_file).instructions(QUERY)
    assert ALREADY in told and str(data_file) in told


def test_what_could_not_be_told_with_the_question_is_told_before_it_is_accepted(data_file, monkeypatch):
    place, read = TimelapseData(data_file), places.read_data_file

    def in_use(*arguments, **options):
        raise LabelFileError("in use", [])

    monkeypatch.setattr(places, "read_data_file", in_use)
    assert ALREADY not in place.instructions(QUERY)
    monkeypatch.setattr(places, "read_data_file", read)
    with pytest.raises(LabelFileError, match="holds labels from before") as caught:
        list(place.labels(QUERY))
    assert ALREADY in caught.value.faults[0].problem
    assert len(list(place.labels(QUERY))) == 1, "once"


def test_labels_of_photos_that_timelapse_never_shows_come_from_the_bin(data_file, tmp_path):
    labels_bin = LabelsBin(tmp_path / "bin")
    content = b"File,RelativePath,Species\n4.png,a,boar\n1.jpg,,deer\n"
    (labels_bin.folder / "png.csv").write_bytes(content)
    place = TimelapseData(data_file, labels_bin=labels_bin)
    query = Query(1, np.array([3, 6]), ("1.jpg", "a/4.png"), ("deer", "boar"))
    assert str(labels_bin.folder) in place.instructions(query)
    (found,) = place.labels(query)
    assert (found.table.name, found.content) == ("TimelapseData.ddb and png.csv", content)
    assert [(entry.path, entry.species) for entry in found.table.entries if entry.is_selected] == [
        ("1.jpg", "boar"),
        ("a/4.png", "boar"),
    ]
    (without,) = place.labels(QUERY)
    assert without.content is None, "all of that question are shown"


def test_a_data_file_without_the_controls_is_refused_at_once(data_file):
    with pytest.raises(LabelFileError, match="no control 'Art'"):
        TimelapseData(data_file, "Art")


def test_a_data_file_that_cannot_be_read_is_told_when_the_answer_is_read(data_file):
    place = TimelapseData(data_file)
    data_file.write_bytes(b"no database" * 100)
    place.instructions(QUERY)
    with pytest.raises(LabelFileError):
        list(place.labels(QUERY))


def test_without_a_data_file_there_is_nothing_to_wait_for(tmp_path):
    with pytest.raises(DataError):
        TimelapseData(tmp_path)


def test_the_state_of_the_data_file_changes_with_it(data_file):
    place = TimelapseData(data_file)
    before = place.state()
    data_file.touch()
    os.utime(data_file, (1e9, 1e9))
    assert place.state() != before
    before = place.state()
    data_file.with_name("TimelapseData.ddb-wal").write_bytes(b"x")
    assert place.state() != before
    data_file.unlink()
    assert place.state() != before


def test_the_state_can_be_asked_while_timelapse_removes_a_file(data_file, monkeypatch):
    place = TimelapseData(data_file)
    monkeypatch.setattr(Path, "exists", lambda path: True)  # as it was a moment before
    assert place.state() is not None
