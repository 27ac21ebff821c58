"""The network as the plain dict that ``embedding_model_weights.pt`` holds, whose shape other programs rely on."""

import io
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning.networks import EmbeddingNet, SoftmaxNet
from camera_trap_al.files import explained
from camera_trap_al.run_store import RunStore
from camera_trap_al.run_store.artefact import Artefact

__all__ = ["NETWORK_FILE", "load_network", "network_artefact", "network_as_dict", "read_network", "write_network"]

NETWORK_FILE = "embedding/embedding_model_weights.pt"


def network_as_dict(
    net: EmbeddingNet | SoftmaxNet, optimizer_state: dict[str, Any], config: RunConfig, classes: Sequence[str]
) -> dict[str, Any]:
    """Describe a network with its weights, all on the CPU.

    The keys and the names of the tensors are fixed, since other programs read them: ``module.inner_model.*``, and with
    a softmax loss ``module.embedding.inner_model.*`` and ``module.classifier.*``.
    """
    weights = {f"module.{name}": tensor.contiguous().cpu() for name, tensor in net.state_dict().items()}
    return {
        "arch_name": config.embedding_arch,
        "embedding_model_state_dict": weights,
        "feat_dim": config.feat_dim,
        "num_classes": len(classes),
        "classes": list(classes),
        "class_to_idx": {name: class_id for class_id, name in enumerate(classes)},
        "optimizer_state_dict": optimizer_state,
        "loss_type": config.embedding_loss_type,
        "loss_func_strategy": config.embedding_loss_data_strategy,
        "loss_func_margin": config.embedding_loss_margin,
    }


def network_artefact(describe: Callable[[], dict[str, Any]], lineage: Mapping[str, Any]) -> Artefact:
    """Give the file of a network, which is described only if it has to be written."""
    return Artefact(NETWORK_FILE, lineage, lambda path: write_network(describe(), path))


def write_network(network: dict[str, Any], path: Path) -> None:
    """Write what `network_as_dict` gave."""
    file = io.BytesIO()  # torch itself does not tell a full disk from any other fault
    torch.save(network, file)
    path.write_bytes(file.getbuffer())


def read_network(store: RunStore) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Give the lineage and the dict of the network that a run saved; None and None if none can be loaded any more."""
    lineage, file = store.lineage_of(NETWORK_FILE), store.folder / NETWORK_FILE
    if lineage is None:
        return None, None
    try:
        with explained(file):
            return lineage, torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, MemoryError):  # no fault of the file, whose training took hours
        raise
    except Exception:  # of a file that is no network, the unpickler makes any error there is
        store.tell_made_again(NETWORK_FILE)
        return None, None


def load_network(net: EmbeddingNet | SoftmaxNet, saved: dict[str, Tensor]) -> None:
    """Take the ``embedding_model_state_dict``; classes that it does not know keep their fresh output weights."""
    weights = OrderedDict((name.removeprefix("module."), tensor) for name, tensor in saved.items())
    # The versions of the layers, which a plain dict does not tell and MNASNet insists on.
    vars(weights)["_metadata"] = vars(net.state_dict())["_metadata"]
    if isinstance(net, SoftmaxNet):
        for name in ("weight", "bias"):
            grown = getattr(net.classifier, name).detach().clone()
            known = weights[f"classifier.{name}"]
            grown[: len(known)] = known
            weights[f"classifier.{name}"] = grown
    net.load_state_dict(weights)
