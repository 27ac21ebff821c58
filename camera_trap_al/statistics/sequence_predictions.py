"""What a model thinks of whole sequences: the photos of one burst are averaged, and calibrated together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from camera_trap_al.exceptions import ConfigError
from camera_trap_al.photos.sequences import one_each
from camera_trap_al.pools import FloatArray, IndexArray
from camera_trap_al.statistics.calibration import LEAST_IN_LOG_LOSS, Calibration, Source, calibrate, check_judged

__all__ = [
    "SEQUENCE_COLUMNS",
    "SequencePredictions",
    "SequenceSums",
    "calibrate_sequences",
    "sequence_probabilities",
]

SEQUENCE_COLUMNS = ("sequence", "sequence_species", "sequence_confidence")
# In simulations, a temperature of 20 sequences made the log loss 3 % worse at most (photos of a sequence all but the
# same, so that 1 was right), and up to a third better; one of 10 was twice as often worse.
FEWEST_SEQUENCES = 20
SEQUENCES_PER_STEP = 65_536  # that are turned into probabilities at once


@dataclass(frozen=True, eq=False)
class SequencePredictions:
    """What is thought of the sequence that each of some photos belongs to.

    Attributes
    ----------
    numbers
        (n,) sequence of each photo; -1 for one of which no sequence is known, which then stands for itself.
    class_ids
        (n,) likeliest class of its sequence; -1 if no photo of that has an answer.
    confidence
        (n,) probability of this class, 0 to 1; NaN if there is none.
    """

    numbers: IndexArray
    class_ids: IndexArray
    confidence: FloatArray

    def of(self, positions: IndexArray) -> Self:
        """Give those of some of the photos, by their position."""
        return type(self)(self.numbers[positions], self.class_ids[positions], self.confidence[positions])

    def cells(self, classes: Sequence[str]) -> Iterator[tuple[object, ...]]:
        """Give the cells of each photo in the order of `SEQUENCE_COLUMNS`; None where there is nothing to say."""
        columns = (self.numbers, self.class_ids, self.confidence)
        for number, class_id, confidence in zip(*(column.tolist() for column in columns), strict=True):
            answer = ("", None) if class_id < 0 else (classes[class_id], confidence)
            yield None if number < 0 else number, *answer

    def __len__(self) -> int:
        return len(self.numbers)


class SequenceSums:
    """The logarithms of photos' probabilities, added up by sequence as the photos come.

    The probabilities of a sequence are the softmax of their mean, divided by a temperature [Dussert et al., 2025]. A
    probability counts as at least 1.2e-7, so that no single photo rules a class out; but a class that is impossible in
    every photo of a sequence, as one without a label, stays so. What is held grows with the sequences, 5 bytes for each
    and class, and not with the photos.

    Parameters
    ----------
    sequences
        (n,) sequence of each photo, any numbers from 0; one of -1 is a sequence of its own.
    n_classes
        Columns of the probabilities.
    """

    def __init__(self, sequences: IndexArray, n_classes: int) -> None:
        self._numbers = sequences
        self._index = np.unique(one_each(sequences), return_inverse=True)[1]
        n_sequences = int(self._index.max(initial=-1)) + 1
        self._sums = np.zeros((n_sequences, n_classes), np.float32)
        self._is_possible = np.zeros((n_sequences, n_classes), np.bool_)
        self._n_photos = np.zeros(n_sequences, np.int64)

    def add(self, positions: IndexArray, probabilities: FloatArray) -> None:
        """Add photos; each may come once.

        Parameters
        ----------
        positions
            (m,) which of the photos, as they stand in `sequences`.
        probabilities
            (m, n_classes), calibrated.
        """
        if not len(positions):
            return
        index = self._index[positions]
        order = np.argsort(index, kind="stable")
        found, starts, counts = np.unique(index[order], return_index=True, return_counts=True)
        in_order = probabilities[order].astype(np.float32, copy=False)
        logarithms = np.log(np.maximum(in_order, np.float32(LEAST_IN_LOG_LOSS)))
        self._sums[found] += np.add.reduceat(logarithms, starts)
        self._is_possible[found] |= np.logical_or.reduceat(in_order > 0, starts)
        self._n_photos[found] += counts

    def probabilities(self, temperature: float = 1.0, some: slice = slice(None)) -> FloatArray:
        """Give (n_sequences, n_classes), sequences ascending by number, photos on their own behind them.

        Parameters
        ----------
        temperature
            That of sequences, above 0. A sequence of one photo is that photo, which is calibrated already: it keeps
            the photo's probabilities.
        some
            Which of the sequences. Rows without any photo yet are zero.
        """
        n_photos = self._n_photos[some, np.newaxis].astype(np.float32)
        scores = self._sums[some] / np.maximum(n_photos, 1)
        scores[~self._is_possible[some]] = -np.inf
        highest = scores.max(axis=1, keepdims=True)
        scores -= np.where(np.isfinite(highest), highest, 0)
        powers = np.exp(scores / np.where(n_photos > 1, np.float32(temperature), np.float32(1)))
        tempered: FloatArray = powers / np.maximum(powers.sum(axis=1, keepdims=True), 1)  # the highest power is 1
        return tempered

    def predictions(self, temperature: float = 1.0) -> SequencePredictions:
        """Give the likeliest class of the sequence of each photo; of equally likely ones the lower id."""
        n_sequences = len(self._n_photos)
        class_ids, confidence = np.full(n_sequences, -1, np.int64), np.full(n_sequences, np.nan, np.float32)
        for start in range(0, n_sequences, SEQUENCES_PER_STEP):
            some = slice(start, start + SEQUENCES_PER_STEP)
            probabilities = self.probabilities(temperature, some)
            is_answered = self._n_photos[some] > 0
            class_ids[some] = np.where(is_answered, probabilities.argmax(axis=1), -1)
            confidence[some] = np.where(is_answered, probabilities.max(axis=1), np.nan)
        return SequencePredictions(self._numbers, class_ids[self._index], confidence[self._index])


def sequence_probabilities(probabilities: FloatArray, sequences: IndexArray, temperature: float = 1.0) -> FloatArray:
    """Average the probabilities of photos by sequence, in log space (`SequenceSums`).

    Parameters
    ----------
    probabilities
        (n, n_classes), calibrated by photo.
    sequences
        (n,) sequence of each; one of -1 is a sequence of its own.
    temperature
        That of sequences, above 0.

    Returns
    -------
    (n_sequences, n_classes), ascending by number, photos on their own behind them.

    Raises
    ------
    ConfigError
        If the arguments do not fit together.
    """
    if probabilities.ndim != 2 or sequences.shape != (len(probabilities),):
        raise ConfigError(
            f"probabilities must have the shape (n, n_classes) and sequences (n,); got {probabilities.shape} and "
            f"{sequences.shape}."
        )
    sums = SequenceSums(sequences, probabilities.shape[1])
    sums.add(np.arange(len(sequences)), probabilities)
    return sums.probabilities(temperature)


def calibrate_sequences(
    probabilities: FloatArray,
    targets: IndexArray,
    sequences: IndexArray,
    source: Source,
) -> Calibration:
    """Fit the temperature of sequences on those of at least two photos, and measure what it is worth.

    The class of a sequence is that of most of its photos; where two classes have equally many, it is left out.

    Parameters
    ----------
    probabilities
        (n, n_classes), calibrated by photo, of photos that the classifier did not learn from.
    targets
        (n,) their true class ids.
    sequences
        (n,) sequence of each; -1 where that is not known.
    source
        Which photos they are.

    Returns
    -------
    Its `n_photos` is the number of sequences. One of the source "nothing", with the temperature 1, if there are fewer
    than 20.

    Raises
    ------
    ConfigError, DataError
        If the arguments do not fit together, or a probability is NaN.
    """
    check_judged(probabilities, targets)
    known = np.flatnonzero(sequences >= 0)
    _, index, sizes = np.unique(sequences[known], return_inverse=True, return_counts=True)
    n_labels = np.zeros((len(sizes), probabilities.shape[1]), np.int64)
    np.add.at(n_labels, (index, targets[known]), 1)
    is_tied = (n_labels == n_labels.max(axis=1, keepdims=True)).sum(axis=1) > 1
    usable = np.flatnonzero((sizes > 1) & ~is_tied)
    if len(usable) < FEWEST_SEQUENCES:
        return Calibration()
    averaged = sequence_probabilities(probabilities[known], sequences[known])[usable]
    return calibrate(averaged, n_labels[usable].argmax(axis=1), source)
