"""When each photo was taken, from its header: nothing is decoded."""

import logging
import re
import warnings
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

from PIL import ExifTags, Image
from tqdm.auto import tqdm

from camera_trap_al.parallel import mapped_ahead
from camera_trap_al.photos.images import FORMATS

__all__ = ["PhotoTime", "read_time", "read_times"]

logger = logging.getLogger(__name__)

EPOCH = datetime(1970, 1, 1)
FIRST_YEAR = 1980  # of digital cameras; older times are those of a clock that was never set
WRITTEN = re.compile(
    r"(\d{4})[:/.-](\d{1,2})[:/.-](\d{1,2})[ T](\d{1,2}):(\d{1,2}):(\d{1,2})"
    r"(?:[.,]\d+)? *(?:Z|[+-]\d\d:?\d\d)?"  # what may follow; "PM" may not, which would make it another hour
)
AHEAD = 256  # photos looked at ahead of the one that is waited for


class PhotoTime(NamedTuple):
    """When a photo was taken.

    Attributes
    ----------
    taken_at
        Milliseconds since 1970-01-01 00:00 by the camera's own clock, which knows no time zone; None if not known.
    source
        What says so: ``"exif"`` or ``"file"``; else why nobody does: ``"missing"``, ``"impossible"``, or
        ``"unreadable"`` if the drive failed, so that it is worth another try.
    """

    taken_at: int | None
    source: str


def read_times(
    paths: Iterable[Path], n: int | None = None, *, threads: int, or_of_file: bool = False
) -> Iterator[PhotoTime]:
    """Read when photos were taken, side by side, with a progress bar; impossible times are told at the end.

    Parameters
    ----------
    paths
        The photos.
    n
        How many they are, for the bar, if that is known.
    threads
        How many are looked at side by side.
    or_of_file
        As for `read_time`.
    """
    read, n_impossible = partial(read_time, or_of_file=or_of_file), 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, about damaged headers
        found = mapped_ahead(read, paths, threads=threads, ahead=AHEAD)
        for time in tqdm(found, total=n, desc="Reading times", unit="photo", delay=2):
            n_impossible += time.source == "impossible"
            yield time
    if n_impossible:
        logger.warning(
            "%d photos say that they were taken at an impossible time, such as in the future, which counts as none. "
            "Look whether the clock of a camera was wrong.",
            n_impossible,
        )


def read_time(path: Path, *, or_of_file: bool = False) -> PhotoTime:
    """Read when a photo was taken: EXIF DateTimeOriginal with its parts of a second, of any format that has EXIF.

    Parameters
    ----------
    path
        The photo.
    or_of_file
        Whether to take the time at which the file was changed last where the photo has none.
    """
    try:
        with path.open("rb") as file:
            found = _of_header(file)
        if found.taken_at is None and or_of_file:
            return _of_file(path.stat().st_mtime)
    except OSError:
        return PhotoTime(None, "unreadable")
    return found


def _of_header(file: BinaryIO) -> PhotoTime:
    try:
        with Image.open(file, formats=FORMATS) as photo:
            tags = photo.getexif().get_ifd(ExifTags.IFD.Exif)
    except Exception as error:  # at damaged bytes Pillow raises almost anything
        if isinstance(error, OSError) and error.errno is not None:
            raise
        return PhotoTime(None, "missing")
    written = tags.get(ExifTags.Base.DateTimeOriginal)
    if not isinstance(written, str) or not written.strip(" :\0"):
        return PhotoTime(None, "missing")
    return _parsed(written, str(tags.get(ExifTags.Base.SubsecTimeOriginal, "")))


def _of_file(seconds: float) -> PhotoTime:
    try:
        changed_at = datetime.fromtimestamp(seconds)
    except (ValueError, OverflowError, OSError):  # what drives say of files may be beyond any calendar
        return PhotoTime(None, "impossible")
    return _time(changed_at, "file")


def _parsed(written: str, subseconds: str) -> PhotoTime:
    parts = WRITTEN.fullmatch(written.partition("\0")[0].strip())
    if parts is None:
        return PhotoTime(None, "impossible")
    digits = re.match(r"\d*", subseconds.strip(" \0"))
    try:
        time = datetime(*map(int, parts.groups()))  # type: ignore[arg-type]  # six numbers, whatever mypy thinks
    except ValueError:
        return PhotoTime(None, "impossible")
    return _time(time + timedelta(milliseconds=int(((digits[0] if digits else "") + "000")[:3])), "exif")


def _time(time: datetime, source: str) -> PhotoTime:
    if time.year < FIRST_YEAR or time > datetime.now() + timedelta(days=1):
        return PhotoTime(None, "impossible")
    return PhotoTime((time - EPOCH) // timedelta(milliseconds=1), source)
