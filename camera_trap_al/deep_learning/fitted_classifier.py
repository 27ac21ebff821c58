"""Scaler and classifier as they were fitted together, and the file that holds them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from camera_trap_al.classifier import EmbeddingClassifier, EmbeddingScaler
from camera_trap_al.config import RunConfig
from camera_trap_al.exceptions import CheckpointError
from camera_trap_al.files import read_arrays
from camera_trap_al.pools import FloatArray, IndexArray
from camera_trap_al.run_store import RunStore
from camera_trap_al.run_store.artefact import Artefact

__all__ = ["CLASSIFIER_FILE", "FittedClassifier"]

CLASSIFIER_FILE = "classifier/classifier.npz"
PARTS = ("scaler", "classifier")


@dataclass(frozen=True, eq=False)
class FittedClassifier:
    """What turns embeddings into class probabilities.

    Attributes
    ----------
    scaler, classifier
        Fitted on embeddings of one network.
    lineage
        Names of what they were fitted on; `network` among them.
    """

    scaler: EmbeddingScaler
    classifier: EmbeddingClassifier
    lineage: Mapping[str, Any]

    @classmethod
    def fit(
        cls,
        config: RunConfig,
        embeddings: FloatArray,
        targets: IndexArray,
        candidates: FloatArray,
        n_classes: int,
        lineage: Mapping[str, Any],
        weights: FloatArray | None = None,
    ) -> Self:
        """Fit both from scratch.

        Parameters
        ----------
        config
            Which classifier, with which settings, and its seed.
        embeddings, targets
            (n, n_features) and (n,), what the classifier learns from; the scaler too.
        candidates
            (m, n_features), what only the scaler learns from.
        n_classes
            Classes, with and without a label.
        lineage
            Names of what it is fitted on.
        weights
            (n,), how much each counts; None: each the same.
        """
        scaler = EmbeddingScaler.fit(np.concatenate([embeddings, candidates]), normalize=config.normalize_embedding)
        seed = int(config.generator("classifier", 0).integers(2**31))
        classifier = EmbeddingClassifier(
            config.classifier,
            config.classifier_params,
            seed=seed,
            n_classes=n_classes,
            class_weight=config.class_weight,
        )
        return cls(scaler, classifier.fit(scaler.transform(embeddings), targets, weights), lineage)

    def probabilities(self, embeddings: FloatArray) -> FloatArray:
        """Return (n, n_classes) class probabilities of (n, n_features) embeddings, columns by class id."""
        return self.classifier.probabilities(self.scaler.transform(embeddings))

    def check_network(self, network: str) -> None:
        """Refuse to be used with embeddings of another network than those of the fit.

        Raises
        ------
        CheckpointError
            If `network` names another one.
        """
        if self.lineage["network"] != network:
            raise CheckpointError(
                "The classifier was fitted on embeddings of another network: call the steps of stale_models() first.",
                Path(CLASSIFIER_FILE),
            )

    def artefacts(self) -> Iterator[Artefact]:
        """Give the file that holds both; none for an estimator of the user's own, which is fitted again on resume."""
        classifier = self.classifier.to_arrays()
        if classifier is not None:
            parts = dict(zip(PARTS, (self.scaler.to_arrays(), classifier), strict=True))
            named: dict[str, Any] = {f"{part}.{name}": array for part in PARTS for name, array in parts[part].items()}
            yield Artefact(CLASSIFIER_FILE, self.lineage, lambda path: np.savez(path, **named))

    @classmethod
    def load(cls, store: RunStore, network: str) -> Self | None:
        """Load what a run saved, if it was fitted on embeddings of this network and can be loaded; else None."""
        lineage = store.lineage_of(CLASSIFIER_FILE)
        if lineage is None or lineage["network"] != network:
            return None
        file = store.folder / CLASSIFIER_FILE
        parts: dict[str, dict[str, Any]] = {part: {} for part in PARTS}
        try:
            for name, array in read_arrays(file).items():
                part, _, name_in_part = name.partition(".")
                parts[part][name_in_part] = array
            scaler = EmbeddingScaler.from_arrays(parts["scaler"])
            classifier = EmbeddingClassifier.from_arrays(parts["classifier"])
        except (ValueError, KeyError):
            store.tell_made_again(CLASSIFIER_FILE)
            return None
        return cls(scaler, classifier, lineage)
