"""A network as an ONNX graph without its weights, which is made once for a run and serves all its networks."""

import copy
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from torch import Tensor, nn

from camera_trap_al.deep_learning.embedding_trainer import EmbeddingTrainer
from camera_trap_al.deep_learning.networks import EmbeddingNet, SoftmaxNet
from camera_trap_al.deep_learning.transforms import CROP_SIZE, MARGIN
from camera_trap_al.exceptions import ConfigError, reason_of
from camera_trap_al.files import explained
from camera_trap_al.logs import only_warnings_of, stage
from camera_trap_al.photos.images import IMAGE_SIZE
from camera_trap_al.run_store import RunStore
from camera_trap_al.run_store.artefact import Artefact

__all__ = ["GRAPH_FILE", "IR_VERSION", "OPSET", "PhotoNetwork", "keep_network_graph", "network_graph"]

logger = logging.getLogger(__name__)

GRAPH_FILE = "embedding/network_graph.onnx"
OPSET = 18  # of torch's exporter; skl2onnx knows later ones
IR_VERSION = 10  # of the exporter too; onnxruntime reads it from its version 1.18 on
PHOTOS_TRIED = 2  # when tracing; how many there are stays open, but one would be taken for a constant

_graphs: dict[tuple[object, ...], bytes] = {}  # a simulation has many runs in one process


class PhotoNetwork(nn.Module):
    """Embeds photos as the image cache keeps them: cuts out their centre, standardises the pixels, applies a network.

    Parameters
    ----------
    trainer
        Whose network to apply, up to the embedding. It is shared, not copied.
    """

    pixel_scale: Tensor
    pixel_shift: Tensor

    def __init__(self, trainer: EmbeddingTrainer) -> None:
        super().__init__()
        net = trainer.net
        self.network: EmbeddingNet = net.embedding if isinstance(net, SoftmaxNet) else net
        mean, std = (np.asarray(each, np.float64) for each in (trainer.pixel_mean, trainer.pixel_std))
        # As transforms.Normalisation, to the last bit.
        self.register_buffer("pixel_scale", _per_channel(1 / std))
        self.register_buffer("pixel_shift", _per_channel(mean / std))

    def forward(self, images: Tensor) -> Tensor:
        """Turn (n, 256, 256, 3) uint8 images into (n, feat_dim) embeddings."""
        centre = slice(MARGIN, MARGIN + CROP_SIZE)
        pixels = images[:, centre, centre].permute(0, 3, 1, 2).to(torch.float32) / 255
        embeddings: Tensor = self.network(pixels * self.pixel_scale - self.pixel_shift)
        return embeddings

    def weights(self) -> dict[str, NDArray[Any]]:
        """Give everything that the graph leaves open, by name, on the CPU."""
        return {name: tensor.detach().cpu().numpy() for name, tensor in self.state_dict().items()}


def _per_channel(values: NDArray[np.float64]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(3, 1, 1)


def network_graph(network: PhotoNetwork, store: RunStore | None = None) -> bytes:
    """Give the graph of a network, as the bytes of an ONNX model.

    It depends on the architecture alone. Inputs: each weight under its name in the state dict, and ``images``, uint8
    (n, 256, 256, 3); output ``embeddings``, float32 (n, feat_dim).

    Parameters
    ----------
    network
        The network. It stays in its mode and on its device.
    store
        A run that may have kept it. To make it takes seconds, half a minute for some architectures.

    Raises
    ------
    ConfigError
        If the network cannot be exported.
    """
    kept = None if store is None else _kept(network, store)
    return _traced(network) if kept is None else kept


def keep_network_graph(network: PhotoNetwork, store: RunStore) -> bytes:
    """Give the graph of a network as `network_graph` does, and have the run keep it."""
    kept = _kept(network, store)
    if kept is not None:
        return kept
    graph = _traced(network)

    def write(path: Path) -> None:
        path.write_bytes(graph)

    store.save([Artefact(GRAPH_FILE, _lineage(network), write)])
    return graph


def _kept(network: PhotoNetwork, store: RunStore) -> bytes | None:
    if store.lineage_of(GRAPH_FILE) != _lineage(network):
        return None
    file = store.folder / GRAPH_FILE
    with explained(file):
        graph = file.read_bytes()
    if _is_of(graph, network):
        return graph
    store.tell_made_again(GRAPH_FILE)
    return None


def _lineage(network: PhotoNetwork) -> dict[str, Any]:
    return {
        "architecture": network.network.arch_name,
        "feat_dim": network.network.feat_dim,
        "opset": OPSET,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }


def _shapes(network: PhotoNetwork) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def _is_of(graph: bytes, network: PhotoNetwork) -> bool:
    """Whether these bytes are an ONNX model whose inputs are weights of the network, and photos."""
    from google.protobuf.message import DecodeError
    from onnx import ModelProto

    try:
        inputs = ModelProto.FromString(graph).graph.input
    except DecodeError:
        return False
    shapes = _shapes(network) | {"images": (0, IMAGE_SIZE, IMAGE_SIZE, 3)}  # 0: of any size
    found = {each.name: tuple(size.dim_value for size in each.type.tensor_type.shape.dim) for each in inputs}
    return "images" in found and found.items() <= shapes.items()


def _traced(network: PhotoNetwork) -> bytes:
    key = (network.network.arch_name, network.network.feat_dim, *_shapes(network).items())
    if key not in _graphs:
        with stage(logger, f"Writing down how {network.network.arch_name} computes, for the export"):
            _graphs[key] = _trace(network)
    return _graphs[key]


class _OpenNetwork(nn.Module):
    """A network that is given its weights together with the photos.

    Parameters
    ----------
    network
        The network, whose own weights do not matter.
    """

    def __init__(self, network: PhotoNetwork) -> None:
        super().__init__()
        self._network = (network,)  # in a tuple: torch must not find weights in here

    def forward(self, weights: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """Turn (n, 256, 256, 3) uint8 images into (n, feat_dim) embeddings."""
        embeddings: Tensor = torch.func.functional_call(self._network[0], dict(weights), (images,))
        return embeddings


def _trace(network: PhotoNetwork) -> bytes:
    without_numbers = copy.deepcopy(network).to("meta").eval()  # shapes say all; the given network stays as it is
    weights = dict(without_numbers.state_dict())
    images = torch.empty((PHOTOS_TRIED, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=torch.uint8, device="meta")
    try:
        with torch.no_grad(), only_warnings_of("onnxscript", "onnx_ir", "torch.onnx"):
            program = torch.onnx.export(
                _OpenNetwork(without_numbers).eval(),
                (weights, images),
                dynamo=True,
                opset_version=OPSET,
                input_names=[*weights, "images"],
                output_names=["embeddings"],
                dynamic_shapes=(dict.fromkeys(weights), {0: torch.export.Dim("n")}),
                verbose=False,
            )
    except Exception as error:  # whatever the exporter meets in a network means the same to the caller
        raise ConfigError(
            f"embedding_arch={network.network.arch_name!r}: torch {torch.__version__} cannot export this network to "
            f"ONNX ({reason_of(error)}). Choose another embedding_arch, such as 'resnet18'."
        ) from error
    if program is None:
        raise ConfigError("torch.onnx.export gave nothing.")
    return _cleaned(program.model_proto)


def _cleaned(model: Any) -> bytes:
    """Take out weights that play no part, and the exporter's notes, which name folders of this computer."""
    used = {name for node in model.graph.node for name in node.input}
    for each in [each for each in model.graph.input if each.name not in used]:
        model.graph.input.remove(each)
    graph = model.graph
    noted = (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for each in noted:
        each.ClearField("metadata_props")
        each.ClearField("doc_string")
    graph.ClearField("value_info")  # shapes in between, which every reader works out itself
    content: bytes = model.SerializeToString(deterministic=True)
    return content
