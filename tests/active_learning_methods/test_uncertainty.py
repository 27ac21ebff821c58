from collections.abc import Callable

import numpy as np
import pytest

from camera_trap_al.active_learning_methods import (
    ConfidenceSampling,
    EntropySampling,
    MarginSampling,
    PoolView,
    ScoreSampling,
)
from camera_trap_al.pools import FloatArray

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
