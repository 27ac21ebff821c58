"""The files against the rules of MegaDetector's format: section 6.5 of the facts about Timelapse."""

import copy
import json
import re
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from camera_trap_al.interchange.megadetector import read_detections
from camera_trap_al.interchange.recognitions import add_classifications, write_recognitions

CLASSES = ("deer", "fox", "boar")
INFO = {"classifier": "camera_trap_al 0.1.0", "classification_completion_time": "2026-05-26 19:11:32"}
PHOTOS = ["top.jpg", "Forêt d'Ömer/Été 日本.JPG", 'say "x"/"5".jpeg', "a/b.png"]
CLASS_IDS = np.array([[0, 1], [2, 0], [1, 2], [1, 0]])
PROBABILITIES = np.array([[0.7, 0.3], [0.123456, 0.87], [1.0, 0.0], [0.5, 0.5]], np.float32)


def check_rules(path: Path) -> dict:
    """Read a file as strictly as the format is meant: everything that it demands, and what it calls preferred."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    content = json.loads(path.read_bytes().decode("ascii"), parse_constant=refuse)
    optional = {"classification_categories", "classification_category_descriptions"}
    assert {"info", "detection_categories", "images"} <= content.keys()
    assert content.keys() - optional == {"info", "detection_categories", "images"}
    version = content["info"]["format_version"]
    assert isinstance(version, str) and float(version) >= 1.3
    categories, classes = content["detection_categories"], content.get("classification_categories", {})
    for names in (categories, classes):
        assert all(isinstance(name, str) and name.strip() for name in names.values())
        assert all(re.fullmatch("[0-9]+", each) for each in names)
        assert len(set(names.values())) == len(names)
    assert not set(categories.values()) & set(classes.values())
    assert "0" not in categories
    if "classification_category_descriptions" in content:
        assert content["classification_category_descriptions"].keys() == classes.keys()
    for image in content["images"]:
        check_image(image, categories, classes)
    return content


def check_image(image: dict, categories: dict, classes: dict) -> None:
    assert isinstance(image["file"], str) and "\\" not in image["file"] and not image["file"].startswith("/")
    if image.get("failure") is not None:
        assert isinstance(image["failure"], str) and image.get("detections") is None
        return
    assert isinstance(image["detections"], list)
    for detection in image["detections"]:
        assert {"category", "conf", "bbox"} <= detection.keys()
        assert detection["category"] in categories
        assert type(detection["conf"]) is float and 0 <= detection["conf"] <= 1
        x, y, width, height = detection["bbox"]
        assert min(x, y) >= 0 and min(width, height) > 0 and x + width <= 1 and y + height <= 1
        if "classifications" in detection:
            assert all(class_id in classes and type(sure) is float for class_id, sure in detection["classifications"])
            assert all(0 <= sure <= 1 for _, sure in detection["classifications"])
            assert all(one[1] >= other[1] for one, other in pairwise(detection["classifications"]))


@pytest.fixture
def write(tmp_path):
    def run(photos=PHOTOS, classes=CLASSES, class_ids=CLASS_IDS, probabilities=PROBABILITIES, info=INFO, **more):
        path = tmp_path / "recognitions.json"
        write_recognitions(path, photos, classes, class_ids, probabilities, info=info, **more)
        return check_rules(path)

    return run


def classifications(content: dict) -> list[list]:
    return [image["detections"][0]["classifications"] for image in content["images"]]


def test_each_photo_has_one_animal_that_fills_it_with_its_classes(write):
    content = write()
    assert [image["file"] for image in content["images"]] == PHOTOS
    for image in content["images"]:
        (detection,) = image["detections"]
        assert (detection["category"], detection["conf"]) == ("1", 1.0)
        assert detection["bbox"] == [0.0, 0.0, 1.0, 1.0]
    assert content["detection_categories"] == {"1": "animal"}
    assert content["classification_categories"] == {"0": "deer", "1": "fox", "2": "boar"}
    assert content["info"] == INFO | {
        "detector": "none: whole photos",
        "format_version": "1.6",
        "detector_metadata": {"typical_detection_threshold": 0.5, "conservative_detection_threshold": 0.05},
        "classifier_metadata": {"typical_classification_threshold": 0.05},
    }


def test_classes_are_sorted_and_those_that_are_out_of_the_question_left_out(write):
    assert classifications(write()) == [
        [["0", 0.7], ["1", 0.3]],
        [["0", 0.87], ["2", 0.1235]],
        [["1", 1.0]],
        [["1", 0.5], ["0", 0.5]],  # equally likely: as given
    ]


def test_a_class_stays_even_if_all_are_out_of_the_question(write):
    assert classifications(write(["a.jpg"], class_ids=[[2, 0]], probabilities=[[0.0, 0.0]])) == [[["2", 0.0]]]
    assert classifications(write(["a.jpg"], class_ids=[[2, 0]], probabilities=[[0.0, 1e-6]])) == [[["0", 0.0]]]


def test_minus_one_stands_for_no_class_and_not_for_the_last_one(write):
    """As `Predictions.second` has it where there is one class only."""
    assert classifications(write(["a.jpg"], class_ids=[[0, -1]], probabilities=[[0.9, 0.9]])) == [[["0", 0.9]]]


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=6))
def test_every_row_of_probabilities_gives_a_sorted_list_that_begins_with_the_largest(tmp_path_factory, row):
    path = tmp_path_factory.getbasetemp() / "r.json"
    classes = [f"class {n}" for n in range(len(row))]
    write_recognitions(path, ["a.jpg"], classes, [np.arange(len(row))], [np.array(row, np.float32)], info={})
    (found,) = classifications(check_rules(path))
    assert found[0][0] == str(int(np.argmax(row)))
    assert len(found) == max(1, sum(round(probability, 4) > 0 for probability in row))
    assert all(abs(row[int(class_id)] - sure) <= 5.1e-5 for class_id, sure in found)


@pytest.mark.parametrize(
    ("classes", "labels"),
    [
        (["animal", "deer"], ["animal (class)", "deer"]),
        (["Animal", "deer"], ["Animal (class)", "deer"]),
        (["animal", "animal (class)"], ["animal (class) (class)", "animal (class)"]),
        (["animal (class)", "animal"], ["animal (class)", "animal (class) (class)"]),
        (["empty", "person", "Deer", "deer"], ["empty", "person", "Deer", "deer"]),
    ],
)
def test_a_class_is_not_called_as_a_detection_category(write, classes, labels):
    content = write(["a.jpg"], classes, [[0, 1]], [[0.5, 0.5]])
    assert list(content["classification_categories"].values()) == labels


def test_photos_that_could_not_be_read_are_told_with_the_reason(write):
    unreadable = iter([("bad/1.jpg", "the file is empty"), ("bad/2.jpg", "truncated")])
    assert write(unreadable=unreadable)["images"][len(PHOTOS) :] == [
        {"file": "bad/1.jpg", "failure": "the file is empty"},
        {"file": "bad/2.jpg", "failure": "truncated"},
    ]


def test_other_boxes_stand_behind_the_one_that_was_classified(write):
    person, deer = ("person", 0.95, (0.1, 0.2, 0.3, 0.4)), ("animal", 0.25, (0.5, 0.5, 0.5, 0.5))
    others = {"top.jpg": [person, deer], "empty/1.jpg": [person]}
    content = write(
        found={"top.jpg": ((0.0, 0.0, 0.25, 0.5), 0.5)},
        empty=["empty/1.jpg", "empty/2.jpg"],
        others=lambda photo: others.get(photo, ()),
        categories=("person", "vehicle"),
    )
    assert content["detection_categories"] == {"1": "animal", "2": "person", "3": "vehicle"}
    detections = {image["file"]: image["detections"] for image in content["images"]}
    assert [each.pop("classifications") for each in detections["top.jpg"][:1]] == [[["0", 0.7], ["1", 0.3]]]
    as_written = {"category": "2", "conf": 0.95, "bbox": [0.1, 0.2, 0.3, 0.4]}
    assert detections["top.jpg"] == [
        {"category": "1", "conf": 0.5, "bbox": [0.0, 0.0, 0.25, 0.5]},
        as_written,
        {"category": "1", "conf": 0.25, "bbox": [0.5, 0.5, 0.5, 0.5]},
    ]
    assert (detections["empty/1.jpg"], detections["empty/2.jpg"]) == ([as_written], [])
    assert [len(detections[photo]) for photo in PHOTOS[1:]] == [1, 1, 1]


def test_a_class_is_not_called_as_another_category_either(write):
    content = write(["a.jpg"], ["Person", "deer"], [[0, 1]], [[0.5, 0.5]], categories=("person",))
    assert list(content["classification_categories"].values()) == ["Person (class)", "deer"]


def test_without_photos_the_file_is_valid_too(write):
    assert write([], class_ids=np.zeros((0, 2), int), probabilities=np.zeros((0, 2)))["images"] == []


def test_a_person_can_look_at_the_file(write, tmp_path):
    write()
    lines = (tmp_path / "recognitions.json").read_text("ascii").splitlines()
    assert lines[0] == "{"
    named = [line for line in lines if line.startswith('{"file": ')]
    assert [json.loads(line.removesuffix(","))["file"] for line in named] == PHOTOS


def test_what_is_said_of_the_model_may_name_a_detector_but_not_change_what_the_file_is(write):
    info = write(info=INFO | {"detector": "other", "format_version": "9", "classifier_metadata": None})["info"]
    assert (info["detector"], info["format_version"]) == ("other", "1.6")
    assert info["classifier_metadata"] == {"typical_classification_threshold": 0.05}


def test_everything_may_come_from_iterators_and_little_of_it_is_held(tmp_path):
    """20,000 photos are some 2 MB of text; their paths alone would need more as objects."""
    n = 20_000
    path = tmp_path / "r.json"

    def write(n: int) -> int:
        tracemalloc.start()
        photos = (f"site/{place}.jpg" for place in range(n))
        ids = (np.array([0, 1, 2]) for _ in range(n))
        probabilities = (np.array([0.5, 0.3, 0.2]) for _ in range(n))
        write_recognitions(path, photos, CLASSES, ids, probabilities, info=INFO)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    write(10)  # what is imported or cached at first use
    few = write(10)
    assert write(n) < few + 200_000
    assert path.stat().st_size > 2e6
    assert len(check_rules(path)["images"]) == n


@pytest.mark.parametrize(
    "changes",
    [
        {"photos": PHOTOS[:2]},
        {"photos": [*PHOTOS, "more.jpg"]},
        {"class_ids": CLASS_IDS[:, :1]},
        {"probabilities": PROBABILITIES * np.float32(1.1)},
        {"probabilities": -PROBABILITIES},
        {"probabilities": PROBABILITIES * np.float32(np.nan)},
        {"classes": ["deer", "fox", "deer"]},
    ],
)
def test_what_does_not_fit_together_leaves_the_file_as_it_was(write, tmp_path, changes):
    before = write()
    with pytest.raises(ValueError):
        write(**changes)
    assert check_rules(tmp_path / "recognitions.json") == before
    assert [path.name for path in tmp_path.iterdir()] == ["recognitions.json"]


def test_a_class_id_without_a_class_is_an_error(write):
    with pytest.raises(IndexError):
        write(class_ids=CLASS_IDS + 1)


# Classifications of detections.

FOUND = {
    "info": {
        "detector": "md_v5a.0.0.pt",
        "format_version": "1.5",
        "mine": {"z": 1, "a": None},
        "detector_metadata": {"conservative_detection_threshold": 0.05},
    },
    "detection_categories": {"1": "animal", "2": "person"},
    "images": [
        {
            "file": "site/a.jpg",
            "width": 2048,
            "detections": [
                {"category": "2", "conf": 0.99, "bbox": [0.1, 0.1, 0.2, 0.3]},
                {"category": "1", "conf": 0.12345678901234567, "bbox": [0.5, 0.1, 0.2, 0.3], "mine": [1, 2.0]},
                {"bbox": [0.0, 0.1, 0.2, 0.3], "conf": 0.9, "category": "1"},
            ],
        },
        {"file": "site/Été.jpg", "detections": []},
        {"file": "site/broken.jpg", "failure": "Failure image access"},
        {"file": "v.mp4", "frame_rate": 20, "frames_processed": [0], "detections": []},
        {"file": "site/b.jpg", "detections": [{"category": "1", "conf": 0.8, "bbox": [0.0, 0.0, 1.0, 1.0]}]},
    ],
}


@pytest.fixture
def add(tmp_path):
    """Classify all animals in a file, the first as fox or deer, the second as boar, then deer again."""

    def run(content: dict, classes=CLASSES, info=INFO):
        path = tmp_path / "md.json"
        path.write_text(json.dumps(content))
        file = read_detections(path)
        animals = file.category_ids()
        detections = [each for photo in file.photos for each in photo.detections if each.category in animals]
        ids = np.resize([[1, 0], [2, 1], [0, 1]], (len(detections), 2))
        probabilities = np.resize([[0.6, 0.4], [1.0, 0.0], [0.3, 0.7]], (len(detections), 2))
        add_classifications(tmp_path / "out.json", file, detections, classes, ids, probabilities, info=info)
        assert file.content == content, "what was read is not changed"
        return json.loads((tmp_path / "out.json").read_text("ascii"))

    return run


def without_ours(content: dict) -> dict:
    """Take out what was added to FOUND."""
    content = copy.deepcopy(content)
    del content["classification_categories"], content["info"]["classifier_metadata"]
    for name in INFO:
        del content["info"][name]
    for image in content["images"]:
        for detection in image.get("detections", []):
            detection.pop("classifications", None)
    return content


def test_each_classified_detection_gets_its_classes(add, tmp_path):
    content = add(FOUND)
    check_rules(tmp_path / "out.json")
    assert content["classification_categories"] == {"0": "deer", "1": "fox", "2": "boar"}
    first, *_, last = content["images"]
    assert [each.get("classifications") for each in first["detections"]] == [
        None,
        [["1", 0.6], ["0", 0.4]],
        [["2", 1.0]],
    ]
    assert last["detections"][0]["classifications"] == [["1", 0.7], ["0", 0.3]]
    assert content["info"].items() >= INFO.items()
    assert content["info"]["classifier_metadata"] == {"typical_classification_threshold": 0.05}


def test_without_what_was_added_the_file_is_what_it_was_to_the_last_key(add):
    assert json.dumps(without_ours(add(FOUND))) == json.dumps(FOUND)  # the order of keys counts
    assert list(add(FOUND)) == ["info", "detection_categories", "classification_categories", "images"]


def test_a_second_model_replaces_what_the_first_said_of_the_same_detections(add):
    once = add(FOUND)
    once["images"][0]["detections"][0]["classifications"] = [["0", 0.5]]  # of the person, by somebody else
    once["info"]["classifier_metadata"]["mine"] = 1
    again = add(once, classes=("boar", "lynx", "fox"), info={"classifier": "other"})
    names = again["classification_categories"]
    assert names == {"0": "deer", "1": "fox", "2": "boar", "3": "lynx"}, "known ones keep their id, new ones follow"
    said = [[(names[each], sure) for each, sure in found] for found in said_of_all(again)]
    assert said == [
        [("deer", 0.5)],
        [("lynx", 0.6), ("boar", 0.4)],
        [("fox", 1.0)],
        [("lynx", 0.7), ("boar", 0.3)],
    ]
    assert again["info"]["classifier"] == "other"
    assert again["info"]["classification_completion_time"] == INFO["classification_completion_time"]
    assert again["info"]["classifier_metadata"] == {"typical_classification_threshold": 0.05, "mine": 1}
    assert json.dumps(without_ours(again)).replace(', "mine": 1}', "}") == json.dumps(FOUND)


def said_of_all(content: dict) -> list[list]:
    detections = [each for image in content["images"] for each in image.get("detections", [])]
    return [each["classifications"] for each in detections if "classifications" in each]


@pytest.mark.parametrize(
    ("known", "ids"),
    [
        ({}, ["0", "1", "2"]),
        ({"7": "wolf"}, ["8", "9", "10"]),
        ({"2": "deer", "0": "boar"}, ["2", "3", "0"]),
        ({"5": "fox", "3": "fox"}, ["6", "5", "7"]),  # of equal names the first
        ({"x": "fox", "1": "Deer"}, ["2", "x", "3"]),  # no number: as it is; another case: another name
        (None, ["0", "1", "2"]),
    ],
)
def test_class_ids_of_the_file_stay_as_they_are(add, known, ids):
    content = add(FOUND | {"classification_categories": known})
    labels = content["classification_categories"]
    assert [labels[each] for each in ids] == list(CLASSES)
    assert {each: labels[each] for each in known or {}} == (known or {})
    assert list(labels)[: len(known or {})] == list(known or {})
    assert content["images"][0]["detections"][1]["classifications"] == [[ids[1], 0.6], [ids[0], 0.4]]


def test_a_class_is_not_called_as_one_of_the_categories_of_the_file(add, tmp_path):
    content = add(FOUND, classes=["Person", "vehicle", "animal"])
    check_rules(tmp_path / "out.json")
    assert list(content["classification_categories"].values()) == ["Person (class)", "vehicle", "animal (class)"]
    assert add(content, classes=["Person", "vehicle", "animal"]) == content, "and is found again"


def test_descriptions_of_classes_are_completed(add, tmp_path):
    """Section 6.5: they must have the same ids."""
    described = FOUND | {"classification_categories": {"4": "fox"}}
    described["classification_category_descriptions"] = {"4": "mammalia;carnivora;canidae;vulpes"}
    content = add(described)
    check_rules(tmp_path / "out.json")
    assert content["classification_category_descriptions"] == {
        "4": "mammalia;carnivora;canidae;vulpes",
        "5": "deer",
        "6": "boar",
    }


def test_null_in_place_of_classifications_is_left_out(add):
    """Section 6.1: Timelapse refuses the file for it."""
    content = copy.deepcopy(FOUND)
    for detection in content["images"][0]["detections"][:2]:
        detection["classifications"] = None
    assert "null" not in json.dumps(add(content)["images"])
    assert add(content) == add(FOUND)


@pytest.mark.parametrize(
    ("version", "written"),
    [
        ("1.0", "1.4"),
        ("1.3", "1.4"),
        (1, "1.4"),
        (1.3, "1.4"),
        (None, "1.4"),
        ("?", "1.4"),
        ("1.4", "1.4"),
        (1.5, "1.5"),
        ("1.6", "1.6"),
        ("1.10", "1.10"),
    ],
)
def test_the_version_becomes_a_text_that_allows_classifications(add, version, written):
    content = add(FOUND | {"info": FOUND["info"] | {"format_version": version}})
    assert content["info"]["format_version"] == written
    assert list(content["info"])[:4] == list(FOUND["info"])


def test_a_file_without_information_gets_some(add, tmp_path):
    content = add({key: value for key, value in FOUND.items() if key != "info"})
    check_rules(tmp_path / "out.json")
    assert next(iter(content)) == "info"


def test_what_makes_no_sense_in_a_file_stays_as_it_is(add):
    odd = copy.deepcopy(FOUND)
    odd["images"] += [None, {"file": "x.jpg"}, {"file": "y.jpg", "detections": ["?", None, {"conf": "high"}]}]
    assert without_ours(add(FOUND))["images"] == odd["images"][:5]
    assert add(odd)["images"][5:] == odd["images"][5:]


def test_a_file_may_be_written_in_the_place_of_the_one_that_was_read(tmp_path):
    path = tmp_path / "md.json"
    path.write_text(json.dumps(FOUND))
    file = read_detections(path)
    add_classifications(path, file, [], CLASSES, np.zeros((0, 1)), np.zeros((0, 1)), info=INFO)
    assert without_ours(check_rules(path)) == FOUND
