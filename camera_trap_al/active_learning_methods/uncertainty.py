"""Strategies that ask about the images of which the classifier is least sure."""

from functools import reduce
from typing import ClassVar

import numpy as np

from camera_trap_al.active_learning_methods.base import (
    PoolView,
    QueryStrategy,
    ScoreSampling,
    order_by_falling_score,
)
from camera_trap_al.pools import FloatArray, IndexArray

__all__ = [
    "ConfidenceSampling",
    "EntropySampling",
    "MarginSampling",
    "TailFirstSampling",
    "choose_tail_first",
    "margins",
]


class MarginSampling(ScoreSampling):
    """Ask about images whose two likeliest classes are nearly tied [Scheffer et al., 2001]."""

    source: ClassVar[str] = "Scheffer et al. 2001"
    when: ClassVar[str] = "the default: hard to beat once each class has a few labels"
    cost: ClassVar[str] = "the probabilities alone"

    def score(self, view: PoolView) -> FloatArray:
        """Return minus the margins, -1..0."""
        return -margins(view.probabilities())


class EntropySampling(ScoreSampling):
    """Ask about images whose probabilities are spread over many classes [Settles, 2009]."""

    source: ClassVar[str] = "Settles 2009"
    when: ClassVar[str] = "when many classes are confused with each other"
    cost: ClassVar[str] = "the probabilities alone"

    def score(self, view: PoolView) -> FloatArray:
        """Return the entropy of the class probabilities in nats, 0..ln(n_classes)."""
        probabilities = view.probabilities()
        # p log p is 0 at p = 0, and 0 times the logarithm of the smallest normal number is as well.
        logarithms = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
        entropy: FloatArray = -np.einsum("ij,ij->i", probabilities, logarithms)
        return entropy


class ConfidenceSampling(ScoreSampling):
    """Ask about images whose likeliest class is least likely, "least confident" [Settles, 2009]."""

    source: ClassVar[str] = "Settles 2009"
    when: ClassVar[str] = "as margin, with more weight on images that fit no class"
    cost: ClassVar[str] = "the probabilities alone"

    def score(self, view: PoolView) -> FloatArray:
        """Return minus the highest probability, -1..0."""
        # Class by class, since NumPy's maximum along short rows is three times slower.
        highest: FloatArray = reduce(np.maximum, view.probabilities().T)
        return -highest


class TailFirstSampling(QueryStrategy):
    """Ask about images predicted to be of the classes with fewest labels [Wang et al., 2025]."""

    source: ClassVar[str] = "Wang et al. 2025"
    when: ClassVar[str] = "when rare species matter and already have a label or two"
    cost: ClassVar[str] = "the probabilities alone"

    def choose(self, view: PoolView, n: int, rng: np.random.Generator) -> IndexArray:
        """Return the `n` rows of `choose_tail_first`, with the entropy as uncertainty."""
        labels_per_class = np.bincount(view.targets[view.labelled], minlength=len(view.classes))
        predicted = view.probabilities().argmax(axis=1)
        chosen = choose_tail_first(predicted, EntropySampling().score(view), labels_per_class, n, rng)
        rows: IndexArray = view.unlabelled[chosen]
        return rows


def margins(probabilities: FloatArray) -> FloatArray:
    """Return how much likelier the likeliest class of each image is than the next, 0..1.

    Parameters
    ----------
    probabilities
        (n_images, n_classes); of a single class, the probability itself is the margin.
    """
    if probabilities.shape[1] == 1:
        return probabilities[:, 0]
    top2 = np.partition(probabilities, -2, axis=1)[:, -2:]
    found: FloatArray = top2[:, 1] - top2[:, 0]
    return found


def choose_tail_first(
    predicted: IndexArray, uncertainty: FloatArray, labels_per_class: IndexArray, n: int, rng: np.random.Generator
) -> IndexArray:
    """Choose images predicted to be of the rarest classes: "tail first sampling" of ALOR [Wang et al., 2025].

    One image after the other: of the images predicted to be of the class with fewest labels, the most uncertain one.
    The paper asks for the label of each image before it chooses the next. In a batch there is no label yet, so (our
    addition) each chosen image counts as a label of its predicted class: otherwise one class that is often predicted
    by mistake would take the whole batch. Of classes with equally many labels, the most uncertain image decides.
    A class without a label is never predicted, and cannot be sought in this way.

    Parameters
    ----------
    predicted
        (n_images,), class id of the likeliest class of each image.
    uncertainty
        (n_images,), the higher, the sooner an image is chosen among those of its class.
    labels_per_class
        (n_classes,), labels so far by class id.
    n
        How many to choose, at most n_images.
    rng
        Breaks ties of the uncertainty (to 1e-6).

    Returns
    -------
    IndexArray
        (n,), positions in `predicted`, in the order of the choice.
    """
    order = order_by_falling_score(uncertainty, rng)
    # The k-th image of its class, counted from 0, is chosen when its class has k labels more than now: no loop needed.
    by_class = order[np.argsort(predicted[order], kind="stable")]
    first_of_class = np.searchsorted(predicted[by_class], predicted[by_class])
    turn = np.empty(len(order), dtype=np.int64)
    turn[by_class] = labels_per_class[predicted[by_class]] + np.arange(len(order)) - first_of_class
    return order[np.argsort(turn[order], kind="stable")[:n]]
