"""Photos that turn out to be unreadable while a run goes on."""

import logging

from camera_trap_al.deep_learning.data_loader import ExtendedImageFolder
from camera_trap_al.run_store import RunStore

__all__ = ["UnreadablePhotos"]

logger = logging.getLogger(__name__)


class UnreadablePhotos:
    """Takes unreadable photos out of the pools when they are found, and has them recorded when there is a store.

    Parameters
    ----------
    dataset
        The photos.
    """

    def __init__(self, dataset: ExtendedImageFolder) -> None:
        self._dataset = dataset
        self._to_record: dict[int, str] = {}
        self._was_recorded = False

    def take_out(self) -> int:
        """Set aside what was found unreadable since the last time, and tell how many photos these are."""
        is_set_aside = self._dataset.pools.is_set_aside
        new = {row: why for row, why in self._dataset.cache.unreadable.items() if not is_set_aside[row]}
        if new:
            logger.warning("%d photos cannot be read and are set aside; see unreadable_images.csv.", len(new))
            is_set_aside[list(new)] = True
            self._to_record |= new
        return len(new)

    def record(self, store: RunStore | None) -> None:
        """Record what was set aside since the last time; the first time, bring the list for people up to date."""
        if store is not None and (self._to_record or not self._was_recorded):
            store.set_aside(self._to_record)
            self._to_record, self._was_recorded = {}, True
