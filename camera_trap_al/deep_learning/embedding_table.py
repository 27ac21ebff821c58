"""The embedding of each row, and which photo and network it is of."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camera_trap_al.pools import FloatArray, IndexArray
from camera_trap_al.run_store import Artefact, RunStore

__all__ = ["EmbeddingTable", "digest"]

EMBEDDINGS_FILE = "embedding/embedding.npy"
PHOTOS_FILE = "embedding/photos.npy"


class EmbeddingTable:
    """Embeddings by row, all of one network.

    Attributes
    ----------
    embeddings
        (n_rows, n_features) float32; NaN in rows that are not embedded.
    photos
        (n_rows,) uint64, the fingerprint of the photo that each embedding was made from; 0 where there is none.
    network
        Digest of the network that made them; "" if there are none.
    """

    def __init__(self, n_rows: int) -> None:
        self.embeddings: FloatArray = np.empty((n_rows, 0), np.float32)
        self.photos: NDArray[np.uint64] = np.zeros(n_rows, np.uint64)
        self.network = ""

    def rows_to_embed(self, usable: IndexArray, fingerprints: NDArray[np.uint64], network: str) -> IndexArray:
        """Say which of the `usable` rows have no embedding of their present photo by this network.

        Parameters
        ----------
        usable
            (n,) rows.
        fingerprints
            (n,) of their photos as they are now.
        network
            Digest of the present network.
        """
        if self.network != network:
            return usable
        return np.extract(self.photos[usable] != fingerprints, usable)

    def put(self, rows: IndexArray, embeddings: FloatArray, fingerprints: NDArray[np.uint64], network: str) -> None:
        """Enter the (n, n_features) embeddings of `rows`; those of another network are forgotten."""
        if self.network != network:
            self.embeddings = np.full((len(self.photos), embeddings.shape[1]), np.nan, np.float32)
            self.photos[:] = 0
            self.network = network
        self.embeddings[rows] = embeddings
        self.photos[rows] = fingerprints

    def artefacts(self) -> Iterator[Artefact]:
        """Give the two files that hold the table, once there is something in it."""
        if self.network:
            lineage = {"network": self.network, "photos": digest(self.photos)}
            yield Artefact(EMBEDDINGS_FILE, lineage, lambda path: np.save(path, self.embeddings))
            yield Artefact(PHOTOS_FILE, lineage, lambda path: np.save(path, self.photos))

    @classmethod
    def load(cls, store: RunStore, n_rows: int, network: str) -> "EmbeddingTable":
        """Load what a run saved, if it is of this network; else give an empty table.

        Rows that are new since then are not embedded.
        """
        table = cls(n_rows)
        lineages: list[dict[str, Any] | None] = [store.lineage_of(file) for file in (EMBEDDINGS_FILE, PHOTOS_FILE)]
        if lineages[0] is None or lineages[0] != lineages[1] or lineages[0]["network"] != network:
            return table
        embeddings, photos = (np.load(store.folder / Path(file)) for file in (EMBEDDINGS_FILE, PHOTOS_FILE))
        table.put(np.arange(len(photos)), embeddings, photos, network)
        return table


def digest(*arrays: NDArray[Any]) -> str:
    """Name the content of arrays."""
    checksum = hashlib.sha256()
    for array in arrays:
        checksum.update(np.ascontiguousarray(array).tobytes())
    return checksum.hexdigest()
