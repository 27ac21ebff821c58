from collections import Counter
from collections.abc import Callable

import numpy as np

from camera_trap_al.active_learning_methods import PoolView, UniformSampling


def test_uniform_chooses_each_image_equally_often(make_view: Callable[..., PoolView]) -> None:
    view, rng = make_view(n_unlabelled=20), np.random.default_rng(0)
    counts = Counter(row for _ in range(4000) for row in UniformSampling().select_batch(view, 5, rng).tolist())
    # Expected 1000 each, standard deviation sqrt(4000 * 1/4 * 3/4) = 27; five of those either way.
    assert len(counts) == 20
    assert max(abs(count - 1000) for count in counts.values()) < 5 * 27


def test_uniform_never_asks_the_classifier(make_view: Callable[..., PoolView]) -> None:
    view = make_view()
    UniformSampling().select_batch(view, 5, np.random.default_rng(0))
    assert view.classifier.n_calls == 0
