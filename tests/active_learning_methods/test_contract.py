"""What every strategy promises (DESIGN.md 7), checked for all of them."""

import math
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from camera_trap_al.active_learning_methods import STRATEGIES, PoolView, QueryStrategy, ScoreSampling, UniformSampling
from camera_trap_al.active_learning_methods.contract import CONTRACT, check_strategy
from camera_trap_al.classifier import EmbeddingClassifier
from camera_trap_al.exceptions import ConfigError
from camera_trap_al.pools import FloatArray, IndexArray

# What makes one image worth asking about, written down from the papers for a single list of probabilities.
NAIVE_SCORES: dict[str, Callable[[list[float]], float]] = {
    "uniform": lambda p: 0.0,
    "margin": lambda p: -(sorted(p)[-1] - (sorted(p)[-2] if len(p) > 1 else 0.0)),
    "entropy": lambda p: -sum(q * math.log(q) for q in p if q > 0),
    "confidence": lambda p: 1 - max(p),
}

# Strategies that do not score each image by itself: which test file compares them with their paper.
REFERENCE_ELSEWHERE = {
    "kcenter": "test_coverage.py",
    "max_herding": "test_coverage.py",
    "uncertainty_herding": "test_coverage.py",
    "tail_herding": "test_coverage.py",
    "auto": "test_coverage.py",
    "graph_density": "test_density.py",
    "typiclust": "test_density.py",
    "tail_first": "test_uncertainty.py",
    "badge": "test_diversity.py",
    "informative_diverse": "test_clusters.py",
    "margin_cluster_mean": "test_clusters.py",
    "hierarchical": "test_hierarchical.py",
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


@pytest.mark.parametrize("promise", CONTRACT)
def test_keeps_the_promise(strategy: QueryStrategy, promise: str) -> None:
    assert list(CONTRACT[promise](strategy)) == []


def test_another_instance_chooses_the_same_rows(strategy: QueryStrategy, make_view: MakeView) -> None:
    strategy.select_batch(make_view(), 9, rng(2))  # whatever is kept from here must not show
    first = strategy.select_batch(make_view(), 9, rng(3))
    np.testing.assert_array_equal(type(strategy)().select_batch(make_view(), 9, rng(3)), first)


@pytest.mark.parametrize("labelled_classes", [[0, 1, 2, 3], [1, 3], [2]], ids=["all", "two", "one"])
def test_works_with_the_classifier_of_a_run(
    strategy: QueryStrategy, make_view: MakeView, labelled_classes: list[int]
) -> None:
    view = make_view(labelled_classes=labelled_classes, n_labelled=12)
    classifier = EmbeddingClassifier("mlp", {"max_iter": 5}, seed=0, n_classes=4)
    classifier.fit(view.embeddings[view.labelled], view.targets[view.labelled], progress=False)
    view = make_view(labelled_classes=labelled_classes, n_labelled=12, classifier=classifier)
    assert_good_choice(strategy.select_batch(view, 11, rng()), view, 11)


@pytest.mark.parametrize("name", NAIVE_SCORES)
def test_equals_the_naive_reference(name: str, strategy: QueryStrategy, make_view: MakeView) -> None:
    for n_classes, labelled_classes in ((4, [0, 1, 2, 3]), (4, [0, 3]), (2, [0, 1]), (1, [0])):
        view = make_view(n_classes=n_classes, labelled_classes=labelled_classes)
        each = zip(view.unlabelled.tolist(), view.probabilities().tolist(), strict=True)
        worth = {row: NAIVE_SCORES[name](probabilities) for row, probabilities in each}
        chosen = strategy.select_batch(view, 13, rng()).tolist()
        best = sorted(worth.values(), reverse=True)[:13]
        assert [worth[row] for row in chosen] == pytest.approx(best, abs=2e-6)


def test_every_strategy_has_a_reference() -> None:
    assert set(NAIVE_SCORES) | set(REFERENCE_ELSEWHERE) == set(STRATEGIES)
    for name, file in REFERENCE_ELSEWHERE.items():
        assert f"def test_{name}_equals_the_naive_reference" in Path(__file__).with_name(file).read_text()


class Uniform(UniformSampling):
    """A strategy of a user that keeps every promise; the ones below break one each."""


class PositionsInsteadOfRows(Uniform):
    def select_batch(self, view: PoolView, n: int, rng: np.random.Generator) -> IndexArray:
        return np.arange(len(super().select_batch(view, n, rng)))


class StopsShortOfThePool(Uniform):
    def select_batch(self, view: PoolView, n: int, rng: np.random.Generator) -> IndexArray:
        return super().select_batch(view, n, rng)[: max(39, n % 40)]


class AcceptsAnything(Uniform):
    def select_batch(self, view: PoolView, n: int, rng: np.random.Generator) -> IndexArray:
        return super().select_batch(view, max(n, 1), rng)


class Remembers(Uniform):
    def __init__(self) -> None:
        self.n_calls = 0

    def choose(self, view: PoolView, n: int, rng: np.random.Generator) -> IndexArray:
        self.n_calls += 1
        return np.roll(super().choose(view, n, rng), self.n_calls)


class DrawsGlobally(Uniform):
    def choose(self, view: PoolView, n: int, rng: np.random.Generator) -> IndexArray:
        random.random()
        return super().choose(view, n, rng)


class WritesToTheView(Uniform):
    def choose(self, view: PoolView, n: int, rng: np.random.Generator) -> IndexArray:
        view.embeddings[view.unlabelled[0]] += 1
        return super().choose(view, n, rng)


class NeedsTwoLabelledClasses(Uniform):
    def choose(self, view: PoolView, n: int, rng: np.random.Generator) -> IndexArray:
        if len(set(view.targets[view.labelled].tolist())) == 1:
            raise ZeroDivisionError("one class")
        return super().choose(view, n, rng)


class NeedsSortedRows(Uniform):
    def choose(self, view: PoolView, n: int, rng: np.random.Generator) -> IndexArray:
        is_falling = len(view.unlabelled) > 20 and (np.diff(view.unlabelled) < 0).all()
        return view.labelled[:n] if is_falling else super().choose(view, n, rng)


class FirstOfEquals(ScoreSampling):
    def score(self, view: PoolView) -> FloatArray:
        return np.arange(len(view.unlabelled), dtype=np.float32)


def test_a_strategy_of_a_user_can_be_checked() -> None:
    check_strategy(Uniform())


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (PositionsInsteadOfRows(), r"\(1\).*distinct rows of view.unlabelled; got"),
        (StopsShortOfThePool(), r"\(2\).*n = 40 must give 40 row numbers"),
        (AcceptsAnything(), r"\(3\).*n = -3 raises no ConfigError"),
        (Remembers(), r"\(4\).*gave rows"),
        (DrawsGlobally(), r"\(4\).*global random generator"),
        (WritesToTheView(), r"\(5\).*view.embeddings has changed"),
        (NeedsTwoLabelledClasses(), r"\(6\).*it raised ZeroDivisionError: one class"),
        (NeedsSortedRows(), r"\(7\).*NeedsSortedRows.choose must return"),
        (FirstOfEquals(), r"\(8\).*only 5 were ever chosen"),
        (UniformSampling, "must be an instance of a subclass of QueryStrategy"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, QueryStrategy) else "",
)
def test_the_promise_that_a_strategy_breaks_is_named(strategy: QueryStrategy, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_strategy(strategy)
