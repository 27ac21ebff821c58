import errno
import os
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import psutil
import pytest

from camera_trap_al.photos import pixel_store
from camera_trap_al.photos.images import IMAGE_BYTES, IMAGE_SHAPE
from camera_trap_al.photos.pixel_store import PixelStore

GIGABYTE = 1e9
ROWS = np.array([7, 2, 5])
FINGERPRINTS = np.array([70, 20, 50], np.uint64)


def image(row: int) -> np.ndarray:
    return np.random.default_rng(row).integers(0, 256, IMAGE_SHAPE, np.uint8)


def keep(store: PixelStore, rows=ROWS, fingerprints=FINGERPRINTS) -> None:
    for row in store.make_room(rows).tolist():
        store.write(row, image(row))
    store.record(rows, fingerprints)


def images(rows) -> np.ndarray:
    return np.stack([image(int(row)) for row in rows])


@pytest.fixture(params=["file", "memory"])
def place(request, tmp_path) -> Path | None:
    return tmp_path / "cache" if request.param == "file" else None


def photos_of(n: int) -> float:
    """Gigabytes that so many photos take."""
    return n * IMAGE_BYTES / GIGABYTE


def test_pixels_come_back_in_the_order_asked_for(place):
    store = PixelStore(9, place, 1.0)
    keep(store)
    rows = np.array([5, 7, 5])
    np.testing.assert_array_equal(store.read(rows), images(rows))


def test_only_what_was_recorded_under_this_fingerprint_is_held(place):
    store = PixelStore(9, place, 1.0)
    keep(store)
    rows, wanted = np.array([7, 2, 5, 0]), np.array([70, 21, 0, 0], np.uint64)
    assert store.holds(rows, wanted).tolist() == [True, False, False, False]


def test_what_is_written_and_not_recorded_is_not_held(place):
    store = PixelStore(9, place, 1.0)
    store.make_room(ROWS)
    store.write(2, image(2))
    store.close()
    assert not store.holds(ROWS, FINGERPRINTS).any()


def test_places_beyond_one_block(place, monkeypatch):
    monkeypatch.setattr(pixel_store, "BLOCK", 2)
    store = PixelStore(9, place, 1.0)
    for rows in (np.arange(8, 3, -1), np.arange(4)):  # the second time beyond what was mapped for the first
        keep(store, rows, rows.astype(np.uint64) + 1)
        np.testing.assert_array_equal(store.read(rows), images(rows))
    everything = np.arange(9)
    np.testing.assert_array_equal(store.read(everything), images(everything))


def test_a_new_start_finds_what_was_recorded(tmp_path):
    keep(PixelStore(9, tmp_path, 1.0))
    again = PixelStore(12, tmp_path, 1.0)  # three more photos by now
    assert again.holds(ROWS, FINGERPRINTS).all()
    np.testing.assert_array_equal(again.read(ROWS), images(ROWS))
    keep(again, np.array([11]), np.array([110], np.uint64))
    both = PixelStore(12, tmp_path, 1.0)
    rows = np.array([2, 11])
    assert both.holds(rows, np.array([20, 110], np.uint64)).all()
    np.testing.assert_array_equal(both.read(rows), images(rows))


def test_the_file_is_raw_pixels_in_the_order_in_which_rows_came(tmp_path):
    keep(PixelStore(9, tmp_path, 1.0))
    raw = np.fromfile(tmp_path / "images.u8", np.uint8, 3 * IMAGE_BYTES).reshape(-1, *IMAGE_SHAPE)
    np.testing.assert_array_equal(raw, images(ROWS))


def test_rows_that_are_not_there_any_more_are_forgotten(tmp_path):
    keep(PixelStore(9, tmp_path, 1.0))
    fewer = PixelStore(6, tmp_path, 1.0)
    assert fewer.holds(np.array([2, 5]), np.array([20, 50], np.uint64)).all()
    assert not fewer.holds(np.array([0, 1]), np.array([70, 70], np.uint64)).any()


def test_there_is_room_for_so_many_gigabytes(place):
    store = PixelStore(9, place, photos_of(2) + 1e-7)
    assert store.capacity == 2
    assert store.fitting(ROWS).tolist() == [7, 2]
    assert store.make_room(ROWS).tolist() == [7, 2]
    assert store.make_room(np.array([5, 2])).tolist() == [2]
    store.release(np.array([7, 1]))
    assert store.make_room(np.array([5, 2, 7])).tolist() == [5, 2], "the place that was given back is taken again"


def test_half_of_the_free_disk_is_a_bound_and_what_is_kept_counts_as_free(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    free = {"bytes": 10 * IMAGE_BYTES}
    monkeypatch.setattr(pixel_store.shutil, "disk_usage", lambda folder: usage(10**15, 0, free["bytes"]))
    store = PixelStore(9, tmp_path, 1.0)
    assert store.capacity == 5
    keep(store)
    free["bytes"] = 0
    full = PixelStore(9, tmp_path, 1.0)
    assert full.capacity == 3
    assert full.holds(ROWS, FINGERPRINTS).all()


def test_half_of_the_free_memory_is_a_bound(monkeypatch):
    memory = namedtuple("memory", "available")
    monkeypatch.setattr(pixel_store.psutil, "virtual_memory", lambda: memory(8 * IMAGE_BYTES))
    assert PixelStore(9, None, 1.0).capacity == 4


def test_where_and_how_many_is_said_in_one_line(tmp_path, caplog):
    with caplog.at_level("INFO", "camera_trap_al"):
        PixelStore(9, tmp_path / "cache", 0.5)
    (line,) = caplog.messages
    assert f"decoded photos are kept in {tmp_path / 'cache'}: at most 2543 (0.5 GB; " in line  # 0.5e9 / 196,608
    assert "GB are free there" in line


def record_of(folder: Path) -> Path:
    return folder / "images.index"


@pytest.mark.parametrize(
    ("damage", "held"),
    [
        (lambda file: file.unlink(), [False, False, False]),
        (lambda file: file.write_bytes(b""), [False, False, False]),
        (lambda file: file.write_bytes(b"an older version, or anything else" * 2), [False, False, False]),
        (lambda file: file.write_bytes(bytes(200)), [False, False, False]),
        (lambda file: file.write_bytes(file.read_bytes()[:39]), [True, True, False]),  # 16 bytes a photo: 2 are whole
        (lambda file: file.write_bytes(file.read_bytes() + b"more"), [True, True, True]),
    ],
    ids=["missing", "empty", "other content", "zeros", "short", "long"],
)
def test_of_a_damaged_record_only_what_is_whole_is_believed(tmp_path, damage, held):
    keep(PixelStore(9, tmp_path, 1.0))
    damage(record_of(tmp_path))
    store = PixelStore(9, tmp_path, 1.0)
    assert store.holds(ROWS, FINGERPRINTS).tolist() == held
    keep(store)
    np.testing.assert_array_equal(PixelStore(9, tmp_path, 1.0).read(ROWS), images(ROWS))


@pytest.mark.parametrize("n_whole", [0, 2])
def test_pixels_that_are_gone_are_not_believed_in(tmp_path, n_whole):
    keep(PixelStore(9, tmp_path, 1.0))
    os.truncate(tmp_path / "images.u8", n_whole * IMAGE_BYTES + 7)
    assert PixelStore(9, tmp_path, 1.0).holds(ROWS, FINGERPRINTS).tolist() == [n > 0 for n in (n_whole, n_whole, 0)]


def test_before_pixels_are_overwritten_they_are_not_believed_in_any_more(tmp_path):
    """The photo of row 2 changed; a kill comes while its new pixels are written; then the old photo is put back."""
    store = PixelStore(9, tmp_path, 1.0)
    keep(store)
    store.make_room(np.array([2]))
    store.write(2, image(99))
    store.close()
    held = PixelStore(9, tmp_path, 1.0).holds(ROWS, FINGERPRINTS)
    assert held.tolist() == [True, False, True]


def test_a_full_disk_is_an_error_and_leaves_what_was_recorded(tmp_path, monkeypatch):
    store = PixelStore(9, tmp_path, 1.0)
    keep(store)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    store.make_room(np.array([1]))
    store.write(1, image(1))
    monkeypatch.setattr(pixel_store.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        store.record(np.array([1]), np.array([10], np.uint64))
    store.close()
    assert store.holds(ROWS, FINGERPRINTS).all()
    assert PixelStore(9, tmp_path, 1.0).holds(ROWS, FINGERPRINTS).all()


def test_places_without_valid_pixels_are_used_again_so_that_bad_photos_and_kills_cost_no_room(tmp_path):
    for _ in range(4):
        store = PixelStore(9, tmp_path, 1.0)
        placed = store.make_room(np.array([7, 2, 5]))
        store.write(7, image(7))
        store.record(np.array([7]), np.array([70], np.uint64))
        store.release(np.array([5]))  # unreadable; and before row 2 is recorded the process is killed
        assert placed.tolist() == [7, 2, 5]
    assert record_of(tmp_path).stat().st_size == 3 * 16
    np.testing.assert_array_equal(PixelStore(9, tmp_path, 1.0).read(np.array([7])), image(7)[None])


@pytest.mark.parametrize("was_read", [True, False])
@pytest.mark.parametrize("gone", ["the file", "the folder"])
def test_files_that_are_deleted_while_a_run_goes_on_are_not_believed_in(tmp_path, gone, was_read):
    folder = tmp_path / "cache"
    store = PixelStore(9, folder, 1.0)
    keep(store)
    if was_read:
        store.read(ROWS)
    shutil.rmtree(folder) if gone == "the folder" else (folder / "images.u8").unlink()
    if not was_read:
        with pytest.raises(OSError, match="deleted"):
            store.read(ROWS)
    keep(store, np.array([1]), np.array([10], np.uint64))
    for found in (store, PixelStore(9, folder, 1.0)):
        assert found.holds(np.array([1]), np.array([10], np.uint64)).all()
        assert not found.holds(ROWS, FINGERPRINTS).any()
        np.testing.assert_array_equal(found.read(np.array([1])), image(1)[None])


def test_a_file_that_was_cut_off_is_an_error_and_not_black_pixels(tmp_path):
    store = PixelStore(9, tmp_path, 1.0)
    keep(store)
    os.truncate(tmp_path / "images.u8", 2 * IMAGE_BYTES)
    np.testing.assert_array_equal(store.read(ROWS[:2]), images(ROWS[:2]))
    with pytest.raises(OSError, match="cut off"):
        store.read(ROWS)


def test_a_closed_store_goes_on_when_it_is_used(tmp_path):
    store = PixelStore(9, tmp_path, 1.0)
    keep(store)
    store.close()
    np.testing.assert_array_equal(store.read(ROWS), images(ROWS))
    store.close()
    keep(store, np.array([1]), np.array([10], np.uint64))
    np.testing.assert_array_equal(store.read(np.array([1, 5])), images([1, 5]))


def test_few_files_are_open_however_many_photos_there_are(tmp_path, monkeypatch):
    monkeypatch.setattr(pixel_store, "BLOCK", 1)
    store = PixelStore(300, tmp_path, 1.0)
    rows = np.arange(300)
    keep(store, rows, rows.astype(np.uint64) + 1)
    before = len(psutil.Process().open_files())
    store.read(rows)
    assert len(psutil.Process().open_files()) <= before + 1
