from collections.abc import Callable, Iterator
from itertools import combinations
from math import sqrt

import numpy as np
import pytest

from camera_trap_al.active_learning_methods import HierarchicalSampling, PoolView, hierarchical
from camera_trap_al.active_learning_methods.hierarchical import (
    ClusterTree,
    choose_from_pruning,
    count_labels,
    grow_tree,
    prune_tree,
)
from camera_trap_al.exceptions import ConfigError
from camera_trap_al.pools import UNLABELLED, FloatArray

MakeView = Callable[..., PoolView]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def images_under(tree: ClusterTree, node: int) -> frozenset[int]:
    return frozenset(tree.order[tree.start[node] : tree.stop[node]].tolist())


def naive_ward(points: FloatArray) -> set[frozenset[int]]:
    """All clusters of Ward's method: merge the two whose union adds least to the sum of squares, again and again."""

    def sum_of_squares(cluster: frozenset[int]) -> float:
        part = points[sorted(cluster)].astype(float)
        return float(((part - part.mean(axis=0)) ** 2).sum())

    current = {frozenset([i]) for i in range(len(points))}
    found = set(current)
    while len(current) > 1:
        a, b = min(
            combinations(current, 2), key=lambda ab: sum_of_squares(ab[0] | ab[1]) - sum(map(sum_of_squares, ab))
        )
        current = current - {a, b} | {a | b}
        found.add(a | b)
    return found


class Naive:
    """Definitions of Dasgupta & Hsu 2008, written down node by node."""

    def __init__(self, tree: ClusterTree, labels: dict[int, int], n_classes: int, beta: float) -> None:
        self.tree, self.labels, self.classes, self.beta = tree, labels, range(n_classes), beta
        self.root = len(tree.start) - 1

    def interval(self, node: int, k: int) -> tuple[float, float, float]:
        seen = [self.labels[i] for i in images_under(self.tree, node) if i in self.labels]
        if not seen:
            return 0.0, 0.0, 1.0
        p = seen.count(k) / len(seen)
        delta = 1 / len(seen) + sqrt(p * (1 - p) / len(seen))
        return p, max(p - delta, 0), min(p + delta, 1)

    def is_admissible(self, node: int, k: int) -> bool:
        others = [1 - self.interval(node, other)[2] for other in self.classes if other != k]
        return all(1 - self.interval(node, k)[1] < self.beta * other for other in others)

    def error(self, node: int, k: int) -> float:
        return 1 - self.interval(node, k)[0] if self.is_admissible(node, k) else 1.0

    def prunings(self, node: int, inherited: int) -> Iterator[list[tuple[int, int]]]:
        """Every admissible pruning of the subtree of `node`, as pairs of node and class."""
        own = [k for k in self.classes if self.is_admissible(node, k)] or [inherited]
        yield from ([(node, k)] for k in own)
        if node >= self.tree.n_leaves and self.is_admissible(node, own[0]):
            left, right = self.tree.children[node - self.tree.n_leaves].tolist()
            for k in own:
                rest = list(self.prunings(right, k))
                yield from (a + b for a in self.prunings(left, k) for b in rest)

    def total_error(self, pruning: list[tuple[int, int]]) -> float:
        return sum(len(images_under(self.tree, node)) * self.error(node, k) for node, k in pruning)


@pytest.mark.parametrize("seed", range(8))
def test_hierarchical_equals_the_naive_reference(seed: int) -> None:
    data = rng(seed)
    points = data.normal(size=(12, 2)).astype(np.float32)
    points[:6, 0] += 4
    tree = grow_tree(points, np.arange(12), seed=0)
    assert {images_under(tree, node) for node in range(len(tree.start))} == naive_ward(points)
    n_classes = 1 + seed % 3
    for n_labelled in (0, 3, 9, 12):
        labelled = data.permutation(12)[:n_labelled]
        targets = (labelled < 6).astype(np.int64) * data.integers(0, n_classes, size=n_labelled)
        naive = Naive(tree, dict(zip(labelled.tolist(), targets.tolist(), strict=True)), n_classes, beta=2)
        nodes, bounds = prune_tree(tree, count_labels(tree, labelled, targets, n_classes), beta=2)
        assert sorted(i for node in nodes for i in images_under(tree, node)) == list(range(12))
        # What our nodes cost must be the least that any admissible pruning costs, and their bounds must be the paper's.
        cost = sum(len(images_under(tree, v)) * min(naive.error(v, k) for k in range(n_classes)) for v in nodes)
        assert cost == pytest.approx(min(map(naive.total_error, naive.prunings(naive.root, 0))))
        for node, bound in zip(nodes.tolist(), bounds.tolist(), strict=True):
            assert any(bound == pytest.approx(1 - naive.interval(node, k)[1]) for k in range(n_classes))


def line_of_twelve(make_view: MakeView, labels: dict[int, int]) -> tuple[PoolView, np.ndarray]:
    """Eight images near 0 and four near 100, some labelled; and the row of each."""
    rows = rng(1).permutation(30)[:12]
    embeddings = np.full((30, 1), np.nan, dtype=np.float32)
    embeddings[rows, 0] = [0, 1, 2, 3, 4, 5, 6, 7, 100, 101, 102, 103]
    targets = np.full(30, UNLABELLED)
    targets[rows[list(labels)]] = list(labels.values())
    known = np.isin(np.arange(12), list(labels))
    return make_view(
        embeddings=embeddings, targets=targets, labelled=rows[known], unlabelled=rows[~known], n_classes=2
    ), rows


def test_hierarchical_worked_example(make_view: MakeView) -> None:
    # Labels: six images near 0 are of class 0, two near 100 of class 1.
    # The root: p = 6/8 for class 0, 1/8 + sqrt(0.75 * 0.25 / 8) = 0.278, so low = 0.472; class 1 has high = 0.528;
    # 1 - 0.472 < 2 (1 - 0.528): class 0 is admissible, with an estimated error of 2/8. Its children are pure, and
    # admissible: 1/6 < 2 * 5/6 on the left, 1/2 < 2 * 1/2 on the right. Errors of 0 are less, so the root is split,
    # and nothing is gained by further splits. Bounds: 1 - low = 1/6 on the left, 1/2 on the right; times sizes: 8/6
    # and 4/2. The right side is asked about first with a probability of 2 / (2 + 4/3) = 0.6.
    view, rows = line_of_twelve(make_view, {0: 0, 1: 0, 3: 0, 4: 0, 5: 0, 7: 0, 9: 1, 10: 1})
    strategy, generator = HierarchicalSampling(), rng()
    firsts = [int(strategy.select_batch(view, 1, generator)[0]) for _ in range(2000)]
    counts = {image: firsts.count(rows[image]) for image in (2, 6, 8, 11)}
    assert sum(counts.values()) == 2000
    # Expected 400, 400, 600, 600; standard deviations sqrt(2000 * 0.2 * 0.8) = 18 and sqrt(2000 * 0.3 * 0.7) = 20.
    assert [counts[2], counts[6]] == pytest.approx([400, 400], abs=5 * 18)
    assert [counts[8], counts[11]] == pytest.approx([600, 600], abs=5 * 20)


def test_without_enough_labels_the_root_stays_whole_and_all_images_are_equally_likely(make_view: MakeView) -> None:
    # One label of each class: p = 1/2, the bounds are 0 and 1, nothing is admissible.
    view, _ = line_of_twelve(make_view, {0: 0, 9: 1})
    strategy, generator = HierarchicalSampling(), rng()
    firsts = [int(strategy.select_batch(view, 1, generator)[0]) for _ in range(2000)]
    _, counts = np.unique(firsts, return_counts=True)
    assert len(counts) == 10
    assert abs(counts - 200).max() < 5 * 13.4  # standard deviation sqrt(2000 * 0.1 * 0.9)


def test_a_child_without_a_class_of_its_own_has_that_of_its_parent() -> None:
    # Four leaves: three labels of class 0 on the left ((0, 1), 2), none on image 3. A tree written down by hand.
    tree = ClusterTree(
        children=np.array([[0, 1], [4, 2], [5, 3]]),
        order=np.arange(4),
        start=np.array([0, 1, 2, 3, 0, 0, 0]),
        stop=np.array([1, 2, 3, 4, 2, 3, 4]),
    )
    # 9 : 1 at the root: class 0 is admissible, 0.1 * 4 = 0.4 images in error. The left side is pure and costs nothing,
    # but image 3, where no label is, would cost 1: no split.
    counts = np.array([[3, 0], [3, 0], [3, 0], [0, 0], [6, 0], [9, 0], [9, 1]])
    assert prune_tree(tree, counts, beta=2)[0].tolist() == [6]
    # 9 : 6, all 6 on image 2: at the root 0.4 * 4 = 1.6 images in error, after two splits 0 + 0 + 1. Image 3 has no
    # label: its lowest share of class 0, which it has from the root, is 0, and its bound 1.
    counts = np.array([[5, 0], [4, 0], [0, 6], [0, 0], [9, 0], [9, 6], [9, 6]])
    nodes, bounds = prune_tree(tree, counts, beta=2)
    assert dict(zip(nodes.tolist(), bounds.tolist(), strict=True)) == pytest.approx({4: 1 / 9, 2: 1 / 6, 3: 1})


def test_a_larger_beta_splits_sooner(make_view: MakeView) -> None:
    view, _ = line_of_twelve(make_view, {0: 0, 2: 0, 4: 0, 9: 1, 10: 1})
    pool = np.sort(np.concatenate([view.labelled, view.unlabelled]))
    tree = grow_tree(view.embeddings, pool, seed=0)
    counts = count_labels(tree, np.searchsorted(pool, view.labelled), view.targets[view.labelled], 2)
    # The root: p = 3/5, 1/5 + sqrt(0.24 / 5) = 0.419: low 0.181, high of the other 0.819. Admissible if 0.819 <
    # beta * 0.181, so not with 2 but with 5.
    assert [len(prune_tree(tree, counts, beta)[0]) for beta in (2, 5)] == [1, 2]


def test_a_batch_empties_small_nodes_and_goes_on_with_others() -> None:
    tree = grow_tree(np.arange(12, dtype=np.float32)[:, np.newaxis] ** 2, np.arange(12), seed=0)
    nodes = np.array([*tree.children[-1]])
    chosen = choose_from_pruning(tree, nodes, np.array([1e-6, 1.0]), np.arange(3, 12), 9, rng())
    assert sorted(chosen.tolist()) == list(range(3, 12))


def test_the_tree_is_built_once_for_the_same_embeddings(make_view: MakeView, caplog: pytest.LogCaptureFixture) -> None:
    strategy = HierarchicalSampling()
    first, rows = line_of_twelve(make_view, {0: 0})
    with caplog.at_level("INFO"):
        strategy.select_batch(first, 2, rng())
        strategy.select_batch(line_of_twelve(make_view, {0: 0, 3: 0, 9: 1})[0], 2, rng())
        assert caplog.text.count("done in") == 1
        moved = first.embeddings + rows.min().astype(np.float32) + 1
        strategy.select_batch(make_view(**vars(first) | {"embeddings": moved, "n_classes": 2}), 2, rng())
        assert caplog.text.count("done in") == 2


def test_a_large_pool_has_micro_clusters_for_leaves_and_the_log_says_so(
    make_view: MakeView, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hierarchical, "EXACT_ROWS", 50)
    monkeypatch.setattr(hierarchical, "MICRO_CLUSTERS", 6)
    view = make_view(n_unlabelled=200, n_labelled=50)
    pool = np.sort(np.concatenate([view.labelled, view.unlabelled]))
    with caplog.at_level("INFO"):
        tree = grow_tree(view.embeddings, pool, seed=0)
    assert "250 images are too many for an exact tree" in caplog.text
    assert 1 < tree.n_leaves <= 6
    assert sorted(tree.order.tolist()) == list(range(250))
    leaves = [images_under(tree, leaf) for leaf in range(tree.n_leaves)]
    assert sorted(i for leaf in leaves for i in leaf) == list(range(250))
    # The images of a leaf are nearer to their own mean than to that of another leaf, most of them.
    points = view.embeddings[pool]
    means = np.array([points[sorted(leaf)].mean(axis=0) for leaf in leaves])
    own = [np.linalg.norm(means - points[i], axis=1).argmin() == k for k, leaf in enumerate(leaves) for i in leaf]
    assert np.mean(own) > 0.8
    for n in (1, 60, 199):
        assert len(set(HierarchicalSampling().select_batch(view, n, rng()).tolist())) == n


def test_a_large_pool_of_copies_works(make_view: MakeView, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hierarchical, "EXACT_ROWS", 20)
    monkeypatch.setattr(hierarchical, "MICRO_CLUSTERS", 5)
    view = make_view(n_labelled=0, unlabelled_embeddings=np.ones((40, 5), dtype=np.float32))
    assert len(set(HierarchicalSampling().select_batch(view, 9, rng()).tolist())) == 9


@pytest.mark.parametrize("beta", [1, 0, float("nan"), float("inf")])
def test_a_bad_beta_is_an_error(beta: float) -> None:
    with pytest.raises(ConfigError, match=f"beta must be a number above 1 .*got {beta}"):
        HierarchicalSampling(beta=beta)
