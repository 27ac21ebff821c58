import csv
import json

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning.data_loader import ExtendedImageFolder
from camera_trap_al.deep_learning.embedding_trainer import EmbeddingTrainer
from camera_trap_al.demo import make_demo_data, run_demo


@pytest.fixture(scope="module")
def demo_photos(tmp_path_factory):
    """Folder with the demo's photos."""
    folder = tmp_path_factory.mktemp("demo")
    make_demo_data(folder)
    return folder


def truth_of(folder):
    with (folder / "truth.csv").open(newline="", encoding="utf-8") as file:
        return {f"{row['RelativePath']}/{row['File']}": row["Species"] for row in csv.DictReader(file)}


def test_demo_has_every_digit_for_training_and_validation(demo_photos):
    for name, per_class in (("train", 3), ("validation", 20)):
        found = {path.name: len(list(path.glob("*.jpg"))) for path in (demo_photos / name).iterdir()}
        assert found == {str(digit): per_class for digit in range(10)}


def test_truth_names_every_unlabelled_photo_and_is_right(demo_photos):
    truth = truth_of(demo_photos)
    photos = {path.relative_to(demo_photos / "unlabelled").as_posix() for path in demo_photos.rglob("digit_*.jpg")}
    assert truth.keys() == photos and len(photos) == 300
    digits = load_digits()
    for photo, species in truth.items():
        index = int(photo.rpartition("_")[2].removesuffix(".jpg"))
        assert species == str(digits.target[index])
    assert len({photo.partition("/")[0] for photo in truth}) == 4  # several sites


def test_photo_shows_the_digit(demo_photos):
    photo = next((demo_photos / "train" / "7").iterdir())
    index = int(photo.stem.rpartition("_")[2])
    with Image.open(photo) as image:
        grey = np.asarray(image.convert("L").resize((8, 8), Image.Resampling.BOX), float)
    assert np.corrcoef(grey.ravel(), load_digits().images[index].ravel())[0, 1] > 0.9


def test_no_digit_is_in_two_data_sets(demo_photos):
    indices = [path.stem.rpartition("_")[2] for path in demo_photos.rglob("*.jpg")]
    assert len(indices) == len(set(indices)) == 530


def test_making_the_photos_again_leaves_them_alone(demo_photos):
    before = {path: path.stat().st_mtime_ns for path in demo_photos.rglob("*.jpg")}
    make_demo_data(demo_photos)
    assert {path: path.stat().st_mtime_ns for path in demo_photos.rglob("*.jpg")} == before


def test_demo_leaves_a_finished_run_and_shows_how_it_learned(tmp_path, capsys):
    """The whole demo as `camera-trap-al demo` runs it: the only test with a real learning curve."""
    result = run_demo(tmp_path, seed=1)
    said = capsys.readouterr().out
    run_dir = tmp_path / "Active Learning Files"
    sizes = [point["train_set_size"] for point in result.validation_history]

    assert (result.labels_given, result.rounds, result.ended_because) == (100, 5, "max_labels is reached")
    assert sizes == [30, 50, 70, 90, 110, 130]
    assert all(f"{point['train_set_size']}  #" in said for point in result.validation_history)  # the learning curve
    for size, point in zip(sizes, result.validation_history, strict=True):
        stored = json.loads((run_dir / "test_results" / f"train_set_size_{size}" / "metrics.json").read_text())
        assert stored["accuracy"] == point["accuracy"]
        assert (run_dir / "test_results" / f"train_set_size_{size}" / "confusion_matrix.png").exists()
    check_labels(tmp_path, run_dir)
    check_export(tmp_path, result)


def check_labels(folder, run_dir):
    """All 100 answers are the truth."""
    with (run_dir / "data" / "labels.csv").open(newline="", encoding="utf-8") as file:
        labels = {row["path"]: row["label"] for row in csv.DictReader(file)}
    truth = {f"unlabelled_data/{photo}": species for photo, species in truth_of(folder).items()}
    answered = {photo: label for photo, label in labels.items() if photo in truth and label != "unlabelled"}
    assert len(answered) == 100
    assert answered.items() <= truth.items()


def check_export(folder, result):
    """The exported files alone tell the digits of the photos that nobody labelled, far better than by chance."""
    export = result.export_dir
    checkpoint = torch.load(export / "embedding_model_weights.pt", weights_only=True)
    config = RunConfig(
        embedding_arch=checkpoint["arch_name"], feat_dim=checkpoint["feat_dim"], use_pretrained=False, seed=0
    )
    trainer = EmbeddingTrainer(config, checkpoint["num_classes"], torch.device("cpu"), checkpoint)
    trainer.pixel_mean, trainer.pixel_std = np.load(export / "dataset_mean.npy"), np.load(export / "dataset_std.npy")
    dataset = ExtendedImageFolder.from_folders(folder / "train", folder / "unlabelled", folder / "validation")
    with np.load(export / "embedding_scaler.npz") as scaler:
        minimum, maximum = scaler["minimum"], scaler["maximum"]
    session = onnxruntime.InferenceSession(export / "classifier.onnx", providers=["CPUExecutionProvider"])

    def predict(rows):
        embeddings = trainer.embed(dataset, rows)
        return session.run(None, {"embeddings": (embeddings - minimum) / (maximum - minimum)})[0]

    validation = dataset.pools.validation
    accuracy = np.mean(predict(validation) == dataset.targets[validation])
    assert accuracy == pytest.approx(result.validation_history[-1]["accuracy"], abs=0.011)  # 2 of 200 photos may tie
    truth = truth_of(folder)
    unlabelled = dataset.pools.unlabelled[:100]
    species = [dataset.class_to_idx[truth[dataset.catalogue.paths[row]]] for row in unlabelled]
    assert np.mean(predict(unlabelled) == species) > 0.5  # chance: 0.1
