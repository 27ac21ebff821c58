"""A run that looks at the animals which a detector found, with a tiny network."""

import csv
import json
import logging
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from expert_by_name import Expert, tiny_run
from PIL import Image

from camera_trap_al import RunResult, predict
from camera_trap_al.exceptions import ConfigError, DataError
from camera_trap_al.interchange.megadetector import read_detections
from camera_trap_al.photos.catalogue import PhotoBoxes, new_catalogue
from camera_trap_al.photos.folders import scan_data_folders
from camera_trap_al.pools import Role
from camera_trap_al.preparation.boxes import find_boxes

pytestmark = pytest.mark.usefixtures("sixteen_pixels")
COLOURS = {"deer": (250, 20, 20), "frog": (20, 250, 20)}
BOX = [0.5, 0.5, 0.25, 0.25]  # where the animal is; all around it is grey
N_UNLABELLED = 12


def write_photo(path: Path, name: str | None, grey: int = 120) -> None:
    """Write a grey photo, with a square in the colour of the animal if there is one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((64, 64, 3), grey, np.uint8)
    if name is not None:
        pixels[32:48, 32:48] = COLOURS[name]
    Image.fromarray(pixels).save(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three training photos of each class; twelve others, of which each third is empty."""
    root = tmp_path / "photos"
    for name in COLOURS:
        for number in range(3):
            write_photo(root / "train" / name / f"{number}.png", name, grey=80 + 40 * number)
    for number in range(N_UNLABELLED):
        name = [None, "deer", "frog"][number % 3]
        write_photo(root / "unlabelled" / "site" / f"{number:02} {name or 'empty'}.png", name)
    return root


def detected(file: str, *confidences: float, **more: Any) -> dict[str, Any]:
    detections = [{"category": "1", "conf": confidence, "bbox": BOX} for confidence in confidences]
    return {"file": file, "detections": detections, **more}


def write_file(path: Path, *entries: dict[str, Any], version: str = "1.4") -> Path:
    content = {
        "info": {"format_version": version},
        "detection_categories": {"1": "animal", "2": "person"},
        "images": list(entries),
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def file_of_all(photos: Path, path: Path) -> Path:
    """Detections of all photos, relative to the folder around the data folders."""
    found = sorted(photos.rglob("*.png"))
    entries = [(file.relative_to(photos).as_posix(), "empty" in file.name) for file in found]
    return write_file(path, *(detected(file, *([0.1] if is_empty else [0.9])) for file, is_empty in entries))


def run(photos: Path, output_dir: Path, **changes: Any) -> tuple[Expert, RunResult]:
    return tiny_run(photos, output_dir, **{"classes": ["empty"]} | changes)


def embeddings(output_dir: Path) -> np.ndarray[Any, Any]:
    return np.load(output_dir / "embedding" / "embedding.npy")


def table_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def boxes_of(output_dir: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(output_dir / "data" / "run.sqlite")) as db:
        return db.execute("SELECT path, box, n_boxes, surest_box FROM photos ORDER BY photo_row").fetchall()


def test_the_network_sees_the_animal_and_not_what_is_around_it(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "whole", stop_after=0)
    run(photos, tmp_path / "cut", stop_after=0, detections=file_of_all(photos, tmp_path / "found.json"))
    whole, cut = embeddings(tmp_path / "whole"), embeddings(tmp_path / "cut")
    # Rows 0 and 2 are a deer before a darker and a lighter grey, row 3 is a frog before the darker one.
    shares = [np.linalg.norm(each[0] - each[2]) / np.linalg.norm(each[0] - each[3]) for each in (whole, cut)]
    assert shares[0] > 1 > 2 * shares[1], "the background tells more of the whole photo, the animal of the part"
    described = json.loads((tmp_path / "cut" / "export" / "model.json").read_text(encoding="utf-8"))
    assert described["crops"] == {"padding": 0.1, "threshold": 0.2}
    described = json.loads((tmp_path / "whole" / "export" / "model.json").read_text(encoding="utf-8"))
    assert described["crops"] == {}


def test_only_photos_whose_box_changed_are_embedded_again(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(photos, tmp_path / "run", stop_after=0, detections=file_of_all(photos, tmp_path / "found.json"))
    before = embeddings(tmp_path / "run")
    content = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    content["images"][1]["detections"][0]["bbox"] = [0.0, 0.0, 0.5, 0.5]
    (tmp_path / "found.json").write_text(json.dumps(content), encoding="utf-8")
    caplog.set_level(logging.INFO)
    run(photos, tmp_path / "run", stop_after=0, detections=tmp_path / "found.json")
    assert "Embedding 1 photos" in caplog.text
    changed = np.flatnonzero((before != embeddings(tmp_path / "run")).any(axis=1))
    assert len(changed) == 1


def test_without_the_file_the_boxes_stay(photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = file_of_all(photos, tmp_path / "found.json")
    run(photos, tmp_path / "run", stop_after=0, detections=file)
    before = boxes_of(tmp_path / "run")
    assert [json.loads(box) if box else None for _, box, _, _ in before[:6]] == [BOX] * 6
    file.unlink()
    caplog.set_level(logging.INFO)
    run(photos, tmp_path / "run", stop_after=0)
    assert "Boxes of 18 photos are those of an earlier start" in caplog.text
    assert boxes_of(tmp_path / "run") == before
    assert "Embedding" not in caplog.text


def test_photos_without_a_box_are_decided_and_nobody_is_asked(photos: Path, tmp_path: Path) -> None:
    file = file_of_all(photos, tmp_path / "found.json")
    expert, result = run(photos, tmp_path / "run", detections=file, detections_empty="empty", classes=None)
    asked = [path for query in expert.queries for path in query.paths]
    assert len(asked) == 8 and not any("empty" in path for path in asked)
    assert (result.ended_because, result.labels_given) == ("every photo that may be asked about is labelled", 8)
    lines = table_of(tmp_path / "run" / "predictions.csv")
    assert [(line["File"], line["Species"], line["decision"]) for line in lines] == [
        (f"{number:02} empty.png", "empty", "detector") for number in range(0, 12, 3)
    ]
    assert {line["confidence"] for line in lines} == {"0.9000"}, "1 less the surest box"
    recognitions = json.loads((tmp_path / "run" / "recognitions.json").read_text(encoding="utf-8"))
    assert [image["detections"] for image in recognitions["images"]] == [[]] * 4
    labels = table_of(tmp_path / "run" / "data" / "labels.csv")
    assert sum(line["label"] == "unlabelled" for line in labels) == 4, "a detector's word is no label"


def test_recognitions_carry_the_boxes_back(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "run", stop_after=1, detections=file_of_all(photos, tmp_path / "found.json"))
    recognitions = json.loads((tmp_path / "run" / "recognitions.json").read_text(encoding="utf-8"))
    of_file = {image["file"]: image["detections"][0] for image in recognitions["images"]}
    assert len(of_file) == 9
    for file, detection in of_file.items():
        is_empty = "empty" in file
        assert detection["bbox"] == ([0, 0, 1, 1] if is_empty else BOX)
        assert detection["conf"] == (1.0 if is_empty else 0.9)
        assert detection["classifications"]
    assert recognitions["info"]["detector_metadata"]["typical_detection_threshold"] == 0.2


def test_photos_with_several_animals_are_named_when_they_are_asked_about(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = write_file(
        tmp_path / "found.json", *(detected(f"site/{number:02} deer.png", 0.8, 0.9) for number in (1, 4, 7, 10))
    )
    run(photos, tmp_path / "run", detections=file)
    assert "of the photos asked about have several animals, such as site/" in caplog.text


def test_predict_says_when_it_looks_at_what_the_model_has_not_learnt_from(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = file_of_all(photos, tmp_path / "found.json")
    run(photos, tmp_path / "run", stop_after=0, detections=file)
    predict(tmp_path / "run" / "export", photos / "unlabelled", output_dir=None)
    assert "learnt from animals that were cut out" in caplog.text
    caplog.clear()
    predict(tmp_path / "run" / "export", photos / "unlabelled", output_dir=None, detections=file)
    assert "The model learnt" not in caplog.text
    predict(tmp_path / "run" / "export", photos / "unlabelled", output_dir=None, detections=file, padding=0.3)
    assert "The model learnt with padding 0.1, not 0.3: it may be wrong more often." in caplog.text
    run(photos, tmp_path / "whole", stop_after=0)
    predict(tmp_path / "whole" / "export", photos / "unlabelled", output_dir=None, detections=file)
    assert "The model learnt from whole photos" in caplog.text


def test_a_run_that_learnt_from_whole_photos_says_what_detections_change(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = file_of_all(photos, tmp_path / "found.json")
    run(photos, tmp_path / "run", stop_after=1)
    for _ in range(2):
        run(photos, tmp_path / "run", stop_after=0, detections=file)
    assert caplog.text.count("The run began without detections.") == 1
    caplog.clear()
    run(photos, tmp_path / "other", stop_after=1, detections=file)
    assert "The run began without detections." not in caplog.text


def found_in(photos: Path, file: Path, threshold: float = 0.2) -> dict[str, PhotoBoxes]:
    catalogue = new_catalogue(scan_data_folders(photos / "train", photos / "unlabelled", None))
    found, _ = find_boxes(catalogue, read_detections(file), threshold)
    assert list(found) == sorted(found)
    return {catalogue.paths[row]: seen for row, seen in found.items()}


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2", "1.3", "1.4", "1.5", "1.6"])
def test_every_version_of_the_format_is_read(photos: Path, tmp_path: Path, version: str) -> None:
    file = write_file(tmp_path / "found.json", detected("site/01 deer.png", 0.9), version=version)
    assert found_in(photos, file) == {"site/01 deer.png": PhotoBoxes(tuple(BOX), 1, 0.9)}


def test_the_surest_animal_counts_and_others_are_counted(photos: Path, tmp_path: Path) -> None:
    person = {"category": "2", "conf": 0.99, "bbox": [0.1, 0.1, 0.2, 0.2]}
    outside = {"category": "1", "conf": 0.95, "bbox": [0.9, 0.9, 0.5, 0.5]}
    sure = {"category": "1", "conf": 0.7, "bbox": [0.1, 0.2, 0.3, 0.4]}
    entry = detected("site\\01 DEER.png", 0.3, 0.1)
    entry["detections"] += [person, outside, sure]
    file = write_file(
        tmp_path / "found.json",
        entry,
        detected("site/00 empty.png"),
        detected("site/02 frog.png", 0.15),
        {"file": "site/04 deer.png", "failure": "Failure image access"},
        detected("site/gone.png", 0.9),
    )
    assert found_in(photos, file) == {
        "site/00 empty.png": PhotoBoxes(None, 0, 0.0),
        "site/01 deer.png": PhotoBoxes((0.1, 0.2, 0.3, 0.4), 2, 0.7),
        "site/02 frog.png": PhotoBoxes(None, 0, 0.15),
    }
    assert found_in(photos, file, 0.15)["site/02 frog.png"] == PhotoBoxes(tuple(BOX), 1, 0.15)


def test_how_the_file_goes_with_the_photos_is_told(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    entries = [detected("site/01 deer.png", 0.9), detected("site/02 frog.png", 0.9, 0.8), detected("site/00 empty.png")]
    found_in(photos, write_file(tmp_path / "found.json", *entries, detected("site/gone.png", 0.9)))
    assert (
        "Detections: 1 photos with one animal, 1 with several, 1 with none, 15 without an entry that can be used; "
        "1 entries are of photos that are not there"
    ) in caplog.text


def test_a_file_of_other_photos_is_refused(photos: Path, tmp_path: Path) -> None:
    file = write_file(tmp_path / "found.json", detected("elsewhere/1.jpg", 0.9))
    with pytest.raises(
        DataError, match=r"none of its entries is of one of the photos\. It lists, for instance, elsewhere"
    ):
        found_in(photos, file)


def test_what_photos_without_an_animal_are_needs_a_file_that_says_which(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"detections_empty='empty' needs detections, the file that says"):
        run(photos, tmp_path / "run", detections_empty="empty")


def test_a_photo_with_detections_that_cannot_be_used_is_not_taken_for_empty(photos: Path, tmp_path: Path) -> None:
    outside = {"category": "1", "conf": 0.95, "bbox": [0.9, 0.9, 0.5, 0.5]}
    entries = [{"file": f"site/{name}.png", "detections": [outside]} for name in ("01 deer", "02 frog")]
    entries[1]["detections"] = [outside, *detected("", 0.9)["detections"]]
    assert found_in(photos, write_file(tmp_path / "found.json", *entries)) == {
        "site/02 frog.png": PhotoBoxes(tuple(BOX), 1, 0.9)
    }


def test_a_second_entry_is_not_of_a_photo_that_is_not_there(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    entries = [detected("site/01 deer.png", 0.9), detected("./SITE/01 deer.png", 0.8)]
    assert len(found_in(photos, write_file(tmp_path / "found.json", *entries))) == 1
    assert "0 entries are of photos that are not there" in caplog.text


def test_where_photos_of_two_folders_have_one_path_only_those_meant_get_boxes(photos: Path, tmp_path: Path) -> None:
    """The file is of the unlabelled photos; most training photos are called alike, below the folder of deer."""
    for file in sorted((photos / "unlabelled").rglob("*.png")):
        write_photo(photos / "train" / "deer" / file.relative_to(photos / "unlabelled"), "deer", grey=90)
    names = [f"site/{file.name}" for file in sorted((photos / "unlabelled" / "site").iterdir())]
    for number in range(3):
        (photos / "train" / "deer" / f"{number}.png").unlink()
    for place in (tmp_path, photos / "unlabelled"):
        found = found_in(photos, write_file(place / "found.json", *(detected(name, 0.9) for name in names)))
        assert sorted(found) == names


def test_a_file_that_may_be_of_either_of_two_folders_is_refused(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos / "train", photos / "validation")
    for file in (photos / "validation").rglob("*.png"):
        write_photo(file, "frog", grey=77)
    catalogue = new_catalogue(scan_data_folders(photos / "train", photos / "unlabelled", photos / "validation"))
    entries = [detected(f"{name}/{number}.png", 0.9) for name in COLOURS for number in range(3)]
    with pytest.raises(DataError, match=r"may be of a photo in .*train or in .*validation"):
        find_boxes(catalogue, read_detections(write_file(tmp_path / "found.json", *entries)), 0.2)
    found, _ = find_boxes(catalogue, read_detections(write_file(photos / "validation" / "found.json", *entries)), 0.2)
    assert {catalogue.pools.roles[row] for row in found} == {Role.VALIDATION}
    for entry in entries:
        entry["file"] = f"C:\\photos\\train\\{entry['file']}"
    found, _ = find_boxes(catalogue, read_detections(write_file(tmp_path / "found.json", *entries)), 0.2)
    assert {catalogue.pools.roles[row] for row in found} == {Role.TRAIN}


def test_photos_with_several_animals_are_named_again_after_a_restart(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = sorted(file.name for file in (photos / "unlabelled" / "site").iterdir())
    file = write_file(tmp_path / "found.json", *(detected(f"site/{name}", 0.9, 0.8) for name in names))
    run(photos, tmp_path / "run", stop_after=0, detections=file)
    caplog.clear()
    run(photos, tmp_path / "run", stop_after=0)  # the same question is still open
    assert "3 of the photos asked about have several animals" in caplog.text


def test_the_threshold_stays_that_of_the_boxes(photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = file_of_all(photos, tmp_path / "found.json")
    run(photos, tmp_path / "run", stop_after=0, detections=file, detection_threshold=0.5)
    run(photos, tmp_path / "run", stop_after=0, detection_threshold=0.05)
    assert "detection_threshold=0.05 is ignored" in caplog.text
    description = tmp_path / "run" / "export" / "model.json"
    assert json.loads(description.read_text(encoding="utf-8"))["crops"]["threshold"] == 0.5
    run(photos, tmp_path / "run", stop_after=0, detections=file, detection_threshold=0.05)
    assert json.loads(description.read_text(encoding="utf-8"))["crops"]["threshold"] == 0.05
    assert all(n_boxes == 1 for _, _, n_boxes, _ in boxes_of(tmp_path / "run"))


def test_predictions_are_written_again_when_only_a_confidence_changed(photos: Path, tmp_path: Path) -> None:
    file = file_of_all(photos, tmp_path / "found.json")
    arguments = {"detections": file, "detections_empty": "empty", "stop_after": 1}
    run(photos, tmp_path / "run", **arguments)
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("0.9", "0.8").replace("0.1,", "0.15,"), encoding="utf-8")
    run(photos, tmp_path / "run", **arguments | {"stop_after": 0})
    recognitions = json.loads((tmp_path / "run" / "recognitions.json").read_text(encoding="utf-8"))
    assert {each["conf"] for image in recognitions["images"] for each in image["detections"]} == {0.8}
    lines = table_of(tmp_path / "run" / "predictions.csv")
    assert {line["confidence"] for line in lines if line["decision"] == "detector"} == {"0.8500"}
