import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camera_trap_al.exceptions import DataError
from camera_trap_al.interchange.timelapse import (
    FOLDERS_MADE_BY_TIMELAPSE,
    SELECTOR_COLUMNS,
    ambiguous_photos,
    join_path,
    never_shown,
    split_path,
    write_selector_csv,
)

names = st.text(st.characters(exclude_characters="/\\\0", exclude_categories=["Cs"]), min_size=1).filter(
    lambda name: name not in (".", "..")
)
photo_paths = st.lists(names, min_size=1, max_size=4).map("/".join)


def read_back(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_path_is_split_as_timelapse_writes_it():
    assert split_path("site/a/IMG.JPG") == ("IMG.JPG", "site\\a")
    assert split_path("IMG.JPG") == ("IMG.JPG", "")


@given(photo_paths)
def test_join_path_undoes_split_path(path):
    assert join_path(*split_path(path)) == path


@pytest.mark.parametrize(
    "relative_path",
    ["site\\a", "site/a", "\\site\\a\\", "/site/a/", ".\\site\\a", "./site/./a", "site\\\\a", "site\\a\\."],
)
def test_join_path_accepts_how_people_write_folders(relative_path):
    assert join_path("IMG.JPG", relative_path) == "site/a/IMG.JPG"


def test_join_path_accepts_the_top_level():
    assert [join_path("IMG.JPG", folder) for folder in ("", ".", "\\", "./")] == ["IMG.JPG"] * 4


def test_folders_made_by_timelapse_can_be_looked_up_whatever_their_case():
    made = ["Backups", "DeletedFiles", "CsvExportedFiles", "CamtrapDPExportedFiles", ".vthumb", "@Recycle"]
    assert {name.casefold() for name in made} == FOLDERS_MADE_BY_TIMELAPSE


def test_the_selector_lists_every_photo_once_sorted_and_marks_those_asked_about(tmp_path):
    path = tmp_path / "timelapse_selector.csv"
    write_selector_csv(path, ["b/2.JPG", "top.jpg", "a/x/1.jpg"], {"b/2.JPG"})
    # Byte for byte what Timelapse 2.2 to 2.5 import: no BOM, CRLF, backslashes, every row full width.
    assert path.read_bytes() == (
        b"File,RelativePath,Selected\r\n1.jpg,a\\x,false\r\n2.JPG,b,true\r\ntop.jpg,,false\r\n"
    )
    assert [*tmp_path.iterdir()] == [path]


@given(st.sets(photo_paths, min_size=1, max_size=6))
def test_odd_names_survive_the_selector(tmp_path_factory, photos):
    path = tmp_path_factory.mktemp("selector") / "selector.csv"
    selected = sorted(photos)[::2]
    write_selector_csv(path, list(photos), selected)
    rows = read_back(path)
    assert all(tuple(row) == SELECTOR_COLUMNS for row in rows)
    assert [join_path(row["File"], row["RelativePath"]) for row in rows] == sorted(photos)
    assert [join_path(row["File"], row["RelativePath"]) for row in rows if row["Selected"] == "true"] == selected
    assert {row["Selected"] for row in rows} <= {"true", "false"}


def test_a_selected_photo_that_is_not_listed_is_a_mistake_of_the_caller(tmp_path):
    with pytest.raises(ValueError, match=r"`selected` has 1 .* a/9\.jpg"):
        write_selector_csv(tmp_path / "selector.csv", ["a/1.jpg"], ["a/9.jpg"])


def test_a_selector_held_open_by_another_program_stays_intact_and_is_named(tmp_path, monkeypatch):
    path = tmp_path / "selector.csv"
    path.write_bytes(b"old")

    def refuse(self: Path, target: Path) -> Path:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(
        DataError, match=r"selector\.csv cannot be written: Permission denied.*close it there"
    ) as caught:
        write_selector_csv(path, ["a/1.jpg"], [])
    assert caught.value.path == path
    assert path.read_bytes() == b"old"
    assert [*tmp_path.iterdir()] == [path]


def test_a_name_that_is_no_text_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="Rename that photo"):
        write_selector_csv(tmp_path / "selector.csv", ["a/\udcff.jpg"], [])
    assert not [*tmp_path.iterdir()]


def test_photos_that_timelapse_never_shows_are_counted_by_suffix():
    """Facts 5.3: of pictures it loads .jpg only, in any case."""
    photos = ["a/1.jpg", "a/2.JPG", "a/3.jpeg", "a/4.PNG", "b/5.png", "b/6.tif"]
    assert never_shown(photos) == {".jpeg": 1, ".png": 2, ".tif": 1}


def test_a_photo_directly_in_the_folder_is_ambiguous_if_a_subfolder_has_its_name():
    photos = ["1.jpg", "2.jpg", "a/1.jpg", "a/b/3.jpg"]
    assert ambiguous_photos(["1.jpg", "2.jpg", "a/1.jpg"], photos) == ["1.jpg"]
    assert ambiguous_photos(["2.jpg", "a/1.jpg"], photos) == []
