"""Photos are decoded before they are used, and those that cannot be read are set aside."""

import logging
from collections.abc import Callable
from pathlib import Path

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

    Attributes
    ----------
    n_back
        How many photos could not be read before the last `set_unreadable_aside` and could then, since a drive was gone
        for a while. Whatever was made of all photos until then was made without them.
    """

    def __init__(self, dataset: ExtendedImageFolder) -> None:
        self._dataset = dataset
        self.n_back = 0
        self._to_record: dict[int, str] = {}
        self._list_is_current = False

    def renew_list(self) -> None:
        """Have the list of photos that are set aside written anew by the next `record`."""
        self._list_is_current = False

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
            with stage(logger, f"Reading {len(new)} photos", "reading photos"):
                cache.fill(new)
            if not (self.set_unreadable_aside() or self.n_back):
                break

    def set_unreadable_aside(self) -> int:
        """Set aside what was found unreadable since the last time, and tell how many photos these are.

        Photos that can be read by now are not set aside, but counted in `n_back`.

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
            if not _is_there(root):
                raise DataError(
                    f"{root}: the folder cannot be reached any more. Connect its drive or network and start again with "
                    "the same settings: the run goes on, and nothing is lost.",
                    root,
                )
        back = self._dataset.cache.retry()
        self.n_back = len(back)
        if back:
            root = self._dataset.catalogue.path(back[0]).parent
            logger.warning(
                "Photos that could not be read for a while and can be now: %d, such as in %s", len(back), root
            )
        new = {row: why for row, why in new.items() if row in self._dataset.cache.unreadable}
        pools.is_set_aside[list(new)] = True
        self._to_record |= new
        if new and not len(pools.labelled):
            raise DataError("No labelled photo can be read, so there is nothing to learn from.")
        return len(new)

    def refuse_gaps(self, what: str) -> None:
        """Refuse what was made without photos that could not be read for a while.

        Raises
        ------
        DataError
            If there were such photos at the last `set_unreadable_aside`.
        """
        if self.n_back:
            raise DataError(
                f"{what}: photos that could not be read meanwhile, since their drive or network was gone for a while: "
                f"{self.n_back}. It is back: start again with the same settings, and the run goes on; nothing is lost."
            )

    def record(self, store: RunStore | None) -> None:
        """Say and record what was set aside since the last time; the first time, bring the list up to date."""
        if store is not None and (self._to_record or not self._list_is_current):
            store.set_aside(self._to_record)
            self._list_is_current = True
        if self._to_record:
            listed = "" if store is None else f"; {store.folder / 'unreadable_images.csv'} says why"
            logger.warning("%d photos cannot be read and are set aside%s.", len(self._to_record), listed)
            self._to_record = {}


def _is_there(root: Path) -> bool:
    """Whether a data folder can be reached; the empty folder that stands for a drive while that is gone is not it."""
    try:
        return any(root.iterdir())
    except OSError:
        return False
