"""Strategies that ask about images in the midst of many similar ones."""

import logging
import warnings
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import euclidean_distances
from sklearn.neighbors import NearestNeighbors

from camera_trap_al.active_learning_methods.base import TIE_TOLERANCE, PoolView, QueryStrategy, order_by_falling_score
from camera_trap_al.active_learning_methods.clusters import cluster_rows
from camera_trap_al.active_learning_methods.kept_by_content import KeptByContent
from camera_trap_al.exceptions import ConfigError
from camera_trap_al.logs import stage
from camera_trap_al.pools import FloatArray, IndexArray

__all__ = [
    "GraphDensitySampling",
    "TypiClustSampling",
    "choose_dense",
    "choose_typical",
    "neighbour_graph",
]

logger = logging.getLogger(__name__)

# All Manhattan distances of 5,000 images with 256 features take 4 CPU seconds, and the time is quadratic.
EXACT_GRAPH_ROWS = 5000
# Neighbours are then looked for in the cells nearest to an image's own. So many cells and candidates found 99.9 % of
# the true neighbours of 8,000 images in 20 groups, 97 % in one cloud of 8 dimensions, 89 % in one of 256 (worst case).
CELLS_SEARCHED = 32
CANDIDATES_PER_NEIGHBOUR = 5
# One cell can hold half of a pool (night frames without an animal): no search looks at more images than this.
MAX_SEARCHED = 20_000
EXACT_CLUSTERING_ROWS = 5000
ROWS_PER_STEP = 256


@dataclass(frozen=True, kw_only=True)
class GraphDensitySampling(QueryStrategy):
    """Ask about images with many close neighbours, away from what is labelled already [Ebert et al., 2012].

    The graph depends on the embeddings of the labelled and unlabelled rows alone and is kept until these change.

    Parameters
    ----------
    n_neighbours
        Neighbours per image in the graph, at least 1; 10 in the paper.

    Raises
    ------
    ConfigError
        If `n_neighbours` is below 1.
    """

    source: ClassVar[str] = "Ebert et al. 2012"
    when: ClassVar[str] = "the first rounds, to label what is common before what is odd"
    cost: ClassVar[str] = "a neighbour graph, once per embedding; n x picks after that"

    n_neighbours: int = 10
    _graph: KeptByContent[csr_array] = field(default_factory=KeptByContent, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.n_neighbours < 1:
            raise ConfigError(f"n_neighbours must be at least 1; got {self.n_neighbours}. The default is 10.")

    def choose(self, view: PoolView, n: int, rng: np.random.Generator) -> IndexArray:
        """Return the `n` rows of `choose_dense`."""
        pool = np.sort(np.concatenate([view.labelled, view.unlabelled]))
        graph = self._graph.get(
            view.embeddings, pool, lambda seed: neighbour_graph(view.embeddings, pool, self.n_neighbours, seed=seed)
        )
        labelled, unlabelled = np.searchsorted(pool, view.labelled), np.searchsorted(pool, view.unlabelled)
        chosen = choose_dense(graph, labelled, unlabelled, n, rng)
        rows: IndexArray = pool[chosen]
        return rows


@dataclass(frozen=True, kw_only=True)
class TypiClustSampling(QueryStrategy):
    """Ask about the most typical image of each large cluster without a label [Hacohen et al., 2022].

    Parameters
    ----------
    max_clusters
        How many clusters at most, at least 1; 500 in the paper.
    n_neighbours
        How many neighbours the typicality of an image looks at, at least 1; 20 in the paper.

    Raises
    ------
    ConfigError
        If a value is below 1.
    """

    source: ClassVar[str] = "Hacohen et al. 2022"
    when: ClassVar[str] = "the very first rounds, with a handful of labels per species or none"
    cost: ClassVar[str] = "n x clusters distances, up to 500 clusters"

    max_clusters: int = 500
    n_neighbours: int = 20

    def __post_init__(self) -> None:
        options = {"max_clusters": self.max_clusters, "n_neighbours": self.n_neighbours}
        problems = [f"{name} must be at least 1; got {value}." for name, value in options.items() if value < 1]
        if problems:
            raise ConfigError(problems)

    def choose(self, view: PoolView, n: int, rng: np.random.Generator) -> IndexArray:
        """Return the `n` rows of `choose_typical`, over n_labelled + `n` clusters."""
        pool = np.concatenate([view.labelled, view.unlabelled])
        clusters = _clusters(view.embeddings, pool, min(len(view.labelled) + n, self.max_clusters), rng)
        is_labelled = np.arange(len(pool)) < len(view.labelled)
        chosen = choose_typical(view.embeddings, pool, clusters, is_labelled, n, rng, n_neighbours=self.n_neighbours)
        rows: IndexArray = pool[chosen]
        return rows


def choose_dense(
    graph: csr_array, labelled: IndexArray, unlabelled: IndexArray, n: int, rng: np.random.Generator
) -> IndexArray:
    """Choose, one after the other, the densest image, and lower the density of its neighbours [Ebert et al., 2012].

    The density of an image is the mean weight of its edges; a chosen image takes all of its own density from that of
    each neighbour. The labelled images lower their neighbours first, all at once, since they have no order (our
    reading). A density that was lowered below 0 lowers no other.

    Parameters
    ----------
    graph
        (n_pool, n_pool), symmetric, as `neighbour_graph` makes it.
    labelled, unlabelled
        Positions in the graph.
    n
        How many to choose, at most n_unlabelled.
    rng
        Breaks ties of the density (to 1e-6).

    Returns
    -------
    IndexArray
        (n,), positions in the graph in the order of choice.
    """
    density = graph.sum(axis=1) / np.maximum(np.diff(graph.indptr), 1)
    is_joined = (graph > 0).astype(np.float64)
    density -= is_joined[labelled].T @ density[labelled]
    density[np.setdiff1d(np.arange(len(density)), unlabelled)] = -np.inf
    chosen = np.empty(n, dtype=np.int64)
    for turn in range(n):
        highest = density.max()
        pick = chosen[turn] = rng.choice(np.flatnonzero(density >= highest - TIE_TOLERANCE))
        edges = slice(graph.indptr[pick], graph.indptr[pick + 1])
        density[graph.indices[edges]] -= max(density[pick], 0)
        density[pick] = -np.inf
    return chosen


def neighbour_graph(embeddings: FloatArray, rows: IndexArray, n_neighbours: int, *, seed: int) -> csr_array:
    """Join each image with its nearest neighbours, by edges that are heavier the nearer they are.

    Two images are joined if one of them is among the `n_neighbours` nearest of the other by Manhattan distance d; the
    weight is exp(-d / (2 sigma^2)) [Ebert et al., 2012]. Here 2 sigma^2 is the mean distance along the edges, so that
    the unit of the embeddings does not matter (our derivation). Images less than 1e-6 per feature apart count as the
    same.

    The exact search is quadratic. Above 5,000 images neighbours are looked for among candidates only: the pool is cut
    into cells by k-means, and the candidates of an image are the nearest by Euclidean distance in its cell and the
    31 next to it; their Manhattan distances are exact.

    Parameters
    ----------
    embeddings
        (n_rows, n_features), of which only `rows` are looked at.
    rows
        (n_pool,), at least 2.
    n_neighbours
        At least 1; no more than there are other images are used.
    seed
        Of the cells.

    Returns
    -------
    csr_array
        (n_pool, n_pool) float64, symmetric, weights above 0..1, in the order of `rows`.
    """
    k = min(n_neighbours, len(rows) - 1)
    with stage(logger, f"Building the neighbour graph of {len(rows)} images"):
        if len(rows) <= EXACT_GRAPH_ROWS:
            search = NearestNeighbors(n_neighbors=k, metric="manhattan", algorithm="brute").fit(embeddings[rows])
            distances, neighbours = search.kneighbors()
        else:
            distances, neighbours = _neighbours_in_cells(embeddings, rows, k, seed)
    distances = np.where(distances <= TIE_TOLERANCE * embeddings.shape[1], 0, distances).astype(np.float64)
    mean = distances.mean()
    weights = np.maximum(np.exp(-distances / mean), np.finfo(np.float32).tiny) if mean else np.ones_like(distances)
    starts = np.arange(0, weights.size + 1, k)
    edges = csr_array((weights.ravel(), neighbours.ravel(), starts), shape=(len(rows), len(rows)))
    graph = edges.maximum(edges.T).tocsr()
    graph.sort_indices()
    return graph


def _neighbours_in_cells(embeddings: FloatArray, rows: IndexArray, k: int, seed: int) -> tuple[FloatArray, IndexArray]:
    """Distances to, and positions of, the `k` nearest others of each row, as far as the nearest cells hold them."""
    rng = np.random.default_rng(seed)
    logger.info("Neighbours of %d images are looked for in the %d nearest cells each", len(rows), CELLS_SEARCHED)
    cells, centres = cluster_rows(embeddings, rows, int(np.sqrt(len(rows))), seed)
    members = np.split(np.argsort(cells, kind="stable"), np.cumsum(np.bincount(cells))[:-1])
    sizes = np.array([len(inside) for inside in members])
    n_candidates = CANDIDATES_PER_NEIGHBOUR * k + 1
    distances = np.empty((len(rows), k), dtype=np.float32)
    neighbours = np.empty((len(rows), k), dtype=np.int64)
    for inside, centre in zip(members, centres, strict=True):
        nearest_first = np.argsort(((centres - centre) ** 2).sum(axis=1))
        within = np.cumsum(sizes[nearest_first])
        needed, affordable = 1 + np.searchsorted(within, n_candidates), np.searchsorted(within, MAX_SEARCHED + 1)
        n_cells = max(needed, min(CELLS_SEARCHED, affordable))
        around = np.concatenate([members[cell] for cell in nearest_first[:n_cells]])
        if len(around) > MAX_SEARCHED:
            around = rng.choice(around, MAX_SEARCHED, replace=False)
        found = _nearest_among(embeddings[rows[inside]], embeddings[rows[around]], inside, around, k, n_candidates)
        distances[inside], neighbours[inside] = found
    return distances, neighbours


def _nearest_among(
    points: FloatArray, others: FloatArray, own: IndexArray, names: IndexArray, k: int, n_candidates: int
) -> tuple[FloatArray, IndexArray]:
    """Manhattan distances to the `k` nearest of the `n_candidates` nearest by Euclidean distance, and their names."""
    search = NearestNeighbors(n_neighbors=min(n_candidates, len(others)), algorithm="brute").fit(others)
    candidates = search.kneighbors(points, return_distance=False)
    distances = np.empty(candidates.shape, dtype=np.float32)
    for start in range(0, len(points), ROWS_PER_STEP):
        part = slice(start, start + ROWS_PER_STEP)
        distances[part] = np.abs(others[candidates[part]] - points[part, None]).sum(axis=2)
    distances[names[candidates] == own[:, None]] = np.inf
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, nearest, axis=1), names[np.take_along_axis(candidates, nearest, axis=1)]


def choose_typical(
    embeddings: FloatArray,
    rows: IndexArray,
    clusters: IndexArray,
    is_labelled: NDArray[np.bool_],
    n: int,
    rng: np.random.Generator,
    *,
    n_neighbours: int = 20,
) -> IndexArray:
    """Choose the most typical image of one cluster after the other, "TypiClust" [Hacohen et al., 2022].

    The next cluster is always the one with the fewest labelled and chosen images, the largest of them if there are
    several: first the clusters without a label by falling size, then, if more images are wanted, round again. The
    typicality of an image is 1 / (mean Euclidean distance to its nearest neighbours in the cluster). In a cluster of
    more than 20,000 images, so many drawn at random stand for it.

    Parameters
    ----------
    embeddings
        (n_rows, n_features), of which only `rows` are looked at.
    rows
        (n_pool,), labelled and unlabelled.
    clusters
        (n_pool,), cluster ids from 0.
    is_labelled
        (n_pool,).
    n
        How many to choose, at most as many as are unlabelled.
    rng
        Breaks ties of the size, and of the mean distance (to 1e-6).
    n_neighbours
        How many neighbours count; in smaller clusters all others do.

    Returns
    -------
    IndexArray
        (n,), positions in `rows` in the order of choice.
    """
    sizes = np.bincount(clusters)
    n_asked = np.bincount(clusters, weights=is_labelled)
    n_left = sizes - n_asked
    waiting: dict[int, list[int]] = {}
    chosen = np.empty(n, dtype=np.int64)
    for turn in range(n):
        asked = np.where(n_left > 0, n_asked, np.inf)
        least = np.flatnonzero(asked == asked.min())
        cluster = int(rng.choice(least[sizes[least] == sizes[least].max()]))
        if cluster not in waiting:
            inside = np.flatnonzero(clusters == cluster)
            waiting[cluster] = _typical_last(embeddings, rows, inside, is_labelled[inside], n_neighbours, rng)
        chosen[turn] = waiting[cluster].pop()
        n_asked[cluster] += 1
        n_left[cluster] -= 1
    return chosen


def _typical_last(
    embeddings: FloatArray,
    rows: IndexArray,
    inside: IndexArray,
    is_labelled: NDArray[np.bool_],
    n_neighbours: int,
    rng: np.random.Generator,
) -> list[int]:
    """Positions of the unlabelled images of one cluster, the most typical at the end."""
    unlabelled, not_looked_at = inside[~is_labelled], inside[:0]
    if len(inside) > MAX_SEARCHED:
        logger.info("%d of the %d images of a cluster stand for it", MAX_SEARCHED, len(inside))
        shuffled = rng.permutation(inside)
        is_labelled = ~np.isin(shuffled, unlabelled)
        not_looked_at = shuffled[MAX_SEARCHED:][~is_labelled[MAX_SEARCHED:]]
        inside, is_labelled = shuffled[:MAX_SEARCHED], is_labelled[:MAX_SEARCHED]
        unlabelled = inside[~is_labelled]
    if len(inside) == 1:
        return [int(position) for position in unlabelled]
    mean_distances = _mean_distances(embeddings[rows[inside]], min(n_neighbours, len(inside) - 1))
    best_first = unlabelled[order_by_falling_score(-mean_distances[~is_labelled], rng)]
    return [*not_looked_at.tolist(), *best_first[::-1].tolist()]


def _mean_distances(points: FloatArray, k: int) -> FloatArray:
    """Mean Euclidean distance of each point to its `k` nearest others."""
    # NearestNeighbors takes 10 ms and more to start a search, too long for a hundred small clusters.
    means = np.empty(len(points), dtype=np.float32)
    for start in range(0, len(points), ROWS_PER_STEP):
        part = slice(start, min(start + ROWS_PER_STEP, len(points)))
        distances = euclidean_distances(points[part], points)
        distances[np.arange(len(distances)), np.arange(part.start, part.stop)] = np.inf
        means[part] = np.partition(distances, k - 1, axis=1)[:, :k].mean(axis=1)
    return means


def _clusters(embeddings: FloatArray, rows: IndexArray, n_clusters: int, rng: np.random.Generator) -> IndexArray:
    """Cluster by k-means, by MiniBatchKMeans above 5,000 images (as the authors do above 50 clusters)."""
    seed = int(rng.integers(2**31))
    if len(rows) > EXACT_CLUSTERING_ROWS:
        return cluster_rows(embeddings, rows, n_clusters, seed)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # duplicates leave clusters empty, which does no harm
        found: IndexArray = KMeans(n_clusters, n_init=1, random_state=seed).fit_predict(embeddings[rows])
    return found
