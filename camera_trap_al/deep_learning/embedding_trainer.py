"""Train the embedding network on labelled rows, and embed rows with it."""

import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recomputed_later
from tqdm.auto import tqdm

from camera_trap_al.config import RunConfig, TrainingStage
from camera_trap_al.deep_learning.data_loader import ExtendedImageFolder, batch_sampler
from camera_trap_al.deep_learning.losses import build_loss
from camera_trap_al.deep_learning.memory import TRIAL, photos_at_once
from camera_trap_al.deep_learning.networks import EmbeddingNet, SoftmaxNet, build_embedding_net
from camera_trap_al.deep_learning.transforms import EvaluationTransform, TrainingTransform
from camera_trap_al.exceptions import DataError
from camera_trap_al.pools import UNLABELLED, FloatArray, IndexArray

__all__ = ["EmbeddingTrainer", "EpochSummary"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EpochSummary:
    """How one epoch of training went, as means over its batches.

    Attributes
    ----------
    loss
        The loss.
    active_share
        Share of triplets, pairs or photos that still had a loss, 0 to 1.
    mean_distance
        Mean Euclidean distance between the embeddings of a batch; near 0 when the network gives all photos one answer.
    """

    loss: float
    active_share: float
    mean_distance: float

    def __str__(self) -> str:
        active, distance = f"{100 * self.active_share:.0f} %", f"{self.mean_distance:.3f}"
        return f"loss {self.loss:.4f}, active {active}, mean distance {distance}"


class EmbeddingTrainer:
    """An embedding network with what it takes to train and apply it.

    Parameters
    ----------
    config
        The network, loss and loader settings.
    n_classes
        Classes that a softmax loss tells apart.
    device
        Where the network computes.
    checkpoint
        What `checkpoint` gave earlier, to go on from; no pretrained weights are needed then.

    Attributes
    ----------
    net
        The network; with a softmax loss it ends in a layer of `n_classes` outputs, which embedding leaves out.
    pixel_mean, pixel_std
        (3,) per channel, of pixels between 0 and 1: what photos are standardised with. To be set before training.
    history
        One summary per epoch of the last `fit`.
    """

    def __init__(
        self, config: RunConfig, n_classes: int, device: torch.device, checkpoint: dict[str, Any] | None = None
    ) -> None:
        self._config = config
        self.device = device
        embedding_net = build_embedding_net(
            config.embedding_arch,
            config.feat_dim,
            use_pretrained=config.use_pretrained and checkpoint is None,
            pretrained_weights=config.path_of("pretrained_weights") if checkpoint is None else None,
            seed=_torch_seed(config.generator("network", 0)),
        )
        self.net: EmbeddingNet | SoftmaxNet = embedding_net
        if config.embedding_loss_type == "softmax":
            self.net = SoftmaxNet(embedding_net, n_classes, seed=_torch_seed(config.generator("head", 0)))
        self.pixel_mean, self.pixel_std = np.full(3, 0.5), np.full(3, 0.25)
        self.optimizer_state: dict[str, Any] = {}
        self.history: tuple[EpochSummary, ...] = ()
        self._photos_at_once: int | None = None
        self._loss = build_loss(
            config.embedding_loss_type, config.embedding_loss_data_strategy, config.embedding_loss_margin
        )
        if checkpoint is not None:
            self._load(checkpoint)
        self.net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub misses it

    def fit(
        self,
        dataset: ExtendedImageFolder,
        rows: IndexArray,
        stage: TrainingStage,
        rng: np.random.Generator,
    ) -> None:
        """Train the network on labelled rows with a new Adam optimiser.

        Parameters
        ----------
        dataset
            Where photos and labels come from.
        rows
            (n,) labelled rows.
        stage
            Rates, epochs and loader.
        rng
            Source of everything random: order, augmentation, mining, dropout. The global generators are left alone.

        Raises
        ------
        DataError
            If there is no row, a row has no label, or the weights become infinite or NaN.
        """
        if not len(rows) or (dataset.targets[rows] == UNLABELLED).any():
            raise DataError("The embedding network learns from labelled photos; got none, or one without a label.")
        transform = TrainingTransform(self.pixel_mean, self.pixel_std)
        optimizer = torch.optim.Adam(
            (parameter for parameter in self.net.parameters() if parameter.requires_grad),
            lr=stage.lr,
            weight_decay=stage.weight_decay,
        )
        sampler = batch_sampler(
            stage.loader_type,
            rows,
            dataset.targets[rows],
            rng,
            self._config.balanced_loader_num_classes,
            self._config.balanced_loader_num_samples,
        )
        history = []
        self.net.train()
        with _seeded(_torch_seed(rng), self.device):
            generator = torch.Generator(self.device).manual_seed(_torch_seed(rng))
            for epoch in range(1, stage.num_epochs + 1):
                title = f"{stage.name} epoch {epoch}/{stage.num_epochs}"
                steps = [
                    self._step(transform(dataset.images(batch), rng), dataset.targets[batch], optimizer, generator)
                    for batch in tqdm(sampler, desc=title, unit="batch")
                ]
                history.append(_summary(torch.stack(steps)))
                logger.info("%s: %s", title, history[-1])
        if not all(torch.isfinite(tensor).all() for tensor in self.net.state_dict().values()):
            raise DataError(
                f"The training of the embedding network went astray: its weights are not numbers any more. Choose a "
                f"smaller embedding_{stage.name}_lr than {stage.lr:g} and start again; nothing is lost."
            )
        self.optimizer_state = _on_cpu(optimizer.state_dict())
        self.history = tuple(history)

    def _step(
        self, images: Tensor, targets: IndexArray, optimizer: torch.optim.Optimizer, generator: torch.Generator
    ) -> Tensor:
        """Make one step; return (3,) loss, active share and mean distance, left on the device."""
        embeddings = self._embed_in_training(images)
        class_ids = torch.from_numpy(targets).to(self.device)
        outputs = self.net.logits(embeddings) if isinstance(self.net, SoftmaxNet) else embeddings
        value = self._loss(outputs, class_ids, generator)
        optimizer.zero_grad()
        torch.autograd.backward(value.loss)
        optimizer.step()
        return torch.stack([value.loss.detach(), value.active_share, _mean_distance(embeddings.detach())])

    def _embed_in_training(self, images: Tensor) -> Tensor:
        """Embed a batch, in parts if it is too large for the memory.

        What a part keeps for its backward pass is then computed again when its turn comes [Chen et al., 2016], so that
        the loss still sees the whole batch; only batch normalisation looks at each part by itself.
        """
        if self._photos_at_once is None:
            on_device = images[:TRIAL].to(self.device, memory_format=torch.channels_last)
            self._photos_at_once = photos_at_once(self._embedding_net, on_device)
            n_parts = -(-len(images) // self._photos_at_once)
            if n_parts > 1:  # told once, not for every batch
                logger.info("A batch of %d photos is too large for the memory: %d parts", len(images), n_parts)
        n_parts = -(-len(images) // self._photos_at_once)
        if n_parts == 1:
            return self._embed(images)
        parts = images.tensor_split(n_parts)
        return torch.cat([recomputed_later(self._embed, part, use_reentrant=False) for part in parts])

    def _embed(self, images: Tensor) -> Tensor:
        embeddings: Tensor = self._embedding_net(images.to(self.device, memory_format=torch.channels_last))
        return embeddings

    @property
    def _embedding_net(self) -> EmbeddingNet:
        return self.net.embedding if isinstance(self.net, SoftmaxNet) else self.net

    def embed(self, dataset: ExtendedImageFolder, rows: IndexArray) -> FloatArray:
        """Return the (n, feat_dim) embeddings of `rows`, computed in fp32 in evaluation mode."""
        transform = EvaluationTransform(self.pixel_mean, self.pixel_std)
        batch_size = self._config.extract_embedding_batch_size
        embeddings = np.empty((len(rows), self._config.feat_dim), np.float32)
        self.net.eval()
        with (
            _full_precision(),
            torch.inference_mode(),
            tqdm(total=len(rows), desc="Embedding photos", unit="photo") as bar,
        ):
            for start in range(0, len(rows), batch_size):
                batch = rows[start : start + batch_size]
                embeddings[start : start + len(batch)] = self._embed(transform(dataset.images(batch))).cpu().numpy()
                bar.update(len(batch))
        return embeddings

    def seconds_per_photo(self, images: Tensor) -> float:
        """Measure how long embedding takes, on (n, 3, 256, 256) uint8 images."""
        transform = EvaluationTransform(self.pixel_mean, self.pixel_std)
        self.net.eval()
        start = time.perf_counter()
        with torch.inference_mode():
            self._embed(transform(images)).cpu()
        return (time.perf_counter() - start) / len(images)

    def digest(self) -> str:
        """Name the network by its weights: two networks with one digest give the same embeddings."""
        checksum = hashlib.sha256()
        for name, tensor in sorted(self.net.state_dict().items()):
            checksum.update(name.encode())
            checksum.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return checksum.hexdigest()

    def checkpoint(self, classes: Sequence[str]) -> dict[str, Any]:
        """Give the network as the plain dict that ``embedding_model_weights.pt`` holds.

        Its keys and the names of its tensors are fixed, since other programs read it: ``module.inner_model.*``, and
        with a softmax loss ``module.embedding.inner_model.*`` and ``module.classifier.*``.
        """
        return {
            "arch_name": self._config.embedding_arch,
            "embedding_model_state_dict": {f"module.{name}": tensor.cpu() for name, tensor in self._state().items()},
            "feat_dim": self._config.feat_dim,
            "num_classes": len(classes),
            "classes": list(classes),
            "class_to_idx": {name: class_id for class_id, name in enumerate(classes)},
            "optimizer_state_dict": self.optimizer_state,
            "loss_type": self._config.embedding_loss_type,
            "loss_func_strategy": self._config.embedding_loss_data_strategy,
            "loss_func_margin": self._config.embedding_loss_margin,
        }

    def _state(self) -> dict[str, Tensor]:
        return {name: tensor.contiguous() for name, tensor in self.net.state_dict().items()}

    def _load(self, checkpoint: dict[str, Any]) -> None:
        """Take the weights of a `checkpoint`; classes that it does not know keep their fresh output weights."""
        saved = checkpoint["embedding_model_state_dict"]
        weights = OrderedDict((name.removeprefix("module."), tensor) for name, tensor in saved.items())
        # The versions of the layers, which a plain dict does not tell and MNASNet insists on.
        vars(weights)["_metadata"] = vars(self.net.state_dict())["_metadata"]
        if isinstance(self.net, SoftmaxNet):
            for name in ("weight", "bias"):
                grown = getattr(self.net.classifier, name).detach().clone()
                known = weights[f"classifier.{name}"]
                grown[: len(known)] = known
                weights[f"classifier.{name}"] = grown
        self.net.load_state_dict(weights)
        self.optimizer_state = checkpoint["optimizer_state_dict"]


def _full_precision() -> AbstractContextManager[None]:
    """Keep CUDA's convolutions from rounding to TF32, their default, which is good to three digits only."""
    manager: AbstractContextManager[None] = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    return manager


def _summary(steps: Tensor) -> EpochSummary:
    """Average the (n_batches, 3) values of an epoch."""
    return EpochSummary(*steps.mean(dim=0).tolist())


def _mean_distance(embeddings: Tensor) -> Tensor:
    if len(embeddings) < 2:
        return embeddings.new_zeros(())
    return nn.functional.pdist(embeddings.float()).mean()


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators of the CPU and of `device`, and put them back afterwards."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        # torch.manual_seed would seed every GPU, and nothing would put back those that are not in use.
        torch.default_generator.manual_seed(seed)
        for cuda_device in devices:
            with torch.cuda.device(cuda_device):
                torch.cuda.manual_seed(seed)
        yield


def _on_cpu(optimizer_state: dict[str, Any]) -> dict[str, Any]:
    """Bring Adam's moments to the CPU: a saved checkpoint must open on a computer without GPU."""
    moments = {
        index: {name: tensor.cpu() for name, tensor in of_parameter.items()}
        for index, of_parameter in optimizer_state["state"].items()
    }
    return optimizer_state | {"state": moments}


def _torch_seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))
