"""Confidence that means something: a temperature for the classifier's probabilities, and how true they are."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from camera_trap_al.exceptions import ConfigError, DataError
from camera_trap_al.pools import FloatArray, IndexArray

__all__ = [
    "Calibration",
    "Source",
    "calibrate",
    "check_judged",
    "expected_calibration_error",
    "fit_temperature",
    "mean_log_loss",
    "temperature_like",
    "with_temperature",
]

Source = Literal["audit", "validation", "out of fold", "nothing"]
"""Which photos a temperature was fitted on."""

# Down to 0.1, the powers of a thousand equally likely classes fit into float32; at 20, all classes are nearly equal.
TEMPERATURES = (0.1, 20.0)
# A class without a label has probability 0 at any temperature. In simulations with 2 to 20 % photos of such classes,
# 0.01 gave the least calibration error; the 1e-7 that is usual for a log loss raised the temperature beyond all reason.
IN_PLACE_OF_ZERO = 0.01
LEAST_IN_LOG_LOSS = float(np.finfo(np.float32).eps)  # scikit-learn's bound as well
N_FOLDS = 5
FEWEST_PHOTOS = 2  # that can be told apart into folds

NOTES: dict[Source, str] = {
    "audit": (
        "Confidence was adjusted with {n} audit photos, drawn at random from the unlabelled photos: it holds for "
        "photos like those, and less for other places or seasons."
    ),
    "validation": (
        "Confidence was adjusted with {n} validation photos. It is true only where the mix of species is like that of "
        "the validation photos: for a species that is rarer in the photos to be named than in these, it is too high."
    ),
    "out of fold": (
        "Confidence was adjusted with {n} labelled photos, each judged by a classifier that had not learnt from its "
        "folder. It is better than none, but not fit for thresholds: labelled photos are no fair sample, "
        "since the strategy chose them, and training photos of one burst make it too high. Validation photos, in a "
        "folder for each species in validation_data, give a confidence that can be relied on."
    ),
    "nothing": (
        "Confidence is as the classifier gives it, which is mostly too high, since there are no photos to adjust it "
        "with. Validation photos, in a folder for each species in validation_data, change that."
    ),
}


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A temperature, where it is from, and what it does to the photos that it is from.

    Attributes
    ----------
    temperature
        For `with_temperature`; 1 changes nothing, above 1 makes the classifier less sure.
    source
        Which photos it was fitted on.
    n_photos
        How many these were.
    ece_before, ece_after
        Expected calibration error, 0 to 1, without and with a temperature; None if `source` is "nothing". Each photo
        is judged after a temperature that was fitted without it, so that `ece_after` does not flatter. If `source` is
        "out of fold", they are of a logistic regression, which stands in for the classifier if that is another one.
    log_loss_before, log_loss_after
        Mean log loss in nats, likewise; a probability counts as at least 1.2e-7.
    """

    temperature: float = 1.0
    source: Source = "nothing"
    n_photos: int = 0
    ece_before: float | None = None
    ece_after: float | None = None
    log_loss_before: float | None = None
    log_loss_after: float | None = None

    @property
    def note(self) -> str:
        """What confidence means after this, in a few sentences for people."""
        return NOTES[self.source].format(n=f"{self.n_photos:,}")

    def to_dict(self) -> dict[str, Any]:
        """Return everything, `note` included, as plain values for JSON."""
        return {**asdict(self), "note": self.note}


def calibrate(
    probabilities: FloatArray, targets: IndexArray, source: Source, groups: IndexArray | None = None
) -> Calibration:
    """Fit a temperature on all photos, and measure what it is worth on photos that it was not fitted on.

    Parameters
    ----------
    probabilities
        (n, n_classes), columns by class id, of photos that the classifier did not learn from.
    targets
        (n,) their true class ids.
    source
        Which photos they are.
    groups
        (n,) folder or sequence of each, equal numbers for photos that are alike: they are in one fold when the
        temperature is measured. None: each photo is on its own.

    Returns
    -------
    One of the source "nothing", with the temperature 1, if there are fewer than 2 photos.

    Raises
    ------
    ConfigError, DataError
        If the arguments do not fit together, or a probability is NaN.
    """
    check_judged(probabilities, targets)
    if len(targets) < FEWEST_PHOTOS:
        return Calibration()
    after = _cross_fitted(probabilities, targets, groups)
    return Calibration(
        temperature=fit_temperature(probabilities, targets),
        source=source,
        n_photos=len(targets),
        ece_before=expected_calibration_error(probabilities, targets),
        ece_after=expected_calibration_error(after, targets),
        log_loss_before=mean_log_loss(probabilities, targets),
        log_loss_after=mean_log_loss(after, targets),
    )


def with_temperature(probabilities: FloatArray, temperature: float) -> FloatArray:
    """Make probabilities more alike or less: p^(1 / temperature), divided by the sum of its row.

    That is the softmax of the logits divided by the temperature [Guo et al., 2017]. The order of the classes of a photo
    stays as it is, and so does 0. In a graph, Pow, ReduceSum and Div do the same; here each row is divided by its
    highest probability first, so that nothing can underflow to a row of zeros, whatever the number of classes.

    Parameters
    ----------
    probabilities
        (n, n_classes), rows of sum 1.
    temperature
        Above 0. At 1, the very values of `probabilities` come back.

    Raises
    ------
    ConfigError
        If `temperature` is not a finite number above 0.
    """
    if not 0 < temperature < math.inf:
        raise ConfigError(f"temperature must be a finite number above 0; got {temperature}.")
    if temperature == 1:
        return probabilities
    powers = (probabilities / probabilities.max(axis=1, keepdims=True)) ** np.float32(1 / temperature)
    tempered: FloatArray = powers / powers.sum(axis=1, keepdims=True)
    return tempered


def fit_temperature(probabilities: FloatArray, targets: IndexArray) -> float:
    """Find the temperature of the least log loss [Guo et al., 2017], between 0.1 and 20.

    The logarithm of the temperature has a normal prior of mean 0 and standard deviation 1 (our addition): a handful of
    photos that are all right or all wrong moves it a little, and from a hundred on it is hardly felt. Where the true
    class has no label, and so the probability 0, the photo counts as if that were 0.01: left out, it would leave the
    classifier too sure.

    Parameters
    ----------
    probabilities
        (n, n_classes), columns by class id, of photos that the classifier did not learn from.
    targets
        (n,) their true class ids.

    Returns
    -------
    1 if there are no photos, or each has a single class of a probability above 0, which no temperature changes.

    Raises
    ------
    ConfigError, DataError
        If the arguments do not fit together, or a probability is NaN.
    """
    check_judged(probabilities, targets)
    return _temperature_of_least_loss(probabilities, _logarithms(probabilities)[np.arange(len(targets)), targets])


def temperature_like(probabilities: FloatArray, wanted: FloatArray) -> float:
    """Find the temperature that brings probabilities nearest to those of another classifier for the same photos.

    Nearest in cross-entropy: it is what `fit_temperature` finds if the true class of each photo is drawn from `wanted`,
    again and again.

    Parameters
    ----------
    probabilities, wanted
        (n, n_classes), columns by class id, of photos that neither classifier learnt from.

    Raises
    ------
    ConfigError
        If they differ in shape.
    """
    if probabilities.shape != wanted.shape:
        raise ConfigError(f"wanted must have the shape of probabilities, {probabilities.shape}; got {wanted.shape}.")
    return _temperature_of_least_loss(probabilities, (wanted * _logarithms(probabilities)).sum(axis=1))


def _logarithms(probabilities: FloatArray) -> NDArray[np.float64]:
    return np.log(np.where(probabilities == 0, IN_PLACE_OF_ZERO, probabilities), dtype=np.float64)


def _temperature_of_least_loss(probabilities: FloatArray, of_truth: NDArray[np.float64]) -> float:
    """Find it for the logarithm of the true class' probability, (n,), or its expectation."""
    if (np.count_nonzero(probabilities, axis=1) < 2).all():
        return 1.0
    highest = np.log(probabilities.max(axis=1, keepdims=True), dtype=np.float64)
    with np.errstate(divide="ignore"):
        # Relative to the highest, no power can overflow, and no sum become 0.
        scores = np.log(probabilities, dtype=np.float64) - highest
    of_truth = of_truth - highest[:, 0]

    def loss(log_temperature: float) -> float:
        scale = math.exp(-log_temperature)
        sums = np.exp(scores * scale).sum(axis=1)
        return float((np.log(sums) - of_truth * scale).sum() + log_temperature**2 / 2)

    bounds = tuple(map(math.log, TEMPERATURES))
    return math.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x)


def expected_calibration_error(probabilities: FloatArray, targets: IndexArray, n_bins: int = 15) -> float:
    """Say by how much confidence and accuracy differ on average [Naeini et al., 2015; Guo et al., 2017].

    Photos are put into bins of equal width by the probability of their likeliest class, each bin without its lower end
    and with its upper one; the differences of mean confidence and accuracy are averaged, weighted by the photos.

    Parameters
    ----------
    probabilities
        (n, n_classes), columns by class id; of equal probabilities the lower class id counts.
    targets
        (n,) true class ids.
    n_bins
        At least 1.

    Returns
    -------
    0 (confidence is true) to 1. With few photos it is above 0 by chance alone.

    Raises
    ------
    ConfigError, DataError
        If the arguments do not fit together, there is no photo, or a probability is NaN.
    """
    check_judged(probabilities, targets)
    if not len(targets):
        raise DataError("The calibration error cannot be measured: there is no photo to measure it on.")
    confidences = probabilities.max(axis=1).astype(np.float64)
    is_right = probabilities.argmax(axis=1) == targets
    bins = np.clip(np.ceil(confidences * n_bins).astype(np.int64) - 1, 0, n_bins - 1)
    return float(np.abs(np.bincount(bins, is_right - confidences)).sum() / len(targets))


def check_judged(probabilities: NDArray[Any], targets: IndexArray) -> None:
    """Refuse what cannot be a photo's probabilities and true class in each row.

    Raises
    ------
    ConfigError
        If the arrays do not fit together.
    DataError
        If a probability is NaN.
    """
    if probabilities.ndim != 2 or targets.shape != (len(probabilities),):
        raise ConfigError(
            f"probabilities must have the shape (n, n_classes) and targets (n,); got {probabilities.shape} and "
            f"{targets.shape}."
        )
    if len(targets) and not 0 <= targets.min() <= targets.max() < probabilities.shape[1]:
        raise ConfigError(
            f"targets must be class ids from 0 to {probabilities.shape[1] - 1}; got {targets.min()} to {targets.max()}."
        )
    if np.isnan(probabilities).any():
        raise DataError("The model cannot be calibrated: some of its probabilities are NaN. Its training has diverged.")


def _cross_fitted(probabilities: FloatArray, targets: IndexArray, groups: IndexArray | None) -> FloatArray:
    """Apply to each photo a temperature that was fitted on the photos of other folds."""
    numbers = np.arange(len(targets)) if groups is None else np.unique(groups, return_inverse=True)[1]
    if numbers.max() == 0:  # a single group, which leaves nothing to fit on
        numbers = np.arange(len(targets))
    folds = numbers % N_FOLDS
    after = np.empty_like(probabilities)
    for fold in np.unique(folds):
        is_in = folds == fold
        after[is_in] = with_temperature(probabilities[is_in], fit_temperature(probabilities[~is_in], targets[~is_in]))
    return after


def mean_log_loss(probabilities: FloatArray, targets: IndexArray) -> float:
    """Average minus the logarithm of the true class' probability, in nats; that counts as at least 1.2e-7.

    Parameters
    ----------
    probabilities
        (n, n_classes), columns by class id.
    targets
        (n,) true class ids.
    """
    of_truth = probabilities[np.arange(len(targets)), targets]
    return float(-np.log(np.maximum(of_truth, LEAST_IN_LOG_LOSS), dtype=np.float64).mean())
