import errno
import os
import shutil
import threading
from collections import Counter
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest

from camera_trap_al.exceptions import DataError
from camera_trap_al.photos import image_cache, pixel_store
from camera_trap_al.photos.image_cache import ImageCache, open_pixel_store
from camera_trap_al.photos.images import IMAGE_BYTES, read_crops, read_photo
from camera_trap_al.photos.pixel_store import PixelStore

N = 5
ALL = np.arange(N)


@dataclass
class Photos:
    """The photos of some rows, as a catalogue has them."""

    root: Path
    paths: list[str]

    def path(self, row: int) -> Path:
        return self.root / self.paths[row]

    def box(self, row: int) -> None:
        return None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> Path:
        return self.path(row)


@pytest.fixture
def photos(tmp_path, make_photo) -> Photos:
    photos = Photos(tmp_path / "photos", [f"deer/{row}.jpg" for row in range(N)])
    for row in range(N):
        make_photo(photos[row], row)
    return photos


@pytest.fixture
def decoded(monkeypatch) -> Counter[str]:
    """Counts how often each photo is decoded from now on."""
    counts: Counter[str] = Counter()

    def counted(path: Path, squeeze):
        counts[path.name] += 1
        return read_photo(path, squeeze)

    monkeypatch.setattr(image_cache, "read_photo", counted)
    return counts


@pytest.fixture
def open_cache(tmp_path, photos):
    """Opens the cache as a new start of the program does."""

    def opened(mode: str = "auto", threads: int = 2, max_gb: float = 1.0) -> ImageCache:
        return ImageCache(photos, open_pixel_store(mode, len(photos), tmp_path / "cache", max_gb), threads)

    return opened


def expected(photos, rows=ALL) -> np.ndarray:
    return np.stack([read_photo(photos[row]) for row in rows])


def once(*rows: int) -> dict[str, int]:
    return {f"{row}.jpg": 1 for row in rows}


def change(path: Path) -> None:
    """Give a photo other pixels at the same size in bytes, and a time that is one second later."""
    status = path.stat()
    other = path.read_bytes()
    middle = len(other) * 3 // 4
    path.write_bytes(other[:middle] + bytes([other[middle] ^ 1]) + other[middle + 1 :])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))


@pytest.mark.parametrize("mode", ["auto", "memory", "off"])
def test_photos_are_given_in_the_order_of_the_rows_asked_for(open_cache, photos, mode):
    rows = np.array([3, 0, 3])
    cache = open_cache(mode)
    for _ in range(2):  # not kept yet, and kept
        images = cache.images(rows)
        assert (images.dtype, type(images)) == (np.uint8, np.ndarray)
        np.testing.assert_array_equal(images, expected(photos, rows))
        cache.fill(ALL)


def test_each_photo_is_decoded_once_also_over_a_reopen(open_cache, photos, decoded):
    cache = open_cache()
    cache.fill(np.array([0, 1, 1, 0]))
    cache.fill(ALL)
    cache.images(ALL)
    assert decoded == once(*ALL)
    reopened = open_cache()
    reopened.fill(ALL)
    np.testing.assert_array_equal(reopened.images(ALL), expected(photos))
    assert decoded == once(*ALL)


def test_in_memory_each_photo_is_decoded_once_and_no_file_is_written(open_cache, photos, decoded, tmp_path):
    cache = open_cache("memory")
    cache.fill(ALL)
    np.testing.assert_array_equal(cache.images(ALL), expected(photos))
    assert decoded == once(*ALL)
    assert not (tmp_path / "cache").exists()


def test_off_decodes_each_time_and_keeps_nothing(open_cache, photos, decoded, tmp_path):
    cache = open_cache("off")
    cache.fill(ALL)  # there is nothing to fill
    assert not decoded
    rows = np.array([4, 1, 4])
    np.testing.assert_array_equal(cache.images(rows), expected(photos, rows))
    assert cache.images(ALL[:0]).shape == (0, 256, 256, 3)
    assert decoded == {"4.jpg": 2, "1.jpg": 1}
    assert not (tmp_path / "cache").exists()


def test_beyond_the_room_photos_are_decoded_again_which_is_told(open_cache, photos, decoded):
    cache = open_cache(max_gb=3.5 * IMAGE_BYTES / 1e9)
    assert cache.describe(ALL).endswith("2 of 5 photos do not fit and are decoded each time")
    for _ in range(2):
        cache.fill(ALL)
        np.testing.assert_array_equal(cache.images(np.array([4, 0, 3, 1, 2])), expected(photos, [4, 0, 3, 1, 2]))
    assert decoded == {"0.jpg": 1, "1.jpg": 1, "2.jpg": 1, "3.jpg": 2, "4.jpg": 2}


def test_many_photos_are_recorded_in_parts(open_cache, photos, decoded, monkeypatch):
    monkeypatch.setattr(image_cache, "CHUNK", 2)
    open_cache().fill(ALL)
    np.testing.assert_array_equal(open_cache().images(ALL), expected(photos))
    assert decoded == once(*ALL)


@pytest.mark.parametrize("what", ["size", "time", "both"])
def test_a_photo_that_changed_is_decoded_again(open_cache, photos, decoded, make_photo, what):
    open_cache().fill(ALL)
    decoded.clear()
    status = photos[2].stat()
    if what == "time":
        change(photos[2])
        assert photos[2].stat().st_size == status.st_size
    else:
        make_photo(photos[2], 99, (50, 50))
    if what == "size":
        os.utime(photos[2], ns=(status.st_atime_ns, status.st_mtime_ns))
    cache = open_cache()
    assert cache.missing(ALL).tolist() == [2]
    cache.fill(ALL)
    np.testing.assert_array_equal(cache.images(ALL), expected(photos))
    assert decoded == once(2)


def test_photos_in_a_moved_data_folder_are_not_decoded_again(open_cache, photos, decoded, tmp_path):
    open_cache().fill(ALL)
    photos.root = (tmp_path / "photos").rename(tmp_path / "moved")
    decoded.clear()
    np.testing.assert_array_equal(open_cache().images(ALL), expected(photos))
    assert not decoded


def test_a_row_that_is_now_another_photo_is_decoded_again(open_cache, photos, decoded):
    # Cameras reuse names, so that only the folder tells the photos apart when size and time agree.
    open_cache().fill(ALL)
    other = photos.root / "north" / "deer" / "0.jpg"
    other.parent.mkdir(parents=True)
    shutil.copy2(photos[0], other)
    photos.paths[0] = "north/deer/0.jpg"
    decoded.clear()
    open_cache().fill(ALL)
    assert decoded == once(0)


class Killed(BaseException):
    """The end of the process, as far as the cache can see."""


def test_a_kill_between_pixels_and_record_is_harmless(open_cache, photos, decoded, monkeypatch):
    def killed(self, rows, fingerprints):
        if fingerprints.any():  # not when it is recorded that the old pixels do not count any more
            raise Killed
        record(self, rows, fingerprints)

    record = PixelStore.record
    open_cache().fill(np.array([0, 1]))
    change(photos[1])
    with monkeypatch.context() as patch:
        patch.setattr(PixelStore, "record", killed)
        with pytest.raises(Killed):
            open_cache().fill(ALL)
    decoded.clear()
    cache = open_cache()
    cache.fill(ALL)
    np.testing.assert_array_equal(cache.images(ALL), expected(photos))
    assert decoded == once(1, 2, 3, 4)


def test_a_disk_that_fills_up_does_not_stop_the_run(open_cache, photos, decoded, monkeypatch, caplog):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(PixelStore, "write", full)
    cache = open_cache()
    cache.fill(ALL)
    assert "cannot be kept any more (No space left on device)" in caplog.text
    decoded.clear()
    np.testing.assert_array_equal(cache.images(ALL), expected(photos))
    cache.fill(ALL)
    assert decoded == once(*ALL), "decoded when needed, and not kept"


@pytest.mark.parametrize("place", ["fsync", "replace"])
def test_no_fault_of_the_disk_ends_the_run(open_cache, photos, place, monkeypatch, caplog):
    """A photo changed, so that it is recorded first that its old pixels do not count any more."""
    open_cache().fill(ALL)
    change(photos[1])
    cache = open_cache()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pixel_store.os if place == "fsync" else Path, place, full)
    cache.fill(ALL)
    np.testing.assert_array_equal(cache.images(ALL), expected(photos))
    monkeypatch.undo()
    np.testing.assert_array_equal(open_cache().images(ALL), expected(photos))


def test_a_folder_that_cannot_be_made_means_that_nothing_is_kept(photos, tmp_path, caplog):
    (tmp_path / "file").write_text("not a folder")
    store = open_pixel_store("auto", N, tmp_path / "file" / "cache", 1.0)
    assert store is None and "cannot be kept" in caplog.text


def test_files_deleted_while_the_run_goes_on_only_cost_decoding(open_cache, photos, decoded, tmp_path):
    cache = open_cache()
    cache.fill(ALL)
    shutil.rmtree(tmp_path / "cache")
    np.testing.assert_array_equal(cache.images(ALL), expected(photos))
    cache.fill(ALL)
    np.testing.assert_array_equal(open_cache().images(ALL), expected(photos))


def test_a_drive_that_fails_once_does_not_spoil_a_photo(open_cache, photos, monkeypatch):
    failed = []

    def sometimes(path, squeeze):
        if path.name == "2.jpg" and not failed:
            failed.append(path)
            raise DataError(f"{path}: lost", path) from OSError(errno.EIO, "Input/output error")
        return read_photo(path, squeeze)

    monkeypatch.setattr(image_cache, "read_photo", sometimes)
    cache = open_cache()
    cache.fill(ALL)
    assert failed and not cache.unreadable
    np.testing.assert_array_equal(cache.images(ALL), expected(photos))


def test_a_photo_that_comes_back_is_readable_again(open_cache, photos, tmp_path):
    cache = open_cache("off")
    photos[2].rename(tmp_path / "elsewhere.jpg")
    assert cache.read(ALL)[1].tolist() == [True, True, False, True, True]
    (tmp_path / "elsewhere.jpg").rename(photos[2])
    assert cache.read(ALL)[1].all()
    assert not cache.unreadable and cache.fingerprints(ALL).all()


def test_a_photo_of_which_nothing_is_known_but_its_pixels_is_not_taken(open_cache, photos, monkeypatch):
    """Without size and time it could not be told from another one; a drive that comes and goes makes that happen."""
    monkeypatch.setattr(image_cache, "_fingerprint", lambda name, path, box: 0 if path.name == "2.jpg" else 7)
    cache = open_cache("off")
    assert cache.read(ALL)[1].tolist() == [True, True, False, True, True]
    assert "is gone" in cache.unreadable[2]


def test_the_folder_may_be_deleted(open_cache, photos, tmp_path):
    open_cache().fill(ALL)
    shutil.rmtree(tmp_path / "cache")
    cache = open_cache()
    cache.fill(ALL)
    np.testing.assert_array_equal(cache.images(ALL), expected(photos))


def test_rows_may_grow(open_cache, photos, decoded, make_photo):
    open_cache().fill(ALL)
    photos.paths.append("deer/5.jpg")
    make_photo(photos[5], 5)
    cache = open_cache()
    cache.fill(np.arange(6))
    np.testing.assert_array_equal(cache.images(np.arange(6)), expected(photos, range(6)))
    assert decoded == once(*range(6))


@pytest.mark.parametrize("mode", ["auto", "memory", "off"])
def test_unreadable_photos_are_left_out_with_the_reason(open_cache, photos, mode):
    photos[1].write_text("no photo")
    photos[3].unlink()
    cache = open_cache(mode)
    cache.fill(ALL)
    images, is_read = cache.read(np.array([4, 3, 1, 0]))
    assert is_read.tolist() == [True, False, False, True]
    np.testing.assert_array_equal(images, expected(photos, [4, 0]))
    assert set(cache.unreadable) == {1, 3}
    assert cache.unreadable[1].startswith("cannot be read as a photo: ")
    assert cache.unreadable[3] == "cannot be read as a photo: No such file or directory."
    with pytest.raises(DataError, match=r"1\.jpg") as caught:
        cache.images(np.array([0, 1]))
    assert caught.value.path == photos[1]


def test_an_unreadable_photo_is_tried_once_in_filling(open_cache, photos, decoded):
    photos[1].write_text("no photo")
    cache = open_cache()
    cache.fill(ALL)
    cache.fill(ALL)
    assert decoded == once(*ALL)
    assert not len(cache.to_keep(ALL))


def test_an_unreadable_photo_that_is_mended_counts_at_the_next_start(open_cache, photos, make_photo):
    photos[1].write_text("no photo")
    open_cache().fill(ALL)
    make_photo(photos[1], 1)
    cache = open_cache()
    cache.fill(ALL)
    assert not cache.unreadable
    np.testing.assert_array_equal(cache.images(ALL), expected(photos))


def test_a_photo_that_vanished_after_it_was_read_is_given_from_the_cache(open_cache, photos):
    wanted = expected(photos)
    cache = open_cache()
    cache.fill(ALL)
    photos[1].unlink()
    np.testing.assert_array_equal(cache.images(ALL), wanted)


def test_a_good_photo_that_became_unreadable_is_not_given_at_the_next_start(open_cache, photos):
    open_cache().fill(ALL)
    photos[1].write_text("no photo")
    cache = open_cache()
    assert cache.read(ALL)[1].tolist() == [True, False, True, True, True]


def test_the_number_of_threads_changes_nothing(open_cache, photos):
    for threads in (1, 4):
        cache = open_cache("memory", threads)
        cache.fill(ALL)
        np.testing.assert_array_equal(cache.images(ALL), expected(photos))


def test_photos_are_decoded_side_by_side(open_cache, monkeypatch):
    meeting = threading.Barrier(N, timeout=10)  # each waits until all are there

    def meet(path, squeeze):
        meeting.wait()
        return np.zeros((256, 256, 3), np.uint8)

    monkeypatch.setattr(image_cache, "read_photo", meet)
    cache = open_cache("memory", threads=N)
    cache.fill(ALL)
    assert not len(cache.missing(ALL))


def test_the_fingerprint_of_a_photo_without_a_box_stays_what_it_always_was(open_cache, photos):
    """Otherwise every run of an earlier version would read and embed all photos again: path, size, whole seconds."""
    expected = []
    for row in range(N):
        status = photos[row].stat()
        identity = f"deer/{row}.jpg|{status.st_size}|{int(status.st_mtime)}".encode()
        expected.append(int.from_bytes(blake2b(identity, digest_size=8).digest(), "little"))
    assert open_cache("off").fingerprints(ALL).tolist() == expected


def test_of_a_photo_with_a_box_what_is_in_it_is_kept_until_the_box_changes(open_cache, photos, monkeypatch):
    boxes = {1: (0.5, 0.25, 0.25, 0.5)}
    whole = open_cache("auto")
    whole.fill(ALL)
    monkeypatch.setattr(Photos, "box", lambda self, row: boxes.get(row))
    cache = open_cache("auto")
    assert cache.missing(ALL).tolist() == [1]
    assert np.flatnonzero(cache.fingerprints(ALL) != whole.fingerprints(ALL)).tolist() == [1]
    cache.fill(ALL)
    (part,) = read_crops(photos[1], [boxes[1]])
    np.testing.assert_array_equal(cache.images(ALL), [read_photo(photos[0]), part, *map(read_photo, list(photos)[2:])])
    assert open_cache("auto").missing(ALL).tolist() == []
    boxes[1] = (0.5, 0.25, 0.25, 0.51)
    assert open_cache("auto").missing(ALL).tolist() == [1]
