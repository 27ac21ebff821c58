"""Each photo decoded once, in threads, and its pixels given whenever they are wanted."""

import logging
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from camera_trap_al.exceptions import DataError
from camera_trap_al.images import IMAGE_SHAPE, ImageArray, Squeeze, read_photo, squeeze
from camera_trap_al.parallel import mapped_ahead
from camera_trap_al.pixel_store import PixelStore
from camera_trap_al.pools import IndexArray

__all__ = ["CACHE_MODES", "ImageCache", "PhotoList", "open_pixel_store"]

logger = logging.getLogger(__name__)

CACHE_MODES = ("auto", "memory", "off")
CHUNK = 512  # photos between two writes of the record of what is valid
AHEAD = 64  # photos decoded ahead, so that the threads go on while a chunk is written
LOOKS = 256  # photos that one thread looks at in a go


class PhotoList(Protocol):
    """Where the photos of all rows lie."""

    @property
    def paths(self) -> Sequence[str]:
        """Path of each photo below its data folder."""

    def path(self, row: int) -> Path:
        """Where the photo of `row` lies now."""

    def __len__(self) -> int: ...


def open_pixel_store(mode: str, n_rows: int, folder: Path | None, max_gb: float) -> PixelStore | None:
    """Open the store that the setting `image_cache` names.

    Parameters
    ----------
    mode
        ``"auto"``: a file in `folder`, or nothing if there is none; ``"memory"``; ``"off"``: nothing.
    n_rows
        Rows are 0 to n_rows - 1.
    folder
        Where the file is kept.
    max_gb
        Most that is kept, in units of 1e9 bytes.
    """
    if mode == "off" or (mode == "auto" and folder is None):
        return None
    return PixelStore(n_rows, None if mode == "memory" else folder, max_gb)


class ImageCache:
    """Decoded photos by row.

    Parameters
    ----------
    photos
        The photos by row.
    store
        Where decoded photos are kept; without one they are decoded each time they are needed.
    threads
        How many photos are decoded side by side.
    squeeze
        How a decoded photo is resized to 256 x 256 pixels.

    Attributes
    ----------
    unreadable
        Why, by row, for the photos that could not be read when it was tried.
    """

    def __init__(
        self, photos: PhotoList, store: PixelStore | None = None, threads: int = 1, squeeze: Squeeze = squeeze
    ) -> None:
        self._photos = photos
        self._store = store
        self.threads = threads
        self._squeeze = squeeze
        self.unreadable: dict[int, str] = {}
        self._told_full = False
        self._was_looked_at = np.zeros(len(photos), np.bool_)
        self._fingerprints = np.zeros(len(photos), np.uint64)

    def fingerprints(self, rows: IndexArray) -> NDArray[np.uint64]:
        """Return (n,) checksums of path, size and time of change of the photos of `rows`, 0 where there is no photo.

        The path is that below the data folder, which may move. Each photo is looked at once; later changes count from
        the next start.
        """
        unknown = rows[~self._was_looked_at[rows]]
        parts = (unknown[start : start + LOOKS] for start in range(0, len(unknown), LOOKS))
        with tqdm(total=len(unknown), desc="Looking at photos", unit="photo", delay=2) as bar:
            for n_seen in mapped_ahead(self._look_at, parts, threads=self.threads, ahead=2 * self.threads):
                bar.update(n_seen)
        return self._fingerprints[rows]

    def _look_at(self, rows: IndexArray) -> int:
        found = [_fingerprint(self._photos.paths[row], self._photos.path(row)) for row in rows.tolist()]
        self._fingerprints[rows] = found
        self._was_looked_at[rows] = True
        return len(rows)

    @property
    def description(self) -> str:
        """Where decoded photos are kept, in one line for people."""
        return "each photo is decoded again each time" if self._store is None else self._store.description

    def missing(self, rows: IndexArray) -> IndexArray:
        """Return those of `rows`, ascending, whose photo is not kept as it is now: all, if none are kept."""
        rows = np.unique(rows).astype(np.int64)
        return rows if self._store is None else np.extract(~self._is_kept(rows), rows)

    def to_keep(self, rows: IndexArray) -> IndexArray:
        """Return those of `rows`, ascending, that `fill` would decode and keep."""
        if self._store is None:
            return np.zeros(0, np.int64)
        missing = self.missing(rows)
        return self._store.fitting(missing[[row not in self.unreadable for row in missing.tolist()]])

    def fill(self, rows: IndexArray) -> None:
        """Decode and keep the photos of `rows` that are not kept yet, as far as there is room.

        Photos that cannot be read are entered in `unreadable`, and not tried again.
        """
        if self._store is None:
            return
        placed = self._store.make_room(self.to_keep(rows))
        n_left_out = len(rows) - np.count_nonzero(self._store.has_place(rows))
        if n_left_out and not self._told_full:
            self._told_full = True
            logger.warning(
                "%d of %d photos do not fit where decoded photos are kept, and are decoded again each time they are "
                "needed. A larger image_cache_gb, or more free space, makes that faster.",
                n_left_out,
                len(rows),
            )
        if not len(placed):
            return
        with tqdm(total=len(placed), desc="Reading photos", unit="photo", delay=1) as bar:
            try:
                self._fill_places(self._store, placed, bar)
            except OSError as error:
                self._store.give_up()
                logger.warning(
                    "Decoded photos cannot be kept any more (%s): those that are not kept are decoded again each time "
                    "they are needed, which is slower.",
                    error.strerror or error,
                )
            finally:
                self._store.close()

    def _fill_places(self, store: PixelStore, rows: IndexArray, bar: "tqdm[NoReturn]") -> None:
        decoded = mapped_ahead(self._decode, rows.tolist(), threads=self.threads, ahead=AHEAD)
        for start in range(0, len(rows), CHUNK):
            written = []
            for row, image in zip(rows[start : start + CHUNK].tolist(), decoded, strict=False):
                if image is not None:
                    store.write(row, image)
                    written.append(row)
                bar.update()
            readable = np.array(written, np.int64)
            store.record(readable, self.fingerprints(readable))

    def read(self, rows: IndexArray) -> tuple[ImageArray, NDArray[np.bool_]]:
        """Give the photos of `rows`, as far as they can be read; others are entered in `unreadable`.

        Parameters
        ----------
        rows
            (n,) rows.

        Returns
        -------
        The readable photos, (n_read, 256, 256, 3) uint8 RGB in the order of `rows`, and (n,) which rows they are.
        """
        is_kept = self._is_kept(rows)
        if self._store is not None and is_kept.all():
            return self._store.read(rows), is_kept
        images, is_read = np.empty((len(rows), *IMAGE_SHAPE), np.uint8), is_kept.copy()
        if self._store is not None:
            images[is_kept] = self._store.read(rows[is_kept])
        positions = np.flatnonzero(~is_kept)
        decoded = mapped_ahead(self._decode, rows[positions].tolist(), threads=self.threads, ahead=AHEAD)
        for position, image in zip(positions, decoded, strict=True):
            if image is not None:
                images[position] = image
                is_read[position] = True
        return (images if is_read.all() else images[is_read]), is_read

    def images(self, rows: IndexArray) -> ImageArray:
        """Give the photos of `rows` as (n, 256, 256, 3) uint8 RGB.

        Raises
        ------
        DataError
            If one of them cannot be read.
        """
        images, is_read = self.read(rows)
        for row in rows[~is_read].tolist():
            raise DataError(self.unreadable[row], self._photos.path(row))
        return images

    def _is_kept(self, rows: IndexArray) -> NDArray[np.bool_]:
        if self._store is None:
            return np.zeros(len(rows), np.bool_)
        return self._store.holds(rows, self.fingerprints(rows))

    def _decode(self, row: int) -> ImageArray | None:
        try:
            return read_photo(self._photos.path(row), self._squeeze)
        except DataError as error:
            self.unreadable[row] = str(error)
            return None


def _fingerprint(name: str, path: Path) -> int:
    try:
        status = path.stat()
    except OSError:
        return 0
    identity = f"{name}|{status.st_size}|{status.st_mtime_ns}".encode()
    return int.from_bytes(blake2b(identity, digest_size=8).digest(), "little") or 1
