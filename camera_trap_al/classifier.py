"""The scaler and the classifier that are fitted on embeddings, from scratch every round."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from camera_trap_al.estimator_arrays import restore, state_of
from camera_trap_al.estimators import fit_estimator, new_estimator, settings_as_json
from camera_trap_al.exceptions import ConfigError, DataError
from camera_trap_al.logs import stage
from camera_trap_al.pools import FloatArray, IndexArray

__all__ = ["EmbeddingClassifier", "EmbeddingScaler"]

logger = logging.getLogger(__name__)

ROWS_PER_PREDICTION = 50_000
CONSTANT_BELOW = 10 * np.finfo(np.float32).eps  # scikit-learn's bound as well


@dataclass(frozen=True, eq=False)
class EmbeddingScaler:
    """Brings each feature of the fitted rows to 0..1; values beyond their range land beyond 0..1.

    Attributes
    ----------
    minimum
        (n_features,), what becomes 0.
    maximum
        (n_features,), what becomes 1.
    identity
        True when nothing is scaled (`normalize_embedding=False`); `minimum` is then 0 and `maximum` 1, so that a
        program that only knows these two gets it right as well.
    """

    minimum: FloatArray
    maximum: FloatArray
    identity: bool

    @classmethod
    def fit(cls, embeddings: FloatArray, *, normalize: bool) -> Self:
        """Learn the range of each feature.

        Parameters
        ----------
        embeddings
            (n, n_features), the labelled and candidate rows; never those that measure the model.
        normalize
            False gives the identity.

        Raises
        ------
        ConfigError
            If `embeddings` is not a matrix.
        DataError
            If there is no row, or an embedding is NaN or infinite.
        """
        _check_matrix(embeddings)
        if not len(embeddings):
            raise DataError("The scaler cannot be fitted: there is no embedding to learn the range of a feature from.")
        lowest, highest = embeddings.min(axis=0), embeddings.max(axis=0)
        _check_finite(np.stack([lowest, highest]))  # NaN and infinity always show in one of the two
        if not normalize:
            lowest, highest = np.zeros_like(lowest), np.ones_like(highest)
        return cls(lowest.astype(np.float32), highest.astype(np.float32), not normalize)

    @property
    def span(self) -> FloatArray:
        """(n_features,), what to divide by after `minimum` is subtracted: the range, or 1 for a constant feature."""
        difference = self.maximum - self.minimum
        return np.where(difference < CONSTANT_BELOW, np.float32(1), difference)

    def transform(self, embeddings: FloatArray) -> FloatArray:
        """Return a scaled copy, (n, n_features); features that were constant in the fitted rows are 0 there.

        Raises
        ------
        ConfigError
            If the number of features is not the fitted one.
        """
        _check_matrix(embeddings, n_features=len(self.minimum))
        return ((embeddings - self.minimum) / self.span).astype(np.float32, copy=False)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything that `from_arrays` needs, ready for `numpy.savez`."""
        return {"minimum": self.minimum, "maximum": self.maximum, "identity": np.array(self.identity)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Rebuild a scaler from `to_arrays`.

        Raises
        ------
        DataError
            If an array is missing.
        """
        with _complete("scaler"):
            return cls(arrays["minimum"], arrays["maximum"], bool(arrays["identity"]))


class EmbeddingClassifier:
    """Class probabilities from scaled embeddings, whichever classes have a label so far.

    It owns the mapping between the columns of the scikit-learn estimator, which knows only classes that have a label,
    and class ids. With one labelled class nothing is fitted and its probability is 1.

    Parameters
    ----------
    estimator
        "mlp", scikit-learn's `MLPClassifier` with the settings of `estimators.MLP_PARAMS`, another of
        `estimators.CLASSIFIERS`, or a scikit-learn estimator with `predict_proba`. An estimator is cloned for each
        fit; its random states that are None are set from `seed`.
    params
        Settings of the estimator to change (`classifier_params`).
    seed
        Seed of the estimator, 0..2^32 - 1.
    n_classes
        Number of classes, with and without a label.
    class_weight
        "balanced": each labelled class counts as much as any other, however many labels it has. None: each image does.

    Attributes
    ----------
    estimator_
        The fitted scikit-learn estimator, None with one labelled class.
    labelled_classes
        Ascending class ids that had a label in the fit.

    Raises
    ------
    ConfigError
        If one of the arguments cannot be used.
    """

    estimator_: Any
    labelled_classes: IndexArray

    def __init__(
        self,
        estimator: Any = "mlp",
        params: Mapping[str, Any] | None = None,
        *,
        seed: int,
        n_classes: int,
        class_weight: str | None = None,
    ) -> None:
        if not 0 <= seed < 2**32:
            raise ConfigError(f"seed must be from 0 to 2**32 - 1, as scikit-learn demands; got {seed}.")
        if n_classes < 1:
            raise ConfigError(f"n_classes must be at least 1; got {n_classes}.")
        self.estimator = estimator
        self.params = dict(params or {})
        self.seed = seed
        self.n_classes = n_classes
        self.class_weight = class_weight
        self._n_features: int | None = None
        self._n_labels = 1
        self._new_estimator()  # for its errors: hours may lie between here and the first fit

    def fit(
        self,
        scaled_embeddings: FloatArray,
        targets: IndexArray,
        weights: FloatArray | None = None,
        *,
        progress: bool = True,
    ) -> Self:
        """Fit from scratch, forgetting any earlier fit.

        Parameters
        ----------
        scaled_embeddings
            (n, n_features), the labelled rows, scaled.
        targets
            (n,), their class ids.
        weights
            (n,), how much each counts, above 0; None: each the same.
        progress
            Whether to show a progress bar with the loss of each epoch; only an `MLPClassifier` has one.

        Raises
        ------
        ConfigError
            If the arrays do not fit together, or the estimator refuses the data.
        DataError
            If there is no label, or an embedding is NaN or infinite.
        """
        self._check_training_data(scaled_embeddings, targets)
        estimator, labelled_classes = None, np.unique(targets).astype(np.int64)
        if len(labelled_classes) == 1:
            logger.info("Classifier: only one class has a label so far, so there is nothing to tell apart")
        else:
            self._n_labels = len(targets)
            estimator = self._new_estimator()
            what = f"Classifier: learning from {len(targets)} labelled photos of {len(labelled_classes)} classes"
            with stage(logger, what, "training the classifier"):
                fit_estimator(
                    estimator,
                    scaled_embeddings,
                    targets,
                    class_weight=self.class_weight,
                    weights=weights,
                    progress=progress,
                )
        self.estimator_, self.labelled_classes = estimator, labelled_classes
        self._n_features = scaled_embeddings.shape[1]
        return self

    def _new_estimator(self) -> Any:
        return new_estimator(
            self.estimator, self.params, self.seed, class_weight=self.class_weight, n_labels=self._n_labels
        )

    def probabilities(self, scaled_embeddings: FloatArray) -> FloatArray:
        """Return (n, n_classes) class probabilities, columns by class id, 0 for classes without a label.

        Raises
        ------
        ConfigError
            If nothing was fitted yet, or the number of features is not the fitted one.
        """
        _check_matrix(scaled_embeddings, n_features=self._fitted_features())
        probabilities = np.zeros((len(scaled_embeddings), self.n_classes), dtype=np.float32)
        if self.estimator_ is None:
            probabilities[:, self.labelled_classes] = 1
            return probabilities
        # In parts, since the hidden layers of a million images need more memory than the images.
        for start in range(0, len(scaled_embeddings), ROWS_PER_PREDICTION):
            part = slice(start, start + ROWS_PER_PREDICTION)
            probabilities[part, self.estimator_.classes_] = self._predict(scaled_embeddings[part])
        return probabilities

    def _predict(self, scaled_embeddings: FloatArray) -> NDArray[Any]:
        try:
            predicted: NDArray[Any] = self.estimator_.predict_proba(scaled_embeddings)
        except ValueError as error:  # such as more neighbours wanted than there are labels
            raise ConfigError(
                f"classifier={self.estimator!r} was fitted on {len(self.labelled_classes)} classes and cannot predict "
                f"({error}). Change its settings, or use another classifier."
            ) from error
        return predicted

    def to_arrays(self) -> dict[str, NDArray[Any]] | None:
        """Return the fitted state as plain arrays, ready for `numpy.savez`.

        Returns
        -------
        dict or None
            What `from_arrays` needs; None for an estimator of the user's own, whose state cannot be known: on resume
            it is fitted again on the same data.

        Raises
        ------
        ConfigError
            If nothing was fitted yet.
        """
        if not isinstance(self.estimator, str):
            return None
        settings = {
            "name": self.estimator,
            "params": self.params,
            "class_weight": self.class_weight,
            "seed": self.seed,
            "n_classes": self.n_classes,
            "n_features": self._fitted_features(),
            "n_labels": self._n_labels,
            "n_iter": 0 if self.estimator_ is None else np.max(self.estimator_.n_iter_),
        }
        arrays = {} if self.estimator_ is None else state_of(self.estimator_)
        return {"settings": np.array(settings_as_json(settings)), "labelled_classes": self.labelled_classes} | arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Rebuild a fitted classifier from `to_arrays`; it gives the same probabilities to the last bit.

        Raises
        ------
        DataError
            If an array is missing.
        """
        with _complete("classifier"):
            settings = json.loads(str(arrays["settings"]))
            params = {
                key: tuple(value) if isinstance(value, list) else value for key, value in settings["params"].items()
            }
            classifier = cls(
                settings.get("name", "mlp"),  # earlier versions knew no other, and stored less
                params,
                seed=settings["seed"],
                n_classes=settings["n_classes"],
                class_weight=settings.get("class_weight"),
            )
            classifier._n_features = settings["n_features"]
            classifier._n_labels = settings.get("n_labels", 1)
            classifier.labelled_classes = classes = arrays["labelled_classes"]
            classifier.estimator_ = None
            if len(classes) > 1:
                classifier.estimator_ = classifier._new_estimator()
                restore(classifier.estimator_, arrays, classes=classes, n_iter=settings["n_iter"])
        return classifier

    def _fitted_features(self) -> int:
        if self._n_features is None:
            raise ConfigError("EmbeddingClassifier knows nothing before fit was called.")
        return self._n_features

    def _check_training_data(self, embeddings: FloatArray, targets: IndexArray) -> None:
        _check_matrix(embeddings)
        if targets.shape != (len(embeddings),):
            raise ConfigError(
                f"targets must hold one class id per embedding, shape {(len(embeddings),)}; got shape {targets.shape}."
            )
        if not len(targets):
            raise DataError("The classifier cannot learn: no photo has a label yet.")
        if targets.min() < 0 or targets.max() >= self.n_classes:
            raise ConfigError(
                f"targets must be class ids from 0 to {self.n_classes - 1}; got {targets.min()} to {targets.max()}."
            )
        _check_finite(embeddings)


def _check_matrix(embeddings: FloatArray, n_features: int | None = None) -> None:
    if embeddings.ndim != 2 or n_features not in (None, embeddings.shape[1]):
        raise ConfigError(
            f"embeddings must have the shape (n, {n_features or 'n_features'}); got {embeddings.shape}. "
            "A scaler or classifier only takes embeddings of the network that it was fitted with."
        )


def _check_finite(embeddings: FloatArray) -> None:
    if not np.isfinite(embeddings).all():
        raise DataError(
            "Scaler and classifier cannot learn from embeddings that are NaN or infinite. The embedding network has "
            "probably diverged in training: use a smaller learning rate."
        )


@contextmanager
def _complete(what: str) -> Iterator[None]:
    try:
        yield
    except KeyError as error:
        raise DataError(f"The stored {what} is incomplete: {error} is missing. It must be fitted again.") from error
