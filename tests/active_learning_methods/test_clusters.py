from collections import Counter
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest

from camera_trap_al.active_learning_methods import (
    InformativeDiverseSampling,
    MarginClusterMeanSampling,
    PoolView,
    clusters,
)
from camera_trap_al.active_learning_methods.clusters import (
    choose_cluster_means,
    choose_like_the_pool,
    cluster_rows,
)
from camera_trap_al.exceptions import ConfigError
from camera_trap_al.pools import FloatArray

MakeView = Callable[..., PoolView]


class MarginsInTheFirstFeature:
    """Two classes, the margin in the first feature: clusters and margins can be set apart from each other."""

    def probabilities(self, embeddings: FloatArray) -> FloatArray:
        return np.stack([0.5 + embeddings[:, 0] / 2, 0.5 - embeddings[:, 0] / 2], axis=1)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def embeddings_of(margins: list[float], places: list[float]) -> FloatArray:
    """Margins in the first feature, places on a line in the second, nothing in the other three."""
    found = np.zeros((len(margins), 5), dtype=np.float32)
    found[:, 0], found[:, 1] = margins, places
    return found


def naive_informative_diverse(order: list[int], its_cluster: list[int], sizes: list[int], n: int) -> list[int]:
    """Walk in the given order; an image must not lift its cluster's part of the batch above the share, rounded up."""
    batch: list[int] = []
    for image in order:
        cluster = its_cluster[image]
        so_far = Counter(its_cluster[i] for i in batch)[cluster]
        if len(batch) < n and so_far < n * sizes[cluster] / sum(sizes):
            batch.append(image)
    return batch + [image for image in order if image not in batch][: n - len(batch)]


@pytest.mark.parametrize("n", [1, 7, 30, 59])
def test_informative_diverse_equals_the_naive_reference(n: int) -> None:
    for seed in range(10):
        data = rng(seed)
        its_cluster, order = data.integers(6, size=60), data.permutation(60)
        sizes = np.bincount(its_cluster, minlength=6) + data.integers(0, 30, size=6)  # some are labelled already
        chosen = choose_like_the_pool(order, its_cluster, sizes, n).tolist()
        assert chosen == naive_informative_diverse(order.tolist(), its_cluster.tolist(), sizes.tolist(), n)


def test_informative_diverse_worked_example(make_view: MakeView) -> None:
    # Two far groups of 6 and 2 images; nothing is labelled. The six of the first group have the smallest margins.
    # A batch of 4 has room for 4 * 6 / 8 = 3 of the first group and 4 * 2 / 8 = 1 of the second: its surer one waits.
    margins = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.5, 0.4]
    embeddings = embeddings_of(margins, [0, 0.1, 0.2, 0, 0.1, 0.2, 90, 91])
    view = make_view(
        n_unlabelled=8,
        n_labelled=0,
        n_classes=2,
        unlabelled_embeddings=embeddings,
        classifier=MarginsInTheFirstFeature(),
    )
    chosen = InformativeDiverseSampling(n_clusters=2).select_batch(view, 4, rng())
    assert chosen.tolist() == view.unlabelled[[0, 1, 2, 7]].tolist()


def test_informative_diverse_counts_labelled_images_in_the_shares_of_the_pool(make_view: MakeView) -> None:
    # As above with 24 labelled images at the place of the second group: it holds 26 of 32 images, so its share of a
    # batch of 4 is 4 (3.25 rounded up), of which there are only 2; the first group has 1 and then fills up in order.
    margins = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.5, 0.4]
    embeddings = embeddings_of(margins, [0, 0.1, 0.2, 0, 0.1, 0.2, 90, 91])
    changes = {"n_unlabelled": 8, "n_labelled": 24, "n_classes": 2, "unlabelled_embeddings": embeddings}
    view = make_view(**changes)
    matrix = view.embeddings.copy()
    matrix[view.labelled] = embeddings_of([0.9] * 24, [90] * 24)
    view = make_view(**changes, embeddings=matrix, classifier=MarginsInTheFirstFeature())
    chosen = InformativeDiverseSampling(n_clusters=2).select_batch(view, 4, rng())
    assert chosen.tolist() == view.unlabelled[[0, 7, 6, 1]].tolist()


def test_informative_diverse_with_one_cluster_is_margin_sampling(make_view: MakeView) -> None:
    view = make_view()
    top2 = np.sort(view.probabilities(), axis=1)[:, -2:]
    by_margin = view.unlabelled[np.argsort(top2[:, 1] - top2[:, 0])[:9]]
    chosen = InformativeDiverseSampling(n_clusters=1).select_batch(view, 9, rng())
    assert chosen.tolist() == by_margin.tolist()


def test_informative_diverse_clusters_once_for_the_same_embeddings(
    make_view: MakeView, caplog: pytest.LogCaptureFixture
) -> None:
    strategy, view = InformativeDiverseSampling(), make_view()
    with caplog.at_level("INFO"):
        strategy.select_batch(view, 9, rng())
        rows = view.unlabelled
        targets = view.targets.copy()
        targets[rows[:3]] = 0
        labelled = np.concatenate([rows[:3], view.labelled])
        strategy.select_batch(make_view(labelled=labelled, unlabelled=rows[3:], targets=targets), 9, rng())
        assert caplog.text.count("done in") == 1
        changed = view.embeddings + np.float32(1)
        strategy.select_batch(make_view(embeddings=changed), 9, rng())
        assert caplog.text.count("done in") == 2


def best_partition(points: FloatArray, n: int) -> list[list[int]]:
    """The partition into n clusters with the least sum of squares, by trying all."""

    def sum_of_squares(labels: tuple[int, ...]) -> float:
        parts = [points[np.array(labels) == k].astype(float) for k in range(n)]
        return sum(float(((part - part.mean(axis=0)) ** 2).sum()) if len(part) else np.inf for part in parts)

    best = min(((0, *rest) for rest in product(range(n), repeat=len(points) - 1)), key=sum_of_squares)
    return [[i for i, label in enumerate(best) if label == k] for k in range(n)]


def test_margin_cluster_mean_equals_the_naive_reference(make_view: MakeView) -> None:
    for seed in range(3):
        # Three groups far apart, so that k-means cannot miss the best partition; three images of each are inside.
        data = rng(seed)
        points = data.normal(size=(20, 5)).astype(np.float32) + 50 * np.eye(5, dtype=np.float32)[np.arange(20) % 3 + 1]
        points[:, 0] = np.concatenate([data.permutation(9), 9 + data.permutation(11)]) / 20
        view = make_view(
            n_unlabelled=20, n_classes=2, unlabelled_embeddings=points, classifier=MarginsInTheFirstFeature()
        )
        inside = np.argsort(points[:, 0])[:9]  # 3 images asked for, 3 times as many inside
        expected = set()
        for part in best_partition(points[inside], 3):
            centre = points[inside][part].mean(axis=0)
            expected.add(min(inside[part].tolist(), key=lambda i: float(np.linalg.norm(points[i] - centre))))
        chosen = MarginClusterMeanSampling(slice_factor=3).select_batch(view, 3, rng(seed))
        assert set(chosen.tolist()) == set(view.unlabelled[sorted(expected)].tolist())


def test_margin_cluster_mean_worked_example(make_view: MakeView) -> None:
    # Two images wanted, so with a factor of 3 the six of least margin are inside; the last two, sure, are not.
    # On the line they stand at 0, 1, 5 (mean 2: the nearest is 1) and 100, 102, 103 (mean 101.67: the nearest is 102).
    margins = [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.9, 0.9]
    embeddings = embeddings_of(margins, [0, 1, 5, 100, 102, 103, 2, 101.5])
    view = make_view(
        n_unlabelled=8, n_classes=2, unlabelled_embeddings=embeddings, classifier=MarginsInTheFirstFeature()
    )
    chosen = MarginClusterMeanSampling(slice_factor=3).select_batch(view, 2, rng())
    assert set(chosen.tolist()) == set(view.unlabelled[[1, 4]].tolist())


def test_the_middle_of_the_largest_cluster_comes_first() -> None:
    places = np.array([[0], [50], [51], [52], [100], [101]], dtype=np.float32)
    assert choose_cluster_means(places, 3, rng()).tolist()[::2] == [2, 0]  # the two of the pair tie


def test_margin_cluster_mean_fills_up_at_random_and_says_so_when_images_are_copies(
    make_view: MakeView, caplog: pytest.LogCaptureFixture
) -> None:
    view = make_view(unlabelled_embeddings=np.resize(np.arange(10, dtype=np.float32), (40, 5)))
    with caplog.at_level("INFO"):
        chosen = MarginClusterMeanSampling().select_batch(view, 11, rng())
    assert len(set(chosen.tolist())) == 11
    assert "The strategy found 2 distinct useful images; the other 9 are drawn at random" in caplog.text


def test_cluster_rows_tells_groups_apart_and_gives_their_centres() -> None:
    places = np.array([0, 70, 1, 71, 2, 72, np.nan], dtype=np.float32)[:, np.newaxis]
    its_cluster, centres = cluster_rows(places, np.arange(6), 2, seed=0)
    assert len(set(its_cluster[::2].tolist())) == len(set(its_cluster[1::2].tolist())) == 1
    assert centres[its_cluster][:2, 0] == pytest.approx([1, 71], abs=1)


def test_clusters_of_a_large_pool_are_fitted_on_a_part_and_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(clusters, "FITTED_ROWS", 40)
    monkeypatch.setattr(clusters, "ROWS_PER_STEP", 7)
    points = rng().normal(size=(100, 3)).astype(np.float32)
    points[::2] += 90
    with caplog.at_level("INFO"):
        its_cluster, _ = cluster_rows(points, np.arange(100), 2, seed=0)
    assert "Clusters are fitted on 40 of 100 images" in caplog.text
    assert len(set(its_cluster[::2].tolist())) == len(set(its_cluster[1::2].tolist())) == 1
    assert its_cluster[0] != its_cluster[1]


def test_no_more_clusters_than_rows_are_made_and_none_is_empty() -> None:
    points = np.repeat(np.array([[1, 2], [3, 4]], dtype=np.float32), 5, axis=0)
    its_cluster, centres = cluster_rows(points, np.arange(10), 60, seed=0)
    assert sorted(set(its_cluster.tolist())) == list(range(len(centres)))


def test_bad_options_are_errors() -> None:
    with pytest.raises(ConfigError, match="n_clusters must be at least 1, or None for one per class; got 0"):
        InformativeDiverseSampling(n_clusters=0)
    for factor in (0.5, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match=f"slice_factor.*at least 1; got {factor}"):
            MarginClusterMeanSampling(slice_factor=factor)
