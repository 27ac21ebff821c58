import math
from itertools import product

import numpy as np
import pytest
from scipy.stats import binom, ttest_1samp
from sklearn.isotonic import IsotonicRegression

from camera_trap_al.statistics.learning_curves import (
    area_under_curve,
    holm,
    labels_to_reach,
    mean_and_interval,
    paired_difference,
    resampled_seeds,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def curves(rng, n_seeds=5, n_budgets=12):
    """Rising curves with the kind of noise that neighbours on a learning curve share."""
    steps = rng.normal(0.02, 0.03, (n_seeds, n_budgets))
    return 0.3 + rng.normal(0, 0.05, (n_seeds, 1)) + np.cumsum(steps, axis=1)


def test_the_area_is_the_one_that_numpy_gives_divided_by_the_range(rng):
    labels = np.array([0.0, 10, 20, 50, 53])
    scores = rng.random((4, 5))
    trapezoid = sum((labels[i + 1] - labels[i]) * (scores[:, i] + scores[:, i + 1]) / 2 for i in range(4))
    np.testing.assert_allclose(area_under_curve(labels, scores), trapezoid / 53)


def test_the_area_of_a_single_budget_is_its_score():
    assert area_under_curve(np.array([7.0]), np.array([[0.4]])).tolist() == [0.4]


@pytest.mark.parametrize(
    ("target", "labels"),
    [(0.1, 0), (0.2, 0), (0.3, 10), (0.45, 25), (0.6, 40), (0.61, math.inf)],
)
def test_labels_to_reach_a_score_by_hand(target, labels):
    """The dip at 20 is as high as the point before it after the fit: 0.3 and 0.3, from 0.4 and 0.2."""
    scores = np.array([[0.2, 0.4, 0.2, 0.6, 0.6]])
    at = np.array([0.0, 10, 20, 30, 40])
    expected = {0.6: 30.0, 0.3: 10.0, 0.45: 25.0}.get(target, labels)
    assert labels_to_reach(at, scores, target) == pytest.approx(expected)


def test_labels_to_reach_uses_the_isotonic_fit_to_the_points_of_all_seeds(rng):
    labels, scores = np.arange(12.0) * 5, curves(rng)
    fitted = IsotonicRegression().fit(np.tile(labels, 5), scores.ravel()).predict(labels)
    for target in np.linspace(fitted[0], fitted[-1], 9):
        first = next(i for i, value in enumerate(fitted) if value >= target - 1e-12)
        expected = (
            labels[0] if first == 0 else np.interp(target, fitted[first - 1 : first + 1], labels[first - 1 : first + 1])
        )
        assert labels_to_reach(labels, scores, target - 1e-12) == pytest.approx(expected, abs=1e-6)


def test_a_mean_has_the_interval_of_students_t(rng):
    scores = rng.random((6, 3))
    mean, low, high = mean_and_interval(scores)
    np.testing.assert_allclose(mean, scores.mean(axis=0))
    for column in range(3):
        expected = ttest_1samp(scores[:, column], 0).confidence_interval(0.95)
        assert (low[column], high[column]) == pytest.approx((expected.low, expected.high))
    assert all(np.isnan(mean_and_interval(scores[:1])[end]).all() for end in (1, 2))


def test_holm_by_hand():
    """0.01 * 4, then 0.02 * 3 and 0.03 * 2 that may not fall below it, then 0.5 * 1."""
    assert holm([0.5, 0.01, 0.03, 0.02]) == pytest.approx([0.5, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_difference_is_that_of_the_areas(rng):
    labels = np.array([0.0, 10, 20, 50])
    ours, others = rng.random((5, 4)), rng.random((5, 4))
    found = paired_difference(labels, ours, others, rng)
    expected = (area_under_curve(labels, ours) - area_under_curve(labels, others)).mean()
    assert found.difference == pytest.approx(expected)
    assert found.low < expected < found.high
    assert found.difference - found.low == pytest.approx(found.high - found.difference)


def test_one_budget_is_the_paired_t_test(rng):
    """With a single budget only seeds are drawn anew; the standard error of their mean is then known."""
    ours, others = rng.normal(0.05, 0.1, (8, 1)), rng.normal(0, 0.1, (8, 1))
    found = paired_difference(np.array([0.0]), ours, others, rng)
    expected = ttest_1samp((ours - others)[:, 0], 0)
    interval = expected.confidence_interval(0.95)
    assert found.p_value == pytest.approx(expected.pvalue, rel=0.15)
    assert found.high - found.low == pytest.approx(interval.high - interval.low, rel=0.06)


def test_all_draws_of_two_seeds_and_two_budgets_give_the_same_error(rng):
    """The slow reference: each draw of seeds with each draw of budgets, weighed alike."""
    difference = np.array([[0.1, 0.3], [0.2, 0.6]])
    means = [
        difference[np.ix_(seeds, budgets)].mean()
        for seeds in product(range(2), repeat=2)
        for budgets in product(range(2), repeat=2)
    ]
    half = np.std(means) * math.sqrt(2) * 12.706  # of Student's t with one degree of freedom
    found = paired_difference(np.array([0.0, 10]), difference, np.zeros((2, 2)), rng)
    assert found.high - found.difference == pytest.approx(half, rel=0.05)


def test_of_one_seed_nothing_is_said(rng):
    found = paired_difference(np.arange(4.0), rng.random((1, 4)), rng.random((1, 4)), rng)
    assert math.isnan(found.low) and math.isnan(found.high) and found.p_value == 1


def test_equal_curves_do_not_differ(rng):
    scores = curves(rng)
    assert paired_difference(np.arange(12.0), scores, scores, rng) == (0, 0, 0, 1)


def test_chance_is_taken_for_a_difference_in_no_more_than_one_case_of_twenty(rng):
    """Pairs of curves from one distribution, so that every difference that is found is an error."""
    labels, n_trials = np.arange(12.0), 400
    p_values = [paired_difference(labels, curves(rng), curves(rng), rng).p_value for _ in range(n_trials)]
    n_errors = sum(value < 0.05 for value in p_values)
    assert n_errors <= binom.ppf(0.999, n_trials, 0.05)  # more are found once in a thousand times at a rate of 5 %
    assert n_errors >= 1  # it does find something


def test_a_difference_beyond_chance_is_found(rng):
    labels = np.arange(12.0)
    others = curves(rng)
    found = paired_difference(labels, others + 0.1 + rng.normal(0, 0.01, others.shape), others, rng)
    assert found.low > 0 and found.p_value < 0.01


def test_seeds_are_drawn_with_replacement(rng):
    drawn = resampled_seeds(3, rng)
    assert drawn.shape[1] == 3 and set(np.unique(drawn)) == {0, 1, 2}
    assert any(len(set(draw)) < 3 for draw in drawn.tolist())
