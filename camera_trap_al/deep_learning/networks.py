"""The embedding network: any torchvision classifier whose final layer gives features instead of classes."""

import difflib
import logging
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present
from torchvision import models

from camera_trap_al.deep_learning.device import seeded
from camera_trap_al.deep_learning.transforms import CROP_SIZE
from camera_trap_al.exceptions import ConfigError, WeightsUnavailableError, reason_of

__all__ = [
    "EmbeddingNet",
    "SoftmaxNet",
    "architecture_names",
    "build_embedding_net",
    "check_architecture",
    "n_parameters",
    "torchvision_weights_file",
]

logger = logging.getLogger(__name__)

N_IMAGENET_CLASSES = 1000
AUXILIARY_HEADS = ("AuxLogits", "aux1", "aux2")
TAKE_INIT_WEIGHTS = ("googlenet", "inception", "vgg")


def architecture_names() -> tuple[str, ...]:
    """List every architecture that an `EmbeddingNet` can have, sorted: torchvision's classification builders."""
    return tuple(models.list_models(module=models))


def n_parameters(arch_name: str) -> int:
    """Tell how many weights an architecture has with its final layer for ImageNet, as torchvision lists it."""
    return int(models.get_model_weights(arch_name).DEFAULT.meta["num_params"])


def check_architecture(arch_name: str, *, use_pretrained: bool) -> str | None:
    """Say what is wrong with an architecture, as one sentence for a `ConfigError`. Downloads and builds nothing.

    Parameters
    ----------
    arch_name
        Name of a torchvision classification builder.
    use_pretrained
        Whether torchvision's own weights are wanted. False if a local file replaces them.

    Returns
    -------
    The problem, or None when there is none: the name is unknown (near names are listed), or torchvision's weights ask
    for images larger than the 224 x 224 crops.
    """
    names = architecture_names()
    if arch_name not in names:
        near = difflib.get_close_matches(arch_name.lower(), names, n=5, cutoff=0.5)
        hint = f"Did you mean {', '.join(near)}?" if near else f"Possible are {', '.join(names)}."
        return f"embedding_arch must be the name of a torchvision classification model; got {arch_name!r}. {hint}"
    if not use_pretrained:
        return None
    weights = models.get_model_weights(arch_name)
    smallest = min(weights.DEFAULT.meta["min_size"])
    if smallest <= CROP_SIZE:
        return None
    fitting = [choice for choice in weights if min(choice.meta["min_size"]) <= CROP_SIZE]
    other_file = fitting[0].url if fitting else f"a file trained on images of at most {CROP_SIZE} pixels"
    return (
        f"embedding_arch={arch_name!r} cannot be used with use_pretrained=True: the weights {weights.DEFAULT} want "
        f"images of at least {smallest} x {smallest} pixels, and the network sees {CROP_SIZE} x {CROP_SIZE}. Choose "
        f"another architecture, or download {other_file} and name it in pretrained_weights, or set "
        "use_pretrained=False."
    )


class DetachedHead(nn.Module):
    """An auxiliary classifier that is kept in the state dict and takes no part in anything.

    The auxiliary heads of inception_v3 and googlenet need images larger than 224 pixels in training, and what they
    would add to a loss on embeddings is undefined. Programs that build the torchvision model still expect their keys.
    """

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        for name, child in head.named_children():
            self.add_module(name, child)
        self.requires_grad_(False)

    def forward(self, features: Tensor) -> None:
        """Give no output, whatever the features are."""


class EmbeddingNet(nn.Module):
    """A torchvision classification network whose final layer gives `feat_dim` features.

    The state dict is that of the torchvision model with its final layer replaced by ``Linear(., feat_dim)`` (in
    squeezenet a 1 x 1 convolution), each key behind ``inner_model.``: other programs load it strictly.

    Parameters
    ----------
    arch_name
        One of `architecture_names`.
    feat_dim
        Features per image, at least 1.
    init_weights
        False leaves out the slow initialisation of some architectures, for when weights are loaded next.

    Attributes
    ----------
    inner_model
        The torchvision model.
    final_layer
        Name of the replaced layer within it.

    Raises
    ------
    ConfigError
        If there is no such architecture or `feat_dim` is below 1.
    """

    def __init__(self, arch_name: str, feat_dim: int, *, init_weights: bool = True) -> None:
        super().__init__()
        problem = check_architecture(arch_name, use_pretrained=False)
        if problem is None and feat_dim < 1:
            problem = f"feat_dim must be at least 1; got {feat_dim}."
        if problem is not None:
            raise ConfigError(problem)
        self.arch_name = arch_name
        self.feat_dim = feat_dim
        self.inner_model = _torchvision_model(arch_name, init_weights)
        self.final_layer = _replace_final_layer(self.inner_model, feat_dim)

    def forward(self, images: Tensor) -> Tensor:
        """Turn (n, 3, 224, 224) float32 normalised images into (n, feat_dim) embeddings."""
        embeddings: Tensor = self.inner_model(images)
        return embeddings


class SoftmaxNet(nn.Module):
    """An embedding network with a linear classifier on top, for training with cross entropy.

    Parameters
    ----------
    embedding
        The network below.
    n_classes
        Classes to tell apart.
    seed
        Decides the new layer. The global random generators are left as they were.

    Attributes
    ----------
    embedding
        The network below.
    classifier
        ``Linear(feat_dim, n_classes)``, applied to the positive part of the embedding.
    """

    def __init__(self, embedding: EmbeddingNet, n_classes: int, *, seed: int = 0) -> None:
        super().__init__()
        self.embedding = embedding
        with seeded(seed):
            self.classifier = nn.Linear(embedding.feat_dim, n_classes)

    def logits(self, embeddings: Tensor) -> Tensor:
        """Turn (n, feat_dim) embeddings into (n, n_classes) class scores before the softmax."""
        scores: Tensor = self.classifier(torch.relu(embeddings))
        return scores

    def forward(self, images: Tensor) -> Tensor:
        """Turn (n, 3, 224, 224) float32 normalised images into (n, n_classes) class scores before the softmax."""
        return self.logits(self.embedding(images))


def build_embedding_net(
    arch_name: str, feat_dim: int, *, use_pretrained: bool, pretrained_weights: Path | None, seed: int
) -> EmbeddingNet:
    """Build an embedding network on the CPU, with pretrained weights in all layers but the last if wanted.

    Parameters
    ----------
    arch_name
        One of `architecture_names`.
    feat_dim
        Features per image, at least 1.
    use_pretrained
        Load torchvision's best weights, downloading them unless they lie in torch's cache already.
    pretrained_weights
        A file with a plain torchvision state dict, used instead of torchvision's own; its final layer is not used.
    seed
        Decides the new layers. The global random generators are left as they were.

    Raises
    ------
    ConfigError
        If there is no such architecture or `feat_dim` is below 1.
    WeightsUnavailableError
        If the weights can be neither found nor downloaded, are damaged, or are of another architecture.
    """
    problem = check_architecture(arch_name, use_pretrained=use_pretrained and pretrained_weights is None)
    if problem:
        raise ConfigError(problem)
    loads_weights = use_pretrained or pretrained_weights is not None
    with seeded(seed):
        net = EmbeddingNet(arch_name, feat_dim, init_weights=not loads_weights)
    if pretrained_weights is not None:
        _load_local_weights(net, pretrained_weights)
    elif use_pretrained:
        _load_torchvision_weights(net)
    return net


def _torchvision_model(arch_name: str, init_weights: bool) -> nn.Module:
    options = {"init_weights": init_weights} if arch_name.startswith(TAKE_INIT_WEIGHTS) else {}
    # weights=None even when weights are loaded later: with them, torchvision makes inception_v3 and googlenet undo
    # our normalisation, and drops googlenet's auxiliary heads.
    model = models.get_model(arch_name, weights=None, **options)
    for name in AUXILIARY_HEADS:
        if hasattr(model, name):
            setattr(model, name, DetachedHead(getattr(model, name)))
            model.aux_logits = False
    return cast(nn.Module, model)


def _replace_final_layer(model: nn.Module, feat_dim: int) -> str:
    """Give the model `feat_dim` outputs, and tell the name of the layer that makes them."""
    name, layer = [
        (name, module)
        for name, module in model.named_modules()
        if (isinstance(module, nn.Linear) and module.out_features == N_IMAGENET_CLASSES)
        or (isinstance(module, nn.Conv2d) and module.out_channels == N_IMAGENET_CLASSES)
    ][-1]
    # The new layer has torch's own initialisation, not torchvision's: that of the vision transformers is zero, which
    # gives every image the same embedding and a metric loss no gradient.
    if isinstance(layer, nn.Conv2d):
        model.set_submodule(name, nn.Conv2d(layer.in_channels, feat_dim, kernel_size=1))
    else:
        model.set_submodule(name, nn.Linear(layer.in_features, feat_dim))
    return str(name)


def _load_local_weights(net: EmbeddingNet, path: Path) -> None:
    if not path.is_file():
        raise WeightsUnavailableError(f"pretrained_weights: there is no file {path}.", path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of a damaged file, the unpickler makes any error there is
        reason = getattr(error, "strerror", None) or "it is damaged or holds something else"
        raise WeightsUnavailableError(
            f"pretrained_weights: {path} cannot be read as a file of weights ({reason}). It must be "
            f"the state dict of a torchvision {net.arch_name}, written by torch.save(model.state_dict(), file).",
            path,
        ) from error
    _fill(net, state, f"pretrained_weights: {path}", path)
    logger.info("Weights of %s: %s", net.arch_name, path)


def torchvision_weights_file(arch_name: str) -> tuple[Path, str]:
    """Say where torch keeps the weights that torchvision has for an architecture, and from where it downloads them."""
    url = str(models.get_model_weights(arch_name).DEFAULT.url)
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1], url


def _load_torchvision_weights(net: EmbeddingNet) -> None:
    weights = models.get_model_weights(net.arch_name).DEFAULT
    path, url = torchvision_weights_file(net.arch_name)
    try:
        state = weights.get_state_dict(progress=True, check_hash=True, map_location="cpu", weights_only=True)
    except Exception as error:  # as above, and whatever a download can meet with
        remedy = (
            f"The file {path} is there and may be damaged: delete it, then download it again from {url}."
            if path.exists()
            else f"Download {url} on a computer that can, and put the file at {path}."
        )
        raise WeightsUnavailableError(
            f"The pretrained weights of {net.arch_name} cannot be loaded ({reason_of(error)}). {remedy} Or name a "
            "file of weights that you have in pretrained_weights, or set use_pretrained=False.",
            path,
            url,
        ) from error
    _fill(net, state, str(path), path, url)
    logger.info("Weights of %s: %s (%s)", net.arch_name, weights, path)


def _fill(net: EmbeddingNet, state: Any, name: str, path: Path, url: str = "") -> None:
    if not (isinstance(state, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items())):
        raise WeightsUnavailableError(
            f"{name} is not a state dict (names of tensors and the tensors), but {_describe(state)}. Write one with "
            "torch.save(model.state_dict(), file).",
            path,
            url,
        )
    try:
        net.inner_model.load_state_dict(_fitted(net, state), strict=True)
    except RuntimeError as error:
        raise WeightsUnavailableError(
            f"{name} does not hold the weights of torchvision's {net.arch_name}:{_shortened(str(error))}\n"
            f"Give the file that belongs to embedding_arch={net.arch_name!r}, or the embedding_arch of this file.",
            path,
            url,
        ) from error


def _fitted(net: EmbeddingNet, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename what older files call differently, and put the network's own final layer in place of the file's."""
    consume_prefix_in_state_dict_if_present(state, "module.")
    final = f"{net.final_layer}."
    fitted = OrderedDict((_present_key(key), value) for key, value in state.items() if not key.startswith(final))
    for key, value in net.inner_model.state_dict().items():
        in_auxiliary_head = key.startswith(AUXILIARY_HEADS)
        if key.startswith(final) or (in_auxiliary_head and (key not in fitted or fitted[key].shape != value.shape)):
            fitted[key] = value
    # MNASNet refuses a state dict that does not tell its version, and a plain dict does not.
    vars(fitted)["_metadata"] = getattr(state, "_metadata", {"": {"version": 2}})
    return fitted


def _present_key(key: str) -> str:
    """Drop the dot that torchvision's DenseNet files have in ``denselayer1.norm.1.weight``."""
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.(?=\d+\.)", r"\1", key)


def _describe(value: Any) -> str:
    if isinstance(value, dict):
        return f"a dict with the keys {', '.join(repr(key) for key in list(value)[:8])}"
    return f"a {type(value).__name__}"


def _shortened(message: str, n_lines: int = 4, width: int = 240) -> str:
    lines = [line.strip() for line in message.splitlines()[1:]]
    shown = [line if len(line) <= width else f"{line[:width]} ..." for line in lines[:n_lines]]
    more = [f"... and {len(lines) - n_lines} more lines like these"] if len(lines) > n_lines else []
    return "".join(f"\n  {line}" for line in shown + more)
