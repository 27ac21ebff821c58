"""Boxes that are kept as text and given back; the reference is the file that they were read from."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camera_trap_al.interchange.megadetector import Detection, DetectionFile, read_detections
from camera_trap_al.interchange.other_boxes import OtherBoxes, as_text

CATEGORIES = {"0": "Animal", "1": "person", "7": "vehicle", "8": "person"}
share = st.floats(0, 1)


def file_of(path: Path, categories: dict[str, str], info: Any, *detections: dict[str, Any]) -> DetectionFile:
    content = {
        "info": info,
        "detection_categories": categories,
        "images": [{"file": "a.jpg", "detections": list(detections)}],
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return read_detections(path)


def test_boxes_come_back_in_their_order_with_the_names_of_their_categories(tmp_path: Path) -> None:
    file = file_of(
        tmp_path / "md.json",
        CATEGORIES,
        {"detector": "MDv5a"},
        {"category": "7", "conf": 0.1, "bbox": [0.1, 0.2, 0.3, 0.4]},
        {"category": "0", "conf": 1, "bbox": [0, 0, 1, 1]},
    )
    others = OtherBoxes.of(file, {5: as_text(file, file.photos[0].detections)})
    assert others.boxes(5) == [("vehicle", 0.1, (0.1, 0.2, 0.3, 0.4)), ("animal", 1.0, (0.0, 0.0, 1.0, 1.0))]
    assert others.boxes(4) == []
    assert (others.detector, others.categories) == ("MDv5a", ("person", "vehicle"))


@pytest.mark.parametrize("info", [None, {}, {"detector": None}, "MDv5a"])
def test_a_file_may_not_say_which_detector_made_it(tmp_path: Path, info: Any) -> None:
    assert OtherBoxes.of(file_of(tmp_path / "md.json", CATEGORIES, info), {}).detector == ""


@given(st.lists(st.tuples(share, st.tuples(share, share, share, share)), max_size=4))
def test_numbers_stay_as_they_are_to_the_last_digit(drawn: list[tuple[float, tuple[float, ...]]]) -> None:
    file = DetectionFile(Path("md.json"), {}, {"1": "person"}, (), (), 0)
    text = as_text(file, [Detection(0, place, "1", sure, box) for place, (sure, box) in enumerate(drawn)])
    assert [(sure, box) for _, sure, box in OtherBoxes(texts={0: text}).boxes(0)] == drawn


def test_what_is_known_of_some_photos_has_a_name_that_changes_with_it(tmp_path: Path) -> None:
    def name(texts: dict[int, str], rows: list[int] | None = None, **more: Any) -> str:
        return OtherBoxes(texts=texts, **more).digest(rows or [1, 2])

    one = name({1: '[["person", 0.5, [0, 0, 1, 1]]]'})
    assert one == name({1: '[["person", 0.5, [0, 0, 1, 1]]]', 3: "[]"}), "row 3 is not asked about"
    different = [
        name({}),
        name({2: '[["person", 0.5, [0, 0, 1, 1]]]'}),
        name({1: '[["person", 0.6, [0, 0, 1, 1]]]'}),
        name({1: '[["person", 0.5, [0, 0, 1, 1]]]'}, [1]),
        name({1: '[["person", 0.5, [0, 0, 1, 1]]]'}, detector="MDv5a"),
    ]
    assert len({one, *different}) == 6
