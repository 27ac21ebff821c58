"""The photos of a run as a data set: found, given their rows, with the decoded ones in the run folder."""

import logging
from pathlib import Path

from camera_trap_al.deep_learning.data_loader import ExtendedImageFolder
from camera_trap_al.exceptions import DataError
from camera_trap_al.logs import stage
from camera_trap_al.photo_folders import FolderScan, scan_data_folders
from camera_trap_al.pools import Role
from camera_trap_al.run_store import RunStore

__all__ = ["register_photos"]

logger = logging.getLogger(__name__)


def register_photos(store: RunStore) -> tuple[ExtendedImageFolder, dict[Role, FolderScan]]:
    """Scan the data folders of a run and give new photos a row.

    Returns
    -------
    The data set, and what each data folder holds.

    Raises
    ------
    DataError, CheckpointError
        If the data folders cannot be used, or are not those of this run.
    """
    config = store.config
    train = config.path_of("train_data")
    if train is None:
        raise DataError("train_data is needed to start a run.")
    validation = config.path_of("validation_data") or _validation_folder_of(store)
    with stage(logger, "Looking for photos"):
        scans = scan_data_folders(train, config.path_of("unlabelled_data"), validation)
        catalogue = store.register(scans)
    if validation is None:  # those of an earlier start, whose folder is gone now
        catalogue.pools.is_set_aside[catalogue.pools.roles == Role.VALIDATION] = True
    dataset = ExtendedImageFolder(
        catalogue,
        num_workers=config.num_workers,
        cache_dir=store.folder / "cache",
        image_cache=config.image_cache,
        image_cache_gb=config.image_cache_gb,
    )
    return dataset, scans


def _validation_folder_of(store: RunStore) -> Path | None:
    """Give the folder that the run's validation photos had, if it is still there."""
    folder = store.root_of(Role.VALIDATION)
    if folder is not None and not folder.is_dir():
        logger.warning("The validation folder %s is not there: the run goes on without validation figures.", folder)
        return None
    return folder
