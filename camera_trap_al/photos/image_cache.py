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
from camera_trap_al.parallel import mapped_ahead
from camera_trap_al.photos.images import IMAGE_SHAPE, Box, ImageArray, Squeeze, read_crops, read_photo, squeeze
from camera_trap_al.photos.pixel_store import PixelStore
from camera_trap_al.pools import IndexArray

__all__ = ["CACHE_MODES", "ImageCache", "PhotoList", "open_pixel_store"]

logger = logging.getLogger(__name__)

CACHE_MODES = ("auto", "memory", "off")
CHUNK = 512  # photos between two writes of the record of what is valid
AHEAD = 64  # photos decoded ahead, so that the threads go on while a chunk is written
LOOKS = 256  # photos that one thread looks at in a go
TRIES = 2  # of reading a photo: a network drive may miss once


class PhotoList(Protocol):
    """Where the photos of all rows lie."""

    @property
    def paths(self) -> Sequence[str]:
        """Path of each photo below its data folder."""

    def path(self, row: int) -> Path:
        """Where the photo of `row` lies now."""

    def box(self, row: int) -> Box | None:
        """Where the animal is in the photo of `row`; None: all of the photo counts."""

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
    try:
        return PixelStore(n_rows, None if mode == "memory" else folder, max_gb)
    except OSError as error:
        logger.warning("Decoded photos cannot be kept (%s): they are decoded each time they are needed.", error)
        return None


class ImageCache:
    """Decoded photos by row, of those with a box a square around it.

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
        self._refused_by_drive: set[int] = set()
        self._cannot_keep_more = False
        self._was_looked_at = np.zeros(len(photos), np.bool_)
        self._fingerprints = np.zeros(len(photos), np.uint64)

    def fingerprints(self, rows: IndexArray) -> NDArray[np.uint64]:
        """Return (n,) checksums of path, size, time of change and box of the photos of `rows`, 0 where there is none.

        The path is that below the data folder, which may move. A photo that is there is looked at once; later changes
        count from the next start.
        """
        unknown = rows[~self._was_looked_at[rows]]
        if len(unknown):
            parts = (unknown[start : start + LOOKS] for start in range(0, len(unknown), LOOKS))
            with tqdm(total=len(unknown), desc="Looking at photos", unit="photo", delay=2) as bar:
                for n_seen in mapped_ahead(self._look_at, parts, threads=self.threads, ahead=2 * self.threads):
                    bar.update(n_seen)
        return self._fingerprints[rows]

    def _look_at(self, rows: IndexArray) -> int:
        photos = self._photos
        found = [_fingerprint(photos.paths[row], photos.path(row), photos.box(row)) for row in rows.tolist()]
        self._fingerprints[rows] = found
        self._was_looked_at[rows] = self._fingerprints[rows] != 0  # what is not there may come back
        return len(rows)

    def describe(self, rows: IndexArray) -> str:
        """Say in one line where decoded photos are kept, and how many of `rows` do not fit."""
        if self._store is None:
            return "each photo is decoded again each time it is needed"
        n_left_out = len(rows) - len(self._store.fitting(rows))
        left_out = f"; {n_left_out} of {len(rows)} photos do not fit and are decoded each time" if n_left_out else ""
        return self._store.description + left_out

    def missing(self, rows: IndexArray) -> IndexArray:
        """Return those of `rows`, ascending, whose photo is not kept as it is now: all, if none are kept."""
        rows = np.unique(rows).astype(np.int64)
        return rows if self._store is None else np.extract(~self._is_kept(rows), rows)

    def to_keep(self, rows: IndexArray) -> IndexArray:
        """Return those of `rows`, ascending, that `fill` would decode and keep."""
        if self._store is None or self._cannot_keep_more:
            return np.zeros(0, np.int64)
        missing = self.missing(rows)
        return self._store.fitting(missing[self.is_readable(missing)])

    def is_readable(self, rows: IndexArray) -> NDArray[np.bool_]:
        """Say for each of (n,) `rows` whether its photo could be read when it was tried last, or was not tried."""
        return np.array([row not in self.unreadable for row in rows.tolist()], np.bool_)

    def fill(self, rows: IndexArray) -> None:
        """Decode and keep the photos of `rows` that are not kept yet, as far as there is room.

        Photos that cannot be read are entered in `unreadable`; `fill` does not try them again.
        """
        to_keep = self.to_keep(rows)
        if self._store is None or not len(to_keep):
            return
        try:
            with tqdm(total=len(to_keep), desc="Reading photos", unit="photo", delay=1) as bar:
                self._fill_places(self._store, self._store.make_room(to_keep), bar)
        except OSError as error:
            self._cannot_keep_more = True
            logger.warning(
                "Decoded photos cannot be kept any more (%s): those that are not kept are decoded again each time they "
                "are needed, which is slower.",
                error.strerror or error,
            )
        finally:
            self._store.close()

    def _fill_places(self, store: PixelStore, rows: IndexArray, bar: "tqdm[NoReturn]") -> None:
        decoded = mapped_ahead(self._decode, rows.tolist(), threads=self.threads, ahead=AHEAD)
        for start in range(0, len(rows), CHUNK):
            chunk, is_read = rows[start : start + CHUNK], []
            for row, image in zip(chunk.tolist(), decoded, strict=False):
                if image is not None:
                    store.write(row, image)
                is_read.append(image is not None)
                bar.update()
            readable = chunk[np.array(is_read)]
            store.record(readable, self.fingerprints(readable))
            store.release(chunk[~np.array(is_read)])

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
        is_kept, kept = self._kept(rows)
        if is_kept.all():
            return kept, is_kept
        images, is_read = np.empty((len(rows), *IMAGE_SHAPE), np.uint8), is_kept.copy()
        images[is_kept] = kept
        positions = np.flatnonzero(~is_kept)
        decoded = mapped_ahead(self._decode, rows[positions].tolist(), threads=self.threads, ahead=AHEAD)
        for position, image in zip(positions, decoded, strict=True):
            if image is not None:
                images[position] = image
                is_read[position] = True
        return (images if is_read.all() else images[is_read]), is_read

    def _kept(self, rows: IndexArray) -> tuple[NDArray[np.bool_], ImageArray]:
        """Say which of `rows` are kept, and give their pixels."""
        is_kept = self._is_kept(rows)
        if self._store is not None and is_kept.any():
            try:
                return is_kept, self._store.read(rows[is_kept])
            except OSError as error:  # deleted, or on a drive that is gone
                logger.debug("%s: decoding again", error)
        return np.zeros(len(rows), np.bool_), np.empty((0, *IMAGE_SHAPE), np.uint8)

    def images(self, rows: IndexArray) -> ImageArray:
        """Give the photos of `rows` as (n, 256, 256, 3) uint8 RGB.

        Raises
        ------
        DataError
            If one of them cannot be read.
        """
        images, is_read = self.read(rows)
        if not is_read.all():
            row = int(rows[~is_read][0])
            path = self._photos.path(row)
            raise DataError(f"{path}: {self.unreadable[row]}", path)
        return images

    def _is_kept(self, rows: IndexArray) -> NDArray[np.bool_]:
        if self._store is None:
            return np.zeros(len(rows), np.bool_)
        return self._store.holds(rows, self.fingerprints(rows))

    def _decode(self, row: int) -> ImageArray | None:
        """Decode a photo; None, with the reason noted, if it cannot be read, nor in a second try if a drive failed."""
        for _ in range(TRIES):
            try:
                image = self._read(self._photos.path(row), self._photos.box(row))
            except DataError as error:
                self.unreadable[row] = str(error).removeprefix(f"{error.path}: ")
                if getattr(error.__cause__, "errno", None) is None:  # bad bytes stay bad
                    break
                self._refused_by_drive.add(row)
            else:
                if self.fingerprints(np.array([row]))[0]:
                    self.unreadable.pop(row, None)
                    return image
                self.unreadable[row] = "was there and is gone."
                self._refused_by_drive.add(row)
        return None

    def _read(self, path: Path, box: Box | None) -> ImageArray:
        return read_photo(path, self._squeeze) if box is None else read_crops(path, [box], squeeze=self._squeeze)[0]

    def retry(self) -> list[int]:
        """Try photos again whose drive failed since the last call; return the rows of those that can be read now.

        They are `unreadable` no more.
        """
        refused = sorted(self._refused_by_drive)
        still = [row for row in refused if row in self.unreadable]
        for _ in mapped_ahead(self._decode, still, threads=self.threads, ahead=AHEAD):
            pass
        self._refused_by_drive.clear()
        return [row for row in refused if row not in self.unreadable]

    def close(self) -> None:
        """Let go of files, until the next use."""
        if self._store is not None:
            self._store.close()


def _fingerprint(name: str, path: Path, box: Box | None) -> int:
    try:
        status = path.stat()
    except OSError:
        return 0
    # Whole seconds: what copies and other file systems make of a time differs in its fractions.
    seen = "" if box is None else f"|{tuple(box)}"
    identity = f"{name}|{status.st_size}|{int(status.st_mtime)}{seen}".encode()
    return int.from_bytes(blake2b(identity, digest_size=8).digest(), "little") or 1
