"""What cannot be exported, found out before any work."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from camera_trap_al.classifier import EmbeddingClassifier, EmbeddingScaler
from camera_trap_al.deep_learning.fitted_classifier import FittedClassifier
from camera_trap_al.deep_learning.network_graph import OPSET
from camera_trap_al.deep_learning.networks import architecture_names, n_parameters
from camera_trap_al.exceptions import ConfigError, reason_of
from camera_trap_al.export.model_graph import CLASSIFIER_OPSET, classifier_model, head_model
from camera_trap_al.files import size_told
from camera_trap_al.pools import FloatArray, IndexArray
from camera_trap_al.statistics.calibration import with_temperature

__all__ = ["find_export_problems"]

MOST_BYTES = 2**31 - 1  # of an ONNX file: the limit of protobuf, in which it is written
TRIAL_ROWS = 300  # enough for what wants many, such as a principal component analysis before the classifier
TRIAL_CLASSES = (3, 2)  # some converters know one of the two cases only
NEW_ROWS = 50
CLASSES_FOR_SURE = 2  # with so many, the sums of trees that are sure end below 0 or above 1
TRIAL_TEMPERATURE = 1.5
TOLERANCE = 1e-4  # of probabilities
TOLERANCE_WITH_TEMPERATURE = 1e-3  # the power makes 1e-4 of the 1e-6 by which a sum of trees misses 0
# With three classes, the interpreter of onnx computes it otherwise than onnxruntime and scikit-learn, which agree.
MISJUDGED = {"SVMClassifier"}


def find_export_problems(arguments: Mapping[str, Any]) -> list[str]:
    """Find out before any work whether the network and a user's scikit-learn estimator can be exported.

    Parameters
    ----------
    arguments
        The arguments of `run_active_learning` by name. What is wrong in itself is not this one's to tell.

    Returns
    -------
    A sentence if the network is too large, and one if a small copy of the estimator, fitted on made numbers, cannot be
    converted to ONNX or gives other probabilities there.
    """
    return _network_problems(arguments["embedding_arch"]) + _classifier_problems(arguments)


def _network_problems(arch_name: Any) -> list[str]:
    if arch_name not in architecture_names():
        return []
    n_bytes = n_parameters(arch_name) * np.float32().nbytes
    if n_bytes <= MOST_BYTES:
        return []
    return [
        f"embedding_arch={arch_name!r} cannot be exported: its weights take {size_told(n_bytes)}, and a file of the "
        f"format ONNX holds {size_told(MOST_BYTES)} at most. Choose a smaller architecture."
    ]


def _classifier_problems(arguments: Mapping[str, Any]) -> list[str]:
    classifier, n_features = arguments["classifier"], arguments["feat_dim"]
    if isinstance(classifier, str) or not isinstance(n_features, int) or n_features < 1:
        return []
    try:
        trials = [
            EmbeddingClassifier(
                classifier,
                arguments["classifier_params"],
                seed=0,
                n_classes=n_classes,
                class_weight=arguments["class_weight"],
            )
            for n_classes in TRIAL_CLASSES
        ]
    except ConfigError:
        return []
    for trial in trials:
        fault = _fault_of(trial, n_features)
        if fault:
            return [
                f"classifier={classifier!r} cannot be fitted and exported to ONNX ({fault}; tried with "
                f"{trial.n_classes} classes). Use classifier='mlp', 'mlp_fast' or 'logistic', or an "
                "estimator that skl2onnx converts, such as RandomForestClassifier."
            ]
    return []


def _fault_of(trial: EmbeddingClassifier, n_features: int) -> str | None:
    rng = np.random.default_rng(0)
    try:
        trial.fit(*_made(rng, TRIAL_ROWS, n_features, trial.n_classes), progress=False)
        new, _ = _made(rng, NEW_ROWS, n_features, trial.n_classes)
        for opset in (CLASSIFIER_OPSET, OPSET):
            model = classifier_model(trial, n_features, opset)
            if not _agrees(model, new, trial.probabilities(new), TOLERANCE):
                return "as ONNX it gives other probabilities"
        if trial.n_classes == CLASSES_FOR_SURE:
            trial.fit(*_made(rng, TRIAL_ROWS, n_features, trial.n_classes, gap=2), progress=False)
            new, _ = _made(rng, NEW_ROWS, n_features, trial.n_classes, gap=2)
            if not _agrees(*_with_temperature(trial, new), TOLERANCE_WITH_TEMPERATURE):
                return "as ONNX, with confidence adjusted, it gives other probabilities"
    except Exception as error:  # whatever a foreign estimator or converter raises means the same to the caller
        return reason_of(error)
    return None


def _made(
    rng: np.random.Generator, n: int, n_features: int, n_classes: int, gap: float = 0
) -> tuple[FloatArray, IndexArray]:
    """Make embeddings and classes, which the first feature tells apart if `gap` is above 1."""
    embeddings, targets = rng.random((n, n_features), np.float32), np.arange(n) % n_classes
    embeddings[:, 0] += np.float32(gap) * targets
    return embeddings, targets


def _with_temperature(trial: EmbeddingClassifier, embeddings: FloatArray) -> tuple[Any, FloatArray, FloatArray]:
    """Give the model that an export would hold behind its network, what it is given, and what it should give."""
    scaler = EmbeddingScaler.fit(embeddings, normalize=False)
    model = head_model(FittedClassifier(scaler, trial, {}), TRIAL_TEMPERATURE)
    return model, embeddings, with_temperature(trial.probabilities(embeddings), TRIAL_TEMPERATURE)


def _agrees(model: Any, embeddings: FloatArray, wanted: FloatArray, tolerance: float) -> bool:
    from onnx.reference import ReferenceEvaluator

    if MISJUDGED.intersection(node.op_type for node in model.graph.node):
        return True
    *_, probabilities = ReferenceEvaluator(model).run(None, {model.graph.input[0].name: embeddings})
    return bool(np.allclose(probabilities, wanted, rtol=0, atol=tolerance))
