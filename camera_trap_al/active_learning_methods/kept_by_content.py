"""What takes long to make of embeddings, and serves for as long as these stay the same."""

import hashlib
from collections.abc import Callable
from typing import Generic, TypeVar

from camera_trap_al.pools import FloatArray, IndexArray

__all__ = ["KeptByContent", "digest_of_rows"]

T = TypeVar("T")

ROWS_PER_STEP = 16_384


class KeptByContent(Generic[T]):
    """Keeps what was made from the embeddings seen last, such as a graph or a tree, until they change."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()
        self._value: T | None = None

    def get(self, embeddings: FloatArray, rows: IndexArray, make: Callable[[int], T], *settings: object) -> T:
        """Return what was kept for these embeddings and `settings`, or make it.

        Parameters
        ----------
        embeddings
            (n_rows, n_features), of which only `rows` count.
        rows
            (n_pool,).
        make
            Makes it from a seed, which comes from the embeddings: what is kept must not depend on the round in which
            it was made.
        *settings
            What else it depends on.
        """
        digest = digest_of_rows(embeddings, rows)
        if self._value is None or self._key != (digest, *settings):
            self._value = make(int(digest[:8], 16))
            self._key = (digest, *settings)
        return self._value


def digest_of_rows(embeddings: FloatArray, rows: IndexArray) -> str:
    """Return a digest of the embeddings of `rows` in their order: equal exactly when all values are."""
    digest = hashlib.blake2b(f"{embeddings.dtype} {embeddings.shape[1]}".encode(), digest_size=16)
    for start in range(0, len(rows), ROWS_PER_STEP):
        digest.update(embeddings[rows[start : start + ROWS_PER_STEP]].tobytes())
    return digest.hexdigest()
