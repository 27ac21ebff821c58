"""Write a file whole or not at all."""

import csv
import errno
import hashlib
import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from camera_trap_al.exceptions import DiskFullError, RunFileError

__all__ = [
    "as_run_file_error",
    "aside",
    "digest",
    "explained",
    "flush",
    "from_plain_cell",
    "left_if_open",
    "make_folder",
    "plain_cell",
    "prepared_aside",
    "put_in_place",
    "read_arrays",
    "remove_leftover",
    "sha256_of",
    "size_told",
    "write_csv",
    "written_aside",
]

logger = logging.getLogger(__name__)

NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
NOT_OF_THE_DRIVE = {None, errno.EINVAL}  # what NumPy and zipfile say of bytes that make no sense
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")  # as the Open Worldwide Application Security Project lists them
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
def explained(path: Path) -> Iterator[None]:
    """Turn whatever a disk says about `path` within the block into an error that tells people what to do.

    Raises
    ------
    DiskFullError
        If there is no room.
    RunFileError
        For every other `OSError` that is not one already.
    """
    try:
        yield
    except RunFileError:
        raise
    except OSError as error:
        raise as_run_file_error(path, error) from error


def as_run_file_error(path: Path, error: OSError) -> RunFileError:
    """Give the error that tells people what it means that a disk says `error` about `path`."""
    if error.errno in NO_ROOM or NO_ROOM_SAYS_NUMPY.match(str(error)):
        return DiskFullError(path)
    return RunFileError(path, error)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, unless it is there; errors as `explained`."""
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read all arrays of an ``.npz`` file by name, which tests their checksums too.

    Raises
    ------
    ValueError
        If the file is damaged, or of another kind.
    RunFileError
        If it is not there, or its drive does not answer.
    """
    try:
        with path.open("rb") as opened, np.load(opened) as saved:  # closed whatever np.load finds
            return {name: saved[name] for name in saved.files}
    except OSError as error:
        if error.errno not in NOT_OF_THE_DRIVE:
            raise as_run_file_error(path, error) from error
        raise ValueError(str(error)) from error
    except (KeyError, TypeError, EOFError, BadZipFile) as error:
        raise ValueError(str(error)) from error


def sha256_of(path: Path) -> str:
    """Give the SHA-256 of a file, in hexadecimal digits; errors as `explained`."""
    with explained(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(*arrays: NDArray[Any]) -> str:
    """Name the content of arrays."""
    checksum = hashlib.sha256()
    for array in arrays:
        checksum.update(np.ascontiguousarray(array).tobytes())
    return checksum.hexdigest()


@contextmanager
def prepared_aside(path: Path) -> Iterator[Path]:
    """Let the caller write what is to come in the place of `path` under another name, and leave it there, on the disk.

    If the caller's block fails, nothing is left.

    Yields
    ------
    The path to write to, in the same folder and with the same suffix.

    Raises
    ------
    RunFileError
        If it cannot be written; a `DiskFullError` if there is no room.
    """
    prepared = aside(path)
    try:
        with explained(path):
            yield prepared
            flush(prepared)
    except BaseException:
        remove_leftover(prepared)
        raise


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Let the caller write a file under another name, then put it in the place of `path` in one step.

    A reader, or the next start after a kill, finds the old file or the new one, never a part. If the caller's block
    fails, `path` stays as it was. The folder is made if it is missing, but not those above it: where a drive is gone,
    the run would go on in a folder that is hidden when the drive is back. See `prepared_aside` for the rest.
    """
    with explained(path):
        path.parent.mkdir(exist_ok=True)
    with prepared_aside(path) as prepared:
        yield prepared
    try:
        put_in_place(path)
    except OSError:
        remove_leftover(prepared)
        raise


@contextmanager
def left_if_open() -> Iterator[None]:
    """Leave a file that nothing depends on as it was, with a WARNING, if another program such as Excel has it open."""
    try:
        yield
    except RunFileError as error:
        if not error.is_not_allowed:
            raise
        logger.warning("%s is open in another program and stays as it was; it is written again later.", error.path)


def put_in_place(path: Path) -> None:
    """Give the name `path` to what was prepared aside for it, in one step; errors as `explained`."""
    with explained(path):
        aside(path).replace(path)


def remove_leftover(leftover: Path) -> None:
    """Remove what was written aside and is not wanted, if that can be done."""
    with suppress(OSError):  # one that cannot be removed is harmless and overwritten next time
        leftover.unlink(missing_ok=True)


def plain_cell(text: str) -> str:
    """Put an apostrophe before what a spreadsheet would take for a formula, and compute, when it opens the file."""
    return f"'{text}" if _is_formula_after_apostrophes(text) else text


def from_plain_cell(cell: str) -> str:
    """Give back the text that `plain_cell` was given."""
    return cell[1:] if cell.startswith("'") and _is_formula_after_apostrophes(cell) else cell


def _is_formula_after_apostrophes(text: str) -> bool:
    return text.lstrip("'").startswith(FORMULA_STARTS)  # a name may begin with one: it gets another, to be told apart


def write_csv(
    path: Path,
    header: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    encoding: str = "utf-8",
    verbatim: bool = False,
) -> None:
    """Write a CSV with commas and CRLF, whole or not at all.

    Texts are made plain cells, unless they must stay `verbatim` since a program looks for them.
    """
    with written_aside(path) as prepared, prepared.open("w", newline="", encoding=encoding) as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows if verbatim else (map(_plain_if_text, row) for row in rows))


def _plain_if_text(cell: object) -> object:
    return plain_cell(cell) if isinstance(cell, str) else cell
