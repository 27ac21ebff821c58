import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from camera_trap_al import __version__
from camera_trap_al.classifier import EmbeddingClassifier, EmbeddingScaler
from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning.embedding_trainer import EmbeddingTrainer
from camera_trap_al.deep_learning.fitted_classifier import FittedClassifier
from camera_trap_al.deep_learning.network_graph import OPSET, PhotoNetwork, network_graph
from camera_trap_al.estimators import CLASSIFIERS
from camera_trap_al.export import model_graph
from camera_trap_al.export.model_graph import classifier_model, head_model, whole_model

N_FEATURES, N_CLASSES = 8, 6


def embeddings(n=40, seed=0):
    """Numbers of very different size in each feature, as those of a network may be."""
    return (np.random.default_rng(seed).normal(size=(n, N_FEATURES)) * 10.0 ** np.arange(-3, 5)).astype(np.float32)


def fitted(labelled_classes, estimator="mlp", normalize=True, n_classes=N_CLASSES, class_weight=None):
    """Scaler and classifier fitted on 60 photos of some of the classes."""
    known = embeddings(60, seed=1)
    scaler = EmbeddingScaler.fit(known, normalize=normalize)
    params = {"max_iter": 60, "learning_rate_init": 0.01} if estimator in ("mlp", "mlp_fast") else None
    classifier = EmbeddingClassifier(estimator, params, seed=0, n_classes=n_classes, class_weight=class_weight)
    classifier.fit(scaler.transform(known), np.resize(labelled_classes, 60), progress=False)
    return FittedClassifier(scaler, classifier, {})


def calibrated(probabilities, temperature):
    """The definition: each probability to the power of 1 / temperature, and each row made to sum to 1."""
    powers = probabilities.astype(np.float64) ** (1 / temperature)
    return powers / powers.sum(axis=1, keepdims=True)


def answers(model, given):
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (wanted,), (output,) = session.get_inputs(), session.get_outputs()
    assert output.name == "probabilities" and output.type == "tensor(float)"
    (probabilities,) = session.run(None, {wanted.name: given})
    return probabilities


@pytest.mark.parametrize("temperature", [1, 0.5, 3])
@pytest.mark.parametrize("labelled_classes", [[0, 1, 2, 3, 4, 5], [0, 2, 5], [1, 4], [3]], ids=str)
@pytest.mark.parametrize(
    "estimator",
    [
        *CLASSIFIERS,
        LogisticRegression(max_iter=1000),
        RandomForestClassifier(20),
        make_pipeline(PCA(3), LogisticRegression(max_iter=1000)),
        KNeighborsClassifier(),
    ],
    ids=[*CLASSIFIERS, "own logistic", "forest", "pipeline", "neighbours"],
)
def test_head_gives_the_calibrated_probabilities_of_all_classes(estimator, labelled_classes, temperature):
    both = fitted(labelled_classes, estimator)
    probabilities = answers(head_model(both, temperature), embeddings())
    assert probabilities.shape == (40, N_CLASSES)
    expected = calibrated(both.probabilities(embeddings()), temperature)
    np.testing.assert_allclose(probabilities, expected, atol=1e-4)
    without_label = np.setdiff1d(np.arange(N_CLASSES), labelled_classes)
    assert not probabilities[:, without_label].any()
    assert len(np.unique(expected.argmax(axis=1))) > 1 or labelled_classes == [3]  # otherwise the test shows little


@pytest.mark.parametrize("labelled_classes", [[0, 2, 5], [1, 4], [3]], ids=str)
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifier_whose_classes_count_the_same_is_converted_too(name, labelled_classes):
    both = fitted(labelled_classes, name, class_weight="balanced")
    np.testing.assert_allclose(answers(head_model(both, 1), embeddings()), both.probabilities(embeddings()), atol=1e-4)


@pytest.mark.parametrize("temperature", [1, 0.5, 1.5])
@pytest.mark.parametrize("n_trees", [20, 60])
def test_trees_that_are_sure_give_probabilities_from_0_to_1(n_trees, temperature):
    """These sums of trees end at -1.2e-7 and -3.6e-7 in onnxruntime, of which a power is NaN; scikit-learn gives 0."""
    rng = np.random.default_rng(0)
    known, targets = rng.random((300, N_FEATURES), np.float32), np.arange(300) % 2
    known[:, 0] += 2 * targets
    classifier = EmbeddingClassifier(RandomForestClassifier(n_trees), seed=0, n_classes=2)
    scaler = EmbeddingScaler.fit(known, normalize=True)
    both = FittedClassifier(scaler, classifier.fit(scaler.transform(known), targets, progress=False), {})
    probabilities = answers(head_model(both, temperature), known)
    assert probabilities.min() >= 0 and probabilities.max() <= 1
    # A sum of trees misses 0 by up to 1e-6, and the power 1 / 1.5 of that is 1e-4.
    np.testing.assert_allclose(probabilities, calibrated(both.probabilities(known), temperature), atol=2e-4)


def test_a_low_temperature_decides_between_hundreds_of_classes():
    """With 400 classes no probability is much above 1/400, and its 50th power is nothing in float32."""
    rng = np.random.default_rng(0)
    known, targets = rng.random((800, N_FEATURES)).astype(np.float32), np.arange(800) % 400
    scaler = EmbeddingScaler.fit(known, normalize=True)
    classifier = EmbeddingClassifier(LogisticRegression(max_iter=1, C=1e-3), seed=0, n_classes=400)
    both = FittedClassifier(scaler, classifier.fit(scaler.transform(known), targets, progress=False), {})
    plain = both.probabilities(known[:20])
    assert plain.max() < 0.01
    probabilities = answers(head_model(both, 0.02), known[:20])
    np.testing.assert_allclose(probabilities, calibrated(plain, 0.02), atol=1e-4)


@pytest.mark.parametrize("normalize", [True, False])
def test_head_scales_as_the_scaler_does(normalize):
    both = fitted([0, 1, 2], normalize=normalize)
    np.testing.assert_allclose(answers(head_model(both, 1), embeddings()), both.probabilities(embeddings()), atol=1e-4)


def test_feature_that_never_varied_is_left_out():
    both = fitted([0, 1, 2])
    scaler = EmbeddingScaler.fit(np.where(np.arange(N_FEATURES) == 2, 7, embeddings()), normalize=True)
    both = FittedClassifier(scaler, both.classifier, {})
    given = np.where(np.arange(N_FEATURES) == 2, 7, embeddings(seed=3)).astype(np.float32)
    np.testing.assert_allclose(answers(head_model(both, 1), given), both.probabilities(given), atol=1e-4)


@pytest.mark.parametrize("n_photos", [0, 1, 2])
@pytest.mark.parametrize("labelled_classes", [[0, 1, 2], [1, 4], [3]], ids=str)
def test_head_takes_any_number_of_photos(labelled_classes, n_photos):
    both, given = fitted(labelled_classes), embeddings(n_photos)
    expected = np.concatenate([both.probabilities(embeddings(3)[:n_photos]), np.zeros((0, N_CLASSES))])
    assert answers(head_model(both, 2), given).shape == (n_photos, N_CLASSES) == expected.shape


def test_one_class_in_all_is_certain():
    both = fitted([0], n_classes=1)
    np.testing.assert_array_equal(answers(head_model(both, 3), embeddings(3)), np.ones((3, 1)))


@pytest.mark.parametrize("opset", [15, OPSET])
def test_classifier_of_one_class_says_so_for_all_rows(opset):
    """With one class skl2onnx has nothing to convert; the graph is made by hand."""
    model = classifier_model(fitted([4]).classifier, N_FEATURES, opset)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    class_index, probabilities = session.run(None, {"embeddings": embeddings(3)})
    assert class_index.tolist() == [4, 4, 4] and probabilities.tolist() == [[1.0]] * 3


# --- photo in, probabilities out

CLASSES = ["Fuchs", "лиса", "fox", "a/b", "images", "probabilities"]


@pytest.fixture(scope="module")
def trainer(sixteen_pixels):
    config = RunConfig(feat_dim=N_FEATURES, use_pretrained=False, seed=1)
    trainer = EmbeddingTrainer(config, N_CLASSES, torch.device("cpu"))
    trainer.pixel_mean, trainer.pixel_std = np.array([0.1, 0.2, 0.3], np.float32), np.array([0.4, 0.5, 0.6], np.float32)
    return trainer


def whole(trainer, both, temperature=1.0):
    network = PhotoNetwork(trainer)
    return whole_model(network_graph(network), network.weights(), head_model(both, temperature), CLASSES)


def photos(n, seed=0):
    """Photos of noise, each of another brightness."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 100, (n, 256, 256, 3))
    return (noise + rng.integers(0, 150, (n, 1, 1, 3))).astype(np.uint8)


def fitted_on_photos(trainer, labelled_classes, estimator="mlp"):
    with torch.no_grad():
        known = PhotoNetwork(trainer).eval()(torch.from_numpy(photos(30, seed=1))).numpy()
    scaler = EmbeddingScaler.fit(known, normalize=True)
    params = {"max_iter": 60, "learning_rate_init": 0.01} if estimator in ("mlp", "mlp_fast") else None
    classifier = EmbeddingClassifier(estimator, params, seed=0, n_classes=N_CLASSES)
    classifier.fit(scaler.transform(known), np.resize(labelled_classes, 30), progress=False)
    return FittedClassifier(scaler, classifier, {})


@pytest.mark.parametrize("temperature", [1, 0.5, 3])
@pytest.mark.parametrize("labelled_classes", [[0, 2, 5], [3]], ids=str)
@pytest.mark.parametrize("n_photos", [0, 1, 5])
def test_whole_model_answers_as_network_scaler_and_classifier_do(trainer, labelled_classes, temperature, n_photos):
    both = fitted_on_photos(trainer, labelled_classes)
    given = photos(n_photos)
    probabilities = answers(whole(trainer, both, temperature), given)
    assert probabilities.shape == (n_photos, N_CLASSES)
    with torch.no_grad():
        embedded = PhotoNetwork(trainer).eval()(torch.from_numpy(given)).numpy()
    if n_photos:
        np.testing.assert_allclose(probabilities, calibrated(both.probabilities(embedded), temperature), atol=1e-4)


def sizes(value):
    return [size.dim_value or size.dim_param for size in value.type.tensor_type.shape.dim]


def test_whole_model_says_what_it_takes_and_gives_and_what_it_is(trainer):
    model = whole(trainer, fitted_on_photos(trainer, [0, 2]))
    onnx.checker.check_model(model, full_check=True)
    (images,), (probabilities,) = model.graph.input, model.graph.output
    assert (images.name, probabilities.name) == ("images", "probabilities")
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert probabilities.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert sizes(images) == ["n", 256, 256, 3] and sizes(probabilities) == ["n", N_CLASSES]
    assert {each.domain: each.version for each in model.opset_import}[""] == OPSET
    assert {each.domain for each in model.opset_import} <= {"", "ai.onnx.ml"}  # what onnxruntime has by itself
    assert (model.producer_name, model.producer_version) == ("camera_trap_al", __version__)
    assert {each.key: json.loads(each.value) for each in model.metadata_props} == {"classes": CLASSES}


@pytest.mark.parametrize(
    "array", [np.arange(6, dtype=np.float32).reshape(2, 3), np.array(7), np.zeros((0, 2), np.int64)]
)
def test_weights_are_added_as_onnx_itself_makes_them(array):
    graph = onnx.GraphProto()
    model_graph._add_weights(graph, "weights", array)
    (added,) = graph.initializer
    assert added == onnx.numpy_helper.from_array(array, "weights")


def test_whole_model_refers_to_no_other_file_and_names_no_folder_of_this_computer(trainer):
    model = whole(trainer, fitted_on_photos(trainer, [0, 2]))
    assert all(each.data_location == onnx.TensorProto.DEFAULT for each in model.graph.initializer)
    assert b".py" not in model.SerializeToString()  # the exporter notes source files and lines
