import numpy as np
import onnxruntime
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from camera_trap_al import export, run_active_learning
from camera_trap_al.classifier import EmbeddingClassifier, EmbeddingScaler
from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning.embedding_trainer import EmbeddingTrainer
from camera_trap_al.deep_learning.fitted_classifier import FittedClassifier
from camera_trap_al.exceptions import ConfigError, DiskFullError
from camera_trap_al.export import export_model, find_export_problems
from camera_trap_al.files import aside

N_FEATURES = 8
CLASSES = ("badger", "deer", "fox", "hare", "lynx", "wolf")
FILES = {
    "dataset_mean.npy",
    "dataset_std.npy",
    "embedding_model_weights.pt",
    "embedding_scaler.npz",
    "classifier.onnx",
}


class HomeMade(ClassifierMixin, BaseEstimator):
    """A proper scikit-learn estimator that no converter knows."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))


@pytest.fixture(scope="module")
def trainer():
    config = RunConfig(embedding_arch="shufflenet_v2_x0_5", feat_dim=N_FEATURES, use_pretrained=False, seed=1)
    trainer = EmbeddingTrainer(config, len(CLASSES), torch.device("cpu"))
    trainer.pixel_mean, trainer.pixel_std = np.array([0.1, 0.2, 0.3], np.float32), np.array([0.4, 0.5, 0.6], np.float32)
    return trainer


def embeddings(n=200, seed=0):
    """Numbers of very different size in each feature, as those of a network may be."""
    return (np.random.default_rng(seed).normal(size=(n, N_FEATURES)) * 10.0 ** np.arange(-3, 5)).astype(np.float32)


def fitted(labelled_classes, estimator="mlp", params=None, normalize=True):
    """Scaler and classifier fitted on 60 photos of some of the classes."""
    known = embeddings(60, seed=1)
    targets = np.resize(labelled_classes, 60)
    scaler = EmbeddingScaler.fit(known, normalize=normalize)
    if estimator == "mlp":
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
        "mlp",
        LogisticRegression(max_iter=1000),
        RandomForestClassifier(20),
        make_pipeline(PCA(3), LogisticRegression(max_iter=1000)),
    ],
    ids=["mlp", "logistic", "forest", "pipeline"],
)
def test_exported_classifier_equals_the_one_in_python(trainer, tmp_path, labelled_classes, estimator):
    scaler, classifier = fitted(labelled_classes, estimator)
    export_model(tmp_path, trainer, FittedClassifier(scaler, classifier, {}), CLASSES)
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
    export_model(tmp_path, trainer, FittedClassifier(scaler, classifier, {}), CLASSES)
    class_index, probabilities = run_onnx(tmp_path, scaler.transform(embeddings(1)))
    assert class_index.shape == (1,) and probabilities.shape == (1, len(labelled_classes))


@pytest.mark.parametrize("normalize", [True, False])
def test_exported_scaler_brings_embeddings_to_what_the_classifier_takes(trainer, tmp_path, normalize):
    scaler, classifier = fitted([0, 1, 2], normalize=normalize)
    export_model(tmp_path, trainer, FittedClassifier(scaler, classifier, {}), CLASSES)
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
    export_model(tmp_path, trainer, FittedClassifier(scaler, fitted([0, 1])[1], {}), CLASSES)
    with np.load(tmp_path / "embedding_scaler.npz") as stored:
        scaled = (known - stored["minimum"]) / (stored["maximum"] - stored["minimum"])
        again = EmbeddingScaler.from_arrays(stored)
    np.testing.assert_allclose(scaled, scaler.transform(known), rtol=1e-6)
    np.testing.assert_array_equal(again.transform(known), scaler.transform(known))


def test_every_file_of_the_export_is_written_and_nothing_else(trainer, tmp_path):
    export_model(tmp_path / "new" / "export", trainer, FittedClassifier(*fitted([0, 1, 2]), {}), CLASSES)
    assert {path.name for path in (tmp_path / "new" / "export").iterdir()} == FILES


def test_pixel_statistics_are_exported_as_they_are(trainer, tmp_path):
    export_model(tmp_path, trainer, FittedClassifier(*fitted([0, 1, 2]), {}), CLASSES)
    np.testing.assert_array_equal(np.load(tmp_path / "dataset_mean.npy"), trainer.pixel_mean)
    np.testing.assert_array_equal(np.load(tmp_path / "dataset_std.npy"), trainer.pixel_std)


def test_exported_network_is_the_checkpoint(trainer, tmp_path):
    export_model(tmp_path, trainer, FittedClassifier(*fitted([0, 1, 2]), {}), CLASSES)
    stored = torch.load(tmp_path / "embedding_model_weights.pt", weights_only=True)
    expected = trainer.checkpoint(CLASSES)
    weights, expected_weights = (each.pop("embedding_model_state_dict") for each in (stored, expected))
    assert stored == expected
    assert weights.keys() == expected_weights.keys()
    assert all(torch.equal(weights[name], expected_weights[name]) for name in weights)


@pytest.mark.parametrize("spoiled", FILES)
def test_a_full_disk_leaves_the_file_that_was_there(trainer, tmp_path, spoiled):
    export_model(tmp_path, trainer, FittedClassifier(*fitted([0, 1, 2]), {}), CLASSES)
    before = {name: (tmp_path / name).read_bytes() for name in FILES}
    aside(tmp_path / spoiled).symlink_to("/dev/full")  # a device of Linux that answers like a full disk
    with pytest.raises(DiskFullError, match=spoiled):
        export_model(tmp_path, trainer, FittedClassifier(*fitted([0, 1]), {}), CLASSES)
    assert (tmp_path / spoiled).read_bytes() == before[spoiled]
    assert {path.name for path in tmp_path.iterdir()} == set(FILES)


@pytest.mark.parametrize(
    "estimator",
    [LogisticRegression(), RandomForestClassifier(5), make_pipeline(PCA(50), LogisticRegression())],
    ids=["logistic", "forest", "components"],
)
def test_estimator_that_can_be_exported_is_accepted(estimator):
    before = repr(estimator.get_params())
    assert find_export_problems({"classifier": estimator, "classifier_params": None, "feat_dim": 64}) == []
    assert repr(estimator.get_params()) == before and not hasattr(estimator, "classes_")


@pytest.mark.parametrize(
    ("estimator", "params"),
    [
        (HomeMade(), None),
        (make_pipeline(PCA(50), LogisticRegression()), None),  # there are 8 features
        (LogisticRegression(), {"C": -1.0}),
        (RandomForestClassifier(), {"n_estimator": 5}),
    ],
    ids=["unknown", "too many components", "bad value", "bad name"],
)
def test_estimator_that_cannot_be_exported_is_refused(estimator, params):
    arguments = {"classifier": estimator, "classifier_params": params, "feat_dim": N_FEATURES}
    (problem,) = find_export_problems(arguments) or problems_of_config(**arguments)
    assert "classifier" in problem


def problems_of_config(**arguments):
    with pytest.raises(ConfigError) as error:
        RunConfig(**arguments)
    return error.value.problems


def test_run_refuses_such_an_estimator_before_any_work(photo_folders, tmp_path, monkeypatch):
    monkeypatch.setattr(EmbeddingTrainer, "fit", lambda *args: pytest.fail("trained"))
    with pytest.raises(ConfigError, match="HomeMade"):
        run_active_learning(
            *photo_folders, output_dir=tmp_path / "run", use_pretrained=False, device="cpu", classifier=HomeMade()
        )
    assert not (tmp_path / "run").exists()


def test_only_the_constant_graph_is_made_by_hand():
    """With one class skl2onnx has nothing to convert; the graph must pass onnx's own check and say so for all rows."""
    model = export._constant_onnx(4, N_FEATURES)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    class_index, probabilities = session.run(None, {"embeddings": embeddings(3)})
    assert class_index.tolist() == [4, 4, 4] and probabilities.tolist() == [[1.0]] * 3
