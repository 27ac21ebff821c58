import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import log_loss

from camera_trap_al.exceptions import ConfigError, DataError
from camera_trap_al.statistics.calibration import (
    TEMPERATURES,
    Calibration,
    calibrate,
    expected_calibration_error,
    fit_temperature,
    temperature_like,
    with_temperature,
)

LOWEST, HIGHEST = TEMPERATURES


def made(n: int, n_classes: int = 6, too_sure: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Photos whose true class is drawn from known probabilities; the classifier's are these at 1 / `too_sure`."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 2, (n, n_classes))
    true = softmax(scores, axis=1)
    targets = (true.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1).clip(max=n_classes - 1)
    return softmax(scores * too_sure, axis=1).astype(np.float32), targets.astype(np.int64)


@st.composite
def rows_of_probabilities(draw: st.DrawFn) -> np.ndarray:
    """Rows as unequal as float32 allows, some classes 0."""
    shape = draw(st.integers(1, 6)), draw(st.integers(2, 8))
    logarithms = draw(st.lists(st.floats(-38, 0), min_size=math.prod(shape), max_size=math.prod(shape)))
    values = (10 ** np.array(logarithms)).reshape(shape)
    has_label = np.array(draw(st.lists(st.booleans(), min_size=shape[1], max_size=shape[1])))
    values[:, ~has_label] = 0
    values[:, 0] += 1e-38
    return (values / values.sum(axis=1, keepdims=True)).astype(np.float32)


class TestWithTemperature:
    @settings(deadline=None)
    @given(rows_of_probabilities(), st.floats(0.05, 20))
    def test_equals_the_softmax_of_the_divided_logits_and_keeps_zeros_and_the_first_class(
        self, probabilities: np.ndarray, temperature: float
    ) -> None:
        tempered = with_temperature(probabilities, temperature)
        assert tempered.dtype == np.float32
        with np.errstate(divide="ignore"):
            reference = softmax(np.log(probabilities.astype(np.float64)) / temperature, axis=1)
        np.testing.assert_allclose(tempered, reference, atol=1e-6)
        assert (tempered[probabilities == 0] == 0).all()
        highest = tempered[np.arange(len(tempered)), probabilities.argmax(axis=1)]
        np.testing.assert_array_equal(highest, tempered.max(axis=1))

    def test_no_number_of_classes_and_no_temperature_gives_a_row_of_zeros(self) -> None:
        even = np.full((1, 5_000), 1 / 5_000, np.float32)
        for temperature in (0.05, 20):
            np.testing.assert_allclose(with_temperature(even, temperature), even, rtol=1e-5)

    def test_1_gives_the_same_values(self) -> None:
        probabilities = made(50)[0]
        np.testing.assert_array_equal(with_temperature(probabilities, 1.0), probabilities)

    @pytest.mark.parametrize("temperature", [LOWEST, 0.5, 3.0, HIGHEST])
    def test_three_steps_in_float32_do_the_same_for_a_thousand_classes(self, temperature: float) -> None:
        rng = np.random.default_rng(1)
        probabilities = rng.dirichlet(np.full(1_000, 5.0), 200).astype(np.float32)
        powers = probabilities ** np.float32(1 / temperature)
        plain = powers / powers.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(with_temperature(probabilities, temperature), plain, atol=1e-6)

    def test_no_photos_are_no_photos(self) -> None:
        assert with_temperature(np.zeros((0, 3), np.float32), 2.0).shape == (0, 3)

    @pytest.mark.parametrize("temperature", [0, -1, math.nan, math.inf])
    def test_other_numbers_are_refused(self, temperature: float) -> None:
        with pytest.raises(ConfigError, match="temperature must be a finite number above 0"):
            with_temperature(made(3)[0], temperature)


class TestFitTemperature:
    @pytest.mark.parametrize("too_sure", [0.4, 1.0, 2.5, 6.0])
    def test_finds_the_temperature_of_simulated_photos(self, too_sure: float) -> None:
        found = [fit_temperature(*made(2_000, too_sure=too_sure, seed=seed)) for seed in range(5)]
        assert np.mean(found) == pytest.approx(too_sure, rel=0.05)

    def test_has_the_least_log_loss_of_a_grid(self) -> None:
        probabilities, targets = made(4_000, too_sure=2.0)
        grid = np.geomspace(1, 4, 40)
        losses = [log_loss(targets, with_temperature(probabilities, each)) for each in grid]
        assert fit_temperature(probabilities, targets) == pytest.approx(grid[np.argmin(losses)], rel=0.04)

    @settings(deadline=None)
    @given(st.integers(0, 30), st.integers(0, 2**32 - 1), st.floats(0.1, 10))
    def test_is_within_its_bounds_whatever_the_photos(self, n: int, seed: int, sharp: float) -> None:
        rng = np.random.default_rng(seed)
        with_label = softmax(rng.normal(0, 10, (n, 3)) * sharp, axis=1)
        probabilities = np.hstack([with_label, np.zeros((n, 1))]).astype(np.float32)
        assert LOWEST <= fit_temperature(probabilities, rng.integers(0, 4, n)) <= HIGHEST

    @pytest.mark.parametrize("n", [1, 5])
    def test_a_few_photos_move_it_a_little(self, n: int) -> None:
        probabilities = np.tile(np.array([0.8, 0.15, 0.05], np.float32), (n, 1))
        assert 0.3 < fit_temperature(probabilities, np.zeros(n, np.int64)) < 1
        assert 1 < fit_temperature(probabilities, np.ones(n, np.int64)) < 5

    def test_many_that_are_all_right_or_all_wrong_move_it_to_the_bounds(self) -> None:
        probabilities = np.tile(np.array([0.5, 0.3, 0.2], np.float32), (10_000, 1))
        assert fit_temperature(probabilities, np.zeros(10_000, np.int64)) == pytest.approx(LOWEST, rel=0.02)
        assert fit_temperature(probabilities, np.full(10_000, 2)) == pytest.approx(HIGHEST, rel=0.02)

    def test_is_1_where_no_temperature_changes_anything(self) -> None:
        assert fit_temperature(np.zeros((0, 3), np.float32), np.zeros(0, np.int64)) == 1
        assert fit_temperature(np.ones((4, 1), np.float32), np.zeros(4, np.int64)) == 1
        assert fit_temperature(np.eye(3, dtype=np.float32), np.array([0, 2, 1])) == 1

    @pytest.mark.parametrize("share", [0.02, 0.1])
    def test_photos_of_a_class_without_a_label_lower_confidence_within_reason(self, share: float) -> None:
        probabilities, targets = made(3_000, too_sure=2.5)
        probabilities = np.hstack([probabilities, np.zeros((3_000, 1), np.float32)])
        targets[np.random.default_rng(0).random(3_000) < share] = 6
        tempered = with_temperature(probabilities, fit_temperature(probabilities, targets))
        accuracy = (probabilities.argmax(axis=1) == targets).mean()
        assert tempered.max(axis=1).mean() == pytest.approx(accuracy, abs=0.03)


class TestTemperatureLike:
    @pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
    def test_undoes_a_temperature(self, temperature: float) -> None:
        probabilities = with_temperature(made(1_000)[0], 1 / temperature)
        assert temperature_like(probabilities, made(1_000)[0]) == pytest.approx(temperature, rel=0.01)

    def test_is_that_of_labels_drawn_from_the_other_probabilities(self) -> None:
        probabilities, wanted = made(200, too_sure=3, seed=1)[0], made(200, seed=2)[0]
        rng = np.random.default_rng(0)
        labels = np.concatenate([(wanted.cumsum(axis=1) < rng.random((200, 1))).sum(axis=1) for _ in range(300)])
        drawn = fit_temperature(np.tile(probabilities, (300, 1)), labels.clip(max=5))
        assert temperature_like(np.tile(probabilities, (300, 1)), np.tile(wanted, (300, 1))) == pytest.approx(
            drawn, rel=0.02
        )

    def test_classes_without_a_label_do_not_matter(self) -> None:
        probabilities, wanted = made(200, too_sure=3)[0], made(200)[0]
        wider = [np.hstack([each, np.zeros((200, 2), np.float32)]) for each in (probabilities, wanted)]
        assert temperature_like(*wider) == pytest.approx(temperature_like(probabilities, wanted))

    def test_of_no_photos_is_1(self) -> None:
        assert temperature_like(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32)) == 1

    def test_other_shapes_are_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"the shape of probabilities, \(9, 6\); got \(8, 6\)"):
            temperature_like(made(9)[0], made(8)[0])


class TestExpectedCalibrationError:
    def test_of_an_example_worked_by_hand(self) -> None:
        # Bins of a quarter: 0.5 and 0.4 lie in the second (0.25, 0.5], 0.75 and 0.7 in the third, 1 in the fourth.
        confidences = np.array([0.5, 0.4, 0.75, 0.7, 1.0], np.float32)
        probabilities = np.stack([confidences, (1 - confidences) / 2, (1 - confidences) / 2], axis=1)
        targets = np.array([0, 1, 0, 0, 2])
        # Second: accuracy 1/2, confidence 0.45. Third: 1, 0.725. Fourth: 0, 1.
        by_hand = (2 * abs(0.5 - 0.45) + 2 * abs(1 - 0.725) + 1 * abs(0 - 1)) / 5
        assert expected_calibration_error(probabilities, targets, n_bins=4) == pytest.approx(by_hand)

    @settings(deadline=None)
    @given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 2**32 - 1))
    def test_equals_a_plain_loop(self, n: int, n_bins: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        probabilities = rng.dirichlet(np.ones(4), n).astype(np.float32)
        targets = rng.integers(0, 4, n)
        total = 0.0
        for number in range(n_bins):
            inside = [
                (float(row.max()), row.argmax() == target)
                for row, target in zip(probabilities, targets, strict=True)
                if number / n_bins < row.max() <= (number + 1) / n_bins
            ]
            if inside:
                confidence, accuracy = np.mean(inside, axis=0)
                total += len(inside) / n * abs(confidence - accuracy)
        assert expected_calibration_error(probabilities, targets, n_bins) == pytest.approx(total, abs=1e-6)

    def test_is_small_for_true_probabilities_and_large_for_those_of_a_braggart(self) -> None:
        assert expected_calibration_error(*made(20_000)) < 0.02
        assert expected_calibration_error(*made(20_000, too_sure=5)) > 0.2

    def test_nothing_to_measure_on_is_an_error(self) -> None:
        with pytest.raises(DataError, match="no photo to measure"):
            expected_calibration_error(np.zeros((0, 3), np.float32), np.zeros(0, np.int64))


class TestCalibrate:
    def test_makes_a_classifier_that_is_too_sure_honest(self) -> None:
        found = calibrate(*made(1_000, too_sure=3), "validation")
        assert (found.source, found.n_photos) == ("validation", 1_000)
        assert found.temperature == fit_temperature(*made(1_000, too_sure=3))
        assert found.ece_before is not None and found.ece_before > 0.15
        assert found.ece_after is not None and found.ece_after < 0.06
        assert found.log_loss_before is not None and found.log_loss_after is not None
        assert found.log_loss_after < found.log_loss_before

    def test_figures_before_are_those_of_the_photos_as_they_are(self) -> None:
        probabilities, targets = made(300, too_sure=2)
        found = calibrate(probabilities, targets, "audit")
        assert found.ece_before == expected_calibration_error(probabilities, targets)
        assert found.log_loss_before == pytest.approx(log_loss(targets, probabilities, labels=range(6)), rel=1e-5)

    @pytest.mark.parametrize("grouped", [True, False])
    def test_figures_after_are_of_photos_that_their_temperature_was_not_fitted_on(self, grouped: bool) -> None:
        probabilities, targets = made(47, too_sure=3)
        groups = np.random.default_rng(0).integers(100, 113, 47) if grouped else None
        names = np.arange(47) if groups is None else groups
        after = np.zeros_like(probabilities)
        for number, name in enumerate(sorted(set(names.tolist()))):
            others = [other for place, other in enumerate(sorted(set(names.tolist()))) if place % 5 != number % 5]
            is_other = np.isin(names, others)
            temperature = fit_temperature(probabilities[is_other], targets[is_other])
            after[names == name] = with_temperature(probabilities[names == name], temperature)
        found = calibrate(probabilities, targets, "audit", groups)
        assert found.ece_after == pytest.approx(expected_calibration_error(after, targets))

    def test_a_single_group_is_taken_apart(self) -> None:
        probabilities, targets = made(40)
        assert calibrate(probabilities, targets, "audit", np.full(40, 7)) == calibrate(probabilities, targets, "audit")

    @pytest.mark.parametrize("n", [0, 1])
    def test_too_few_photos_change_nothing(self, n: int) -> None:
        assert calibrate(*made(n), "validation") == Calibration() == Calibration(temperature=1, source="nothing")

    @pytest.mark.parametrize("n", [2, 3, 4, 7])
    def test_a_handful_is_enough_for_finite_figures(self, n: int) -> None:
        found = calibrate(*made(n), "validation").to_dict()
        assert all(math.isfinite(value) for value in found.values() if isinstance(value, float))
        assert found["n_photos"] == n

    @pytest.mark.parametrize(
        ("source", "words"),
        [
            ("audit", ["250 audit photos"]),
            ("validation", ["250 validation photos", "true only where the mix of species"]),
            ("out of fold", ["250 labelled photos", "not fit for thresholds", "the strategy chose"]),
        ],
    )
    def test_the_note_says_where_confidence_is_from_and_what_to_beware_of(self, source: Any, words: list[str]) -> None:
        note = calibrate(*made(250), source).note
        assert all(word in note for word in words)
        assert "mostly too high" in Calibration().note

    def test_all_of_it_is_plain_json(self) -> None:
        found = calibrate(*made(50), "out of fold")
        values = json.loads(json.dumps(found.to_dict(), allow_nan=False))
        assert values.pop("note") == found.note
        assert Calibration(**values) == found

    @pytest.mark.parametrize(
        ("probabilities", "targets", "error", "message"),
        [
            (np.zeros(3), [0, 0, 0], ConfigError, r"shape \(n, n_classes\)"),
            (np.ones((2, 3)) / 3, [0], ConfigError, r"got \(2, 3\) and \(1,\)"),
            (np.ones((2, 3)) / 3, [0, 3], ConfigError, "from 0 to 2; got 0 to 3"),
            (np.ones((2, 3)) / 3, [-1, 0], ConfigError, "got -1 to 0"),
            (np.array([[0.5, 0.5], [np.nan, 0]]), [0, 1], DataError, "NaN"),
        ],
    )
    def test_what_does_not_fit_together_is_refused(
        self, probabilities: np.ndarray, targets: list[int], error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            calibrate(probabilities.astype(np.float32), np.array(targets), "audit")
