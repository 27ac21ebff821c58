"""What a run exported, applied to the photos that it predicted itself."""

import builtins
import csv
import io
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from camera_trap_al import predict, run_active_learning
from camera_trap_al.exceptions import CheckpointError, ConfigError
from camera_trap_al.files import sha256_of
from camera_trap_al.inference.networks import onnxruntime_network, torch_network
from camera_trap_al.model_description import ModelDescription
from camera_trap_al.photos.images import read_photo, squeeze

SETTINGS = {
    **{"use_pretrained": False, "feat_dim": 8, "seed": 3, "device": "cpu"},
    **{"embedding_train_num_epochs": 1, "classifier_params": {"max_iter": 100}, "active_batch": 2, "max_labels": 2},
}


@pytest.fixture(scope="module", params=["triplet", "softmax"])
def a_run(request, tmp_path_factory, sixteen_pixels):
    """Run folder, and the folder of unlabelled photos, of a run with eight photos of each of two colours."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(0)
    for role, n_photos in (("train", 4), ("unlabelled", 8), ("validation", 4)):
        for species, hue in (("fox", (200, 90, 30)), ("jay", (40, 80, 190))):
            for number in range(n_photos):
                noise = rng.integers(0, 60, (6, 8, 3))
                place = f"{species}" if role != "unlabelled" else f"site_{number % 2}"
                path = folder / role / place / f"{species}_{number}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = np.clip(np.array(hue) + noise, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).resize((300, 260), Image.Resampling.BICUBIC).save(path, quality=95)
    (folder / "train" / "wolf").mkdir()  # a class without a label
    run_active_learning(
        folder / "train",
        folder / "unlabelled",
        folder / "validation",
        output_dir=folder / "run",
        embedding_loss_type=request.param,
        label_source=lambda query: [Path(path).name.partition("_")[0] for path in query.paths],
        **SETTINGS,
    )
    return folder / "run", folder / "unlabelled"


def rows_of(file):
    with file.open(newline="", encoding="utf-8") as lines:
        return {(line["RelativePath"], line["File"]): line for line in csv.DictReader(lines)}


@pytest.mark.parametrize("engine", ["onnxruntime", "torch"])
def test_predictions_are_those_of_the_run(a_run, engine, tmp_path):
    run, photos = a_run
    predict(run / "export", photos, output_dir=tmp_path / "out", engine=engine)
    of_run, found = rows_of(run / "predictions.csv"), rows_of(tmp_path / "out" / "predictions.csv")
    assert len(of_run) == 14 and of_run.keys() <= found.keys() and len(found) == 16
    for photo, line in of_run.items():
        assert found[photo]["Species"] == line["Species"]
        assert float(found[photo]["confidence"]) == pytest.approx(float(line["confidence"]), abs=2e-4)


def test_an_answer_is_the_same_alone_and_in_a_folder_of_one_species(a_run, tmp_path):
    run, photos = a_run
    foxes = sorted(path for path in photos.rglob("*.jpg") if path.name.startswith("fox"))
    predict(run / "export", photos, output_dir=tmp_path / "all")
    together = {file: line for (_, file), line in rows_of(tmp_path / "all" / "predictions.csv").items()}
    predict(run / "export", foxes, output_dir=tmp_path / "foxes")
    of_foxes = rows_of(tmp_path / "foxes" / "predictions.csv")
    assert len(of_foxes) == 8
    for photo in foxes:
        predict(run / "export", [photo], output_dir=tmp_path / photo.stem)
        ((place, line),) = rows_of(tmp_path / photo.stem / "predictions.csv").items()
        assert line == of_foxes[place]
        assert line == together[photo.name] | {"RelativePath": line["RelativePath"]}


def test_engines_agree(a_run):
    run, _ = a_run
    description = ModelDescription.read(run / "export")
    rng = np.random.default_rng(1)
    images = np.stack([squeeze(rng.integers(0, 256, (9, 9, 3), np.uint8)) for _ in range(7)])
    before = torch.random.get_rng_state()
    by_torch = torch_network(run / "export", description, "cpu")(images)
    assert torch.equal(torch.random.get_rng_state(), before)
    by_onnxruntime = onnxruntime_network(run / "export", description, "cpu")(images)
    np.testing.assert_allclose(by_torch, by_onnxruntime, atol=1e-4)
    assert (by_torch[:, description.classes.index("wolf")] == 0).all()


def changed(content):
    """Another file of the same length."""
    return content[:-1] + bytes([content[-1] ^ 1])


def test_what_the_export_says_of_itself(a_run):
    run, _ = a_run
    description = ModelDescription.read(run / "export")
    assert description.classes == ("fox", "jay", "wolf") and description.labelled_classes == ("fox", "jay")
    assert description.training["labels"] == 10 and description.training["labels_per_class"]["wolf"] == 0
    assert description.calibration["source"] == "validation" and description.calibration["n_photos"] == 8
    assert "at least 100 are needed" in description.thresholds["why_none"]
    metrics = json.loads((run / "test_results" / "train_set_size_10" / "metrics.json").read_text())
    assert metrics["temperature"] == description.calibration["temperature"]
    assert metrics["expected_calibration_error"] == description.calibration["ece_before"]
    assert metrics["expected_calibration_error_calibrated"] == description.calibration["ece_after"]


def test_the_calibration_error_is_that_of_the_validation_photos_without_a_temperature(a_run):
    """By the definition of Guo et al. [2017], with what model.onnx says of the photos, the temperature taken back."""
    run, unlabelled = a_run
    description = ModelDescription.read(run / "export")
    photos = sorted((unlabelled.parent / "validation").rglob("*.jpg"))
    network = onnxruntime_network(run / "export", description, "cpu")
    powers = network(np.stack([read_photo(photo, squeeze) for photo in photos])) ** np.float64(
        description.calibration["temperature"]
    )
    plain = powers / powers.sum(axis=1, keepdims=True)
    error = 0.0
    for low in range(15):
        of_bin = [at for at, row in enumerate(plain) if low / 15 < row.max() <= (low + 1) / 15]
        right = [description.classes[plain[at].argmax()] == photos[at].parent.name for at in of_bin]
        error += abs(sum(right) - sum(plain[at].max() for at in of_bin)) / len(photos)
    assert 1e-3 < error < 1  # otherwise the test shows little
    assert description.calibration["ece_before"] == pytest.approx(error, abs=1e-4)


@pytest.mark.parametrize("temperature", [0.5, 1, 1.5])
def test_the_torch_engine_bounds_what_a_classifier_of_trees_answers(a_run, tmp_path, temperature):
    """Sums of trees end a little below 0 and above 1 in onnxruntime; a power of less than 0 is NaN."""
    run, _ = a_run
    export = Path(shutil.copytree(run / "export", tmp_path / "export"))
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 15]>
        trees (float[n, 8] embeddings) => (float[m] label, float[one, two] probabilities)
        {
            label = Constant<value_floats = [1.0]>()
            probabilities = Constant<value = float[1, 2] {-1.1920929e-7, 1.0000001}>()
        }"""
    )
    (export / "classifier.onnx").write_bytes(model.SerializeToString())
    description = ModelDescription.read(export)
    description = replace(
        description,
        parts={**description.parts, "classifier.onnx": sha256_of(export / "classifier.onnx")},
        calibration={**description.calibration, "temperature": temperature},
    )
    images = np.zeros((1, 256, 256, 3), np.uint8)
    assert torch_network(export, description, "cpu")(images).tolist() == [[0, 1, 0]]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("embedding_model_weights.pt", b"no network"),
        ("embedding_model_weights.pt", None),
        ("embedding_scaler.npz", b"no arrays"),
        ("classifier.onnx", "changed"),
        ("embedding_model_weights.pt", "changed"),
        ("dataset_std.npy", "changed"),
        ("dataset_mean.npy", None),
        ("classifier.onnx", b"no model"),
    ],
)
def test_the_torch_engine_tells_a_missing_or_foreign_file(a_run, tmp_path, name, content):
    run, photos = a_run
    if content == "changed":
        content = changed((run / "export" / name).read_bytes())
    export = tmp_path / "export"
    export.mkdir()
    for file in (run / "export").iterdir():
        (export / file.name).write_bytes(file.read_bytes())
    (export / name).unlink() if content is None else (export / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name):
        predict(export, photos, engine="torch")
    predict(export, photos)  # model.onnx needs none of them


@pytest.mark.parametrize("load", [onnxruntime_network, torch_network])
def test_each_file_is_read_once_so_that_what_was_checked_is_what_is_used(a_run, monkeypatch, load):
    """A run that goes on writes its export anew each round, so at any time between two looks at a file."""
    run, _ = a_run
    description = ModelDescription.read(run / "export")
    read = []
    for module in (io, builtins):
        really = module.open
        opens = lambda file, *args, really=really, **rest: (read.append(str(file)), really(file, *args, **rest))[1]  # noqa: E731
        monkeypatch.setattr(module, "open", opens)
    load(run / "export", description, "cpu")
    monkeypatch.undo()
    times = Counter(Path(file).name for file in read if Path(file).parent == run / "export")
    of_the_parts = {*description.parts, "embedding_model_weights.pt"}
    assert times == dict.fromkeys({"model.onnx"} if load is onnxruntime_network else of_the_parts, 1)


def test_the_torch_engine_tells_a_part_that_was_written_anew_after_the_description_was_read(a_run, tmp_path):
    run, _ = a_run
    export = Path(shutil.copytree(run / "export", tmp_path / "export"))
    description = ModelDescription.read(export)
    for name in description.parts:
        content = (export / name).read_bytes()
        (export / name).write_bytes(changed(content))
        with pytest.raises(CheckpointError, match=rf"{name}: this is not the file"):
            torch_network(export, description, "cpu")
        (export / name).write_bytes(content)
    without = {name: sha256 for name, sha256 in description.parts.items() if name != "classifier.onnx"}
    with pytest.raises(CheckpointError, match=r"model\.json: it does not say which file classifier\.onnx belongs"):
        torch_network(export, replace(description, parts=without), "cpu")


def test_a_device_that_torch_does_not_know_is_told(a_run):
    run, photos = a_run
    with pytest.raises(ConfigError, match="device"):
        predict(run / "export", photos, engine="torch", device="abacus")


@pytest.fixture(scope="module")
def a_run_with_bursts(tmp_path_factory, sixteen_pixels):
    """Run folder, and the folder of unlabelled photos: five bursts of three, and 24 of two for validation."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("bursts")
    rng = np.random.default_rng(1)
    hues = {"fox": (170, 90, 60), "jay": (80, 80, 160)}
    bursts = [("train", f"{species}/{n}", species, 2) for n in range(3) for species in hues]
    bursts += [("unlabelled", f"site_{n % 2}", "jay" if n % 2 else "fox", 3) for n in range(5)]
    bursts += [
        ("validation", f"{'jay' if n % 2 else 'fox'}/site_{n % 3}", "jay" if n % 2 else "fox", 2) for n in range(24)
    ]
    for minute, (role, place, species, n_photos) in enumerate(bursts):
        hue = np.array(hues[species]) + rng.normal(0, 30, 3)
        for second in range(n_photos):
            path = folder / role / place / f"IMG_{minute:02}_{second}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            exif = Image.Exif()
            exif.get_ifd(0x8769)[0x9003] = f"2024:05:01 {10 + minute // 60}:{minute % 60:02}:{second:02}"
            pixels = np.clip(hue + rng.integers(-40, 40, (6, 8, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).resize((300, 260), Image.Resampling.BICUBIC).save(path, quality=95, exif=exif)
    run_active_learning(
        *(folder / role for role in ("train", "unlabelled", "validation")),
        output_dir=folder / "run",
        label_source=lambda query: ["jay" if "site_1" in path else "fox" for path in query.paths],
        sequence_gap=30,
        **SETTINGS,
    )
    return folder / "run", folder / "unlabelled"


def test_a_run_and_its_export_say_the_same_of_bursts(a_run_with_bursts, tmp_path):
    run, photos = a_run_with_bursts
    sequences = ModelDescription.read(run / "export").sequences
    assert (sequences["gap"], sequences["source"], sequences["n_sequences"]) == (30.0, "validation", 24)
    assert sequences["temperature"] != 1
    predict(run / "export", photos, output_dir=tmp_path / "out")
    of_run, found = rows_of(run / "predictions.csv"), rows_of(tmp_path / "out" / "predictions.csv")
    assert len(of_run) == 13 and len(found) == 15
    assert len({line["sequence"] for line in found.values()}) == 5
    bursts = Counter(line["sequence"] for line in of_run.values())
    whole = [photo for photo, line in of_run.items() if bursts[line["sequence"]] == 3]
    assert len(whole) >= 9, "bursts of which no photo was labelled: at least three of five"
    for photo in whole:
        assert of_run[photo]["sequence_species"] == found[photo]["sequence_species"]
        confidence = [float(lines[photo]["sequence_confidence"]) for lines in (of_run, found)]
        assert confidence[0] == pytest.approx(confidence[1], abs=1e-3)
    for lines in (of_run, found):
        by_burst = {
            (line["sequence"], line["sequence_species"], line["sequence_confidence"]) for line in lines.values()
        }
        assert len(by_burst) == 5, "all photos of a burst say the same"
