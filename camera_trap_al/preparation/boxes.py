"""Where in the photos of a run a detector saw an animal: that is what the network looks at."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from camera_trap_al.exceptions import DataError
from camera_trap_al.interchange.megadetector import DetectedPhoto, DetectionFile, choose_detections, read_detections
from camera_trap_al.interchange.megadetector_paths import MatchedDetections, PathChange, match_detections
from camera_trap_al.interchange.other_boxes import OtherBoxes, as_text
from camera_trap_al.logs import stage
from camera_trap_al.photos.catalogue import Catalogue, PhotoBoxes
from camera_trap_al.pools import Role
from camera_trap_al.run_store import RunStore, box_table

__all__ = ["find_boxes", "with_boxes"]

logger = logging.getLogger(__name__)

THRESHOLD = "boxes_threshold"  # under which the store remembers from which confidence on the boxes count


def with_boxes(store: RunStore, catalogue: Catalogue) -> Catalogue:
    """Enter into the catalogue what a detector saw: by its file or, without one, by what an earlier start read.

    Raises
    ------
    DataError
        If the file cannot be read, or is of none of the photos.
    """
    file = store.config.path_of("detections")
    found, others = (_found_earlier(store), None) if file is None else _found_now(store, catalogue, file)
    config = store.config
    if file is None and not found and config.detections_empty is not None:
        logger.warning("detections_empty=%r has no effect without detections.", config.detections_empty)
    if not found:
        return catalogue
    is_empty = np.zeros(len(catalogue), np.bool_)
    if config.detections_empty is not None:
        is_empty[[row for row, seen in found.items() if not seen.n_boxes]] = True
        is_empty &= catalogue.pools.roles == Role.UNLABELLED
        n_empty = np.count_nonzero(is_empty)
        logger.info("%d unlabelled photos without a box are taken for %r", n_empty, config.detections_empty)
    pools = replace(catalogue.pools, is_empty=is_empty)
    return replace(catalogue, boxes=found, other_boxes=others, pools=pools)


def _found_now(store: RunStore, catalogue: Catalogue, file: Path) -> tuple[dict[int, PhotoBoxes], OtherBoxes]:
    threshold = store.config.detection_threshold
    with store.transaction() as db:
        has_models = db.execute("SELECT 1 FROM artefacts LIMIT 1").fetchone() is not None
    if has_models and store.recall(THRESHOLD) is None:
        logger.warning(
            "The run began without detections. All photos are embedded again, as animals cut out of them, by a network "
            "that learnt from whole photos; it learns from the animals when it is finetuned the next time "
            "(embedding_finetuning_period). A new run with the labels of this one as initial_labels would begin with "
            "them."
        )
    with stage(logger, f"Reading the detections in {file.name}", "reading detections"):
        found, others = find_boxes(catalogue, read_detections(file), threshold)
    with store.transaction() as db:
        box_table.store_boxes(db, found)
    store.remember(THRESHOLD, threshold)
    return found, others


def _found_earlier(store: RunStore) -> dict[int, PhotoBoxes]:
    """Give the boxes that an earlier start read, and go on with the threshold that it had."""
    with store.transaction() as db:
        found = box_table.boxes(db)
    if not found:
        return found
    logger.info("Boxes of %d photos are those of an earlier start, since detections is not given.", len(found))
    asked, known = store.config.detection_threshold, store.recall(THRESHOLD)
    if known is not None and known != asked:
        store.config = replace(store.config, detection_threshold=known)
        told = (
            "detection_threshold=%g is ignored without detections: the boxes are those of an earlier start, from %g on."
        )
        logger.warning(told, asked, known)
    return found


def find_boxes(catalogue: Catalogue, file: DetectionFile, threshold: float) -> tuple[dict[int, PhotoBoxes], OtherBoxes]:
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
    What counts of each photo, by row, ascending; and all other boxes of photos of the unlabelled folder.

    Raises
    ------
    DataError
        If none of its entries is of one of the photos, no category is of animals, or nothing tells which photos are
        meant.
    """
    animals = file.category_ids()
    in_doubt = {each.file for each in file.skipped}
    matches = {role: _matched(catalogue, file, role) for role in catalogue.roots}
    used = {each for matched in matches.values() for each in _claimed(matched)}
    found: dict[int, PhotoBoxes] = {}
    others: dict[int, str] = {}
    for row, photo in _entries(catalogue, file, matches).items():
        if photo.failure:
            continue
        seen = choose_detections(photo.detections, animals, 0.0)
        n_boxes = sum(each.confidence >= threshold for each in seen)
        # Of a photo with detections that cannot be used, it is not known that it is empty.
        if n_boxes or photo.file not in in_doubt:
            found[row] = PhotoBoxes(seen[0].box if n_boxes else None, n_boxes, seen[0].confidence if seen else 0.0)
        further = [each for each in photo.detections if not n_boxes or each is not seen[0]]
        if further and catalogue.pools.roles[row] == Role.UNLABELLED:
            others[row] = as_text(file, further)
    if not used:
        listed = file.photos[0].file if file.photos else "nothing"
        raise DataError(
            f"{file.path}: none of its entries is of one of the photos. It lists, for instance, {listed}, and the "
            f"photos are, for instance, {catalogue.paths[0]} in {catalogue.roots[Role(catalogue.pools.roles[0])]}. "
            "Give the detections of these photos, or leave detections out.",
            file.path,
        )
    _tell(catalogue, file, found, used)
    return dict(sorted(found.items())), OtherBoxes.of(file, others)


def _matched(catalogue: Catalogue, file: DetectionFile, role: Role) -> MatchedDetections:
    rows = np.flatnonzero(catalogue.pools.roles == role)
    return match_detections(file, [catalogue.paths[row] for row in rows.tolist()], catalogue.roots[role])


def _claimed(matched: MatchedDetections) -> set[str]:
    return {*(photo.file for photo in matched.by_photo.values()), *matched.repeated}


def _entries(
    catalogue: Catalogue, file: DetectionFile, matches: Mapping[Role, MatchedDetections]
) -> dict[int, DetectedPhoto]:
    """Give the entry of each photo that has one, by row; of photos of equal paths, only those that can be meant."""
    owners: dict[str, list[Role]] = {}
    for role, matched in matches.items():
        for photo in matched.by_photo.values():
            owners.setdefault(photo.file, []).append(role)
    meant = {entry: _meant(catalogue, file, matches, entry, roles) for entry, roles in owners.items()}
    entries = {}
    for row, (role, path) in enumerate(zip(catalogue.pools.roles.tolist(), catalogue.paths, strict=True)):
        entry = matches[Role(role)].by_photo.get(path) if role in matches else None
        if entry is not None and meant[entry.file] == role:
            entries[row] = entry
    return entries


def _meant(
    catalogue: Catalogue,
    file: DetectionFile,
    matches: Mapping[Role, MatchedDetections],
    entry: str,
    roles: Sequence[Role],
) -> Role:
    """Say in which data folder the photo of an entry is, if several have one of its path, as where cameras count alike.

    Raises
    ------
    DataError
        If nothing tells.
    """

    def signs(role: Role) -> int:
        root, change = catalogue.roots[role], matches[role].change
        is_named = bool(change.removed) and PurePosixPath(change.removed).name.casefold() == root.name.casefold()
        return 2 * (is_named or file.path.is_relative_to(root)) + (change == PathChange())

    best = max(map(signs, roles))
    meant = [role for role in roles if signs(role) == best]
    if len(meant) > 1:
        first, second, *_ = (catalogue.roots[role] for role in meant)
        raise DataError(
            f"{file.path}: its entry {entry} may be of a photo in {first} or in {second}. Put the file into the one "
            "that it is of, or make one for a folder around both.",
            file.path,
        )
    return meant[0]


def _tell(catalogue: Catalogue, file: DetectionFile, found: Mapping[int, PhotoBoxes], used: set[str]) -> None:
    counts = Counter(min(seen.n_boxes, 2) for seen in found.values())
    logger.info(
        "Detections: %d photos with one animal, %d with several, %d with none, %d without an entry that can be used; "
        "%d entries are of photos that are not there",
        counts[1],
        counts[2],
        counts[0],
        len(catalogue) - len(found),
        len({photo.file for photo in file.photos} - used),
    )
    if file.skipped:
        logger.warning("%d detections cannot be used; the first: %s", len(file.skipped), file.skipped[0])
