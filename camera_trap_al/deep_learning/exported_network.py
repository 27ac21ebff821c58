"""The network of an export, loaded again to embed photos."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from camera_trap_al.deep_learning.device import choose_device
from camera_trap_al.deep_learning.network_file import load_network
from camera_trap_al.deep_learning.networks import EmbeddingNet
from camera_trap_al.deep_learning.precision import full_precision
from camera_trap_al.deep_learning.transforms import Normalisation, crop_centre
from camera_trap_al.exceptions import reason_of
from camera_trap_al.model_description import PIXEL_MEAN_FILE, PIXEL_STD_FILE, WEIGHTS_FILE, ModelDescription, unusable
from camera_trap_al.photos.images import ImageArray
from camera_trap_al.pools import FloatArray

__all__ = ["load_exported_network"]

BELOW_SOFTMAX = ("module.embedding.inner_model.", "module.inner_model.")  # what a softmax loss calls it, and others
SOFTMAX_HEAD = ("module.classifier.weight", "module.classifier.bias")


def load_exported_network(
    folder: Path, description: ModelDescription, device: str | None
) -> Callable[[ImageArray], FloatArray]:
    """Load the network of an export.

    Parameters
    ----------
    folder
        The folder of the export.
    description
        What its ``model.json`` says.
    device
        Name of a torch device; None takes a CUDA GPU if there is one that works.

    Returns
    -------
    A function that gives the (n, feat_dim) embeddings of (n, 256, 256, 3) photos, in fp32.

    Raises
    ------
    ConfigError
        If the device cannot be used.
    CheckpointError
        If a file is missing or damaged, or is not of this export.
    """
    chosen = choose_device(device)
    net = _read_network(folder / WEIGHTS_FILE, description).to(chosen).eval()
    mean, std = (_read_array(folder, name, description) for name in (PIXEL_MEAN_FILE, PIXEL_STD_FILE))
    normalisation = Normalisation(mean, std, chosen)

    def embed(images: ImageArray) -> FloatArray:
        with full_precision(), torch.inference_mode():
            embeddings = net(normalisation.of_bytes(torch.from_numpy(crop_centre(images)).to(chosen)))
        return np.asarray(embeddings.cpu().numpy())

    return embed


def _read_network(path: Path, description: ModelDescription) -> EmbeddingNet:
    content = description.read_file(path, description.network["sha256"])
    try:
        saved: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        with torch.random.fork_rng(devices=[]):  # layers are made with random weights
            net = EmbeddingNet(saved["arch_name"], saved["feat_dim"], init_weights=False)
        weights = saved["embedding_model_state_dict"].items()
        load_network(
            net, {name.replace(*BELOW_SOFTMAX): tensor for name, tensor in weights if name not in SOFTMAX_HEAD}
        )
        classes = tuple(saved["classes"])
    except Exception as error:  # of a file that is no network, the unpickler makes any error there is
        raise unusable(path, f"the network cannot be loaded ({reason_of(error)})") from error
    if classes != description.classes:
        raise unusable(path, "its classes are not those of model.json")
    return net


def _read_array(folder: Path, name: str, description: ModelDescription) -> Any:
    content = description.read_part(folder, name)
    try:
        return np.load(io.BytesIO(content))
    except (OSError, ValueError, EOFError) as error:
        raise unusable(folder / name, f"the file cannot be loaded ({error})") from error
