"""How much the tuples of a batch hurt: triplet, contrastive and softmax loss."""

import logging
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from camera_trap_al.deep_learning.miners import TRIPLET_MINERS, euclidean_distances, mine_hard_pairs
from camera_trap_al.exceptions import ConfigError

__all__ = ["ContrastiveLoss", "Loss", "LossValue", "SoftmaxLoss", "TripletLoss", "build_loss"]

logger = logging.getLogger(__name__)


class LossValue(NamedTuple):
    """The loss of one batch.

    Attributes
    ----------
    loss
        (), what to minimise. Zero, and still with a graph, when there is nothing to learn from the batch.
    active_share
        (), without a graph: share of the candidate tuples whose loss is not zero, 0 to 1. It falls as training goes on.
    """

    loss: Tensor
    active_share: Tensor


class Loss(Protocol):
    """Anything that turns what a network gives for a batch, and the classes of its images, into a loss."""

    def __call__(self, outputs: Tensor, targets: Tensor, generator: torch.Generator) -> LossValue:
        """Compute the loss of one batch.

        Parameters
        ----------
        outputs
            (n, feat_dim) embeddings, or (n, n_classes) class scores for `SoftmaxLoss`; floating point.
        targets
            (n,) int64, class of each image, on the same device.
        generator
            Decides what is drawn, if anything is.
        """
        ...


@dataclass(frozen=True)
class TripletLoss:
    """By how much positives are not closer than negatives by a margin [Schroff et al., 2015; Hermans et al., 2017].

    The loss of a triplet is ``max(0, d(anchor, positive) - d(anchor, negative) + margin)``; the result is the mean over
    the mined triplets where it is not zero. A batch with one image or one class gives zero.

    Attributes
    ----------
    strategy
        How the negatives are mined: ``hardest``, ``random`` or ``semi_hard``.
    margin
        In units of Euclidean distance between embeddings.
    """

    strategy: str
    margin: float

    def __post_init__(self) -> None:
        _check_margin(self.margin)
        if self.strategy not in TRIPLET_MINERS:
            raise ConfigError(
                f"embedding_loss_data_strategy must be one of {', '.join(TRIPLET_MINERS)} for triplet loss; got "
                f"{self.strategy!r}. 'hard_pair' belongs to embedding_loss_type='siamese'."
            )

    def __call__(self, outputs: Tensor, targets: Tensor, generator: torch.Generator) -> LossValue:
        """Compute the loss of (n, feat_dim) embeddings with (n,) int64 classes; the generator draws the negatives."""
        distances = euclidean_distances(outputs)
        triplets = TRIPLET_MINERS[self.strategy](distances.detach(), targets, self.margin, generator)
        to_negative = distances.gather(1, triplets.negative)
        terms = torch.relu(distances - to_negative + self.margin) * triplets.is_mined
        return _mean_of_active(terms, triplets.is_candidate.sum())


@dataclass(frozen=True)
class ContrastiveLoss:
    """Pull images of one class together, push those of two classes apart up to a margin [Hadsell et al., 2006].

    A pair of one class costs ``d ** 2``, a pair of two classes ``max(0, margin - d) ** 2``; pairs are all of the first
    kind and equally many of the closest of the second. The result is the mean over the pairs where it is not zero. A
    batch with one image or one class gives zero.

    Attributes
    ----------
    margin
        In units of Euclidean distance between embeddings.
    """

    margin: float

    def __post_init__(self) -> None:
        _check_margin(self.margin)

    def __call__(self, outputs: Tensor, targets: Tensor, generator: torch.Generator) -> LossValue:
        """Compute the loss of (n, feat_dim) embeddings with (n,) int64 classes; nothing is drawn."""
        distances = euclidean_distances(outputs)
        pairs = mine_hard_pairs(distances.detach(), targets)
        apart = distances[pairs.first, pairs.second]
        terms = apart.square() * pairs.is_positive + torch.relu(self.margin - apart).square() * pairs.is_negative
        return _mean_of_active(terms, (pairs.is_positive | pairs.is_negative).sum())


@dataclass(frozen=True)
class SoftmaxLoss:
    """Cross entropy of the class scores, mean over the images."""

    def __call__(self, outputs: Tensor, targets: Tensor, generator: torch.Generator) -> LossValue:
        """Compute the loss of (n, n_classes) class scores with (n,) int64 classes; nothing is drawn."""
        terms = F.cross_entropy(outputs, targets, reduction="none")
        return LossValue(terms.mean(), (terms.detach() > 0).float().mean())


def build_loss(loss_type: str, strategy: str, margin: float) -> Loss:
    """Build the loss that three settings of a run mean.

    Parameters
    ----------
    loss_type
        ``softmax``, ``triplet`` or ``siamese``.
    strategy
        ``hardest``, ``random``, ``semi_hard`` or ``hard_pair``; ``softmax`` ignores it. ``siamese`` is contrastive loss
        with ``hard_pair`` and triplet loss with any other, as in the 2023 package, which a WARNING points out.
    margin
        Above zero; ``softmax`` ignores it.

    Raises
    ------
    ConfigError
        If the settings do not fit together; ``triplet`` has no ``hard_pair``.
    """
    if loss_type == "softmax":
        return SoftmaxLoss()
    if loss_type not in ("triplet", "siamese"):
        raise ConfigError(f"embedding_loss_type must be 'softmax', 'triplet' or 'siamese'; got {loss_type!r}.")
    if loss_type == "siamese" and strategy == "hard_pair":
        return ContrastiveLoss(margin)
    loss = TripletLoss(strategy, margin)
    if loss_type == "siamese":
        logger.warning(
            "embedding_loss_type='siamese' with embedding_loss_data_strategy=%r trains with triplet loss; for siamese "
            "(contrastive) loss set embedding_loss_data_strategy='hard_pair'.",
            strategy,
        )
    return loss


def _mean_of_active(terms: Tensor, n_candidates: Tensor) -> LossValue:
    """Average the terms above zero; with none, give a zero that still depends on the embeddings."""
    n_active = (terms > 0).sum()
    return LossValue(terms.sum() / n_active.clamp(min=1), n_active / n_candidates.clamp(min=1))


def _check_margin(margin: float) -> None:
    if not 0 < margin < float("inf"):
        raise ConfigError(f"embedding_loss_margin must be above 0; got {margin!r}.")
