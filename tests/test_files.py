import csv
import errno
from pathlib import Path

import numpy as np
import pytest

from camera_trap_al.exceptions import DiskFullError, RunFileError
from camera_trap_al.files import (
    aside,
    digest,
    explained,
    flush,
    from_plain_cell,
    left_if_open,
    plain_cell,
    prepared_aside,
    size_told,
    write_csv,
    written_aside,
)


def test_the_file_aside_lies_beside_it_with_its_suffix():
    assert aside(Path("run/embedding.npy")) == Path("run/embedding.new.npy")
    assert aside(Path("run/noextension")) == Path("run/noextension.new")


def test_a_file_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / "new folder" / "a.txt"
    with written_aside(path) as prepared:
        prepared.write_text("half")
        assert not path.exists()
        prepared.write_text("whole")
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyError), written_aside(path) as prepared:
        prepared.write_text("half")
        raise KeyError
    assert path.read_text() == "old"


def test_what_a_failure_left_aside_is_overwritten_by_the_next_write(tmp_path):
    path = tmp_path / "a.txt"
    aside(path).write_text("half of something longer")
    with written_aside(path) as prepared:
        prepared.write_text("new")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.txt", "new")]


def test_a_prepared_file_waits_beside_the_old_one(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with prepared_aside(path) as prepared:
        prepared.write_text("new")
    assert (path.read_text(), prepared.read_text()) == ("old", "new")


@pytest.mark.parametrize("context", [prepared_aside, written_aside])
@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b"too much"),
        lambda path: np.save(path, np.ones(100_000)),
        lambda path: np.ones(100_000).tofile(path),
    ],
    ids=["bytes", "np.save", "tofile"],
)
def test_a_full_disk_is_told_with_the_file_and_leaves_nothing_aside(tmp_path, context, write):
    path = tmp_path / "a.npy"
    path.write_text("old")
    aside(path).symlink_to("/dev/full")  # a device of Linux that answers like a full disk
    with pytest.raises(DiskFullError, match=r"a\.npy: cannot be written, since no room is left") as caught:
        with context(path) as prepared:
            write(prepared)
    assert caught.value.path == path
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.npy", "old")]


def test_any_other_fault_of_a_disk_is_told_with_what_to_do(tmp_path):
    with pytest.raises(RunFileError, match=r"a\.txt: .*\(Is a directory\).*nothing is lost") as caught:
        with written_aside(tmp_path / "a.txt") as prepared:
            prepared.mkdir()
            prepared.write_text("new")
    assert isinstance(caught.value.__cause__, IsADirectoryError)
    assert caught.value.path == tmp_path / "a.txt"


def test_a_fault_that_is_no_disks_stays_what_it_is(tmp_path):
    with pytest.raises(ZeroDivisionError), explained(tmp_path):
        raise ZeroDivisionError


@pytest.mark.parametrize("text", ["=1+1", "+49", "-x", "@a", "\tx", "\rx"])
def test_what_a_spreadsheet_would_compute_is_written_so_that_it_does_not(tmp_path, text):
    write_csv(tmp_path / "a.csv", ("name", "n"), [(text, -1), ("deer", 2.5)])
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        cells = list(csv.reader(file))
    assert cells == [["name", "n"], ["'" + text, "-1"], ["deer", "2.5"]]  # OWASP's advice; numbers are numbers
    assert from_plain_cell(cells[1][0]) == text
    write_csv(tmp_path / "b.csv", ("name",), [(text,)], verbatim=True)
    with (tmp_path / "b.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file))[1] == [text]


@pytest.mark.parametrize("text", ["'=1", "''-1", "'@"])
def test_a_name_that_begins_as_a_plain_cell_does_is_told_apart(text):
    assert from_plain_cell(plain_cell(text)) == text != plain_cell(text)


@pytest.mark.parametrize("text", ["deer", "", "'deer'", "a=b", "'", "''", "1-2"])
def test_other_cells_stay_as_they_are(text):
    assert from_plain_cell(plain_cell(text)) == plain_cell(text) == text


@pytest.mark.parametrize(
    ("n_bytes", "told"), [(0, "0 MB"), (49_600_000, "50 MB"), (100_000_000, "0.1 GB"), (20_000_000_000, "20.0 GB")]
)
def test_a_small_size_is_told_in_a_smaller_unit(n_bytes, told):
    assert size_told(n_bytes) == told


def test_flushing_changes_nothing(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"\x00\xff")
    flush(path)
    assert path.read_bytes() == b"\x00\xff"


def test_the_digest_names_the_content():
    first, same, other = np.arange(3), np.arange(3), np.array([0, 1, 3])
    assert digest(first) == digest(same) != digest(other)


def test_a_file_that_another_program_has_open_is_left_with_a_warning_and_other_errors_are_not(tmp_path, caplog):
    path = tmp_path / "predictions.csv"
    with left_if_open():
        raise RunFileError(path, OSError(errno.EACCES, "Permission denied"))
    assert f"{path} is open in another program and stays as it was" in caplog.text
    with pytest.raises(DiskFullError), left_if_open():
        raise DiskFullError(path)
