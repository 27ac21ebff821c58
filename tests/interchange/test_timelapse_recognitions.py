"""The simulated import of recognitions against the facts about Timelapse, and our files against that import.

The comments name the sections of these facts.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from camera_trap_al.interchange.megadetector import read_detections
from camera_trap_al.interchange.recognitions import add_classifications, write_recognitions
from camera_trap_al.interchange.timelapse import split_path

BOX = [0.1, 0.2, 0.3, 0.4]
PHOTOS = ["top.jpg", "site/a/IMG_1.JPG", "site/a/IMG_2.JPG", "With space/IMG 3.Jpg", "Forêt d'Ömer/Été ñ 日本.jpg"]
INFO = {"format_version": "1.3"}


@pytest.fixture
def data_file(tmp_path, make_data_file):
    return make_data_file(tmp_path / "T.ddb", [(*split_path(photo), "", "false") for photo in PHOTOS])


@pytest.fixture
def import_content(tmp_path, data_file, timelapse_import_recognitions, timelapse_shown_recognitions):
    """Import recognitions of one detection, or any content; give the result and what is shown of each photo."""

    def run(content: dict, folder: str = "."):
        path = tmp_path / folder / "in.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
        return shown_after(path)

    def shown_after(path: Path):
        result = timelapse_import_recognitions(path, data_file)
        shown = timelapse_shown_recognitions(data_file) if not result.error else {}
        return result, {
            "/".join(filter(None, (folder.replace("\\", "/"), file))): s for (folder, file), s in shown.items()
        }

    run.path = shown_after
    return run


def recognitions(*detections: dict, file: str = "top.jpg", **changes: object) -> dict:
    return {
        "info": INFO,
        "detection_categories": {"1": "animal"},
        "classification_categories": {"0": "deer", "1": "fox"},
        "images": [{"file": file, "detections": list(detections)}],
    } | changes


def detection(conf: float = 0.9, *classes: tuple[str, float]) -> dict:
    return {"category": "1", "conf": conf, "bbox": BOX} | ({"classifications": [*classes]} if classes else {})


def test_only_the_best_classification_is_kept(import_content):
    content = recognitions(detection(0.5, ("1", 0.6), ("0", 0.3)), detection(0.25))
    assert import_content(content)[1] == {"top.jpg": ["fox 0.60(0.50)", "animal 0.25"]}


@pytest.mark.parametrize(
    ("metadata", "conf", "is_kept"),
    [
        (None, 0.03, True),
        (None, 0.029, False),
        ({}, 0.2, True),  # its default is 0.5
        ({}, 0.19, False),
        ({"typical_classification_threshold": 0.75}, 0.3, True),
        ({"typical_classification_threshold": 0.75}, 0.29, False),
        ({"typical_classification_threshold": 0.0}, 0.029, False),
    ],
)
def test_classifications_below_a_bound_that_the_file_sets_are_dropped(import_content, metadata, conf, is_kept):
    info = INFO if metadata is None else INFO | {"classifier_metadata": metadata}
    shown = import_content(recognitions(detection(0.9, ("1", conf)), info=info))[1]
    assert shown == {"top.jpg": [f"fox {conf:.2f}(0.90)" if is_kept else "animal 0.90"]}


@pytest.mark.parametrize(("least", "conf", "is_kept"), [(0.3, 0.12, True), (0.3, 0.11, False), (0.05, 0.029, False)])
def test_detections_below_a_bound_are_dropped_and_the_photo_is_empty(import_content, least, conf, is_kept):
    info = INFO | {"detector_metadata": {"conservative_detection_threshold": least}}
    shown = import_content(recognitions(detection(conf), info=info))[1]
    assert shown == {"top.jpg": ["animal 0.12" if is_kept else "Empty 0.00"]}


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"info": None}, "cancelled"),
        ({"detection_categories": None}, "could not be read"),
        ({"images": [{"file": "top.jpg", "detections": [detection(0.9, (1, 0.6))]}]}, "could not be read"),
        (
            {"images": [{"file": "top.jpg", "detections": [detection() | {"classifications": None}]}]},
            "could not be read",
        ),
        ({"images": [{"file": "elsewhere/top.jpg", "detections": []}]}, "No folder"),
    ],
)
def test_some_files_are_refused(import_content, changes, error):
    assert error in import_content(recognitions() | changes)[0].error


def test_null_for_detections_is_taken_at_first_only(import_content):
    content = recognitions(images=[{"file": "top.jpg", "detections": None}])
    assert import_content(content) == (("", [], 0), {})
    import_content(recognitions(detection()))
    assert "Null" in import_content(content)[0].error


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({}, []),
        ({"classification_categories": {"0": "animal", "1": "fox"}}, ["AddaxAI: only partially compatible"]),
        ({"classification_categories": {"2": "animal", "1": "fox"}}, []),  # it looks at the first only
        ({"classification_categories": {"0": "Animal", "1": "fox"}}, []),
        ({"classification_categories": {"0": "fox", "1": "fox"}}, ["duplicate labels"]),
        ({"detection_categories": {"1": "animal", "2": "animal"}}, ["duplicate labels"]),
    ],
)
def test_labels_that_are_there_twice_are_warned_about(import_content, changes, warning):
    assert import_content(recognitions(detection()) | changes)[0].warnings == warning


@pytest.mark.parametrize("file", ["site/a/IMG_1.JPG", "site\\a\\IMG_1.JPG", "SITE/A/img_1.jpg"])
def test_paths_match_in_any_case_and_with_either_separator(import_content, file):
    assert import_content(recognitions(detection(), file=file))[1] == {"site/a/IMG_1.JPG": ["animal 0.90"]}


def test_paths_are_relative_to_the_folder_of_the_file(import_content):
    assert import_content(recognitions(detection(), file="a/IMG_1.JPG"), "site")[1] == {
        "site/a/IMG_1.JPG": ["animal 0.90"]
    }


def test_what_is_imported_again_replaces_only_what_is_listed(import_content):
    import_content(recognitions(detection(0.5, ("0", 0.5)), detection(0.4)))
    import_content(recognitions(detection(0.6, ("1", 0.5)), file="site/a/IMG_1.JPG"))
    renumbered = {"0": "lynx", "7": "deer"}
    content = recognitions(detection(0.7, ("0", 0.6)), detection(0.6, ("7", 0.5)), classification_categories=renumbered)
    assert import_content(content)[1] == {
        "top.jpg": ["lynx 0.60(0.70)", "deer 0.50(0.60)"],
        "site/a/IMG_1.JPG": ["fox 0.50(0.60)"],
    }


# Our files.


def in_timelapse(photo: str) -> bool:
    return photo.lower().endswith(".jpg")  # section 5.3


@pytest.mark.parametrize("n_classes", [2, 20, 30])
def test_timelapse_shows_the_best_class_of_each_photo(tmp_path, import_content, n_classes):
    """Down to a probability of 1/30, where hardly anything is known; below 0.03 no file can help."""
    rng = np.random.default_rng(n_classes)
    classes = ["animal", "empty", *(f"Chevêche {n}" for n in range(n_classes - 2))]
    photos = [*PHOTOS, "site/a/IMG_3.png", "site/a/IMG_4.jpeg"]
    probabilities = rng.dirichlet(np.ones(n_classes), len(photos))
    probabilities[0] = 1 / n_classes
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :3]
    top = np.take_along_axis(probabilities, order, axis=1)
    write_recognitions(tmp_path / "r.json", photos, classes, order, top, info={}, unreadable=[("site/bad.jpg", "cut")])
    result, shown = import_content.path(tmp_path / "r.json")
    assert result == ("", [], 3)
    labels = ["animal (class)", *classes[1:]]
    assert shown == {
        photo: [f"{labels[best]} {round(sure, 4):.2f}(1.00)"]
        for photo, best, sure in zip(photos, order[:, 0], top[:, 0], strict=True)
        if in_timelapse(photo)
    }


def test_a_photo_that_could_not_be_read_is_shown_as_empty_and_does_no_harm(tmp_path, import_content):
    unreadable = [("site/a/IMG_1.JPG", "the file is empty")]
    for _ in range(2):  # merged the second time
        write_recognitions(tmp_path / "r.json", ["top.jpg"], ["deer"], [[0]], [[1.0]], info={}, unreadable=unreadable)
        result, shown = import_content.path(tmp_path / "r.json")
        assert result == ("", [], 0)
        assert shown == {"top.jpg": ["deer 1.00(1.00)"], "site/a/IMG_1.JPG": ["Empty 0.00"]}


def test_timelapse_shows_other_boxes_beside_the_one_that_was_classified(tmp_path, import_content):
    others = {"top.jpg": [("person", 0.95, (0.1, 0.1, 0.2, 0.2)), ("animal", 0.01, (0.1, 0.1, 0.2, 0.2))]}
    write_recognitions(
        tmp_path / "r.json",
        ["top.jpg"],
        ["deer"],
        [[0]],
        [[0.8]],
        info={},
        found={"top.jpg": ((0.5, 0.5, 0.25, 0.25), 0.9)},
        others=lambda photo: others.get(photo, ()),
        categories=("person", "vehicle"),
        threshold=0.2,
    )
    result, shown = import_content.path(tmp_path / "r.json")
    assert result == ("", [], 0)
    assert shown == {"top.jpg": ["deer 0.80(0.90)", "person 0.95"]}


def test_timelapse_shows_what_the_model_thinks_of_each_detection(tmp_path, import_content):
    found = recognitions(detection(0.9), detection(0.04) | {"classifications": None}, file=PHOTOS[-1])
    found["images"].append({"file": "site\\a\\IMG_2.JPG", "detections": [detection(0.3, ("1", 0.99))]})
    found["info"] = INFO | {"classifier_metadata": {"typical_classification_threshold": 0.75}}
    (tmp_path / "md.json").write_text(json.dumps(found))
    assert "could not be read" in import_content.path(tmp_path / "md.json")[0].error
    file = read_detections(tmp_path / "md.json")
    detections = [file.photos[0].detections[0], file.photos[1].detections[0]]
    ids, probabilities = np.array([[1, 0], [0, 1]]), np.array([[0.4, 0.35], [0.05, 0.04]])
    add_classifications(tmp_path / "r.json", file, detections, ["animal", "deer"], ids, probabilities, info={})
    result, shown = import_content.path(tmp_path / "r.json")
    assert result == ("", [], 0)
    assert shown == {
        PHOTOS[-1]: ["deer 0.40(0.90)", "animal 0.04"],
        "site/a/IMG_2.JPG": ["animal (class) 0.05(0.30)"],
    }
