"""Embeddings put down as they come, some thousand a file, so that a stop loses little of hours of work."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from camera_trap_al.deep_learning.data_loader import ExtendedImageFolder
from camera_trap_al.deep_learning.embedder import Embedder
from camera_trap_al.deep_learning.precision import Precision
from camera_trap_al.files import read_arrays, written_aside
from camera_trap_al.pools import FloatArray, IndexArray

__all__ = ["EmbeddingParts"]

logger = logging.getLogger(__name__)

PART_SIZE = 2048  # photos
FIELDS = ("network", "is_exact", "rows", "fingerprints", "embeddings")
DIGITS = 6  # of a file's number


class EmbeddingParts:
    """Embeddings of one network in files of their own, each whole or not there.

    Parameters
    ----------
    folder
        Where the files lie; made when there is something to write. Files of other networks, and damaged ones, are
        removed.
    network
        Digest of the network.
    n_rows
        Rows are 0 to n_rows - 1.

    Attributes
    ----------
    network
        The same digest.
    """

    def __init__(self, folder: Path, network: str, n_rows: int) -> None:
        self._folder = folder
        self.network = network
        self._files: list[Path] = []
        self._file_of = np.full(n_rows, -1, np.int64)  # by row: where its latest embedding is
        self._fingerprints = np.zeros(n_rows, np.uint64)
        self._is_exact = np.zeros(n_rows, np.bool_)
        for file in sorted(folder.glob(f"part_{'[0-9]' * DIGITS}.npz")):
            part = self._load(file)
            if part is None:
                file.unlink()
            else:
                self._enter(file, part)

    def _load(self, file: Path) -> dict[str, Any] | None:
        try:
            saved = read_arrays(file)
            part = {name: saved[name] for name in FIELDS}
            is_ours = part["network"] == self.network and part["rows"].max(initial=-1) < len(self._file_of)
        except (ValueError, KeyError, TypeError) as error:
            logger.warning("%s is damaged and is made again (%s).", file, error)
            return None
        return part if is_ours else None

    def _enter(self, file: Path, part: Mapping[str, Any]) -> None:
        rows = part["rows"]
        self._file_of[rows] = len(self._files)
        self._fingerprints[rows] = part["fingerprints"]
        self._is_exact[rows] = part["is_exact"]
        self._files.append(file)

    def missing(self, rows: IndexArray, fingerprints: NDArray[np.uint64], precision: Precision) -> IndexArray:
        """Return those of (n,) `rows` whose photo, by its fingerprint, is not embedded in this precision or fp32."""
        is_good = (self._file_of[rows] >= 0) & (self._fingerprints[rows] == fingerprints)
        if precision == "fp32":
            is_good &= self._is_exact[rows]
        return np.extract(~is_good, rows)

    def extract(self, embedder: Embedder, dataset: ExtendedImageFolder, rows: IndexArray, precision: Precision) -> None:
        """Embed those of `rows` that are not here yet; photos that cannot be read are left out."""
        rows = np.sort(rows)
        missing = self.missing(rows, dataset.cache.fingerprints(rows), precision)
        if not len(missing):
            return
        done = 0
        waiting: list[FloatArray] = []
        with tqdm(total=len(rows), initial=len(rows) - len(missing), desc="Embedding photos", unit="photo") as bar:
            for embeddings in embedder.embed_batches(dataset, missing, precision):
                waiting.append(embeddings)
                bar.update(len(embeddings))
                n_waiting = sum(map(len, waiting))
                if n_waiting >= PART_SIZE or done + n_waiting == len(missing):
                    self._write(dataset, missing[done : done + n_waiting], np.concatenate(waiting), precision)
                    done += n_waiting
                    waiting = []

    def _write(
        self, dataset: ExtendedImageFolder, rows: IndexArray, embeddings: FloatArray, precision: Precision
    ) -> None:
        is_read = dataset.cache.is_readable(rows)
        if not is_read.any():
            return
        part: dict[str, Any] = {
            "network": np.array(self.network),
            "is_exact": np.array(precision == "fp32"),
            "rows": rows[is_read],
            "fingerprints": dataset.cache.fingerprints(rows[is_read]),
            "embeddings": embeddings[is_read],
        }
        last = int(self._files[-1].stem.rpartition("_")[2]) if self._files else -1
        file = self._folder / f"part_{last + 1:0{DIGITS}d}.npz"
        with written_aside(file) as prepared:
            np.savez(prepared, **part)
        self._enter(file, part)

    def read(
        self, rows: IndexArray, fingerprints: NDArray[np.uint64], precision: Precision
    ) -> Iterator[tuple[IndexArray, FloatArray]]:
        """Give those of `rows` that are not `missing`, with their (n, n_features) embeddings, file by file."""
        is_wanted = np.zeros(len(self._file_of), np.bool_)
        is_wanted[rows] = True
        is_wanted[self.missing(rows, fingerprints, precision)] = False
        for number in np.unique(self._file_of[is_wanted]).tolist():
            part = read_arrays(self._files[number])
            in_file, embeddings = part["rows"], part["embeddings"]
            which = is_wanted[in_file] & (self._file_of[in_file] == number)
            yield in_file[which], embeddings[which]
