"""Each photo decoded once: a raw file of 256x256 pixels by row, and which rows of it are valid."""

import logging
import shutil
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from camera_trap_al.exceptions import DataError
from camera_trap_al.files import written_aside
from camera_trap_al.images import IMAGE_BYTES, IMAGE_SIZE, read_photo
from camera_trap_al.pools import IndexArray

__all__ = ["ImageCache"]

logger = logging.getLogger(__name__)

SHAPE = (IMAGE_SIZE, IMAGE_SIZE, 3)
MAX_BYTES = 20 * 1024**3
CHUNK = 512  # photos between two writes of the record of what is valid

ImageArray = NDArray[np.uint8]


class ImageCache:
    """Decoded photos by row.

    Parameters
    ----------
    path_of
        Gives the photo of a row.
    n_rows
        Rows are 0 to n_rows - 1.
    folder
        Where to keep the decoded photos; made if missing. None, or a folder without room for them, means that photos
        are decoded again each time they are needed.
    threads
        How many photos are decoded side by side.

    Notes
    -----
    A photo is recorded as valid, under a checksum of its name, size and time of change, only after its pixels are on
    disk; a kill at any moment leaves at worst pixels that nobody believes in.
    """

    def __init__(
        self, path_of: Callable[[int], Path], n_rows: int, folder: Path | None = None, threads: int = 1
    ) -> None:
        self._path_of = path_of
        self.threads = threads
        self._unreadable: dict[int, str] = {}
        self._was_tried = np.zeros(n_rows, np.bool_)
        self._was_looked_at = np.zeros(n_rows, np.bool_)
        self._present = np.zeros(n_rows, np.uint64)  # fingerprints of the photos as they are
        self._recorded = np.zeros(n_rows, np.uint64)  # fingerprints of the photos whose pixels are kept
        self._pixels: np.memmap[tuple[int, ...], np.dtype[np.uint8]] | None = None
        if folder is not None:
            self._open(folder, n_rows)

    def _open(self, folder: Path, n_rows: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        pixels_file = folder / "images.u8"
        present = pixels_file.stat().st_size if pixels_file.exists() else 0
        room = min(MAX_BYTES, _space_taken(pixels_file) + shutil.disk_usage(folder).free // 2)
        needed = n_rows * IMAGE_BYTES
        if needed > room:
            logger.warning(
                "Decoded photos are not kept, since they need %.1f GB and %.1f GB may be used. They are decoded each "
                "time, which is much slower.",
                needed / 1e9,
                room / 1e9,
            )
            return
        with pixels_file.open("ab") as file:
            file.truncate(max(present, needed))
        self._pixels = np.memmap(pixels_file, np.uint8, "r+", shape=(n_rows, *SHAPE))
        self._record_file = folder / "fingerprints.u64"
        if self._record_file.exists():
            n_kept = min(n_rows, present // IMAGE_BYTES)  # pixels that are gone are not believed in either
            known = np.fromfile(self._record_file, np.uint64, n_kept)
            self._recorded[: len(known)] = known

    @property
    def is_kept(self) -> bool:
        """Whether decoded photos stay on disk; if not, they are decoded each time."""
        return self._pixels is not None

    def fingerprints(self, rows: IndexArray) -> NDArray[np.uint64]:
        """Return (n,) checksums of name, size and time of change of the photos of `rows`, 0 where there is no photo.

        Each photo is looked at once; later changes count from the next start.
        """
        unknown = rows[~self._was_looked_at[rows]]
        for row in tqdm(unknown.tolist(), desc="Looking at photos", unit="photo", delay=2):
            self._present[row] = _fingerprint(self._path_of(row))
        self._was_looked_at[unknown] = True
        return self._present[rows]

    def missing(self, rows: IndexArray) -> IndexArray:
        """Return those of `rows`, ascending, whose photo is not in the cache as it is now: all, without a cache."""
        rows = np.unique(rows).astype(np.int64)
        if self._pixels is None:
            return rows
        recorded = self._recorded[rows]
        is_missing = (recorded != self.fingerprints(rows)) | (recorded == 0)
        return np.extract(is_missing, rows)

    def fill(self, rows: IndexArray) -> dict[int, str]:
        """Decode the photos of `rows` that are not in the cache yet, or, without a cache, see whether they can be.

        Returns
        -------
        Reason for each of `rows` that cannot be read.
        """
        missing = self.missing(rows)
        missing = missing[~self._was_tried[missing]]
        with tqdm(total=len(missing), desc="Reading photos", unit="photo", disable=not len(missing)) as bar:
            for start in range(0, len(missing), CHUNK):
                self._fill_chunk(missing[start : start + CHUNK], bar)
        return {int(row): self._unreadable[int(row)] for row in rows if int(row) in self._unreadable}

    def _fill_chunk(self, rows: IndexArray, bar: "tqdm[NoReturn]") -> None:
        for row, image in zip(rows, self._decode(rows), strict=True):
            if self._pixels is not None and image is not None:
                self._pixels[row] = image
            bar.update()
        self._was_tried[rows] = True
        if self._pixels is not None:
            self._pixels.flush()
            self._record(rows)

    def images(self, rows: IndexArray) -> ImageArray:
        """Return the photos of `rows` as (n, 256, 256, 3) uint8 RGB.

        Raises
        ------
        DataError
            If one of them cannot be read.
        """
        if self._pixels is not None:
            self.fill(rows)
            self._refuse_unreadable(rows)
            return self._pixels[rows]
        images = list(self._decode(rows))
        self._refuse_unreadable(rows)
        return np.array([image for image in images if image is not None], np.uint8).reshape(-1, *SHAPE)

    def _refuse_unreadable(self, rows: IndexArray) -> None:
        for row in map(int, rows):
            if row in self._unreadable:
                raise DataError(self._unreadable[row], self._path_of(row))

    def _decode(self, rows: IndexArray) -> Iterator[ImageArray | None]:
        with ThreadPoolExecutor(self.threads) as pool:
            yield from pool.map(self._decode_one, map(int, rows))

    def _decode_one(self, row: int) -> ImageArray | None:
        try:
            return read_photo(self._path_of(row))
        except DataError as error:
            self._unreadable[row] = str(error)
            return None

    def _record(self, rows: IndexArray) -> None:
        """Write down which of `rows` are valid; their pixels are on disk by now."""
        self._recorded[rows] = self.fingerprints(rows)
        self._recorded[[row for row in rows.tolist() if row in self._unreadable]] = 0
        with written_aside(self._record_file) as prepared:
            self._recorded.tofile(prepared)


def _fingerprint(path: Path) -> int:
    try:
        status = path.stat()
    except OSError:
        return 0
    identity = f"{path.parent.name}/{path.name}|{status.st_size}|{status.st_mtime_ns}".encode()
    return (zlib.crc32(identity) << 32 | zlib.adler32(identity)) or 1


def _space_taken(file: Path) -> int:
    """Disk space of a file, which is less than its length where nothing was written yet."""
    if not file.exists():
        return 0
    status = file.stat()
    blocks = getattr(status, "st_blocks", None)  # not known on Windows
    return status.st_size if blocks is None else blocks * 512
