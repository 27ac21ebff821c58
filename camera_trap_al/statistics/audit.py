"""The audit: photos drawn at random that only measure the model, where nobody has validation photos."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from camera_trap_al.pools import IndexArray
from camera_trap_al.statistics.bootstrap import LEVEL, Interval

__all__ = ["Audit", "Prevalence", "audit_photos_of_round", "draw_audit", "judge_audit", "wilson_interval"]

UPPER = (1 + LEVEL) / 2
FEWEST_FOR_INTERVAL = 50  # answers; an interval from fewer tells nobody anything
FEWEST_GROUPS = 10  # from which on an interval can be told from how they differ
LONGEST_SEQUENCE = 50  # photos; a folder that holds more is a site or a card, not a burst


@dataclass(frozen=True)
class Prevalence:
    """How common a class is among the unlabelled photos that the run began with.

    Attributes
    ----------
    name
        The class.
    n_answers
        Audit photos that show it.
    share
        The same as a share of all audit answers, 0 to 1.
    interval
        95 % interval of the share; None where there are too few answers.
    """

    name: str
    n_answers: int
    share: float
    interval: Interval | None


@dataclass(frozen=True)
class Audit:
    """What the audit photos that are answered so far say of the present model and of the whole pool.

    Attributes
    ----------
    n_answers
        Audit photos that have a label.
    n_groups
        Bursts and single photos that they were drawn in.
    accuracy
        Share of them that the model names rightly, 0 to 1.
    interval
        95 % interval of the accuracy on all unlabelled photos that the run began with; None below 50 answers or ten
        groups.
    prevalence
        How common each class is that was found, the most common first.
    """

    n_answers: int
    n_groups: int
    accuracy: float
    interval: Interval | None
    prevalence: tuple[Prevalence, ...]

    @property
    def told(self) -> str:
        """The accuracy in words, with its interval or what is missing for one."""
        told = f"accuracy {self.accuracy:.1%} on {self.n_answers} audit photos"
        if self.interval is None:
            return f"{told} (too few for an interval, which takes {FEWEST_FOR_INTERVAL} from {FEWEST_GROUPS} bursts)"
        return f"{told} (95 % interval {self.interval[0]:.1%} to {self.interval[1]:.1%})"

    def to_dict(self) -> dict[str, Any]:
        """Give the figures as plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Audit":
        """Take back what `to_dict` gave, also after it was JSON."""
        prevalence = tuple(
            Prevalence(**{**of_class, "interval": _pair(of_class["interval"])}) for of_class in values["prevalence"]
        )
        return cls(**{**values, "interval": _pair(values["interval"]), "prevalence": prevalence})


def draw_audit(
    groups: IndexArray,
    fraction: float,
    rng: np.random.Generator,
    *,
    at_least: int = 1,
    first_number: int = 0,
    is_sequence: NDArray[np.bool_] | None = None,
    n_others: int = 0,
) -> NDArray[np.float64]:
    """Reserve photos for the audit, whole groups at a time, so that no photo of a burst is learnt and tested.

    Photos of a large group are drawn one by one: one that holds more than a tenth of the photos that are wanted would
    be in few audits, and decide those that it is in. Groups that are known to be bursts may hold 50 photos though,
    since the rest of a burst that is cut is learnt from, but no more than a tenth of all photos, which would leave too
    few; others that hold more are sites or cards.

    Parameters
    ----------
    groups
        (n,) numbers, equal for photos that are alike.
    fraction
        Share of the photos that are reserved, 0 to 1, on average, and up to a burst more.
    rng
        Source of the draw.
    at_least
        Reserve so many photos if there are so many.
    first_number
        Of what is drawn as one.
    is_sequence
        (n,) whether the group of a photo is known to be a burst; None: of none.
    n_others
        Photos that there are besides these.

    Returns
    -------
    (n,) lots as in `Pools.audit_lots`.
    """
    lots: NDArray[np.float64] = np.full(len(groups), np.nan)
    n_wanted = max(at_least, math.floor(fraction * len(groups) + rng.random()))
    if not len(groups) or not fraction or not n_wanted:
        return lots
    _, of_photo, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    tenth = n_wanted // FEWEST_GROUPS
    longest = np.full(len(groups), min(tenth, LONGEST_SEQUENCE))
    if is_sequence is not None:
        longest[is_sequence] = min(max(tenth, LONGEST_SEQUENCE), (len(groups) + n_others) // FEWEST_GROUPS)
    is_alone = sizes[of_photo] > longest
    units = np.where(is_alone, len(sizes) + np.arange(len(groups)), of_photo)
    _, of_photo, sizes = np.unique(units, return_inverse=True, return_counts=True)
    order = rng.permutation(len(sizes))
    n_before = np.cumsum(sizes[order]) - sizes[order]
    numbers = np.full(len(sizes), -1)
    numbers[order] = np.where(n_before < n_wanted, first_number + np.arange(len(sizes)), -1)
    is_reserved = numbers[of_photo] >= 0
    lots[is_reserved] = numbers[of_photo[is_reserved]] + rng.random(np.count_nonzero(is_reserved))
    return lots


def audit_photos_of_round(fraction: float, n_photos: int, round_number: int) -> int:
    """Say how many of the photos of a round are for the audit: the share of `n_photos`, rounded, but at least one.

    Rounds of one photo give one to the audit as seldom as the share asks for, since the strategy would get none.
    """
    if not fraction or not n_photos:
        return 0
    if n_photos == 1:
        return int(round_number % math.ceil(1 / fraction) == 0)
    return min(n_photos, max(1, round(fraction * n_photos)))


def judge_audit(
    true_ids: IndexArray, predicted_ids: IndexArray, groups: IndexArray, classes: Sequence[str]
) -> Audit | None:
    """Compare what the model thinks of the audit photos with their labels.

    Parameters
    ----------
    true_ids, predicted_ids
        (n,) class ids.
    groups
        (n,) numbers, equal for photos that are alike.
    classes
        Class names by class id.

    Returns
    -------
    The figures, or None without any answer.
    """
    if not len(true_ids):
        return None
    counts = np.bincount(true_ids, minlength=len(classes))
    found = sorted(np.flatnonzero(counts).tolist(), key=lambda class_id: (-counts[class_id], classes[class_id]))
    return Audit(
        n_answers=len(true_ids),
        n_groups=len(np.unique(groups)),
        accuracy=float((true_ids == predicted_ids).mean()),
        interval=_interval(true_ids == predicted_ids, groups),
        prevalence=tuple(
            Prevalence(
                classes[class_id],
                int(counts[class_id]),
                float(counts[class_id] / len(true_ids)),
                _interval(true_ids == class_id, groups),
            )
            for class_id in found
        ),
    )


def _interval(is_so: NDArray[np.bool_], groups: IndexArray) -> Interval | None:
    """Give the interval of a share, or None where there are too few photos or groups for one.

    Photos of a group are alike, so that they tell as much as fewer photos drawn alone, and how much fewer is known the
    less well the fewer groups there are [Korn & Graubard, 1998].
    """
    n_groups = len(np.unique(groups))
    if len(is_so) < FEWEST_FOR_INTERVAL or n_groups < FEWEST_GROUPS:
        return None
    n = len(is_so) / _design_effect(is_so, groups)
    widened = (norm.ppf(UPPER) / t.ppf(UPPER, n_groups - 1)) ** 2 if n_groups < len(is_so) else 1.0
    return wilson_interval(float(is_so.mean()), n * widened)


def wilson_interval(share: float, n: float) -> Interval:
    """Give the 95 % interval of a share that was found in a random sample [Wilson, 1927].

    Parameters
    ----------
    share
        What was found, 0 to 1.
    n
        Size of the sample; no whole number where its photos are alike, see `_design_effect`.
    """
    z = norm.ppf(UPPER)
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def _design_effect(is_so: NDArray[np.bool_], groups: IndexArray) -> float:
    """Say how many photos drawn in groups tell as much as one drawn alone, at least 1 [Kish, 1965].

    It is the variance of the share as a ratio over groups, divided by that of photos drawn one by one. Where all photos
    are the same, nothing tells that apart from groups within which all are the same: each group then counts as one.
    """
    share, n = is_so.mean(), len(is_so)
    _, of_photo = np.unique(groups, return_inverse=True)
    residuals = np.bincount(of_photo, is_so - share)
    if share in (0, 1):
        return n / len(residuals)
    over_groups = len(residuals) / (len(residuals) - 1) * np.sum(residuals**2) / n**2
    return max(1.0, float(over_groups / (share * (1 - share) / n)))


def _pair(interval: Sequence[float] | None) -> Interval | None:
    return None if interval is None else (float(interval[0]), float(interval[1]))
