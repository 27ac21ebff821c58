"""What learning curves of several seeds say: who learns from fewer labels, and whether that could be chance."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student
from sklearn.isotonic import isotonic_regression

__all__ = [
    "LEVEL",
    "PairedDifference",
    "area_under_curve",
    "holm",
    "labels_to_reach",
    "mean_and_interval",
    "paired_difference",
    "resampled_seeds",
]

LEVEL = 0.95
RESAMPLES = 2000

Scores = NDArray[np.floating]
"""(n_seeds, n_budgets) score of each seed after each number of labels."""


class PairedDifference(NamedTuple):
    """How much higher one curve is than another on average over the labels, and the range of 95 %.

    `low` and `high` are NaN, and `p_value` is 1, where a single seed says nothing of chance.
    """

    difference: float
    low: float
    high: float
    p_value: float


def area_under_curve(labels: Scores, scores: Scores) -> Scores:
    """Return the area under each curve divided by the range of `labels`: the mean score on the way.

    Parameters
    ----------
    labels
        (n_budgets,) ascending.
    scores
        (..., n_budgets).

    Returns
    -------
    (...), by the trapezoidal rule; the score itself if there is a single budget.
    """
    return np.asarray(scores @ _shares(labels))


def _shares(labels: Scores) -> Scores:
    """Give the weight of each budget in the area: half the way to its neighbours, 1 in total."""
    if len(labels) == 1:
        return np.ones(1)
    steps = np.diff(labels.astype(np.float64))
    reach = np.concatenate([steps, [0]]) + np.concatenate([[0], steps])
    return np.asarray(reach / reach.sum())


def labels_to_reach(labels: Scores, scores: Scores, target: float) -> float:
    """Say after how many labels a score is reached, on the rising curve that fits all seeds best.

    Parameters
    ----------
    labels
        (n_budgets,) ascending.
    scores
        (n_seeds, n_budgets).
    target
        The score.

    Returns
    -------
    Labels, between two budgets by a straight line; infinite if the curve stays below.

    Notes
    -----
    The curve is the isotonic fit [Barlow et al., 1972]: a lucky dip or peak of a curve is no milestone.
    """
    # With every seed at every budget, the fit to all points is the fit to their means.
    fitted = isotonic_regression(scores.mean(axis=0))
    reached = np.flatnonzero(fitted >= target)
    if not len(reached):
        return math.inf
    first = int(reached[0])
    if first == 0:
        return float(labels[0])
    share = (target - fitted[first - 1]) / (fitted[first] - fitted[first - 1])
    return float(labels[first - 1] + share * (labels[first] - labels[first - 1]))


def mean_and_interval(scores: Scores) -> tuple[Scores, Scores, Scores]:
    """Return the mean over seeds and the ends of its 95 % interval by Student's t; (n_budgets,) each.

    Parameters
    ----------
    scores
        (n_seeds, n_budgets); the ends are NaN for a single seed.
    """
    n_seeds = len(scores)
    mean = scores.mean(axis=0)
    if n_seeds == 1:
        return mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    half = scores.std(axis=0, ddof=1) / math.sqrt(n_seeds) * _t(n_seeds)
    return mean, mean - half, mean + half


def _t(n_seeds: int) -> float:
    return float(student.ppf((1 + LEVEL) / 2, n_seeds - 1))


def paired_difference(labels: Scores, scores: Scores, others: Scores, rng: np.random.Generator) -> PairedDifference:
    """Compare two curves of the same seeds by the area between them.

    Parameters
    ----------
    labels
        (n_budgets,) ascending.
    scores, others
        (n_seeds, n_budgets); seeds in the same order.
    rng
        Source of the resampling.

    Returns
    -------
    Positive where `scores` are higher.

    Notes
    -----
    Seeds and budgets are drawn anew with replacement, independently of each other [Owen, 2007]; the spread of the
    difference is its standard error. Percentiles of such draws are too narrow for few seeds: five of them can be drawn
    in few ways. So the standard error is made larger by sqrt(n / (n - 1)), and Student's t with n - 1 degrees of
    freedom takes the place of the normal distribution [Hesterberg, 2015].
    """
    differences, shares = scores - others, _shares(labels)
    n_seeds, n_budgets = differences.shape
    mean = float(differences.mean(axis=0) @ shares)
    if n_seeds == 1:
        return PairedDifference(mean, math.nan, math.nan, 1.0)
    times = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), RESAMPLES) / n_seeds
    weights = rng.multinomial(n_budgets, np.full(n_budgets, 1 / n_budgets), RESAMPLES) * shares
    kept = weights.sum(axis=1) > 0
    drawn = np.einsum("rs,sb,rb->r", times, differences, weights, optimize=True)[kept] / weights.sum(axis=1)[kept]
    error = float(drawn.std()) * math.sqrt(n_seeds / (n_seeds - 1))
    half = error * _t(n_seeds)
    if error < 1e-12:
        return PairedDifference(mean, mean, mean, 1.0 if abs(mean) < 1e-12 else 0.0)
    return PairedDifference(mean, mean - half, mean + half, float(2 * student.sf(abs(mean) / error, n_seeds - 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values for being several, so that all of them together are wrong in at most 5 % [Holm, 1979].

    Parameters
    ----------
    p_values
        In any order.

    Returns
    -------
    The corrected ones in the same order, 0..1.
    """
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    rising = np.maximum.accumulate(np.asarray(p_values, np.float64)[order] * factors)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(rising, 1)
    return [float(value) for value in corrected]


def resampled_seeds(n_seeds: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw seeds anew with replacement: (n_resamples, n_seeds) positions."""
    return rng.integers(n_seeds, size=(RESAMPLES // 2, n_seeds))
