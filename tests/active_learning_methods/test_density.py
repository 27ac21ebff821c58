import logging
import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.cluster import KMeans

from camera_trap_al.active_learning_methods import GraphDensitySampling, PoolView, QueryStrategy, TypiClustSampling
from camera_trap_al.active_learning_methods import density as module
from camera_trap_al.active_learning_methods.density import choose_dense, choose_typical, neighbour_graph
from camera_trap_al.exceptions import ConfigError
from camera_trap_al.pools import FloatArray, IndexArray

MakeView = Callable[..., PoolView]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def naive_graph(points: FloatArray, k: int) -> dict[tuple[int, int], float]:
    """Ebert et al. 2012: each image joined with its k nearest by Manhattan distance, either way round."""
    distance = {
        (i, j): float(np.abs(a.astype(float) - b).sum()) for i, a in enumerate(points) for j, b in enumerate(points)
    }
    nearest = {
        (i, j): distance[i, j]
        for i in range(len(points))
        for j in sorted((j for j in range(len(points)) if j != i), key=lambda j: distance[i, j])[:k]
    }
    unit = np.mean(list(nearest.values()))
    return {edge: math.exp(-distance[edge] / unit) for pair in nearest for edge in (pair, pair[::-1])}


def naive_dense(view: PoolView, n: int, k: int) -> list[int]:
    pool = [*view.labelled.tolist(), *view.unlabelled.tolist()]
    graph = naive_graph(view.embeddings[pool], k)
    edges = {i: {b: weight for (a, b), weight in graph.items() if a == i} for i in range(len(pool))}
    at_first = {i: sum(edges[i].values()) / len(edges[i]) for i in edges}
    density = dict(at_first)
    for i in range(len(view.labelled)):
        for j in edges[i]:
            density[j] -= at_first[i]
    rest, chosen = list(range(len(view.labelled), len(pool))), []
    for _ in range(n):
        pick = max(rest, key=density.__getitem__)
        rest.remove(pick)
        chosen.append(pool[pick])
        for j in edges[pick]:
            density[j] -= max(density[pick], 0)
    return chosen


def same_neighbours(first: csr_array, second: csr_array) -> float:
    """Share of the edges of `first` that `second` has too."""
    return float((first.toarray().astype(bool) & second.toarray().astype(bool)).sum() / first.nnz)


class TestGraphDensity:
    @pytest.mark.parametrize("n_labelled", [0, 6])
    def test_graph_density_equals_the_naive_reference(self, make_view: MakeView, n_labelled: int) -> None:
        view = make_view(n_unlabelled=60, n_labelled=n_labelled)
        assert GraphDensitySampling().select_batch(view, 20, rng()).tolist() == naive_dense(view, 20, 10)

    def test_worked_example(self) -> None:
        # On a line at 0, 1, 3, 10, one neighbour each: 0-1, 1-0, 3-1, 10-3, at 1, 1, 2, 7; the mean is 2.75.
        line = np.array([[0], [1], [3], [10]], dtype=np.float32)
        graph = neighbour_graph(line, np.arange(4), 1, seed=0)
        w1, w2, w7 = (math.exp(-distance / 2.75) for distance in (1, 2, 7))  # 0.695, 0.483, 0.078
        expected = [[0, w1, 0, 0], [w1, 0, w2, 0], [0, w2, 0, w7], [0, 0, w7, 0]]
        np.testing.assert_allclose(graph.toarray(), expected, atol=1e-6)
        # Densities 0.695, 0.589, 0.281, 0.078. The image at 0 comes first and lowers that at 1 by 0.695 to -0.106, so 3
        # is next (0.281); it lowers 1 to -0.387 and 10 to -0.203; then 10, which lowers nothing, then 1.
        nobody = np.array([], dtype=np.int64)
        assert choose_dense(graph, nobody, np.arange(4), 4, rng()).tolist() == [0, 2, 3, 1]
        # A label at 0 does the same as choosing it.
        assert choose_dense(graph, np.array([0]), np.array([1, 2, 3]), 3, rng()).tolist() == [2, 3, 1]

    def test_the_order_of_the_labels_does_not_matter(self, make_view: MakeView) -> None:
        view = make_view()
        other = make_view(labelled=view.labelled[::-1].copy())
        first, second = (GraphDensitySampling().select_batch(each, 9, rng()) for each in (view, other))
        np.testing.assert_array_equal(first, second)

    def test_the_unit_of_the_embeddings_does_not_matter(self, make_view: MakeView) -> None:
        view = make_view()
        larger = make_view(embeddings=view.embeddings * 1000)
        first, second = (GraphDensitySampling().select_batch(each, 9, rng()) for each in (view, larger))
        np.testing.assert_array_equal(first, second)

    def test_the_graph_is_built_once_per_embedding(self, make_view: MakeView, caplog: pytest.LogCaptureFixture) -> None:
        strategy, view = GraphDensitySampling(), make_view()
        targets = view.targets.copy()
        targets[view.unlabelled[:5]] = 0
        later = make_view(
            labelled=np.append(view.labelled, view.unlabelled[:5]), unlabelled=view.unlabelled[5:], targets=targets
        )
        another_run = make_view(embeddings=view.embeddings + np.float32(0.1) * np.arange(5, dtype=np.float32) ** 2)
        with caplog.at_level(logging.INFO):
            for each, n_built in ((view, 1), (view, 1), (later, 1), (another_run, 2), (view, 3)):
                chosen = strategy.select_batch(each, 9, rng())
                assert caplog.text.count("Building the neighbour graph of 46 images: done") == n_built
                with caplog.at_level(logging.ERROR):
                    np.testing.assert_array_equal(chosen, GraphDensitySampling().select_batch(each, 9, rng()))

    def test_a_large_graph_is_nearly_the_exact_one(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        groups = rng(1).normal(size=(10, 12))[rng(2).integers(10, size=3000)]
        points = (groups + rng(3).normal(size=groups.shape) * 0.3).astype(np.float32)
        exact = neighbour_graph(points, np.arange(3000), 10, seed=0)
        monkeypatch.setattr(module, "EXACT_GRAPH_ROWS", 1000)
        with caplog.at_level(logging.INFO):
            found = neighbour_graph(points, np.arange(3000), 10, seed=0)
        assert "Neighbours of 3000 images are looked for in the 32 nearest cells each" in caplog.text
        assert same_neighbours(exact, found) > 0.95
        assert (found != found.T).nnz == 0

    def test_copies_that_fill_a_cell_are_still_joined(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "EXACT_GRAPH_ROWS", 100)
        monkeypatch.setattr(module, "MAX_SEARCHED", 120)
        points = np.concatenate([np.zeros((400, 4)), rng(1).normal(size=(200, 4)) + 5]).astype(np.float32)
        graph = neighbour_graph(points, np.arange(600), 10, seed=0)
        assert np.diff(graph.indptr).min() >= 10
        assert graph.diagonal().max() == 0
        assert graph[:400, 400:].nnz == 0
        np.testing.assert_allclose(graph[:400, :400].data, 1)

    def test_more_neighbours_than_images_are_all_images(self) -> None:
        graph = neighbour_graph(rng(1).normal(size=(4, 2)).astype(np.float32), np.arange(4), 10, seed=0)
        assert graph.nnz == 12


def replay_typical(
    points: FloatArray, clusters: IndexArray, is_labelled: np.ndarray, chosen: list[int], k: int
) -> None:
    """Hacohen et al. 2022: check choice by choice that the cluster and the image are right."""
    asked = set(np.flatnonzero(is_labelled).tolist())
    for pick in chosen:
        members = {c: np.flatnonzero(clusters == c).tolist() for c in set(clusters.tolist())}
        rank = {c: (len(asked & set(rows)), -len(rows)) for c, rows in members.items() if set(rows) - asked}
        cluster = int(clusters[pick])
        assert rank[cluster] == min(rank.values())

        def mean_distance(row: int, rows: list[int] = members[cluster]) -> float:
            near = sorted(math.dist(points[row], points[other]) for other in rows if other != row)[:k]
            return sum(near) / len(near) if near else 0.0

        left = [row for row in members[cluster] if row not in asked]
        assert mean_distance(pick) == pytest.approx(min(map(mean_distance, left)), abs=1e-5)
        asked.add(pick)


class TestTypiClust:
    @pytest.mark.parametrize("n_labelled", [0, 6])
    def test_typiclust_equals_the_naive_reference(self, make_view: MakeView, n_labelled: int) -> None:
        view = make_view(n_unlabelled=120, n_labelled=n_labelled)
        for n, max_clusters in ((8, 500), (30, 5)):
            pool = np.concatenate([view.labelled, view.unlabelled])
            seed, n_clusters = int(rng().integers(2**31)), min(n_labelled + n, max_clusters)
            clusters = KMeans(n_clusters, n_init=1, random_state=seed).fit_predict(view.embeddings[pool])
            strategy = TypiClustSampling(max_clusters=max_clusters, n_neighbours=7)
            positions = [pool.tolist().index(row) for row in strategy.select_batch(view, n, rng())]
            replay_typical(view.embeddings[pool], clusters, np.arange(len(pool)) < n_labelled, positions, 7)

    def test_worked_example(self) -> None:
        # Three groups on a line; the last one has a label. Mean distance to the others of the group:
        #   0, 1, 2, 3, 4:    2.5  1.75  1.5  1.75  2.5
        #   100, 101, 103:    2    1.5   2.5
        #   200 (label), 201, 202.5, 204: 2.5, 1.83, 1.83, 2.5
        line = np.array([0, 1, 2, 3, 4, 100, 101, 103, 200, 201, 202.5, 204.0], dtype=np.float32)[:, None]
        clusters = np.array([0] * 5 + [1] * 3 + [2] * 4)
        is_labelled = np.arange(12) == 8
        chosen = choose_typical(line, np.arange(12), clusters, is_labelled, 6, rng()).tolist()
        # Groups without a label by size, then all again by size (5, 4, 3), and then the largest has its third turn.
        assert chosen[:2] == [2, 6]
        assert {chosen[2], chosen[5]} == {1, 3}
        assert chosen[3] in {9, 10}
        assert chosen[4] == 5

    def test_clusters_of_separate_groups_are_the_groups(self) -> None:
        # The line above, through k-means: one label and two images to ask about make three clusters.
        line = np.array([0, 1, 2, 3, 4, 100, 101, 103, 200, 201, 202.5, 204.0], dtype=np.float32)[:, None]
        targets = np.where(np.arange(12) == 8, 0, -1)
        view = PoolView(
            embeddings=line,
            targets=targets,
            labelled=np.array([8]),
            unlabelled=np.flatnonzero(targets == -1),
            classes=("a",),
            classifier=None,  # type: ignore[arg-type]  # it is never asked
        )
        assert TypiClustSampling().select_batch(view, 2, rng()).tolist() == [2, 6]

    def test_goes_round_until_every_image_of_every_cluster_was_chosen(self) -> None:
        points, clusters = rng(1).normal(size=(30, 3)).astype(np.float32), np.repeat([0, 1, 2], [4, 25, 1])
        chosen = choose_typical(points, np.arange(30), clusters, np.zeros(30, bool), 30, rng())
        assert sorted(chosen.tolist()) == list(range(30))
        assert sorted(clusters[chosen[:3]].tolist()) == [0, 1, 2]

    def test_a_large_pool_is_clustered_in_batches_and_sampled(
        self, monkeypatch: pytest.MonkeyPatch, make_view: MakeView, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(module, "EXACT_CLUSTERING_ROWS", 100)
        monkeypatch.setattr(module, "MAX_SEARCHED", 50)
        view = make_view(n_unlabelled=600)
        with caplog.at_level(logging.INFO):
            chosen = TypiClustSampling(max_clusters=4).select_batch(view, 500, rng())
        assert len(set(chosen.tolist())) == 500
        assert "Clustering 606 images into 4 clusters" in caplog.text
        assert "50 of the" in caplog.text


@pytest.mark.parametrize(
    ("strategy", "option"),
    [
        (GraphDensitySampling, "n_neighbours"),
        (TypiClustSampling, "n_neighbours"),
        (TypiClustSampling, "max_clusters"),
    ],
)
def test_options_below_one_are_an_error(strategy: Callable[..., QueryStrategy], option: str) -> None:
    with pytest.raises(ConfigError, match=f"{option} must be at least 1; got 0"):
        strategy(**{option: 0})
