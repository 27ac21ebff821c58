"""Which photos are worth a second look: those that the model is unsure of, and labels that it does not believe."""

import numpy as np

from camera_trap_al.pools import FloatArray, IndexArray
from camera_trap_al.predictions import Predictions
from camera_trap_al.statistics.out_of_fold import OutOfFold

__all__ = ["doubts", "own_confidence", "suspects"]


def doubts(predictions: Predictions, at_most: int) -> IndexArray:
    """Give the positions of the predictions whose two likeliest classes are most nearly tied, most doubtful first."""
    return np.argsort(predictions.margin, kind="stable")[:at_most]


def own_confidence(judged: OutOfFold, targets: IndexArray) -> FloatArray:
    """Give the probability of each photo's own label by a classifier that did not learn from it; NaN if not judged.

    Parameters
    ----------
    judged
        What such classifiers made of the photos.
    targets
        (n,) their class ids.
    """
    own: FloatArray = judged.probabilities[np.arange(len(targets)), targets].astype(np.float32)
    own[~judged.is_judged] = np.nan
    return own


def suspects(judged: OutOfFold, targets: IndexArray, at_most: int) -> IndexArray:
    """Give the positions of the photos that are most likely mislabelled, the likeliest first.

    These are photos that a classifier which did not learn from them names otherwise, ranked by the probability that it
    gives their label: their self-confidence [Northcutt et al., 2021; for sorting labels to be looked at again also
    Bernhardt et al., 2022]. They must be surer of the other class than photos with that label are on average, which is
    the threshold of confident learning: it does not list all photos of a class that the model does not know well.

    Parameters
    ----------
    judged
        What such classifiers made of the photos.
    targets
        (n,) their class ids.
    at_most
        How many there are.
    """
    own = own_confidence(judged, targets)
    rows = np.flatnonzero(judged.is_judged)
    if not len(rows):
        return rows
    n_classes = judged.probabilities.shape[1]
    n_of_class = np.bincount(targets[rows], minlength=n_classes)
    expected = np.bincount(targets[rows], own[rows], minlength=n_classes) / np.maximum(n_of_class, 1)
    other = judged.probabilities[rows].argmax(axis=1)
    is_sure = judged.probabilities[rows, other] >= expected[other]
    found = rows[(other != targets[rows]) & is_sure]
    order = np.argsort(own[found], kind="stable")[:at_most]
    least_likely: IndexArray = found[order]
    return least_likely
