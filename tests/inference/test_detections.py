import csv
import json
from datetime import datetime

import pytest
from PIL import Image

from camera_trap_al import predict
from camera_trap_al.exceptions import DataError


def detection(box, conf=0.9, category="1"):
    return {"category": category, "conf": conf, "bbox": box}


LEFT, RIGHT = [0.05, 0.1, 0.35, 0.8], [0.6, 0.1, 0.35, 0.8]


@pytest.fixture
def halves(tmp_path):
    """A photo that is red on the left and blue on the right, one that is green, and an empty one."""
    folder = tmp_path / "photos" / "site"
    folder.mkdir(parents=True)
    both = Image.new("RGB", (800, 400), (255, 0, 0))
    both.paste((0, 0, 255), (400, 0, 800, 400))
    both.save(folder / "both.jpg")
    Image.new("RGB", (400, 400), (0, 255, 0)).save(folder / "green.jpg")
    Image.new("RGB", (400, 400), (9, 9, 9)).save(folder / "nothing.jpg")
    return tmp_path / "photos"


@pytest.fixture
def detected(tmp_path):
    """Function that writes a detection file."""

    def write(**images):
        entries = [{"file": f"site/{name}.jpg", "detections": found} for name, found in images.items()]
        content = {
            "info": {"format_version": "1.4", "detector": "md_v5a"},
            "detection_categories": {"1": "animal", "2": "person"},
            "images": entries,
            "notes": "kept as they are",
        }
        path = tmp_path / "md.json"
        path.write_text(json.dumps(content))
        return path

    return write


def test_each_animal_is_named_by_what_is_in_its_box(export, halves, detected, tmp_path):
    file = detected(
        both=[detection(RIGHT, 0.5), detection(LEFT, 0.8), detection(LEFT, 0.1), detection(LEFT, 0.9, "2")],
        green=[detection([0.2, 0.2, 0.4, 0.4])],
        nothing=[],
    )
    frame = predict(export, halves, detections=file, output_dir=tmp_path / "out")
    assert frame["why_no_species"].tolist() == ["", "", "", "no animal was detected"]
    assert frame[["File", "Species", "detection", "detection_confidence"]].fillna(0).values.tolist() == [
        ["both.jpg", "red", 1, 0.8],
        ["both.jpg", "blue", 2, 0.5],
        ["green.jpg", "green", 1, 0.9],
        ["nothing.jpg", "", 0, 0],
    ]
    with (tmp_path / "out" / "predictions.csv").open(newline="", encoding="utf-8") as lines:
        assert [line["Species"] for line in csv.DictReader(lines)] == ["red", "blue", "green", ""]


def test_the_file_comes_back_with_classifications_and_nothing_else_changed(export, halves, detected, tmp_path):
    file = detected(both=[detection(RIGHT, 0.5), detection(LEFT, 0.1)], green=[], absent=[detection(LEFT)])
    predict(export, halves, detections=file, output_dir=tmp_path / "out")
    before, after = (json.loads(path.read_text()) for path in (file, tmp_path / "out" / "recognitions.json"))
    classes = after.pop("classification_categories")
    (best, _), *_ = after["images"][0]["detections"][0].pop("classifications")
    assert classes[best] == "blue"
    assert after["info"].pop("classification_completion_time")
    assert after["info"].pop("classifier").startswith("camera_trap_al")
    assert after.keys() == before.keys() and after["images"] == before["images"]
    assert after["notes"] == before["notes"] and after["info"]["detector"] == "md_v5a"


def test_the_time_of_an_earlier_classification_is_replaced(export, halves, detected, tmp_path):
    file = detected(both=[detection(RIGHT)])
    content = json.loads(file.read_text())
    content["info"] |= {"classifier": "other", "classification_completion_time": "2020-01-01 00:00:00"}
    file.write_text(json.dumps(content))
    before = datetime.now().replace(microsecond=0)
    predict(export, halves, detections=file, output_dir=tmp_path / "out")
    info = json.loads((tmp_path / "out" / "recognitions.json").read_text())["info"]
    told = datetime.strptime(info["classification_completion_time"], "%Y-%m-%d %H:%M:%S")
    assert before <= told <= datetime.now()


def test_boxes_outside_of_the_photo_are_skipped_and_told(export, halves, detected, caplog):
    file = detected(both=[detection([0.9, 0.9, 0.5, 0.5]), detection(LEFT)], green=[], nothing=[])
    frame = predict(export, halves, detections=file)
    assert frame["Species"].tolist() == ["red", "", ""]
    assert "1 detections cannot be used" in caplog.text


def test_a_line_without_a_species_says_why(export, halves, detected, tmp_path, caplog):
    file = detected(both=[detection([0.9, 0.9, 0.5, 0.5])], green=[detection(LEFT, 0.1)])
    content = json.loads(file.read_text())
    content["images"].append({"file": "site/broken.jpg", "detections": None, "failure": "Failure image access"})
    file.write_text(json.dumps(content))
    Image.new("RGB", (40, 40)).save(halves / "site" / "broken.jpg")
    frame = predict(export, halves, detections=file, output_dir=tmp_path / "out")
    assert dict(zip(frame["File"], frame["why_no_species"], strict=True)) == {
        "both.jpg": "what was detected cannot be used",
        "broken.jpg": "the detector could not read the photo",
        "green.jpg": "no animal was detected",
        "nothing.jpg": "the detection file has no entry of the photo",
    }
    assert caplog.text.count("1 photos are not looked at, so that an animal in them is missed") == 3
    with (tmp_path / "out" / "skipped_detections.csv").open(newline="", encoding="utf-8") as lines:
        header, line = csv.reader(lines)
    assert (header, line[:2]) == (["detection", "path", "reason"], ["1", "site/both.jpg"])
    assert "outside the photo" in line[2]


@pytest.mark.parametrize("begins", ["D:\\field\\2027\\", "/mnt/nas/2027/", "{photos}/", ""])
def test_a_list_of_absolute_paths_matches_as_the_folder_of_the_photos_does(export, halves, tmp_path, begins):
    """The paths of the file are of another computer, of this one, or relative to the folder of the photos."""
    Image.new("RGB", (40, 40), (0, 0, 255)).save(halves / "blue.jpg")
    found = {"site/both.jpg": [detection(LEFT)], "site/green.jpg": [detection(LEFT)], "blue.jpg": []}
    begins = begins.format(photos=halves)
    content = {
        "info": {"format_version": "1.4"},
        "detection_categories": {"1": "animal"},
        "images": [
            {"file": begins + (name.replace("/", "\\") if "\\" in begins else name), "detections": each}
            for name, each in found.items()
        ],
    }
    (tmp_path / "md.json").write_text(json.dumps(content))
    paths = [halves / name for name in ("site/both.jpg", "site/nothing.jpg", "blue.jpg", "site/green.jpg")]
    frame = predict(export, paths, detections=tmp_path / "md.json", output_dir=tmp_path / "out")
    assert frame["Species"].tolist() == ["red", "", "", "green"]
    assert frame["why_no_species"].tolist() == [
        "",
        "the detection file has no entry of the photo",
        "no animal was detected",
        "",
    ]
    assert frame["RelativePath"].tolist()[2] == predict(export, paths)["RelativePath"].tolist()[2]


def test_a_file_that_lists_no_photo_is_told(export, halves, detected):
    with pytest.raises(DataError, match=r"md\.json: the file lists no photo"):
        predict(export, halves, detections=detected())


def test_detections_of_other_photos_are_told(export, halves, detected):
    with pytest.raises(DataError, match="none of its entries"):
        predict(export, halves, detections=detected(absent=[detection(LEFT)], gone=[]))


def test_a_file_of_something_else_is_told(export, halves, tmp_path):
    (tmp_path / "md.json").write_text("[]")
    with pytest.raises(DataError, match=r"md\.json"):
        predict(export, halves, detections=tmp_path / "md.json")


def test_other_boxes_are_other_questions(export, halves, detected, tmp_path):
    first = predict(export, halves, detections=detected(both=[detection(LEFT)]), output_dir=tmp_path / "out")
    second = predict(export, halves, detections=detected(both=[detection(RIGHT)]), output_dir=tmp_path / "out")
    assert (first.loc[0, "Species"], second.loc[0, "Species"]) == ("red", "blue")


def test_recognitions_of_whole_photos_say_what_the_table_says(export, photos, tmp_path):
    (photos / "broken.jpg").write_bytes(b"no photo")
    frame = predict(export, photos, output_dir=tmp_path / "out")
    content = json.loads((tmp_path / "out" / "recognitions.json").read_text())
    told = [image for image in content["images"] if "failure" not in image]
    best = [image["detections"][0]["classifications"][0] for image in told]
    assert [content["classification_categories"][class_id] for class_id, _ in best] == frame["Species"].tolist()
    assert [image["file"] for image in content["images"] if "failure" in image] == ["broken.jpg"]
