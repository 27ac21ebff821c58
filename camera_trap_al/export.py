"""The trained model as files that other programs can use."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from camera_trap_al.classifier import EmbeddingClassifier
from camera_trap_al.deep_learning.embedding_trainer import EmbeddingTrainer
from camera_trap_al.deep_learning.fitted_classifier import FittedClassifier
from camera_trap_al.deep_learning.network_file import write_network
from camera_trap_al.exceptions import ConfigError
from camera_trap_al.files import make_folder, written_aside

__all__ = ["export_model", "find_export_problems"]

OPSET = 15
TRIAL_ROWS = 300  # enough for what wants many, such as a principal component analysis before the classifier


def export_model(
    folder: Path,
    trainer: EmbeddingTrainer,
    fitted: FittedClassifier,
    classes: tuple[str, ...],
) -> None:
    """Write everything that is needed to apply the model elsewhere, each file whole or not at all.

    ``dataset_mean.npy``, ``dataset_std.npy``
        (3,) per channel, of pixels between 0 and 1.
    ``embedding_model_weights.pt``
        The network (`EmbeddingTrainer.checkpoint`).
    ``embedding_scaler.npz``
        `minimum` and `maximum` (feat_dim,) of each feature, and `identity`, true when features are not scaled. A
        scaled embedding is ``(embedding - minimum) / (maximum - minimum)``; for a feature that never varied, `maximum`
        is therefore 1 above `minimum`.
    ``classifier.onnx``
        Input float32 (n, feat_dim) *scaled* embeddings; first output int64 (n,) class index, second float32
        probabilities, one column per class that has a label.

    Parameters
    ----------
    folder
        Where to write; made if it is not there.
    trainer, fitted
        The network, and the scaler and classifier that were fitted on its embeddings.
    classes
        Class names by class id.
    """
    make_folder(folder)
    _save_array(folder / "dataset_mean.npy", trainer.pixel_mean)
    _save_array(folder / "dataset_std.npy", trainer.pixel_std)
    with written_aside(folder / "embedding_model_weights.pt") as prepared:
        write_network(trainer.checkpoint(classes), prepared)
    scaler = fitted.scaler
    varies = scaler.span == scaler.maximum - scaler.minimum
    divisible = {"maximum": np.where(varies, scaler.maximum, scaler.minimum + 1)}
    scaler_arrays: dict[str, Any] = scaler.to_arrays() | divisible
    with written_aside(folder / "embedding_scaler.npz") as prepared:
        np.savez(prepared, **scaler_arrays)
    n_features = len(scaler.minimum)
    with written_aside(folder / "classifier.onnx") as prepared:
        prepared.write_bytes(_classifier_onnx(fitted.classifier, n_features).SerializeToString())


def find_export_problems(arguments: Mapping[str, Any]) -> list[str]:
    """Find out before any work whether a user's scikit-learn estimator can be exported.

    Parameters
    ----------
    arguments
        The arguments of `run_active_learning` by name. An estimator that is wrong in itself is not this one's to tell.

    Returns
    -------
    A sentence if a small copy, fitted on made numbers, cannot be converted to ONNX.
    """
    classifier, n_features = arguments["classifier"], arguments["feat_dim"]
    if isinstance(classifier, str) or not isinstance(n_features, int) or n_features < 1:
        return []
    try:
        trial = EmbeddingClassifier(classifier, arguments["classifier_params"], seed=0, n_classes=3)
    except ConfigError:
        return []
    try:
        features = np.random.default_rng(0).random((TRIAL_ROWS, n_features), np.float32)
        trial.fit(features, np.arange(TRIAL_ROWS) % 3, progress=False)
        _classifier_onnx(trial, n_features)
    except Exception as error:  # whatever a foreign estimator or converter raises means the same to the caller
        return [
            f"classifier={classifier!r} cannot be fitted and exported to classifier.onnx ({error}). Use "
            "classifier='mlp', or an estimator that skl2onnx converts, such as LogisticRegression."
        ]
    return []


def _save_array(path: Path, array: Any) -> None:
    with written_aside(path) as prepared:
        np.save(prepared, array)


def _classifier_onnx(classifier: EmbeddingClassifier, n_features: int) -> Any:
    if classifier.estimator_ is None:
        return _constant_onnx(int(classifier.labelled_classes[0]), n_features)
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType

    return to_onnx(
        classifier.estimator_,
        initial_types=[("embeddings", FloatTensorType([None, n_features]))],
        options={id(classifier.estimator_): {"zipmap": False}},
        target_opset=OPSET,
    )


def _constant_onnx(class_id: int, n_features: int) -> Any:
    """Answer `class_id` with probability 1 for every row: all that is known while one class has labels."""
    from onnx import TensorProto, checker, helper

    def filled(name: str, shape: str, value: Any) -> Any:
        return helper.make_node("ConstantOfShape", [shape], [name], value=value)

    nodes = [
        helper.make_node("Shape", ["embeddings"], ["n"], start=0, end=1),
        helper.make_node("Constant", [], ["one"], value_ints=[1]),
        helper.make_node("Concat", ["n", "one"], ["n_by_one"], axis=0),
        filled("label", "n", helper.make_tensor("class_id", TensorProto.INT64, [1], [class_id])),
        filled("probabilities", "n_by_one", helper.make_tensor("certain", TensorProto.FLOAT, [1], [1.0])),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, [None, n_features])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 1]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    checker.check_model(model)
    return model
