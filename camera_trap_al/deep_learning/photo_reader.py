"""Photos are decoded before they are used, and those that cannot be read are taken out of the run."""

import logging
from collections.abc import Callable

import numpy as np

from camera_trap_al.deep_learning.data_loader import ExtendedImageFolder
from camera_trap_al.exceptions import DataError
from camera_trap_al.logs import stage
from camera_trap_al.pools import IndexArray, Role
from camera_trap_al.run_store import RunStore

__all__ = ["PhotoReader"]

logger = logging.getLogger(__name__)


class PhotoReader:
    """Decodes the photos of a run, and sets aside those that turn out to be unreadable, whenever they do.

    Parameters
    ----------
    dataset
        The photos.
    """

    def __init__(self, dataset: ExtendedImageFolder) -> None:
        self._dataset = dataset
        self._to_record: dict[int, str] = {}
        self._was_recorded = False

    def list_is_old(self) -> None:
        """Have the list of photos that are set aside written anew by the next `record`."""
        self._was_recorded = False

    def decode(self, wanted: Callable[[], IndexArray]) -> None:
        """Decode photos that are not decoded yet, as far as they can be kept.

        Parameters
        ----------
        wanted
            Gives the rows; asked again when some of them were set aside, since others may come in for them.

        Raises
        ------
        DataError
            If a data folder cannot be reached any more, or no labelled photo is left.
        """
        cache = self._dataset.cache
        while len(new := cache.to_keep(wanted())):
            with stage(logger, f"Reading {len(new)} photos"):
                cache.fill(new)
            if not self.take_out():
                break

    def take_out(self) -> int:
        """Set aside what was found unreadable since the last time, and tell how many photos these are.

        Raises
        ------
        DataError
            If a data folder cannot be reached any more: its photos are as good as before; or if no labelled photo is
            left.
        """
        pools = self._dataset.pools
        new = {row: why for row, why in self._dataset.cache.unreadable.items() if not pools.is_set_aside[row]}
        for role in np.unique(pools.roles[list(new)]).tolist():
            root = self._dataset.catalogue.roots[Role(role)]
            if not root.is_dir():
                raise DataError(
                    f"{root}: the folder cannot be reached any more. Connect its drive or network and start again with "
                    "the same settings: the run goes on, and nothing is lost.",
                    root,
                )
        pools.is_set_aside[list(new)] = True
        self._to_record |= new
        if new and not len(pools.labelled):
            raise DataError("No labelled photo can be read, so there is nothing to learn from.")
        return len(new)

    def record(self, store: RunStore | None) -> None:
        """Say and record what was set aside since the last time; the first time, bring the list up to date."""
        if store is not None and (self._to_record or not self._was_recorded):
            store.set_aside(self._to_record)
            self._was_recorded = True
        if self._to_record:
            listed = "" if store is None else f"; {store.folder / 'unreadable_images.csv'} says why"
            logger.warning("%d photos cannot be read and are set aside%s.", len(self._to_record), listed)
            self._to_record = {}
