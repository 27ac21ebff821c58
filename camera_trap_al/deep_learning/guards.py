"""Against two ways in which training does damage: statistics of few photos, embeddings that fall into one point."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["COLLAPSE_BELOW", "FEWEST_FOR_STATISTICS", "BatchNorms", "late_distance"]

FEWEST_FOR_STATISTICS = 32  # photos in a batch whose mean and spread are worth remembering
COLLAPSE_BELOW = 0.1  # of the mean distance between embeddings when the training began


class BatchNorms:
    """The batch normalisation layers of a network, whose running statistics are frozen in small batches.

    A frozen layer normalises with the statistics that it has, and keeps them; its scale and shift are trained.

    Parameters
    ----------
    net
        The network.
    setting
        True freezes always, False never, ``"auto"`` in batches of fewer than 32 photos, unless the network has no
        statistics yet: one that began with random weights must learn them from what there is.
    """

    def __init__(self, net: nn.Module, setting: str | bool) -> None:
        self._layers = [module for module in net.modules() if isinstance(module, _BatchNorm)]
        self._setting = setting
        self._has_statistics = any(map(_has_statistics, self._layers))

    def prepare(self, n_photos: int) -> None:
        """Freeze or free the layers of a network in training, for a batch of `n_photos`."""
        is_small = n_photos < FEWEST_FOR_STATISTICS and self._has_statistics
        frozen = is_small if self._setting == "auto" else bool(self._setting)
        for layer in self._layers:
            layer.train(not frozen)

    @contextmanager
    def unmoved(self) -> Iterator[None]:
        """Let a batch pass a second time without counting it twice."""
        momenta = [layer.momentum for layer in self._layers]
        for layer in self._layers:
            layer.momentum = 0.0
        try:
            yield
        finally:
            for layer, momentum in zip(self._layers, momenta, strict=True):
                layer.momentum = momentum


def _has_statistics(layer: _BatchNorm) -> bool:
    mean, variance = layer.running_mean, layer.running_var
    return mean is not None and variance is not None and bool((mean != 0).any() or (variance != 1).any())


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
