"""One training of an embedding network: its steps, its epochs, and what tells how it goes."""

import logging
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recomputed_later

from camera_trap_al.deep_learning.batch_norms import BatchNorms
from camera_trap_al.deep_learning.batches import TrainingBatch
from camera_trap_al.deep_learning.losses import Loss
from camera_trap_al.deep_learning.memory import photos_at_once
from camera_trap_al.deep_learning.networks import EmbeddingNet, SoftmaxNet
from camera_trap_al.deep_learning.precision import Precision, autocast
from camera_trap_al.deep_learning.transforms import Normalisation
from camera_trap_al.pools import IndexArray

__all__ = ["EpochSummary", "Training", "late_distance"]

logger = logging.getLogger(__name__)

COLLAPSE_BELOW = 0.1  # of the mean distance between embeddings when the training began


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


class Training:
    """Trains a network in place.

    Parameters
    ----------
    net
        The network, on its device.
    loss
        What is to become small.
    optimizer
        What makes the steps.
    normalise
        What is done to the pixels before the network sees them.
    batch_norms
        The network's batch normalisation layers.
    precision
        In which the network computes; the loss is always computed in fp32.
    generator
        Decides what the loss draws.

    Attributes
    ----------
    history
        A summary of each epoch so far.
    first_distance
        Mean distance between the embeddings of the first batch, before any step.
    late_distance
        The same at the end of the last epoch; NaN before the first.
    """

    def __init__(
        self,
        net: EmbeddingNet | SoftmaxNet,
        loss: Loss,
        optimizer: torch.optim.Optimizer,
        normalise: Normalisation,
        batch_norms: BatchNorms,
        precision: Precision,
        generator: torch.Generator,
    ) -> None:
        self._net = net
        self._embedding_net = net.embedding if isinstance(net, SoftmaxNet) else net
        self._loss = loss
        self._optimizer = optimizer
        self._normalise = normalise
        self._batch_norms = batch_norms
        self._precision = precision
        self._generator = generator
        self._device = next(net.parameters()).device
        self._photos_at_once: int | None = None
        self.history: list[EpochSummary] = []
        self.first_distance = self.late_distance = float("nan")

    @property
    def has_collapsed(self) -> bool:
        """Whether the embeddings have fallen into one point: under 10 % of the distance that they had at the start."""
        return self.late_distance < COLLAPSE_BELOW * self.first_distance

    def optimizer_state(self) -> dict[str, Any]:
        """Give the optimiser's state with Adam's moments on the CPU: it must open on a computer without GPU."""
        state = self._optimizer.state_dict()
        moments = {
            index: {name: tensor.cpu() for name, tensor in of_parameter.items()}
            for index, of_parameter in state["state"].items()
        }
        return state | {"state": moments}

    def run_epoch(self, batches: Iterable[TrainingBatch], targets: IndexArray) -> None:
        """Make a step for each batch.

        Parameters
        ----------
        batches
            The photos to learn from.
        targets
            (n_rows,) class ids.
        """
        self._net.train()
        steps, n_photos = [], []
        for batch in batches:
            steps.append(self._step(batch, targets[batch.rows]))
            n_photos.append(len(batch.rows))
        if not steps:  # no photo could be read
            return
        values = torch.stack(steps)
        if not self.history:
            self.first_distance = float(values[0, 2])
        self.late_distance = late_distance(values[:, 2], n_photos)
        self.history.append(EpochSummary(*values.mean(dim=0).tolist()))

    def _step(self, batch: TrainingBatch, targets: IndexArray) -> Tensor:
        """Make one step; return (3,) loss, active share and mean distance, left on the device."""
        images = batch.augmentation.apply(batch.images.to(self._device, non_blocking=True), self._normalise)
        embeddings = self._embed(images)
        class_ids = torch.from_numpy(targets).to(self._device, non_blocking=True)
        outputs = self._net.logits(embeddings) if isinstance(self._net, SoftmaxNet) else embeddings
        value = self._loss(outputs, class_ids, self._generator)
        self._optimizer.zero_grad()
        torch.autograd.backward(value.loss)
        self._optimizer.step()
        return torch.stack([value.loss.detach(), value.active_share, _mean_distance(embeddings.detach())])

    def _embed(self, images: Tensor) -> Tensor:
        """Embed a batch, in parts if it is too large for the memory.

        What a part keeps for its backward pass is then computed again when its turn comes [Chen et al., 2016], so that
        the loss still sees the whole batch; only batch normalisation looks at each part by itself.
        """
        if self._photos_at_once is None:
            self._photos_at_once = photos_at_once(self._embedding_net, images)
            if len(images) > self._photos_at_once:  # told once, not for every batch
                n_parts = -(-len(images) // self._photos_at_once)
                logger.info("A batch of %d photos is too large for the memory: %d parts", len(images), n_parts)
        n_parts = -(-len(images) // self._photos_at_once)
        self._batch_norms.prepare(len(images) // n_parts)
        if n_parts == 1:
            return self._forward(images)

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), self._batch_norms.unmoved()

        return torch.cat(
            [
                recomputed_later(self._forward, part, use_reentrant=False, context_fn=contexts)
                for part in images.tensor_split(n_parts)
            ]
        )

    def _forward(self, images: Tensor) -> Tensor:
        with autocast(self._device, self._precision):
            embeddings: Tensor = self._embedding_net(images)
        return embeddings.float()


def late_distance(distances: Tensor, n_photos: Sequence[int]) -> float:
    """Average the mean distances of an epoch's batches, over its second half, a batch counting by its photos.

    By the end of an epoch a collapse shows, which the mean over all of it would hide; a last batch of two photos of
    one burst, which may be the same, says nothing.

    Parameters
    ----------
    distances
        (n_batches,) mean distance between the embeddings of each batch.
    n_photos
        How many photos are in each batch.
    """
    first = (len(n_photos) - 1) // 2
    weights = torch.tensor(n_photos[first:], dtype=distances.dtype, device=distances.device)
    return float((distances[first:] * weights).sum() / weights.sum())


def _mean_distance(embeddings: Tensor) -> Tensor:
    if len(embeddings) < 2:
        return embeddings.new_zeros(())
    return nn.functional.pdist(embeddings).mean()
