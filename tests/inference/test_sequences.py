import csv
import json
import logging
import os

import numpy as np
import pytest
from PIL import Image

from camera_trap_al import predict
from camera_trap_al.exceptions import CheckpointError, ConfigError
from camera_trap_al.inference.sequences import spread_out
from camera_trap_al.model_description import DESCRIPTION_FILE
from camera_trap_al.photos.times import read_times
from camera_trap_al.predictions import Predictions
from camera_trap_al.statistics.sequence_predictions import sequence_probabilities

COLUMNS = ["File", "RelativePath", "Species", "confidence", "second_species", "margin", "decision"]
OF_SEQUENCES = ["sequence", "sequence_species", "sequence_confidence"]
CLASSES = ("blue", "green", "none", "red")
# Two bursts at one site, one at another site in the same minute; the second of the first burst is mistaken.
BURSTS = {
    "north/IMG_1.jpg": ((250, 10, 10), "2024:05:01 23:59:58"),
    "north/IMG_2.jpg": ((100, 110, 90), "2024:05:01 23:59:59"),
    "north/IMG_3.jpg": ((250, 10, 10), "2024:05:02 00:00:01"),
    "north/IMG_4.jpg": ((10, 10, 240), "2024:05:02 09:00:00"),
    "north/IMG_5.jpg": ((90, 90, 110), "2024:05:02 09:00:30"),
    "south/IMG_1.jpg": ((10, 240, 10), "2024:05:01 23:59:59"),
}


def save(image, path, taken_at=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if taken_at is not None:
        exif.get_ifd(0x8769)[0x9003] = taken_at  # DateTimeOriginal
    image.save(path, exif=exif, quality=100, subsampling=0)


def write_jpeg(path, colour, taken_at=None):
    save(Image.new("RGB", (64, 48), colour), path, taken_at)


@pytest.fixture
def bursts(tmp_path):
    for name, (colour, taken_at) in BURSTS.items():
        write_jpeg(tmp_path / "bursts" / name, colour, taken_at)
    return tmp_path / "bursts"


def change(export, **sequences):
    """Give the model a sequence temperature and what else a run writes of sequences."""
    file = export / DESCRIPTION_FILE
    file.write_text(json.dumps(json.loads(file.read_text()) | {"sequences": sequences}))


def groups(frame):
    """Which photos are together, by their positions."""
    return sorted(sorted(of_one.index) for _, of_one in frame.groupby("sequence"))


@pytest.mark.parametrize("temperature", [None, 0.5])
def test_photos_of_a_burst_are_answered_together(export, bursts, expected, temperature, caplog):
    if temperature is not None:
        change(export, temperature=temperature, gap=60.0, pattern=None, site_level=None)
    caplog.set_level(logging.INFO)
    frame = predict(export, bursts)
    assert list(frame.columns) == COLUMNS + OF_SEQUENCES
    assert groups(frame) == [[0, 1, 2], [3, 4], [5]]
    assert "6 of 6 photos say when they were taken" in caplog.text
    assert "6 of 6 photos are in 3 sequences" in caplog.text
    assert frame["Species"].tolist() == ["red", "green", "red", "blue", "blue", "green"]
    # The model has three classes with a label, so that all that it says is kept.
    probabilities = np.stack([expected(colour) for colour, _ in BURSTS.values()]).astype(np.float32)
    of_sequences = sequence_probabilities(probabilities, np.array([0, 0, 0, 1, 1, 2]), temperature or 1.0)
    best = of_sequences.argmax(axis=1)[[0, 0, 0, 1, 1, 2]]
    assert frame["sequence_species"].tolist() == [CLASSES[class_id] for class_id in best]
    np.testing.assert_allclose(
        frame["sequence_confidence"], of_sequences.max(axis=1)[[0, 0, 0, 1, 1, 2]], atol=5e-3
    )  # the colours of a JPEG are off by one
    assert frame["sequence_species"].tolist() == ["red"] * 3 + ["blue"] * 2 + ["green"]
    assert frame.loc[5, "sequence_confidence"] == pytest.approx(frame.loc[5, "confidence"], abs=1e-6)


def test_the_file_says_the_same_as_the_frame_and_recognitions_stay_by_photo(export, bursts, tmp_path):
    frame = predict(export, bursts, output_dir=tmp_path / "out")
    with (tmp_path / "out" / "predictions.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == COLUMNS + OF_SEQUENCES
    for line, (_, row) in zip(lines, frame.iterrows(), strict=True):
        assert line == {name: f"{value:.4f}" if isinstance(value, float) else str(value) for name, value in row.items()}
    recognitions = json.loads((tmp_path / "out" / "recognitions.json").read_text())
    names = recognitions["classification_categories"]
    of_photos = [names[image["detections"][0]["classifications"][0][0]] for image in recognitions["images"]]
    assert of_photos == frame["Species"].tolist()
    assert predict(export, bursts, output_dir=tmp_path / "out").equals(frame), "nothing is classified again"


@pytest.mark.parametrize(
    ("settings", "together"),
    [
        ({"sequence_gap": 1.5}, [[0, 1], [2], [3], [4], [5]]),
        ({"sequence_gap": 10.0}, [[0, 1, 2], [3], [4], [5]]),
        ({"sequence_pattern": "IMG_[15]"}, [[0], [1, 2], [3], [4], [5]]),
        ({"sequence_pattern": "(IMG)_"}, [[0, 1, 2, 3, 4], [5]]),
        ({"sequence_pattern": "(IMG)_", "site_level": 2}, [[0, 1, 2, 3, 4, 5]]),
    ],
)
@pytest.mark.parametrize("of_the_model", [True, False], ids=["model", "argument"])
def test_what_is_one_sequence_is_told_or_as_it_was_in_the_run(export, bursts, settings, together, of_the_model):
    short = {name.removeprefix("sequence_"): value for name, value in settings.items()}
    change(export, **({"gap": 60.0, "pattern": None, "site_level": None} | (short if of_the_model else {})))
    assert groups(predict(export, bursts, **({} if of_the_model else settings))) == together


def test_what_is_told_comes_before_what_the_model_says(export, bursts):
    change(export, gap=1.5, pattern="(IMG)_", site_level=2)
    assert groups(predict(export, bursts, sequence_gap=60, sequence_pattern="", site_level=1)) == [
        [0, 1, 2],
        [3, 4],
        [5],
    ]


def test_sequences_by_name_need_no_times_and_listed_photos_no_common_name(export, tmp_path, write_photo):
    paths = [write_photo(tmp_path / f"SEQ{n}_IMG_{i}.png", (250, 0, 0)) for n in (7, 12) for i in (1, 2)]
    frame = predict(export, paths, sequence_pattern="(SEQ[0-9]+)_IMG")
    assert groups(frame) == [[0, 1], [2, 3]]


@pytest.mark.parametrize(("n_without", "has_columns"), [(6, True), (7, False)])
def test_at_least_half_of_the_photos_must_have_a_time(export, bursts, n_without, has_columns, caplog):
    for number in range(n_without):
        write_jpeg(bursts / "without" / f"{number}.jpg", (10, 240, 10))
    caplog.set_level(logging.INFO)
    frame = predict(export, bursts)
    assert list(frame.columns) == COLUMNS + OF_SEQUENCES * has_columns
    assert f"6 of {6 + n_without} photos say when they were taken" in caplog.text
    if has_columns:
        others = frame[frame["RelativePath"] == "without"]
        assert others["sequence"].isna().all(), "of which no sequence is known"
        assert others["sequence_species"].tolist() == others["Species"].tolist()
        np.testing.assert_allclose(others["sequence_confidence"], others["confidence"], atol=1e-6)
    else:
        assert "Too few photos say when they were taken" in caplog.text


def test_a_photo_is_asked_once_when_it_was_taken_and_again_if_it_has_changed(export, bursts, tmp_path, monkeypatch):
    asked = []

    def watched(paths, n, **options):
        paths = list(paths)
        asked.extend(path.relative_to(bursts).as_posix() for path in paths)
        return read_times(paths, n, **options)

    monkeypatch.setattr("camera_trap_al.inference.sequences.read_times", watched)
    first = predict(export, bursts, output_dir=tmp_path / "out")
    assert asked == list(BURSTS)
    asked.clear()
    assert predict(export, bursts, output_dir=tmp_path / "out").equals(first) and asked == []
    write_jpeg(bursts / "north/IMG_4.jpg", (10, 10, 240), "2024:05:02 00:00:30")
    os.utime(bursts / "north/IMG_4.jpg", (1e9, 1e9))  # a time of change in whole seconds tells files apart
    assert groups(predict(export, bursts, output_dir=tmp_path / "out")) == [[0, 1, 2, 3], [4], [5]]
    assert asked == ["north/IMG_4.jpg"]
    asked.clear()
    paths = [bursts / name for name in BURSTS]
    predict(export, paths, output_dir=tmp_path / "list")
    asked.clear()
    (bursts / "south").rename(bursts / "away")
    assert len(groups(predict(export, paths, output_dir=tmp_path / "list"))) == 2
    assert asked == [], "the drive of a photo may be away"


def test_an_unreadable_photo_counts_for_nothing(export, bursts):
    whole = predict(export, bursts)
    content = (bursts / "north/IMG_2.jpg").read_bytes()
    (bursts / "north/IMG_2.jpg").write_bytes(content[: len(content) // 2 - 50])  # its header is whole
    frame = predict(export, bursts)
    assert frame["File"].tolist() == ["IMG_1.jpg", "IMG_3.jpg", "IMG_4.jpg", "IMG_5.jpg", "IMG_1.jpg"]
    assert frame["sequence_species"].tolist() == ["red", "red", "blue", "blue", "green"]
    assert frame.loc[0, "sequence_confidence"] > whole.loc[0, "sequence_confidence"]


def test_of_several_boxes_the_surest_counts_and_a_photo_without_any_has_the_answer_of_its_burst(export, tmp_path):
    folder = tmp_path / "photos"
    halves = Image.new("RGB", (200, 100), (255, 0, 0))
    halves.paste((0, 0, 255), (100, 0, 200, 100))
    for number in range(3):
        save(halves, folder / f"{number}.jpg", f"2024:05:01 10:00:0{number}")
    left, right = [0.05, 0.1, 0.35, 0.8], [0.6, 0.1, 0.35, 0.8]
    boxes = {
        "0.jpg": [(0.9, left), (0.8, right)],
        "1.jpg": [(0.4, right), (0.7, left), (0.3, right)],
        "2.jpg": [],
    }
    content = {
        "info": {"format_version": "1.4"},
        "detection_categories": {"1": "animal"},
        "images": [
            {"file": name, "detections": [{"category": "1", "conf": conf, "bbox": box} for conf, box in of_photo]}
            for name, of_photo in boxes.items()
        ],
    }
    (tmp_path / "md.json").write_text(json.dumps(content))
    frame = predict(export, folder, detections=tmp_path / "md.json", output_dir=tmp_path / "out")
    assert frame["Species"].tolist() == ["red", "blue", "red", "blue", "blue", ""]
    assert list(frame.columns)[-3:] == OF_SEQUENCES
    assert frame["sequence"].tolist() == [0] * 6
    assert frame["sequence_species"].tolist() == ["red"] * 6
    surest = frame.loc[frame["detection"] == 1, "confidence"].to_numpy()
    odds = np.sqrt(np.prod(surest / (1 - surest)))  # of red against all else, nearly
    assert frame["sequence_confidence"].tolist() == pytest.approx([odds / (1 + odds)] * 6, abs=1e-3)


def test_a_part_of_the_photos_has_sequences_of_its_own(export, bursts):
    parts = [predict(export, bursts, shard=(number, 3)) for number in (1, 2, 3)]
    assert [groups(part) for part in parts] == [[[0, 1]], [[0], [1]], [[0], [1]]]


@pytest.mark.parametrize(
    "settings", [{"sequence_gap": 0}, {"sequence_pattern": "("}, {"sequence_pattern": "(a)(b)"}, {"site_level": 0}]
)
def test_settings_that_cannot_be_are_told(export, bursts, settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        predict(export, bursts, **settings)


def test_a_model_with_a_pattern_that_is_none_is_told(export, bursts):
    change(export, pattern="(")
    with pytest.raises(CheckpointError, match="pattern"):
        predict(export, bursts)


@pytest.mark.parametrize("n_classes", [3, 5, 12])
def test_what_the_likeliest_classes_leave_is_spread_over_the_others_with_a_label(n_classes):
    rng = np.random.default_rng(n_classes)
    is_labelled = np.arange(n_classes) != 1
    probabilities = rng.dirichlet(np.full(n_classes, 0.5), 50).astype(np.float32) * is_labelled
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    found = spread_out(Predictions.of(np.arange(50), probabilities), is_labelled)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert (found[:, 1] == 0).all()
    if n_classes <= 5:
        np.testing.assert_allclose(found, probabilities, atol=1e-6)
    for spread, exact in zip(found, probabilities, strict=True):
        order = sorted(range(n_classes), key=lambda class_id: -exact[class_id])
        assert spread[order[:5]].tolist() == exact[order[:5]].tolist()
        others = [class_id for class_id in order[5:] if is_labelled[class_id]]
        if others:
            np.testing.assert_allclose(spread[others], exact[others].mean(), atol=1e-6)


@pytest.mark.parametrize("n_classes", [10, 40])
def test_sequences_of_what_is_kept_are_nearly_those_of_all_classes(n_classes):
    """Made photos of bursts: half of what blurs the animal is that of the whole burst; 89 to 95 % are named rightly."""
    rng = np.random.default_rng(n_classes)
    sequences, truth = np.repeat(np.arange(2000), 4), rng.integers(0, n_classes, 2000)
    noise = rng.normal(size=(2000, n_classes))[sequences] + rng.normal(size=(8000, n_classes))
    odds = np.exp(3.5 * (3.5 * np.eye(n_classes)[truth][sequences] + noise / np.sqrt(2)))
    probabilities = (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)
    kept = spread_out(Predictions.of(np.arange(8000), probabilities), np.ones(n_classes, np.bool_))
    exact, found = (sequence_probabilities(each, sequences, 0.7) for each in (probabilities, kept))
    assert (exact.argmax(axis=1) == found.argmax(axis=1)).mean() > 0.99
    assert (found.argmax(axis=1) == truth).mean() > (exact.argmax(axis=1) == truth).mean() - 0.005
    assert np.abs(exact.max(axis=1) - found.max(axis=1)).mean() < 0.01
