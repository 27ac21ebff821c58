"""What a classifier makes of labelled photos that it did not learn from, by leaving out group after group."""

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from camera_trap_al.exceptions import ConfigError
from camera_trap_al.pools import FloatArray, IndexArray
from camera_trap_al.statistics.calibration import Calibration, calibrate, temperature_like, with_temperature

__all__ = [
    "OutOfFold",
    "calibrate_out_of_fold",
    "folds_by_group",
    "logistic_probabilities",
    "out_of_fold_probabilities",
    "split_if_few",
    "stand_in",
]

N_FOLDS = 5
FEWEST_GROUPS = 3
MAX_STEPS = 1000  # on standardised features, 50 are usual


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """Probabilities of labelled photos by classifiers that learnt from other groups only.

    Attributes
    ----------
    probabilities
        (n, n_classes), columns by class id, 0 for classes that the classifier did not learn; rows of zeros where
        `is_judged` is False.
    is_judged
        (n,), False for photos of a class that the other folds lack, as of one that occurs in a single group: no
        classifier could have got them right.
    n_folds
        In how many parts the photos were split, 0 if they could not be.
    """

    probabilities: FloatArray
    is_judged: NDArray[np.bool_]
    n_folds: int

    @property
    def note(self) -> str:
        """How many photos were judged, and why not all, in a sentence or two for people."""
        n, n_judged = len(self.is_judged), int(np.count_nonzero(self.is_judged))
        if not n_judged:
            return (
                f"None of {n:,} labelled photos could be judged by the others: that takes two classes, and two groups "
                "(folders or sequences) of a class."
            )
        told = f"{n_judged:,} of {n:,} labelled photos were judged by a classifier that had not learnt from their group"
        if n_judged == n:
            return f"{told}."
        return f"{told}. The other {n - n_judged:,} are of classes that lie in too few groups for that."


def stand_in(class_weight: str | None = None) -> Any:
    """Make the logistic regression, on standardised features, that is fitted in the place of slower classifiers.

    Parameters
    ----------
    class_weight
        That of the classifier, "balanced" or None: what it does to probabilities must be done to these too.
    """
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=MAX_STEPS, class_weight=class_weight))


def out_of_fold_probabilities(
    embeddings: FloatArray,
    targets: IndexArray,
    groups: IndexArray,
    n_classes: int,
    seed: int,
    n_folds: int = N_FOLDS,
    logistic: Any = None,
) -> OutOfFold:
    """Judge each labelled photo by a logistic regression that learnt from other groups.

    Groups are dealt to folds so that each class is spread over as many as possible. There are fewer folds where there
    are fewer groups, or fewer photos in the largest class.

    Parameters
    ----------
    embeddings
        (n, n_features), of the labelled photos, scaled or not.
    targets
        (n,) their class ids.
    groups
        (n,) equal numbers for photos that are alike, as of one folder or sequence.
    n_classes
        Classes, with and without a label.
    seed
        Decides the folds, 0 to 2^32 - 1.
    n_folds
        At most so many, at least 2.
    logistic
        The logistic regression, fitted or not; a copy of it is fitted. None: `stand_in()`.

    Returns
    -------
    Nothing judged if there is no way to split, or a single class.

    Raises
    ------
    ConfigError
        If the arguments do not fit together.
    """
    _check(embeddings, targets, groups, n_classes, n_folds)
    probabilities = np.zeros((len(targets), n_classes), np.float32)
    is_judged = np.zeros(len(targets), np.bool_)
    folds = folds_by_group(targets, groups, seed, n_folds)
    for others, held_out in folds:
        judged = held_out[np.isin(targets[held_out], targets[others])]
        if len(judged) and len(np.unique(targets[others])) > 1:
            is_judged[judged] = True
            probabilities[judged] = logistic_probabilities(
                embeddings[others], targets[others], embeddings[judged], n_classes, logistic
            )
    return OutOfFold(probabilities, is_judged, len(folds))


def logistic_probabilities(
    embeddings: FloatArray, targets: IndexArray, others: FloatArray, n_classes: int, logistic: Any = None
) -> FloatArray:
    """Learn from some photos by a logistic regression; return what it makes of others.

    Parameters
    ----------
    embeddings, targets
        (n, n_features) and (n,), what it learns from; at least two classes.
    others
        (m, n_features), what it judges.
    n_classes
        Classes, with and without a label.
    logistic
        As for `out_of_fold_probabilities`.

    Returns
    -------
    (m, n_classes), columns by class id, 0 for classes that are not in `targets`.
    """
    logistic = clone(stand_in() if logistic is None else logistic)
    probabilities = np.zeros((len(others), n_classes), np.float32)
    with warnings.catch_warnings(), threadpool_limits(1, "blas"):  # threads cost more than they save here
        warnings.simplefilter("ignore", ConvergenceWarning)  # after so many steps it is near enough
        logistic.fit(embeddings, targets)
        probabilities[:, logistic.classes_] = logistic.predict_proba(others)
    return probabilities


def calibrate_out_of_fold(
    judged: OutOfFold,
    embeddings: FloatArray,
    targets: IndexArray,
    groups: IndexArray,
    candidates: FloatArray,
    probabilities: FloatArray,
    logistic: Any = None,
) -> Calibration:
    """Fit a temperature for any classifier with labelled photos, by a logistic regression that stands in for it.

    The temperature of the logistic regression is fitted on labelled photos that it judged out of fold. It would not do
    for another classifier, and to fit that one five times more may take minutes. So both judge photos without a label,
    and the classifier gets the temperature that brings it nearest to the adjusted logistic regression (our derivation;
    with `MLPClassifier`, as good as its own five fits). A classifier that is a logistic regression stands in for itself
    and gets its own temperature.

    Parameters
    ----------
    judged
        What `out_of_fold_probabilities` made of the labelled photos.
    embeddings, targets, groups
        (n, n_features), (n,) and (n,), the labelled photos, as they were given to it.
    candidates
        (m, n_features), photos without a label; some hundreds are enough. Without any, the temperature of the logistic
        regression has to do.
    probabilities
        (m, n_classes), what the classifier makes of them, columns by class id.
    logistic
        As it was given to `out_of_fold_probabilities`.

    Returns
    -------
    One of the source "nothing" if nothing could be judged.
    """
    is_judged = judged.is_judged
    own = calibrate(judged.probabilities[is_judged], targets[is_judged], "out of fold", groups[is_judged])
    if own.source == "nothing" or not len(candidates):
        return own
    raw = logistic_probabilities(embeddings, targets, candidates, probabilities.shape[1], logistic)
    return replace(own, temperature=temperature_like(probabilities, with_temperature(raw, own.temperature)))


def split_if_few(groups: IndexArray, may_be_split: NDArray[np.bool_]) -> IndexArray:
    """Make photos groups of their own if they form one or two groups: so few cannot be dealt to folds.

    Parameters
    ----------
    groups
        (n,) numbers, equal for photos of one group.
    may_be_split
        (n,) which photos this is about; the groups of others stay.
    """
    chosen = np.flatnonzero(may_be_split)
    if not 0 < len(np.unique(groups[chosen])) < FEWEST_GROUPS:
        return groups
    split = groups.copy()
    split[chosen] = groups.max() + 1 + np.arange(len(chosen))
    return split


def folds_by_group(
    targets: IndexArray, groups: IndexArray, seed: int, n_folds: int
) -> list[tuple[IndexArray, IndexArray]]:
    """Give for each fold the photos to learn from and those to judge, whole groups, each class spread over many.

    Parameters
    ----------
    targets, groups
        (n,) class ids, and numbers that are equal for photos that are alike.
    seed
        Decides the folds, 0 to 2^32 - 1.
    n_folds
        At most so many; there are fewer with fewer groups, or fewer photos in the largest class.

    Returns
    -------
    Positions of both, ascending; nothing if two folds cannot be made.
    """
    n_folds = min(n_folds, len(np.unique(groups)), int(np.bincount(targets, minlength=1).max()))
    if n_folds < 2:
        return []
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():  # of classes with fewer photos than folds: what cannot be judged is told
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        return list(splitter.split(targets, targets, groups))


def _check(embeddings: FloatArray, targets: IndexArray, groups: IndexArray, n_classes: int, n_folds: int) -> None:
    n = len(embeddings)
    if embeddings.ndim != 2 or targets.shape != (n,) or groups.shape != (n,):
        raise ConfigError(
            "embeddings must have the shape (n, n_features), targets and groups (n,); got "
            f"{embeddings.shape}, {targets.shape} and {groups.shape}."
        )
    if n and not 0 <= targets.min() <= targets.max() < n_classes:
        raise ConfigError(
            f"targets must be class ids from 0 to {n_classes - 1}; got {targets.min()} to {targets.max()}."
        )
    if n_folds < 2:
        raise ConfigError(f"n_folds must be at least 2; got {n_folds}.")
