import copy
import gc
import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camera_trap_al.exceptions import DataError
from camera_trap_al.interchange.megadetector import (
    OVERHANG,
    Detection,
    choose_detections,
    format_version,
    read_detections,
)

CATEGORIES = {"1": "animal", "2": "person", "3": "vehicle"}

# As MegaDetector 5 writes it; the numbers are those of its documentation.
CURRENT = {
    "info": {
        "format_version": "1.6",
        "detector": "md_v5a.0.0.pt",
        "detector_metadata": {"typical_detection_threshold": 0.2, "conservative_detection_threshold": 0.05},
    },
    "detection_categories": CATEGORIES,
    "classification_categories": {"0": "fox", "3": "bear"},
    "images": [
        {
            "file": "site/a.jpg",
            "detections": [
                {
                    "category": "1",
                    "conf": 0.926,
                    "bbox": [0.0, 0.2762, 0.1539, 0.2825],
                    "classifications": [["3", 0.901], ["0", 0.071]],
                },
                {"category": "2", "conf": 0.061, "bbox": [0.0451, 0.1849, 0.3642, 0.4636]},
            ],
        },
        {"file": "site/empty.jpg", "detections": [], "failure": None},
        {"file": "site/broken.jpg", "failure": "Failure image access", "detections": None},
        {
            "file": "site/film.mp4",
            "frame_rate": 20,
            "frames_processed": [0, 20],
            "detections": [{"category": "2", "conf": 0.87, "bbox": [0.1, 0.2, 0.3, 0.4], "frame_number": 0}],
        },
    ],
}

# As MegaDetector 4 and earlier wrote it.
OLD = {
    "info": {"detection_completion_time": "2020-01-01 00:00:00", "format_version": "1.0"},
    "detection_categories": CATEGORIES,
    "images": [
        {
            "file": "site\\a.jpg",
            "max_detection_conf": 0.926,
            "detections": [{"category": "1", "conf": 0.926, "bbox": [0.0, 0.2762, 0.1539, 0.2825]}],
        },
        {"file": "site\\empty.jpg", "max_detection_conf": 0.0, "detections": []},
        {"file": "site\\broken.jpg", "failure": "Failure image access"},
    ],
}


@pytest.fixture
def read(tmp_path):
    """Read what JSON makes of some content."""

    def run(content: object):
        (tmp_path / "md.json").write_text(json.dumps(content))
        return read_detections(tmp_path / "md.json")

    return run


@pytest.fixture
def read_one(read):
    """Read a file with one detection: what is in the file of it, and what is skipped."""

    def run(**changes: object):
        detection = {"category": "1", "conf": 0.5, "bbox": [0.1, 0.2, 0.3, 0.4]} | changes
        file = read(CURRENT | {"images": [{"file": "a.jpg", "detections": [detection]}]})
        return file.photos[0].detections, file.skipped

    return run


def test_a_current_file_is_read(read):
    file = read(CURRENT)
    assert file.categories == CATEGORIES
    assert [photo.file for photo in file.photos] == ["site/a.jpg", "site/empty.jpg", "site/broken.jpg"]
    assert file.photos[0].detections == (
        Detection(0, 0, "1", 0.926, (0.0, 0.2762, 0.1539, 0.2825)),
        Detection(0, 1, "2", 0.061, (0.0451, 0.1849, 0.3642, 0.4636)),
    )
    assert [photo.failure for photo in file.photos] == ["", "", "Failure image access"]
    assert (file.n_videos, file.skipped) == (1, ())
    assert file.content == CURRENT


def test_an_old_file_is_read_as_a_current_one(read):
    file = read(OLD)
    assert [photo.file for photo in file.photos] == ["site\\a.jpg", "site\\empty.jpg", "site\\broken.jpg"]
    assert file.photos[0].detections == (Detection(0, 0, "1", 0.926, (0.0, 0.2762, 0.1539, 0.2825)),)
    assert [photo.failure for photo in file.photos] == ["", "", "Failure image access"]


@pytest.mark.parametrize(
    "version", ["1.0", "1.1", "1.2", "1.3", "1.4", "1.5", "1.6", "1.10", 1, 1.0, 1.3, 1.6, None, "?"]
)
def test_every_version_from_1_on_is_read_be_it_a_text_a_number_or_missing(read, version):
    assert len(read(CURRENT | {"info": {"format_version": version}}).photos) == 3
    assert len(read(CURRENT | {"info": None}).photos) == 3
    assert len(read({key: value for key, value in CURRENT.items() if key != "info"}).photos) == 3


@pytest.mark.parametrize(
    ("version", "read_as"), [("1.6", (1, 6)), (1.3, (1, 3)), (1, (1, 0)), ("1.10", (1, 10)), ("x", None), (None, None)]
)
def test_the_version_is_understood(version, read_as):
    assert format_version({"info": {"format_version": version}}) == read_as


def test_the_encoding_and_a_mark_before_the_text_do_not_matter(tmp_path):
    content = CURRENT | {"images": [{"file": "Forêt/Été 日本.jpg", "detections": []}]}
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        (tmp_path / "md.json").write_text(json.dumps(content, ensure_ascii=False), encoding=encoding)
        assert read_detections(tmp_path / "md.json").photos[0].file == "Forêt/Été 日本.jpg"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "it is no JSON"),
        ("File,RelativePath\n1.jpg,a", "it is no JSON"),
        (json.dumps(CURRENT)[:-40], "it is no JSON"),
        ("[" * 100_000, "it is no JSON"),
        ('"text"', "it holds no list of photos"),
        ('[{"img_id": "a.jpg", "bbox": [[10, 20, 30, 40]]}]', "PytorchWildlife.*its Timelapse format"),
        ('{"annotations": [], "categories": {}}', "PytorchWildlife.*its Timelapse format"),
        (json.dumps({"info": {}, "detection_categories": CATEGORIES}), 'no list of photos.*"images"'),
        (json.dumps(CURRENT | {"images": {}}), 'no list of photos.*"images"'),
        (json.dumps({"info": {}, "images": []}), '"detection_categories"'),
        (json.dumps(CURRENT | {"detection_categories": ["animal"]}), '"detection_categories"'),
        (json.dumps(CURRENT | {"info": {"format_version": "2.0"}}), "has the format 2.0, and only 1.0 to 1.6.*Update"),
        (json.dumps(CURRENT | {"info": {"format_version": 2}}), "has the format 2.0"),
    ],
)
def test_another_kind_of_file_is_refused_with_the_reason(tmp_path, text, told):
    path = tmp_path / "md.json"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"md\.json: this .*{told}") as caught:
        read_detections(path)
    assert caught.value.path == path


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "md.json").write_bytes(b'{"images": "\xff\xfe\xfd"}')
    with pytest.raises(DataError, match="it is no JSON"):
        read_detections(tmp_path / "md.json")


@pytest.mark.parametrize("name", ["missing.json", "."])
def test_a_file_that_cannot_be_opened_is_a_data_error(tmp_path, name):
    with pytest.raises(DataError, match=r"the detections cannot be read \(.+\)") as caught:
        read_detections(tmp_path / name)
    assert caught.value.path == tmp_path / name


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"bbox": [0.1, 0.2, 0.3]}, "four numbers"),
        ({"bbox": None}, "four numbers"),
        ({"bbox": {"x": 0.1}}, "four numbers"),
        ({"bbox": [0.1, 0.2, 0.3, "0.4"]}, "no number: '0.4'"),
        ({"bbox": [0.1, 0.2, 0.3, True]}, "no number: True"),
        ({"bbox": [0.1, 0.2, 0.3, float("nan")]}, "no number: nan"),
        ({"bbox": [0.1, 0.2, 0.3, float("inf")]}, "no number: inf"),
        ({"bbox": [0.1, 0.2, 0.3, 10**400]}, "no number"),
        ({"bbox": [0.1, 0.2, 0.95, 0.4]}, "outside the photo"),
        ({"bbox": [-0.1, 0.2, 0.3, 0.4]}, "outside the photo"),
        ({"bbox": [0.1, 0.8, 0.3, 0.4]}, "outside the photo"),
        ({"bbox": [120, 240, 310, 95]}, "in shares of its sides"),  # pixels
        ({"bbox": [0.1, 0.2, 0.0, 0.4]}, "no area"),
        ({"bbox": [0.1, 0.2, 0.3, -0.1]}, "no area"),
        ({"bbox": [-0.004, 0.2, 0.003, 0.4]}, "no area"),
        ({"conf": "0.9"}, "its confidence is no number"),
        ({"conf": None}, "its confidence is no number"),
        ({"conf": float("nan")}, "its confidence is no number"),
        ({"conf": 1.5}, "its confidence does not lie between 0 and 1: 1.5"),
        ({"conf": 87}, "its confidence does not lie between 0 and 1: 87.0"),
        ({"conf": -0.1}, "its confidence does not lie between 0 and 1: -0.1"),
        ({"category": "7"}, "category '7' is not in the file's list"),
        ({"category": None}, "not in the file's list"),
    ],
)
def test_a_detection_that_cannot_be_used_is_skipped_with_the_reason(read_one, changes, reason):
    detections, skipped = read_one(**changes)
    assert detections == ()
    assert [(each.file, each.entry, each.position) for each in skipped] == [("a.jpg", 0, 0)]
    assert reason in skipped[0].reason
    assert str(skipped[0]).startswith("a.jpg, detection 1: ")


def test_places_count_what_is_skipped(read):
    good = {"category": "1", "conf": 0.5, "bbox": [0.1, 0.2, 0.3, 0.4]}
    entries = [None, {"file": 7}, {"file": ""}, {"file": "a.jpg", "detections": ["?", good]}, {"file": "b.jpg"}]
    file = read(CURRENT | {"images": [*entries, {"file": "v.mp4", "frame_rate": 5}]})
    assert [(detection.entry, detection.position) for detection in file.photos[0].detections] == [(3, 1)]
    assert [(each.entry, each.position) for each in file.skipped] == [(0, None), (1, None), (2, None), (3, 0)]
    assert file.photos[1].failure == "its entry has no list of detections"
    assert str(file.skipped[0]).startswith("entry 1: ")


def test_whole_numbers_are_numbers_too(read_one):
    detections, _ = read_one(category=1, conf=1, bbox=[0, 0, 1, 1])
    assert detections == (Detection(0, 0, "1", 1.0, (0.0, 0.0, 1.0, 1.0)),)
    assert all(type(value) is float for value in (detections[0].confidence, *detections[0].box))


@pytest.mark.parametrize(
    ("written", "box"),
    [
        ([-0.004, 0.2, 0.3, 0.4], (0.0, 0.2, 0.296, 0.4)),
        ([0.7, -0.001, 0.304, 0.5], (0.7, 0.0, 0.3, 0.499)),
        ([-0.001, -0.002, 1.003, 1.004], (0.0, 0.0, 1.0, 1.0)),
        ([0.1, 0.2, 0.3, 0.4], (0.1, 0.2, 0.3, 0.4)),
    ],
)
def test_what_hangs_over_by_rounding_is_cut_off(read_one, written, box):
    detections, skipped = read_one(bbox=written)
    assert skipped == ()
    assert detections[0].box == pytest.approx(box)


near_shares = st.floats(-2 * OVERHANG, 1 + 2 * OVERHANG)


@given(near_shares, near_shares, near_shares, near_shares)
def test_every_box_that_is_read_lies_in_the_photo(tmp_path_factory, x, y, width, height):
    path = tmp_path_factory.getbasetemp() / "box.json"
    detection = {"category": "1", "conf": 0.5, "bbox": [x, y, width, height]}
    path.write_text(json.dumps(CURRENT | {"images": [{"file": "a.jpg", "detections": [detection]}]}))
    file = read_detections(path)
    for read in file.photos[0].detections:
        x, y, width, height = read.box
        assert min(x, y) >= 0 and min(width, height) > 0 and max(x + width, y + height) <= 1 + 1e-12
    assert len(file.photos[0].detections) + len(file.skipped) == 1


def test_categories_are_found_by_name_in_any_case(read):
    file = read(CURRENT | {"detection_categories": {"0": "Animal", "1": "person", "2": "ANIMAL", "3": "dog"}})
    assert file.category_ids() == {"0", "2"}
    assert file.category_ids({"Person", "dog", "cat"}) == {"1", "3"}
    with pytest.raises(DataError, match=r"no category .* is called cat; it has: Animal, person, ANIMAL, dog"):
        file.category_ids({"cat"})


def test_the_most_confident_detections_of_the_wanted_categories_are_chosen_first():
    box = (0.0, 0.0, 1.0, 1.0)
    given = [("1", 0.2), ("1", 0.9), ("2", 1.0), ("3", 0.5), ("1", 0.5), ("1", 0.199), ("3", 0.9)]
    detections = [Detection(0, place, category, conf, box) for place, (category, conf) in enumerate(given)]
    chosen = choose_detections(detections, {"1", "3"}, 0.2)
    assert [detection.position for detection in chosen] == [1, 6, 3, 4, 0]
    assert choose_detections(detections, {"1"}, 0.95) == []


@pytest.mark.parametrize("is_on", [True, False])
def test_the_search_for_garbage_is_as_before_also_after_an_error(tmp_path, read, is_on):
    was_on = gc.isenabled()
    try:
        (gc.enable if is_on else gc.disable)()
        read(CURRENT)
        assert gc.isenabled() == is_on
        with pytest.raises(DataError):
            read([])
        assert gc.isenabled() == is_on
    finally:
        (gc.enable if was_on else gc.disable)()


def test_time_grows_no_faster_than_the_number_of_photos(tmp_path):
    """Ten times the photos may take twenty times as long, where the square would be a hundred times."""

    def seconds(n: int) -> float:
        path = tmp_path / f"{n}.json"
        entry = copy.deepcopy(CURRENT["images"][0])
        path.write_text(json.dumps(CURRENT | {"images": [entry | {"file": f"{each}.jpg"} for each in range(n)]}))
        start = time.process_time()
        assert len(read_detections(Path(path)).photos) == n
        return time.process_time() - start

    least = min(seconds(3000) for _ in range(3))
    assert seconds(30_000) < 20 * least + 0.5
