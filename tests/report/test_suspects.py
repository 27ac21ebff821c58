import numpy as np
import pytest

from camera_trap_al.predictions import Predictions
from camera_trap_al.report import doubts, suspects
from camera_trap_al.report.suspects import own_confidence
from camera_trap_al.statistics.out_of_fold import OutOfFold, out_of_fold_probabilities


def judged(probabilities, is_judged=None):
    probabilities = np.array(probabilities, np.float32)
    is_judged = np.ones(len(probabilities), bool) if is_judged is None else np.array(is_judged)
    return OutOfFold(probabilities, is_judged, 2)


def test_the_most_doubtful_predictions_are_the_most_nearly_tied():
    probabilities = np.array([[0.5, 0.4, 0.1], [0.34, 0.33, 0.33], [0.9, 0.1, 0], [0.45, 0.45, 0.1]], np.float32)
    predictions = Predictions.of(np.array([7, 8, 9, 11]), probabilities)
    assert doubts(predictions, 3).tolist() == [3, 1, 0]  # margins 0.1, 0.01, 0.8 and 0
    assert doubts(predictions, 9).tolist() == [3, 1, 0, 2]


def test_suspects_are_ranked_by_the_probability_of_their_own_label():
    # Class 1 is given 0.8 and 0.9 to its own two photos and 0.1 to the last one: 0.6 on average.
    found = judged([[0.3, 0.7], [0.1, 0.9], [0.45, 0.55], [0.2, 0.8], [0.1, 0.9], [0.9, 0.1]])
    targets = np.array([0, 0, 0, 1, 1, 1])
    np.testing.assert_allclose(own_confidence(found, targets), [0.3, 0.1, 0.45, 0.8, 0.9, 0.1], rtol=1e-6)
    # Photo 2 is named otherwise too, but with 0.55 less surely than photos of class 1 are.
    assert suspects(found, targets, 10).tolist() == [1, 5, 0]
    assert suspects(found, targets, 2).tolist() == [1, 5]


def test_photos_that_nobody_could_judge_are_no_suspects():
    found = judged([[0, 0], [0.1, 0.9], [0.2, 0.8]], [False, True, True])
    assert suspects(found, np.array([0, 0, 1]), 10).tolist() == [1]
    assert np.isnan(own_confidence(found, np.array([0, 0, 1]))[0])
    assert suspects(judged([[0, 0]], [False]), np.array([0]), 10).tolist() == []


@pytest.mark.parametrize("seed", range(3))
def test_labels_that_were_swapped_are_found_first(seed):
    """400 photos of four classes that overlap little, of which 20 have a wrong label."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 4, 400)
    embeddings = (rng.normal(size=(4, 16)) * 2)[true] + rng.normal(size=(400, 16))
    given, wrong = true.copy(), rng.choice(400, 20, replace=False)
    given[wrong] = (true[wrong] + rng.integers(1, 4, 20)) % 4
    found = out_of_fold_probabilities(embeddings.astype(np.float32), given, np.arange(400), 4, seed)
    first = suspects(found, given, 20)
    n_found = len(np.intersect1d(first, wrong))
    assert n_found >= 12  # by chance it would be one
    assert n_found >= 0.9 * len(first), "what it is not sure of is left out"
