"""A label counts for the other photos of its burst, as far as they show the same."""

import numpy as np
from numpy.typing import NDArray

from camera_trap_al.pools import REFUSED, FloatArray, IndexArray

__all__ = ["mates_of", "propagate_labels", "sequence_lengths"]

NEAREST_SHARE = 0.05  # of other photos, that may be nearer to a photo than the labelled one of its sequence
ENOUGH_OTHERS = 1_000  # to tell that share
CONFIDENT = 0.5  # probability of another class from which on a label does not count for a photo


def sequence_lengths(sequences: IndexArray) -> IndexArray:
    """Return (n_rows,) how many photos each photo's sequence has; 1 where the sequence is negative, for none."""
    lengths = np.ones(len(sequences), np.int64)
    is_known = sequences >= 0
    _, of_row, counts = np.unique(sequences[is_known], return_inverse=True, return_counts=True)
    lengths[is_known] = counts[of_row]
    return lengths


def mates_of(labelled: IndexArray, others: IndexArray, sequences: IndexArray) -> IndexArray:
    """Return those of `others` that are in one sequence with a labelled row, ascending."""
    with_label = np.unique(sequences[labelled])
    return np.sort(others[np.isin(sequences[others], with_label[with_label >= 0])])


def propagate_labels(
    mates: IndexArray,
    labelled: IndexArray,
    others: IndexArray,
    *,
    embeddings: FloatArray,
    targets: IndexArray,
    sequences: IndexArray,
    probabilities: FloatArray,
) -> IndexArray:
    """Say for photos without a label whether the nearest labelled photo of their sequence tells what they show.

    It does if the photo is nearer to it than to 95 % of the photos of other sequences, and if the classifier does not
    find another class likely, with a probability of more than a half. Animals come and leave within a burst: the
    background stays, and so the embeddings of an animal and of the empty place after it may not be far apart.

    Parameters
    ----------
    mates
        (n,) rows without a label in sequences with one.
    labelled
        (m,) labelled rows.
    others
        (k,) rows to compare with; at least some of other sequences.
    embeddings
        (n_rows, n_features), scaled.
    targets, sequences
        (n_rows,) class ids and numbers of sequences.
    probabilities
        (n, n_classes) of the mates, columns by class id.

    Returns
    -------
    (n,) class ids, `REFUSED` where the label does not count.
    """
    found = np.full(len(mates), REFUSED)
    compared = others[:: max(1, len(others) // ENOUGH_OTHERS)]
    of_compared = embeddings[compared]
    for sequence in np.unique(sequences[mates]).tolist():
        positions = np.flatnonzero(sequences[mates] == sequence)
        answered = labelled[sequences[labelled] == sequence]
        is_foreign = sequences[compared] != sequence
        if not is_foreign.any():
            continue
        to_answered = _distances(embeddings[mates[positions]], embeddings[answered])
        to_compared = _distances(embeddings[mates[positions]], of_compared)
        bound = np.quantile(to_compared[:, is_foreign], NEAREST_SHARE, axis=1)
        nearest = to_answered.argmin(axis=1)
        class_ids = targets[answered[nearest]]
        own = probabilities[positions]
        is_other = (own.argmax(axis=1) != class_ids) & (own.max(axis=1) > CONFIDENT)
        counts = (to_answered.min(axis=1) <= bound) & ~is_other
        found[positions[counts]] = class_ids[counts]
    return found


def _distances(some: FloatArray, others: FloatArray) -> NDArray[np.float32]:
    """Return (n, m) Euclidean distances."""
    squared = (some**2).sum(axis=1)[:, None] - 2 * some @ others.T + (others**2).sum(axis=1)
    distances: NDArray[np.float32] = np.sqrt(np.maximum(squared, 0))
    return distances
