import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from camera_trap_al.exceptions import ConfigError
from camera_trap_al.statistics.forecast import FEWEST_POINTS, LearningCurve, fit_learning_curve, forecast

LABELS = np.arange(50, 550, 50)


def curve(n, ceiling=0.95, drop=2.0, exponent=0.5):
    return ceiling - drop * np.asarray(n, float) ** -exponent


def of(figures, labels=LABELS, seed=0, **options):
    return forecast(labels, figures, rng=np.random.default_rng(seed), **options)


@pytest.mark.parametrize("exponent", [0.2, 0.5, 1.0])
def test_a_curve_without_noise_is_found_and_extended(exponent):
    parameters = {"drop": 0.4 * 50**exponent, "exponent": exponent}
    found = of(curve(LABELS, **parameters))
    assert found.at == 600
    assert found.figure == pytest.approx(curve(600, **parameters), abs=2e-4)
    assert found.gain == pytest.approx(curve(600, **parameters) - curve(500, **parameters), abs=2e-4)
    assert found.low <= found.gain <= found.high <= found.low + 2e-3
    assert found.curve.at(LABELS) == pytest.approx(curve(LABELS, **parameters), abs=1e-3)


def test_the_fit_is_as_good_as_that_of_scipy():
    rng = np.random.default_rng(1)
    figures, errors = curve(LABELS) + rng.normal(0, 0.01, 10), np.linspace(0.02, 0.005, 10)
    shares = LABELS / 500
    bounds = ([0, 0, 0.05], [1, 1, 3])
    expected, _ = curve_fit(curve, shares, figures, p0=[0.9, 0.1, 0.5], sigma=errors, bounds=bounds)

    def loss(given):
        return np.square((figures - given) / errors).sum()

    found = fit_learning_curve(LABELS.astype(float), figures, 1 / errors**2)
    assert loss(found.at(LABELS)) == pytest.approx(loss(curve(shares, *expected)), rel=1e-2)
    assert found.at(600) == pytest.approx(curve(1.2, *expected), abs=1e-3)


@pytest.mark.parametrize("figure", [0.0, 0.3, 1.0])
def test_a_flat_curve_promises_nothing(figure):
    found = of(np.full(10, figure))
    assert (found.gain, found.low, found.high) == pytest.approx((0, 0, 0), abs=1e-9)
    assert found.figure == pytest.approx(figure)


def test_a_flat_or_falling_curve_with_noise_promises_about_nothing():
    rng = np.random.default_rng(2)
    assert of(0.8 + rng.normal(0, 0.01, 10)).gain < 0.005
    falling = of(np.linspace(0.8, 0.6, 10))
    assert falling.gain == falling.low == 0


@pytest.mark.parametrize("with_errors", [False, True])
def test_intervals_hold_the_true_gain_about_as_often_as_they_say(with_errors):
    rng, true, held = np.random.default_rng(3), curve(600) - curve(500), 0
    errors = np.full(10, 0.01) if with_errors else None
    for seed in range(100):
        found = of(curve(LABELS) + rng.normal(0, 0.01, 10), standard_errors=errors, seed=seed)
        held += found.low <= true <= found.high
    assert held >= 70  # 80 of 100 are promised, with a standard deviation of 4


def test_figures_that_scatter_more_give_wider_intervals():
    rng = np.random.default_rng(4)
    noise = rng.normal(0, 1, 10)
    widths = [found.high - found.low for found in (of(curve(LABELS) + sd * noise) for sd in (0.002, 0.01, 0.05))]
    assert widths == sorted(widths)
    assert widths[2] > 2 * widths[0]
    told = of(curve(LABELS), standard_errors=np.full(10, 0.02))
    assert told.high - told.low > 10 * (of(curve(LABELS)).high - of(curve(LABELS)).low)


def test_surer_figures_count_for_more():
    figures = curve(LABELS)
    figures[-1] -= 0.1
    errors = np.full(10, 0.01)
    errors[-1] = 0.5
    assert of(figures, standard_errors=errors).figure == pytest.approx(curve(600), abs=0.01)
    assert of(figures).figure < curve(600) - 0.02


def test_the_same_generator_gives_the_same_forecast_in_any_order_of_the_figures():
    figures = curve(LABELS) + np.random.default_rng(5).normal(0, 0.01, 10)
    assert of(figures) == of(figures)
    assert of(figures).low != of(figures, seed=1).low
    assert of(figures[::-1], LABELS[::-1]).gain == pytest.approx(of(figures).gain)


@pytest.mark.parametrize("labels", [[], [50, 100, 150], [50, 50, 100, 100, 150]])
def test_too_few_numbers_of_labels_give_no_forecast(labels):
    assert len(set(labels)) < FEWEST_POINTS
    assert of(np.full(len(labels), 0.5), labels) is None


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(1, 5000), st.floats(0, 1)), min_size=4, max_size=12), st.integers(1, 10_000))
def test_nothing_leaves_0_to_1(points, ahead):
    labels, figures = zip(*points, strict=True)
    found = of(figures, labels, ahead=ahead)
    if found is not None:
        assert found.at == max(labels) + ahead
        assert 0 <= found.low <= found.gain <= found.high <= 1
        assert 0 <= found.figure <= 1
        assert (0 <= found.curve.at(np.arange(1, 6000, 7))).all()
        assert (found.curve.at(np.arange(1, 6000, 7)) <= 1).all()


def test_a_curve_by_hand():
    by_hand = LearningCurve(ceiling=0.9, drop=0.2, exponent=0.5, scale=100)
    assert by_hand.at([25, 100, 400]) == pytest.approx([0.5, 0.7, 0.8])
    assert by_hand.at(1) == 0  # 0.9 - 0.2 * 10 is below 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"labels": [10, 20, 30]}, "one number per evaluation"),
        ({"labels": [0, 20, 30, 40]}, "n_labels must be at least 1; got 0"),
        ({"figures": [0.5, 0.6, 0.7, 1.1]}, "figures must be shares from 0 to 1; got 0.5 to 1.1"),
        ({"figures": [0.5, 0.6, 0.7, np.nan]}, "figures must be shares"),
        ({"standard_errors": [0.1, 0.1, 0.1, 0]}, "standard_errors must be above 0"),
        ({"standard_errors": [0.1]}, "one number per evaluation"),
        ({"ahead": 0}, "ahead must be at least 1; got 0"),
        ({"level": 1}, "level must lie between 0 and 1; got 1"),
    ],
)
def test_what_does_not_fit_is_refused(options, told):
    with pytest.raises(ConfigError, match=told):
        of(**{"labels": [10, 20, 30, 40], "figures": [0.5, 0.6, 0.7, 0.8], **options})
