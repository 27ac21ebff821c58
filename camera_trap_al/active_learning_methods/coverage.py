"""Strategies that ask about images which stand for many others: every photo shall lie near a labelled one."""

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.spatial.distance import pdist
from sklearn.neighbors import NearestNeighbors

from camera_trap_al.active_learning_methods.base import TIE_TOLERANCE, PoolView, QueryStrategy, fill_at_random
from camera_trap_al.active_learning_methods.greedy import choose_by_coverage, choose_centres, sample
from camera_trap_al.active_learning_methods.uncertainty import margins
from camera_trap_al.exceptions import ConfigError
from camera_trap_al.pools import FloatArray, IndexArray

__all__ = [
    "AutoSampling",
    "KCenterSampling",
    "MaxHerdingSampling",
    "TailHerdingSampling",
    "UncertaintyHerdingSampling",
    "calibrated_temperature",
    "labelled_radius",
    "pool_radius",
    "rarity",
    "tempered_uncertainty",
]

logger = logging.getLogger(__name__)

# Pairs of 1,000 rows give the median distance to about 1 %.
ROWS_FOR_RADIUS = 1000
# Nearest neighbours among the labels take quadratic time: half a second for so many.
LABELS_FOR_NEIGHBOURS = 5000
ROWS_FOR_TEMPERATURE = 20_000
TEMPERATURES = (0.05, 20.0)
# In float32 a kernel much narrower than the cloud of points is rounding; 0.001 of the median distance still works.
NARROWEST = 1e-3


class KCenterSampling(QueryStrategy):
    """Ask about images far from every labelled one, so that none is far from a label [Sener & Savarese, 2018]."""

    source: ClassVar[str] = "Sener & Savarese 2018"
    when: ClassVar[str] = "to find odd photos early; it likes outliers, so look at what it asks about"
    cost: ClassVar[str] = "n x (labels + picks) distances"

    def choose(self, view: PoolView, n: int, rng: np.random.Generator) -> IndexArray:
        """Return up to `n` rows of `choose_centres`, the rest at random."""
        chosen = choose_centres(view.embeddings, view.labelled, view.unlabelled, n, rng)
        return fill_at_random(view, chosen, n, rng)


@dataclass(frozen=True, kw_only=True)
class MaxHerdingSampling(QueryStrategy):
    """Ask about images that many others resemble, unless a label resembles them already [Bae et al., 2024].

    Parameters
    ----------
    radius
        How far an image speaks for others: the standard deviation of the Gaussian kernel in units of the embeddings,
        above 0; None for `pool_radius`.
    max_anchors
        On how many images the coverage is measured, at least 1. A pool of up to so many is treated exactly; of a larger
        one so many are drawn at random each time. All images may be chosen either way.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    source: ClassVar[str] = "Bae et al. 2024"
    when: ClassVar[str] = "the first rounds, with few labels per species"
    cost: ClassVar[str] = "n x 10,000 kernel values; n x n below 10,000 photos"

    radius: float | None = None
    max_anchors: int = 10_000

    def __post_init__(self) -> None:
        problems = list(_anchor_problems(self.max_anchors))
        if self.radius is not None and not 0 < self.radius < math.inf:
            problems.append(f"radius must be a number above 0, or None to derive it; got {self.radius}.")
        if problems:
            raise ConfigError(problems)

    def choose(self, view: PoolView, n: int, rng: np.random.Generator) -> IndexArray:
        """Return up to `n` rows of `choose_by_coverage`, the rest at random."""
        radius = self.radius or pool_radius(view.embeddings, _pool_of(view), rng)
        return _choose_and_fill(view, n, rng, radius, None, self.max_anchors)


@dataclass(frozen=True, kw_only=True)
class UncertaintyHerdingSampling(QueryStrategy):
    """Ask about images that many unsure ones resemble, unless a label resembles them already [Bae et al., 2025].

    The coverage of `choose_by_coverage`, each image weighted by the classifier's `tempered_uncertainty`. With few
    labels everything is unsure and the kernel wide, which is `max_herding`; with many the kernel is narrow, which is
    margin sampling. If the classifier is sure of all images, as it is of a single class, all weigh the same.

    Parameters
    ----------
    radius_quantile
        Which of the distances between a label and the nearest other one is the radius, 0..1. The paper takes the
        smallest, 0; the median, 0.5, is our choice, since two photos of one burst would make the smallest nothing.
    max_anchors
        As for `max_herding`.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    source: ClassVar[str] = "Bae et al. 2025"
    when: ClassVar[str] = "few labels or many: one rule for a whole run"
    cost: ClassVar[str] = "n x 10,000 kernel values; n x n below 10,000 photos"

    radius_quantile: float = 0.5
    max_anchors: int = 10_000

    def __post_init__(self) -> None:
        problems = list(_anchor_problems(self.max_anchors))
        if not 0 <= self.radius_quantile <= 1:
            problems.append(f"radius_quantile must be a number from 0 to 1; got {self.radius_quantile}.")
        if problems:
            raise ConfigError(problems)

    def choose(self, view: PoolView, n: int, rng: np.random.Generator) -> IndexArray:
        """Return up to `n` rows of `choose_by_coverage`, the rest at random."""
        widest = pool_radius(view.embeddings, _pool_of(view), rng)
        some = sample(view.labelled, LABELS_FOR_NEIGHBOURS, rng)
        radius, accuracy = widest, None
        if len(some) > 1:
            distances, nearest = _nearest_others(view.embeddings[some])
            radius = max(labelled_radius(distances, self.radius_quantile, otherwise=widest), NARROWEST * widest)
            accuracy = float((view.targets[some] == view.targets[some[nearest]]).mean())
        weights = self._weights(view, accuracy, rng)
        return _choose_and_fill(view, n, rng, radius, weights, self.max_anchors)

    def _weights(self, view: PoolView, accuracy: float | None, rng: np.random.Generator) -> FloatArray | None:
        some = sample(np.arange(len(view.unlabelled)), ROWS_FOR_TEMPERATURE, rng)
        probabilities = view.probabilities()
        temperature = 1.0 if accuracy is None else calibrated_temperature(probabilities[some], accuracy)
        weights = tempered_uncertainty(probabilities, temperature)
        if weights.max() <= TIE_TOLERANCE:
            logger.info("The classifier is sure of every image, so all of them weigh the same")
            return None
        return weights


@dataclass(frozen=True, kw_only=True)
class TailHerdingSampling(UncertaintyHerdingSampling):
    """Ask about images that many unsure ones of rare classes resemble, unless a label resembles them already.

    As `uncertainty_herding`, but each image weighs `rarity` times as much. Ours, from the uncertainty herding of Bae et
    al. [2025] and the tail first sampling of Wang et al. [2025].

    Parameters
    ----------
    radius_quantile, max_anchors
        As for `uncertainty_herding`.
    strength
        The power of `rarity`, at least 0; 0 makes it `uncertainty_herding`.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    source: ClassVar[str] = "Bae et al. 2025, Wang et al. 2025"
    when: ClassVar[str] = "some species are much rarer than others, and count as much"
    cost: ClassVar[str] = "n x 10,000 kernel values; n x n below 10,000 photos"

    strength: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.strength < math.inf:
            raise ConfigError(f"strength must be a number of at least 0; got {self.strength}.")

    def _weights(self, view: PoolView, accuracy: float | None, rng: np.random.Generator) -> FloatArray | None:
        weights = super()._weights(view, accuracy, rng)
        labels_per_class = np.bincount(view.targets[view.labelled], minlength=len(view.classes))
        rare = rarity(view.probabilities(), labels_per_class, self.strength)
        return rare if weights is None else weights * rare


class AutoSampling(TailHerdingSampling):
    """Ask about images by the rule that needed fewest labels in our measurements, which is `tail_herding` today."""

    when: ClassVar[str] = "to follow what docs/label_efficiency.md finds; another version may choose otherwise"


def rarity(probabilities: FloatArray, labels_per_class: IndexArray, strength: float) -> FloatArray:
    """Say how rare among the labels the classes are that each image may show.

    Parameters
    ----------
    probabilities
        (n, n_classes), rows of sum 1.
    labels_per_class
        (n_classes,) counts.
    strength
        The power that makes more or less of the differences.

    Returns
    -------
    (n,) expected value, over the classes of each image, of (mean + 1) / (labels + 1) to the power `strength`, above 0.
    """
    counts = labels_per_class + 1.0  # of a class without a label, nothing is known to be infinitely rare
    expected: FloatArray = probabilities @ ((counts.mean() / counts) ** strength).astype(np.float32)
    return expected


def pool_radius(embeddings: FloatArray, rows: IndexArray, rng: np.random.Generator) -> float:
    """Derive the radius of the kernel from the spread of the pool.

    Bae et al. [2024] take 1 for features of unit length, where unrelated images lie about sqrt(2) apart. Embeddings
    here have no such length, so the same in other words (our derivation): the median distance of two distinct images
    divided by sqrt(2). Of more than 1,000 images so many are drawn. It is 1 if all images are the same.
    """
    distances = pdist(embeddings[sample(rows, ROWS_FOR_RADIUS, rng)])
    apart = distances[distances > TIE_TOLERANCE]
    return float(np.median(apart)) / math.sqrt(2) if apart.size else 1.0


def labelled_radius(nearest: FloatArray, quantile: float, *, otherwise: float) -> float:
    """Derive the radius of the kernel from how near the labels are to each other: more labels, smaller radius.

    Bae et al. [2025] take the smallest distance between two distinct labelled images, quantile 0.

    Parameters
    ----------
    nearest
        (n_labelled,), distance of each labelled image from the nearest other one.
    quantile
        Which of those above 1e-6 to take, 0..1.
    otherwise
        The radius if all labelled images are the same.
    """
    apart = nearest[nearest > TIE_TOLERANCE]
    return float(np.quantile(apart, quantile)) if apart.size else otherwise


def tempered_uncertainty(probabilities: FloatArray, temperature: float) -> FloatArray:
    """Return 1 less the margin of the tempered probabilities, those in proportion to p^(1 / temperature).

    That is the softmax of the logits divided by the temperature [Guo et al., 2017]; the margin is the uncertainty with
    which Bae et al. [2025] report most results. Classes of probability 0 stay at 0.

    Returns
    -------
    FloatArray
        (n_images,), 0 (sure) .. 1 (two classes tie).
    """
    return 1 - margins(_tempered(probabilities, temperature))


def calibrated_temperature(probabilities: FloatArray, accuracy: float) -> float:
    """Find the temperature at which the mean confidence equals the accuracy that can be expected.

    Bae et al. [2025] choose the temperature of the least calibration error on labels held out of training. A strategy
    sees no held-out labels, so (our derivation) this takes the calibration error with a single bin, mean confidence
    against accuracy; the caller estimates the accuracy by giving each label the class of its nearest neighbour.

    Parameters
    ----------
    probabilities
        (n_images, n_classes).
    accuracy
        0..1.

    Returns
    -------
    float
        0.05..20; above 1 if the classifier is surer than it should be.
    """
    low, high = (math.log(bound) for bound in TEMPERATURES)
    for _ in range(20):  # the interval shrinks to 6e-6
        middle = (low + high) / 2
        confidence = _tempered(probabilities, math.exp(middle)).max(axis=1).mean()
        low, high = (middle, high) if confidence > accuracy else (low, middle)
    return math.exp((low + high) / 2)


def _tempered(probabilities: FloatArray, temperature: float) -> FloatArray:
    # Relative to the highest, so that small probabilities cannot all become 0.
    powers = (probabilities / probabilities.max(axis=1, keepdims=True)) ** np.float32(1 / temperature)
    tempered: FloatArray = powers / powers.sum(axis=1, keepdims=True)
    return tempered


def _choose_and_fill(
    view: PoolView,
    n: int,
    rng: np.random.Generator,
    radius: float,
    weights: FloatArray | None,
    max_anchors: int,
) -> IndexArray:
    chosen = choose_by_coverage(
        view.embeddings,
        view.labelled,
        view.unlabelled,
        n,
        rng,
        radius=radius,
        weights=weights,
        max_anchors=max_anchors,
    )
    return fill_at_random(view, chosen, n, rng)


def _anchor_problems(max_anchors: int) -> Iterator[str]:
    if max_anchors < 1:
        yield f"max_anchors, the images on which the coverage is measured, must be at least 1; got {max_anchors}."


def _pool_of(view: PoolView) -> IndexArray:
    return np.concatenate([view.labelled, view.unlabelled])


def _nearest_others(points: FloatArray) -> tuple[FloatArray, IndexArray]:
    """Distance from each point to the nearest other one, and which that is."""
    nearest = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(points).kneighbors(return_distance=False)[:, 0]
    return np.linalg.norm(points - points[nearest], axis=1), nearest  # those of the search are not 0 for copies
