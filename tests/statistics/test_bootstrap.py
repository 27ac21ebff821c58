import itertools

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from camera_trap_al.statistics.bootstrap import ClassCounts, bootstrap_intervals

FIGURES = ("accuracy", "balanced_accuracy", "macro_f1")


def interval(true, predicted, groups, seed=0):
    return bootstrap_intervals(np.array(true), np.array(predicted), np.array(groups), np.random.default_rng(seed))


def test_the_ends_are_those_of_all_draws_of_three_groups():
    true, predicted, groups = [0, 0, 1, 1, 2, 2], [0, 1, 1, 1, 0, 2], [7, 7, 3, 3, 5, 5]
    # With three groups there are 27 draws, equally likely; 2.5 % of them are less than one.
    all_draws = []
    for draw in itertools.product([3, 5, 7], repeat=3):
        at = [i for group in draw for i in range(6) if groups[i] == group]
        t, p = [true[i] for i in at], [predicted[i] for i in at]
        f1 = f1_score(t, p, average="macro", zero_division=0)
        recall = np.mean([np.mean([p[i] == c for i in range(6) if t[i] == c]) for c in set(t)])
        all_draws.append((accuracy_score(t, p), recall, f1))
    found = interval(true, predicted, groups)
    for name, values in zip(FIGURES, zip(*all_draws, strict=True), strict=True):
        assert found[name] == pytest.approx((min(values), max(values)))


def test_counts_give_the_figures_of_scikit_learn():
    rng = np.random.default_rng(2)
    true, predicted = rng.integers(0, 5, 200), rng.integers(0, 5, 200)
    right = np.bincount(true[true == predicted], minlength=5)
    counts = ClassCounts(np.bincount(true), np.bincount(predicted), right)
    assert counts.accuracy() == pytest.approx(accuracy_score(true, predicted))
    assert counts.balanced_accuracy() == pytest.approx(balanced_accuracy_score(true, predicted))
    assert counts.macro_f1() == pytest.approx(f1_score(true, predicted, average="macro"))


def test_intervals_of_bursts_hold_the_truth_as_often_as_they_say_and_those_of_single_photos_do_not():
    """100 sets of 60 bursts of 8 photos that are right or wrong together, the model being right in 70 % of bursts."""
    rng, held = np.random.default_rng(3), {"bursts": 0, "photos": 0}
    bursts, photos = np.repeat(np.arange(60), 8), np.arange(480)
    for seed in range(100):
        predicted = np.repeat(rng.random(60) > 0.7, 8).astype(np.int64)
        for name, groups in (("bursts", bursts), ("photos", photos)):
            low, high = interval(np.zeros(480, np.int64), predicted, groups, seed)["accuracy"]
            held[name] += low <= 0.7 <= high
    assert held["bursts"] >= 88  # 95 of 100 are expected, with a standard deviation of 2.2
    assert held["photos"] <= 65


def test_the_same_generator_gives_the_same_interval():
    rng = np.random.default_rng(4)
    true, predicted = rng.integers(0, 3, 50), rng.integers(0, 3, 50)
    assert interval(true, predicted, range(50), 1) == interval(true, predicted, range(50), 1)
    assert interval(true, predicted, range(50), 1) != interval(true, predicted, range(50), 2)


@pytest.mark.parametrize("groups", [[0, 0, 0], [4, 4, 4]])
def test_one_group_has_no_interval(groups):
    assert interval([0, 1, 1], [0, 1, 0], groups) == {}
