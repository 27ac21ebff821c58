"""What every strategy promises (DESIGN.md 7), checked for all of them."""

import math
import random
from collections.abc import Callable

import numpy as np
import pytest

from camera_trap_al.active_learning_methods import STRATEGIES, PoolView, QueryStrategy
from camera_trap_al.classifier import EmbeddingClassifier
from camera_trap_al.exceptions import ConfigError, EmptyPoolError

# What makes one image worth asking about, written down from the papers for a single list of probabilities.
NAIVE_SCORES: dict[str, Callable[[list[float]], float]] = {
    "uniform": lambda p: 0.0,
    "margin": lambda p: -(sorted(p)[-1] - (sorted(p)[-2] if len(p) > 1 else 0.0)),
    "entropy": lambda p: -sum(q * math.log(q) for q in p if q > 0),
    "confidence": lambda p: 1 - max(p),
}

MakeView = Callable[..., PoolView]


@pytest.fixture(params=STRATEGIES, ids=str)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def strategy(name: str) -> QueryStrategy:
    return STRATEGIES[name]()


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def assert_good_choice(chosen: np.ndarray, view: PoolView, n: int) -> None:
    assert chosen.dtype == np.int64
    assert chosen.shape == (min(n, len(view.unlabelled)),)
    assert len(set(chosen.tolist())) == len(chosen)
    assert set(chosen.tolist()) <= set(view.unlabelled.tolist())


@pytest.mark.parametrize("n", [1, 2, 17, 39])
def test_chooses_n_distinct_unlabelled_rows(strategy: QueryStrategy, make_view: MakeView, n: int) -> None:
    view = make_view()
    assert_good_choice(strategy.select_batch(view, n, rng()), view, n)


@pytest.mark.parametrize("n", [40, 41, 10_000])
def test_chooses_the_whole_pool_when_asked_for_as_much_or_more(
    strategy: QueryStrategy, make_view: MakeView, n: int
) -> None:
    view = make_view(n_unlabelled=40)
    assert sorted(strategy.select_batch(view, n, rng()).tolist()) == sorted(view.unlabelled.tolist())


def test_an_empty_pool_is_an_error(strategy: QueryStrategy, make_view: MakeView) -> None:
    with pytest.raises(EmptyPoolError, match="nothing left to ask"):
        strategy.select_batch(make_view(n_unlabelled=0), 5, rng())


@pytest.mark.parametrize("n", [0, -3])
def test_asking_for_less_than_one_image_is_an_error(strategy: QueryStrategy, make_view: MakeView, n: int) -> None:
    with pytest.raises(ConfigError, match=f"at least 1; got {n}"):
        strategy.select_batch(make_view(), n, rng())


def test_the_same_generator_state_gives_the_same_rows(strategy: QueryStrategy, make_view: MakeView) -> None:
    first = strategy.select_batch(make_view(), 9, rng(3))
    np.testing.assert_array_equal(strategy.select_batch(make_view(), 9, rng(3)), first)
    np.testing.assert_array_equal(type(strategy)().select_batch(make_view(), 9, rng(3)), first)


def test_global_generators_are_untouched(strategy: QueryStrategy, make_view: MakeView) -> None:
    view = make_view()
    before_numpy, before_python = np.random.get_state(), random.getstate()  # noqa: NPY002  the state is the point
    strategy.select_batch(view, 9, rng())
    after_numpy = np.random.get_state()  # noqa: NPY002
    assert [str(part) for part in after_numpy] == [str(part) for part in before_numpy]
    assert random.getstate() == before_python


def test_the_arrays_of_the_view_are_unchanged(strategy: QueryStrategy, make_view: MakeView) -> None:
    view = make_view()
    names = ("embeddings", "targets", "labelled", "unlabelled")
    before = {name: getattr(view, name).copy() for name in names} | {"probabilities": view.probabilities().copy()}
    chosen = strategy.select_batch(view, 9, rng())
    everything = strategy.select_batch(view, 40, rng())
    chosen[:], everything[:] = -5, -5
    for name in names:
        np.testing.assert_array_equal(getattr(view, name), before[name])
    np.testing.assert_array_equal(view.probabilities(), before["probabilities"])


def test_one_unlabelled_image_is_chosen(strategy: QueryStrategy, make_view: MakeView) -> None:
    view = make_view(n_unlabelled=1)
    assert strategy.select_batch(view, 1, rng()).tolist() == view.unlabelled.tolist()


def test_duplicate_embeddings_work(strategy: QueryStrategy, make_view: MakeView) -> None:
    view = make_view(unlabelled_embeddings=np.resize(np.arange(10, dtype=np.float32), (40, 5)))
    assert_good_choice(strategy.select_batch(view, 11, rng()), view, 11)


@pytest.mark.parametrize("labelled_classes", [[1, 3], [2]], ids=["two of four", "one of four"])
def test_classes_without_a_label_work(
    strategy: QueryStrategy, make_view: MakeView, labelled_classes: list[int]
) -> None:
    view = make_view(labelled_classes=labelled_classes)
    assert view.probabilities()[:, 0].max() == 0
    assert_good_choice(strategy.select_batch(view, 11, rng()), view, 11)


@pytest.mark.parametrize("labelled_classes", [[0, 1, 2, 3], [1, 3], [2]], ids=["all", "two", "one"])
def test_works_with_the_classifier_of_a_run(
    strategy: QueryStrategy, make_view: MakeView, labelled_classes: list[int]
) -> None:
    view = make_view(labelled_classes=labelled_classes, n_labelled=12)
    classifier = EmbeddingClassifier("mlp", {"max_iter": 5}, seed=0, n_classes=4)
    classifier.fit(view.embeddings[view.labelled], view.targets[view.labelled], progress=False)
    view = make_view(labelled_classes=labelled_classes, n_labelled=12, classifier=classifier)
    assert_good_choice(strategy.select_batch(view, 11, rng()), view, 11)


def test_a_single_class_works(strategy: QueryStrategy, make_view: MakeView) -> None:
    view = make_view(n_classes=1)
    assert_good_choice(strategy.select_batch(view, 11, rng()), view, 11)


def test_nothing_labelled_yet_works(strategy: QueryStrategy, make_view: MakeView) -> None:
    view = make_view(n_labelled=0)
    assert_good_choice(strategy.select_batch(view, 11, rng()), view, 11)


def test_ties_are_broken_by_the_generator(strategy: QueryStrategy, make_view: MakeView) -> None:
    # Logits that differ by under 2e-7 give scores that differ by under 1e-6: every row must have its turn.
    jitter = np.random.default_rng(0).uniform(-1e-7, 1e-7, (40, 5)).astype(np.float32)
    view = make_view(unlabelled_embeddings=np.array([0.3, 0.1, 0, -0.2, 0], dtype=np.float32) + jitter)
    seen = {row for seed in range(60) for row in strategy.select_batch(view, 5, rng(seed)).tolist()}
    assert seen == set(view.unlabelled.tolist())  # a row is missed in 60 draws of 1/8 with probability 0.0003


def test_equals_the_naive_reference(name: str, strategy: QueryStrategy, make_view: MakeView) -> None:
    for n_classes, labelled_classes in ((4, [0, 1, 2, 3]), (4, [0, 3]), (2, [0, 1]), (1, [0])):
        view = make_view(n_classes=n_classes, labelled_classes=labelled_classes)
        each = zip(view.unlabelled.tolist(), view.probabilities().tolist(), strict=True)
        worth = {row: NAIVE_SCORES[name](probabilities) for row, probabilities in each}
        chosen = strategy.select_batch(view, 13, rng()).tolist()
        best = sorted(worth.values(), reverse=True)[:13]
        assert [worth[row] for row in chosen] == pytest.approx(best, abs=2e-6)


def test_every_strategy_has_a_reference_here() -> None:
    assert set(NAIVE_SCORES) == set(STRATEGIES)
