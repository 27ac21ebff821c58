"""Strategies that ask about the images of which the classifier is least sure."""

import numpy as np

from camera_trap_al.active_learning_methods.base import PoolView, ScoreSampling
from camera_trap_al.pools import FloatArray

__all__ = ["ConfidenceSampling", "EntropySampling", "MarginSampling"]


class MarginSampling(ScoreSampling):
    """Ask about images whose two likeliest classes are nearly tied [Scheffer et al., 2001]."""

    def score(self, view: PoolView) -> FloatArray:
        """Return minus the margin: the second highest probability less the highest, -1..0."""
        if len(view.classes) == 1:
            return -view.probabilities()[:, 0]  # the second likeliest class does not exist
        top2 = np.partition(view.probabilities(), -2, axis=1)[:, -2:]
        return top2[:, 0] - top2[:, 1]


class EntropySampling(ScoreSampling):
    """Ask about images whose probabilities are spread over many classes [Settles, 2009]."""

    def score(self, view: PoolView) -> FloatArray:
        """Return the entropy of the class probabilities in nats, 0..ln(n_classes)."""
        probabilities = view.probabilities()
        # p log p is 0 at p = 0, and 0 times the logarithm of the smallest normal number is as well.
        logarithms = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
        entropy: FloatArray = -np.einsum("ij,ij->i", probabilities, logarithms)
        return entropy


class ConfidenceSampling(ScoreSampling):
    """Ask about images whose likeliest class is least likely, "least confident" [Settles, 2009]."""

    def score(self, view: PoolView) -> FloatArray:
        """Return minus the highest probability, -1..0."""
        highest: FloatArray = view.probabilities().max(axis=1)
        return -highest
