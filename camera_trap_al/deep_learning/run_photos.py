"""The photos of a run as a data set: found, given their rows, with the decoded ones in the run folder."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from camera_trap_al.deep_learning.data_loader import ExtendedImageFolder
from camera_trap_al.exceptions import DataError
from camera_trap_al.labelling.class_names import ClassNames
from camera_trap_al.labelling.initial import (
    InitialLabels,
    match_initial_labels,
    new_class_names,
    read_initial_labels,
)
from camera_trap_al.logs import stage
from camera_trap_al.photos.catalogue import Catalogue
from camera_trap_al.photos.folders import FolderScan, scan_data_folders, scan_folder
from camera_trap_al.pools import UNLABELLED, Role
from camera_trap_al.preparation.audit import reserve_audit
from camera_trap_al.preparation.boxes import with_boxes
from camera_trap_al.preparation.sequences import with_sequences
from camera_trap_al.preparation.validation_split import hold_out_for_validation, warn_of_shared_sequences
from camera_trap_al.query import Answer
from camera_trap_al.run_store import RunStore

__all__ = ["register_photos", "take_answer"]

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
    if config.train_data is None and config.initial_labels is None:
        raise DataError("train_data or initial_labels is needed to start a run.")
    train, unlabelled = (_folder_of(store, role) for role in (Role.TRAIN, Role.UNLABELLED))
    validation = _folder_of(store, Role.VALIDATION) or _validation_folder_of(store)
    initial = _initial_labels(store)
    with stage(logger, "Looking for photos"):
        scans = scan_data_folders(
            train,
            unlabelled,
            validation,
            {*store.class_names(), *_classes_besides_folders(store, (), initial)},
            needs_training_photos=config.initial_labels is None,
        )
        folders = scans[Role.TRAIN].folders if Role.TRAIN in scans else ()
        catalogue = store.register(scans, _classes_besides_folders(store, folders, initial))
    names = ClassNames(catalogue.classes, config.class_aliases)
    if config.detections_empty is not None:  # as the class is written
        store.config = replace(config, detections_empty=names.meaning(config.detections_empty))
    if config.new_classes == "refuse":
        names.check_aliases()
    if initial is not None:
        catalogue = _with_initial_labels(store, catalogue, scans[Role.UNLABELLED], initial, names)
    if not len(catalogue.pools.labelled):
        raise DataError("No photo has a label, so there is nothing to learn from. Give train_data or initial_labels.")
    catalogue = with_sequences(store, with_boxes(store, catalogue))
    warn_of_shared_sequences(catalogue)
    catalogue = reserve_audit(store, hold_out_for_validation(store, catalogue))
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


def take_answer(dataset: ExtendedImageFolder, answer: Answer) -> None:
    """Take labels, corrections, new classes and unusable photos of an answer into a data set."""
    dataset.add_classes(answer.new_classes)
    was_unusable = [row for row in answer.corrections if dataset.targets[row] == UNLABELLED]
    labels = {**answer.labels, **answer.corrections, **dict.fromkeys(answer.unusable, UNLABELLED)}
    dataset.relabel(list(labels.keys()), list(labels.values()))
    dataset.pools.is_set_aside[was_unusable] = False
    dataset.pools.is_set_aside[list(answer.unusable)] = True


def _initial_labels(store: RunStore) -> InitialLabels | None:
    """Read the labels that people have already; None at later starts, since they are in the store then."""
    file = store.config.path_of("initial_labels")
    if file is None:
        return None
    if store.has_begun():
        logger.info("initial_labels was read when the run began and is not read again.")
        return None
    return read_initial_labels(file, store.config.label_column)


def _classes_besides_folders(store: RunStore, folders: Sequence[str], initial: InitialLabels | None) -> tuple[str, ...]:
    """Name the classes that are declared by name, those that initial labels bring where they may, and that of empty."""
    config = store.config
    named = tuple(config.classes or ())
    names = ClassNames(tuple(dict.fromkeys((*store.class_names(), *folders, *named))), config.class_aliases)
    may_bring = config.new_classes == "add" or (config.train_data is None and not named)
    if initial is not None and may_bring:
        brought = new_class_names(initial.table, names)
        named, names = (*named, *brought), names.with_classes(brought)
    of_detector = config.detections_empty
    return named if of_detector is None or names.meaning(of_detector) else (*named, of_detector)


def _with_initial_labels(
    store: RunStore, catalogue: Catalogue, scan: FolderScan, initial: InitialLabels, names: ClassNames
) -> Catalogue:
    """Give photos of the unlabelled folder the labels that are known of them."""
    classes, n_elsewhere = match_initial_labels(initial.table, scan.photos, names)
    if n_elsewhere:
        logger.warning("%d labels of %s are for photos that are not there.", n_elsewhere, initial.table.name)
    taken = {
        row: None if (name := classes[catalogue.paths[row]]) is None else names.ids[name]
        for row in catalogue.pools.unlabelled.tolist()
        if catalogue.paths[row] in classes
    }
    store.take_initial_labels(taken, initial.table.name, initial.content)
    logger.info("%d photos have their label from %s", len(taken), initial.table.name)
    return store.catalogue(catalogue.roots)


def _folder_of(store: RunStore, role: Role) -> Path | None:
    """Give the folder of a data set: as asked for, unless that holds other photos and the run's are where they were."""
    asked, before = store.config.path_of(role.argument), store.root_of(role)
    if asked is None or before is None or asked == before or not store.has_begun():
        return asked
    if store.fits(role, scan_folder(asked)):
        logger.info("%s is in %s now; it was in %s", role.argument, asked, before)
        return asked
    if not before.is_dir() or not store.fits(role, scan_folder(before)):
        return asked  # to be told what is wrong with it
    logger.warning(
        "%s=%s is ignored: it holds other photos than those of this run, which are still in %s. To use other photos, "
        "start a new run: use_checkpoints=False or another output_dir. To add photos, put them into that folder.",
        role.argument,
        asked,
        before,
    )
    return before


def _validation_folder_of(store: RunStore) -> Path | None:
    """Give the folder that the run's validation photos had, if it is still there."""
    folder = store.root_of(Role.VALIDATION)
    if folder is not None and not folder.is_dir():
        logger.warning("The validation folder %s is not there: the run goes on without validation figures.", folder)
        return None
    return folder
