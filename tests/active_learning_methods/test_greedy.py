from collections.abc import Callable

import numpy as np
from scipy.spatial.distance import cdist

from camera_trap_al.active_learning_methods import PoolView
from camera_trap_al.active_learning_methods.greedy import choose_by_coverage, choose_centres

MakeView = Callable[..., PoolView]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


class TestChooseCentres:
    def test_worked_example(self) -> None:
        # On a line, a label at 0. Farthest: 10. Now 4 is 4 from 0, 7 is 3 from 10, 1 is 1 from 0: 4, then 7, then 1.
        line = np.array([[0], [1], [4], [7], [10]], dtype=np.float32)
        assert choose_centres(line, np.array([0]), np.array([1, 2, 3, 4]), 4, rng()).tolist() == [3, 1, 2, 0]

    def test_equals_all_distances_when_they_are_made_in_blocks(self) -> None:
        points = rng(1).normal(size=(6000, 8)).astype(np.float32)
        labelled, unlabelled = np.arange(1500), np.arange(1500, 6000)  # several blocks either way
        least = cdist(points[unlabelled], points[labelled]).min(axis=1)
        expected = []
        for _ in range(10):
            expected.append(int(least.argmax()))
            least = np.minimum(least, cdist(points[unlabelled], points[unlabelled[expected[-1:]]])[:, 0])
        assert choose_centres(points, labelled, unlabelled, 10, rng()).tolist() == expected

    def test_far_from_the_origin_the_same_images_are_chosen(self) -> None:
        points = rng(2).normal(size=(200, 5)).astype(np.float32)
        labelled, unlabelled = np.arange(5), np.arange(5, 200)
        near = choose_centres(points, labelled, unlabelled, 15, rng())
        np.testing.assert_array_equal(choose_centres(points + 50, labelled, unlabelled, 15, rng()), near)


class TestChooseByCoverage:
    def test_lazy_evaluation_equals_the_naive_reference_on_more_images(self, make_view: MakeView) -> None:
        view = make_view(n_unlabelled=1500)
        kernel = np.exp(-(cdist(view.embeddings[view.unlabelled], view.embeddings[view.unlabelled]) ** 2) / 2)
        covered = np.exp(-(cdist(view.embeddings[view.unlabelled], view.embeddings[view.labelled]) ** 2) / 2).max(
            axis=1
        )
        expected = []
        for _ in range(40):
            expected.append(int(np.maximum(kernel - covered, 0).sum(axis=1).argmax()))
            covered = np.maximum(covered, kernel[expected[-1]])
        found = choose_by_coverage(view.embeddings, view.labelled, view.unlabelled, 40, rng(), radius=1.0)
        assert found.tolist() == expected

    def test_worked_example(self) -> None:
        # On a line: five images around 0, three around 20, one at 50. A radius of 1 sees no group from another.
        line = np.array([[-1], [-0.5], [0], [0.5], [1], [19.5], [20], [20.5], [50]], dtype=np.float32)
        nobody, everybody = np.array([], dtype=np.int64), np.arange(9)
        found = choose_by_coverage(line, nobody, everybody, 3, rng(), radius=1.0)
        assert found.tolist() == [2, 6, 8]  # the middle of the largest group, of the next, then the lonely one
        # A label in the middle of the first group leaves less to win there than in the group of three.
        found = choose_by_coverage(line, np.array([2]), np.setdiff1d(everybody, [2]), 2, rng(), radius=1.0)
        assert np.setdiff1d(everybody, [2])[found].tolist() == [6, 8]
