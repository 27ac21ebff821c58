from collections.abc import Callable

import numpy as np
import pytest

from camera_trap_al.active_learning_methods import (
    ConfidenceSampling,
    EntropySampling,
    MarginSampling,
    PoolView,
    ScoreSampling,
    TailFirstSampling,
)
from camera_trap_al.active_learning_methods.uncertainty import choose_tail_first
from camera_trap_al.pools import UNLABELLED, FloatArray

# Three images, worked by hand: torn between two classes; lost between three; sure.
PROBABILITIES = np.array([[0.5, 0.5, 0.0, 0.0], [0.4, 0.3, 0.3, 0.0], [1.0, 0.0, 0.0, 0.0]], dtype=np.float32)


class Given:
    def probabilities(self, embeddings: FloatArray) -> FloatArray:
        return PROBABILITIES


@pytest.mark.parametrize(
    ("strategy", "scores"),
    [
        (MarginSampling(), [0.0, -0.1, -1.0]),
        (EntropySampling(), [np.log(2), -0.4 * np.log(0.4) - 0.6 * np.log(0.3), 0.0]),
        (ConfidenceSampling(), [-0.5, -0.4, -1.0]),
    ],
)
def test_scores_of_the_worked_example(
    make_view: Callable[..., PoolView], strategy: ScoreSampling, scores: list[float]
) -> None:
    view = make_view(n_unlabelled=3, classifier=Given())
    np.testing.assert_allclose(strategy.score(view), scores, atol=1e-6)


def test_margin_asks_first_about_the_torn_image_and_the_others_about_the_lost_one(
    make_view: Callable[..., PoolView],
) -> None:
    view = make_view(n_unlabelled=3, classifier=Given())
    torn, lost, _ = view.unlabelled.tolist()
    first = {s: s().select_batch(view, 1, np.random.default_rng(0))[0] for s in (MarginSampling, EntropySampling)}
    assert first == {MarginSampling: torn, EntropySampling: lost}
    assert ConfidenceSampling().select_batch(view, 1, np.random.default_rng(0)).tolist() == [lost]


def naive_tail_first(predicted: list[int], uncertainty: list[float], labels: list[int], n: int) -> list[int]:
    """Wang et al. 2025, one image after the other; a chosen image counts as a label of its predicted class."""
    counts, left, chosen = list(labels), set(range(len(predicted))), []
    for _ in range(n):
        fewest = min(counts[predicted[i]] for i in left)
        best = max((i for i in left if counts[predicted[i]] == fewest), key=lambda i: uncertainty[i])
        left.remove(best)
        counts[predicted[best]] += 1
        chosen.append(best)
    return chosen


def test_tail_first_equals_the_naive_reference() -> None:
    rng = np.random.default_rng(0)
    for n_classes in (1, 2, 5):
        predicted = rng.integers(n_classes, size=60)
        uncertainty = rng.permutation(60).astype(np.float32)  # no ties
        labels = rng.integers(0, 12, size=n_classes)
        chosen = choose_tail_first(predicted, uncertainty, labels, 45, rng).tolist()
        assert chosen == naive_tail_first(predicted.tolist(), uncertainty.tolist(), labels.tolist(), 45)


def test_tail_first_seeks_the_rare_class_until_it_is_level(make_view: Callable[..., PoolView]) -> None:
    # Class 0 has 3 labels, class 1 has 1. The rows 0..3 of the pool look like class 0, the rows 4..7 like class 1, each
    # less sure than the one before: two of class 1 make it level (3 : 3), then both take turns, the less sure first.
    logits = np.zeros((8, 5), dtype=np.float32)
    logits[range(8), [0] * 4 + [1] * 4] = [4, 3, 2, 1.5, 4, 3, 2, 1]
    targets = np.full(19, UNLABELLED)
    view = make_view(n_unlabelled=8, n_labelled=4, n_classes=2)
    targets[view.labelled] = [0, 0, 0, 1]
    view = make_view(n_unlabelled=8, n_labelled=4, n_classes=2, unlabelled_embeddings=logits, targets=targets)
    chosen = TailFirstSampling().select_batch(view, 5, np.random.default_rng(0))
    assert chosen.tolist() == view.unlabelled[[7, 6, 3, 5, 2]].tolist()
