"""Where in the photos of a run a detector saw an animal: that is what the network looks at."""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from camera_trap_al import box_table
from camera_trap_al.exceptions import DataError
from camera_trap_al.interchange.megadetector import DetectedPhoto, DetectionFile, choose_detections, read_detections
from camera_trap_al.interchange.megadetector_paths import match_detections
from camera_trap_al.logs import stage
from camera_trap_al.photo_folders import Catalogue, PhotoBoxes
from camera_trap_al.pools import Role
from camera_trap_al.run_store import RunStore

__all__ = ["find_boxes", "with_boxes"]

logger = logging.getLogger(__name__)


def with_boxes(store: RunStore, catalogue: Catalogue) -> Catalogue:
    """Enter into the catalogue what a detector saw: by its file or, without one, by what an earlier start read.

    Raises
    ------
    DataError
        If the file cannot be read, or is of none of the photos.
    """
    config, file = store.config, store.config.path_of("detections")
    if file is not None:
        with stage(logger, f"Reading the detections in {file.name}", "reading detections"):
            found = find_boxes(catalogue, read_detections(file), config.detection_threshold)
        with store.transaction() as db:
            box_table.store_boxes(db, found)
    else:
        with store.transaction() as db:
            found = box_table.boxes(db)
        if found:
            logger.info("Boxes of %d photos are those of an earlier start, since detections is not given.", len(found))
    if not found:
        return catalogue
    is_empty = np.zeros(len(catalogue), np.bool_)
    if config.detections_empty is not None:
        is_empty[[row for row, seen in found.items() if not seen.n_boxes]] = True
        is_empty &= catalogue.pools.roles == Role.UNLABELLED
        n_empty = np.count_nonzero(is_empty)
        logger.info("%d unlabelled photos without a box are taken for %r", n_empty, config.detections_empty)
    return replace(catalogue, boxes=found, pools=replace(catalogue.pools, is_empty=is_empty))


def find_boxes(catalogue: Catalogue, file: DetectionFile, threshold: float) -> dict[int, PhotoBoxes]:
    """Find the animals of each photo that a detection file lists and that its detector could read.

    Parameters
    ----------
    catalogue
        The photos.
    file
        The detections; their paths may be relative to any of the data folders.
    threshold
        Confidence from which on a box counts.

    Returns
    -------
    By row, ascending.

    Raises
    ------
    DataError
        If none of its entries is of one of the photos, or no category is of animals.
    """
    animals = file.category_ids()
    found: dict[int, PhotoBoxes] = {}
    used: set[str] = set()
    for role, root in catalogue.roots.items():
        for row, photo in _entries(catalogue, file, role, root).items():
            used.add(photo.file)
            if photo.failure:
                continue
            seen = choose_detections(photo.detections, animals, 0.0)
            n_boxes = sum(each.confidence >= threshold for each in seen)
            found[row] = PhotoBoxes(seen[0].box if n_boxes else None, n_boxes, seen[0].confidence if seen else 0.0)
    if not used:
        listed = file.photos[0].file if file.photos else "nothing"
        raise DataError(
            f"{file.path}: none of its entries is of one of the photos. It lists, for instance, {listed}, and the "
            f"photos are, for instance, {catalogue.paths[0]} in {catalogue.roots[Role(catalogue.pools.roles[0])]}. "
            "Give the detections of these photos, or leave detections out.",
            file.path,
        )
    _tell(catalogue, file, found, used)
    return dict(sorted(found.items()))


def _entries(catalogue: Catalogue, file: DetectionFile, role: Role, root: Path) -> Mapping[int, DetectedPhoto]:
    """Give the entries of the photos of one data folder, by row."""
    row_of = {catalogue.paths[row]: row for row in np.flatnonzero(catalogue.pools.roles == role).tolist()}
    matched = match_detections(file, list(row_of), root)
    return {row_of[path]: photo for path, photo in matched.by_photo.items()}


def _tell(catalogue: Catalogue, file: DetectionFile, found: Mapping[int, PhotoBoxes], used: set[str]) -> None:
    counts = Counter(min(seen.n_boxes, 2) for seen in found.values())
    logger.info(
        "Detections: %d photos with one animal, %d with several, %d with none, %d without an entry; %d entries are of "
        "photos that are not there",
        counts[1],
        counts[2],
        counts[0],
        len(catalogue) - len(found),
        len({photo.file for photo in file.photos} - used),
    )
    if file.skipped:
        logger.warning("%d detections cannot be used; the first: %s", len(file.skipped), file.skipped[0])
