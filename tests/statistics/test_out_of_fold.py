import time
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from camera_trap_al.exceptions import ConfigError
from camera_trap_al.statistics.calibration import Calibration, calibrate, expected_calibration_error, with_temperature
from camera_trap_al.statistics.out_of_fold import (
    calibrate_out_of_fold,
    logistic_probabilities,
    out_of_fold_probabilities,
    split_if_few,
    stand_in,
)


def made(targets: np.ndarray, n_features: int = 6, spread: float = 1.0, seed: int = 0) -> np.ndarray:
    """Clouds around one centre per class."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 2, (int(targets.max(initial=0)) + 1, n_features))
    return (centres[targets] + rng.normal(0, spread, (len(targets), n_features))).astype(np.float32)


class TestOutOfFold:
    def test_photos_are_judged_as_by_a_classifier_that_never_saw_their_group(self) -> None:
        targets, groups = np.repeat(np.arange(3), 40), np.tile(np.arange(8), 15)
        embeddings = made(targets, spread=3)
        found = out_of_fold_probabilities(embeddings, targets, groups, 3, seed=1, n_folds=8)
        assert found.n_folds == 8 and found.is_judged.all()
        for group in range(8):  # as many folds as groups: each fold is one group
            is_in = groups == group
            scaler = StandardScaler().fit(embeddings[~is_in])
            plain = LogisticRegression(max_iter=5_000, tol=1e-8)
            plain.fit(scaler.transform(embeddings[~is_in]), targets[~is_in])
            expected = plain.predict_proba(scaler.transform(embeddings[is_in]))
            np.testing.assert_allclose(found.probabilities[is_in], expected, atol=2e-3)

    def test_a_logistic_regression_that_is_given_judges_as_it_is_and_stays_unfitted(self) -> None:
        targets, groups = np.repeat(np.arange(3), 40), np.tile(np.arange(8), 15)
        embeddings, given = made(targets, spread=3), LogisticRegression(C=0.01, class_weight={0: 5.0}, max_iter=5_000)
        found = out_of_fold_probabilities(embeddings, targets, groups, 3, seed=1, n_folds=8, logistic=given)
        assert not hasattr(given, "coef_")
        for group in range(8):
            is_in = groups == group
            plain = LogisticRegression(C=0.01, class_weight={0: 5.0}, max_iter=5_000)
            plain.fit(embeddings[~is_in], targets[~is_in])
            np.testing.assert_allclose(found.probabilities[is_in], plain.predict_proba(embeddings[is_in]), atol=1e-5)

    def test_the_stand_in_for_a_classifier_whose_classes_count_the_same_has_such_classes_too(self) -> None:
        targets = np.array([0] * 30 + [1] * 10)
        embeddings = made(targets, spread=5)
        copies = np.repeat(np.arange(40), np.where(targets == 1, 3, 1))
        scaler = StandardScaler().fit(embeddings)
        # Weights of a mean of 1 are those of as many copies, if the penalty is that of 40 photos and not of 60.
        plain = LogisticRegression(C=40 / 60, max_iter=5_000).fit(scaler.transform(embeddings[copies]), targets[copies])
        found = logistic_probabilities(embeddings, targets, embeddings, 2, stand_in("balanced"))
        np.testing.assert_allclose(found, plain.predict_proba(scaler.transform(embeddings)), atol=2e-3)
        uneven = logistic_probabilities(embeddings, targets, embeddings, 2, stand_in())
        assert np.abs(uneven - found).max() > 0.1

    def test_a_burst_that_is_one_group_does_not_help_to_know_itself(self) -> None:
        rng = np.random.default_rng(0)
        bursts = np.repeat(np.arange(60), 5)
        embeddings = rng.normal(0, 1, (60, 100))[bursts] + rng.normal(0, 0.05, (300, 100))  # no trace of the class
        targets = rng.integers(0, 2, 60)[bursts]
        right = [
            (out_of_fold_probabilities(embeddings.astype(np.float32), targets, groups, 2, 0).probabilities.argmax(1))
            == targets
            for groups in (bursts, np.arange(300))
        ]
        assert right[0].mean() < 0.65
        assert right[1].mean() > 0.9, "single photos as groups are what is to be avoided"

    def test_a_class_that_lies_in_one_group_is_learnt_but_not_judged(self) -> None:
        targets = np.array([0, 1] * 20 + [2] * 7)
        groups = np.concatenate([np.arange(40) // 4, np.full(7, 99)])
        found = out_of_fold_probabilities(made(targets), targets, groups, 4, seed=0)
        np.testing.assert_array_equal(found.is_judged, targets != 2)
        assert (found.probabilities[~found.is_judged] == 0).all()
        np.testing.assert_allclose(found.probabilities[found.is_judged].sum(axis=1), 1, atol=1e-6)
        assert (found.probabilities[:, 2] > 0).any(), "others may be taken for it"
        assert (found.probabilities[:, 3] == 0).all(), "nobody has a label of it"
        assert "40 of 47" in found.note and "other 7" in found.note

    @given(
        st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=30),
        st.integers(0, 2**32 - 1),
        st.integers(2, 6),
    )
    @settings(max_examples=60, deadline=None)
    def test_any_labels_in_any_groups_are_judged_where_that_can_be(
        self, photos: list[tuple[int, int]], seed: int, n_folds: int
    ) -> None:
        targets, groups = np.array(photos, np.int64).reshape(-1, 2).T
        found = out_of_fold_probabilities(made(targets), targets, groups, 5, seed, n_folds)
        sums = found.probabilities.sum(axis=1)
        np.testing.assert_allclose(sums[found.is_judged], 1, atol=1e-5)
        assert (sums[~found.is_judged] == 0).all()
        for class_id in set(targets.tolist()):
            if len(set(groups[targets == class_id].tolist())) == 1:
                assert not found.is_judged[targets == class_id].any()

    @pytest.mark.parametrize(
        ("targets", "groups"),
        [([], []), ([1], [0]), ([0, 1], [0, 1]), ([0, 0, 0], [0, 1, 2]), ([0, 1, 0, 1], [3, 3, 3, 3])],
        ids=["no photo", "one", "one of each class", "one class", "one group"],
    )
    def test_where_nothing_can_be_split_nothing_is_judged_and_that_is_said(
        self, targets: list[int], groups: list[int]
    ) -> None:
        embeddings = np.zeros((len(targets), 3), np.float32)
        found = out_of_fold_probabilities(embeddings, np.array(targets, np.int64), np.array(groups, np.int64), 2, 0)
        assert found.probabilities.shape == (len(targets), 2)
        assert not found.is_judged.any()
        assert f"None of {len(targets)} labelled photos could be judged" in found.note

    def test_a_class_with_two_groups_among_many_is_judged(self) -> None:
        for seed in range(5):
            targets = np.concatenate([np.repeat(np.arange(4), 50), [4, 4, 4]])
            groups = np.concatenate([np.arange(200) // 2, [500, 500, 501]])
            assert out_of_fold_probabilities(made(targets), targets, groups, 5, seed).is_judged.all()

    def test_the_same_seed_judges_the_same_and_another_splits_otherwise(self) -> None:
        targets = np.repeat(np.arange(3), 30)
        embeddings, groups = made(targets, spread=3), np.arange(90) // 2
        first, again, other = (out_of_fold_probabilities(embeddings, targets, groups, 3, seed) for seed in (4, 4, 5))
        np.testing.assert_array_equal(first.probabilities, again.probabilities)
        assert (first.probabilities != other.probabilities).any()

    def test_global_random_numbers_are_left_alone(self) -> None:
        state = np.random.get_state()[1].copy()  # noqa: NPY002  to see that nobody used it
        targets = np.arange(40) % 2
        out_of_fold_probabilities(made(targets), targets, np.arange(40), 2, 0)
        np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002

    def test_many_labels_take_a_few_seconds(self) -> None:
        targets = np.random.default_rng(0).integers(0, 20, 5_000)
        embeddings = made(targets, n_features=256, spread=8)
        begun_at = time.process_time()  # of this process: other work on the computer does not count
        found = out_of_fold_probabilities(embeddings, targets, np.arange(5_000) // 3, 20, 0)
        assert time.process_time() - begun_at < 15
        assert 0.5 < (found.probabilities.argmax(axis=1) == targets).mean() < 1

    @pytest.mark.parametrize(
        ("embeddings", "targets", "groups", "n_folds", "message"),
        [
            (np.zeros(4), [0] * 4, [0] * 4, 5, r"shape \(n, n_features\)"),
            (np.zeros((4, 2)), [0] * 3, [0] * 4, 5, r"got \(4, 2\), \(3,\) and \(4,\)"),
            (np.zeros((4, 2)), [0] * 4, [0] * 3, 5, r"and \(3,\)"),
            (np.zeros((2, 2)), [0, 3], [0, 1], 5, "from 0 to 2; got 0 to 3"),
            (np.zeros((2, 2)), [-1, 0], [0, 1], 5, "got -1 to 0"),
            (np.zeros((2, 2)), [1, 0], [0, 1], 1, "n_folds must be at least 2"),
        ],
    )
    def test_what_does_not_fit_together_is_refused(
        self, embeddings: np.ndarray, targets: list[int], groups: list[int], n_folds: int, message: str
    ) -> None:
        with pytest.raises(ConfigError, match=message):
            out_of_fold_probabilities(embeddings.astype(np.float32), np.array(targets), np.array(groups), 3, 0, n_folds)


def test_logistic_probabilities_have_a_column_for_each_class_with_or_without_a_label() -> None:
    targets = np.array([1, 3] * 20)
    probabilities = logistic_probabilities(made(targets), targets, made(targets, seed=0), 5)
    assert probabilities.dtype == np.float32
    assert (probabilities[:, [0, 2, 4]] == 0).all()
    assert (probabilities.argmax(axis=1) == targets).all()


class TestCalibrateOutOfFold:
    def test_a_classifier_that_is_too_sure_becomes_honest_about_new_photos(self) -> None:
        rng = np.random.default_rng(0)
        targets, new_targets = rng.integers(0, 4, 300), rng.integers(0, 4, 2_000)
        embeddings, new = np.split(made(np.concatenate([targets, new_targets]), spread=3), [300])
        mlp = MLPClassifier((50,), learning_rate_init=0.01, max_iter=200, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            mlp.fit(embeddings, targets)
        probabilities = mlp.predict_proba(new).astype(np.float32)
        groups = np.arange(300)
        judged = out_of_fold_probabilities(embeddings, targets, groups, 4, seed=0)
        found = calibrate_out_of_fold(judged, embeddings, targets, groups, new[:500], probabilities[:500])
        assert (found.source, found.n_photos) == ("out of fold", 300)
        before = expected_calibration_error(probabilities[500:], new_targets[500:])
        after = expected_calibration_error(with_temperature(probabilities[500:], found.temperature), new_targets[500:])
        assert before > 0.15 and after < 0.07

    def test_the_figures_are_those_of_the_logistic_regression_and_the_temperature_is_carried_over(self) -> None:
        targets, groups = np.repeat(np.arange(3), 40), np.arange(120) // 2
        embeddings = made(targets, spread=4)
        judged = out_of_fold_probabilities(embeddings, targets, groups, 3, seed=0)
        candidates = made(targets, spread=4, seed=1)
        too_sure = with_temperature(logistic_probabilities(embeddings, targets, candidates, 3), 1 / 3)
        found = calibrate_out_of_fold(judged, embeddings, targets, groups, candidates, too_sure)
        own = calibrate(judged.probabilities, targets, "out of fold", groups)
        assert found.temperature == pytest.approx(3 * own.temperature, rel=0.05)
        assert found == replace(own, temperature=found.temperature)
        no_photo = calibrate_out_of_fold(judged, embeddings, targets, groups, candidates[:0], too_sure[:0])
        assert no_photo == own

    def test_photos_that_could_not_be_judged_do_not_count(self) -> None:
        targets = np.array([0, 1] * 20 + [2] * 7)
        groups = np.concatenate([np.arange(40) // 4, np.full(7, 99)])
        embeddings = made(targets, spread=3)
        judged = out_of_fold_probabilities(embeddings, targets, groups, 3, seed=0)
        probabilities = logistic_probabilities(embeddings, targets, embeddings, 3)
        assert calibrate_out_of_fold(judged, embeddings, targets, groups, embeddings, probabilities).n_photos == 40

    def test_nothing_judged_is_no_calibration(self) -> None:
        embeddings, targets = np.zeros((3, 2), np.float32), np.zeros(3, np.int64)
        judged = out_of_fold_probabilities(embeddings, targets, np.arange(3), 2, 0)
        found = calibrate_out_of_fold(judged, embeddings, targets, np.arange(3), embeddings, np.eye(3, 2, dtype="f4"))
        assert found == Calibration()


@pytest.mark.parametrize(
    ("groups", "unlabelled", "expected"),
    [
        ([7, 7, 4, 9], [1, 1, 1, 1], [7, 7, 4, 9]),  # three groups
        ([7, 7, 4, 4], [1, 1, 1, 1], [8, 9, 10, 11]),
        ([7, 7, 4, 4], [1, 1, 0, 0], [8, 9, 4, 4]),
        ([7, 7, 4, 4], [0, 0, 0, 0], [7, 7, 4, 4]),
    ],
)
def test_photos_of_one_or_two_groups_are_groups_of_their_own(
    groups: list[int], unlabelled: list[int], expected: list[int]
) -> None:
    assert split_if_few(np.array(groups), np.array(unlabelled, np.bool_)).tolist() == expected
