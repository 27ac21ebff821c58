"""When photos were taken, from files that Pillow writes and that people have."""

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from camera_trap_al.photos.times import PhotoTime, read_time, read_times

TAKEN = datetime(2023, 7, 14, 23, 59, 58)
MS = int(TAKEN.replace(tzinfo=UTC).timestamp() * 1000)  # the clock of the camera, counted as if it were UTC


def write(path: Path, written: str | None, subseconds: str | None = None, zone: str | None = None) -> Path:
    exif = Image.Exif()
    tags = exif.get_ifd(ExifTags.IFD.Exif)
    values = {"DateTimeOriginal": written, "SubsecTimeOriginal": subseconds, "OffsetTimeOriginal": zone}
    tags.update({ExifTags.Base[name]: value for name, value in values.items() if value is not None})
    exif[ExifTags.Base.DateTime] = "2001:01:01 00:00:00"  # of the last change, which is none of our business
    # Of a TIFF, Pillow writes these tags only if they come as bytes.
    Image.new("RGB", (8, 8)).save(path, exif=exif.tobytes() if path.suffix == ".tif" else exif)
    return path


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_the_time_is_read_from_every_format_that_has_one(tmp_path: Path, suffix: str) -> None:
    assert read_time(write(tmp_path / f"photo{suffix}", "2023:07:14 23:59:58")) == PhotoTime(MS, "exif")


@pytest.mark.parametrize(
    "written",
    [
        "2023-07-14 23:59:58",
        "2023/07/14 23:59:58",
        "2023:07:14T23:59:58.9",
        " 2023:7:14 23:59:58\0",
        "2023:07:14 23:59:58+02:00",
    ],
)
def test_what_other_programs_write_is_understood(tmp_path: Path, written: str) -> None:
    assert read_time(write(tmp_path / "photo.jpg", written)) == PhotoTime(MS, "exif")


@pytest.mark.parametrize(
    ("subseconds", "ms"), [("5", 500), ("05", 50), ("057", 57), ("1234", 123), ("", 0), ("x", 0), (" 7 ", 700)]
)
def test_parts_of_a_second_count(tmp_path: Path, subseconds: str, ms: int) -> None:
    assert read_time(write(tmp_path / "photo.jpg", "2023:07:14 23:59:58", subseconds)) == PhotoTime(MS + ms, "exif")


def test_a_time_zone_changes_nothing_since_the_clock_of_the_camera_counts(tmp_path: Path) -> None:
    assert read_time(write(tmp_path / "photo.jpg", "2023:07:14 23:59:58", zone="+05:00")) == PhotoTime(MS, "exif")


@pytest.mark.parametrize("written", [None, "", "    :  :     :  :  ", "\0\0\0"])
def test_a_photo_without_a_time_has_none(tmp_path: Path, written: str | None) -> None:
    assert read_time(write(tmp_path / "photo.jpg", written)) == PhotoTime(None, "missing")


TOMORROW = f"{datetime.now() + timedelta(days=2):%Y:%m:%d %H:%M:%S}"


@pytest.mark.parametrize(
    "written",
    [
        "0000:00:00 00:00:00",
        "2023:02:30 10:00:00",
        "2023:07:14 01:59:58 PM",
        "1970:01:01 00:00:00",
        TOMORROW,
        "yesterday",
        "2023:07:14",
    ],
)
def test_an_impossible_time_is_none(tmp_path: Path, written: str) -> None:
    assert read_time(write(tmp_path / "photo.jpg", written)) == PhotoTime(None, "impossible")


def test_the_time_of_the_file_counts_only_where_it_is_asked_for(tmp_path: Path) -> None:
    photo = write(tmp_path / "photo.jpg", None)
    os.utime(photo, (TAKEN.timestamp(), TAKEN.timestamp()))
    assert read_time(photo) == PhotoTime(None, "missing")
    assert read_time(photo, or_of_file=True) == PhotoTime(MS, "file"), "by the clock of this computer"
    own = write(tmp_path / "own.jpg", "2023:07:14 23:59:58")
    assert read_time(own, or_of_file=True) == PhotoTime(MS, "exif")


@pytest.mark.parametrize("seconds", [10**12, -(10**12)])
def test_a_time_of_a_file_beyond_any_calendar_is_impossible(tmp_path: Path, monkeypatch, seconds: int) -> None:
    photo = write(tmp_path / "photo.jpg", None)
    monkeypatch.setattr(Path, "stat", lambda path, **how: os.stat_result((0,) * 8 + (seconds, 0)))
    assert read_time(photo, or_of_file=True) == PhotoTime(None, "impossible")


def test_damaged_photos_have_no_time_and_raise_nothing(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.jpg", "2023:07:14 23:59:58").read_bytes()
    contents = [b"", b"no photo", whole[:30], *(whole[:at] + b"\xff" * 9 + whole[at + 9 :] for at in range(12, 200, 7))]
    for number, content in enumerate(contents):
        (tmp_path / f"{number}.jpg").write_bytes(content)
    found = list(read_times((tmp_path / f"{number}.jpg" for number in range(len(contents))), threads=2))
    assert found[:3] == [PhotoTime(None, "missing")] * 3
    assert {time.source for time in found} <= {"exif", "missing", "impossible"}


def test_a_photo_that_is_not_there_is_worth_another_try(tmp_path: Path) -> None:
    assert read_time(tmp_path / "gone.jpg") == PhotoTime(None, "unreadable")
    assert read_time(tmp_path, or_of_file=True) == PhotoTime(None, "unreadable"), "a folder"


def test_many_photos_come_in_their_order(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{number}.jpg", f"2023:07:14 10:00:{number:02}") for number in range(30)]
    found = list(read_times(paths, threads=3))
    first = found[0].taken_at or 0
    assert [(time.taken_at or 0) - first for time in found] == [1000 * number for number in range(30)]


@pytest.mark.data
def test_the_time_of_real_photos_is_one_that_is_written_in_them(data: Path) -> None:
    found = {path: read_time(path) for path in sorted((data / "camera_trap_fullsize").glob("*.jpg"))}
    for path, time in found.items():
        written = re.findall(rb"\d{4}:\d\d:\d\d \d\d:\d\d:\d\d", path.read_bytes()[:65_536])
        if time.taken_at is None:
            assert time.source == "missing" and not written
        else:
            told = f"{datetime.fromtimestamp(time.taken_at / 1000, UTC):%Y:%m:%d %H:%M:%S}"
            assert told.encode() in written
    assert sum(time.source == "exif" for time in found.values()) == 9
