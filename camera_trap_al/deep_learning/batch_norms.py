"""The batch normalisation layers of a network: statistics of few photos would do damage."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["BatchNorms"]

FEWEST_FOR_STATISTICS = 32  # photos in a batch whose mean and spread are worth remembering


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
