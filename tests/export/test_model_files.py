import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import ExifTags, Image
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from camera_trap_al import __version__
from camera_trap_al.classifier import EmbeddingClassifier, EmbeddingScaler
from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning.embedding_trainer import EmbeddingTrainer
from camera_trap_al.deep_learning.fitted_classifier import FittedClassifier
from camera_trap_al.estimators import CLASSIFIERS
from camera_trap_al.exceptions import DiskFullError
from camera_trap_al.export.model_files import NO_THRESHOLDS, export_model
from camera_trap_al.files import aside, sha256_of
from camera_trap_al.model_description import ModelDescription, schema

N_FEATURES = 8
CLASSES = ("badger", "deer", "fox", "hare", "lynx", "wolf")
LABELS_PER_CLASS = {"badger": 12, "deer": 0, "fox": 40, "hare": 8, "lynx": 0, "wolf": 0}
FILES = {
    "dataset_mean.npy",
    "dataset_std.npy",
    "embedding_model_weights.pt",
    "embedding_scaler.npz",
    "classifier.onnx",
    "model.onnx",
    "model.json",
}


def new_trainer(seed=1, loss_type="triplet"):
    options = {"feat_dim": N_FEATURES, "use_pretrained": False, "embedding_loss_type": loss_type}
    trainer = EmbeddingTrainer(RunConfig(seed=seed, **options), len(CLASSES), torch.device("cpu"))
    trainer.pixel_mean, trainer.pixel_std = np.array([0.1, 0.2, 0.3], np.float32), np.array([0.4, 0.5, 0.6], np.float32)
    return trainer


@pytest.fixture(scope="module")
def trainer(sixteen_pixels):
    return new_trainer()


def export(folder, trainer, fitted, classes=CLASSES, **more):
    scaler, classifier = fitted
    counts = {"labels_per_class": LABELS_PER_CLASS}
    both = FittedClassifier(scaler, classifier, {"network": trainer.digest()})
    export_model(folder, trainer, both, classes, **(counts | more))


def embeddings(n=200, seed=0):
    """Numbers of very different size in each feature, as those of a network may be."""
    return (np.random.default_rng(seed).normal(size=(n, N_FEATURES)) * 10.0 ** np.arange(-3, 5)).astype(np.float32)


def fitted(labelled_classes, estimator="mlp", params=None, normalize=True):
    """Scaler and classifier fitted on 60 photos of some of the classes."""
    known = embeddings(60, seed=1)
    targets = np.resize(labelled_classes, 60)
    scaler = EmbeddingScaler.fit(known, normalize=normalize)
    if estimator in ("mlp", "mlp_fast"):
        params = {"max_iter": 60, "learning_rate_init": 0.01}
    classifier = EmbeddingClassifier(estimator, params, seed=0, n_classes=len(CLASSES))
    classifier.fit(scaler.transform(known), targets, progress=False)
    return scaler, classifier


def run_onnx(folder, scaled):
    session = onnxruntime.InferenceSession(folder / "classifier.onnx", providers=["CPUExecutionProvider"])
    assert [(given.name, given.type) for given in session.get_inputs()] == [("embeddings", "tensor(float)")]
    class_index, probabilities = session.run(None, {"embeddings": scaled})
    return class_index, probabilities


@pytest.mark.parametrize("labelled_classes", [[0, 1, 2, 3, 4, 5], [0, 2, 5], [1, 4], [3]], ids=str)
@pytest.mark.parametrize(
    "estimator",
    [
        *CLASSIFIERS,
        LogisticRegression(max_iter=1000),
        RandomForestClassifier(20),
        make_pipeline(PCA(3), LogisticRegression(max_iter=1000)),
    ],
    ids=[*CLASSIFIERS, "own logistic", "forest", "pipeline"],
)
def test_exported_classifier_equals_the_one_in_python(trainer, tmp_path, labelled_classes, estimator):
    scaler, classifier = fitted(labelled_classes, estimator)
    export(tmp_path, trainer, (scaler, classifier))
    scaled = scaler.transform(embeddings())
    expected = classifier.probabilities(scaled)
    class_index, probabilities = run_onnx(tmp_path, scaled)
    assert class_index.dtype == np.int64 and class_index.shape == (200,)
    # The likeliest class; where several are equally likely, as with the votes of a forest, any of these.
    assert (expected[np.arange(200), class_index] >= expected.max(axis=1) - 1e-6).all()
    clear = np.diff(np.sort(expected, axis=1)[:, -2:])[:, 0] > 1e-6
    np.testing.assert_array_equal(class_index[clear], expected.argmax(axis=1)[clear])
    assert clear.sum() > 150
    assert set(class_index) <= set(labelled_classes)
    assert len(set(class_index)) > 1 or labelled_classes == [3]  # otherwise the test shows little
    np.testing.assert_allclose(probabilities, expected[:, labelled_classes], atol=1e-4)


@pytest.mark.parametrize("labelled_classes", [[1, 4], [3]], ids=str)
def test_exported_classifier_takes_a_single_photo(trainer, tmp_path, labelled_classes):
    scaler, classifier = fitted(labelled_classes)
    export(tmp_path, trainer, (scaler, classifier))
    class_index, probabilities = run_onnx(tmp_path, scaler.transform(embeddings(1)))
    assert class_index.shape == (1,) and probabilities.shape == (1, len(labelled_classes))


@pytest.mark.parametrize("normalize", [True, False])
def test_exported_scaler_brings_embeddings_to_what_the_classifier_takes(trainer, tmp_path, normalize):
    scaler, classifier = fitted([0, 1, 2], normalize=normalize)
    export(tmp_path, trainer, (scaler, classifier))
    with np.load(tmp_path / "embedding_scaler.npz") as stored:
        minimum, maximum, identity = stored["minimum"], stored["maximum"], bool(stored["identity"])
    assert identity is not normalize
    plain = embeddings()
    np.testing.assert_allclose((plain - minimum) / (maximum - minimum), scaler.transform(plain), rtol=1e-6)


def test_feature_that_never_varied_needs_no_special_care(trainer, tmp_path):
    """Squeezenet has some: its last layer gives nothing below zero. Dividing by their range would give NaN."""
    known = embeddings()
    known[:, 2], known[:, 5] = 0, 7
    scaler = EmbeddingScaler.fit(known, normalize=True)
    export(tmp_path, trainer, (scaler, fitted([0, 1])[1]))
    with np.load(tmp_path / "embedding_scaler.npz") as stored:
        scaled = (known - stored["minimum"]) / (stored["maximum"] - stored["minimum"])
        again = EmbeddingScaler.from_arrays(stored)
    np.testing.assert_allclose(scaled, scaler.transform(known), rtol=1e-6)
    np.testing.assert_array_equal(again.transform(known), scaler.transform(known))


def test_every_file_of_the_export_is_written_and_nothing_else(trainer, tmp_path):
    export(tmp_path / "new" / "export", trainer, fitted([0, 1, 2]))
    assert {path.name for path in (tmp_path / "new" / "export").iterdir()} == FILES


def test_pixel_statistics_are_exported_as_they_are(trainer, tmp_path):
    export(tmp_path, trainer, fitted([0, 1, 2]))
    np.testing.assert_array_equal(np.load(tmp_path / "dataset_mean.npy"), trainer.pixel_mean)
    np.testing.assert_array_equal(np.load(tmp_path / "dataset_std.npy"), trainer.pixel_std)


def test_exported_network_is_the_checkpoint(trainer, tmp_path):
    export(tmp_path, trainer, fitted([0, 1, 2]))
    stored = torch.load(tmp_path / "embedding_model_weights.pt", weights_only=True)
    expected = trainer.checkpoint(CLASSES)
    weights, expected_weights = (each.pop("embedding_model_state_dict") for each in (stored, expected))
    assert stored == expected
    assert weights.keys() == expected_weights.keys()
    assert all(torch.equal(weights[name], expected_weights[name]) for name in weights)


def test_network_that_is_there_already_is_not_written_again(trainer, tmp_path):
    export(tmp_path, trainer, fitted([0, 1, 2]))
    before = {name: (tmp_path / name).stat().st_ino for name in FILES}  # a file that is written has another inode
    export(tmp_path, trainer, fitted([0, 1]))
    kept = {name for name in FILES if (tmp_path / name).stat().st_ino == before[name]}
    assert kept == {"embedding_model_weights.pt"}


@pytest.mark.parametrize("change", ["weights", "pixels", "classes", "damaged", "gone", "no description"])
def test_network_is_written_again_when_it_is_not_the_one_that_is_there(trainer, tmp_path, change):
    file = tmp_path / "embedding_model_weights.pt"
    export(tmp_path, trainer, fitted([0, 1, 2]))
    before = file.stat().st_ino
    now, classes = trainer, CLASSES
    if change == "weights":
        now = new_trainer(seed=2)
    elif change == "pixels":
        now = new_trainer()
        now.pixel_mean = trainer.pixel_mean + 0.1
    elif change == "classes":
        classes = (*CLASSES[:-1], "wolverine")
    elif change == "damaged":
        file.write_bytes(file.read_bytes()[:-1])
    elif change == "gone":
        file.unlink()
    else:
        (tmp_path / "model.json").unlink()
    export(tmp_path, now, fitted([0, 1, 2]), classes)
    assert change in ("damaged", "gone") or file.stat().st_ino != before
    stored = torch.load(file, weights_only=True)
    expected = now.checkpoint(classes)
    weights = stored["embedding_model_state_dict"]
    assert stored["classes"] == list(classes)
    assert all(torch.equal(weights[name], value) for name, value in expected["embedding_model_state_dict"].items())


def test_the_same_model_is_exported_to_the_same_bytes(trainer, tmp_path):
    for name in ("one", "other"):
        export(tmp_path / name, trainer, fitted([0, 1, 2]))
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes(), name


def test_description_says_what_the_model_is(trainer, tmp_path):
    figures = {"accuracy": 0.5, "n_images": 4}
    calibration = {"temperature": 2.0, "source": "audit", "n_photos": 50, "note": ""}
    thresholds = NO_THRESHOLDS | {"why_none": "few photos", "n_photos": 9}
    more = {"validation": figures, "audit": {"accuracy": 0.4}, "calibration": calibration, "thresholds": thresholds}
    export(tmp_path, trainer, fitted([0, 2, 3]), **more)
    described = ModelDescription.read(tmp_path)  # which sees to it that model.onnx is the one
    assert described.classes == CLASSES and described.labelled_classes == ("badger", "fox", "hare")
    assert described.model == {"sha256": sha256_of(tmp_path / "model.onnx"), "opset": 18}
    assert described.network == {
        "architecture": "resnet18",
        "feat_dim": N_FEATURES,
        "loss": "triplet",
        "digest": trainer.digest(),
        "sha256": sha256_of(tmp_path / "embedding_model_weights.pt"),
    }
    assert described.training == {
        "labels": 60,
        "labels_per_class": LABELS_PER_CLASS,
        "propagated": 0,
        "validation": figures,
        "audit": {"accuracy": 0.4},
    }
    assert described.calibration == calibration and described.thresholds == thresholds
    assert described.made_with["camera_trap_al"] == __version__
    assert described.made_with["torch"] == torch.__version__.partition("+")[0]


def test_description_says_what_the_model_takes_and_gives(trainer, tmp_path):
    export(tmp_path, trainer, fitted([0, 2, 3]))
    described = ModelDescription.read(tmp_path)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (given,), (answer,) = session.get_inputs(), session.get_outputs()
    assert (described.input["name"], described.output["name"]) == (given.name, answer.name)
    assert (given.type, answer.type) == ("tensor(uint8)", "tensor(float)")
    assert (described.input["type"], described.output["type"]) == ("uint8", "float32")
    assert described.input["shape"] == given.shape
    assert described.output["shape"] == ["n", "number of classes"] and answer.shape == ["n", len(CLASSES)]


def test_without_figures_the_description_says_that_there_are_none(trainer, tmp_path):
    export(tmp_path, trainer, fitted([0, 2, 3]))
    described = ModelDescription.read(tmp_path)
    assert described.training["validation"] is None
    assert described.calibration["temperature"] == 1 and described.calibration["source"] == "nothing"
    assert described.thresholds["why_none"]


@pytest.mark.parametrize("loss_type", ["softmax", "triplet", "siamese"])
def test_export_leaves_the_network_as_it_is(trainer, tmp_path, loss_type):
    used = new_trainer(loss_type=loss_type)
    used.net.train()
    before, pointers = used.digest(), [weights.data_ptr() for weights in used.net.parameters()]
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    export(tmp_path, used, fitted([0, 1]))
    assert used.digest() == before and [weights.data_ptr() for weights in used.net.parameters()] == pointers
    assert all(module.training for module in used.net.modules())
    assert all(weights.requires_grad for weights in used.net.parameters())
    assert torch.equal(torch.get_rng_state(), torch_before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002


# --- docs/exported_model.md

DOCUMENTATION = (Path(__file__).parents[2] / "docs" / "exported_model.md").read_text(encoding="utf-8")
ONLY_THESE_ARE_INSTALLED = """
import sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in sys.stdlib_module_names | {"numpy", "onnxruntime", "PIL"}:
            raise ImportError(f"{name} is not installed")

sys.meta_path.insert(0, Nothing())
"""


def test_the_example_of_the_documentation_names_the_class_of_a_photo(trainer, tmp_path):
    """A photo of 256 x 256 pixels without loss, so that it is the same to everybody; it lies on its side."""
    pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6  # to be turned clockwise
    Image.fromarray(np.rot90(pixels)).save(tmp_path / "photo.jpg", "PNG", exif=turned)
    embedding = trainer._embedded(torch.from_numpy(pixels[None, 16:240, 16:240]), trainer._normalisation()).numpy()
    known = embedding + np.random.default_rng(1).normal(size=(60, N_FEATURES)).astype(np.float32)
    scaler = EmbeddingScaler.fit(known, normalize=True)
    classifier = EmbeddingClassifier(LogisticRegression(max_iter=1000), seed=0, n_classes=len(CLASSES))
    classifier.fit(scaler.transform(known), (known[:, 0] > embedding[0, 0] - 0.5) + 1, progress=False)
    export(tmp_path / "export", trainer, (scaler, classifier))
    (example,) = re.findall(r"<!-- example -->\n```python\n(.*?)```", DOCUMENTATION, re.DOTALL)
    command = [sys.executable, "-c", ONLY_THESE_ARE_INSTALLED + example]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()
    expected = FittedClassifier(scaler, classifier, {}).probabilities(embedding)[0]
    assert said[0] == CLASSES[expected.argmax()]
    assert float(said[1]) == pytest.approx(expected.max(), abs=1e-4)


def test_documentation_tells_each_file_and_each_field():
    assert all(f"`{name}`" in DOCUMENTATION for name in FILES)
    table = DOCUMENTATION.partition("## model.json")[2]
    for name, part in schema()["properties"].items():
        parts = {"input": schema()["$defs"]["tensor"], "output": schema()["$defs"]["tensor"]}.get(name, part)
        assert all(f"`{each}`" in table for each in (name, *parts.get("properties", {}))), name


def test_documentation_names_the_operator_set(trainer, tmp_path):
    export(tmp_path, trainer, fitted([0, 1]))
    opset = ModelDescription.read(tmp_path).model["opset"]
    assert f"ONNX operator set {opset} " in DOCUMENTATION


@pytest.mark.parametrize("spoiled", sorted(FILES))
def test_a_full_disk_leaves_the_file_that_was_there(trainer, tmp_path, spoiled):
    export(tmp_path, trainer, fitted([0, 1, 2]))
    before = {name: (tmp_path / name).read_bytes() for name in FILES}
    aside(tmp_path / spoiled).symlink_to("/dev/full")  # a device of Linux that answers like a full disk
    with pytest.raises(DiskFullError, match=spoiled):
        export(tmp_path, trainer, fitted([0, 1]), CLASSES[::-1])
    assert (tmp_path / spoiled).read_bytes() == before[spoiled]
    assert {path.name for path in tmp_path.iterdir()} == set(FILES)
