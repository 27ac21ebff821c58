import logging
import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.spatial.distance import cdist

from camera_trap_al.active_learning_methods import (
    AutoSampling,
    KCenterSampling,
    MaxHerdingSampling,
    PoolView,
    QueryStrategy,
    TailHerdingSampling,
    UncertaintyHerdingSampling,
)
from camera_trap_al.active_learning_methods.coverage import calibrated_temperature, rarity, tempered_uncertainty
from camera_trap_al.active_learning_methods.greedy import choose_by_coverage
from camera_trap_al.exceptions import ConfigError
from camera_trap_al.pools import FloatArray, IndexArray

MakeView = Callable[..., PoolView]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def naive_centres(embeddings: FloatArray, labelled: IndexArray, unlabelled: IndexArray, n: int) -> list[int]:
    """Sener & Savarese 2018, algorithm 1: u = argmax over unlabelled of the least distance to a centre."""
    centres, chosen = labelled.tolist(), []
    for _ in range(n):
        rest = [row for row in unlabelled.tolist() if row not in centres]
        far = [min(math.dist(embeddings[row], embeddings[centre]) for centre in centres) for row in rest]
        chosen.append(rest[int(np.argmax(far))])
        centres.append(chosen[-1])
    return chosen


def assert_each_covers_most(view: PoolView, rows: IndexArray, radius: float, weights: FloatArray | None = None) -> None:
    """Bae et al. 2024 and 2025: each image gives the highest weighted coverage of the pool, counted from the start.

    Two images that are near each other only tie exactly, so that there can be several right answers.
    """
    weights = np.ones(len(view.unlabelled)) if weights is None else weights
    embeddings = view.embeddings.astype(np.float64)
    kernel = np.exp(-(cdist(embeddings, embeddings) ** 2) / (2 * radius**2))
    covering = view.labelled.tolist()
    for row in rows.tolist():
        rest = np.setdiff1d(view.unlabelled, covering).tolist()
        sums = {row: weights @ kernel[np.ix_(view.unlabelled, [*covering, row])].max(axis=1) for row in rest}
        assert sums[row] == pytest.approx(max(sums.values()), rel=1e-5)
        covering.append(row)


def naive_radius(embeddings: FloatArray) -> float:
    pairs = [math.dist(a, b) for i, a in enumerate(embeddings) for b in embeddings[:i]]
    return float(np.median(pairs)) / math.sqrt(2)


def nearest_labels(view: PoolView) -> tuple[list[float], list[int]]:
    """Distance from each label to the nearest other one, and which that is."""
    found = []
    for row in view.labelled:
        others = [(math.dist(view.embeddings[row], view.embeddings[other]), other) for other in view.labelled]
        found.append(min(pair for pair in others if pair[1] != row))
    return [distance for distance, _ in found], [other for _, other in found]


class TestKCenter:
    def test_kcenter_equals_the_naive_reference(self, make_view: MakeView) -> None:
        for n_labelled in (1, 6, 25):
            view = make_view(n_labelled=n_labelled)
            expected = naive_centres(view.embeddings, view.labelled, view.unlabelled, 20)
            assert KCenterSampling().select_batch(view, 20, rng()).tolist() == expected

    def test_copies_are_filled_up_at_random_and_that_is_said(
        self, make_view: MakeView, caplog: pytest.LogCaptureFixture
    ) -> None:
        three_kinds = np.resize(np.eye(3, 5, dtype=np.float32) * 9, (40, 5))
        view = make_view(unlabelled_embeddings=three_kinds)
        with caplog.at_level(logging.INFO):
            chosen = KCenterSampling().select_batch(view, 10, rng())
        assert len({tuple(row) for row in view.embeddings[chosen[:3]].tolist()}) == 3
        assert "The strategy found 3 distinct useful images; the other 7 are drawn at random" in caplog.text

    def test_without_a_label_the_first_image_is_drawn_at_random(self, make_view: MakeView) -> None:
        view = make_view(n_labelled=0)
        assert len({KCenterSampling().select_batch(view, 1, rng(seed))[0] for seed in range(40)}) > 20


class TestMaxHerding:
    def test_max_herding_equals_the_naive_reference(self, make_view: MakeView) -> None:
        for n_labelled in (0, 6):
            view = make_view(n_unlabelled=60, n_labelled=n_labelled)
            pool = view.embeddings[np.concatenate([view.labelled, view.unlabelled])]
            for strategy, radius in ((MaxHerdingSampling(), naive_radius(pool)), (MaxHerdingSampling(radius=0.7), 0.7)):
                assert_each_covers_most(view, strategy.select_batch(view, 15, rng()), radius)

    def test_a_sample_of_anchors_covers_nearly_as_well_and_is_announced(
        self, make_view: MakeView, caplog: pytest.LogCaptureFixture
    ) -> None:
        view = make_view(n_unlabelled=1000)
        with caplog.at_level(logging.INFO):
            sampled = MaxHerdingSampling(radius=1.0, max_anchors=600).select_batch(view, 20, rng())
        assert "Coverage of 1000 images is estimated on 600 of them, drawn at random" in caplog.text
        exact = MaxHerdingSampling(radius=1.0).select_batch(view, 20, rng())

        def coverage(rows: IndexArray) -> float:
            to_rows = cdist(view.embeddings[view.unlabelled], view.embeddings[np.append(view.labelled, rows)])
            return float(np.exp(-(to_rows.min(axis=1) ** 2) / 2).mean())

        at_random = coverage(view.unlabelled[:20])
        assert coverage(sampled) - at_random > 0.75 * (coverage(exact) - at_random)

    def test_copies_are_filled_up_at_random_and_that_is_said(
        self, make_view: MakeView, caplog: pytest.LogCaptureFixture
    ) -> None:
        view = make_view(unlabelled_embeddings=np.resize(np.eye(3, 5, dtype=np.float32) * 9, (40, 5)))
        with caplog.at_level(logging.INFO):
            MaxHerdingSampling(radius=1.0).select_batch(view, 10, rng())
        assert "The strategy found 3 distinct useful images; the other 7 are drawn at random" in caplog.text

    @pytest.mark.parametrize("radius", [0.0, -1.0, math.nan, math.inf])
    def test_a_radius_that_is_none_is_an_error(self, radius: float) -> None:
        with pytest.raises(ConfigError, match="radius must be a number above 0, or None"):
            MaxHerdingSampling(radius=radius)


class TestUncertaintyHerding:
    def view(self, make_view: MakeView, n_labelled: int = 30, **changes: object) -> PoolView:
        """Labels that agree with the features, so that neighbours often share them."""
        view = make_view(n_unlabelled=60, n_labelled=n_labelled, **changes)
        targets = view.targets.copy()
        targets[view.labelled] = view.embeddings[view.labelled, :4].argmax(axis=1)
        return make_view(n_unlabelled=60, n_labelled=n_labelled, targets=targets, **changes)

    @pytest.mark.parametrize("quantile", [0.0, 0.5])
    def test_uncertainty_herding_equals_the_naive_reference(self, make_view: MakeView, quantile: float) -> None:
        view = self.view(make_view)
        distances, others = nearest_labels(view)
        accuracy = np.mean(view.targets[view.labelled] == view.targets[others])
        logits = view.embeddings[view.unlabelled, :4].astype(np.float64)

        def tempered(temperature: float) -> FloatArray:
            powers = np.exp(logits / temperature)
            return powers / powers.sum(axis=1, keepdims=True)

        temperature = brentq(lambda t: tempered(t).max(axis=1).mean() - accuracy, 0.05, 20)
        lowest_first = np.sort(tempered(temperature), axis=1)
        weights = 1 - (lowest_first[:, -1] - lowest_first[:, -2])
        rows = UncertaintyHerdingSampling(radius_quantile=quantile).select_batch(view, 15, rng())
        assert_each_covers_most(view, rows, float(np.quantile(distances, quantile)), weights)

    def test_is_max_herding_when_the_classifier_is_sure_of_everything(
        self, make_view: MakeView, caplog: pytest.LogCaptureFixture
    ) -> None:
        view = make_view(n_labelled=1, labelled_classes=[2])
        with caplog.at_level(logging.INFO):
            chosen = UncertaintyHerdingSampling().select_batch(view, 10, rng())
        assert "sure of every image" in caplog.text
        np.testing.assert_array_equal(chosen, MaxHerdingSampling().select_batch(view, 10, rng()))

    def test_with_a_tiny_radius_it_is_margin_sampling(self, make_view: MakeView) -> None:
        view = self.view(make_view)
        weights = tempered_uncertainty(view.probabilities(), 1.0)
        found = choose_by_coverage(
            view.embeddings, view.labelled, view.unlabelled, 10, rng(), radius=0.01, weights=weights
        )
        assert found.tolist() == np.argsort(-weights)[:10].tolist()

    def test_two_copies_among_the_labels_do_not_make_the_radius_nothing(self, make_view: MakeView) -> None:
        view = self.view(make_view)
        embeddings = view.embeddings.copy()
        embeddings[view.labelled[1]] = embeddings[view.labelled[0]]
        view = self.view(make_view, embeddings=embeddings)
        for quantile in (0.0, 0.5):
            chosen = UncertaintyHerdingSampling(radius_quantile=quantile).select_batch(view, 10, rng())
            assert len(set(chosen.tolist())) == 10

    @pytest.mark.parametrize("quantile", [-0.1, 1.1, math.nan])
    def test_a_quantile_out_of_range_is_an_error(self, quantile: float) -> None:
        with pytest.raises(ConfigError, match="radius_quantile must be a number from 0 to 1"):
            UncertaintyHerdingSampling(radius_quantile=quantile)


class TestTailHerding:
    view = TestUncertaintyHerding.view

    def test_rarity_of_a_worked_example(self) -> None:
        # 1, 4 and 7 labels count as 2, 5 and 8, 5 on average: 2.5, 1 and 0.625 times as rare as that.
        probabilities = np.array([[1, 0, 0], [0, 1, 0], [0.5, 0, 0.5]], dtype=np.float32)
        labels = np.array([1, 4, 7])
        np.testing.assert_allclose(rarity(probabilities, labels, 1.0), [2.5, 1, 1.5625], rtol=1e-6)
        np.testing.assert_allclose(rarity(probabilities, labels, 2.0), [6.25, 1, (6.25 + 0.390625) / 2], rtol=1e-6)
        np.testing.assert_allclose(rarity(probabilities, labels, 0.0), 1)

    def test_a_class_without_a_label_is_rarer_than_one_with_a_label_and_not_infinitely_so(self) -> None:
        none, one = rarity(np.eye(2, dtype=np.float32), np.array([0, 1]), 2.0)
        assert none == pytest.approx(4 * one)

    @pytest.mark.parametrize("strength", [1.0, 2.0])
    def test_tail_herding_equals_the_naive_reference(self, make_view: MakeView, strength: float) -> None:
        view = self.view(make_view)
        distances, others = nearest_labels(view)
        accuracy = float(np.mean(view.targets[view.labelled] == view.targets[others]))
        temperature = calibrated_temperature(view.probabilities(), accuracy)
        labels = [np.count_nonzero(view.targets[view.labelled] == class_id) + 1 for class_id in range(4)]
        rare = [
            sum(p * (np.mean(labels) / n) ** strength for p, n in zip(row, labels, strict=True))
            for row in view.probabilities().astype(np.float64)
        ]
        weights = tempered_uncertainty(view.probabilities(), temperature) * rare
        rows = TailHerdingSampling(strength=strength).select_batch(view, 15, rng())
        assert_each_covers_most(view, rows, float(np.median(distances)), weights)

    def test_without_strength_it_is_uncertainty_herding(self, make_view: MakeView) -> None:
        view = self.view(make_view)
        chosen = TailHerdingSampling(strength=0.0).select_batch(view, 10, rng())
        np.testing.assert_array_equal(chosen, UncertaintyHerdingSampling().select_batch(view, 10, rng()))

    def test_auto_equals_the_naive_reference_of_tail_herding(self, make_view: MakeView) -> None:
        view = self.view(make_view)
        chosen = AutoSampling().select_batch(view, 10, rng())
        np.testing.assert_array_equal(chosen, TailHerdingSampling().select_batch(view, 10, rng()))

    @pytest.mark.parametrize("strength", [-1.0, math.inf, math.nan])
    def test_a_strength_out_of_range_is_an_error(self, strength: float) -> None:
        with pytest.raises(ConfigError, match="strength must be a number of at least 0"):
            TailHerdingSampling(strength=strength)


class TestTemperature:
    def test_tempered_uncertainty_of_the_worked_example(self) -> None:
        # sqrt(0.64) : sqrt(0.36) = 8 : 6, so temperature 2 turns 0.64 / 0.36 into 8/14 / 6/14: the margin is 2/14.
        probabilities = np.array([[0.64, 0.36, 0.0], [1.0, 0.0, 0.0], [0.5, 0.5, 0.0]], dtype=np.float32)
        np.testing.assert_allclose(tempered_uncertainty(probabilities, 2.0), [12 / 14, 0, 1], atol=1e-6)
        np.testing.assert_allclose(tempered_uncertainty(probabilities, 1.0), [0.72, 0, 1], atol=1e-6)

    def test_probabilities_that_are_tiny_or_a_single_class_do_no_harm(self) -> None:
        tiny = np.array([[1e-30, 1e-38, 1.0]], dtype=np.float32)
        assert np.isfinite(tempered_uncertainty(tiny, 0.05)).all()
        assert tempered_uncertainty(np.ones((3, 1), np.float32), 2.0).tolist() == [0, 0, 0]

    def test_the_mean_confidence_becomes_the_accuracy(self) -> None:
        # Temperature 2 of the example above: confidence 8/14.
        probabilities = np.array([[0.64, 0.36]], dtype=np.float32)
        assert calibrated_temperature(probabilities, 8 / 14) == pytest.approx(2, abs=1e-3)

    @pytest.mark.parametrize(("accuracy", "bound"), [(1.0, 0.05), (0.0, 20)])
    def test_an_accuracy_that_no_temperature_gives_ends_at_the_bound(self, accuracy: float, bound: float) -> None:
        probabilities = np.array([[0.64, 0.36]], dtype=np.float32)
        assert calibrated_temperature(probabilities, accuracy) == pytest.approx(bound, rel=0.02) or accuracy == 1.0
        assert tempered_uncertainty(probabilities, bound)[0] == pytest.approx(1 - accuracy, abs=0.03)


@pytest.mark.parametrize("strategy", [MaxHerdingSampling, UncertaintyHerdingSampling])
def test_no_anchors_is_an_error(strategy: Callable[..., QueryStrategy]) -> None:
    with pytest.raises(ConfigError, match=r"max_anchors, .*, must be at least 1; got 0"):
        strategy(max_anchors=0)
