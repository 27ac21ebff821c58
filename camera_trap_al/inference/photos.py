"""Which photos a model is applied to."""

import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from os.path import commonpath
from pathlib import Path
from typing import Any

from camera_trap_al.exceptions import ConfigError, DataError
from camera_trap_al.interchange.megadetector import Detection, DetectionFile, choose_detections
from camera_trap_al.interchange.megadetector_paths import MatchedDetections, match_detections
from camera_trap_al.photos.folders import NOT_TEXT, PHOTO_SUFFIXES, is_text, scan_folder
from camera_trap_al.photos.images import Box
from camera_trap_al.rules import answers_yes

__all__ = ["Images", "PhotoSet", "PhotoToClassify", "common_folder", "find_photos", "was_there", "with_detections"]

logger = logging.getLogger(__name__)

NO_ANIMAL = "no animal was detected"
NO_ENTRY = "the detection file has no entry of the photo"
UNREADABLE_TO_DETECTOR = "the detector could not read the photo"
UNUSABLE_DETECTION = "what was detected cannot be used"

Images = str | PathLike[str] | Iterable[str | PathLike[str]]
"""A folder of photos, or the photos themselves."""


@dataclass(frozen=True)
class PhotoToClassify:
    """A photo, or parts of it.

    Attributes
    ----------
    name
        What the photo is called in the results: its path, separated by ``/``.
    path
        Where it lies.
    boxes
        The parts; None stands for the whole photo.
    """

    name: str
    path: Path
    boxes: tuple[Box, ...] | None = None

    def state(self) -> str:
        """Give what is looked at as text: the boxes, and the size and time of change of the file as it is now."""
        try:
            status = self.path.stat()
        except OSError:
            return json.dumps([self.boxes, None, None])
        # Whole seconds: what copies and other file systems make of a time differs in its fractions.
        return json.dumps([self.boxes, status.st_size, int(status.st_mtime)])


def was_there(state: str) -> bool:
    """Say whether the file was there when it was looked at, by what `PhotoToClassify.state` gave then."""
    _, size, _ = json.loads(state)
    return size is not None


@dataclass(frozen=True)
class PhotoSet(Sequence[PhotoToClassify]):
    """Photos that a model is applied to, in the order of the results.

    Attributes
    ----------
    root
        The folder that the names are relative to; where a name is absolute, it does not matter.
    names
        Path of each photo, separated by ``/``.
    detections
        What is classified of each photo, by name, nothing where a photo is missing; None if all are taken whole.
    doubts
        Why a photo with nothing to classify may show an animal all the same, by name.
    """

    root: Path
    names: Sequence[str]
    detections: Mapping[str, Sequence[Detection]] | None = None
    doubts: Mapping[str, str] = field(default_factory=dict)

    def why_nothing(self, name: str) -> str:
        """Say why there is nothing to classify of a photo."""
        return self.doubts.get(name, NO_ANIMAL)

    def part(self, number: int, of: int) -> "PhotoSet":
        """Give one of `of` parts of nearly the same size, of photos that follow each other; `number` is from 1."""
        begin, end = (len(self.names) * position // of for position in (number - 1, number))
        return replace(self, names=self.names[begin:end])

    def __getitem__(self, position: Any) -> Any:
        name = self.names[position]
        path = self.root / name
        if self.detections is None:
            return PhotoToClassify(name, path)
        return PhotoToClassify(name, path, tuple(each.box for each in self.detections.get(name, ())))

    def __len__(self) -> int:
        return len(self.names)


def find_photos(images: Images) -> PhotoSet:
    """List photos.

    Parameters
    ----------
    images
        A folder, of which every photo at any depth is taken, in the order of their names; or paths, whose order is
        kept: they are named as they are given.

    Raises
    ------
    ConfigError
        If a path is given twice or is that of a folder, the one path given is a file, or something is no path.
    DataError
        If the folder cannot be listed, or there is no photo.
    """
    if not isinstance(images, str | PathLike):
        return _listed(_paths(images))
    folder = Path(images).expanduser().absolute()
    if folder.is_file():
        raise ConfigError(
            f"images must be a folder, or a list of photos; got the file {str(images)!r}. For one photo, give a list "
            "with that file alone."
        )
    found = scan_folder(folder, top_level=True)
    if NOT_TEXT in found.skipped:
        message = "%d files or folders %s in %s are left out. Rename them."
        logger.warning(message, found.skipped[NOT_TEXT], NOT_TEXT, folder)
    if found.skipped:
        kinds = ", ".join(f"{n} {suffix or 'without a suffix'}" for suffix, n in sorted(found.skipped.items()))
        logger.info("Files of other kinds in %s are passed over: %s", folder, kinds)
    if not found.photos:
        others = sum(found.skipped.values())
        raise DataError(
            f"{folder}: there is no photo in this folder, nor in the folders within it"
            + (f", only {others} files of other kinds" if others else "")
            + f". Photos are files that end in {', '.join(sorted(PHOTO_SUFFIXES))}.",
            folder,
        )
    return PhotoSet(folder, found.photos)


def _paths(images: Any) -> list[Path]:
    try:
        return [Path(image) for image in images]
    except TypeError as error:
        raise ConfigError(f"images must be a folder, or a list of paths of photos; got {images!r}.") from error


def _listed(paths: Sequence[Path]) -> PhotoSet:
    names = tuple(path.as_posix() for path in paths)
    if not names:
        raise DataError("images: the list is empty, so there is no photo to name the species of.")
    (path, times), *_ = Counter(path.absolute() for path in paths).most_common(1)
    if times > 1:
        raise ConfigError(f"images must list each photo once; got {str(path)!r} {times} times. Leave out the others.")
    unwritable = [name for name in names if not is_text(name)]
    if unwritable:
        raise ConfigError(
            f"images: no table can hold the name of {unwritable[0]!r}, as it is no text. Rename the file."
        )
    others = (path for path in paths if path.suffix.lower() not in PHOTO_SUFFIXES)
    folders = [path.as_posix() for path in others if answers_yes(path.is_dir)]
    if folders:
        raise ConfigError(
            f"images must be one folder, or a list of photos; {folders[0]!r} in the list is a folder. Give the folder "
            "that all photos lie in, or call once for each folder, each time with another output_dir."
        )
    return PhotoSet(Path.cwd(), names)


def with_detections(photos: PhotoSet, file: DetectionFile, threshold: float) -> PhotoSet:
    """Have the animals in a detection file classified instead of whole photos; tell what goes with nothing.

    Parameters
    ----------
    photos
        The photos that the file may be about.
    file
        The detections.
    threshold
        Confidence from which on a detection is classified.

    Raises
    ------
    DataError
        If no detection in the file is called an animal, it lists no photo, no entry is of one of the photos, or nothing
        tells which photos are meant.
    """
    if not file.content["images"]:
        raise DataError(
            f"{file.path}: the file lists no photo. Look whether the detector was given the folder of the photos, and "
            "whether it came to its end.",
            file.path,
        )
    animals = file.category_ids()
    matched = _matched(photos, file)
    if not matched.by_photo and len(photos):
        raise DataError(f"{file.path}: none of its entries is of one of the photos. {matched}", file.path)
    logger.info("%s", matched)
    if file.skipped:
        logger.warning(
            "%d detections cannot be used and are skipped; the first: %s", len(file.skipped), file.skipped[0]
        )
    chosen = {name: choose_detections(photo.detections, animals, threshold) for name, photo in matched.by_photo.items()}
    doubts = {name: why for name, why in _doubts(file, matched) if not chosen.get(name)}
    for why, n_photos in Counter(doubts.values()).items():
        logger.warning("%d photos are not looked at, so that an animal in them is missed: %s", n_photos, why)
    return replace(photos, detections=chosen, doubts=doubts)


def _matched(photos: PhotoSet, file: DetectionFile) -> MatchedDetections:
    """Match the names of photos; absolute ones as paths relative to the folder that all of them are in."""
    folder = common_folder(photos)
    if folder is None:
        return match_detections(file, photos.names, photos.root)
    names = {(photos.root / name).relative_to(folder).as_posix(): name for name in photos.names}
    matched = match_detections(file, tuple(names), folder)
    return replace(
        matched,
        by_photo={names[photo]: entry for photo, entry in matched.by_photo.items()},
        without_entry=tuple(names[photo] for photo in matched.without_entry),
    )


def common_folder(photos: PhotoSet) -> Path | None:
    """Give the innermost folder that all photos are in; None if no name is absolute, or they are on several drives."""
    if not any(Path(name).is_absolute() for name in photos.names):
        return None
    try:
        return Path(commonpath([(photos.root / name).parent for name in photos.names]))
    except ValueError:
        return None


def _doubts(file: DetectionFile, matched: MatchedDetections) -> Iterator[tuple[str, str]]:
    """Name photos that a detector may have missed an animal in, and why."""
    yield from ((name, NO_ENTRY) for name in matched.without_entry)
    with_unusable = {each.file for each in file.skipped}
    for name, photo in matched.by_photo.items():
        if photo.failure:
            yield name, UNREADABLE_TO_DETECTOR
        elif photo.file in with_unusable:
            yield name, UNUSABLE_DETECTION
