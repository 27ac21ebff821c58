"""Find the photos of the data folders, and see to it that the folders go together."""

import filecmp
import logging
import os
import stat
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations, permutations, product
from pathlib import Path

from camera_trap_al.exceptions import DataError
from camera_trap_al.interchange.timelapse import FOLDERS_MADE_BY_TIMELAPSE
from camera_trap_al.pools import Role

__all__ = [
    "NOT_TEXT",
    "PHOTO_SUFFIXES",
    "RESERVED_CLASS_NAMES",
    "RUN_DATABASE",
    "FolderScan",
    "is_text",
    "scan_data_folders",
    "scan_folder",
]

logger = logging.getLogger(__name__)

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"})  # torchvision's
RESERVED_CLASS_NAMES = frozenset({"unlabelled", "skip", "unusable"})
RUN_DATABASE = Path("data", "run.sqlite")  # what tells a run folder from a folder of photos
NOT_TEXT = "with a name that is no valid text"  # such a name fits into no CSV and no database


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
        How many other files there are, by suffix in lower case ("" for none). Files and top-level folders whose name
        is not valid Unicode are counted under `NOT_TEXT` whatever their suffix.
    n_top_level
        Photos directly in `root`, which belong to no folder and are ignored.
    """

    root: Path
    photos: tuple[str, ...]
    folders: tuple[str, ...]
    skipped: Mapping[str, int]
    n_top_level: int


def scan_folder(root: Path, *, top_level: bool = False) -> FolderScan:
    """List the photos of one data folder, as torchvision's ``ImageFolder`` would.

    Photos may lie at any depth below the top-level folders. Hidden files and folders, the folders that Timelapse makes
    and run folders, which hold pictures of their own, are passed over.

    Parameters
    ----------
    root
        The data folder.
    top_level
        Whether photos directly in `root` count as well.

    Raises
    ------
    DataError
        If the folder cannot be listed.
    """
    photos: list[str] = []
    skipped: Counter[str] = Counter()
    try:
        with os.scandir(root) as entries:
            folders = sorted(entry.name for entry in entries if _is_data_folder(entry))
        if not all(map(is_text, folders)):
            skipped[NOT_TEXT] = sum(not is_text(name) for name in folders)
            folders = [name for name in folders if is_text(name)]
        for path in _walk(root):
            suffix = os.path.splitext(path)[1].lower() if is_text(path) else NOT_TEXT  # noqa: PTH122  1e6 paths: no objects
            if suffix in PHOTO_SUFFIXES:
                photos.append(path)
            else:
                skipped[suffix] += 1
    except OSError as error:
        at_fault = Path(error.filename or root)
        raise DataError(
            f"{at_fault}: the folder cannot be read ({error.strerror}). Look whether its drive is connected, and "
            "whether you may read it, and start again with the same settings.",
            at_fault,
        ) from error
    usable = sorted(path for path in photos if top_level or "/" in path)
    return FolderScan(root, tuple(usable), tuple(folders), dict(skipped), len(photos) - len(usable))


def is_text(name: str) -> bool:
    """Tell whether a file name can be written into a CSV and a database: Linux allows any bytes in one."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _walk(root: Path) -> Iterator[str]:
    linked_folders: set[str] = set()
    pending = [("", str(root))]
    while pending:
        prefix, folder = pending.pop()
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)  # of two links to one folder the same always counts
        for entry in entries:
            if not entry.is_dir():
                if not _is_hidden(entry):
                    yield prefix + entry.name
            elif _is_data_folder(entry) and not _was_seen(entry, linked_folders):
                pending.append((f"{prefix}{entry.name}/", entry.path))


def _is_data_folder(entry: os.DirEntry[str]) -> bool:
    if not entry.is_dir() or _is_hidden(entry) or entry.name.casefold() in FOLDERS_MADE_BY_TIMELAPSE:
        return False
    try:
        return not Path(entry.path, RUN_DATABASE).exists()
    except PermissionError:  # told when the folder itself is looked into
        return True


def _is_hidden(entry: os.DirEntry[str]) -> bool:
    if entry.name.startswith("."):
        return True
    attributes = getattr(entry.stat(follow_symlinks=False), "st_file_attributes", 0) if os.name == "nt" else 0
    return bool(attributes & stat.FILE_ATTRIBUTE_HIDDEN)


def _was_seen(entry: os.DirEntry[str], linked_folders: set[str]) -> bool:
    """Tell links to a folder that they lie in, or that another link led to: followed, they could go round for ever."""
    if not entry.is_symlink():
        return False
    target = os.path.realpath(entry.path)
    if target in linked_folders or Path(entry.path).parent.resolve().is_relative_to(target):
        return True
    linked_folders.add(target)
    return False


def scan_data_folders(
    train_data: Path | None,
    unlabelled_data: Path | None,
    validation_data: Path | None,
    classes: Collection[str] = (),
    *,
    needs_training_photos: bool = True,
) -> dict[Role, FolderScan]:
    """Scan the data folders that are given and check that they go together.

    Photos in the top level of a folder are counted in a warning.

    Parameters
    ----------
    train_data, unlabelled_data, validation_data
        The folders; None where there is none.
    classes
        Names of classes besides the folders of the training data.
    needs_training_photos
        Whether a training folder without photos is refused.

    Raises
    ------
    DataError
        If a class has a reserved name, no photo is labelled, the unlabelled folder has no photo, a validation class is
        not a training class, or one photo lies in two data sets.
    """
    folders = {Role.TRAIN: train_data, Role.UNLABELLED: unlabelled_data, Role.VALIDATION: validation_data}
    scans = {role: scan_folder(root) for role, root in folders.items() if root is not None}
    for scan in scans.values():
        if scan.n_top_level:
            message = "%d photos lie directly in %s and are ignored; photos must lie in subfolders."
            logger.warning(message, scan.n_top_level, scan.root)
    _check_classes(scans, classes)
    _check_photos(scans, needs_training_photos)
    return scans


def _check_classes(scans: Mapping[Role, FolderScan], others: Collection[str]) -> None:
    train = scans.get(Role.TRAIN)
    folders = train.folders if train else ()
    reserved = [name for name in folders if name.casefold() in RESERVED_CLASS_NAMES]
    if train and reserved:
        raise DataError(
            f"{train.root}: a class cannot be named {_listed(reserved)}, since the label files use that word for "
            "something else. Rename the folder.",
            train.root,
        )
    if Role.VALIDATION in scans:
        validation = scans[Role.VALIDATION]
        known = {*folders, *others}
        unknown = sorted(set(validation.folders) - known)
        if unknown:
            way_out = "add an empty folder of that name to train_data" if train else "name it in classes=[...] too"
            raise DataError(
                f"{validation.root}: the validation folder has {_listed(unknown)}, which is no class of this run (the "
                f"classes are {_listed(sorted(known))}). Rename the folder, or {way_out} if the class is right but "
                "has no labelled photo yet.",
                validation.root,
            )


def _check_photos(scans: Mapping[Role, FolderScan], needs_training_photos: bool) -> None:
    for role, scan in scans.items():
        if not scan.photos and (needs_training_photos or role is not Role.TRAIN):
            beside = f" {scan.n_top_level} lie directly in it, which belongs to no folder." if scan.n_top_level else ""
            raise DataError(
                f"{scan.root}: {role.argument} has no photo in a subfolder.{beside} Photos must lie in subfolders"
                f"{'' if role is Role.UNLABELLED else ' named by class'}, as {', '.join(sorted(PHOTO_SUFFIXES))}.",
                scan.root,
            )
    shared = list(_shared_photos(scans))
    if shared and any(a.root.resolve().is_relative_to(b.root.resolve()) for a, b in permutations(scans.values(), 2)):
        places = "".join(f"\n  - {scan.root}" for scan in scans.values())
        raise DataError(f"One data folder is, or holds, another. Give others; remove no photo:{places}")
    if shared:
        shown = "".join(f"\n  - {first} and {second}" for first, second in shared[:10])
        raise DataError(
            f"{len(shared)} photos lie in two data sets, so that the model would be tested on, or asked about, what it "
            f"was taught. Remove one of each two:{shown}" + ("\n  - ..." if len(shared) > 10 else "")
        )


def _shared_photos(scans: Mapping[Role, FolderScan]) -> Iterator[tuple[Path, Path]]:
    """Pairs of paths in different data sets that are one photo: files of equal name and content, or one such file."""
    for first, second in combinations(scans.values(), 2):
        names = set(map(_name, first.photos)) & set(map(_name, second.photos))
        candidates = _by_name_and_size(first, names)
        for key, paths in _by_name_and_size(second, names).items():
            for path, other in product(candidates.get(key, ()), paths):
                if _same_content(path, other):
                    yield path, other


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _by_name_and_size(scan: FolderScan, names: Collection[str]) -> dict[tuple[str, int], list[Path]]:
    """Group the photos with one of `names`, looking at each once: a look takes long on a network drive."""
    groups: dict[tuple[str, int], list[Path]] = {}
    for path in scan.photos:
        if _name(path) in names:
            file = scan.root / path
            with suppress(OSError):  # unreadable: found and listed when it is decoded
                size = file.stat().st_size
                if size:  # empty files are all equal and no photos
                    groups.setdefault((_name(path), size), []).append(file)
    return groups


def _same_content(first: Path, second: Path) -> bool:
    try:
        return filecmp.cmp(first, second, shallow=False)
    except OSError:  # unreadable: found and listed when it is decoded
        return False


def _listed(names: Collection[str]) -> str:
    return ", ".join(repr(name) for name in names)
