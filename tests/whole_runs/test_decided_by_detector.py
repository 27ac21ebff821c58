"""Photos in which a detector saw no animal are decided without a question: `detections_empty`, with a tiny network."""

import csv
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from expert_by_name import Expert, tiny_run, tiny_settings
from PIL import Image

from camera_trap_al import RunResult
from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning.active_learning_manager import ActiveLearningEnvironment
from camera_trap_al.run_store import RunStore

pytestmark = pytest.mark.usefixtures("sixteen_pixels")
COLOURS = {"deer": (250, 20, 20), "frog": (20, 250, 20)}
N_UNLABELLED, N_EMPTY = 12, 4


def write_photo(path: Path, name: str, grey: int = 120) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((64, 64, 3), grey, np.uint8)
    pixels[32:48, 32:48] = COLOURS.get(name, grey)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three training photos of each class; twelve others, of which each third is empty."""
    for name in COLOURS:
        for number in range(3):
            write_photo(tmp_path / "train" / name / f"{number}.png", name, grey=80 + 40 * number)
    for number in range(N_UNLABELLED):
        name = ["empty", "deer", "frog"][number % 3]
        write_photo(tmp_path / "unlabelled" / "site" / f"{number:02} {name}.png", name)
    return tmp_path


@pytest.fixture
def found(photos: Path) -> Path:
    """Detections of all photos, with an animal of which the detector is not sure in those that are empty."""
    images = [
        {
            "file": file.relative_to(photos).as_posix(),
            "detections": [
                {"category": "1", "conf": 0.1 if "empty" in file.name else 0.9, "bbox": [0.5, 0.5, 0.2, 0.2]}
            ],
        }
        for file in sorted(photos.rglob("*.png"))
    ]
    content = {"info": {"format_version": "1.5"}, "detection_categories": {"1": "animal"}, "images": images}
    file = photos / "found.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def run(photos: Path, **changes: Any) -> tuple[Expert, RunResult]:
    return tiny_run(photos, **{"output_dir": photos / "run"} | changes)


def table_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def start(photos: Path, **changes: Any) -> ActiveLearningEnvironment:
    with RunStore.open(RunConfig(**tiny_settings(photos, photos / "run", **changes))) as store:
        return ActiveLearningEnvironment.start(store)


def test_photos_that_were_drawn_for_the_audit_before_are_not_asked_about_either(photos: Path, found: Path) -> None:
    run(photos, stop_after=0, audit_fraction=0.5, classes=["empty"])
    before = start(photos, classes=["empty"], audit_fraction=0.5)
    drawn = [before.dataset.catalogue.paths[row] for row in before.pools.audit_to_come().tolist()]
    assert any("empty" in path for path in drawn), "else this shows nothing"
    after = start(photos, classes=["empty"], audit_fraction=0.5, detections=found, detections_empty="empty")
    to_come = [after.dataset.catalogue.paths[row] for row in after.pools.audit_to_come().tolist()]
    assert to_come == [path for path in drawn if "empty" not in path]


def test_the_pixels_of_decided_photos_are_not_measured(photos: Path, found: Path) -> None:
    """Mean and standard deviation are as without these photos."""
    run(photos, stop_after=0, detections=found, detections_empty="empty", predict_pool="rounds")
    for file in (photos / "unlabelled" / "site").glob("*empty*"):
        file.unlink()
    run(photos, stop_after=0, detections=found, classes=["empty"], output_dir=photos / "without")
    for name in ("dataset_mean.npy", "dataset_std.npy"):
        with_them, without = (np.load(photos / folder / "export" / name) for folder in ("run", "without"))
        np.testing.assert_allclose(with_them, without, rtol=1e-6)


def test_decided_photos_are_in_no_set_but_their_own(photos: Path, found: Path) -> None:
    env = start(photos, detections=found, detections_empty="empty", predict_pool="rounds", audit_fraction=0.3)
    decided = env.pools.decided_empty.tolist()
    assert sorted(env.dataset.catalogue.paths[row] for row in decided) == [
        f"site/{number:02} empty.png" for number in range(0, N_UNLABELLED, 3)
    ]
    for rows in (env.pools.unlabelled, env.candidates, env.questions.stop_set, env.rows_to_decode(), env.rows_in_use):
        assert len(rows) and not set(decided) & set(rows.tolist())
    assert not env.pools.is_audit[decided].any()


def test_a_label_of_a_person_stands(photos: Path, found: Path) -> None:
    expert, _ = run(photos, stop_after=2, classes=["empty"])
    n_empty = sum("empty" in path for asked in expert.asked for path in asked)
    assert 0 < n_empty < N_EMPTY, "else this shows nothing"
    env = start(photos, classes=["empty"], detections=found, detections_empty="empty")
    assert len(env.pools.answered) == 6 and len(env.pools.decided_empty) == N_EMPTY - n_empty
    assert np.isin(env.pools.answered, env.pools.labelled).all()
    run(photos, classes=["empty"], detections=found, detections_empty="empty")
    described = json.loads((photos / "run" / "export" / "model.json").read_text(encoding="utf-8"))
    assert described["training"]["labels_per_class"]["empty"] >= n_empty, "it is learnt from"


@pytest.mark.parametrize("written", ["Empty", "EMPTY"])
def test_a_class_that_is_there_is_taken_however_it_is_written(photos: Path, found: Path, written: str) -> None:
    write_photo(photos / "train" / "empty" / "1.png", "empty", grey=60)
    run(photos, stop_after=1, detections=found, detections_empty=written)
    lines = table_of(photos / "run" / "predictions.csv")
    assert {line["Species"] for line in lines if line["decision"] == "detector"} == {"empty"}
    described = json.loads((photos / "run" / "export" / "model.json").read_text(encoding="utf-8"))
    assert described["classes"] == ["deer", "empty", "frog"]


def test_initial_labels_bring_their_classes_all_the_same(photos: Path, found: Path) -> None:
    labels = photos / "known.csv"
    labels.write_text(
        "File,RelativePath,Species\n01 deer.png,site,deer\n02 frog.png,site,frog\n04 deer.png,site,deer\n",
        encoding="utf-8",
    )
    _, result = run(
        photos, train_data=None, initial_labels=labels, detections=found, detections_empty="empty", stop_after=1
    )
    assert result.labels_given == 3
    described = json.loads((photos / "run" / "export" / "model.json").read_text(encoding="utf-8"))
    assert sorted(described["classes"]) == ["deer", "empty", "frog"]


def test_a_run_in_which_all_photos_are_decided_ends_at_once(photos: Path, found: Path) -> None:
    for file in (photos / "unlabelled" / "site").glob("*.png"):
        if "empty" not in file.name:
            file.unlink()
    expert, result = run(photos, detections=found, detections_empty="empty")
    assert (result.ended_because, expert.queries) == ("every photo that may be asked about is labelled", [])
    lines = table_of(photos / "run" / "predictions.csv")
    assert [(line["Species"], line["confidence"], line["decision"]) for line in lines] == [
        ("empty", "0.9000", "detector")
    ] * N_EMPTY
    recognitions = json.loads((photos / "run" / "recognitions.json").read_text(encoding="utf-8"))
    assert [image["detections"] for image in recognitions["images"]] == [[]] * N_EMPTY


def test_beside_predictions_of_bursts_decided_photos_have_empty_cells(photos: Path, found: Path) -> None:
    run(photos, stop_after=1, detections=found, detections_empty="empty", sequence_pattern="^([0-9])")
    lines = table_of(photos / "run" / "predictions.csv")
    assert len(lines) == N_UNLABELLED - 3
    for line in lines:
        assert bool(line["sequence_species"]) == (line["decision"] != "detector")


def test_a_run_that_has_no_boxes_says_that_nothing_is_decided(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(photos, stop_after=0, classes=["empty"])
    env = start(photos, detections_empty="empty")
    assert "detections_empty='empty' has no effect without detections" in caplog.text
    assert len(env.pools.unlabelled) == N_UNLABELLED


def test_the_start_screen_and_the_log_say_what_the_detector_saw(
    photos: Path, found: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    run(photos, stop_after=0, detections=found, detections_empty="empty")
    assert "Detections: 14 photos with one animal, 0 with several, 4 with none" in caplog.text
    assert "4 unlabelled photos without a box are taken for 'empty'" in caplog.text
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("Boxes")]
    assert "of 14 of 18 photos the animal is cut out" in line and "4 without any are empty" in line
