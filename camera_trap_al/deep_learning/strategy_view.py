"""What a query strategy is given to choose from."""

import numpy as np

from camera_trap_al.active_learning_methods.base import PoolView
from camera_trap_al.deep_learning.data_loader import ExtendedImageFolder
from camera_trap_al.deep_learning.embedding_table import EmbeddingTable
from camera_trap_al.deep_learning.fitted_classifier import FittedClassifier
from camera_trap_al.pools import UNLABELLED, IndexArray, empty_where_unused

__all__ = ["strategy_view"]


def strategy_view(
    fitted: FittedClassifier, dataset: ExtendedImageFolder, table: EmbeddingTable, candidates: IndexArray
) -> PoolView:
    """Show a strategy the scaled embeddings and labels of labelled and candidate rows, and nothing of any other.

    Parameters
    ----------
    fitted
        Scaler and classifier.
    dataset, table
        The photos with their labels, and their embeddings.
    candidates
        (n,) rows that may be chosen, ascending.
    """
    labelled = dataset.pools.labelled
    seen = np.concatenate([labelled, candidates])
    scaled = fitted.scaler.transform(table.of(seen))
    embeddings = empty_where_unused((len(dataset), scaled.shape[1]))
    embeddings[seen] = scaled
    targets = np.full(len(dataset), UNLABELLED)
    targets[labelled] = dataset.targets[labelled]
    return PoolView(
        embeddings=embeddings,
        targets=targets,
        labelled=labelled,
        unlabelled=candidates,
        classes=dataset.classes,
        classifier=fitted.classifier,
    )
