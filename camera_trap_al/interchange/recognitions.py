r"""What the model thinks, in MegaDetector's format, for Timelapse's import of recognitions and for other programs.

How Timelapse takes these files, and what is done about it:

- It keeps one classification for each detection, the best one.
- It drops classifications below max(0.03, 0.4 x ``typical_classification_threshold``). That threshold is written as
  `TYPICAL_THRESHOLD`, so that everything from 0.03 on is shown; below, no file can help.
- It takes a file for a recognition of AddaxAI if a class is called as a detection category is. Such a class gets
  `CLASS_MARK` behind its name: ``animal (class)``.
- It passes over photos whose name does not end in ``.jpg`` or ``.jpeg``, without a word. They are in the file
  nevertheless, for other programs.
- ``classifications: null`` makes it refuse the file, so there is none.
- A photo that could not be read has the text ``failure``. It has no ``detections``: MegaDetector's validator refuses an
  empty list there, and Timelapse may stumble over null. So Timelapse shows it as Empty.

Texts are written with ASCII characters only, all others as JSON's ``\u00e9``: some programs of MegaDetector read the
file in the local encoding of Windows.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from camera_trap_al.files import written_aside
from camera_trap_al.interchange.megadetector import ANIMAL, Detection, DetectionFile, format_version
from camera_trap_al.interchange.other_boxes import OtherBox

__all__ = ["add_classifications", "write_recognitions"]

FORMAT_VERSION = "1.6"
OLDEST_VERSION = (1, 4)  # that a file with classifications is given
TYPICAL_THRESHOLD = 0.05
CLASS_MARK = " (class)"
DECIMALS = 4  # of probabilities
WHOLE_PHOTO = [0.0, 0.0, 1.0, 1.0]
NOTHING_FOUND: Mapping[str, tuple[Sequence[float], float]] = {}

Classifications = list[tuple[str, float]]
Rows = NDArray[Any] | Iterable[NDArray[Any]]


def nothing_else(_: str) -> Iterable[OtherBox]:
    """Know of no other boxes."""
    return ()


def write_recognitions(
    path: Path,
    photos: Iterable[str],
    classes: Sequence[str],
    class_ids: Rows,
    probabilities: Rows,
    *,
    info: Mapping[str, Any],
    unreadable: Iterable[tuple[str, str]] = (),
    found: Mapping[str, tuple[Sequence[float], float]] = NOTHING_FOUND,
    empty: Iterable[str] = (),
    others: Callable[[str], Iterable[OtherBox]] = nothing_else,
    categories: Sequence[str] = (),
    threshold: float = 0.5,
) -> None:
    """Write what the model thinks of whole photos, or of an animal in each.

    Each photo has one detection, an animal that fills it, or the one that a detector found, with the classes that it
    may be of; others that are known of stand behind it. The file is written whole or not at all, a photo a line; photos
    and rows are taken one by one as they are written.

    Parameters
    ----------
    path
        The file to write.
    photos
        (n,) paths relative to the folder that Timelapse opens, separated by ``/``.
    classes
        Class names by class id.
    class_ids, probabilities
        (n, k) the classes of each photo that are worth telling, and their probabilities, 0 to 1, in any order; or
        iterators over n such rows. Written sorted, the most probable first, without those that are 0 when rounded to
        four decimals (but never none at all) and those with a negative class id, which stands for no class.
    info
        What to say of the model, such as ``classifier`` and ``classification_completion_time``.
    unreadable
        Photos that could not be read, each with the reason.
    found
        Box and confidence of the animal of photos that a detector found one in, by path.
    empty
        Photos that a detector found no animal in; the model thinks nothing of them.
    others
        Gives further boxes of a photo by its path: the name of what a detector saw there, its confidence and its box.
    categories
        Names of what else than animals is among them.
    threshold
        Confidence from which on a detector's animals count, 0 to 1.

    Raises
    ------
    ValueError
        If a class is there twice, the numbers of photos and rows differ, or a probability is not within 0 to 1.
    RunFileError
        If the file cannot be written.
    """
    detected = {name: str(number) for number, name in enumerate((ANIMAL, *categories), start=1)}
    labels = _labels(classes, detected)
    content = {
        "info": {
            "detector": "that of the detections given" if found else "none: whole photos",
            **info,
            "format_version": FORMAT_VERSION,
            "detector_metadata": {
                "typical_detection_threshold": threshold,
                "conservative_detection_threshold": min(threshold, 0.05),
            },
            "classifier_metadata": {"typical_classification_threshold": TYPICAL_THRESHOLD},
        },
        "detection_categories": {category: name for name, category in detected.items()},
        "classification_categories": {str(class_id): label for class_id, label in enumerate(labels)},
        "images": [],
    }
    ids = list(content["classification_categories"])

    def beside(photo: str) -> list[dict[str, Any]]:
        return [_detection(detected[name], confidence, box) for name, confidence, box in others(photo)]

    entries = _entries(photos, ids, class_ids, probabilities, unreadable, found, empty, beside)
    _write(path, content, entries)


def _entries(
    photos: Iterable[str],
    ids: Sequence[str],
    class_ids: Rows,
    probabilities: Rows,
    unreadable: Iterable[tuple[str, str]],
    found: Mapping[str, tuple[Sequence[float], float]],
    empty: Iterable[str],
    beside: Callable[[str], list[dict[str, Any]]],
) -> Iterator[dict[str, Any]]:
    for photo, own_ids, own_probabilities in zip(photos, class_ids, probabilities, strict=True):
        classifications = _ranked(ids, own_ids, own_probabilities)
        box, confidence = found.get(photo, (WHOLE_PHOTO, 1.0))
        detection = _detection("1", confidence, box) | {"classifications": classifications}
        yield {"file": photo, "detections": [detection, *beside(photo)]}
    for photo in empty:
        yield {"file": photo, "detections": beside(photo)}
    for photo, reason in unreadable:
        yield {"file": photo, "failure": reason}


def _detection(category: str, confidence: float, box: Sequence[float]) -> dict[str, Any]:
    return {"category": category, "conf": confidence, "bbox": list(box)}


def add_classifications(
    path: Path,
    file: DetectionFile,
    detections: Iterable[Detection],
    classes: Sequence[str],
    class_ids: Rows,
    probabilities: Rows,
    *,
    info: Mapping[str, Any],
) -> None:
    """Write a detection file again, with what the model thinks of its detections.

    Older classifications of these detections are replaced; everything else stays as it is and in its order, except that
    ``classifications: null`` is left out. Classes get new ids besides those in the file, unless one of these has the
    same name. `file` is not changed. The file is written whole or not at all, a photo a line.

    Parameters
    ----------
    path
        The file to write; may be the one that was read.
    file
        What was read.
    detections
        (n,) those that were classified.
    classes
        Class names by class id.
    class_ids, probabilities
        (n, k) as of `write_recognitions`.
    info
        What to say of the model, replacing what is there of the same name.

    Raises
    ------
    ValueError, RunFileError
        As `write_recognitions`.
    """
    known = _known_classes(file.content)
    labels = _labels(classes, file.categories.values())
    ids = _ids(labels, known)
    found: dict[int, dict[int, Classifications]] = {}
    for detection, own_ids, own_probabilities in zip(detections, class_ids, probabilities, strict=True):
        found.setdefault(detection.entry, {})[detection.position] = _ranked(ids, own_ids, own_probabilities)
    content = _with_categories(file.content, known | dict(zip(ids, labels, strict=True)))
    content["info"] = _with_classifier(file.content, info)
    images = enumerate(file.content["images"])
    _write(path, content, (_classified(image, found.get(entry, {})) for entry, image in images))


def _labels(classes: Sequence[str], categories: Collection[str]) -> list[str]:
    """Give the names that classes have in a file."""
    if len(set(classes)) < len(classes):
        raise ValueError(f"`classes` must be different names; got {list(classes)}.")
    taken = {name.casefold() for name in categories}
    labels: list[str] = []
    for name in classes:
        label = name
        while label.casefold() in taken or (label != name and label in classes):
            label += CLASS_MARK
        labels.append(label)
    return labels


def _known_classes(content: Mapping[str, Any]) -> dict[str, Any]:
    known = content.get("classification_categories")
    return dict(known) if isinstance(known, dict) else {}


def _ids(labels: Sequence[str], known: dict[str, Any]) -> list[str]:
    """Give the id of each label in a file that has some already."""
    by_label = {str(label): each for each, label in reversed(known.items())}  # of equal labels the first counts
    free = max((int(each) for each in known if each.isdecimal()), default=-1) + 1
    new = {label: str(free + n) for n, label in enumerate(label for label in labels if label not in by_label)}
    return [(by_label | new)[label] for label in labels]


def _ranked(ids: Sequence[str], class_ids: NDArray[Any], probabilities: NDArray[Any]) -> Classifications:
    """Pair the ids of a file with probabilities, the highest first; of equal ones the first."""
    pairs = zip(np.asarray(class_ids).tolist(), np.asarray(probabilities, np.float64).tolist(), strict=True)
    ranked = sorted(pairs, key=lambda pair: -pair[1])
    told = [(ids[class_id], round(probability, DECIMALS)) for class_id, probability in ranked if class_id >= 0]
    if not all(0 <= probability <= 1 for _, probability in told):
        raise ValueError(f"`probabilities` must lie within 0 to 1; got {np.asarray(probabilities).tolist()}.")
    return [pair for pair in told if pair[1] > 0] or told[:1]


def _with_categories(content: Mapping[str, Any], categories: Mapping[str, str]) -> dict[str, Any]:
    """Put the classes of a file in their place, which is behind the detection categories if there were none."""
    name, descriptions = "classification_categories", content.get("classification_category_descriptions")
    changed: dict[str, Any] = {} if "info" in content else {"info": None}
    for key, value in content.items():
        changed[key] = value
        if key == "detection_categories" and name not in content:
            changed[name] = None
    changed[name] = dict(categories)
    if isinstance(descriptions, dict):  # which must have the same ids
        changed["classification_category_descriptions"] = {**categories, **descriptions}
    return changed


def _with_classifier(content: Mapping[str, Any], info: Mapping[str, Any]) -> dict[str, Any]:
    there = content.get("info")
    changed = {**there, **info} if isinstance(there, dict) else dict(info)
    metadata = changed.get("classifier_metadata")
    return {
        **changed,
        "format_version": _version(content),
        "classifier_metadata": {
            **(metadata if isinstance(metadata, dict) else {}),
            "typical_classification_threshold": TYPICAL_THRESHOLD,
        },
    }


def _version(content: Mapping[str, Any]) -> str:
    if (format_version(content) or (0, 0)) < OLDEST_VERSION:
        return ".".join(map(str, OLDEST_VERSION))
    return str(content["info"]["format_version"])


def _classified(image: Any, found: Mapping[int, Classifications]) -> Any:
    """Copy the entry of a photo, with classifications by the position of their detection."""
    if not isinstance(image, dict) or not isinstance(image.get("detections"), list):
        return image
    return {**image, "detections": [_replaced(each, found.get(n)) for n, each in enumerate(image["detections"])]}


def _replaced(detection: Any, classifications: Classifications | None) -> Any:
    if classifications is not None:
        return {**detection, "classifications": classifications}
    if isinstance(detection, dict) and detection.get("classifications", ()) is None:
        return {key: value for key, value in detection.items() if key != "classifications"}
    return detection


def _write(path: Path, content: Mapping[str, Any], images: Iterable[Any]) -> None:
    with written_aside(path) as prepared, prepared.open("w", encoding="ascii", newline="\n") as file:
        for n, (key, value) in enumerate(content.items()):
            file.write(f"{',' if n else '{'}\n{json.dumps(key)}: ")
            if key == "images":
                _write_lines(file, images)
            else:
                file.write(json.dumps(value, indent=1))
        file.write("\n}\n")


def _write_lines(file: TextIO, images: Iterable[Any]) -> None:
    file.write("[")
    for n, image in enumerate(images):
        file.write(f"{',' if n else ''}\n{json.dumps(image)}")
    file.write("\n]")
