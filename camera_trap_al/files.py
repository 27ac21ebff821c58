"""Write a file whole or not at all."""

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["aside", "flush", "write_csv", "written_aside"]


def aside(path: Path) -> Path:
    """Name the file beside `path` that its next content is written to; it keeps the suffix, which some writers need."""
    return path.with_name(f"{path.stem}.new{path.suffix}")


def flush(path: Path) -> None:
    """Wait until a written file is on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Let the caller write a file under another name, then put it in the place of `path` in one step.

    A reader, or the next start after a kill, finds the old file or the new one, never a part. If the caller's block
    fails, `path` stays as it was.

    Yields
    ------
    The path to write to, in the same folder and with the same suffix.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    prepared = aside(path)
    try:
        yield prepared
        flush(prepared)
        prepared.replace(path)
    finally:
        # Gone already when all went well; a leftover that cannot be removed is harmless and overwritten next time.
        with suppress(OSError):
            prepared.unlink(missing_ok=True)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]], *, encoding: str = "utf-8") -> None:
    """Write a CSV with commas and CRLF, whole or not at all."""
    with written_aside(path) as prepared, prepared.open("w", newline="", encoding=encoding) as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
