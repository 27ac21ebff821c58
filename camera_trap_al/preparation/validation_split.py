"""Sites or sequences of labelled photos that are kept out of the training, where nobody has validation photos."""

import logging
from dataclasses import replace

import numpy as np

from camera_trap_al.exceptions import DataError
from camera_trap_al.photos.catalogue import Catalogue
from camera_trap_al.pools import IndexArray, Role
from camera_trap_al.run_store import RunStore
from camera_trap_al.run_store.label_archive import keep_held_out
from camera_trap_al.run_store.place_table import HELD_OUT_FROM, hold_out
from camera_trap_al.statistics.out_of_fold import folds_by_group

__all__ = ["choose_held_out", "hold_out_for_validation", "n_shared_sequences", "warn_of_shared_sequences"]

logger = logging.getLogger(__name__)

ADVICE = {
    "site": "Put the training photos into a folder for each site below the folder of their class, name them with "
    "sites= or site_level=, or use validation_split='sequence'.",
    "sequence": "If file names tell the sequence, say how with sequence_pattern; if the files still have the time at "
    "which the photos were taken, use photo_times='file'.",
}
N_PARTS = 5  # of the labelled photos, of which one is held out


def hold_out_for_validation(store: RunStore, catalogue: Catalogue) -> Catalogue:
    """Keep sites or sequences out of the training, as `validation_split` says: chosen when the run begins.

    All photos of them are kept out, also those that come later or have no label. Those that have one are validation
    photos. A photo that a start has taken in stays where it is, whatever sites and sequences are called later.

    Raises
    ------
    DataError
        If no site or sequence can be spared.
    """
    split, pools, decided = store.config.validation_split, catalogue.pools, store.recall(HELD_OUT_FROM)
    if split is None:
        return catalogue
    groups = _groups_of(catalogue, split)
    is_held_out = pools.is_held_out.copy()
    if decided is None and not is_held_out.any():
        is_held_out[_chosen(store, catalogue, split, groups)] = True
        decided = 0
    elif decided is None:  # a run of a version that did not note it
        decided = len(catalogue)
    is_new = np.arange(len(catalogue)) >= decided
    is_held_out |= is_new & (groups >= 0) & np.isin(groups, groups[is_held_out])
    with store.transaction() as db:
        keep_held_out(store.folder, hold_out(db, np.flatnonzero(is_held_out & ~pools.is_held_out)))
    return replace(catalogue, pools=replace(pools, is_held_out=is_held_out))


def _groups_of(catalogue: Catalogue, split: str) -> IndexArray:
    """(n_rows,) numbers, equal for photos of one site or sequence, -1 for those of which it is not known."""
    if split == "sequence":
        return np.full(len(catalogue), -1) if catalogue.sequences is None else catalogue.sequences
    names, numbers = np.unique(catalogue.sites, return_inverse=True)
    return np.where(names[numbers] == "", -1, numbers)


def _chosen(store: RunStore, catalogue: Catalogue, split: str, groups: IndexArray) -> IndexArray:
    """Rows of the labelled photos to hold out, ascending."""
    pools = catalogue.pools
    rows = pools.labelled[groups[pools.labelled] >= 0]
    rows = rows[(pools.roles[rows] == Role.TRAIN) | pools.is_initial[rows]]
    seed = int(store.config.generator("validation split", 0).integers(2**31))
    chosen: IndexArray = rows[choose_held_out(pools.targets[rows], groups[rows], seed)]
    if not len(chosen):
        raise DataError(_why_none(split, len(pools.labelled), groups[rows]))
    logger.info(
        "%d labelled photos of %d %ss are kept out of the training and measure the model",
        len(chosen),
        len(np.unique(groups[chosen])),
        split,
    )
    return chosen


def choose_held_out(targets: IndexArray, groups: IndexArray, seed: int) -> IndexArray:
    """Choose whole groups that hold about a fifth of the photos, with as many classes on both sides as possible.

    Parameters
    ----------
    targets
        (n,) class ids of the labelled photos.
    groups
        (n,) numbers, equal for photos of one site or sequence.
    seed
        Decides how the groups are dealt to five parts, of which the best is taken.

    Returns
    -------
    Positions of the photos to hold out, ascending. A group without which a class would have no photo to learn from is
    not among them, so that there may be few or none.
    """
    parts = folds_by_group(targets, groups, seed, N_PARTS)

    def quality(part: tuple[IndexArray, IndexArray]) -> tuple[int, int, float]:
        learnt, held_out = (np.unique(targets[rows]) for rows in part)
        size = abs(len(part[1]) / len(targets) - 1 / N_PARTS)
        return len(learnt), len(np.intersect1d(learnt, held_out)), -size

    held_out = max(parts, key=quality)[1] if parts else np.zeros(0, np.int64)
    lost = np.setdiff1d(targets, np.delete(targets, held_out))
    needed = groups[np.isin(targets, lost)]
    return held_out[~np.isin(groups[held_out], needed)]


def n_shared_sequences(catalogue: Catalogue, tested: IndexArray) -> int:
    """Count the sequences that have photos among those that test the model and among those that it learns from."""
    if catalogue.sequences is None:
        return 0
    shared = np.intersect1d(catalogue.sequences[tested], catalogue.sequences[catalogue.pools.labelled])
    return int(np.count_nonzero(shared >= 0))


def warn_of_shared_sequences(catalogue: Catalogue) -> None:
    """Warn of a validation folder whose photos are nearly the same as some of the training."""
    n_shared = n_shared_sequences(catalogue, catalogue.pools.validation)
    if n_shared:
        logger.warning(
            "%d sequences have photos both in validation_data and in the training photos: the model is tested on what "
            "it has nearly seen, and its figures flatter. Keep all photos of a sequence, better of a site, together.",
            n_shared,
        )


def _why_none(split: str, n_labelled: int, groups: IndexArray) -> str:
    """Say why nothing can be held out of so many labelled photos, of which the groups of some are known."""
    n_groups = len(np.unique(groups))
    if n_groups:
        plural = "s" if n_groups > 1 else ""
        what = f"the {len(groups)} labelled photos whose {split} is known are of {n_groups} {split}{plural}"
    else:
        what = f"of none of the {n_labelled} labelled photos the {split} is known"
    if n_groups > 1:
        what += ", and none of them can be spared: each holds all photos of some class, or most of those of a class"
    return (
        f"validation_split={split!r} keeps {split}s out of the training whose classes are at other {split}s too, but "
        f"{what}. {ADVICE[split]} Give validation_data, or leave validation_split out: then an audit measures the "
        "model."
    )
