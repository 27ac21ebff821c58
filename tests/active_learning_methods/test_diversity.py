from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from camera_trap_al.active_learning_methods import BadgeSampling, PoolView, UniformSampling
from camera_trap_al.active_learning_methods.diversity import choose_by_gradients
from camera_trap_al.pools import FloatArray


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


def naive_badge(probabilities: FloatArray, embeddings: FloatArray, n: int, rng: np.random.Generator) -> list[int]:
    """Algorithm 1 of Ash et al. 2020 with the whole gradient matrix; the longest gradient comes first."""
    gradients = []
    for p, x in zip(probabilities.astype(float), embeddings.astype(float), strict=True):
        one_hot = np.eye(len(p))[p.argmax()]
        gradients.append(np.outer(p - one_hot, x).ravel())
    lengths = [np.linalg.norm(g) for g in gradients]
    chosen = [int(rng.choice([i for i, length in enumerate(lengths) if length == max(lengths)]))]
    while len(chosen) < n:
        squared = np.array([min(np.sum((g - gradients[c]) ** 2) for c in chosen) for g in gradients])
        chosen.append(int(rng.choice(len(gradients), p=squared / squared.sum())))
    return chosen


@pytest.mark.parametrize("seed", range(5))
def test_badge_equals_the_naive_reference(seed: int) -> None:
    data = np.random.default_rng(seed)
    probabilities = data.dirichlet([0.5] * 4, size=60).astype(np.float32)
    embeddings = data.random((60, 7), dtype=np.float32)
    expected = naive_badge(probabilities, embeddings, 20, np.random.default_rng(seed))
    assert choose_by_gradients(probabilities, embeddings, 20, np.random.default_rng(seed)).tolist() == expected


def test_badge_begins_with_the_longest_gradient_and_draws_by_squared_distance() -> None:
    # Two classes, x of length 1 along two axes. p = (0.5, 0.5): g has the squared length 2 * 0.5^2 = 0.5;
    # p = (0.9, 0.1): 2 * 0.1^2 = 0.02; p = (1, 0): 0. From the first image the others are 0.5 + 0.02 (other axis)
    # and 0.5 away: the second image is drawn with probability 0.52 / 1.02.
    probabilities = np.array([[0.5, 0.5], [0.9, 0.1], [1, 0]], dtype=np.float32)
    embeddings = np.array([[1, 0], [0, 1], [1, 0]], dtype=np.float32)
    rng = np.random.default_rng(0)
    draws = [choose_by_gradients(probabilities, embeddings, 2, rng).tolist() for _ in range(4000)]
    assert {first for first, _ in draws} == {0}
    share = sum(second == 1 for _, second in draws) / 4000
    assert abs(share - 0.52 / 1.02) < 5 * 0.008  # standard deviation sqrt(0.25 / 4000) = 0.008


def test_badge_finds_no_more_than_the_distinct_gradients() -> None:
    probabilities = np.repeat(np.array([[0.6, 0.4], [0.5, 0.5], [1, 0]], dtype=np.float32), 10, axis=0)
    embeddings = np.repeat(np.random.default_rng(0).normal(size=(3, 256)).astype(np.float32), 10, axis=0)
    for seed in range(20):
        chosen = choose_by_gradients(probabilities, embeddings, 8, np.random.default_rng(seed))
        assert sorted(chosen // 10) == [0, 1, 2]


def test_badge_fills_up_at_random_and_says_so_when_the_classifier_is_certain(
    make_view: Callable[..., PoolView], caplog: pytest.LogCaptureFixture
) -> None:
    view = make_view(n_classes=1)
    with caplog.at_level("INFO"):
        chosen = BadgeSampling().select_batch(view, 9, np.random.default_rng(0))
    assert len(set(chosen.tolist())) == 9
    assert "The strategy found 0 distinct useful images; the other 9 are drawn at random" in caplog.text
