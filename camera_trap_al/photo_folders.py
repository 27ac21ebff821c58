"""Find the photos of the data folders and give each a row."""

import filecmp
import os
import stat
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from camera_trap_al.exceptions import DataError
from camera_trap_al.interchange.timelapse import FOLDERS_MADE_BY_TIMELAPSE
from camera_trap_al.pools import UNLABELLED, Pools, Role

__all__ = [
    "PHOTO_SUFFIXES",
    "RESERVED_CLASS_NAMES",
    "Catalogue",
    "FolderScan",
    "class_of",
    "new_catalogue",
    "scan_data_folders",
    "scan_folder",
]

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"})  # torchvision's
RESERVED_CLASS_NAMES = frozenset({"unlabelled", "skip", "unusable"})


@dataclass(frozen=True)
class FolderScan:
    """What lies in one data folder.

    Attributes
    ----------
    root
        The data folder.
    photos
        Every usable photo as a path relative to `root`, separated by ``/``, sorted.
    folders
        The folders directly in `root`, sorted. In the training folder these are the classes, empty ones included.
    skipped
        How many other files there are, by suffix in lower case ("" for none).
    n_top_level
        Photos directly in `root`, which belong to no folder and are ignored.
    """

    root: Path
    photos: tuple[str, ...]
    folders: tuple[str, ...]
    skipped: Mapping[str, int]
    n_top_level: int


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
    """

    roots: Mapping[Role, Path]
    classes: tuple[str, ...]
    paths: Sequence[str]
    pools: Pools

    def __len__(self) -> int:
        return len(self.paths)

    def path(self, row: int) -> Path:
        """Where the photo of `row` lies now."""
        return self.roots[Role(self.pools.roles[row])] / self.paths[row]


def class_of(path: str) -> str:
    """Name the class of a labelled photo: its top-level folder."""
    return path.partition("/")[0]


def scan_folder(root: Path, *, run_dir: Path | None = None) -> FolderScan:
    """List the photos of one data folder, as torchvision's ``ImageFolder`` would.

    Photos may lie at any depth below the top-level folders. Hidden files and folders, the folders that Timelapse makes
    and the run folder are passed over.

    Parameters
    ----------
    root
        The data folder.
    run_dir
        A folder to pass over, because it holds the run's own pictures.

    Raises
    ------
    DataError
        If the folder cannot be listed.
    """
    photos: list[str] = []
    skipped: Counter[str] = Counter()
    try:
        with os.scandir(root) as entries:
            folders = sorted(entry.name for entry in entries if _is_data_folder(entry, run_dir))
        for path in _walk(root, run_dir):
            suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122  a million paths: no objects for each
            if suffix in PHOTO_SUFFIXES:
                photos.append(path)
            else:
                skipped[suffix] += 1
    except OSError as error:
        raise DataError(f"{root}: the folder cannot be read ({error.strerror}).", root) from error
    in_folders = sorted(path for path in photos if "/" in path)
    return FolderScan(root, tuple(in_folders), tuple(folders), dict(skipped), len(photos) - len(in_folders))


def _walk(root: Path, run_dir: Path | None) -> Iterator[str]:
    linked_folders: set[str] = set()
    pending = [("", str(root))]
    while pending:
        prefix, folder = pending.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.is_dir():
                    if not _is_hidden(entry):
                        yield prefix + entry.name
                elif _is_data_folder(entry, run_dir) and not _was_seen(entry, linked_folders):
                    pending.append((f"{prefix}{entry.name}/", entry.path))


def _is_data_folder(entry: os.DirEntry[str], run_dir: Path | None) -> bool:
    if not entry.is_dir() or _is_hidden(entry) or entry.name.casefold() in FOLDERS_MADE_BY_TIMELAPSE:
        return False
    return run_dir is None or entry.name != run_dir.name or Path(entry.path).resolve() != run_dir.resolve()


def _is_hidden(entry: os.DirEntry[str]) -> bool:
    if entry.name.startswith("."):
        return True
    attributes = getattr(entry.stat(), "st_file_attributes", 0) if os.name == "nt" else 0
    return bool(attributes & stat.FILE_ATTRIBUTE_HIDDEN)


def _was_seen(entry: os.DirEntry[str], linked_folders: set[str]) -> bool:
    """Remember folders reached through a link, so that a link to a parent does not go round for ever."""
    if not entry.is_symlink():
        return False
    target = os.path.realpath(entry.path)
    if target in linked_folders:
        return True
    linked_folders.add(target)
    return False


def scan_data_folders(
    train_data: Path, unlabelled_data: Path | None, validation_data: Path | None, *, run_dir: Path | None = None
) -> dict[Role, FolderScan]:
    """Scan the data folders that are given and check that they go together.

    Raises
    ------
    DataError
        If a class has a reserved name, no photo is labelled, the unlabelled folder has no photo, a validation class is
        not a training class, or one photo lies in two data sets.
    """
    folders = {Role.TRAIN: train_data, Role.UNLABELLED: unlabelled_data, Role.VALIDATION: validation_data}
    scans = {role: scan_folder(root, run_dir=run_dir) for role, root in folders.items() if root is not None}
    _check_classes(scans)
    _check_photos(scans)
    return scans


def _check_classes(scans: Mapping[Role, FolderScan]) -> None:
    train = scans[Role.TRAIN]
    reserved = [name for name in train.folders if name.casefold() in RESERVED_CLASS_NAMES]
    if reserved:
        raise DataError(
            f"{train.root}: a class cannot be named {_listed(reserved)}, since the label files use that word for "
            "something else. Rename the folder.",
            train.root,
        )
    if Role.VALIDATION in scans:
        validation = scans[Role.VALIDATION]
        unknown = sorted(set(validation.folders) - set(train.folders))
        if unknown:
            raise DataError(
                f"{validation.root}: the validation folder has {_listed(unknown)}, which train_data does not have. Use "
                f"the same folder names in both (train_data has {_listed(train.folders)}), or add an empty folder of "
                "that name to train_data if the class is right but has no photo yet.",
                validation.root,
            )


def _check_photos(scans: Mapping[Role, FolderScan]) -> None:
    for role, scan in scans.items():
        if not scan.photos:
            beside = f" {scan.n_top_level} lie directly in it, which belongs to no folder;" if scan.n_top_level else ""
            raise DataError(
                f"{scan.root}: {role.argument} has no photo in a subfolder.{beside} photos must lie in subfolders"
                f"{'' if role is Role.UNLABELLED else ' named by class'}, as {', '.join(sorted(PHOTO_SUFFIXES))}.",
                scan.root,
            )
    shared = list(_shared_photos(scans))
    if shared:
        shown = "".join(f"\n  - {first} and {second}" for first, second in shared[:10])
        raise DataError(
            f"{len(shared)} photos lie in two data sets, so that the model would be tested on, or asked about, what it "
            f"was taught. Remove one of each two:{shown}" + ("\n  - ..." if len(shared) > 10 else "")
        )


def _shared_photos(scans: Mapping[Role, FolderScan]) -> Iterator[tuple[Path, Path]]:
    """Pairs of paths in different data sets that are one photo: the same file, or files of equal name and content."""
    roles = sorted(scans, key=lambda role: len(scans[role].photos))
    for index, first_role in enumerate(roles):
        by_name = _by_name(scans[first_role])
        for second_role in roles[index + 1 :]:
            second = scans[second_role]
            for path in second.photos:
                for first_path in by_name.get(path.rpartition("/")[2], ()):
                    if _same_file(first_path, second.root / path):
                        yield first_path, second.root / path


def _by_name(scan: FolderScan) -> dict[str, list[Path]]:
    by_name: dict[str, list[Path]] = {}
    for path in scan.photos:
        by_name.setdefault(path.rpartition("/")[2], []).append(scan.root / path)
    return by_name


def _same_file(first: Path, second: Path) -> bool:
    try:
        return filecmp.cmp(first, second, shallow=False)
    except OSError:  # unreadable: found and listed when it is decoded
        return False


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


def _listed(names: Collection[str]) -> str:
    return ", ".join(repr(name) for name in names)
