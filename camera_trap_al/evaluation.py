"""How good the classifier is on images that it did not learn from: metrics, confusion matrix, and their files."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from camera_trap_al.calibration import Calibration
from camera_trap_al.exceptions import ConfigError, DataError
from camera_trap_al.files import make_folder, written_aside
from camera_trap_al.pools import FloatArray, IndexArray

__all__ = ["EvaluationReport", "evaluate"]

INCHES_PER_CLASS = 0.5
MAX_INCHES = 40  # of one side of the plot; larger ones take long to draw, and some viewers do not open them


@dataclass(frozen=True, eq=False, kw_only=True)
class EvaluationReport:
    """The figures of one evaluation, all shares 0..1.

    With one label per image the micro averages equal the accuracy. The macro averages weigh each class of
    `conf_mat_classes` the same, however few images it has; a precision or recall of nothing counts as 0.

    Attributes
    ----------
    conf_mat_classes
        Names of the classes that occur, as the truth or as a prediction, in alphabetical order.
    confusion_matrix
        (n, n) counts in the order of `conf_mat_classes`: rows are the true classes, columns the predicted ones.
    n_images
        Number of images that were judged.
    calibration
        How far confidence and truth are apart, without and with the temperature of the exported model.
    """

    accuracy: float
    micro_precision: float
    micro_recall: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    conf_mat_classes: tuple[str, ...]
    confusion_matrix: IndexArray
    n_images: int
    calibration: Calibration = field(default_factory=Calibration)

    def to_dict(self) -> dict[str, Any]:
        """Return all but the confusion matrix as plain values, as they stand in metrics.json."""
        return {
            "accuracy": self.accuracy,
            "micro_precision": self.micro_precision,
            "micro_recall": self.micro_recall,
            "macro_precision": self.macro_precision,
            "macro_recall": self.macro_recall,
            "macro_f1": self.macro_f1,
            "conf_mat_classes": list(self.conf_mat_classes),
            "n_images": self.n_images,
            "temperature": self.calibration.temperature,
            "expected_calibration_error": self.calibration.ece_before,
            "expected_calibration_error_calibrated": self.calibration.ece_after,
        }

    def save(self, folder: Path) -> None:
        """Write confusion_matrix.npy, confusion_matrix.png and metrics.json, each whole or not at all.

        Parameters
        ----------
        folder
            Made if it is not there; files of these names in it are replaced.
        """
        make_folder(folder)
        with written_aside(folder / "confusion_matrix.npy") as path:
            np.save(path, self.confusion_matrix)
        with written_aside(folder / "confusion_matrix.png") as path:
            _draw(self, path)
        with written_aside(folder / "metrics.json") as path:
            path.write_text(json.dumps(self.to_dict(), indent=2, ensure_ascii=False), encoding="utf-8")


def evaluate(true_ids: IndexArray, probabilities: FloatArray, classes: Sequence[str]) -> EvaluationReport:
    """Compare the likeliest classes with the truth.

    Parameters
    ----------
    true_ids
        (n,), class id of each image.
    probabilities
        (n, n_classes), columns by class id. Of equal probabilities the lower class id counts.
    classes
        Class names by class id.

    Raises
    ------
    ConfigError
        If the arguments do not fit together.
    DataError
        If there is no image, or a probability is NaN.
    """
    _check(true_ids, probabilities, classes)
    predicted_ids = probabilities.argmax(axis=1)
    occurring = np.union1d(true_ids, predicted_ids).tolist()
    ids = sorted(occurring, key=lambda class_id: classes[class_id])
    # Not scikit-learn's confusion_matrix: that warns when there is a single class, whatever labels it is given.
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(counts, (true_ids, predicted_ids), 1)
    averages = {
        kind: precision_recall_fscore_support(true_ids, predicted_ids, labels=ids, average=kind, zero_division=0)
        for kind in ("micro", "macro")
    }
    return EvaluationReport(
        accuracy=float(accuracy_score(true_ids, predicted_ids)),
        micro_precision=float(averages["micro"][0]),
        micro_recall=float(averages["micro"][1]),
        macro_precision=float(averages["macro"][0]),
        macro_recall=float(averages["macro"][1]),
        macro_f1=float(averages["macro"][2]),
        conf_mat_classes=tuple(classes[class_id] for class_id in ids),
        confusion_matrix=counts[np.ix_(ids, ids)],
        n_images=len(true_ids),
    )


def _check(true_ids: IndexArray, probabilities: FloatArray, classes: Sequence[str]) -> None:
    expected = (len(true_ids), len(classes))
    if probabilities.shape != expected:
        raise ConfigError(
            f"probabilities must have a row per image and a column per class, {expected}; got {probabilities.shape}."
        )
    if not len(true_ids):
        raise DataError("The model cannot be evaluated: there is no image to evaluate it on.")
    if true_ids.min() < 0 or true_ids.max() >= len(classes):
        raise ConfigError(
            f"true_ids must be class ids from 0 to {len(classes) - 1}; got {true_ids.min()} to {true_ids.max()}."
        )
    if np.isnan(probabilities).any():
        raise DataError("The model cannot be evaluated: some of its probabilities are NaN. Its training has diverged.")


def _draw(report: EvaluationReport, path: Path) -> None:
    """Draw the confusion matrix: a count in each cell that has one, coloured by its share of the true class."""
    from matplotlib.figure import Figure  # not pyplot, whose state and backend belong to the user

    n_classes = len(report.conf_mat_classes)
    side = min(4 + INCHES_PER_CLASS * n_classes, MAX_INCHES)
    figure = Figure(figsize=(side + 1, side), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    per_true_class = np.maximum(report.confusion_matrix.sum(axis=1, keepdims=True), 1)
    shares = report.confusion_matrix / per_true_class
    image = axes.imshow(shares, cmap="cividis", vmin=0, vmax=1)  # made for colour-blind eyes [Nunez et al., 2018]
    figure.colorbar(image, ax=axes, fraction=0.046, label="share of the images of the true class")
    ticks, size = range(n_classes), min(9.0, 30 * side / n_classes)
    # A dollar sign in a class name must not start a formula.
    axes.set_xticks(ticks, report.conf_mat_classes, rotation=90, parse_math=False, fontsize=size)
    axes.set_yticks(ticks, report.conf_mat_classes, parse_math=False, fontsize=size)
    axes.set(xlabel="predicted", ylabel="true", title=f"{report.n_images} images, accuracy {report.accuracy:.1%}")
    for row, column in np.argwhere(report.confusion_matrix):
        colour = "black" if shares[row, column] > 0.5 else "white"
        count = f"{report.confusion_matrix[row, column]}"
        axes.text(column, row, count, ha="center", va="center", color=colour, fontsize=size)
    figure.savefig(path, format="png")
