"""Where decoded photos are kept: in memory, or in one raw file with a record of which pixels in it can be believed."""

import logging
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import psutil
from numpy.typing import NDArray

from camera_trap_al.files import size_told, written_aside
from camera_trap_al.photos.images import IMAGE_BYTES, IMAGE_SHAPE, ImageArray
from camera_trap_al.pools import IndexArray

__all__ = ["PixelStore"]

logger = logging.getLogger(__name__)

PIXELS_FILE, RECORD_FILE = "images.u8", "images.index"
BLOCK = 512  # photos that memory is taken for together: 100 MB
SHARE_OF_FREE = 0.5  # of the disk or memory that is free; the rest is for what else the run and the computer need
GIGABYTE = 10**9


class _Places(Protocol):
    """Room for images, numbered from 0."""

    @property
    def n_written(self) -> int:
        """Places up to the last one that was written."""

    def open(self) -> None: ...

    def write(self, place: int, image: ImageArray) -> None: ...

    def read(self, place: int) -> ImageArray: ...

    def flush(self) -> None: ...


class _InMemory:
    def __init__(self) -> None:
        self._blocks: list[ImageArray] = []

    @property
    def n_written(self) -> int:
        return len(self._blocks) * BLOCK

    def open(self) -> None: ...

    def write(self, place: int, image: ImageArray) -> None:
        while place >= len(self._blocks) * BLOCK:
            self._blocks.append(np.empty((BLOCK, *IMAGE_SHAPE), np.uint8))
        self._blocks[place // BLOCK][place % BLOCK] = image

    def read(self, place: int) -> ImageArray:
        image: ImageArray = self._blocks[place // BLOCK][place % BLOCK]
        return image

    def flush(self) -> None: ...


class _InFile:
    """A raw file: written as a file, since a full disk kills who writes through a memory map, and read mapped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._map: ImageArray | None = None

    @property
    def n_written(self) -> int:
        return self._path.stat().st_size // IMAGE_BYTES if self._path.exists() else 0

    def open(self) -> None:
        self.close()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.touch()

    def write(self, place: int, image: ImageArray) -> None:
        if self._file is None:
            self._file = self._path.open("r+b")
        self._file.seek(place * IMAGE_BYTES)
        self._file.write(image.data)

    def read(self, place: int) -> ImageArray:
        if self._map is None and place < self.n_written:
            self._map = np.memmap(self._path, np.uint8, "r", shape=(self.n_written, *IMAGE_SHAPE))
        if self._map is None or place >= len(self._map):
            raise FileNotFoundError(f"{self._path} was deleted or cut off.")
        image: ImageArray = self._map[place]
        return image

    def flush(self) -> None:
        """Have what was written on the disk, and seen by the next read."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
        self.close()

    def close(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # of a full disk; what was not recorded is not believed in anyway
                self._file.close()
        self._file = self._map = None


class PixelStore:
    """Pixels by row, each under the fingerprint of the photo that they were decoded from.

    Parameters
    ----------
    n_rows
        Rows are 0 to n_rows - 1.
    folder
        Where the file lies; made if missing. None keeps the pixels in memory.
    max_gb
        Most that may be kept, in units of 1e9 bytes. Half of what is free is a bound as well.

    Attributes
    ----------
    capacity
        Photos that fit, those that are there already included.
    description
        Where how many photos are kept, in one line for people.

    Raises
    ------
    OSError
        From every method: if the disk is full or gone, or the file was deleted.

    Notes
    -----
    Rows get places in the order in which they come. A place is recorded as valid only after its pixels are on disk; a
    kill at any moment leaves at worst pixels that nobody believes in.
    """

    def __init__(self, n_rows: int, folder: Path | None, max_gb: float) -> None:
        self._folder = folder
        self._place_of = np.full(n_rows, -1, np.int64)  # by row
        self._rows = np.zeros(0, np.int64)  # by place
        self._fingerprints = np.zeros(0, np.uint64)  # by place; 0 where the pixels are not valid
        self._places: _Places = _InMemory()
        taken, free, where = 0, psutil.virtual_memory().available, "memory"
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._load(folder)
            taken, free, where = _space_taken(folder / PIXELS_FILE), shutil.disk_usage(folder).free, str(folder)
        room = min(int(max_gb * GIGABYTE), taken + int(SHARE_OF_FREE * free))
        self.capacity = room // IMAGE_BYTES
        self.description = (
            f"decoded photos are kept in {where}: at most {self.capacity} ({size_told(room)}; "
            f"{size_told(free)} are free there)"
        )
        logger.info("Cache: %s", self.description)

    def _load(self, folder: Path) -> None:
        self._places = places = _InFile(folder / PIXELS_FILE)
        record = folder / RECORD_FILE
        entries = np.fromfile(record, np.uint64) if record.exists() else np.zeros(0, np.uint64)
        n_whole = min(len(entries) // 2, places.n_written)  # pixels that are gone are not believed in
        rows, fingerprints = entries[: 2 * n_whole].reshape(-1, 2).T
        is_known = (rows < len(self._place_of)) & (fingerprints != 0)
        self._rows, self._fingerprints = rows.astype(np.int64), np.where(is_known, fingerprints, 0)
        self._place_of[self._rows[is_known]] = np.flatnonzero(is_known)

    def holds(self, rows: IndexArray, fingerprints: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Say for each of `rows` whether its pixels are here and of the photo with this fingerprint (never 0)."""
        places = self._place_of[rows]
        recorded = np.zeros(len(rows), np.uint64)
        recorded[places >= 0] = self._fingerprints[places[places >= 0]]
        is_held: NDArray[np.bool_] = (recorded == fingerprints) & (recorded != 0)
        return is_held

    def fitting(self, rows: IndexArray) -> IndexArray:
        """Return those of `rows` that have a place or could be given one."""
        is_new = self._place_of[rows] < 0
        n_free = max(self.capacity, len(self._rows)) - np.count_nonzero(self._place_of >= 0)
        return np.extract(~is_new | (np.cumsum(is_new) <= n_free), rows)

    def make_room(self, rows: IndexArray) -> IndexArray:
        """Give each of `rows` (distinct) a place, as far as there is room, and return those that have one now.

        What was in these places is not believed in any more.
        """
        if self._fingerprints.any() and self._places.n_written <= np.flatnonzero(self._fingerprints)[-1]:
            self.release(np.flatnonzero(self._place_of >= 0))  # somebody deleted the file
        self._places.open()
        placed = self.fitting(rows)
        new = placed[self._place_of[placed] < 0]
        is_free = np.ones(len(self._rows), np.bool_)
        is_free[self._place_of[self._place_of >= 0]] = False
        n_more = max(0, len(new) - int(np.count_nonzero(is_free)))
        free = np.concatenate([np.flatnonzero(is_free), np.arange(len(self._rows), len(self._rows) + n_more)])
        self._rows = np.concatenate([self._rows, np.zeros(n_more, np.int64)])
        self._fingerprints = np.concatenate([self._fingerprints, np.zeros(n_more, np.uint64)])
        self._place_of[new] = free[: len(new)]
        self._rows[free[: len(new)]] = new
        if self._fingerprints[self._place_of[placed]].any():
            self.record(placed, np.zeros(len(placed), np.uint64))
        return placed

    def write(self, row: int, image: ImageArray) -> None:
        """Put the (256, 256, 3) pixels of a row in its place; not valid before `record`."""
        self._places.write(int(self._place_of[row]), image)

    def record(self, rows: IndexArray, fingerprints: NDArray[np.uint64]) -> None:
        """Believe in the pixels of `rows` from now on, also after a restart; in none with fingerprint 0."""
        self._places.flush()
        self._fingerprints[self._place_of[rows]] = fingerprints
        if self._folder is not None:
            with written_aside(self._folder / RECORD_FILE) as prepared:
                np.stack([self._rows.astype(np.uint64), self._fingerprints], axis=1).tofile(prepared)

    def release(self, rows: IndexArray) -> None:
        """Take their places from those of `rows` that have one."""
        places = self._place_of[rows]
        self._fingerprints[places[places >= 0]] = 0
        self._place_of[rows] = -1

    def read(self, rows: IndexArray) -> ImageArray:
        """Copy the pixels of `rows`, as (n, 256, 256, 3)."""
        images = np.empty((len(rows), *IMAGE_SHAPE), np.uint8)
        for image, place in zip(images, self._place_of[rows].tolist(), strict=True):
            image[...] = self._places.read(place)
        return images

    def close(self) -> None:
        """Let go of the file, until the next use."""
        if isinstance(self._places, _InFile):
            self._places.close()


def _space_taken(file: Path) -> int:
    """Disk space of a file, which is less than its length where nothing was written yet."""
    if not file.exists():
        return 0
    status = file.stat()
    blocks = getattr(status, "st_blocks", None)  # not known on Windows
    return status.st_size if blocks is None else blocks * 512
