"""What a run needs of an embedding network."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from camera_trap_al.config import TrainingStage
from camera_trap_al.deep_learning.data_loader import ExtendedImageFolder
from camera_trap_al.deep_learning.precision import Precision
from camera_trap_al.pools import FloatArray, IndexArray

__all__ = ["Embedder"]


class Embedder(ABC):
    """Turns photos into embeddings, and learns from labelled ones. `EmbeddingTrainer` is one; a model of yours can be.

    Attributes
    ----------
    pixel_mean, pixel_std
        (3,) per channel, of pixels between 0 and 1, of all photos of the run; set before anything is asked.
    """

    pixel_mean: FloatArray
    pixel_std: FloatArray

    @property
    def is_always_exact(self) -> bool:
        """Whether `scoring_precision` is ``"fp32"`` for certain."""
        return True

    @abstractmethod
    def fit(
        self, dataset: ExtendedImageFolder, rows: IndexArray, stage: TrainingStage, rng: np.random.Generator
    ) -> None:
        """Train on labelled rows."""

    @abstractmethod
    def embed_batches(
        self, dataset: ExtendedImageFolder, rows: IndexArray, precision: Precision = "fp32"
    ) -> Iterator[FloatArray]:
        """Give the (n, n_features) embeddings of `rows` in their order, some at a time; NaN if one cannot be read."""

    @abstractmethod
    def digest(self) -> str:
        """Name the present weights."""

    def embed(self, dataset: ExtendedImageFolder, rows: IndexArray, precision: Precision = "fp32") -> FloatArray:
        """Return the (n, n_features) embeddings of `rows`, NaN where a photo cannot be read."""
        batches = []
        with tqdm(total=len(rows), desc="Embedding photos", unit="photo", delay=1) as bar:
            for embeddings in self.embed_batches(dataset, rows, precision):
                batches.append(embeddings)
                bar.update(len(embeddings))
        return np.concatenate(batches) if batches else np.empty((0, 0), np.float32)

    def scoring_precision(self, dataset: ExtendedImageFolder, rows: IndexArray) -> Precision:
        """Say in which precision candidates may be embedded; some of `rows` may be embedded to find out."""
        return "fp32"

    def set_n_classes(self, n_classes: int) -> None:  # noqa: B027  nothing to do for networks without an output per class
        """Make room for new classes; called with as many as there are, or more."""

    def snapshot(self) -> Any:
        """Copy what `fit` changes, to be given to `restore`; None if that cannot be done."""
        return None

    def restore(self, snapshot: Any) -> None:  # noqa: B027  nothing to do for networks without snapshots
        """Go back to what a snapshot holds; never called with None."""
