"""What the model thinks of photos that nobody labelled."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np

from camera_trap_al.files import plain_cell
from camera_trap_al.interchange.timelapse import split_path
from camera_trap_al.pools import FloatArray, IndexArray

__all__ = ["PREDICTIONS_FILE", "Predictions", "write_predictions"]

PREDICTIONS_FILE = "predictions.csv"
COLUMNS = ("File", "RelativePath", "Species", "confidence", "second_species", "margin")


@dataclass(frozen=True, eq=False)
class Predictions:
    """The two likeliest classes of some photos.

    Attributes
    ----------
    rows
        (n,) which photos.
    first, second
        (n,) class ids; `second` is -1 where there is one class only.
    confidence
        (n,) probability of the first class, 0 to 1.
    margin
        (n,) by how much it is more likely than the second.
    """

    rows: IndexArray
    first: IndexArray
    second: IndexArray
    confidence: FloatArray
    margin: FloatArray

    @classmethod
    def of(cls, rows: IndexArray, probabilities: FloatArray) -> Self:
        """Pick them from (n, n_classes) probabilities of (n,) rows; of equally likely classes the lower id is first."""
        everyone = np.arange(len(rows))
        first = probabilities.argmax(axis=1).astype(np.int64)
        confidence = probabilities[everyone, first]
        if probabilities.shape[1] == 1:
            return cls(rows, first, np.full_like(first, -1), confidence, confidence)
        others = probabilities.copy()
        others[everyone, first] = -1
        second = others.argmax(axis=1).astype(np.int64)
        return cls(rows, first, second, confidence, confidence - others[everyone, second])

    @classmethod
    def join(cls, some: Iterable[Self]) -> Self:
        """Put predictions of different photos together, ascending by row."""
        parts = list(some) or [cls.of(np.zeros(0, np.int64), np.zeros((0, 2), np.float32))]
        order = np.argsort(np.concatenate([part.rows for part in parts]))
        return cls(*(np.concatenate([getattr(part, each.name) for part in parts])[order] for each in fields(cls)))

    def __len__(self) -> int:
        return len(self.rows)


def write_predictions(path: Path, predictions: Predictions, paths: Sequence[str], classes: Sequence[str]) -> None:
    r"""Write predictions as a CSV that people and programs read: UTF-8, comma, CRLF, one photo a line.

    Parameters
    ----------
    path
        The file to write.
    predictions
        What to write.
    paths
        The photo of each row of the run, relative to the unlabelled folder, separated by ``/``.
    classes
        Class names by class id.
    """
    names = [*map(plain_cell, classes), ""]  # -1, no second class, finds the last
    columns = (getattr(predictions, each.name).tolist() for each in fields(predictions))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(
            (*map(plain_cell, split_path(paths[row])), names[first], f"{sure:.4f}", names[second], f"{margin:.4f}")
            for row, first, second, sure, margin in zip(*columns, strict=True)
        )
