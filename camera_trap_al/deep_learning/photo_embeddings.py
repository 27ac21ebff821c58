"""The embeddings of a run's photos by its present network: kept, looked up, and made where they are missing."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from camera_trap_al.deep_learning.data_loader import ExtendedImageFolder
from camera_trap_al.deep_learning.embedder import Embedder
from camera_trap_al.deep_learning.embedding_parts import EmbeddingParts
from camera_trap_al.deep_learning.embedding_table import EmbeddingTable
from camera_trap_al.deep_learning.precision import Precision
from camera_trap_al.pools import FloatArray, IndexArray
from camera_trap_al.run_store import RunStore

__all__ = ["PhotoEmbeddings"]

ROWS_PER_GO = 16_384  # when there is no folder to put them down in


class PhotoEmbeddings:
    """Embeddings of rows in use in a table, of all others in passing.

    Parameters
    ----------
    dataset
        The photos.
    embedder
        The network.
    parts_folder
        Where embeddings are put down as they come; None keeps none but those of the table.

    Attributes
    ----------
    network
        Digest of the present network; to be set after each training. Embeddings of other networks do not count.
    table
        The embeddings of rows in use.
    """

    def __init__(self, dataset: ExtendedImageFolder, embedder: Embedder, parts_folder: Path | None = None) -> None:
        self._dataset = dataset
        self._embedder = embedder
        self._parts_folder = parts_folder
        self._parts: EmbeddingParts | None = None
        self.network = "not trained"
        self.table = EmbeddingTable(len(dataset))

    def load(self, store: RunStore, network: str) -> None:
        """Take up what a run saved of the network of this name."""
        self.network = network
        self.table = EmbeddingTable.load(store, len(self._dataset), network)

    def missing(self, rows: IndexArray, *, exactly: bool) -> IndexArray:
        """Return those of `rows` whose photo, as it is now, has no embedding by the present network in the table.

        Parameters
        ----------
        rows
            (n,) rows.
        exactly
            Whether an embedding must be in fp32 to count.
        """
        fingerprints = self._dataset.cache.fingerprints(rows)
        return rows[~self.table.is_good(rows, fingerprints, self.network, exactly)]

    def make(self, rows: IndexArray, precision: Precision) -> None:
        """Embed `rows` and enter them into the table, but for photos that cannot be read."""
        if not len(rows):
            return
        parts = self._current_parts()
        if parts is None:
            self.enter(rows, self._embedder.embed(self._dataset, rows, precision), precision)
            return
        parts.extract(self._embedder, self._dataset, rows, precision)
        found = list(parts.read(rows, self._dataset.cache.fingerprints(rows), precision))
        if found:
            in_order, embeddings = (np.concatenate(each) for each in zip(*found, strict=True))
            self.enter(in_order, embeddings, precision)

    def enter(self, rows: IndexArray, embeddings: FloatArray, precision: Precision) -> None:
        """Enter (n, n_features) embeddings by the present network, but for photos that cannot be read."""
        is_read = self._dataset.cache.is_readable(rows)
        rows = rows[is_read]
        fingerprints = self._dataset.cache.fingerprints(rows)
        self.table.put(rows, embeddings[is_read], fingerprints, self.network, precision == "fp32")

    def exact(self, rows: IndexArray) -> FloatArray:
        """Return (n, n_features) fp32 embeddings of `rows`, made if they are missing; NaN where one cannot be read."""
        self.make(self.missing(rows, exactly=True), "fp32")
        return self.table.of(rows)

    def stream(self, rows: IndexArray) -> Iterator[tuple[IndexArray, FloatArray]]:
        """Give fp32 embeddings of all `rows`, some thousand at a time, with the rows that they are of.

        What is neither in the table nor put down yet is embedded first. Photos that cannot be read are left out.
        """
        others = self.missing(rows, exactly=True)
        in_table = np.setdiff1d(rows, others)
        for some in _in_goes(in_table):
            yield some, self.table.of(some)
        parts = self._current_parts()
        if parts is not None:
            parts.extract(self._embedder, self._dataset, others, "fp32")
            yield from parts.read(others, self._dataset.cache.fingerprints(others), "fp32")
            return
        for some in _in_goes(others):
            embeddings = self._embedder.embed(self._dataset, some)
            is_read = self._dataset.cache.is_readable(some)
            yield some[is_read], embeddings[is_read]

    def _current_parts(self) -> EmbeddingParts | None:
        if self._parts_folder is None:
            return None
        if self._parts is None or self._parts.network != self.network:
            self._parts = EmbeddingParts(self._parts_folder, self.network, len(self._dataset))
        return self._parts


def _in_goes(rows: IndexArray) -> Iterator[IndexArray]:
    return (rows[start : start + ROWS_PER_GO] for start in range(0, len(rows), ROWS_PER_GO))
