"""The fitted classifier with a confidence that means something: what predictions and the export are made with."""

from dataclasses import dataclass
from typing import Any, Self

from sklearn.linear_model import LogisticRegression

from camera_trap_al.calibration import Calibration, Source, calibrate, with_temperature
from camera_trap_al.classifier import EmbeddingClassifier
from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning.data_loader import ExtendedImageFolder
from camera_trap_al.deep_learning.embedding_table import EmbeddingTable
from camera_trap_al.deep_learning.fitted_classifier import FittedClassifier
from camera_trap_al.out_of_fold import calibrate_out_of_fold, out_of_fold_probabilities, split_if_few, stand_in
from camera_trap_al.pools import FloatArray, IndexArray, Role
from camera_trap_al.predictions import Predictions
from camera_trap_al.thresholds import Thresholds, find_thresholds

__all__ = ["CalibratedClassifier"]

ENOUGH_AUDIT_PHOTOS = 100  # below, the labelled photos, out of fold, tell the temperature better
ENOUGH_CANDIDATES = 300  # with which a temperature is that with all of them, to half a per cent


@dataclass(frozen=True, eq=False)
class CalibratedClassifier:
    """What turns embeddings into predictions.

    Attributes
    ----------
    fitted
        Scaler and classifier.
    calibration
        The temperature of its probabilities.
    thresholds
        What to do with a prediction.
    """

    fitted: FittedClassifier
    calibration: Calibration
    thresholds: Thresholds

    @classmethod
    def make(
        cls,
        fitted: FittedClassifier,
        dataset: ExtendedImageFolder,
        table: EmbeddingTable,
        tested: IndexArray,
        candidates: IndexArray,
        config: RunConfig,
    ) -> Self:
        """Calibrate on validation photos, without any on enough audit photos, else out of fold on the labelled ones.

        Parameters
        ----------
        fitted
            Scaler and classifier.
        dataset, table
            The photos and their embeddings.
        tested
            (n,) rows of validation photos.
        candidates
            (m,) unlabelled rows that are embedded.
        config
            The share of wrong species among accepted photos.
        """
        source: Source = "validation" if len(tested) else "audit"
        rows = tested if len(tested) else dataset.pools.audit
        targets, probabilities = dataset.targets[rows], fitted.probabilities(table.of(rows))
        groups = dataset.groups(rows) if len(tested) else dataset.pools.audit_groups(rows)
        calibration = calibrate(probabilities, targets, source, groups)
        if calibration.source == "nothing" or (source == "audit" and len(rows) < ENOUGH_AUDIT_PHOTOS):
            calibration = _out_of_fold(fitted, dataset, table, candidates, config)
        thresholds = find_thresholds(
            with_temperature(probabilities, calibration.temperature),
            targets,
            dataset.classes,
            source=source if len(rows) else calibration.source,
            wanted_error=config.accept_error,
        )
        return cls(fitted, calibration, thresholds)

    def probabilities(self, embeddings: FloatArray) -> FloatArray:
        """Return (n, n_classes) class probabilities of (n, n_features) embeddings, columns by class id."""
        return with_temperature(self.fitted.probabilities(embeddings), self.calibration.temperature)

    def predict(self, rows: IndexArray, embeddings: FloatArray) -> Predictions:
        """Name the likeliest classes of (n,) rows with these embeddings."""
        return Predictions.of(rows, self.probabilities(embeddings))

    def decide(self, predictions: Predictions) -> list[str]:
        """Say what to do with each prediction (`Thresholds.decide`)."""
        decisions: list[str] = self.thresholds.decide(predictions.confidence, predictions.first).tolist()
        return decisions

    @property
    def lineage(self) -> dict[str, Any]:
        """Name what its predictions follow from besides the embeddings."""
        return {
            "classifier": self.fitted.lineage,
            "temperature": self.calibration.temperature,
            "thresholds": self.thresholds.to_dict(),
        }


def _out_of_fold(
    fitted: FittedClassifier,
    dataset: ExtendedImageFolder,
    table: EmbeddingTable,
    candidates: IndexArray,
    config: RunConfig,
) -> Calibration:
    rows = dataset.pools.labelled
    embeddings, targets = fitted.scaler.transform(table.of(rows)), dataset.targets[rows]
    groups = split_if_few(dataset.groups(rows), dataset.pools.roles[rows] == Role.UNLABELLED)
    seed = int(config.generator("out of fold", 0).integers(2**31))
    logistic = _logistic_like(fitted.classifier)
    judged = out_of_fold_probabilities(embeddings, targets, groups, len(dataset.classes), seed, logistic=logistic)
    some = candidates[:: max(1, len(candidates) // ENOUGH_CANDIDATES)]
    others = fitted.scaler.transform(table.of(some))
    probabilities = fitted.classifier.probabilities(others)
    return calibrate_out_of_fold(judged, embeddings, targets, groups, others, probabilities, logistic)


def _logistic_like(classifier: EmbeddingClassifier) -> Any:
    """Give the classifier itself if it is a logistic regression, else the one that stands in for it."""
    itself = classifier.estimator_
    return itself if isinstance(itself, LogisticRegression) else stand_in(classifier.class_weight)
