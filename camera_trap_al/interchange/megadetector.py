"""Detections of MegaDetector, its file format 1.0 to 1.6: where in each photo there is an animal, a person, a vehicle.

The format is described at https://lila.science/megadetector-output-format. SpeciesNet, AddaxAI and other programs write
it too.
"""

import gc
import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from camera_trap_al.exceptions import DataError

__all__ = [
    "ANIMAL",
    "Box",
    "DetectedPhoto",
    "Detection",
    "DetectionFile",
    "SkippedDetection",
    "choose_detections",
    "format_version",
    "read_detections",
]

ANIMAL = "animal"  # as MegaDetector calls the category, and other programs expect it
OVERHANG = 0.005  # of a side of the photo; detectors round, and say so much beyond an edge

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Detection:
    """Something that was found in a photo.

    Attributes
    ----------
    entry, position
        Which entry of the file's ``images`` it is in, and which of its ``detections`` it is; both from 0, with those
        that are skipped counted.
    category
        Id of what it is, see `DetectionFile.categories`.
    confidence
        How sure the detector is, 0 to 1.
    box
        (x, y, width, height) in shares of the sides of the upright photo, x and y of the upper left corner; it lies
        within the photo.
    """

    entry: int
    position: int
    category: str
    confidence: float
    box: Box


@dataclass(frozen=True, slots=True)
class DetectedPhoto:
    """What a file says about one photo.

    Attributes
    ----------
    file
        Path of the photo, as the file has it.
    detections
        In the order of the file; none if the detector saw nothing, or could not read the photo.
    failure
        Why the detector could not read the photo; "" if it could.
    """

    file: str
    detections: tuple[Detection, ...]
    failure: str = ""


@dataclass(frozen=True)
class SkippedDetection:
    """A detection, or a whole entry of a photo, that cannot be used.

    Attributes
    ----------
    file
        Path of the photo, as the file has it; "" if it is the path that is wrong.
    entry, position
        As those of a `Detection`; `position` is None for a whole entry.
    reason
        What is wrong with it.
    """

    file: str
    entry: int
    position: int | None
    reason: str

    def __str__(self) -> str:
        what = "" if self.position is None else f", detection {self.position + 1}"
        return f"{self.file or f'entry {self.entry + 1}'}{what}: {self.reason}"


@dataclass(frozen=True, eq=False)
class DetectionFile:
    """A file of detections.

    Attributes
    ----------
    path
        Where it lies.
    content
        All that is in it, as JSON has it. Not to be changed.
    categories
        Name by id of what can be detected.
    photos
        One for each entry of a photo, in the order of the file.
    skipped
        What cannot be used, in the order of the file.
    n_videos
        How many entries are of videos; these are passed over.
    """

    path: Path
    content: Mapping[str, Any]
    categories: Mapping[str, str]
    photos: tuple[DetectedPhoto, ...]
    skipped: tuple[SkippedDetection, ...]
    n_videos: int

    def category_ids(self, names: Collection[str] = (ANIMAL,)) -> frozenset[str]:
        """Give the ids of all categories with one of these names, in whatever case.

        Raises
        ------
        DataError
            If there is no such category.
        """
        wanted = {name.casefold() for name in names}
        found = frozenset(each for each, name in self.categories.items() if name.casefold() in wanted)
        if not found:
            there = ", ".join(self.categories.values()) or "none at all"
            raise DataError(
                f"{self.path}: no category in this file is called {' or '.join(sorted(names))}; it has: {there}. "
                "If one of these means animals, give it that name in the file, under detection_categories.",
                self.path,
            )
        return found


def choose_detections(
    detections: Iterable[Detection], category_ids: Collection[str], threshold: float
) -> list[Detection]:
    """Pick detections of some categories that have at least this confidence.

    Returns
    -------
    The most confident first; of equally confident ones the first in the file.
    """
    chosen = (each for each in detections if each.confidence >= threshold and each.category in category_ids)
    return sorted(chosen, key=lambda each: -each.confidence)


def read_detections(path: Path) -> DetectionFile:
    """Read a file of MegaDetector's format, any version from 1.0.

    What is wrong with a single detection or photo ends up in `DetectionFile.skipped`. A box that reaches beyond the
    photo by a rounding error is cut off there.

    Raises
    ------
    DataError
        If it cannot be read, or is another kind of file.
    """
    with _no_search_for_garbage():
        content = _checked(path, _parsed(path))
        categories = {each: str(name) for each, name in content["detection_categories"].items()}
        photos: list[DetectedPhoto] = []
        skipped: list[SkippedDetection] = []
        n_videos = 0
        for entry, written in enumerate(content["images"]):
            if not isinstance(written, dict) or not isinstance(written.get("file"), str) or not written["file"]:
                skipped.append(SkippedDetection("", entry, None, 'it does not name its photo ("file")'))
            elif _is_video(written):
                n_videos += 1
            else:
                photos.append(_read_photo(entry, written, categories, skipped))
    return DetectionFile(path, content, categories, tuple(photos), tuple(skipped), n_videos)


@contextmanager
def _no_search_for_garbage() -> Iterator[None]:
    """Keep Python from looking through the millions of objects of a large file again and again while they are made.

    None of them is garbage, and the search takes twice as long as the reading itself.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _parsed(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())  # of bytes, it finds out the encoding, and whether a mark precedes them
    except OSError as error:
        raise DataError(
            f"{path}: the detections cannot be read ({error.strerror or error}). Look whether the file is there under "
            "this name and may be read.",
            path,
        ) from error
    except (ValueError, RecursionError) as error:
        raise _refusal(path, f"it is no JSON ({error or type(error).__name__})") from error


def _refusal(path: Path, why: str, advice: str = "") -> DataError:
    advice = advice or (
        "Give the .json file that MegaDetector, SpeciesNet or AddaxAI wrote for these photos; if this is that file, it "
        "is damaged: copy it again."
    )
    return DataError(f"{path}: this is no file of MegaDetector's detections: {why}. {advice}", path)


OTHER_FORMAT_ADVICE = (
    "Timelapse cannot read that either. Have the program write the format of MegaDetector, which PytorchWildlife calls "
    "its Timelapse format, or run MegaDetector itself."
)


def _checked(path: Path, content: object) -> dict[str, Any]:
    if isinstance(content, list):
        raise _refusal(path, "it is a bare list, as PytorchWildlife writes it", OTHER_FORMAT_ADVICE)
    if not isinstance(content, dict):
        raise _refusal(path, "it holds no list of photos")
    version = format_version(content)
    if version is not None and version[0] > 1:
        raise DataError(
            f"{path}: this file has the format {'.'.join(map(str, version))}, and only 1.0 to 1.6 are known. Update "
            "camera_trap_al, or have the detections written in format 1.",
            path,
        )
    if not isinstance(content.get("images"), list):
        if "annotations" in content:
            raise _refusal(path, "its boxes are annotations, as PytorchWildlife writes them", OTHER_FORMAT_ADVICE)
        raise _refusal(path, 'it holds no list of photos ("images")')
    if not isinstance(content.get("detection_categories"), dict):
        raise _refusal(path, 'it does not say what was detected ("detection_categories")')
    return content


def format_version(content: Mapping[str, Any]) -> tuple[int, int] | None:
    """Tell the version that a file gives as a text or a number, such as (1, 6); None if it gives none."""
    info = content.get("info")
    written = str(info.get("format_version", "")) if isinstance(info, dict) else ""
    parts = re.fullmatch(r"\s*(\d+)(?:\.(\d+))?(?:\.\d+)*\s*", written)
    return (int(parts[1]), int(parts[2] or 0)) if parts else None


def _is_video(written: Mapping[str, Any]) -> bool:
    if written.get("frame_rate") is not None:
        return True
    detections = written.get("detections")
    return isinstance(detections, list) and any(
        isinstance(each, dict) and "frame_number" in each for each in detections
    )


def _read_photo(
    entry: int, written: Mapping[str, Any], categories: Mapping[str, str], skipped: list[SkippedDetection]
) -> DetectedPhoto:
    file, listed, failure = written["file"], written.get("detections"), written.get("failure")
    if not isinstance(listed, list):
        return DetectedPhoto(file, (), str(failure or "its entry has no list of detections"))
    detections = []
    for position, each in enumerate(listed):
        try:
            detections.append(_read_detection(entry, position, each, categories))
        except ValueError as error:
            skipped.append(SkippedDetection(file, entry, position, str(error)))
    return DetectedPhoto(file, tuple(detections), str(failure or ""))


def _read_detection(entry: int, position: int, written: object, categories: Mapping[str, str]) -> Detection:
    if not isinstance(written, dict):
        raise ValueError("it is not made of names and values")
    category = str(written.get("category"))
    if category not in categories:
        raise ValueError(f"its category {category!r} is not in the file's list of categories")
    confidence = _number(written.get("conf"), "its confidence")
    if not 0 <= confidence <= 1:
        raise ValueError(f"its confidence does not lie between 0 and 1: {confidence}")
    return Detection(entry, position, category, confidence, _box(written.get("bbox")))


def _number(written: object, what: str) -> float:
    if isinstance(written, float) and math.isfinite(written):
        return written
    if isinstance(written, int) and not isinstance(written, bool) and abs(written) < 2**53:
        return float(written)
    raise ValueError(f"{what} is no number: {written!r}")


def _box(written: object) -> Box:
    if not isinstance(written, list) or len(written) != 4:
        raise ValueError(f"its box is not made of four numbers: {written!r}")
    x, y, width, height = (_number(each, "a number of its box") for each in written)
    if min(x, y) < -OVERHANG or max(x + width, y + height) > 1 + OVERHANG:
        raise ValueError(f"its box lies outside the photo, if in shares of its sides: {written}")
    x, width = _cut_off(x, width)
    y, height = _cut_off(y, height)
    if width <= 0 or height <= 0:
        raise ValueError(f"its box has no area: {written}")
    return x, y, width, height


def _cut_off(start: float, length: float) -> tuple[float, float]:
    if start >= 0 and start + length <= 1:
        return start, length
    return max(start, 0.0), min(start + length, 1.0) - max(start, 0.0)
