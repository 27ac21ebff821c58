"""A small pool for the strategies to choose from."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from camera_trap_al.active_learning_methods import PoolView
from camera_trap_al.pools import UNLABELLED, FloatArray


class SoftmaxOfFeatures:
    """The features are the logits: a real classifier whose answers are known without training."""

    def __init__(self, n_classes: int, labelled_classes: list[int] | None = None) -> None:
        self.n_classes = n_classes
        self.labelled_classes = list(range(n_classes)) if labelled_classes is None else labelled_classes
        self.n_calls = 0

    def probabilities(self, embeddings: FloatArray) -> FloatArray:
        self.n_calls += 1
        powers = np.exp(embeddings[:, : len(self.labelled_classes)])
        found = np.zeros((len(embeddings), self.n_classes), dtype=np.float32)
        found[:, self.labelled_classes] = powers / powers.sum(axis=1, keepdims=True)
        return found


@pytest.fixture
def make_view() -> Callable[..., PoolView]:
    def make(
        *,
        n_unlabelled: int = 40,
        n_labelled: int = 6,
        n_classes: int = 4,
        labelled_classes: list[int] | None = None,
        unlabelled_embeddings: FloatArray | None = None,
        **changes: Any,
    ) -> PoolView:
        """Rows in no order, every third one neither labelled nor unlabelled and NaN."""
        rng = np.random.default_rng(7)
        present = list(range(n_classes)) if labelled_classes is None else labelled_classes
        n_rows = 3 * (n_unlabelled + n_labelled) // 2 + 1
        rows = rng.permutation(n_rows)[: n_unlabelled + n_labelled].astype(np.int64)
        labelled, unlabelled = rows[:n_labelled], rows[n_labelled:]
        matrix = np.full((n_rows, 5), np.nan, dtype=np.float32)
        matrix[rows] = rng.normal(size=(len(rows), 5))
        if unlabelled_embeddings is not None:
            matrix[unlabelled] = unlabelled_embeddings
        targets = np.full(n_rows, UNLABELLED, dtype=np.int64)
        targets[labelled] = np.resize(present, n_labelled)
        fields = {
            "embeddings": matrix,
            "targets": targets,
            "labelled": labelled,
            "unlabelled": unlabelled,
            "classes": tuple(f"class {i}" for i in range(n_classes)),
            "classifier": SoftmaxOfFeatures(n_classes, present),
        }
        return PoolView(**(fields | changes))

    return make
