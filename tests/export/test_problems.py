import numpy as np
import pytest
from onnx import numpy_helper
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from camera_trap_al import run_active_learning
from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning.embedding_trainer import EmbeddingTrainer
from camera_trap_al.exceptions import ConfigError
from camera_trap_al.export import problems as export_problems
from camera_trap_al.export.model_graph import head_model
from camera_trap_al.export.problems import find_export_problems

N_FEATURES = 8


def arguments(classifier="mlp", params=None, feat_dim=N_FEATURES, arch_name="resnet18", class_weight=None):
    return {
        "classifier": classifier,
        "classifier_params": params,
        "feat_dim": feat_dim,
        "embedding_arch": arch_name,
        "class_weight": class_weight,
    }


class HomeMade(ClassifierMixin, BaseEstimator):
    """A proper scikit-learn estimator that no converter knows."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))


@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(),
        RandomForestClassifier(5),
        make_pipeline(PCA(50), LogisticRegression()),
        KNeighborsClassifier(),
        pytest.param(SVC(probability=True), marks=pytest.mark.filterwarnings("ignore::FutureWarning")),
    ],
    ids=["logistic", "forest", "components", "neighbours", "support vectors"],
)
def test_estimator_that_can_be_exported_is_accepted(estimator):
    before = repr(estimator.get_params())
    assert find_export_problems(arguments(estimator, feat_dim=64)) == []
    assert repr(estimator.get_params()) == before and not hasattr(estimator, "classes_")


@pytest.mark.parametrize(
    ("estimator", "params"),
    [
        (HomeMade(), None),
        (make_pipeline(PCA(50), LogisticRegression()), None),  # there are 8 features
        (KNeighborsClassifier(weights="distance"), None),  # is converted, and gives other probabilities
        (LinearDiscriminantAnalysis(), None),  # likewise, with two classes
        (LogisticRegression(), {"C": -1.0}),
        (RandomForestClassifier(), {"n_estimator": 5}),
    ],
    ids=["unknown", "too many components", "distance", "discriminant", "bad value", "bad name"],
)
def test_estimator_that_cannot_be_exported_is_refused(estimator, params):
    (problem,) = find_export_problems(arguments(estimator, params)) or problems_of_config(
        classifier=estimator, classifier_params=params
    )
    assert "classifier" in problem


def test_estimator_whose_powers_are_no_numbers_is_refused(monkeypatch):
    """Nothing but the bounds of the graph keeps a sum of 30 trees from ending at -3.6e-7 in the interpreter of onnx."""
    forest = RandomForestClassifier(30)
    assert find_export_problems(arguments(forest)) == []

    def without_bounds(*args):
        model = head_model(*args)
        for each in model.graph.initializer:
            if each.name == "answer_low":
                each.CopyFrom(numpy_helper.from_array(np.array(-1, np.float32), each.name))
        return model

    monkeypatch.setattr(export_problems, "head_model", without_bounds)
    (problem,) = find_export_problems(arguments(forest))
    assert "with confidence adjusted, it gives other probabilities" in problem


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


@pytest.mark.parametrize("arch_name", ["vit_h_14", "regnet_y_128gf"])
def test_network_that_no_onnx_file_can_hold_is_refused(arch_name):
    """More than 2 GB: 632,045,800 and 644,812,894 weights, by torchvision's tables."""
    (problem,) = find_export_problems(arguments(arch_name=arch_name))
    assert (arch_name in problem and "2.5 GB" in problem) or "2.6 GB" in problem


@pytest.mark.parametrize("arch_name", ["resnet18", "vit_l_16", "convnext_large", "no such network", None, 3])
def test_other_networks_are_no_problem_of_the_export(arch_name):
    assert find_export_problems(arguments(arch_name=arch_name)) == []


def test_run_refuses_such_a_network_before_any_work(photo_folders, tmp_path):
    with pytest.raises(ConfigError, match=r"vit_h_14.*ONNX"):
        run_active_learning(
            *photo_folders, output_dir=tmp_path / "run", use_pretrained=False, device="cpu", embedding_arch="vit_h_14"
        )
    assert not (tmp_path / "run").exists()
