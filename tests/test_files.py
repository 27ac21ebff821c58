from pathlib import Path

import pytest

from camera_trap_al.files import aside, flush, written_aside


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


def test_flushing_changes_nothing(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"\x00\xff")
    flush(path)
    assert path.read_bytes() == b"\x00\xff"
