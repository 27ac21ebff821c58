"""Which tuples of a batch a metric loss looks at.

Everything here works on the matrix of distances between all images of a batch, on the device where that matrix is, in
whole-matrix steps and without waiting for a result: tuples that do not count are marked, not removed.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

__all__ = [
    "TRIPLET_MINERS",
    "Pairs",
    "Triplets",
    "euclidean_distances",
    "mine_hard_pairs",
    "mine_hardest",
    "mine_random",
    "mine_semi_hard",
]


class Triplets(NamedTuple):
    """One triplet for each ordered pair of images (anchor, positive), including pairs that are none.

    Attributes
    ----------
    negative
        (n, n) int64, position in the batch of the negative for the anchor of the row and the positive of the column.
    is_candidate
        (n, n) bool, True where anchor and positive are two images of one class, and another class is in the batch.
    is_mined
        (n, n) bool, True where the miner found a negative too; the other triplets mean nothing.
    """

    negative: Tensor
    is_candidate: Tensor
    is_mined: Tensor


class Pairs(NamedTuple):
    """All unordered pairs of a batch.

    Attributes
    ----------
    first, second
        (n * (n - 1) / 2,) int64, positions in the batch, first < second.
    is_positive, is_negative
        (n * (n - 1) / 2,) bool, the pairs of one class and of two classes that count; the others are in neither.
    """

    first: Tensor
    second: Tensor
    is_positive: Tensor
    is_negative: Tensor


TripletMiner = Callable[[Tensor, Tensor, float, torch.Generator], Triplets]


def euclidean_distances(embeddings: Tensor) -> Tensor:
    """Compute the (n, n) Euclidean distances between (n, d) embeddings, at least in float32.

    Not squared: with squared distances the embeddings collapse to one point more easily [Hermans et al., 2017, "In
    defense of the triplet loss for person re-identification"]. Where two embeddings are equal, as in a burst of a
    still scene, the gradient is zero rather than infinite.
    """
    if embeddings.dtype in (torch.float16, torch.bfloat16):
        embeddings = embeddings.float()
    # Over pairs of rows: the quicker way over dot products loses the small distances between near duplicates.
    n = len(embeddings)
    first, second = torch.triu_indices(n, n, offset=1, device=embeddings.device)
    above_diagonal = embeddings.new_zeros(n, n).index_put((first, second), functional.pdist(embeddings))
    return above_diagonal + above_diagonal.T


def mine_hardest(distances: Tensor, targets: Tensor, margin: float, generator: torch.Generator) -> Triplets:
    """Take for each anchor and positive the closest negative, if its loss is above zero [Hermans et al., 2017].

    Parameters
    ----------
    distances
        (n, n), as `euclidean_distances` gives them.
    targets
        (n,) int64, class of each image, on the same device.
    margin
        By how much negatives should be further than positives.
    generator
        Not used: there is nothing to draw.
    """
    to_negatives = _to_negatives(distances, targets)
    closest, position = to_negatives.min(dim=1, keepdim=True)
    return _triplets(targets, position.expand_as(distances), closest < distances + margin)


def mine_random(distances: Tensor, targets: Tensor, margin: float, generator: torch.Generator) -> Triplets:
    """Draw for each anchor and positive one of the negatives whose loss is above zero.

    Parameters
    ----------
    distances
        (n, n), as `euclidean_distances` gives them.
    targets
        (n,) int64, class of each image, on the same device.
    margin
        By how much negatives should be further than positives.
    generator
        Decides the draw; a generator of the CPU gives the same draw on every device.
    """
    ascending, position = _to_negatives(distances, targets).sort(dim=1)
    stop = torch.searchsorted(ascending, distances + margin)
    return _drawn_triplets(targets, position, torch.zeros_like(stop), stop, generator)


def mine_semi_hard(distances: Tensor, targets: Tensor, margin: float, generator: torch.Generator) -> Triplets:
    """Draw for each anchor and positive a negative that is further than the positive, but by less than the margin.

    Such triplets have a loss between zero and the margin [Schroff et al., 2015, "FaceNet"].

    Parameters
    ----------
    distances
        (n, n), as `euclidean_distances` gives them.
    targets
        (n,) int64, class of each image, on the same device.
    margin
        By how much negatives should be further than positives.
    generator
        Decides the draw; a generator of the CPU gives the same draw on every device.
    """
    ascending, position = _to_negatives(distances, targets).sort(dim=1)
    start = torch.searchsorted(ascending, distances, right=True)
    stop = torch.searchsorted(ascending, distances + margin)
    return _drawn_triplets(targets, position, start, stop, generator)


def mine_hard_pairs(distances: Tensor, targets: Tensor) -> Pairs:
    """Take all pairs of one class and equally many of the closest pairs of two classes.

    A batch of a single class gives no pairs at all: only pulling images together would collapse the embedding.

    Parameters
    ----------
    distances
        (n, n), as `euclidean_distances` gives them.
    targets
        (n,) int64, class of each image, on the same device.
    """
    first, second = torch.triu_indices(len(targets), len(targets), offset=1, device=targets.device)
    is_positive = targets[first] == targets[second]
    order = distances[first, second].masked_fill(is_positive, torch.inf).argsort(stable=True)
    rank = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
    is_negative = ~is_positive & (rank < is_positive.sum())
    return Pairs(first, second, is_positive & (~is_positive).any(), is_negative)


TRIPLET_MINERS: dict[str, TripletMiner] = {
    "hardest": mine_hardest,
    "random": mine_random,
    "semi_hard": mine_semi_hard,
}


def _to_negatives(distances: Tensor, targets: Tensor) -> Tensor:
    return distances.detach().masked_fill(targets[:, None] == targets, torch.inf)


def _drawn_triplets(
    targets: Tensor, position: Tensor, start: Tensor, stop: Tensor, generator: torch.Generator
) -> Triplets:
    """Draw, for each anchor and positive, one of the negatives at `start` to `stop` - 1 when sorted by distance."""
    n_eligible = stop - start
    share = torch.rand(start.shape, generator=generator, device=generator.device).to(start.device)
    offset = torch.minimum((share * n_eligible).long(), n_eligible - 1)  # the product may be rounded up to n_eligible
    place = (start + offset).clamp(0, len(targets) - 1)
    return _triplets(targets, position.gather(1, place), n_eligible > 0)


def _triplets(targets: Tensor, negative: Tensor, has_negative: Tensor) -> Triplets:
    is_same = targets[:, None] == targets
    is_candidate = is_same.clone().fill_diagonal_(False).logical_and_(~is_same.all())
    return Triplets(negative, is_candidate, is_candidate & has_negative)
