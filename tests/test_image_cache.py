import os
import shutil
from collections import Counter, namedtuple
from pathlib import Path

import numpy as np
import pytest

from camera_trap_al import image_cache
from camera_trap_al.exceptions import DataError
from camera_trap_al.image_cache import ImageCache
from camera_trap_al.images import IMAGE_BYTES, read_photo

N = 5
ALL = np.arange(N)


@pytest.fixture
def photos(tmp_path, make_photo) -> list[Path]:
    return [make_photo(tmp_path / "photos" / "deer" / f"{row}.jpg", row) for row in range(N)]


@pytest.fixture
def decoded(monkeypatch) -> Counter[str]:
    """Counts how often each photo is decoded from now on."""
    counts: Counter[str] = Counter()

    def counted(path: Path):
        counts[path.name] += 1
        return read_photo(path)

    monkeypatch.setattr(image_cache, "read_photo", counted)
    return counts


@pytest.fixture
def open_cache(tmp_path, photos):
    """Opens the cache as a new start of the program does."""

    def opened(n_rows: int = N, folder: Path | None = tmp_path / "cache", threads: int = 2) -> ImageCache:
        return ImageCache(photos.__getitem__, n_rows, folder, threads)

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


def test_photos_are_given_in_the_order_of_the_rows_asked_for(open_cache, photos):
    rows = np.array([3, 0, 3])
    images = open_cache().images(rows)
    assert (images.dtype, type(images)) == (np.uint8, np.ndarray)
    np.testing.assert_array_equal(images, expected(photos, rows))


def test_each_photo_is_decoded_once_also_over_a_reopen(open_cache, photos, decoded):
    cache = open_cache()
    assert cache.fill(np.array([0, 1, 1, 0])) == {}
    cache.images(ALL)
    cache.images(ALL)
    assert decoded == once(*ALL)
    reopened = open_cache()
    assert reopened.fill(ALL) == {}
    np.testing.assert_array_equal(reopened.images(ALL), expected(photos))
    assert decoded == once(*ALL)


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
    np.testing.assert_array_equal(open_cache().images(ALL), expected(photos))
    assert decoded == once(2)


def test_moved_photos_are_not_decoded_again(open_cache, photos, decoded, tmp_path):
    open_cache().fill(ALL)
    (tmp_path / "photos").rename(tmp_path / "moved")
    photos[:] = [tmp_path / "moved" / "deer" / path.name for path in photos]
    decoded.clear()
    np.testing.assert_array_equal(open_cache().images(ALL), expected(photos))
    assert not decoded


def test_a_row_that_is_now_another_photo_is_decoded_again(open_cache, photos, decoded, tmp_path):
    # Cameras reuse names, so that only the folder tells the photos apart when size and time agree.
    open_cache().fill(ALL)
    other = tmp_path / "photos" / "boar" / photos[0].name
    other.parent.mkdir()
    shutil.copy2(photos[0], other)
    photos[0] = other
    decoded.clear()
    open_cache().fill(ALL)
    assert decoded == once(0)


class Killed(BaseException):
    """The end of the process, as far as the cache can see."""


def kill_before_the_record(monkeypatch):
    def killed(*_):
        raise Killed

    monkeypatch.setattr(ImageCache, "_record", killed)


def test_a_kill_between_pixels_and_record_is_harmless(open_cache, photos, decoded, monkeypatch):
    open_cache().fill(np.array([0, 1]))
    change(photos[1])
    with monkeypatch.context() as patch:
        kill_before_the_record(patch)
        with pytest.raises(Killed):
            open_cache().fill(ALL)
    decoded.clear()
    np.testing.assert_array_equal(open_cache().images(ALL), expected(photos))
    assert decoded == once(1, 2, 3, 4)


def record_of(folder: Path) -> Path:
    (record,) = (file for file in folder.iterdir() if "fingerprints" in file.name)
    return record


@pytest.mark.parametrize(
    ("damage", "n_decoded"),
    [
        (lambda file: file.unlink(), 5),
        (lambda file: file.write_bytes(b""), 5),
        (lambda file: file.write_bytes(b"\x93NUMPY of an older version, or anything else"), 5),
        (lambda file: file.write_bytes(bytes(200)), 5),
        (lambda file: file.write_bytes(file.read_bytes()[:19]), 3),  # 8 bytes a photo: 2 are whole
        (lambda file: file.write_bytes(file.read_bytes() + b"more"), 0),
    ],
    ids=["missing", "empty", "other content", "zeros", "short", "long"],
)
def test_a_damaged_record_only_costs_decoding_again(open_cache, photos, decoded, tmp_path, damage, n_decoded):
    open_cache().fill(ALL)
    damage(record_of(tmp_path / "cache"))
    decoded.clear()
    np.testing.assert_array_equal(open_cache().images(ALL), expected(photos))
    assert decoded.total() == n_decoded


@pytest.mark.parametrize("n_whole", [0, 3])
def test_pixels_that_are_gone_are_not_believed_in(open_cache, photos, decoded, tmp_path, n_whole):
    open_cache().fill(ALL)
    os.truncate(tmp_path / "cache" / "images.u8", n_whole * IMAGE_BYTES + 7)
    decoded.clear()
    np.testing.assert_array_equal(open_cache().images(ALL), expected(photos))
    assert decoded == once(*range(n_whole, N))


def test_the_folder_may_be_deleted(open_cache, photos, tmp_path):
    open_cache().fill(ALL)
    for file in (tmp_path / "cache").iterdir():
        file.unlink()
    (tmp_path / "cache").rmdir()
    np.testing.assert_array_equal(open_cache().images(ALL), expected(photos))


def test_rows_may_grow(open_cache, photos, decoded):
    open_cache(n_rows=2).fill(ALL[:2])
    np.testing.assert_array_equal(open_cache().images(ALL), expected(photos))
    assert decoded == once(*ALL)


def set_free(monkeypatch, n_bytes: int) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(image_cache.shutil, "disk_usage", lambda folder: usage(10**15, 0, n_bytes))


def no_room(monkeypatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(
        image_cache.shutil, "disk_usage", lambda folder: usage(9, 9, N * IMAGE_BYTES)
    )  # half is too few


@pytest.mark.parametrize("why", ["no folder", "no room", "above the bound"])
def test_without_a_cache_the_photos_are_right_and_nothing_is_kept(
    open_cache, photos, decoded, tmp_path, monkeypatch, why
):
    if why == "no room":
        no_room(monkeypatch)
    if why == "above the bound":
        monkeypatch.setattr(image_cache, "MAX_BYTES", N * IMAGE_BYTES - 1)
    cache = open_cache(folder=None if why == "no folder" else tmp_path / "cache")
    assert cache.fill(ALL) == {}
    rows = np.array([4, 1, 4])
    np.testing.assert_array_equal(cache.images(rows), expected(photos, rows))
    assert cache.images(ALL[:0]).shape == (0, 256, 256, 3)
    assert decoded["0.jpg"] == 1
    assert decoded["1.jpg"] == 2
    assert not list(tmp_path.glob("cache/*"))


def test_the_reason_for_decoding_each_time_is_logged(open_cache, caplog, monkeypatch):
    no_room(monkeypatch)
    caplog.set_level("INFO")
    open_cache()
    assert "Decoded photos are not kept, since they need 0.0 GB" in caplog.text


def test_a_cache_that_is_there_counts_as_room(open_cache, decoded, monkeypatch):
    open_cache().fill(ALL)
    set_free(monkeypatch, 0)
    open_cache().fill(ALL)
    assert decoded == once(*ALL)


@pytest.mark.parametrize("kept", [True, False])
def test_unreadable_photos_are_reported_with_the_reason_and_never_given(open_cache, photos, tmp_path, kept):
    photos[1].write_text("no photo")
    photos[3].unlink()
    cache_folder = tmp_path / "cache" if kept else None
    cache = open_cache(folder=cache_folder)
    reasons = cache.fill(ALL)
    assert set(reasons) == {1, 3}
    assert "1.jpg: cannot be read as an image" in reasons[1]
    assert cache.fill(np.array([0, 3])) == {3: reasons[3]}
    assert open_cache(folder=cache_folder).fill(ALL) == reasons
    with pytest.raises(DataError, match=r"1\.jpg") as caught:
        cache.images(np.array([0, 1]))
    assert caught.value.path == photos[1]
    good = np.array([0, 2, 4])
    np.testing.assert_array_equal(cache.images(good), expected(photos, good))


def test_an_unreadable_photo_that_is_mended_counts_at_the_next_start(open_cache, photos, make_photo):
    photos[1].write_text("no photo")
    open_cache().fill(ALL)
    make_photo(photos[1], 1)
    cache = open_cache()
    assert cache.fill(ALL) == {}
    np.testing.assert_array_equal(cache.images(ALL), expected(photos))


def test_a_good_photo_that_became_unreadable_is_not_given_from_the_cache(open_cache, photos):
    open_cache().fill(ALL)
    photos[1].write_text("no photo")
    assert set(open_cache().fill(ALL)) == {1}


def test_the_number_of_threads_changes_nothing(open_cache, photos, tmp_path):
    for threads in (1, 4):
        images = open_cache(folder=tmp_path / f"cache {threads}", threads=threads).images(ALL)
        np.testing.assert_array_equal(images, expected(photos))


def test_the_space_is_that_of_the_pixels(open_cache, tmp_path):
    open_cache().fill(ALL)
    assert N * 256 * 256 * 3 == (tmp_path / "cache" / "images.u8").stat().st_size
