"""A strategy that walks down a tree of clusters, as far as the labels seen so far tell its branches apart."""

import logging
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage

from camera_trap_al.active_learning_methods.base import PoolView, QueryStrategy
from camera_trap_al.active_learning_methods.clusters import cluster_rows
from camera_trap_al.active_learning_methods.kept_by_content import KeptByContent
from camera_trap_al.exceptions import ConfigError
from camera_trap_al.logs import stage
from camera_trap_al.pools import FloatArray, IndexArray

__all__ = ["ClusterTree", "HierarchicalSampling", "choose_from_pruning", "count_labels", "grow_tree", "prune_tree"]

logger = logging.getLogger(__name__)

# Ward's tree takes time and memory by the square: measured with 256 features, 38 CPU seconds and 3.1 GB for 20,000
# points; 50,000 would take 20 GB. More rows are first put into micro-clusters: 28 s and under 1 GB for 50,000 rows.
EXACT_ROWS = 20_000
MICRO_CLUSTERS = 10_000


@dataclass(frozen=True, kw_only=True)
class HierarchicalSampling(QueryStrategy):
    """Ask about images of the clusters whose labels are still few or mixed [Dasgupta & Hsu, 2008].

    Ward's tree is exact for up to 20,000 images, labelled and unlabelled together; for more it is grown over the
    centres of at most 10,000 MiniBatchKMeans clusters, which are its leaves. It is kept until the embeddings change.

    Parameters
    ----------
    beta
        How much surer than the next class the class of a cluster must be before the cluster may be split, more than 1;
        2 in the paper.

    Raises
    ------
    ConfigError
        If `beta` is not above 1.
    """

    source: ClassVar[str] = "Dasgupta & Hsu 2008"
    when: ClassVar[str] = "when the embeddings fall into clear groups of one species each"
    cost: ClassVar[str] = "n x n distances once per embedding (n up to 20,000)"

    beta: float = 2
    _tree: KeptByContent["ClusterTree"] = field(default_factory=KeptByContent, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 1 < self.beta < np.inf:
            raise ConfigError(f"beta must be a number above 1 (the paper takes 2); got {self.beta}.")

    def choose(self, view: PoolView, n: int, rng: np.random.Generator) -> IndexArray:
        """Return `n` rows drawn from the pruning that fits the labels best.

        The paper refines its pruning step by step and knows only the labels that it asked for. Here the pruning is
        found anew in each round from all labels, whoever asked for them. The bounds take the labels of a cluster for a
        fair sample of it; labels that were there before need not be one.
        """
        pool = np.sort(np.concatenate([view.labelled, view.unlabelled]))
        tree = self._tree.get(view.embeddings, pool, lambda seed: grow_tree(view.embeddings, pool, seed))
        counts = count_labels(
            tree, np.searchsorted(pool, view.labelled), view.targets[view.labelled], len(view.classes)
        )
        nodes, errors = prune_tree(tree, counts, self.beta)
        unlabelled = np.searchsorted(pool, view.unlabelled)
        rows: IndexArray = pool[choose_from_pruning(tree, nodes, errors, unlabelled, n, rng)]
        return rows


@dataclass(frozen=True, eq=False, kw_only=True)
class ClusterTree:
    """A binary tree over the images of a pool. Nodes are numbered: leaves first, children before parents, root last.

    Attributes
    ----------
    children
        (n_leaves - 1, 2), the two children of each node that is no leaf.
    order
        (n_images,), the images (positions in the pool) from the leftmost leaf to the rightmost.
    start, stop
        (n_nodes,), the images under a node are ``order[start:stop]``.
    """

    children: IndexArray
    order: IndexArray
    start: IndexArray
    stop: IndexArray

    @property
    def sizes(self) -> IndexArray:
        """(n_nodes,), how many images are under each node."""
        return self.stop - self.start

    @property
    def n_leaves(self) -> int:
        """How many nodes have no children."""
        return len(self.start) - len(self.children)

    def places(self, images: IndexArray) -> IndexArray:
        """Return where `images` (positions in the pool) stand in `order`."""
        place = np.empty_like(self.order)
        place[self.order] = np.arange(len(self.order))
        found: IndexArray = place[images]
        return found


def grow_tree(embeddings: FloatArray, rows: IndexArray, seed: int) -> ClusterTree:
    """Build the tree of Ward's clustering [Ward, 1963], over micro-clusters if there are more than 20,000 rows.

    Micro-clusters count as one point each, whatever their size.

    Parameters
    ----------
    embeddings
        (n_rows, n_features), of which only `rows` are looked at.
    rows
        (n_pool,), the rows of the pool, at least 1.
    seed
        Seed of the micro-clusters.

    Returns
    -------
    ClusterTree
        Its images are positions in `rows`.
    """
    if len(rows) > EXACT_ROWS:
        logger.info("%d images are too many for an exact tree, micro-clusters are used", len(rows))
        leaves, points = cluster_rows(embeddings, rows, MICRO_CLUSTERS, seed)
    else:
        leaves, points = np.arange(len(rows)), embeddings[rows]
    with stage(logger, f"Building the cluster tree of {len(points)} points"):
        children = np.empty((0, 2), dtype=np.int64)
        if len(points) > 1:
            children = linkage(points, method="ward")[:, :2].astype(np.int64)
        return _lay_out(children, leaves)


def count_labels(tree: ClusterTree, images: IndexArray, targets: IndexArray, n_classes: int) -> IndexArray:
    """Count the labels of each class under each node.

    Parameters
    ----------
    tree
        The tree.
    images
        (n_labelled,), the labelled images, as positions in the pool.
    targets
        (n_labelled,), their class ids.
    n_classes
        How many classes there are.

    Returns
    -------
    IndexArray
        (n_nodes, n_classes).
    """
    places = tree.places(images)
    in_order = np.argsort(places)
    is_class = targets[in_order, np.newaxis] == np.arange(n_classes)
    so_far = np.concatenate([np.zeros((1, n_classes), dtype=np.int64), is_class.cumsum(axis=0)])
    first, last = (np.searchsorted(places[in_order], edge) for edge in (tree.start, tree.stop))
    counts: IndexArray = so_far[last] - so_far[first]
    return counts


def prune_tree(tree: ClusterTree, counts: IndexArray, beta: float) -> tuple[IndexArray, NDArray[np.float64]]:
    """Find the admissible pruning of least estimated error [Dasgupta & Hsu, 2008, sections 3 and 4].

    A node v with n_v labels, a share p of them of class l, has p within p -+ (1 / n_v + sqrt(p (1 - p) / n_v)), cut
    to 0..1. Class l is admissible for v if its error at worst is less than `beta` times that of each other class at
    best: ``1 - low(v, l) < beta * (1 - high(v, l'))``. The error of v is 1 - p for its best admissible class, 1 if
    there is none. A node that has an admissible class is split if its children, split as well as they can be and
    weighted by their sizes, have less error. A child without an admissible class has the class of its parent.

    Parameters
    ----------
    tree
        The tree.
    counts
        (n_nodes, n_classes), labels under each node.
    beta
        2 in the paper.

    Returns
    -------
    tuple[IndexArray, NDArray[np.float64]]
        Nodes of the pruning, no image under two of them and each under one; the highest error that each may have,
        1 - low(v, its class), above 0..1.
    """
    shares, low, high = _confidence_bounds(counts)
    admissible = np.asarray(1 - low < beta * (1 - _highest_of_others(high)))
    has_class = np.asarray(admissible.any(axis=1))
    errors = np.where(admissible, 1 - shares, 1.0)
    is_split = _find_splits(tree, errors.min(axis=1), has_class)
    # The class of the root is arbitrary as long as none is admissible.
    own_class = np.where(has_class, errors.argmin(axis=1), counts.argmax(axis=1))
    nodes, bounds = [], []
    waiting = [(len(counts) - 1, own_class[-1])]
    while waiting:
        node, parent_class = waiting.pop()
        its_class = own_class[node] if has_class[node] else parent_class
        if is_split[node]:
            waiting += [(child, its_class) for child in tree.children[node - tree.n_leaves]]
        else:
            nodes.append(node)
            bounds.append(1 - low[node, its_class])
    return np.array(nodes, dtype=np.int64), np.array(bounds)


def choose_from_pruning(
    tree: ClusterTree,
    nodes: IndexArray,
    errors: NDArray[np.float64],
    unlabelled: IndexArray,
    n: int,
    rng: np.random.Generator,
) -> IndexArray:
    """Draw nodes in proportion to size times error bound, and an unlabelled image at random under each.

    Parameters
    ----------
    tree
        The tree.
    nodes
        (n_nodes,), the nodes of a pruning.
    errors
        (n_nodes,), the highest error that each may have, above 0.
    unlabelled
        (n_unlabelled,), the images to choose from, as positions in the pool.
    n
        How many to choose, at most n_unlabelled.
    rng
        Source of the draws.

    Returns
    -------
    IndexArray
        (n,), distinct positions in the pool, in the order of the draw. A node with nothing left is drawn no more.
    """
    places = np.sort(tree.places(unlabelled))
    first, last = (np.searchsorted(places, edge[nodes]) for edge in (tree.start, tree.stop))
    weights = tree.sizes[nodes] * errors * (last > first)
    left: dict[int, list[int]] = {}
    chosen: list[int] = []
    while len(chosen) < n:
        drawn = int(rng.choice(len(nodes), p=weights / weights.sum()))
        if drawn not in left:
            left[drawn] = rng.permutation(places[first[drawn] : last[drawn]]).tolist()
        chosen.append(left[drawn].pop())
        if not left[drawn]:
            weights[drawn] = 0
    rows: IndexArray = tree.order[chosen]
    return rows


def _confidence_bounds(counts: IndexArray) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Share of each class among the labels of each node, and its lowest and highest likely value."""
    n_labels = counts.sum(axis=1, keepdims=True)
    n_at_least_1 = np.maximum(n_labels, 1)  # without a label, 1 / 1 makes the bounds 0 and 1
    shares = counts / n_at_least_1
    spread = 1 / n_at_least_1 + np.sqrt(shares * (1 - shares) / n_at_least_1)
    return shares, np.maximum(shares - spread, 0), np.minimum(shares + spread, 1)


def _highest_of_others(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each entry replaced by the highest of the other entries of its row, minus infinity where there is none."""
    if values.shape[1] == 1:
        return np.full_like(values, -np.inf)
    second, highest = np.partition(values, -2, axis=1)[:, -2:].T[:, :, np.newaxis]
    is_highest = np.arange(values.shape[1]) == values.argmax(axis=1)[:, np.newaxis]
    others: NDArray[np.float64] = np.where(is_highest, second, highest)
    return others


def _find_splits(tree: ClusterTree, errors: NDArray[np.float64], has_class: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which nodes are better split than kept, children before parents."""
    total = (errors * tree.sizes).tolist()  # least expected number of images in error under each node
    is_split = np.zeros(len(errors), dtype=np.bool_)
    for node, (left, right) in enumerate(tree.children.tolist(), start=tree.n_leaves):
        when_split = total[left] + total[right]
        # A difference in the last digits is rounding, not evidence.
        if has_class[node] and when_split < total[node] * (1 - 1e-9):
            total[node] = when_split
            is_split[node] = True
    return is_split


def _lay_out(children: IndexArray, leaves: IndexArray) -> ClusterTree:
    """Lay the images of the given leaves out in tree order, so that those under a node stand together."""
    n_leaves = len(children) + 1
    sizes = np.bincount(leaves, minlength=2 * n_leaves - 1).tolist()
    pairs = children.tolist()
    for node, (left, right) in enumerate(pairs, start=n_leaves):
        sizes[node] = sizes[left] + sizes[right]
    start = [0] * len(sizes)
    for node in range(len(sizes) - 1, n_leaves - 1, -1):
        left, right = pairs[node - n_leaves]
        start[left], start[right] = start[node], start[node] + sizes[left]
    begins = np.array(start, dtype=np.int64)
    order = np.argsort(begins[leaves], kind="stable")
    return ClusterTree(children=children, order=order, start=begins, stop=begins + np.array(sizes, dtype=np.int64))
