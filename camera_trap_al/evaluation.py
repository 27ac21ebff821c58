"""How good the classifier is on images that it did not learn from: metrics, confusion matrix, and their files."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import precision_recall_fscore_support

from camera_trap_al.exceptions import ConfigError, DataError
from camera_trap_al.files import make_folder, written_aside
from camera_trap_al.pools import FloatArray, IndexArray
from camera_trap_al.predictions import Predictions, write_misclassified
from camera_trap_al.statistics.bootstrap import Interval, bootstrap_intervals
from camera_trap_al.statistics.calibration import Calibration, mean_log_loss

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ClassFigures", "Confusion", "EvaluationReport", "evaluate", "plot_confusion_matrix"]

MOST_CONFUSED = 10  # pairs of classes that are listed
INCHES_PER_CLASS = 0.5
MAX_INCHES = 40  # of one side of the plot; larger ones take long to draw, and some viewers do not open them


@dataclass(frozen=True)
class ClassFigures:
    """How well one class is found.

    Attributes
    ----------
    name
        The class.
    precision
        Share that shows it of the images that were named so; 0 if there are none.
    recall
        Share that was named so of the images that show it; 0 if there are none.
    f1
        Their harmonic mean.
    support
        Number of images that show it: with few, the other figures say little.
    """

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Confusion:
    """How many images of the class `true` were taken for `predicted`."""

    true: str
    predicted: str
    n_images: int


@dataclass(frozen=True, eq=False, kw_only=True)
class EvaluationReport:
    """The figures of one evaluation, all shares 0..1.

    With one label per image the micro averages equal the accuracy. The macro averages weigh each class of
    `conf_mat_classes` the same, however few images it has; a precision or recall of nothing counts as 0.

    Attributes
    ----------
    balanced_accuracy
        Mean recall of the classes that have an image [Brodersen et al., 2010].
    top_3_accuracy
        Share of images whose class is among the three likeliest.
    log_loss
        Mean of minus the logarithm of the true class' probability, in nats; a probability counts as at least 1.2e-7.
    conf_mat_classes
        Names of the classes that occur, as the truth or as a prediction, in alphabetical order.
    confusion_matrix
        (n, n) counts in the order of `conf_mat_classes`: rows are the true classes, columns the predicted ones.
    n_images
        Number of images that were judged.
    n_groups
        Number of groups that they are in, such as bursts; the images of a group are alike.
    per_class
        Figures of each class of `conf_mat_classes`.
    intervals
        95 % intervals of accuracy, balanced_accuracy and macro_f1 by their names (`bootstrap_intervals`).
    predictions
        What the model thinks of the images; its rows are their positions.
    true_ids
        (n_images,) true class ids.
    classes
        Class names by class id.
    split
        How the images were kept apart from those of the training: "folder" (the user did), "site" or "sequence".
    n_shared_sequences
        Number of sequences that have images both here and in the training; if it is not 0, the figures flatter.
    calibration
        How far confidence and truth are apart, without and with the temperature of the exported model.
    """

    accuracy: float
    balanced_accuracy: float
    top_3_accuracy: float
    micro_precision: float
    micro_recall: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    log_loss: float
    conf_mat_classes: tuple[str, ...]
    confusion_matrix: IndexArray
    n_images: int
    n_groups: int
    per_class: tuple[ClassFigures, ...]
    intervals: Mapping[str, Interval]
    predictions: Predictions
    true_ids: IndexArray
    classes: tuple[str, ...]
    split: str = "folder"
    n_shared_sequences: int = 0
    calibration: Calibration = field(default_factory=Calibration)

    @property
    def accuracy_told(self) -> str:
        """The accuracy and its interval in words."""
        if "accuracy" not in self.intervals:
            return f"accuracy {self.accuracy:.1%}"
        low, high = self.intervals["accuracy"]
        return f"accuracy {self.accuracy:.1%} (95 % interval {low:.1%} to {high:.1%})"

    @property
    def most_confused(self) -> list[Confusion]:
        """The ten pairs of classes that are confused most often, of equal ones the first by name."""
        wrong = self.confusion_matrix * ~np.eye(len(self.conf_mat_classes), dtype=bool)
        pairs = np.argwhere(wrong)
        order = np.argsort(-wrong[tuple(pairs.T)], kind="stable")[:MOST_CONFUSED]
        names = self.conf_mat_classes
        return [
            Confusion(names[true], names[predicted], int(wrong[true, predicted])) for true, predicted in pairs[order]
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain values, as they stand in metrics.json; the confusion matrix is left out."""
        return {
            "accuracy": self.accuracy,
            "micro_precision": self.micro_precision,
            "micro_recall": self.micro_recall,
            "macro_precision": self.macro_precision,
            "macro_recall": self.macro_recall,
            "macro_f1": self.macro_f1,
            "conf_mat_classes": list(self.conf_mat_classes),
            "n_images": self.n_images,
            "n_groups": self.n_groups,
            "split": self.split,
            "n_shared_sequences": self.n_shared_sequences,
            "balanced_accuracy": self.balanced_accuracy,
            "top_3_accuracy": self.top_3_accuracy,
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
            "log_loss": self.log_loss,
            "log_loss_calibrated": self.calibration.log_loss_after,
            "temperature": self.calibration.temperature,
            "expected_calibration_error": self.calibration.ece_before,
            "expected_calibration_error_calibrated": self.calibration.ece_after,
            "per_class": [asdict(figures) for figures in self.per_class],
            "most_confused": [asdict(confusion) for confusion in self.most_confused],
        }

    def save(self, folder: Path, photos: Sequence[str] | None = None) -> None:
        """Write confusion_matrix.npy, confusion_matrix.png and metrics.json, each whole or not at all.

        Parameters
        ----------
        folder
            Made if it is not there; files of these names in it are replaced.
        photos
            (n_images,) where each image is, separated by ``/``: misclassified.csv then lists those that were named
            wrongly, the most confused pairs of classes first, and of a pair the surest mistakes first.
        """
        make_folder(folder)
        with written_aside(folder / "confusion_matrix.npy") as path:
            np.save(path, self.confusion_matrix)
        with written_aside(folder / "confusion_matrix.png") as path:
            _draw(self, path)
        with written_aside(folder / "metrics.json") as path:
            path.write_text(json.dumps(self.to_dict(), indent=2, ensure_ascii=False), encoding="utf-8")
        if photos is not None:
            with written_aside(folder / "misclassified.csv") as path:
                write_misclassified(path, self.predictions, self.true_ids, photos, self.classes)


def evaluate(
    true_ids: IndexArray,
    probabilities: FloatArray,
    classes: Sequence[str],
    groups: IndexArray | None = None,
    rng: np.random.Generator | None = None,
) -> EvaluationReport:
    """Compare the likeliest classes with the truth.

    Parameters
    ----------
    true_ids
        (n,), class id of each image.
    probabilities
        (n, n_classes), columns by class id. Of equal probabilities the lower class id counts.
    classes
        Class names by class id.
    groups
        (n,) numbers, equal for images that are alike, such as those of a burst. None: each is on its own.
    rng
        Source of the resampling for the intervals; None draws the same each time.

    Raises
    ------
    ConfigError
        If the arguments do not fit together.
    DataError
        If there is no image, or a probability is NaN.
    """
    groups = np.arange(len(true_ids)) if groups is None else groups
    _check(true_ids, probabilities, classes, groups)
    predictions = Predictions.of(np.arange(len(true_ids)), probabilities)
    predicted_ids = predictions.first
    occurring = np.union1d(true_ids, predicted_ids).tolist()
    ids = sorted(occurring, key=lambda class_id: classes[class_id])
    # Not scikit-learn's confusion_matrix: that warns when there is a single class, whatever labels it is given.
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(counts, (true_ids, predicted_ids), 1)
    averages = {
        kind: precision_recall_fscore_support(true_ids, predicted_ids, labels=ids, average=kind, zero_division=0)
        for kind in ("micro", "macro")
    }
    precisions, recalls, f1s, supports = precision_recall_fscore_support(
        true_ids, predicted_ids, labels=ids, zero_division=0
    )
    return EvaluationReport(
        accuracy=float((true_ids == predicted_ids).mean()),
        balanced_accuracy=float(recalls[supports > 0].mean()),
        top_3_accuracy=float((predictions.class_ids[:, :3] == true_ids[:, np.newaxis]).any(axis=1).mean()),
        micro_precision=float(averages["micro"][0]),
        micro_recall=float(averages["micro"][1]),
        macro_precision=float(averages["macro"][0]),
        macro_recall=float(averages["macro"][1]),
        macro_f1=float(averages["macro"][2]),
        log_loss=mean_log_loss(probabilities, true_ids),
        conf_mat_classes=tuple(classes[class_id] for class_id in ids),
        confusion_matrix=counts[np.ix_(ids, ids)],
        n_images=len(true_ids),
        n_groups=len(np.unique(groups)),
        per_class=tuple(
            ClassFigures(classes[class_id], float(precision), float(recall), float(f1), int(support))
            for class_id, precision, recall, f1, support in zip(ids, precisions, recalls, f1s, supports, strict=True)
        ),
        intervals=bootstrap_intervals(true_ids, predicted_ids, groups, rng or np.random.default_rng(0)),
        predictions=predictions,
        true_ids=true_ids,
        classes=tuple(classes),
    )


def _check(true_ids: IndexArray, probabilities: FloatArray, classes: Sequence[str], groups: IndexArray) -> None:
    expected = (len(true_ids), len(classes))
    if probabilities.shape != expected:
        raise ConfigError(
            f"probabilities must have a row per photo and a column per class, {expected}; got {probabilities.shape}."
        )
    if groups.shape != true_ids.shape:
        raise ConfigError(f"groups must have a number per photo, {true_ids.shape}; got {groups.shape}.")
    if not len(true_ids):
        raise DataError("The model cannot be evaluated: there is no photo to evaluate it on.")
    if true_ids.min() < 0 or true_ids.max() >= len(classes):
        raise ConfigError(
            f"true_ids must be class ids from 0 to {len(classes) - 1}; got {true_ids.min()} to {true_ids.max()}."
        )
    if np.isnan(probabilities).any():
        raise DataError("The model cannot be evaluated: some of its probabilities are NaN. Its training has diverged.")


def _draw(report: EvaluationReport, path: Path) -> None:
    plot_confusion_matrix(report).savefig(path, format="png")


def plot_confusion_matrix(report: EvaluationReport) -> "Figure":
    """Draw the confusion matrix: a count in each cell that has one, coloured by its share of the true class.

    The figure belongs to nobody: ``figure.savefig`` writes it, a notebook shows it after ``%matplotlib inline``.
    """
    from matplotlib.figure import Figure  # not pyplot, whose state and backend belong to the user

    n_classes = len(report.conf_mat_classes)
    side = min(4 + INCHES_PER_CLASS * n_classes, MAX_INCHES)
    figure = Figure(figsize=(side + 1, side), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    per_true_class = np.maximum(report.confusion_matrix.sum(axis=1, keepdims=True), 1)
    shares = report.confusion_matrix / per_true_class
    image = axes.imshow(shares, cmap="cividis", vmin=0, vmax=1)  # made for colour-blind eyes [Nunez et al., 2018]
    figure.colorbar(image, ax=axes, fraction=0.046, label="share of the photos of the true class")
    ticks, size = range(n_classes), min(9.0, 30 * side / n_classes)
    # A dollar sign in a class name must not start a formula.
    axes.set_xticks(ticks, report.conf_mat_classes, rotation=90, parse_math=False, fontsize=size)
    axes.set_yticks(ticks, report.conf_mat_classes, parse_math=False, fontsize=size)
    axes.set(xlabel="predicted", ylabel="true", title=f"{report.n_images} photos, {report.accuracy_told}")
    for row, column in np.argwhere(report.confusion_matrix):
        colour = "black" if shares[row, column] > 0.5 else "white"
        count = f"{report.confusion_matrix[row, column]}"
        axes.text(column, row, count, ha="center", va="center", color=colour, fontsize=size)
    return figure
