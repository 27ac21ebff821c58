"""What a query strategy sees, and what it must do."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from camera_trap_al.exceptions import ConfigError, DataError, EmptyPoolError
from camera_trap_al.pools import UNLABELLED, FloatArray, IndexArray

__all__ = [
    "PoolView",
    "ProbabilisticClassifier",
    "QueryStrategy",
    "ScoreSampling",
    "fill_at_random",
    "order_by_falling_score",
]

logger = logging.getLogger(__name__)

TIE_TOLERANCE = 1e-6
ROWS_PER_CHECK = 16_384


class ProbabilisticClassifier(Protocol):
    """Anything that gives class probabilities for embeddings."""

    def probabilities(self, embeddings: FloatArray) -> FloatArray:
        """Return (n, n_classes) probabilities of (n, n_features) embeddings, columns in the order of the class ids."""
        ...


@dataclass(frozen=True, eq=False, kw_only=True)
class PoolView:
    """All that a strategy may look at in one round. It reads the arrays and never writes to them.

    Attributes
    ----------
    embeddings
        (n_rows, n_features), scaled: what the classifier sees. Only labelled and unlabelled rows are ever looked at, so
        all others may hold NaN.
    targets
        (n_rows,), the class id of each row, `UNLABELLED` where there is none.
    labelled
        Rows that have a label, distinct, in any order.
    unlabelled
        Rows that may be chosen this round (the candidates), distinct, in any order.
    classes
        Class names by class id. Classes without a label are among them.
    classifier
        The classifier of this round, fitted on the labelled rows.

    Raises
    ------
    ConfigError
        If the arrays do not fit together: shapes, row numbers or class ids.
    DataError
        If an embedding of a labelled or unlabelled row is NaN or infinite.
    """

    embeddings: FloatArray
    targets: IndexArray
    labelled: IndexArray
    unlabelled: IndexArray
    classes: tuple[str, ...]
    classifier: ProbabilisticClassifier

    def __post_init__(self) -> None:
        # The row numbers can only be looked at once the shapes are known to be right.
        problems = list(_shape_problems(self)) or list(_row_problems(self))
        if problems:
            raise ConfigError(problems)
        for rows in (self.labelled, self.unlabelled):
            _check_finite(self.embeddings, rows)

    def probabilities(self) -> FloatArray:
        """Class probabilities of the unlabelled rows, computed once and read-only.

        Returns
        -------
        FloatArray
            (n_unlabelled, n_classes), rows in the order of `unlabelled`, columns in the order of `classes`, zero for
            classes without a label.

        Raises
        ------
        ConfigError
            If the classifier returns another shape.
        DataError
            If the classifier returns NaN or infinite values.
        """
        return self._probabilities

    @cached_property
    def _probabilities(self) -> FloatArray:
        found = self.classifier.probabilities(self.embeddings[self.unlabelled])
        expected = (len(self.unlabelled), len(self.classes))
        if found.shape != expected:
            raise ConfigError(
                f"classifier must return one row per unlabelled image and one column per class, {expected}; "
                f"{type(self.classifier).__name__} returned {found.shape}."
            )
        if not np.isfinite(found).all():
            raise DataError(
                f"{type(self.classifier).__name__} gave probabilities that are not numbers (NaN or infinite). Its "
                "training has probably diverged: use a smaller learning rate or another classifier."
            )
        found = found.view()
        found.flags.writeable = False
        return found


class QueryStrategy(ABC):
    """Decides which unlabelled images the expert is asked about. To write your own, subclass and define `choose`.

    A strategy is pure: the same view and the same state of the generator give the same rows, and nothing else is
    changed. `camera_trap_al.active_learning_methods.contract.check_strategy` tries an instance of your own.

    Attributes
    ----------
    source
        Paper and year, as in "Settles 2009".
    when
        When to use it, one short line for ecologists.
    cost
        What one choice costs, one short line.
    """

    source: ClassVar[str] = ""
    when: ClassVar[str] = ""
    cost: ClassVar[str] = ""

    def select_batch(self, view: PoolView, n: int, rng: np.random.Generator) -> IndexArray:
        """Choose the images to ask about.

        Parameters
        ----------
        view
            The pool as it is this round.
        n
            How many images to ask about, at least 1.
        rng
            Source of all randomness of the choice.

        Returns
        -------
        IndexArray
            min(n, n_unlabelled) distinct unlabelled rows, in the order in which they were chosen; all of them, as they
            stand in the view, if there are no more than `n`.

        Raises
        ------
        ConfigError
            If `n` is below 1, or if `choose` broke its promise.
        EmptyPoolError
            If nothing is unlabelled.
        """
        if n < 1:
            raise ConfigError(f"n, the number of images to ask about, must be at least 1; got {n}.")
        if not len(view.unlabelled):
            raise EmptyPoolError("There is nothing left to ask about: every usable photo has a label.")
        if n >= len(view.unlabelled):
            return view.unlabelled.astype(np.int64)
        chosen = np.asarray(self.choose(view, n, rng))
        self._check_choice(view, n, chosen)
        return chosen.astype(np.int64)

    @abstractmethod
    def choose(self, view: PoolView, n: int, rng: np.random.Generator) -> IndexArray:
        """Return `n` distinct rows of ``view.unlabelled``; 1 <= n < n_unlabelled is already checked."""

    def _check_choice(self, view: PoolView, n: int, chosen: IndexArray) -> None:
        if chosen.shape != (n,) or chosen.dtype.kind != "i":
            raise ConfigError(
                f"{type(self).__name__}.choose must return {n} row numbers (int64); "
                f"got an array of shape {chosen.shape} and type {chosen.dtype}."
            )
        n_useful = np.isin(view.unlabelled, chosen).sum()
        if n_useful != n:
            raise ConfigError(
                f"{type(self).__name__}.choose must return {n} distinct rows of view.unlabelled; {n - n_useful} "
                "are repeated or not unlabelled. Return row numbers, view.unlabelled[positions], not positions."
            )


class ScoreSampling(QueryStrategy):
    """Base of the strategies that give each image a score of its own. To write one, define `score`."""

    @abstractmethod
    def score(self, view: PoolView) -> FloatArray:
        """Return one score per row of ``view.unlabelled``, in that order: the higher, the sooner it is asked about."""

    def choose(self, view: PoolView, n: int, rng: np.random.Generator) -> IndexArray:
        """Return the `n` rows of highest score, in order of falling score.

        Rows within 1e-6 of the n-th highest score tie with it, and `rng` decides between them: equal images would
        otherwise be asked about in the order of their file names. Takes linear time, whatever `n`.

        Raises
        ------
        ConfigError
            If `score` returns another shape, or NaN.
        """
        scores = np.asarray(self.score(view), dtype=np.float64)
        if scores.shape != view.unlabelled.shape or np.isnan(scores).any():
            raise ConfigError(
                f"{type(self).__name__}.score must return one number per unlabelled image, shape "
                f"{view.unlabelled.shape}, none of them NaN; got shape {scores.shape}."
            )
        lowest = np.partition(scores, -n)[-n]
        sure = np.flatnonzero(scores > lowest + TIE_TOLERANCE)
        tied = np.flatnonzero((scores >= lowest - TIE_TOLERANCE) & (scores <= lowest + TIE_TOLERANCE))
        chosen = np.concatenate([sure, rng.choice(tied, n - len(sure), replace=False)])
        in_falling_order = chosen[np.argsort(-scores[chosen], kind="stable")]
        rows: IndexArray = view.unlabelled[in_falling_order]
        return rows


def order_by_falling_score(scores: NDArray[np.floating], rng: np.random.Generator) -> IndexArray:
    """Sort scores from the highest to the lowest, ties to 1e-6 in random order.

    The scores are rounded down to steps of 1e-6 that begin at a random place, and scores in one step tie: scores
    further apart than a step are always in order, and the closer two are, the more often they tie.

    Parameters
    ----------
    scores
        (n,), any finite numbers.
    rng
        Source of the random order.

    Returns
    -------
    IndexArray
        (n,), positions in `scores`.
    """
    shuffled = rng.permutation(len(scores))
    steps = np.floor(scores[shuffled].astype(np.float64) / TIE_TOLERANCE + rng.random())
    return shuffled[np.argsort(-steps, kind="stable")]


def fill_at_random(view: PoolView, chosen: IndexArray, n: int, rng: np.random.Generator) -> IndexArray:
    """Complete a choice that found fewer useful images than it was asked for, and say so in the log.

    Parameters
    ----------
    view
        The pool, of at least `n` unlabelled rows.
    chosen
        Positions in ``view.unlabelled`` chosen so far, distinct, at most `n`.
    n
        How many are wanted.
    rng
        Source of the random rows.

    Returns
    -------
    IndexArray
        (n,), the rows of `chosen` and behind them rows drawn at random from the rest.
    """
    n_missing = n - len(chosen)
    if n_missing:
        logger.info(
            "The strategy found %d distinct useful images; the other %d are drawn at random", len(chosen), n_missing
        )
        rest = np.setdiff1d(np.arange(len(view.unlabelled)), chosen)
        chosen = np.concatenate([chosen, rng.choice(rest, n_missing, replace=False)])
    rows: IndexArray = view.unlabelled[chosen]
    return rows


def _shape_problems(view: PoolView) -> Iterator[str]:
    if view.embeddings.ndim != 2:
        yield f"embeddings must have the two dimensions (rows, features); got the shape {view.embeddings.shape}."
    elif view.targets.shape != view.embeddings.shape[:1] or view.targets.dtype.kind != "i":
        yield (
            f"targets must have one class id (int64) per row of embeddings, shape {view.embeddings.shape[:1]}; "
            f"got shape {view.targets.shape} and type {view.targets.dtype}."
        )
    for name, rows in (("labelled", view.labelled), ("unlabelled", view.unlabelled)):
        if rows.ndim != 1 or rows.dtype.kind != "i":
            yield f"{name} must be a list of row numbers (int64); got shape {rows.shape} and type {rows.dtype}."
    if not view.classes:
        yield "classes must name at least one class; got none."


def _row_problems(view: PoolView) -> Iterator[str]:
    rows = np.concatenate([view.labelled, view.unlabelled])
    n_rows = len(view.targets)
    outside = rows[(rows < 0) | (rows >= n_rows)]
    if outside.size:
        yield f"labelled and unlabelled must hold row numbers from 0 to {n_rows - 1}; got {outside[0]}."
        return
    repeated = np.flatnonzero(np.bincount(rows) > 1)
    if repeated.size:
        yield f"labelled and unlabelled must hold each row once; row {repeated[0]} is there more than once."
    known = view.targets[view.labelled]
    wrong = view.labelled[(known < 0) | (known >= len(view.classes))]
    if wrong.size:
        yield (
            f"targets of labelled rows must be class ids from 0 to {len(view.classes) - 1}; "
            f"row {wrong[0]} has {view.targets[wrong[0]]}."
        )
    told = view.unlabelled[view.targets[view.unlabelled] != UNLABELLED]
    if told.size:
        yield (
            f"targets of unlabelled rows must be {UNLABELLED}, so that no strategy can see the answer; "
            f"row {told[0]} has {view.targets[told[0]]}."
        )


def _check_finite(embeddings: FloatArray, rows: IndexArray) -> None:
    # In parts, since a copy of all rows would double the memory of a large pool.
    for start in range(0, len(rows), ROWS_PER_CHECK):
        part = rows[start : start + ROWS_PER_CHECK]
        bad = part[~np.isfinite(embeddings[part]).all(axis=1)]
        if bad.size:
            raise DataError(
                f"embeddings must be finite; {bad.size} rows hold NaN or infinite values, the first is row {bad[0]}. "
                "The embedding network has probably diverged in training: use a smaller learning rate."
            )
