"""Every photo of a run by row: where it lies, what is known of it, and which photos are likely to be alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from camera_trap_al.interchange.other_boxes import OtherBoxes
from camera_trap_al.photos.folders import FolderScan
from camera_trap_al.pools import UNLABELLED, IndexArray, Pools, Role

__all__ = ["Catalogue", "PhotoBoxes", "class_of", "groups_of", "new_catalogue"]


class PhotoBoxes(NamedTuple):
    """What a detector saw in a photo.

    Attributes
    ----------
    box
        The surest animal as (x, y, width, height) in shares of the photo's sides, see `images.Box`; None if none is
        sure enough.
    n_boxes
        Animals that are sure enough.
    surest
        The highest confidence of any animal, 0 to 1; 0 without any.
    """

    box: tuple[float, ...] | None
    n_boxes: int
    surest: float


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Every photo of a run by row.

    Attributes
    ----------
    roots
        The folder of each data set.
    classes
        Class names by class id.
    paths
        (n_rows,) the photo of each row, relative to the folder of its data set, separated by ``/``.
    pools
        Role, class and usability of each row. Labels given later are written into `pools.targets`.
    sequences
        (n_rows,) numbers, equal for photos of one burst, -1 for photos of which nothing is known; None if that is so
        for most of them.
    sites
        (n_rows,) where each photo was taken, "" where that is not known; empty if nobody has looked.
    boxes
        What a detector saw, by row, for photos that it looked at.
    other_boxes
        All else that it saw in photos of the unlabelled folder; None if its file was not read at this start.
    """

    roots: Mapping[Role, Path]
    classes: tuple[str, ...]
    paths: Sequence[str]
    pools: Pools
    sequences: IndexArray | None = None
    sites: Sequence[str] = ()
    boxes: Mapping[int, PhotoBoxes] = field(default_factory=dict)
    other_boxes: OtherBoxes | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def path(self, row: int) -> Path:
        """Where the photo of `row` lies now."""
        return self.roots[Role(self.pools.roles[row])] / self.paths[row]

    def box(self, row: int) -> tuple[float, ...] | None:
        """Where the animal is in the photo of `row`, see `images.Box`; None: all of the photo counts."""
        seen = self.boxes.get(row)
        return None if seen is None else seen.box


def new_catalogue(scans: Mapping[Role, FolderScan]) -> Catalogue:
    """Give every scanned photo a row: training, unlabelled and validation photos in this order, each by path."""
    classes = scans[Role.TRAIN].folders
    class_ids = {name: class_id for class_id, name in enumerate(classes)}
    paths: list[str] = []
    roles: list[int] = []
    targets: list[int] = []
    for role in sorted(scans):
        photos = scans[role].photos
        paths += photos
        roles += [role] * len(photos)
        targets += [UNLABELLED if role is Role.UNLABELLED else class_ids[class_of(path)] for path in photos]
    pools = Pools(np.array(roles, np.int8), np.array(targets, np.int64), np.zeros(len(paths), np.bool_))
    return Catalogue({role: scan.root for role, scan in scans.items()}, classes, paths, pools)


def class_of(path: str) -> str:
    """Name the class of a labelled photo: its top-level folder."""
    return path.partition("/")[0]


def groups_of(catalogue: Catalogue, rows: IndexArray) -> IndexArray:
    """Tell which photos are likely to be alike: those of one sequence or, where these are not known, of one folder.

    A photo that lies directly in the folder of its class is a group of its own: that folder says what it shows, not
    where it was taken.

    Parameters
    ----------
    catalogue
        The photos.
    rows
        (n,) rows.

    Returns
    -------
    (n,) numbers, equal for photos of one group.
    """
    roles, names = catalogue.pools.roles, []
    sequences = np.full(len(rows), -1) if catalogue.sequences is None else catalogue.sequences[rows]
    for row, sequence in zip(rows.tolist(), sequences.tolist(), strict=True):
        folder = catalogue.paths[row].rpartition("/")[0]
        is_class_folder = roles[row] != Role.UNLABELLED and "/" not in folder
        of_folder = f"{roles[row]}/{folder}/{row if is_class_folder else ''}"
        names.append(of_folder if sequence < 0 else f"sequence {sequence}")
    numbers: IndexArray = np.unique(names, return_inverse=True)[1].astype(np.int64)
    return numbers
