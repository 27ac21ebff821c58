"""The trained model as files that other programs can use."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from camera_trap_al import __version__
from camera_trap_al.classifier import EmbeddingScaler
from camera_trap_al.deep_learning.embedding_trainer import EmbeddingTrainer
from camera_trap_al.deep_learning.fitted_classifier import FittedClassifier
from camera_trap_al.deep_learning.network_file import write_network
from camera_trap_al.deep_learning.network_graph import OPSET, PhotoNetwork, network_graph
from camera_trap_al.exceptions import CheckpointError, RunFileError
from camera_trap_al.export.model_graph import CLASSIFIER_OPSET, classifier_model, head_model, whole_model
from camera_trap_al.files import make_folder, sha256_of, written_aside
from camera_trap_al.model_description import (
    CLASSIFIER_FILE,
    MODEL_FILE,
    PIXEL_MEAN_FILE,
    PIXEL_STD_FILE,
    SCALER_FILE,
    WEIGHTS_FILE,
    ModelDescription,
)
from camera_trap_al.statistics.calibration import Calibration
from camera_trap_al.statistics.thresholds import Thresholds

__all__ = ["export_model"]

PARTS = (PIXEL_MEAN_FILE, PIXEL_STD_FILE, SCALER_FILE, CLASSIFIER_FILE)
NOT_CALIBRATED: Mapping[str, Any] = Calibration().to_dict()
NO_THRESHOLDS: Mapping[str, Any] = Thresholds(
    classes=(), wanted_error=0.05, source="nothing", n_photos=0, why_none="The model was not tested."
).to_dict()
TOOLS = ("torch", "torchvision", "scikit-learn", "skl2onnx", "onnx", "numpy")


def export_model(
    folder: Path,
    trainer: EmbeddingTrainer,
    fitted: FittedClassifier,
    classes: tuple[str, ...],
    *,
    labels_per_class: Mapping[str, int],
    graph: bytes | None = None,
    calibration: Mapping[str, Any] = NOT_CALIBRATED,
    thresholds: Mapping[str, Any] = NO_THRESHOLDS,
    validation: Mapping[str, Any] | None = None,
    audit: Mapping[str, Any] | None = None,
    n_propagated: int = 0,
    sequences: Mapping[str, Any] = MappingProxyType({}),
    crops: Mapping[str, float] = MappingProxyType({}),
) -> None:
    """Write everything that is needed to apply the model elsewhere, each file whole or not at all.

    ``dataset_mean.npy``, ``dataset_std.npy``
        (3,) per channel, of pixels between 0 and 1.
    ``embedding_model_weights.pt``
        The network (`EmbeddingTrainer.checkpoint`). It is left as it is if it is there already.
    ``embedding_scaler.npz``
        `minimum` and `maximum` (feat_dim,) of each feature, and `identity`, true when features are not scaled. A
        scaled embedding is ``(embedding - minimum) / (maximum - minimum)``; for a feature that never varied, `maximum`
        is therefore 1 above `minimum`.
    ``classifier.onnx``
        Input float32 (n, feat_dim) *scaled* embeddings; first output int64 (n,) class index, second float32
        probabilities, one column per class that has a label.
    ``model.onnx``
        All of it in one: input ``images``, uint8 (n, 256, 256, 3), output ``probabilities``, float32 (n, n_classes).
    ``model.json``
        What the model is (`ModelDescription`); written last, since it names the content of all other files.

    Parameters
    ----------
    folder
        Where to write; made if it is not there.
    trainer, fitted
        The network, and the scaler and classifier that were fitted on its embeddings and name it in their lineage.
    classes
        Class names by class id.
    labels_per_class
        How many labels of each class, by name, the classifier learnt from.
    graph
        What `network_graph` gives of the network; made if not given, which takes seconds.
    calibration, thresholds
        What ``model.json`` says of them; the ``temperature`` of the calibration goes into ``model.onnx`` too.
    validation
        Figures of the model's test, as plain values; None if it was not tested.
    audit
        Likewise of the test on audit photos.
    n_propagated
        How many photos the classifier learnt from besides with the label of another photo of their sequence.
    sequences
        How sequences are found and calibrated, as ``model.json`` says it; empty if nothing is known of that.
    crops
        Likewise how animals are cut out of photos; empty if the model learnt from whole photos.

    Raises
    ------
    ConfigError
        If the network cannot be exported.
    RunFileError
        If a file cannot be written.
    """
    make_folder(folder)
    _save_array(folder / PIXEL_MEAN_FILE, trainer.pixel_mean)
    _save_array(folder / PIXEL_STD_FILE, trainer.pixel_std)
    network = PhotoNetwork(trainer)
    described: dict[str, Any] = {
        "architecture": network.network.arch_name,
        "feat_dim": network.network.feat_dim,
        "loss": trainer.loss_type,
        "digest": fitted.lineage["network"],
    }
    described["sha256"] = _save_network(folder, trainer, described, classes)
    _save_scaler(folder / SCALER_FILE, fitted.scaler)
    classifier = classifier_model(fitted.classifier, len(fitted.scaler.minimum), CLASSIFIER_OPSET)
    _save_model(folder / CLASSIFIER_FILE, classifier)
    head = head_model(fitted, calibration["temperature"])
    _save_model(folder / MODEL_FILE, whole_model(graph or network_graph(network), network.weights(), head, classes))
    ModelDescription(
        classes=classes,
        labelled_classes=tuple(classes[class_id] for class_id in fitted.classifier.labelled_classes.tolist()),
        model={"sha256": sha256_of(folder / MODEL_FILE), "opset": OPSET},
        network=described,
        parts={name: sha256_of(folder / name) for name in PARTS},
        training={
            "labels": sum(labels_per_class.values()),
            "labels_per_class": dict(labels_per_class),
            "propagated": n_propagated,
            "validation": None if validation is None else dict(validation),
            "audit": None if audit is None else dict(audit),
        },
        calibration=calibration,
        thresholds=thresholds,
        made_with={"camera_trap_al": __version__} | {name: version(name) for name in TOOLS},
        sequences=dict(sequences),
        crops=dict(crops),
    ).write(folder)


def _save_network(
    folder: Path, trainer: EmbeddingTrainer, described: Mapping[str, Any], classes: tuple[str, ...]
) -> str:
    """Write the network unless it is there: that takes three times as long as to read it. Give the file's SHA-256."""
    file = folder / WEIGHTS_FILE
    try:
        there = ModelDescription.read_alone(folder)
        if (there.classes, there.network) == (classes, {**described, "sha256": sha256_of(file)}):
            return str(there.network["sha256"])
    except (CheckpointError, RunFileError):
        pass  # whatever is wrong with them, they are written again
    with written_aside(file) as prepared:
        write_network(trainer.checkpoint(classes), prepared)
    return sha256_of(file)


def _save_array(path: Path, array: Any) -> None:
    with written_aside(path) as prepared:
        np.save(prepared, array)


def _save_scaler(path: Path, scaler: EmbeddingScaler) -> None:
    varies = scaler.span == scaler.maximum - scaler.minimum
    divisible = {"maximum": np.where(varies, scaler.maximum, scaler.minimum + 1)}
    arrays: dict[str, Any] = scaler.to_arrays() | divisible
    with written_aside(path) as prepared:
        np.savez(prepared, **arrays)


def _save_model(path: Path, model: Any) -> None:
    with written_aside(path) as prepared:
        prepared.write_bytes(model.SerializeToString())
