"""What `recognitions.json` of a run says of all that a detector saw, with a tiny network."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from camera_trap_al import run_active_learning
from camera_trap_al.query import Answer, Query

pytestmark = pytest.mark.usefixtures("sixteen_pixels")
COLOURS = {"deer": (250, 20, 20), "frog": (20, 250, 20)}
N_UNLABELLED = 6
BOX, CORNER, EDGE = [0.5, 0.5, 0.25, 0.25], [0.0, 0.0, 0.1, 0.2], [0.75, 0.0, 0.25, 0.9]
PERSON = {"category": "2", "conf": 0.95, "bbox": CORNER}
FAINT = {"category": "3", "conf": 0.1, "bbox": EDGE}
SURE = {"category": "3", "conf": 0.9, "bbox": BOX}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two training photos of each class; six others, of which each third is empty."""
    names = {f"train/{name}/{number}.png": name for name in COLOURS for number in range(2)}
    for number in range(N_UNLABELLED):
        name = ["empty", "deer", "frog"][number % 3]
        names[f"unlabelled/site/{number} {name}.png"] = name
    for place, name in names.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((64, 64, 3), 120, np.uint8)
        pixels[32:48, 32:48] = COLOURS.get(name, 120)
        Image.fromarray(pixels).save(tmp_path / place)
    return tmp_path


def write_found(photos: Path, person: dict[str, Any] = PERSON) -> Path:
    """Detections relative to the folder above, as of Windows, with the animal behind others and of another number."""
    images: list[dict[str, Any]] = []
    for file in sorted((photos / "unlabelled").rglob("*.png")):
        seen = [person, FAINT] if "empty" in file.name else [person, FAINT, SURE]
        images.append({"file": file.relative_to(photos).as_posix().replace("/", "\\"), "detections": seen})
    images.append({"file": "unlabelled\\site\\gone.png", "detections": [SURE]})
    content = {
        "info": {"format_version": "1.2", "detector": "MDv5a"},
        "detection_categories": {"2": "person", "3": "animal"},
        "images": images,
    }
    (photos / "found.json").write_text(json.dumps(content), encoding="utf-8")
    return photos / "found.json"


class Expert:
    """Tells the species by the name of the file."""

    def __init__(self, stop_after: int) -> None:
        self.stop_after = stop_after

    def request_labels(self, query: Query, commit: Any) -> Answer:
        if not self.stop_after:
            return Answer(stop=True)
        self.stop_after -= 1
        names = (path.rpartition(" ")[2].removesuffix(".png") for path in query.paths)
        answer = Answer({row: query.classes.index(name) for row, name in zip(query.rows.tolist(), names, strict=True)})
        commit(answer)
        return answer


def run(photos: Path, *, stop_after: int = 0, **changes: Any) -> dict[str, Any]:
    """Run until some answers are given; return what Timelapse reads."""
    arguments: dict[str, Any] = {
        "train_data": photos / "train",
        "unlabelled_data": photos / "unlabelled",
        "output_dir": photos / "run",
        "active_batch": 1,
        "audit_fraction": 0.0,
        "embedding_train_num_epochs": 0,
        "use_pretrained": False,
        "feat_dim": 8,
        "seed": 3,
        "classifier": "logistic",
        "classes": ["empty"],
        "label_source": Expert(stop_after),
    }
    run_active_learning(**arguments | changes)
    content: dict[str, Any] = json.loads((photos / "run" / "recognitions.json").read_text(encoding="utf-8"))
    return content


def without_classes(content: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Detections by photo, checked to be of the first one of each only that something is thought."""
    told = {}
    for image in content["images"]:
        told[image["file"]] = [dict(detection) for detection in image["detections"]]
        has_classes = ["classifications" in detection for detection in image["detections"]]
        assert has_classes == [place == 0 for place in range(len(has_classes))]
        for detection in told[image["file"]][:1]:
            assert detection.pop("classifications")
    return told


def test_all_that_the_detector_saw_is_there_and_the_animal_has_its_classes(photos: Path) -> None:
    content = run(photos, detections=write_found(photos))
    assert content["detection_categories"] == {"1": "animal", "2": "person"}
    assert content["info"]["detector"] == "MDv5a"
    beside = [PERSON, FAINT | {"category": "1"}]
    whole = {"category": "1", "conf": 1.0, "bbox": [0, 0, 1, 1]}
    assert without_classes(content) == {
        f"site/{number} {name}.png": [whole if name == "empty" else SURE | {"category": "1"}, *beside]
        for number, name in enumerate(["empty", "deer", "frog"] * 2)
    }


def test_a_photo_that_is_taken_for_empty_keeps_what_is_no_animal(photos: Path) -> None:
    content = run(photos, detections=write_found(photos), detections_empty="empty")
    of_empty = {image["file"]: image["detections"] for image in content["images"] if "empty" in image["file"]}
    assert of_empty == {"site/0 empty.png": [PERSON], "site/3 empty.png": [PERSON]}


def test_without_the_file_what_is_written_stays_until_something_is_new(
    photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with_all = run(photos, detections=write_found(photos))
    caplog.set_level(logging.INFO)
    assert run(photos) == with_all
    assert "Predicting" not in caplog.text, "nothing is new"
    after = run(photos, stop_after=1)
    told = without_classes(after)
    assert len(told) == N_UNLABELLED - 1
    for file, detections in told.items():
        assert [each["bbox"] for each in detections] == [[0, 0, 1, 1] if "empty" in file else BOX], file
    assert after["info"]["detector"] == "that of the detections given"


def test_it_is_written_again_when_only_another_box_changed(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(photos, detections=write_found(photos))
    caplog.set_level(logging.INFO)
    moved = PERSON | {"bbox": [0.25, 0.0, 0.5, 0.5]}
    for detections in without_classes(run(photos, detections=write_found(photos, moved))).values():
        assert moved in detections and PERSON not in detections
    assert "Embedding" not in caplog.text, "the network looks at nothing else"
