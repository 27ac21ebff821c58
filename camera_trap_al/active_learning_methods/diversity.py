"""Strategies that look at how the images are spread, whatever the classifier thinks of them."""

import numpy as np

from camera_trap_al.active_learning_methods.base import PoolView, QueryStrategy
from camera_trap_al.pools import IndexArray

__all__ = ["UniformSampling"]


class UniformSampling(QueryStrategy):
    """Ask about images drawn at random, each as likely as any other: the yardstick for every other strategy."""

    def choose(self, view: PoolView, n: int, rng: np.random.Generator) -> IndexArray:
        """Return `n` rows drawn without replacement."""
        return rng.choice(view.unlabelled, n, replace=False)
