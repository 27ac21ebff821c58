"""Write a file whole or not at all."""

import csv
import errno
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from camera_trap_al.exceptions import DiskFullError

__all__ = ["aside", "flush", "prepared_aside", "size_told", "write_csv", "written_aside"]

NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
NO_ROOM_SAYS_NUMPY = re.compile(r"Not enough free space|\d+ requested and \d+ written")  # without an errno


def aside(path: Path) -> Path:
    """Name the file beside `path` that its next content is written to; it keeps the suffix, which some writers need."""
    return path.with_name(f"{path.stem}.new{path.suffix}")


def size_told(n_bytes: int) -> str:
    """Say a size for people, in units of 1e9 or 1e6 bytes."""
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.0f} MB"


def flush(path: Path) -> None:
    """Wait until a written file is on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def prepared_aside(path: Path) -> Iterator[Path]:
    """Let the caller write what is to come in the place of `path` under another name, and leave it there, on the disk.

    If the caller's block fails, nothing is left.

    Yields
    ------
    The path to write to, in the same folder and with the same suffix.

    Raises
    ------
    DiskFullError
        If there is no room.
    """
    prepared = aside(path)
    try:
        yield prepared
        flush(prepared)
    except BaseException as error:
        _remove(prepared)
        if isinstance(error, OSError) and (error.errno in NO_ROOM or NO_ROOM_SAYS_NUMPY.match(str(error))):
            raise DiskFullError(path) from error
        raise


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Let the caller write a file under another name, then put it in the place of `path` in one step.

    A reader, or the next start after a kill, finds the old file or the new one, never a part. If the caller's block
    fails, `path` stays as it was. The folder is made if it is missing; see `prepared_aside` for the rest.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with prepared_aside(path) as prepared:
        yield prepared
    try:
        prepared.replace(path)
    except OSError:
        _remove(prepared)
        raise


def _remove(leftover: Path) -> None:
    with suppress(OSError):  # one that cannot be removed is harmless and overwritten next time
        leftover.unlink(missing_ok=True)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]], *, encoding: str = "utf-8") -> None:
    """Write a CSV with commas and CRLF, whole or not at all."""
    with written_aside(path) as prepared, prepared.open("w", newline="", encoding=encoding) as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
