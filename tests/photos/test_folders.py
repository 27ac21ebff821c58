import errno
import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

from camera_trap_al.exceptions import DataError
from camera_trap_al.photos.catalogue import new_catalogue
from camera_trap_al.photos.folders import NOT_TEXT, PHOTO_SUFFIXES, FolderScan, scan_data_folders, scan_folder
from camera_trap_al.pools import Role

NO_TEXT = os.fsdecode(b"r\xe9nard")  # Latin-1 on a disk of UTF-8 names


def touch(root, *paths):
    for path in paths:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(path.encode(errors="replace"))


def scan_of(root, *paths) -> FolderScan:
    touch(root, *paths)
    return scan_folder(root)


def refusal_of(photo_folders, **changed) -> str:
    with pytest.raises(DataError) as caught:
        scan_data_folders(*photo_folders._replace(**changed))
    return str(caught.value)


def test_photos_lie_at_any_depth_below_the_top_level_folders(tmp_path):
    scan = scan_of(tmp_path, "deer/1.jpg", "deer/a/b/2.jpg", "boar/3.jpg")
    assert scan == FolderScan(tmp_path, ("boar/3.jpg", "deer/1.jpg", "deer/a/b/2.jpg"), ("boar", "deer"), {}, 0)


def test_photos_of_the_top_level_are_ignored_and_counted(tmp_path, caplog, photo_folders):
    assert scan_of(tmp_path / "one", "1.jpg", "2.PNG", "notes.txt", "deer/3.jpg") == FolderScan(
        tmp_path / "one", ("deer/3.jpg",), ("deer",), {".txt": 1}, 2
    )
    touch(photo_folders.unlabelled, "10.jpg", "11.jpg")
    scan_data_folders(*photo_folders)
    assert caplog.messages == [
        f"2 photos lie directly in {photo_folders.unlabelled} and are ignored; photos must lie in subfolders."
    ]


def test_an_empty_class_folder_declares_a_class(photo_folders):
    scans = scan_data_folders(*photo_folders)
    assert scans[Role.TRAIN].folders == ("boar", "deer", "fox")
    assert new_catalogue(scans).classes == ("boar", "deer", "fox")


def test_a_photo_is_known_by_its_suffix_in_any_case_and_other_files_are_counted_by_theirs(tmp_path):
    photos = (*sorted(f"a/1{suffix}" for suffix in PHOTO_SUFFIXES), "a/2.JPG")
    others = ("a/1.gif", "a/2.GIF", "a/clip.mp4", "a/nothing", "a/.hidden.jpg", "top.gif")
    scan = scan_of(tmp_path, *photos, *others)
    assert scan.photos == photos
    assert scan.skipped == {".gif": 3, ".mp4": 1, "": 1}


@pytest.mark.parametrize(
    "folder",
    ["Backups", "backups", "BACKUPS", "DeletedFiles", "deletedfiles", "CsvExportedFiles", ".hidden", ".vthumb"],
)
@pytest.mark.parametrize("where", ["", "deer/", "deer/a/"])
def test_folders_of_timelapse_and_hidden_ones_are_passed_over_at_any_depth(tmp_path, where, folder):
    scan = scan_of(tmp_path, f"{where}{folder}/1.jpg", f"{where}{folder}/b/2.jpg", "deer/a/3.jpg")
    assert (scan.photos, scan.folders, scan.skipped) == (("deer/a/3.jpg",), ("deer",), {})


def test_run_folders_among_the_photos_are_passed_over_but_not_their_namesakes(tmp_path):
    touch(tmp_path, "Files/data/run.sqlite", "Files/test_results/confusion_matrix.png", "deer/Files/1.jpg")
    scan = scan_folder(tmp_path)
    assert (scan.photos, scan.folders) == (("deer/Files/1.jpg",), ("deer",))


@pytest.mark.parametrize("name", ["unlabelled", "Unlabelled", "SKIP", "unusable"])
def test_a_class_cannot_have_a_reserved_name_in_any_case(photo_folders, name):
    (photo_folders.train / name).mkdir()
    assert f"a class cannot be named '{name}'" in refusal_of(photo_folders)


def test_an_unlabelled_folder_may_have_any_name(photo_folders):
    shutil.move(photo_folders.unlabelled / "north", photo_folders.unlabelled / "skip")
    assert "skip" in scan_data_folders(*photo_folders)[Role.UNLABELLED].folders


def test_validation_classes_must_be_training_classes_and_may_be_fewer(photo_folders):
    assert scan_data_folders(*photo_folders)[Role.VALIDATION].folders == ("boar", "deer")
    touch(photo_folders.validation, "wolf/11.jpg")
    message = refusal_of(photo_folders)
    assert "has 'wolf', which is no class of this run" in message
    assert "add an empty folder of that name to train_data" in message
    assert "the classes are 'boar', 'deer', 'fox'" in message
    (photo_folders.train / "wolf").mkdir()
    assert "wolf" in scan_data_folders(*photo_folders)[Role.VALIDATION].folders


@pytest.mark.parametrize("role", Role)
def test_a_data_set_without_photos_is_refused_by_the_name_of_its_argument(photo_folders, tmp_path, role):
    touch(tmp_path, "empty/1.jpg")
    for name in ("boar", "deer"):
        (tmp_path / "empty" / name).mkdir()
    message = refusal_of(photo_folders, **{role.name.lower(): tmp_path / "empty"})
    assert f"{role.argument} has no photo in a subfolder" in message
    assert "1 lie directly in it" in message


@pytest.mark.parametrize("folder", ["not there", "file.txt"])
def test_a_folder_that_cannot_be_listed_is_a_data_error_that_names_it(tmp_path, folder):
    touch(tmp_path, "file.txt")
    with pytest.raises(DataError, match=f"{folder}: the folder cannot be read") as caught:
        scan_folder(tmp_path / folder)
    assert caught.value.path == tmp_path / folder


def test_unlabelled_and_validation_photos_are_not_needed(photo_folders):
    assert list(scan_data_folders(photo_folders.train, None, None)) == [Role.TRAIN]


def link_of_folder(folders):
    (folders.unlabelled / "linked").symlink_to(folders.train / "deer")


def link_of_photo(folders):
    (folders.unlabelled / "north" / "2.jpg").symlink_to(folders.train / "deer" / "2.jpg")


def hard_link(folders):
    (folders.unlabelled / "north" / "2.jpg").hardlink_to(folders.train / "deer" / "2.jpg")


def identical_copy(folders):
    shutil.copy(folders.train / "deer" / "2.jpg", folders.unlabelled / "south" / "a" / "2.jpg")


@pytest.mark.parametrize("share", [link_of_folder, link_of_photo, hard_link, identical_copy])
def test_a_photo_in_two_data_sets_is_refused_and_both_places_are_named(photo_folders, share):
    share(photo_folders)
    message = refusal_of(photo_folders)
    assert "lie in two data sets" in message
    assert f"{photo_folders.train / 'deer' / '2.jpg'} and {photo_folders.unlabelled}" in message


def test_one_data_folder_inside_another_is_refused(photo_folders):
    around = refusal_of(photo_folders, unlabelled=photo_folders.train.parent)
    assert f"  - {photo_folders.train.parent}" in around
    twice = refusal_of(photo_folders, validation=photo_folders.train)
    for message in (around, twice):  # to remove one of "two" photos would be to lose it
        assert "remove no photo" in message and "Remove one" not in message


def test_validation_and_unlabelled_photos_may_not_be_shared_either(photo_folders):
    shutil.copy(photo_folders.validation / "boar" / "9.jpg", photo_folders.unlabelled / "south" / "9.jpg")
    assert "1 photos lie in two data sets" in refusal_of(photo_folders)


def test_different_photos_of_one_name_are_fine_even_at_one_size(photo_folders):
    touch(photo_folders.train, "deer/IMG.jpg")
    content = (photo_folders.train / "deer" / "IMG.jpg").read_bytes()
    (photo_folders.unlabelled / "north" / "IMG.jpg").write_bytes(content[::-1])
    (photo_folders.unlabelled / "south" / "IMG.jpg").write_bytes(content + b"more")
    assert len(scan_data_folders(*photo_folders)[Role.UNLABELLED].photos) == 7


def test_empty_files_of_one_name_are_not_one_photo(photo_folders):
    for folder in (photo_folders.train / "deer", photo_folders.unlabelled / "north"):
        (folder / "IMG_0001.jpg").touch()
    assert len(scan_data_folders(*photo_folders)[Role.UNLABELLED].photos) == 6


def test_a_dangling_link_is_found_as_a_photo_and_is_no_error_here(photo_folders):
    # It is listed as unreadable when it is decoded.
    for folder in (photo_folders.train / "deer", photo_folders.unlabelled / "north"):
        (folder / "gone.jpg").symlink_to("nowhere.jpg")
    assert "north/gone.jpg" in scan_data_folders(*photo_folders)[Role.UNLABELLED].photos


def test_only_the_first_shared_photos_are_listed(photo_folders):
    for number in range(12):
        touch(photo_folders.train, f"deer/x{number}.jpg")
    shutil.copytree(photo_folders.train / "deer", photo_folders.unlabelled / "deer")
    message = refusal_of(photo_folders)
    assert message.startswith("14 photos")
    assert len(message.splitlines()) == 1 + 10 + 1


def test_links_are_followed_but_never_round(tmp_path):
    touch(tmp_path, "elsewhere/4.jpg", "root/deer/1.jpg", "root/deer/a/2.jpg")
    root = tmp_path / "root"
    (root / "deer" / "to elsewhere").symlink_to(tmp_path / "elsewhere")
    (root / "deer" / "itself").symlink_to(root / "deer")
    (root / "deer" / "a" / "the top").symlink_to(root)
    (root / "deer" / "a" / "above").symlink_to(tmp_path)
    assert scan_folder(root).photos == ("deer/1.jpg", "deer/a/2.jpg", "deer/to elsewhere/4.jpg")


def test_links_that_lead_to_each_other_end(tmp_path):
    touch(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / "a" / "to b").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "to a").symlink_to(tmp_path / "a")
    assert {"a/1.jpg", "b/2.jpg"} <= set(scan_folder(tmp_path).photos)


REAL_SCANDIR = os.scandir


def listing(*, backwards: bool):
    """Lists folders in a certain order, where the file system gives any."""

    @contextmanager
    def scandir(path):
        with REAL_SCANDIR(path) as entries:
            yield iter(sorted(entries, key=lambda entry: entry.name, reverse=backwards))

    return scandir


def test_the_scan_does_not_depend_on_the_order_of_the_listing(tmp_path, monkeypatch):
    touch(tmp_path, "elsewhere/9.jpg", "root/b/1.jpg", "root/a/2.jpg", "root/a/c/3.jpg", "root/B/4.jpg")
    for folder in ("a", "b"):  # one folder through two links: it must always be the same link that counts
        (tmp_path / "root" / folder / "link").symlink_to(tmp_path / "elsewhere")
    scans = []
    for backwards in (False, True):
        monkeypatch.setattr(os, "scandir", listing(backwards=backwards))
        scans.append(scan_folder(tmp_path / "root"))
    assert scans[0] == scans[1]
    assert list(scans[0].photos) == sorted(scans[0].photos)
    assert len(scans[0].photos) == 5


def test_names_that_are_no_text_are_passed_over_and_counted(photo_folders, make_photo):
    make_photo(photo_folders.unlabelled / "north" / f"{NO_TEXT}.jpg", 20)
    make_photo(photo_folders.unlabelled / NO_TEXT / "1.jpg", 21)
    make_photo(photo_folders.unlabelled / "north" / f"1.{NO_TEXT}", 22)
    (photo_folders.train / NO_TEXT).mkdir()
    scans = scan_data_folders(*photo_folders)
    assert scans[Role.UNLABELLED].skipped == {NOT_TEXT: 4}  # three files and a folder
    assert scans[Role.TRAIN].skipped == {NOT_TEXT: 1}
    for scan in scans.values():
        "".join(scan.photos + scan.folders).encode()  # all that is left can be written


def test_without_a_training_folder_the_classes_are_those_that_are_named(photo_folders):
    scans = scan_data_folders(None, photo_folders.unlabelled, photo_folders.validation, ["boar", "deer", "owl"])
    assert set(scans) == {Role.UNLABELLED, Role.VALIDATION}
    with pytest.raises(DataError, match=r"has 'boar', which .* name it in classes=\[...\] too"):
        scan_data_folders(None, photo_folders.unlabelled, photo_folders.validation, ["deer"])


def test_classes_beside_the_training_folder_may_be_in_the_validation_folder(photo_folders):
    touch(photo_folders.validation, "owl/11.jpg")
    scan_data_folders(*photo_folders, ["owl"])


def test_a_folder_that_may_not_be_looked_into_is_named_itself(tmp_path, monkeypatch):
    """As the super-user may look into any, the operating system is stood in for."""
    touch(tmp_path, "a/1.jpg", "closed/2.jpg")
    closed, scandir, exists = str(tmp_path / "closed"), os.scandir, Path.exists

    def refuse(path):
        if str(path).startswith(closed):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", lambda path: refuse(path) or scandir(path))
    monkeypatch.setattr(Path, "exists", lambda path: refuse(path) or exists(path))
    with pytest.raises(DataError, match=rf"^{re.escape(closed)}: the folder cannot be read \(Permission denied\)"):
        scan_folder(tmp_path)
