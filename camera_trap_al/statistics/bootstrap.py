"""How far figures would be off by chance: intervals from resampling what they were measured on [Efron, 1979]."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from camera_trap_al.pools import IndexArray

__all__ = ["ClassCounts", "Interval", "bootstrap_intervals"]

RESAMPLES = 1000
LEVEL = 0.95

Interval = tuple[float, float]
"""Lower and upper end."""


class ClassCounts(NamedTuple):
    """(n_classes,) photos of each class: true ones, predicted ones, and those that are both."""

    true: NDArray[Any]
    predicted: NDArray[Any]
    right: NDArray[Any]

    def accuracy(self) -> float:
        """Share of photos that are named rightly."""
        return float(self.right.sum() / self.true.sum())

    def balanced_accuracy(self) -> float:
        """Mean share that is named rightly of the classes that occur [Brodersen et al., 2010]."""
        occurs = self.true > 0
        return float((self.right[occurs] / self.true[occurs]).mean())

    def macro_f1(self) -> float:
        """Mean F1 of the classes that occur, as the truth or as a prediction."""
        occurs = self.true + self.predicted > 0
        return float((2 * self.right[occurs] / (self.true + self.predicted)[occurs]).mean())


def bootstrap_intervals(
    true_ids: IndexArray, predicted_ids: IndexArray, groups: IndexArray, rng: np.random.Generator
) -> dict[str, Interval]:
    """Give the range of 95 % of the figures of photos drawn anew, whole groups at a time and with replacement.

    Photos of a burst are alike, and so are right or wrong together: drawn one by one they would promise too much.

    Parameters
    ----------
    true_ids, predicted_ids
        (n,) class ids.
    groups
        (n,) numbers, equal for photos that are alike.
    rng
        Source of the draws.

    Returns
    -------
    Of accuracy, balanced_accuracy and macro_f1, 0..1 each; empty if there are fewer than two groups. A figure over
    classes varies more than the range says where a class is in a few groups only, since a draw often lacks that class.
    """
    names, of_photo = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        return {}
    n_classes = int(max(true_ids.max(), predicted_ids.max())) + 1
    is_right = (true_ids == predicted_ids).astype(np.float64)
    figures = []
    for _ in range(RESAMPLES):
        times = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))[of_photo]
        counts = ClassCounts(
            true=np.bincount(true_ids, times, n_classes),
            predicted=np.bincount(predicted_ids, times, n_classes),
            right=np.bincount(true_ids, times * is_right, n_classes),
        )
        figures.append((counts.accuracy(), counts.balanced_accuracy(), counts.macro_f1()))
    ends = np.quantile(figures, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return {
        name: (float(low), float(high))
        for name, low, high in zip(("accuracy", "balanced_accuracy", "macro_f1"), *ends, strict=True)
    }
