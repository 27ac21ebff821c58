"""The exported model as a function of photos, run by onnxruntime or by torch."""

import io
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from camera_trap_al.exceptions import CheckpointError, ConfigError
from camera_trap_al.model_description import (
    CLASSIFIER_FILE,
    DESCRIPTION_FILE,
    MODEL_FILE,
    SCALER_FILE,
    ModelDescription,
    unusable,
)
from camera_trap_al.photos.images import ImageArray
from camera_trap_al.pools import FloatArray

__all__ = ["Network", "onnxruntime_network", "torch_network"]

Network = Callable[[ImageArray], FloatArray]
"""Gives the (n, n_classes) class probabilities of (n, 256, 256, 3) photos."""

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
EXACT = {"CUDAExecutionProvider": {"use_tf32": "0"}}
MOST_SHOWN = 200  # characters


def onnxruntime_network(folder: Path, description: ModelDescription, device: str | None, threads: int = 0) -> Network:
    """Load ``model.onnx``.

    Parameters
    ----------
    folder
        The folder of the export.
    description
        What its ``model.json`` says.
    device
        ``"cpu"`` or ``"cuda"``; None takes a CUDA GPU if onnxruntime has one.
    threads
        On how many cores of the CPU it computes; 0 means all.

    Raises
    ------
    ConfigError
        If onnxruntime has no such device.
    CheckpointError
        If the file is not the one that `description` is of, or no such model, or its classes are not those of
        ``model.json``.
    """
    path = folder / MODEL_FILE
    session = onnxruntime_session(description.read_file(path, description.model["sha256"]), path, device, threads)
    (given, *more_inputs), (wanted, *more_outputs) = session.get_inputs(), session.get_outputs()
    if more_inputs or more_outputs or (given.name, wanted.name) != ("images", "probabilities"):
        raise unusable(path, "this is no model that turns images into probabilities")
    if wanted.shape[-1] != len(description.classes):
        n_named = len(description.classes)
        raise unusable(path, f"it tells {wanted.shape[-1]} classes apart, and {DESCRIPTION_FILE} names {n_named}")
    names = session.get_modelmeta().custom_metadata_map.get("classes")
    if names != json.dumps(list(description.classes), ensure_ascii=False):
        raise unusable(path, f"its classes are not those that {DESCRIPTION_FILE} names, or in another order")

    def network(images: ImageArray) -> FloatArray:
        probabilities: FloatArray = session.run(None, {"images": images})[0]
        return probabilities

    return network


def torch_network(folder: Path, description: ModelDescription, device: str | None) -> Network:
    """Load the network into torch, and scaler and classifier from the files beside it; arguments and errors as above.

    Any `device` of torch can be used.
    """
    from camera_trap_al.statistics.calibration import with_temperature

    try:
        from camera_trap_al.deep_learning.exported_network import load_exported_network
    except ImportError as error:
        raise ConfigError(
            "engine='torch' needs PyTorch, which is not installed: pip install torch torchvision. "
            "engine='onnxruntime' gives the same answers without it."
        ) from error

    embed = load_exported_network(folder, description, device)
    scaler = _scaler(description.read_part(folder, SCALER_FILE), folder / SCALER_FILE)
    path = folder / CLASSIFIER_FILE
    session = onnxruntime_session(description.read_part(folder, CLASSIFIER_FILE), path, "cpu")
    labelled = [description.classes.index(name) for name in description.labelled_classes]

    def network(images: ImageArray) -> FloatArray:
        of_labelled = session.run(None, {"embeddings": scaler.transform(embed(images))})[1]
        of_labelled = np.clip(of_labelled, 0, 1)  # onnxruntime's sums of trees end a little below 0 or above 1
        probabilities = np.zeros((len(images), len(description.classes)), np.float32)
        probabilities[:, labelled] = with_temperature(of_labelled, description.calibration["temperature"])
        return probabilities

    return network


def onnxruntime_session(content: bytes, path: Path, device: str | None, threads: int = 0) -> Any:
    """Load the ONNX model in `content`, which was read from `path`; nothing else is read, whatever the model says."""
    import onnxruntime

    _check_self_contained(content, path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors; the warnings are for people who write graphs
    # Threads that wait for work by spinning take the cores from those that decode the next photos.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = _providers(onnxruntime.get_available_providers(), device)
    try:
        return onnxruntime.InferenceSession(
            content, options, providers=[(name, EXACT.get(name, {})) for name in providers]
        )
    except Exception as error:  # onnxruntime has an exception of its own for each thing that can be wrong
        raise _damaged(path, error) from error


def _scaler(content: bytes, path: Path) -> Any:
    from camera_trap_al.classifier import EmbeddingScaler

    try:
        with np.load(io.BytesIO(content)) as saved:
            return EmbeddingScaler.from_arrays(dict(saved))
    except Exception as error:  # numpy raises the errors of zipfile, and others, for each thing that can be wrong
        raise _damaged(path, error) from error


def _check_self_contained(content: bytes, path: Path) -> None:
    """Refuse an ONNX model that refers to another file: such a reference could lead to any file of this computer."""
    from onnx import ModelProto, TensorProto

    try:
        model = ModelProto.FromString(content)
    except Exception as error:  # protobuf raises an error of its own
        raise _damaged(path, error) from error
    tensors = (part for part in _parts(model) if isinstance(part, TensorProto))
    if any(tensor.external_data or tensor.data_location == TensorProto.EXTERNAL for tensor in tensors):
        raise CheckpointError(
            f"{path}: it asks for other files to be read, which no model does that this package exported. Do not use "
            "this file unless you know who made it.",
            path,
        )


def _parts(message: Any) -> Iterator[Any]:
    """Give a protobuf message and all messages in it: tensors lie in nodes, in graphs within nodes, and elsewhere."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if isinstance(value, Iterable) else [value]:
                yield from _parts(part)


def _providers(available: list[str], device: str | None) -> list[str]:
    if device is None:
        return [name for name in (PROVIDERS["cuda"], PROVIDERS["cpu"]) if name in available]
    wanted = PROVIDERS.get(device)
    if wanted is None:
        raise ConfigError(f"device must be 'cpu', 'cuda' or None with engine='onnxruntime'; got {device!r}.")
    if wanted not in available:
        raise ConfigError(
            f"device={device!r} cannot be used here: the installed onnxruntime is the one for the CPU. To use an "
            "NVIDIA GPU, run: pip uninstall onnxruntime, then: pip install onnxruntime-gpu. Or use engine='torch', or "
            "set device=None to use what there is."
        )
    return [wanted]


def _damaged(path: Path, error: Exception) -> CheckpointError:
    return unusable(path, f"the file cannot be loaded ({str(error).strip()[:MOST_SHOWN] or type(error).__name__})")
