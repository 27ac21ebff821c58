"""Where decoded photos are kept: in memory, or in one raw file with a record of which pixels in it can be believed."""

import logging
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import psutil
from numpy.typing import NDArray

from camera_trap_al.files import written_aside
from camera_trap_al.images import IMAGE_BYTES, IMAGE_SHAPE, ImageArray
from camera_trap_al.pools import IndexArray

__all__ = ["PixelStore"]

logger = logging.getLogger(__name__)

PIXELS_FILE, RECORD_FILE = "images.u8", "images.index"
BLOCK = 512  # photos that are mapped, and allocated, together: 100 MB
SHARE_OF_FREE = 0.5  # of the disk or memory that is free; the rest is for what else the run and the computer need
GIGABYTE = 10**9


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

    Notes
    -----
    Rows get places in the order in which they come. A place is recorded as valid only after its pixels are on disk; a
    kill at any moment leaves at worst pixels that nobody believes in.
    """

    def __init__(self, n_rows: int, folder: Path | None, max_gb: float) -> None:
        self._folder = folder
        self._blocks: dict[int, ImageArray] = {}
        self._file: BinaryIO | None = None  # open between the first `write` and the next `record`
        self._place_of = np.full(n_rows, -1, np.int64)  # by row
        self._rows = np.zeros(0, np.int64)  # by place
        self._fingerprints = np.zeros(0, np.uint64)  # by place; 0 where the pixels are not valid
        if folder is None:
            free, taken, where = psutil.virtual_memory().available, 0, "memory"
        else:
            folder.mkdir(parents=True, exist_ok=True)
            self._load(folder)
            free, taken = shutil.disk_usage(folder).free, _space_taken(folder / PIXELS_FILE)
            where = str(folder)
        room = min(int(max_gb * GIGABYTE), taken + int(SHARE_OF_FREE * free))
        self.capacity = room // IMAGE_BYTES
        self.description = (
            f"decoded photos are kept in {where}: at most {self.capacity} ({room / GIGABYTE:.1f} GB; "
            f"{free / GIGABYTE:.1f} GB are free there)"
        )
        logger.info("Cache: %s", self.description)

    def _load(self, folder: Path) -> None:
        pixels, record = folder / PIXELS_FILE, folder / RECORD_FILE
        if not (pixels.exists() and record.exists()):
            return
        entries = np.fromfile(record, np.uint64)
        n_whole = min(len(entries) // 2, pixels.stat().st_size // IMAGE_BYTES)  # pixels that are gone are not believed
        rows, fingerprints = entries[: 2 * n_whole].reshape(-1, 2).T
        known = (rows < len(self._place_of)) & (fingerprints != 0)
        self._rows, self._fingerprints = rows.astype(np.int64), np.where(known, fingerprints, 0)
        self._place_of[self._rows[known]] = np.flatnonzero(known)

    def holds(self, rows: IndexArray, fingerprints: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Say for each of `rows` whether its pixels are here and of the photo with this fingerprint (never 0)."""
        places = self._place_of[rows]
        recorded = np.zeros(len(rows), np.uint64)
        recorded[places >= 0] = self._fingerprints[places[places >= 0]]
        is_held: NDArray[np.bool_] = (recorded == fingerprints) & (recorded != 0)
        return is_held

    def has_place(self, rows: IndexArray) -> NDArray[np.bool_]:
        """Say for each of `rows` whether it was given a place."""
        return np.greater_equal(self._place_of[rows], 0)

    def fitting(self, rows: IndexArray) -> IndexArray:
        """Return those of `rows` that have a place or could be given one."""
        is_new = self._place_of[rows] < 0
        fits = ~is_new | (np.cumsum(is_new) <= self.capacity - len(self._rows))
        return np.extract(fits, rows)

    def make_room(self, rows: IndexArray) -> IndexArray:
        """Give each of `rows` (distinct) a place, as far as there is room, and return those that have one now.

        What was in these places is not believed in any more.
        """
        placed = self.fitting(rows)
        new = placed[self._place_of[placed] < 0]
        self._place_of[new] = np.arange(len(self._rows), len(self._rows) + len(new))
        self._rows = np.concatenate([self._rows, new])
        self._fingerprints = np.concatenate([self._fingerprints, np.zeros(len(new), np.uint64)])
        if self._fingerprints[self._place_of[placed]].any():
            self.record(placed, np.zeros(len(placed), np.uint64))
        return placed

    def write(self, row: int, image: ImageArray) -> None:
        """Put the (256, 256, 3) pixels of a row in its place; not valid before `record`.

        Raises
        ------
        OSError
            If the disk is full or gone.
        """
        place = int(self._place_of[row])
        if self._folder is None:
            self._block(place // BLOCK)[place % BLOCK] = image
            return
        if self._file is None:
            pixels = self._folder / PIXELS_FILE
            self._file = pixels.open("r+b" if pixels.exists() else "w+b")
        self._file.seek(place * IMAGE_BYTES)
        self._file.write(image.data)  # not through the memory map: there a full disk would kill the process

    def record(self, rows: IndexArray, fingerprints: NDArray[np.uint64]) -> None:
        """Believe in the pixels of `rows` from now on, also after a restart; in none with fingerprint 0.

        Raises
        ------
        OSError
            If the disk is full or gone.
        """
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self.close()
        self._fingerprints[self._place_of[rows]] = fingerprints
        if self._folder is not None:
            with written_aside(self._folder / RECORD_FILE) as prepared:
                np.stack([self._rows.astype(np.uint64), self._fingerprints], axis=1).tofile(prepared)

    def give_up(self) -> None:
        """Keep no more photos than those that are recorded by now."""
        self.close()
        self._place_of[self._rows[self._fingerprints == 0]] = -1
        self.capacity = len(self._rows)

    def close(self) -> None:
        """Close the file that `write` opened; the next one opens it again."""
        if self._file is not None:
            with suppress(OSError):  # of a full disk; what was not recorded is not believed in anyway
                self._file.close()
            self._file = None

    def read(self, rows: IndexArray) -> ImageArray:
        """Copy the pixels of `rows`, as (n, 256, 256, 3)."""
        images = np.empty((len(rows), *IMAGE_SHAPE), np.uint8)
        for image, place in zip(images, self._place_of[rows].tolist(), strict=True):
            image[...] = self._block(place // BLOCK)[place % BLOCK]
        return images

    def _block(self, number: int) -> ImageArray:
        """Give (512, 256, 256, 3) places that follow each other, in memory or mapped to it."""
        if number not in self._blocks:
            self._blocks[number] = self._new_block(number)
        return self._blocks[number]

    def _new_block(self, number: int) -> ImageArray:
        shape = (BLOCK, *IMAGE_SHAPE)
        if self._folder is None:
            return np.empty(shape, np.uint8)
        pixels = self._folder / PIXELS_FILE
        start, size = number * BLOCK * IMAGE_BYTES, BLOCK * IMAGE_BYTES
        if pixels.stat().st_size < start + size:
            os.truncate(pixels, start + size)
        return np.memmap(pixels, np.uint8, "r", offset=start, shape=shape)


def _space_taken(file: Path) -> int:
    """Disk space of a file, which is less than its length where nothing was written yet."""
    if not file.exists():
        return 0
    status = file.stat()
    blocks = getattr(status, "st_blocks", None)  # not known on Windows
    return status.st_size if blocks is None else blocks * 512
