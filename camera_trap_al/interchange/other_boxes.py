"""All that a detector saw in photos besides the animal that counts, kept until it is written for Timelapse."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from camera_trap_al.interchange.megadetector import ANIMAL, Box, Detection, DetectionFile

__all__ = ["OtherBox", "OtherBoxes", "as_text"]

OtherBox = tuple[str, float, Box]  # name of the category, confidence, box


@dataclass(frozen=True, eq=False)
class OtherBoxes:
    """Further boxes of photos, by row.

    Attributes
    ----------
    detector
        How the detector is called; "" if its file does not say.
    categories
        Names of what it can see besides animals, in the order of its file.
    texts
        By row, what `as_text` made of the boxes: a third of the memory that the boxes themselves take.
    """

    detector: str = ""
    categories: tuple[str, ...] = ()
    texts: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, file: DetectionFile, texts: Mapping[int, str]) -> "OtherBoxes":
        """Take the names from a detection file."""
        info = file.content.get("info")
        detector = info.get("detector") if isinstance(info, dict) else None
        names = dict.fromkeys(_name(name) for name in file.categories.values())
        others = tuple(name for name in names if name != ANIMAL)
        return cls(detector if isinstance(detector, str) else "", others, texts)

    def boxes(self, row: int) -> list[OtherBox]:
        """Give the boxes of a photo, in the order of the file."""
        return [(name, confidence, tuple(box)) for name, confidence, box in json.loads(self.texts.get(row, "[]"))]

    def digest(self, rows: Iterable[int]) -> str:
        """Name what is known of `rows`."""
        checksum = hashlib.sha256(json.dumps([self.detector, self.categories]).encode())
        for row in rows:
            checksum.update(f"{row}{self.texts.get(row, '')}\n".encode())
        return checksum.hexdigest()


def as_text(file: DetectionFile, detections: Iterable[Detection]) -> str:
    """Write detections of a file down; numbers stay as they are to the last digit."""
    return json.dumps([[_name(file.categories[each.category]), each.confidence, each.box] for each in detections])


def _name(category: str) -> str:
    return ANIMAL if category.casefold() == ANIMAL else category  # as categories are found
