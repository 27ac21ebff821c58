"""Which photos of a run learn with the label of another photo of their burst."""

import logging

import numpy as np
from numpy.typing import NDArray

from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning.data_loader import ExtendedImageFolder, times_before
from camera_trap_al.deep_learning.embedding_table import EmbeddingTable
from camera_trap_al.deep_learning.fitted_classifier import FittedClassifier
from camera_trap_al.pools import UNLABELLED, FloatArray, IndexArray, empty_where_unused
from camera_trap_al.run_store import RunStore
from camera_trap_al.run_store.place_table import store_propagated
from camera_trap_al.statistics.propagation import mates_of, propagate_labels, sequence_lengths

__all__ = ["RunPropagation"]

logger = logging.getLogger(__name__)

MOST_MATES = 50  # of a sequence that are looked at only because it has a label


class RunPropagation:
    """Labels that count for more than their own photo, kept in `Pools.propagated`.

    It is decided about a photo when another one of its sequence gets a label, with the classifier of before, and again
    when yet another one does or the network has been trained.

    Parameters
    ----------
    dataset
        The photos and their labels.
    config
        Whether labels are propagated at all.
    """

    def __init__(self, dataset: ExtendedImageFolder, config: RunConfig) -> None:
        self._dataset = dataset
        self._sequences = dataset.catalogue.sequences if config.propagate is not None else None
        self._is_saved = True
        if self._sequences is not None:
            self._lengths = sequence_lengths(self._sequences)
            self._n_labels = self._count_labels(self._sequences)

    @property
    def rows(self) -> IndexArray:
        """Rows that learn with the label of another one, ascending."""
        return np.zeros(0, np.int64) if self._sequences is None else self._dataset.pools.propagating

    def training_set(self) -> tuple[IndexArray, IndexArray, FloatArray | None]:
        """Give what the classifier learns from: (n,) rows, their class ids, and weights, None if all count the same."""
        pools, added = self._dataset.pools, self.rows
        labelled = pools.labelled
        if not len(added):
            return labelled, pools.targets[labelled], None
        weights = np.concatenate([np.ones(len(labelled)), 1 / self._lengths[added]]).astype(np.float32)
        return (
            np.concatenate([labelled, added]),
            np.concatenate([pools.targets[labelled], pools.propagated[added]]),
            weights,
        )

    @property
    def rows_in_use(self) -> IndexArray:
        """Those, and rows that it must be decided about, candidates or not, at most 50 of a sequence; ascending."""
        if self._sequences is None:
            return self.rows
        mates = mates_of(self._dataset.pools.labelled, self._dataset.pools.to_choose_from, self._sequences)
        some = mates[times_before(self._sequences[mates]) < MOST_MATES]
        return np.union1d(self.rows, np.intersect1d(some, self._due(self._sequences)))

    def _due(self, sequences: IndexArray) -> IndexArray:
        """Rows that it must be decided about, ascending, embedded or not."""
        pools, n_labels = self._dataset.pools, self._count_labels(sequences)
        mates = mates_of(pools.labelled, pools.to_choose_from, sequences)
        is_due: NDArray[np.bool_] = (pools.propagated[mates] == UNLABELLED) | (n_labels != self._n_labels)[mates]
        return mates[is_due]

    def update(self, table: EmbeddingTable, fitted: FittedClassifier) -> None:
        """Decide about photos of sequences that have labels which they had not before.

        Parameters
        ----------
        table
            The embeddings; photos without one are decided about later.
        fitted
            The classifier of before, by the same network.
        """
        if self._sequences is None:
            return
        self._take_back_what_nobody_says(self._sequences)
        due = self._due(self._sequences)
        due = due[table.photos[due] != 0]
        self._n_labels = self._count_labels(self._sequences)
        if len(due):
            self._dataset.pools.propagated[due] = self._decide(due, self._sequences, table, fitted)
            self._is_saved = False
            logger.info("Labels count for %d more photos of the same sequences", len(self.rows))

    def decide_again(self) -> None:
        """Take everything back: the network has changed, and what was alike need not be so any more."""
        self._dataset.pools.propagated[:] = UNLABELLED
        self._is_saved = False

    def _take_back_what_nobody_says(self, sequences: IndexArray) -> None:
        """Take back labels whose photo was corrected, is not there any more, or is in no sequence with it any more."""
        pools, n_classes = self._dataset.pools, len(self._dataset.classes)
        in_sequence = pools.labelled[sequences[pools.labelled] >= 0]
        said = sequences[in_sequence] * n_classes + pools.targets[in_sequence]
        rows = np.flatnonzero(pools.propagated >= 0)
        wrong = rows[~np.isin(sequences[rows] * n_classes + pools.propagated[rows], said)]
        if len(wrong):
            pools.propagated[wrong] = UNLABELLED
            self._is_saved = False

    def _count_labels(self, sequences: IndexArray) -> IndexArray:
        """(n_rows,) how many labels each photo's sequence has."""
        counts = np.bincount(sequences[self._dataset.pools.labelled] + 1, minlength=sequences.max(initial=-1) + 2)
        return counts[sequences + 1]

    def _decide(
        self, mates: IndexArray, sequences: IndexArray, table: EmbeddingTable, fitted: FittedClassifier
    ) -> IndexArray:
        fitted.check_network(table.network)
        pools = self._dataset.pools
        embedded = np.flatnonzero((table.photos != 0) & ~pools.measures)
        scaled = fitted.scaler.transform(table.of(embedded))
        embeddings = empty_where_unused((len(self._dataset), scaled.shape[1]))
        embeddings[embedded] = scaled
        return propagate_labels(
            mates,
            np.intersect1d(pools.labelled, embedded),
            embedded,
            embeddings=embeddings,
            targets=self._dataset.targets,
            sequences=sequences,
            probabilities=fitted.classifier.probabilities(embeddings[mates]),
        )

    def save(self, store: RunStore) -> None:
        """Store what was decided since the last time."""
        if not self._is_saved:
            with store.transaction() as db:
                store_propagated(db, self._dataset.pools.propagated)
            self._is_saved = True
