"""What a model thinks of photos: the likeliest classes of each, and the table of them."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Self

import numpy as np

from camera_trap_al.files import plain_cell
from camera_trap_al.interchange.timelapse import split_path
from camera_trap_al.pools import FloatArray, IndexArray
from camera_trap_al.statistics.sequence_predictions import SEQUENCE_COLUMNS, SequencePredictions

__all__ = [
    "COLUMNS",
    "PREDICTIONS_FILE",
    "RECOGNITIONS_FILE",
    "Predictions",
    "prediction_lines",
    "write_misclassified",
    "write_predictions",
    "write_table",
]

PREDICTIONS_FILE = "predictions.csv"
RECOGNITIONS_FILE = "recognitions.json"
COLUMNS = ("File", "RelativePath", "Species", "confidence", "second_species", "margin", "decision")
MISCLASSIFIED_COLUMNS = ("File", "RelativePath", "true_species", "predicted_species", "confidence")
BY_DETECTOR = "detector"
MOST_CLASSES = 5  # of a photo that are kept


@dataclass(frozen=True, eq=False)
class Predictions:
    """The likeliest classes of some photos, at most 5 of each.

    Attributes
    ----------
    rows
        (n,) which photos.
    class_ids
        (n, k) class ids, the likeliest first; of equally likely ones the lower id.
    probabilities
        (n, k) probabilities of these, 0 to 1.
    of_sequences
        (n,) what is thought of the sequence of each photo; None if nothing is known of sequences.
    """

    rows: IndexArray
    class_ids: IndexArray
    probabilities: FloatArray
    of_sequences: SequencePredictions | None = None

    @classmethod
    def of(cls, rows: IndexArray, probabilities: FloatArray) -> Self:
        """Pick the likeliest from (n, n_classes) probabilities of (n,) rows."""
        likeliest = np.argsort(-probabilities, axis=1, kind="stable")[:, :MOST_CLASSES].astype(np.int64)
        return cls(rows, likeliest, np.take_along_axis(probabilities, likeliest, axis=1))

    @classmethod
    def join(cls, some: Iterable[Self]) -> Self:
        """Put predictions of different photos together, ascending by row; what is thought of sequences is left out."""
        parts = list(some) or [cls.of(np.zeros(0, np.int64), np.zeros((0, 1), np.float32))]
        order = np.argsort(np.concatenate([part.rows for part in parts]))
        joined = (
            np.concatenate(arrays)[order]
            for arrays in zip(*((part.rows, part.class_ids, part.probabilities) for part in parts), strict=True)
        )
        rows, class_ids, probabilities = joined
        return cls(rows, class_ids, probabilities)

    @property
    def first(self) -> IndexArray:
        """(n,) class id of the likeliest class."""
        return self.class_ids[:, 0]

    @property
    def second(self) -> IndexArray:
        """(n,) class id of the second likeliest class; -1 where there is one class only."""
        return self.class_ids[:, 1] if self.class_ids.shape[1] > 1 else np.full_like(self.first, -1)

    @property
    def confidence(self) -> FloatArray:
        """(n,) probability of the likeliest class."""
        return self.probabilities[:, 0]

    @property
    def margin(self) -> FloatArray:
        """(n,) by how much the likeliest class is more likely than the second."""
        several = self.probabilities.shape[1] > 1
        return self.confidence - self.probabilities[:, 1] if several else self.confidence

    def __len__(self) -> int:
        return len(self.rows)


def prediction_lines(
    predictions: Predictions, paths: Sequence[str], classes: Sequence[str], decisions: Sequence[str] | None = None
) -> Iterator[tuple[object, ...]]:
    """Give the cells of each photo in the order of `COLUMNS`.

    Parameters
    ----------
    predictions
        What is thought of the photos.
    paths
        (n,) path of each photo, separated by ``/``.
    classes
        Class names by class id.
    decisions
        (n,) what to do with each answer; empty cells if nothing is known of that.
    """
    names = [*classes, ""]  # -1, no second class, finds the last
    columns = (predictions.first, predictions.confidence, predictions.second, predictions.margin)
    for path, first, sure, second, margin, decision in zip(
        paths, *(column.tolist() for column in columns), decisions or [""] * len(predictions), strict=True
    ):
        yield *split_path(path), names[first], sure, names[second], margin, decision


def write_table(path: Path, header: Sequence[str], lines: Iterable[Sequence[object]]) -> None:
    """Write lines as a CSV that people and programs read: UTF-8, comma, CRLF, four places behind the point."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(map(_cell, line) for line in lines)


def _cell(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.4f}"
    return plain_cell(value) if isinstance(value, str) else value


def write_predictions(
    path: Path,
    predictions: Predictions,
    paths: Sequence[str],
    classes: Sequence[str],
    decisions: Sequence[str] | None = None,
    *,
    decided: Iterable[tuple[str, str, float]] = (),
) -> None:
    """Write ``predictions.csv``, a photo a line, in the order of the predictions.

    Where they know of sequences, `SEQUENCE_COLUMNS` follow behind the others. Photos that a detector decided about come
    last, with the decision `BY_DETECTOR`.

    Parameters
    ----------
    path
        The file to write.
    predictions
        What to write.
    paths
        The photo of each row of the run, relative to the unlabelled folder, separated by ``/``.
    classes, decisions
        As for `prediction_lines`.
    decided
        Path, class and confidence of photos that a detector decided about.
    """
    of_detector = [(*split_path(photo), name, sure, "", "", BY_DETECTOR) for photo, name, sure in decided]
    listed = [paths[row] for row in predictions.rows.tolist()]
    lines = prediction_lines(predictions, listed, classes, decisions)
    if predictions.of_sequences is None:
        write_table(path, COLUMNS, chain(lines, of_detector))
    else:
        cells = predictions.of_sequences.cells(classes)
        both = (line + of_sequence for line, of_sequence in zip(lines, cells, strict=True))
        no_sequence = ("",) * len(SEQUENCE_COLUMNS)
        write_table(path, COLUMNS + SEQUENCE_COLUMNS, chain(both, (line + no_sequence for line in of_detector)))


def write_misclassified(
    path: Path, predictions: Predictions, true_ids: IndexArray, paths: Sequence[str], classes: Sequence[str]
) -> None:
    """Write which photos were named wrongly: the most confused pairs of classes first, then the surest mistakes.

    Parameters
    ----------
    path
        The file to write.
    predictions
        What is thought of the photos; its rows are their positions, ascending.
    true_ids
        (n,) true class ids.
    paths, classes
        As for `prediction_lines`.
    """
    wrong = np.flatnonzero(predictions.first != true_ids)
    true, predicted, sure = true_ids[wrong], predictions.first[wrong], predictions.confidence[wrong]
    _, pair, n_of_pair = np.unique(true * len(classes) + predicted, return_inverse=True, return_counts=True)
    order = np.lexsort((-sure, pair, -n_of_pair[pair]))
    columns = (column[order].tolist() for column in (wrong, true, predicted, sure))
    lines = (
        (*split_path(paths[at]), classes[true_id], classes[predicted_id], confidence)
        for at, true_id, predicted_id, confidence in zip(*columns, strict=True)
    )
    write_table(path, MISCLASSIFIED_COLUMNS, lines)
