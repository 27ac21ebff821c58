"""Strategies that spread the batch: at random, or over what the images would teach the classifier."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from camera_trap_al.active_learning_methods.base import TIE_TOLERANCE, PoolView, QueryStrategy, fill_at_random
from camera_trap_al.pools import FloatArray, IndexArray

__all__ = ["BadgeSampling", "UniformSampling", "choose_by_gradients"]

# Squared distances below this share of the squared lengths are rounding errors of float32: the gradients are the same.
NOISE = 1e-5


class UniformSampling(QueryStrategy):
    """Ask about images drawn at random, each as likely as any other: the yardstick for every other strategy."""

    when: ClassVar[str] = "to compare with, or when the labels must be a fair sample of the photos"
    cost: ClassVar[str] = "none"

    def choose(self, view: PoolView, n: int, rng: np.random.Generator) -> IndexArray:
        """Return `n` rows drawn without replacement."""
        return rng.choice(view.unlabelled, n, replace=False)


class BadgeSampling(QueryStrategy):
    """Ask about images that would change the classifier much, and each in another way (BADGE) [Ash et al., 2020]."""

    source: ClassVar[str] = "Ash et al. 2020"
    when: ClassVar[str] = "large batches: as unsure as margin, with fewer lookalikes"
    cost: ClassVar[str] = "n x picks distances"

    def choose(self, view: PoolView, n: int, rng: np.random.Generator) -> IndexArray:
        """Return up to `n` rows of `choose_by_gradients`, the rest at random."""
        chosen = choose_by_gradients(view.probabilities(), view.embeddings[view.unlabelled], n, rng)
        return fill_at_random(view, chosen, n, rng)


def choose_by_gradients(
    probabilities: FloatArray, embeddings: FloatArray, n: int, rng: np.random.Generator
) -> IndexArray:
    """Draw images by k-means++ on their gradient embeddings, "BADGE" [Ash et al., 2020, algorithm 1].

    The gradient embedding of an image with embedding x and probabilities p is the gradient of the cross-entropy loss
    by the weights of the last layer, the likeliest class taken for the truth: g = a x^T with a = p - onehot(argmax p).
    It is long where the classifier is unsure. k-means++ [Arthur & Vassilvitskii, 2007] draws one image after the other
    with a probability in proportion to the squared distance of its g from the nearest g that is already chosen.
    The first is the one with the longest g, as in the authors' code.

    The matrix of all g, n_classes times as large as that of the embeddings, is never made:
    ``<g_i, g_j> = <a_i, a_j> <x_i, x_j>``. A g of length zero (the classifier is certain, or x is zero) is a g like
    any other: it is drawn at most once, when all that is chosen is far from it.

    Parameters
    ----------
    probabilities
        (n_images, n_classes).
    embeddings
        (n_images, n_features).
    n
        How many to choose.
    rng
        Source of the draws; breaks ties of the longest g (to 1e-6).

    Returns
    -------
    IndexArray
        (up to n,), positions in the order of the draw; fewer when no further g differs from all that are chosen.
    """
    errors = probabilities.copy()
    errors[np.arange(len(errors)), probabilities.argmax(axis=1)] -= 1
    squared_lengths = np.einsum("ij,ij->i", errors, errors) * np.einsum("ij,ij->i", embeddings, embeddings)
    lengths = np.sqrt(squared_lengths)
    if lengths.max() <= TIE_TOLERANCE:
        return np.empty(0, dtype=np.int64)
    chosen = [int(rng.choice(np.flatnonzero(lengths >= lengths.max() - TIE_TOLERANCE)))]
    nearest = np.full(len(lengths), np.inf)
    while len(chosen) < n:
        latest = chosen[-1]
        products = (errors @ errors[latest]) * (embeddings @ embeddings[latest])
        nearest = np.minimum(nearest, _squared_distances(squared_lengths, squared_lengths[latest], products))
        nearest[latest] = 0
        total = nearest.sum()
        if total == 0:
            break
        chosen.append(int(rng.choice(len(nearest), p=nearest / total)))
    return np.array(chosen, dtype=np.int64)


def _squared_distances(squared_lengths: FloatArray, other: np.float32, products: FloatArray) -> NDArray[np.float64]:
    sums = squared_lengths.astype(np.float64) + other
    distances = sums - 2.0 * products
    distances[distances <= NOISE * sums] = 0
    found: NDArray[np.float64] = distances
    return found
