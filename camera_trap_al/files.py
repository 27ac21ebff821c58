"""Write a file whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["aside", "flush", "written_aside"]


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
    yield prepared
    flush(prepared)
    prepared.replace(path)
