import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from camera_trap_al.progress import Progress, agreement_between
from camera_trap_al.statistics.forecast import Forecast, LearningCurve


def progress(**changes):
    usual = {"n_answers": 300, "n_rounds": 3, "labels_per_class": {"deer": 400, "fox": 3, "hare": 12}}
    return Progress(**(usual | changes))


def brings(gain, low, high):
    curve = LearningCurve(ceiling=1, drop=0, exponent=1, scale=300)
    return Forecast(at=400, figure=0.8, gain=gain, low=low, high=high, level=0.8, curve=curve)


def test_agreement_is_cohens_kappa_of_the_photos_that_both_models_saw():
    rng = np.random.default_rng(0)
    now, then = rng.integers(0, 3, 60), rng.integers(0, 3, 60)
    then[:40] = now[:40]
    by_row = [dict(enumerate(classes.tolist())) for classes in (now, then)]
    expected = cohen_kappa_score(now, then)
    assert agreement_between(*by_row) == pytest.approx(expected)
    assert agreement_between(by_row[0] | {100: 1}, by_row[1] | {200: 2}) == pytest.approx(expected)


def test_models_that_call_everything_the_same_agree():
    assert agreement_between({1: 0, 2: 0}, {1: 0, 2: 0}) == 1  # where kappa itself is 0 / 0


def test_without_a_common_photo_there_is_no_agreement():
    assert agreement_between({1: 0}, {2: 0}) is None
    assert agreement_between({}, {}) is None


@pytest.mark.parametrize(
    ("agreements", "has_settled"),
    [
        ((), False),
        ((1.0, 1.0), False),
        ((0.5, 1.0, 1.0, 1.0), True),
        ((0.985, 0.99, 1.0), True),
        ((1.0, 1.0, 0.95), False),
    ],
)
def test_predictions_have_settled_when_they_hardly_changed_in_three_rounds(agreements, has_settled):
    assert progress(agreements=agreements).has_settled == has_settled


def test_the_advice_is_one_line_with_every_reason():
    advice = progress(
        measured_on="validation",
        accuracy=0.834,
        interval=(0.801, 0.863),
        agreements=(0.7, 0.9, 0.94),
        forecast=brings(0.012, 0.001, 0.026),
    ).advice
    assert advice == (
        "Advice: go on. Accuracy 83.4% (80.1% to 86.3%); 100 more labels are likely to bring 1.2 points (0.1 to 2.6); "
        "predictions agree with those of the round before to 0.940 (settled: 0.99); 2 of 3 classes have fewer than 250 "
        "labels (fox 3, hare 12)."
    )


@pytest.mark.parametrize(
    ("agreements", "gain", "begins"),
    [
        ((1.0, 1.0, 1.0), 0.001, "Advice: you may stop (type q)."),
        ((1.0, 1.0, 1.0), None, "Advice: you may stop (type q)."),
        ((1.0, 1.0, 1.0), 0.03, "Advice: go on."),  # settled, but the learning curve still rises
        ((0.9, 0.9, 0.9), 0.001, "Advice: go on."),
        ((1.0, 1.0), 0.001, "Advice: go on; it is too early to tell more."),
    ],
)
def test_the_advice_is_to_stop_when_predictions_have_settled_and_labels_bring_little(agreements, gain, begins):
    forecast = None if gain is None else brings(gain, -0.01, 0.05)
    assert progress(accuracy=0.8, agreements=agreements, forecast=forecast).advice.startswith(begins)


def test_an_accuracy_of_few_photos_is_told_with_their_number():
    assert "Accuracy 100.0% on only 3 photos;" in progress(accuracy=1.0, n_measured=3).advice
    assert "only" not in progress(accuracy=1.0, n_measured=50).advice


def test_the_advice_does_without_what_is_not_known():
    assert progress(labels_per_class={"deer": 250, "fox": 251}).advice == (
        "Advice: go on; it is too early to tell more. Whether predictions still change shows after the next round; "
        "every class has 250 labels or more."
    )


@pytest.mark.parametrize(
    ("accuracy", "interval", "n", "wanted", "reached"),
    [
        (0.93, (0.9, 0.95), 1000, 0.9, True),
        (0.93, (0.89, 0.95), 1000, 0.9, False),
        (0.93, None, 1000, 0.0, False),
        (1.0, (1.0, 1.0), 49, 0.0, False),  # too few
        (1.0, (1.0, 1.0), 50, 0.95, False),  # of 50 without a fault, up to 7 % may be wrong
        (1.0, (1.0, 1.0), 50, 0.92, True),
    ],
)
def test_an_accuracy_is_reached_when_chance_does_not_explain_it(accuracy, interval, n, wanted, reached):
    assert progress(accuracy=accuracy, interval=interval, n_measured=n).reaches(wanted) == reached


@pytest.mark.parametrize(
    "changes", [{"accuracy": None}, {"labels_per_class": {"deer": 0, "fox": 40}}], ids=["nothing measured", "one class"]
)
def test_a_model_of_which_nothing_is_known_is_no_reason_to_stop(changes):
    settled = {"accuracy": 0.5, "agreements": (1.0, 1.0, 1.0)}
    assert progress(**settled).advice.startswith("Advice: you may stop")
    assert progress(**settled | changes).advice.startswith("Advice: go on.")
