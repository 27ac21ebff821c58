"""Strategies that ask about unsure images of many clusters, so that a batch is not the same photo many times."""

import logging
import warnings
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning

from camera_trap_al.active_learning_methods.base import (
    PoolView,
    QueryStrategy,
    fill_at_random,
    order_by_falling_score,
)
from camera_trap_al.active_learning_methods.kept_by_content import KeptByContent
from camera_trap_al.active_learning_methods.uncertainty import MarginSampling
from camera_trap_al.exceptions import ConfigError
from camera_trap_al.logs import stage
from camera_trap_al.pools import FloatArray, IndexArray

__all__ = [
    "InformativeDiverseSampling",
    "MarginClusterMeanSampling",
    "choose_cluster_means",
    "choose_like_the_pool",
    "cluster_rows",
]

logger = logging.getLogger(__name__)

# Clusters are fitted on at most this many rows per fit, drawn at random; all rows are then assigned to them. More rows
# move the centres of a few hundred clusters very little, and a copy of a million rows would take 1 GB.
FITTED_ROWS = 50_000
ROWS_PER_STEP = 16_384


@dataclass(frozen=True, kw_only=True)
class InformativeDiverseSampling(QueryStrategy):
    """Ask about images with nearly tied classes, from each cluster in proportion to its size.

    The clusters depend on the embeddings of the labelled and unlabelled rows alone and are kept until these change.

    Parameters
    ----------
    n_clusters
        Number of clusters of the pool, at least 1, or None for as many as there are classes.

    Raises
    ------
    ConfigError
        If `n_clusters` is below 1.
    """

    source: ClassVar[str] = "google/active-learning 2017"
    when: ClassVar[str] = "when margin keeps asking about one kind of scene"
    cost: ClassVar[str] = "n x clusters distances, once per embedding"

    n_clusters: int | None = None
    _clusters: KeptByContent[IndexArray] = field(default_factory=KeptByContent, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.n_clusters is not None and self.n_clusters < 1:
            raise ConfigError(f"n_clusters must be at least 1, or None for one per class; got {self.n_clusters}.")

    def choose(self, view: PoolView, n: int, rng: np.random.Generator) -> IndexArray:
        """Return the `n` rows of `choose_like_the_pool`."""
        pool = np.sort(np.concatenate([view.labelled, view.unlabelled]))
        clusters = self._clusters_of(view, pool)
        sizes = np.bincount(clusters)
        of_candidates = clusters[np.searchsorted(pool, view.unlabelled)]
        order = order_by_falling_score(MarginSampling().score(view), rng)
        rows: IndexArray = view.unlabelled[choose_like_the_pool(order, of_candidates, sizes, n)]
        return rows

    def _clusters_of(self, view: PoolView, pool: IndexArray) -> IndexArray:
        n_clusters = self.n_clusters or len(view.classes)

        def make(seed: int) -> IndexArray:
            return cluster_rows(view.embeddings, pool, n_clusters, seed)[0]

        return self._clusters.get(view.embeddings, pool, make, n_clusters)


@dataclass(frozen=True, kw_only=True)
class MarginClusterMeanSampling(QueryStrategy):
    """Ask about images in the middle of clusters of unsure images [Xu et al., 2003].

    Parameters
    ----------
    slice_factor
        How many images lie inside the margin: this many times the size of the batch, at least 1.

    Raises
    ------
    ConfigError
        If `slice_factor` is below 1.
    """

    source: ClassVar[str] = "Xu et al. 2003"
    when: ClassVar[str] = "large batches, when many unsure images look alike"
    cost: ClassVar[str] = "10 x picks x picks distances, whatever n"

    slice_factor: float = 10

    def __post_init__(self) -> None:
        if not 1 <= self.slice_factor < np.inf:
            raise ConfigError(
                f"slice_factor, the unsure images to cluster per image of the batch, must be a number of at least 1; "
                f"got {self.slice_factor}."
            )

    def choose(self, view: PoolView, n: int, rng: np.random.Generator) -> IndexArray:
        """Return up to `n` rows of `choose_cluster_means`, the rest at random.

        Xu et al. cluster what lies between the margins of a support vector machine. Classifiers that give
        probabilities have no such border; here (our reading) the images whose two likeliest classes are most nearly
        tied, `slice_factor` times `n` of them, are inside.
        """
        inside = order_by_falling_score(MarginSampling().score(view), rng)[: int(self.slice_factor * n)]
        chosen = inside[choose_cluster_means(view.embeddings[view.unlabelled[inside]], n, rng)]
        return fill_at_random(view, chosen, n, rng)


def choose_like_the_pool(order: IndexArray, clusters: IndexArray, pool_sizes: IndexArray, n: int) -> IndexArray:
    """Walk through `order` and choose an image unless its cluster has had its share of the batch.

    The idea is that of the "informative and diverse" sampler of google/active-learning: margin sampling, while the
    clusters of the batch are distributed like those of all the data. Derived here: the share of a cluster is that of
    all its rows, labelled or not, in the pool, times `n`, rounded up, and only the batch counts against it. (Counting
    what is labelled already would close clusters for many rounds when the first labels were no fair sample.) If the
    clusters hold too few unlabelled images for their shares, the batch is filled up in the given order.

    Parameters
    ----------
    order
        (n_images,), the images by falling worth.
    clusters
        (n_images,), the cluster of each image.
    pool_sizes
        (n_clusters,), how many rows of the pool are in each cluster.
    n
        How many to choose, at most n_images.

    Returns
    -------
    IndexArray
        (n,), positions in `clusters`, those within the shares first, each part in the order of `order`.
    """
    shares = -(-n * pool_sizes // pool_sizes.sum())
    # The k-th image of its cluster, counted from 0, is chosen if the share is larger than k.
    ordered = clusters[order]
    by_cluster = np.argsort(ordered, kind="stable")
    rank = np.empty(len(order), dtype=np.int64)
    rank[by_cluster] = np.arange(len(order)) - np.searchsorted(ordered[by_cluster], ordered[by_cluster])
    within = rank < shares[ordered]
    return np.concatenate([order[within], order[~within]])[:n]


def choose_cluster_means(embeddings: FloatArray, n: int, rng: np.random.Generator) -> IndexArray:
    """Cluster images into `n` clusters by k-means and choose the one nearest to each centre [Xu et al., 2003].

    Parameters
    ----------
    embeddings
        (n_images, n_features), n_images at least `n`.
    n
        How many clusters.
    rng
        Seeds k-means and breaks ties of the distance (to 1e-6).

    Returns
    -------
    IndexArray
        (up to n,), positions, the one of the largest cluster first; fewer when fewer embeddings are distinct.
    """
    means = KMeans(n, n_init=1, random_state=int(rng.integers(2**31)))
    with warnings.catch_warnings():
        # Duplicates leave clusters empty; the caller sees it by the length of the answer.
        warnings.simplefilter("ignore", ConvergenceWarning)
        clusters = means.fit_predict(embeddings)
    distances = np.linalg.norm(embeddings - means.cluster_centers_[clusters], axis=1)
    nearest_first = order_by_falling_score(-distances, rng)
    _, first, sizes = np.unique(clusters[nearest_first], return_index=True, return_counts=True)
    largest_first = np.argsort(-sizes, kind="stable")
    return nearest_first[first[largest_first]]


def cluster_rows(embeddings: FloatArray, rows: IndexArray, n_clusters: int, seed: int) -> tuple[IndexArray, FloatArray]:
    """Put rows into clusters by MiniBatchKMeans [Sculley, 2010], fitted on at most 50,000 of them.

    Parameters
    ----------
    embeddings
        (n_rows, n_features), of which only `rows` are looked at.
    rows
        (n_pool,), the rows to cluster.
    n_clusters
        How many clusters, at least 1; no more than there are rows are made.
    seed
        Same seed, same clusters.

    Returns
    -------
    tuple[IndexArray, FloatArray]
        (n_pool,) cluster ids from 0 without a gap, in the order of `rows`; (n_found, n_features) centres by cluster id.
    """
    rng = np.random.default_rng(seed)
    fitted = rows
    if len(rows) > FITTED_ROWS:
        fitted = np.sort(rng.choice(rows, FITTED_ROWS, replace=False))
        logger.info("Clusters are fitted on %d of %d images, drawn at random", len(fitted), len(rows))
    n_clusters = min(n_clusters, len(fitted))
    with stage(logger, f"Clustering {len(rows)} images into {n_clusters} clusters"):
        means = MiniBatchKMeans(
            n_clusters,
            # k-means++ takes n_clusters^2 distances and more, and gains little where clusters are many and small.
            init="k-means++" if n_clusters <= 500 else "random",
            n_init=1,
            batch_size=max(1024, n_clusters),
            random_state=int(rng.integers(2**31)),
        ).fit(embeddings[fitted])
        parts = [
            means.predict(embeddings[rows[start : start + ROWS_PER_STEP]])
            for start in range(0, len(rows), ROWS_PER_STEP)
        ]
    found, clusters = np.unique(np.concatenate(parts), return_inverse=True)
    return clusters.astype(np.int64), means.cluster_centers_[found]
