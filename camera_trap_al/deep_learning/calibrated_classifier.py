"""The fitted classifier with a confidence that means something: what predictions and the export are made with."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from sklearn.linear_model import LogisticRegression

from camera_trap_al.classifier import EmbeddingClassifier
from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning.data_loader import ExtendedImageFolder
from camera_trap_al.deep_learning.embedding_table import EmbeddingTable
from camera_trap_al.deep_learning.fitted_classifier import FittedClassifier
from camera_trap_al.files import digest
from camera_trap_al.pools import FloatArray, IndexArray, Role
from camera_trap_al.predictions import Predictions
from camera_trap_al.statistics.calibration import Calibration, Source, calibrate, fit_temperature, with_temperature
from camera_trap_al.statistics.out_of_fold import (
    calibrate_out_of_fold,
    out_of_fold_probabilities,
    split_if_few,
    stand_in,
)
from camera_trap_al.statistics.sequence_predictions import SequenceSums, calibrate_sequences
from camera_trap_al.statistics.thresholds import Thresholds, find_thresholds

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
    of_sequences
        The temperature of sequences, on top of that of photos; its `n_photos` counts sequences.
    """

    fitted: FittedClassifier
    calibration: Calibration
    thresholds: Thresholds
    of_sequences: Calibration = field(default_factory=Calibration)

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
            calibration, of_sequences = _out_of_fold(fitted, dataset, table, candidates, config)
        else:
            of_sequences = _of_sequences(dataset, rows, probabilities, calibration)
        thresholds = find_thresholds(
            with_temperature(probabilities, calibration.temperature),
            targets,
            dataset.classes,
            source=source if len(rows) else calibration.source,
            wanted_error=config.accept_error,
        )
        return cls(fitted, calibration, thresholds, of_sequences)

    def probabilities(self, embeddings: FloatArray) -> FloatArray:
        """Return (n, n_classes) class probabilities of (n, n_features) embeddings, columns by class id."""
        return with_temperature(self.fitted.probabilities(embeddings), self.calibration.temperature)

    def predict_parts(
        self, rows: IndexArray, parts: Iterable[tuple[IndexArray, FloatArray]], sequences: IndexArray | None = None
    ) -> Predictions:
        """Name the likeliest classes of many photos, of which only these are kept, and of their sequences.

        Parameters
        ----------
        rows
            (n,) the photos, ascending.
        parts
            Some of `rows` and their embeddings at a time, each photo once; some photos may be missing.
        sequences
            Sequence of every row of the run, -1 where none is known; None if nothing is known of sequences.

        Returns
        -------
        Ascending by row, of the photos that came. A sequence is judged by these photos.
        """
        sums = None if sequences is None else SequenceSums(sequences[rows], len(self.thresholds.classes))

        def predicted(some: IndexArray, embeddings: FloatArray) -> Predictions:
            probabilities = self.probabilities(embeddings)
            if sums is not None:
                sums.add(np.searchsorted(rows, some), probabilities)
            return Predictions.of(some, probabilities)

        found = Predictions.join(predicted(*part) for part in parts)
        if sums is None:
            return found
        of_all = sums.predictions(self.of_sequences.temperature)
        return replace(found, of_sequences=of_all.of(np.searchsorted(rows, found.rows)))

    def decide(self, predictions: Predictions) -> list[str]:
        """Say what to do with each prediction (`Thresholds.decide`)."""
        decisions: list[str] = self.thresholds.decide(predictions.confidence, predictions.first).tolist()
        return decisions

    def lineage_of(self, rows: IndexArray, sequences: IndexArray | None = None) -> dict[str, Any]:
        """Name what predictions of `rows` follow from besides the embeddings; `sequences` as for `predict_parts`."""
        lineage = self.lineage | {"rows": digest(rows)}
        if sequences is not None:
            lineage["sequences"] = [digest(sequences[rows]), self.of_sequences.temperature]
        return lineage

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
) -> tuple[Calibration, Calibration]:
    """Give the calibration of photos and that of sequences."""
    rows = dataset.pools.labelled
    embeddings, targets = fitted.scaler.transform(table.of(rows)), dataset.targets[rows]
    groups = split_if_few(dataset.groups(rows), dataset.pools.roles[rows] == Role.UNLABELLED)
    seed = int(config.generator("out of fold", 0).integers(2**31))
    logistic = _logistic_like(fitted.classifier)
    judged = out_of_fold_probabilities(embeddings, targets, groups, len(dataset.classes), seed, logistic=logistic)
    some = candidates[:: max(1, len(candidates) // ENOUGH_CANDIDATES)]
    others = fitted.scaler.transform(table.of(some))
    probabilities = fitted.classifier.probabilities(others)
    calibration = calibrate_out_of_fold(judged, embeddings, targets, groups, others, probabilities, logistic)
    # The stand-in's own temperature: calibrated by photo, its sequences need what those of the classifier do.
    some_judged, own = judged.probabilities[judged.is_judged], targets[judged.is_judged]
    of_stand_in = replace(calibration, temperature=fit_temperature(some_judged, own))
    return calibration, _of_sequences(dataset, rows[judged.is_judged], some_judged, of_stand_in)


def _of_sequences(
    dataset: ExtendedImageFolder, rows: IndexArray, probabilities: FloatArray, calibration: Calibration
) -> Calibration:
    """Calibrate sequences by photos with these probabilities, of which `calibration` is."""
    sequences = dataset.catalogue.sequences
    if sequences is None:
        return Calibration()
    of_photos = with_temperature(probabilities, calibration.temperature)
    return calibrate_sequences(of_photos, dataset.targets[rows], sequences[rows], calibration.source)


def _logistic_like(classifier: EmbeddingClassifier) -> Any:
    """Give the classifier itself if it is a logistic regression, else the one that stands in for it."""
    itself = classifier.estimator_
    return itself if isinstance(itself, LogisticRegression) else stand_in(classifier.class_weight)
