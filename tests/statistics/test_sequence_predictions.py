import numpy as np
import pytest

from camera_trap_al.exceptions import ConfigError
from camera_trap_al.statistics.calibration import expected_calibration_error, fit_temperature, with_temperature
from camera_trap_al.statistics.sequence_predictions import (
    SequenceSums,
    calibrate_sequences,
    sequence_probabilities,
)

CLASSES = ("deer", "fox", "boar")


def bursts(n_sequences, seed, *, alike=0.5, n_classes=5, distance=1.6):
    """Photos of made bursts whose probabilities are the true posterior of each photo on its own.

    A photo's features are the mean of its class plus normal noise of variance 1, of which the share `alike` is that of
    the whole burst, as the same bushes are.
    """
    rng = np.random.default_rng(seed)
    sequences = np.repeat(np.arange(n_sequences), rng.integers(2, 8, n_sequences))
    truth = rng.integers(0, n_classes, n_sequences)
    noise = np.sqrt(alike) * rng.normal(size=(n_sequences, n_classes))[sequences]
    noise += np.sqrt(1 - alike) * rng.normal(size=(len(sequences), n_classes))
    odds = np.exp(distance * (distance * np.eye(n_classes)[truth][sequences] + noise))
    return (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32), truth, sequences


def slowly(photos, temperature):
    """The softmax of the mean of the logarithms, as a formula for one sequence of several photos."""
    mean = [
        sum(np.log(max(float(p), 2.0**-23)) for p in of_class) / len(photos) for of_class in zip(*photos, strict=True)
    ]
    powers = [
        np.exp(score / temperature) if any(photo[at] > 0 for photo in photos) else 0.0 for at, score in enumerate(mean)
    ]
    return [power / sum(powers) for power in powers]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_a_sequence_is_the_mean_of_the_logarithms_of_its_photos(temperature):
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(4, 0.3), 40).astype(np.float32)
    probabilities[:, 2] = 0  # a class without a label
    probabilities[3, 1] = 0  # impossible in one photo alone
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    sequences = rng.permutation(np.repeat([3, 7, 8, 90], 10))
    found = sequence_probabilities(probabilities, sequences, temperature)
    for of_sequence, number in zip(found, (3, 7, 8, 90), strict=True):
        expected = slowly(probabilities[sequences == number], temperature)
        np.testing.assert_allclose(of_sequence, expected, rtol=2e-4, atol=1e-6)
    assert (found[:, 2] == 0).all() and (found[:, 1] > 0).all()


@pytest.mark.parametrize("number", [0, -1])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_a_sequence_of_one_photo_is_that_photo(number, temperature):
    probabilities = np.array([[0.7, 0.0, 0.3]], np.float32)
    found = sequence_probabilities(probabilities, np.array([number]), temperature)
    np.testing.assert_allclose(found, probabilities, atol=1e-6)
    assert found[0, 1] == 0


def test_photos_of_no_known_sequence_stand_for_themselves():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]], np.float32)
    sums = SequenceSums(np.array([-1, 5, -1, 5]), 2)
    sums.add(np.arange(4), probabilities)
    found = sums.predictions(temperature=0.5)
    assert found.numbers.tolist() == [-1, 5, -1, 5] and found.class_ids.tolist() == [0, 1, 0, 1]
    # By hand: the square roots of 0.2 x 0.3 and 0.8 x 0.7, and squared again by the temperature of a half.
    expected = 0.8 * 0.7 / (0.8 * 0.7 + 0.2 * 0.3)
    assert found.confidence.tolist() == pytest.approx([0.9, expected, 0.6, expected], abs=1e-6)
    assert list(found.cells(("deer", "fox")))[:2] == [
        (None, "deer", pytest.approx(0.9)),
        (5, "fox", pytest.approx(expected)),
    ]


def test_parts_in_any_order_give_what_all_at_once_give():
    probabilities, _, sequences = bursts(300, 1)
    rng = np.random.default_rng(2)
    sums = SequenceSums(sequences, probabilities.shape[1])
    for positions in np.array_split(rng.permutation(len(sequences)), 17):
        sums.add(positions, probabilities[positions])
    sums.add(np.zeros(0, np.int64), probabilities[:0])
    at_once = sequence_probabilities(probabilities, sequences, 0.6)
    np.testing.assert_allclose(sums.probabilities(0.6), at_once, atol=1e-5)
    found = sums.predictions(0.6)
    np.testing.assert_array_equal(found.class_ids, at_once.argmax(axis=1)[sequences])
    np.testing.assert_allclose(found.confidence, at_once.max(axis=1)[sequences], atol=1e-5)


def test_a_sequence_without_an_answer_has_none_and_a_photo_without_one_has_that_of_its_sequence():
    sums = SequenceSums(np.array([0, 0, 1]), 3)
    sums.add(np.array([1]), np.array([[0.1, 0.8, 0.1]], np.float32))
    found = sums.predictions()
    assert list(found.cells(CLASSES)) == [(0, "fox", pytest.approx(0.8)), (0, "fox", pytest.approx(0.8)), (1, "", None)]
    assert found.of(np.array([2])).class_ids.tolist() == [-1]
    assert len(SequenceSums(np.zeros(0, np.int64), 3).predictions()) == 0


def test_more_sequences_than_are_computed_at_once(monkeypatch):
    probabilities, _, sequences = bursts(50, 3)
    sums = SequenceSums(sequences, probabilities.shape[1])
    sums.add(np.arange(len(sequences)), probabilities)
    whole = sums.predictions(0.7)
    monkeypatch.setattr("camera_trap_al.statistics.sequence_predictions.SEQUENCES_PER_STEP", 7)
    in_steps = sums.predictions(0.7)
    np.testing.assert_array_equal(whole.class_ids, in_steps.class_ids)
    np.testing.assert_allclose(whole.confidence, in_steps.confidence, rtol=1e-6)


@pytest.mark.parametrize("alike", [0.2, 0.5])
def test_the_confidence_of_a_calibrated_sequence_is_true_and_that_of_the_mean_alone_is_not(alike):
    """Averaged without a temperature, five photos are no surer than one, and are more often right."""
    calibration = calibrate_sequences(*with_truth_by_photo(bursts(400, 4, alike=alike)), "validation")
    assert calibration.n_photos == 400 and calibration.temperature < 0.8
    assert calibration.ece_after < calibration.ece_before / 2
    probabilities, truth, sequences = bursts(4000, 5, alike=alike)  # others
    without = expected_calibration_error(sequence_probabilities(probabilities, sequences), truth)
    found = sequence_probabilities(probabilities, sequences, calibration.temperature)
    assert without > 0.1 and expected_calibration_error(found, truth) < without / 3
    of_photos = (probabilities.argmax(axis=1) == truth[sequences]).mean()
    assert (found.argmax(axis=1) == truth).mean() > of_photos + 0.05


def with_truth_by_photo(made):
    probabilities, truth, sequences = made
    return probabilities, truth[sequences], sequences


def test_the_temperature_is_that_of_averaged_sequences_of_several_photos_with_one_commonest_class():
    probabilities, targets, sequences = with_truth_by_photo(bursts(60, 6))
    sequences[sequences == 0] = -1  # not known
    alone = np.flatnonzero(sequences == 1)[1:]
    sequences[alone] = 1000 + np.arange(len(alone))  # single photos, and so is the one that stays
    first, second = np.flatnonzero(sequences == 2)[:2]
    tied = np.flatnonzero(sequences == 2)[2:]
    targets[first], targets[second], sequences[tied] = 0, 1, -1
    of_3 = np.flatnonzero(sequences == 3)
    targets[of_3], targets[of_3[0]] = 4, 3
    assert len(of_3) > 2, "else it has no majority"
    found = calibrate_sequences(probabilities, targets, sequences, "audit")
    averaged, truth = [], []
    for number in range(3, 60):
        is_in = sequences == number
        averaged.append(slowly(probabilities[is_in], 1.0))
        truth.append(4 if number == 3 else targets[is_in][0])
    assert (found.n_photos, found.source) == (57, "audit")
    assert found.temperature == pytest.approx(
        fit_temperature(np.array(averaged, np.float32), np.array(truth)), rel=1e-3
    )


@pytest.mark.parametrize("n_sequences", [0, 1, 19])
def test_too_few_sequences_leave_it_at_the_mean(n_sequences):
    found = calibrate_sequences(*with_truth_by_photo(bursts(n_sequences, 7)), "validation")
    assert (found.temperature, found.source, found.n_photos) == (1.0, "nothing", 0)


def test_photos_that_are_all_the_same_need_no_temperature():
    probabilities, truth, sequences = bursts(500, 8, alike=1.0)
    found = calibrate_sequences(probabilities, truth[sequences], sequences, "validation")
    assert found.temperature == pytest.approx(1, abs=0.12)
    one_each = probabilities[np.unique(sequences, return_index=True)[1]]
    tempered = with_temperature(one_each, found.temperature)
    np.testing.assert_allclose(sequence_probabilities(probabilities, sequences, found.temperature), tempered, atol=1e-5)


def test_what_does_not_fit_together_is_told():
    with pytest.raises(ConfigError, match=r"sequences \(n,\)"):
        sequence_probabilities(np.ones((3, 2), np.float32), np.zeros(2, np.int64))
