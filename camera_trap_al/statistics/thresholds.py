"""From which confidence on a species can be accepted, and from which on the suggestion is worth a look."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from camera_trap_al.exceptions import ConfigError
from camera_trap_al.pools import FloatArray, IndexArray
from camera_trap_al.statistics.calibration import Source, check_judged

__all__ = ["ClassThresholds", "Threshold", "Thresholds", "find_thresholds"]

FEWEST_PHOTOS = 100
FEWEST_OF_A_CLASS = 30
FEWEST_ABOVE = 30  # an error rate of fewer photos says little: of 30 without a fault, up to 11 % may be wrong
WRONG_IN_REVIEW = 0.5
FIT_FOR_THRESHOLDS: tuple[Source, ...] = ("audit", "validation")


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A confidence, and how right the classifier is from it on.

    Attributes
    ----------
    confidence
        Photos of this confidence or more are meant, up to the next threshold if there is one.
    n_photos, n_wrong
        How many such photos there were among those that it was found on, and how many of these had another species.
    """

    confidence: float
    n_photos: int
    n_wrong: int

    @property
    def error_interval(self) -> tuple[float, float]:
        """Where the share of wrong photos probably lies: the 95 % interval of Wilson [1927]."""
        interval = binomtest(self.n_wrong, self.n_photos).proportion_ci(method="wilson")
        return float(interval.low), float(interval.high)

    def to_dict(self) -> dict[str, float]:
        """Return everything, `error_interval` included, as plain values for JSON."""
        low, high = self.error_interval
        return {
            "confidence": self.confidence,
            "n_photos": self.n_photos,
            "n_wrong": self.n_wrong,
            "error_low": low,
            "error_high": high,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild it from `to_dict`."""
        return cls(confidence=values["confidence"], n_photos=values["n_photos"], n_wrong=values["n_wrong"])


@dataclass(frozen=True, kw_only=True)
class ClassThresholds:
    """The thresholds for one suggested class, or for all that have none of their own.

    Attributes
    ----------
    accept
        From here on, the suggestion can be accepted; None if it never can.
    review
        From here on, up to `accept`, a person should look; below, the photo is to be labelled by hand. None if the
        suggestion of no such photo helps.
    """

    accept: Threshold | None = None
    review: Threshold | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return both as plain values for JSON."""
        return {name: each and each.to_dict() for name, each in (("accept", self.accept), ("review", self.review))}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild them from `to_dict`."""
        return cls(**{name: values[name] and Threshold.from_dict(values[name]) for name in ("accept", "review")})


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """What to do with a photo, by its suggested class and confidence.

    Attributes
    ----------
    classes
        Class names by class id.
    wanted_error
        The share of accepted photos that may be wrong.
    source
        Which photos the thresholds were found on.
    n_photos
        How many these were.
    everywhere
        The thresholds for classes that have none of their own, found on the photos of these.
    of_class
        By class name, for the classes that have; without a threshold for those that were never suggested.
    why_none
        If there are no thresholds, a sentence that says why; else "".
    """

    classes: tuple[str, ...]
    wanted_error: float
    source: Source
    n_photos: int
    everywhere: ClassThresholds = field(default_factory=ClassThresholds)
    of_class: Mapping[str, ClassThresholds] = field(default_factory=dict)
    why_none: str = ""

    def decide(self, confidences: FloatArray, class_ids: IndexArray) -> NDArray[np.str_]:
        """Say what to do with each photo.

        Parameters
        ----------
        confidences
            (n,) probability of the likeliest class, after the temperature.
        class_ids
            (n,) that class.

        Returns
        -------
        (n,) "accept", "review" or "label"; "" for all if there are no thresholds.
        """
        if self.why_none:
            return np.full(len(confidences), "")
        accept, review = self._confidences[:, class_ids]
        return np.where(confidences >= accept, "accept", np.where(confidences >= review, "review", "label"))

    @cached_property
    def _confidences(self) -> NDArray[np.float64]:
        """(2, n_classes), from where on to accept and to review each class; infinity for never."""
        of_each = [self.of_class.get(name, self.everywhere) for name in self.classes]
        return np.array(
            [
                [np.inf if (found := getattr(each, name)) is None else found.confidence for each in of_each]
                for name in ("accept", "review")
            ]
        )

    @property
    def why_no_accept(self) -> str:
        """If no photo can be accepted unseen, a sentence that says why; else ""."""
        if any(each.accept for each in (self.everywhere, *self.of_class.values())):
            return ""
        return self.why_none or (
            f"No photo can be accepted unseen: also of the surest {self.source} photos more than "
            f"{self.wanted_error:.0%} are wrong. More labels help, or a larger accept_error."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything but `classes` as plain values for JSON."""
        return {
            "wanted_error": self.wanted_error,
            "source": self.source,
            "n_photos": self.n_photos,
            "everywhere": self.everywhere.to_dict(),
            "of_class": {name: each.to_dict() for name, each in self.of_class.items()},
            "why_none": self.why_none,
            "why_no_accept": self.why_no_accept,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], classes: Sequence[str]) -> Self:
        """Rebuild them from `to_dict` and the class names by class id."""
        return cls(
            classes=tuple(classes),
            wanted_error=values["wanted_error"],
            source=values["source"],
            n_photos=values["n_photos"],
            everywhere=ClassThresholds.from_dict(values["everywhere"]),
            of_class={name: ClassThresholds.from_dict(each) for name, each in values["of_class"].items()},
            why_none=values["why_none"],
        )


def find_thresholds(
    probabilities: FloatArray,
    targets: IndexArray,
    classes: Sequence[str],
    *,
    source: Source,
    wanted_error: float = 0.05,
) -> Thresholds:
    """Find from which confidence on few enough photos are wrong.

    The threshold for accepting is the lowest confidence such that, from it on and from every higher one on that at
    least 30 photos reach, at most `wanted_error` of the photos are wrong. That no higher one may fail keeps chance from
    choosing among many thresholds the one that happens to look good. The threshold for a review is found likewise,
    among the photos that are not accepted, with half of them wrong. A class that was suggested for at least 30 photos
    has thresholds of its own, from these photos alone. The rarer ones share theirs, from their photos together, of
    which a threshold for a review needs 30 too: how often a common species is right says nothing about a rare one. A
    class that was suggested for no photo has thresholds of its own that nothing reaches.

    Parameters
    ----------
    probabilities
        (n, n_classes), columns by class id, after the temperature, of photos that the classifier did not learn from.
    targets
        (n,) their true class ids.
    classes
        Class names by class id.
    source
        Which photos they are; only audit and validation photos are a sample that thresholds can be found on.
    wanted_error
        The share of accepted photos that may be wrong, 0 to 0.5.

    Returns
    -------
    Thresholds without a threshold, and the reason, if the photos are too few or of another source.

    Raises
    ------
    ConfigError, DataError
        If the arguments do not fit together, or a probability is NaN.
    """
    check_judged(probabilities, targets)
    if len(classes) != probabilities.shape[1]:
        raise ConfigError(
            f"classes must name each column of probabilities, {probabilities.shape[1]}; got {len(classes)} names."
        )
    if not 0 <= wanted_error <= WRONG_IN_REVIEW:
        raise ConfigError(f"wanted_error must be a number from 0 to {WRONG_IN_REVIEW}; got {wanted_error}.")
    found = Thresholds(classes=tuple(classes), wanted_error=wanted_error, source=source, n_photos=len(targets))
    if why_none := _why_none(source, len(targets)):
        return replace(found, why_none=why_none)
    suggested = probabilities.argmax(axis=1)
    confidences, is_wrong = probabilities.max(axis=1), suggested != targets
    n_suggested = np.bincount(suggested, minlength=len(classes))
    own = {
        classes[class_id]: _both(confidences[suggested == class_id], is_wrong[suggested == class_id], wanted_error)
        for class_id in np.flatnonzero(n_suggested >= FEWEST_OF_A_CLASS).tolist()
    }
    never = {classes[class_id]: ClassThresholds() for class_id in np.flatnonzero(n_suggested == 0).tolist()}
    is_rare = (n_suggested < FEWEST_OF_A_CLASS)[suggested]
    shared = _both(confidences[is_rare], is_wrong[is_rare], wanted_error, FEWEST_ABOVE)
    return replace(found, everywhere=shared, of_class=own | never)


def _why_none(source: Source, n_photos: int) -> str:
    way_out = (
        f"Give validation_data with at least {FEWEST_PHOTOS} photos, in which species are as common as in the photos "
        "to be named."
    )
    if source not in FIT_FOR_THRESHOLDS:
        return (
            "The column decision stays empty, since no validation or audit photos tell how often the model is "
            f"wrong: labelled photos are no fair sample. {way_out}"
        )
    if n_photos < FEWEST_PHOTOS:
        more = "Each round of labels brings more of them. Or give" if source == "audit" else "Give"
        return (
            f"The column decision stays empty, since an error rate cannot be told from {n_photos} {source} photos; at "
            f"least {FEWEST_PHOTOS} are needed. {way_out.replace('Give', more, 1)}"
        )
    return ""


def _both(
    confidences: FloatArray, is_wrong: NDArray[np.bool_], wanted_error: float, fewest_in_review: int = 1
) -> ClassThresholds:
    accept = _lowest(confidences, is_wrong, wanted_error, FEWEST_ABOVE)
    if accept is not None:
        is_left = confidences < accept.confidence
        confidences, is_wrong = confidences[is_left], is_wrong[is_left]
    # A person looks in either case, so that the few photos of a class that may be left are enough.
    fewest = max(fewest_in_review, min(FEWEST_ABOVE, len(confidences)))
    review = _lowest(confidences, is_wrong, WRONG_IN_REVIEW, fewest)
    return ClassThresholds(accept=accept, review=review)


def _lowest(confidences: FloatArray, is_wrong: NDArray[np.bool_], most_wrong: float, fewest: int) -> Threshold | None:
    """Find the lowest confidence that keeps `most_wrong`, as does every higher one that `fewest` photos reach."""
    order = np.argsort(-confidences, kind="stable")
    descending = confidences[order]
    # Photos of one confidence are above a threshold together: only the last of them counts.
    n_photos = np.flatnonzero(np.diff(descending, append=-np.inf)) + 1
    n_photos = n_photos[n_photos >= fewest]
    n_wrong = np.cumsum(is_wrong[order])[n_photos - 1]
    n_good = np.count_nonzero(np.logical_and.accumulate(n_wrong / n_photos <= most_wrong))
    if not n_good:
        return None
    last = n_good - 1
    return Threshold(
        confidence=float(descending[n_photos[last] - 1]), n_photos=int(n_photos[last]), n_wrong=int(n_wrong[last])
    )
