"""The embeddings of the rows in use, and which photo, network and precision each is of."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camera_trap_al.files import digest, explained, read_arrays
from camera_trap_al.pools import FloatArray, IndexArray
from camera_trap_al.run_store import RunStore
from camera_trap_al.run_store.artefact import Artefact

__all__ = ["EmbeddingTable"]

EMBEDDINGS_FILE = "embedding/embedding.npy"
PHOTOS_FILE = "embedding/photos.npz"


class EmbeddingTable:
    """Embeddings by row, all of one network. Only rows that are embedded take room.

    Parameters
    ----------
    n_rows
        Rows are 0 to n_rows - 1.

    Attributes
    ----------
    photos
        (n_rows,) uint64, the fingerprint of the photo that each embedding was made from; 0 where there is none.
    is_exact
        (n_rows,) whether the embedding was computed in fp32.
    network
        Digest of the network that made them; "" if there are none.
    """

    def __init__(self, n_rows: int) -> None:
        self._values: FloatArray = np.empty((0, 0), np.float32)  # of the embedded rows, ascending
        self.photos: NDArray[np.uint64] = np.zeros(n_rows, np.uint64)
        self.is_exact = np.zeros(n_rows, np.bool_)
        self.network = ""

    def of(self, rows: IndexArray) -> FloatArray:
        """Copy the (n, n_features) embeddings of `rows`; NaN for those that are not embedded."""
        found = np.full((len(rows), self._values.shape[1]), np.nan, np.float32)
        is_embedded = self.photos[rows] != 0
        found[is_embedded] = self._values[self._positions()[rows[is_embedded]]]
        return found

    def all_rows(self) -> FloatArray:
        """Copy everything as (n_rows, n_features), NaN in rows that are not embedded."""
        return self.of(np.arange(len(self.photos)))

    def _positions(self) -> IndexArray:
        """(n_rows,) where in the values the embedding of a row is, if it is embedded."""
        return np.cumsum(self.photos != 0) - 1

    def is_good(
        self, rows: IndexArray, fingerprints: NDArray[np.uint64], network: str, exactly: bool
    ) -> NDArray[np.bool_]:
        """Say for each of (n,) `rows` whether there is an embedding of its present photo by this network.

        Parameters
        ----------
        rows
            (n,) rows.
        fingerprints
            (n,) of their photos as they are now.
        network
            Digest of the present network.
        exactly
            Whether it must be in fp32.
        """
        if self.network != network:
            return np.zeros(len(rows), np.bool_)
        is_good: NDArray[np.bool_] = (self.photos[rows] == fingerprints) & (fingerprints != 0)
        return is_good & self.is_exact[rows] if exactly else is_good

    def put(
        self,
        rows: IndexArray,
        embeddings: FloatArray,
        fingerprints: NDArray[np.uint64],
        network: str,
        exactly: NDArray[np.bool_] | bool = True,
    ) -> None:
        """Enter the (n, n_features) embeddings of `rows`; those of another network are forgotten.

        The fingerprints are of the photos that they were made from; `exactly` tells which are in fp32.

        Raises
        ------
        ValueError
            If a fingerprint is 0, which stands for no photo.
        """
        if not fingerprints.all():
            raise ValueError("An embedding needs the fingerprint of its photo; got 0.")
        if self.network != network:
            self.network = network
            self.photos[:], self.is_exact[:] = 0, False
            self._values = np.empty((0, embeddings.shape[1]), np.float32)
        known, values = np.flatnonzero(self.photos), self._values
        self.photos[rows] = fingerprints
        self.is_exact[rows] = exactly
        positions = self._positions()
        self._values = np.empty((np.count_nonzero(self.photos), embeddings.shape[1]), np.float32)
        self._values[positions[known]] = values
        self._values[positions[rows]] = embeddings

    def artefacts(self) -> Iterator[Artefact]:
        """Give the two files that hold the table, once there is something in it."""
        if self.network:
            lineage = {"network": self.network, "photos": digest(self.photos, self.is_exact)}
            yield Artefact(EMBEDDINGS_FILE, lineage, lambda path: np.save(path, self._values))
            arrays: dict[str, Any] = {"fingerprints": self.photos, "is_exact": self.is_exact}
            yield Artefact(PHOTOS_FILE, lineage, lambda path: np.savez(path, **arrays))

    @classmethod
    def load(cls, store: RunStore, n_rows: int, network: str) -> "EmbeddingTable":
        """Load what a run saved, if it is of this network; else, or if it cannot be loaded, give an empty table.

        Rows that are new since then are not embedded.
        """
        table = cls(n_rows)
        lineages: list[dict[str, Any] | None] = [store.lineage_of(file) for file in (EMBEDDINGS_FILE, PHOTOS_FILE)]
        if lineages[0] is None or lineages[0] != lineages[1] or lineages[0]["network"] != network:
            return table
        embeddings_file, photos_file = (store.folder / file for file in (EMBEDDINGS_FILE, PHOTOS_FILE))
        try:
            saved = read_arrays(photos_file)
            fingerprints, is_exact = saved["fingerprints"], saved["is_exact"]
            with explained(embeddings_file), embeddings_file.open("rb") as opened:
                values = np.lib.format.read_array(opened)  # np.load might find an archive
            rows = np.flatnonzero(fingerprints)
            table.put(rows, values, fingerprints[rows], network, is_exact[rows])
        except (ValueError, KeyError, EOFError):
            for file in (EMBEDDINGS_FILE, PHOTOS_FILE):
                store.tell_made_again(file)
            return cls(n_rows)
        return table
