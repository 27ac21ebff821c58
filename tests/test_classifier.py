import json
import logging
import math
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from threadpoolctl import threadpool_info, threadpool_limits

from camera_trap_al.classifier import EmbeddingClassifier, EmbeddingScaler
from camera_trap_al.estimators import CLASSIFIERS, MLP_PARAMS
from camera_trap_al.exceptions import ConfigError, DataError

FEW_EPOCHS = {"max_iter": 12}
NEWER = {"name", "class_weight", "n_labels"}  # settings that the first format of the arrays lacks


def made_data(classes: list[int], n: int = 60, n_features: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Clouds around one centre per class, float32 as embeddings are."""
    rng = np.random.default_rng(5)
    targets = np.resize(classes, n).astype(np.int64)
    centres = rng.random((max(classes) + 1, n_features))
    return (centres[targets] + rng.normal(0, 0.1, (n, n_features))).astype(np.float32), targets


def fitted(classes: list[int], estimator: Any = "mlp", params: Any = None, n_classes: int = 5) -> EmbeddingClassifier:
    params = FEW_EPOCHS if isinstance(estimator, str) and params is None else params
    classifier = EmbeddingClassifier(estimator, params, seed=3, n_classes=n_classes)
    return classifier.fit(*made_data(classes), progress=False)


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


class TestEmbeddingScaler:
    def test_equals_the_scaler_of_scikit_learn_also_for_other_rows_and_constant_features(self) -> None:
        rng = np.random.default_rng(0)
        seen, other = (rng.normal(3, 20, (50, 7)).astype(np.float32) for _ in range(2))
        seen[:, 2], seen[:, 4] = 1.5, 0
        scaler, reference = EmbeddingScaler.fit(seen, normalize=True), MinMaxScaler().fit(seen)
        for rows in (seen, other):
            np.testing.assert_allclose(scaler.transform(rows), reference.transform(rows), atol=1e-5, rtol=1e-6)
        scaled = scaler.transform(seen)
        np.testing.assert_allclose(scaled, reference.transform(seen), atol=1e-6)
        assert scaled.dtype == np.float32
        assert (scaled[:, [2, 4]] == 0).all()
        assert (scaled.min(), scaled.max()) == (0, 1)

    def test_values_beyond_the_fitted_range_are_not_clipped(self) -> None:
        scaler = EmbeddingScaler.fit(np.array([[0.0], [2.0]], np.float32), normalize=True)
        assert scaler.transform(np.array([[-1.0], [5.0]], np.float32)).tolist() == [[-0.5], [2.5]]

    def test_without_normalisation_it_is_the_identity_and_says_so(self) -> None:
        rows = made_data([0, 1])[0] * 9
        scaler = EmbeddingScaler.fit(rows, normalize=False)
        np.testing.assert_array_equal(scaler.transform(rows), rows)
        assert scaler.identity
        np.testing.assert_array_equal((rows - scaler.minimum) / (scaler.maximum - scaler.minimum), rows)

    def test_rows_that_are_not_embedded_stay_nan(self) -> None:
        rows = made_data([0, 1])[0]
        scaler = EmbeddingScaler.fit(rows, normalize=True)
        rows[3] = np.nan
        assert np.isnan(scaler.transform(rows)).any(axis=1).nonzero()[0].tolist() == [3]

    @pytest.mark.parametrize("normalize", [True, False])
    def test_arrays_restore_it_through_a_file_without_pickle(self, tmp_path: Path, normalize: bool) -> None:
        rows = made_data([0, 1])[0]
        scaler = EmbeddingScaler.fit(rows, normalize=normalize)
        np.savez(tmp_path / "scaler.npz", **scaler.to_arrays())
        with np.load(tmp_path / "scaler.npz", allow_pickle=False) as arrays:
            restored = EmbeddingScaler.from_arrays(arrays)
        np.testing.assert_array_equal(restored.transform(rows), scaler.transform(rows))
        assert restored.identity is not normalize

    def test_a_missing_array_is_an_error(self) -> None:
        with pytest.raises(DataError, match="scaler is incomplete: 'maximum' is missing"):
            EmbeddingScaler.from_arrays({"minimum": np.zeros(2)})

    @pytest.mark.parametrize(
        ("rows", "error", "message"),
        [
            (np.zeros((0, 3), np.float32), DataError, "no embedding"),
            (np.array([[0, np.nan]], np.float32), DataError, "NaN"),
            (np.array([[0, 1], [0, np.inf]], np.float32), DataError, "infinite"),
            (np.zeros(3, np.float32), ConfigError, r"shape \(n, n_features\)"),
        ],
    )
    @pytest.mark.parametrize("normalize", [True, False])
    def test_rows_that_cannot_be_scaled_are_an_error(
        self, rows: np.ndarray, error: type[Exception], message: str, normalize: bool
    ) -> None:
        with pytest.raises(error, match=message):
            EmbeddingScaler.fit(rows, normalize=normalize)

    def test_embeddings_of_another_network_are_an_error(self) -> None:
        scaler = EmbeddingScaler.fit(np.zeros((2, 3), np.float32), normalize=True)
        with pytest.raises(ConfigError, match=r"shape \(n, 3\); got \(2, 4\)"):
            scaler.transform(np.zeros((2, 4), np.float32))


class TestMLP:
    def test_has_the_documented_settings(self) -> None:
        mlp = fitted([0, 1], params={}).estimator_
        wanted = MLPClassifier((230, 100), alpha=1e-4, learning_rate_init=1e-4, max_iter=2000, tol=1e-6, random_state=3)
        assert mlp.get_params() == wanted.get_params()

    @pytest.mark.parametrize("classes", [[0, 1], [0, 1, 2, 4]], ids=["two classes", "four"])
    def test_equals_a_plain_fit_with_the_same_seed(self, classes: list[int]) -> None:
        embeddings, targets = made_data(classes)
        params = {"max_iter": 60}
        classifier = EmbeddingClassifier("mlp", params, seed=3, n_classes=5).fit(embeddings, targets)
        plain = MLPClassifier(**(MLP_PARAMS | params), random_state=3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            plain.fit(embeddings, targets)
        assert classifier.estimator_.n_iter_ == plain.n_iter_
        np.testing.assert_allclose(
            classifier.probabilities(embeddings)[:, classes], plain.predict_proba(embeddings), atol=1e-6
        )

    def test_units_that_are_dead_leave_no_number_that_a_processor_is_slow_with_and_nothing_else_changes(self) -> None:
        """What a unit that never fires learnt shrinks at each step, its weights by `alpha` alone."""
        embeddings, targets = made_data([0, 1, 2])
        params = {**MLP_PARAMS, "max_iter": 1500, "learning_rate_init": 1e-2, "hidden_layer_sizes": (30, 10), "tol": 0}
        ours = EmbeddingClassifier("mlp", params, seed=3, n_classes=3).fit(embeddings, targets, progress=False)
        plain = MLPClassifier(**params, random_state=3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            plain.fit(embeddings, targets)

        def specks(mlp: MLPClassifier) -> int:
            arrays = [*mlp.coefs_, *mlp.intercepts_, *mlp._optimizer.ms, *mlp._optimizer.vs]
            return sum(np.count_nonzero((array != 0) & (np.abs(array) < np.finfo(np.float32).tiny)) for array in arrays)

        assert specks(plain) > 0
        assert specks(ours.estimator_) == 0
        np.testing.assert_allclose(ours.probabilities(embeddings), plain.predict_proba(embeddings), atol=1e-6)

    @pytest.mark.parametrize("settles", [True, False])
    def test_the_bar_moves_once_per_epoch_shows_the_loss_and_ends_full(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, settles: bool
    ) -> None:
        monkeypatch.setenv("COLUMNS", "200")  # so that a fast computer, which has longer figures, cuts nothing off
        params = {"max_iter": 200, "tol": 0.5, "n_iter_no_change": 4} if settles else FEW_EPOCHS
        mlp = EmbeddingClassifier("mlp", params, seed=3, n_classes=5).fit(*made_data([0, 1, 2])).estimator_
        assert (mlp.n_iter_ < 200) if settles else (mlp.n_iter_ == 12)
        last = capsys.readouterr().err.split("\r")[-1]
        assert "100%" in last and f"{mlp.n_iter_}/{mlp.n_iter_}" in last
        assert re.search(rf"loss={mlp.loss_:.4f}", last)

    def test_the_bar_can_be_left_out(self, capsys: pytest.CaptureFixture[str]) -> None:
        fitted([0, 1])
        assert capsys.readouterr().err == ""

    def test_what_it_hands_out_is_a_plain_classifier_that_converts_to_onnx(self) -> None:
        import onnxruntime
        from skl2onnx import to_onnx

        classifier, embeddings = fitted([0, 2, 3]), made_data([0, 2, 3])[0]
        mlp = classifier.estimator_
        assert type(mlp) is MLPClassifier
        assert "_update_no_improvement_count" not in vars(mlp)
        model = to_onnx(mlp, embeddings[:1], options={"zipmap": False}, target_opset=15)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        labels, probabilities = session.run(None, {session.get_inputs()[0].name: embeddings})
        np.testing.assert_allclose(probabilities, classifier.probabilities(embeddings)[:, [0, 2, 3]], atol=1e-5)
        np.testing.assert_array_equal(labels, classifier.probabilities(embeddings).argmax(axis=1))

    def test_not_settling_is_one_info_line_and_no_warning(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, logger="camera_trap_al"):
            fitted([0, 1, 2])  # a warning would fail the test
        limits = [record for record in caplog.records if "reached its limit" in record.message]
        assert [record.levelname for record in limits] == ["INFO"]

    def test_settling_says_nothing_of_the_kind(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, logger="camera_trap_al"):
            fitted([0, 1, 2], params={"tol": 0.5, "n_iter_no_change": 3})
        assert [record.message.split(":")[0] for record in caplog.records] == ["Classifier"] * len(caplog.records)
        assert not any("limit" in record.message for record in caplog.records)

    def test_ctrl_c_is_not_swallowed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupt(*args: Any, **kwargs: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("camera_trap_al.estimators.tqdm.update", interrupt)
        with pytest.raises(KeyboardInterrupt):
            EmbeddingClassifier("mlp", seed=0, n_classes=2).fit(*made_data([0, 1]))

    @pytest.mark.parametrize("n", [60, 2000])
    def test_it_is_fitted_on_one_blas_thread(self, monkeypatch: pytest.MonkeyPatch, n: int) -> None:
        during: list[set[int]] = []
        monkeypatch.setattr("camera_trap_al.estimators.tqdm.update", lambda bar: during.append(blas_threads()))
        classifier = EmbeddingClassifier("mlp", {"max_iter": 1, "hidden_layer_sizes": (2,)}, seed=0, n_classes=2)
        with threadpool_limits(2, "blas"):
            classifier.fit(*made_data([0, 1], n=n))
            assert blas_threads() == {2}
        assert during == [{1}]

    def test_global_random_numbers_are_untouched(self) -> None:
        before = np.random.get_state()[1].tolist()  # noqa: NPY002  the state is the point
        fitted([0, 1, 2])
        assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


class TestMLPFast:
    def test_is_the_same_network(self) -> None:
        fast, mlp = (fitted([0, 1], name, params={"max_iter": 2}).estimator_ for name in ("mlp_fast", "mlp"))
        assert [layer.shape for layer in fast.coefs_] == [layer.shape for layer in mlp.coefs_]
        differ = {name for name, value in mlp.get_params().items() if fast.get_params()[name] != value}
        assert differ == {"learning_rate_init", "tol"}

    @pytest.mark.parametrize(
        ("n", "batch_size", "epochs"),
        [(60, "auto", 2500), (200, "auto", 2500), (201, "auto", 1250), (5_000, "auto", 100), (100, 30, 625)],
    )
    def test_makes_about_2500_steps_however_many_labels_there_are(
        self, n: int, batch_size: int | str, epochs: int
    ) -> None:
        """An epoch is a step for each batch, of 200 labels if nothing else is said."""
        params = {"batch_size": batch_size, "tol": 1e9, "n_iter_no_change": 1, "hidden_layer_sizes": (2,)}
        classifier = EmbeddingClassifier("mlp_fast", params, seed=0, n_classes=2)
        for _ in range(2):  # the number of labels of an earlier fit is forgotten
            classifier.fit(*made_data([0, 1], n=n), progress=False)
            assert classifier.estimator_.max_iter == epochs
            assert classifier.estimator_.n_iter_ < 5  # the absurd `tol` stops it
            n, epochs = 60, math.ceil(2500 / math.ceil(60 / (200 if batch_size == "auto" else batch_size)))

    def test_a_limit_of_the_users_own_wins(self) -> None:
        assert fitted([0, 1], "mlp_fast", {"max_iter": 7}).estimator_.n_iter_ == 7


class TestLogistic:
    @pytest.mark.parametrize("classes", [[1, 3], [0, 2, 4]], ids=str)
    def test_equals_a_plain_fit(self, classes: list[int]) -> None:
        embeddings, targets = made_data(classes)
        plain = LogisticRegression(C=0.5, max_iter=1000).fit(embeddings, targets)
        found = fitted(classes, "logistic", {"C": 0.5})
        assert type(found.estimator_) is LogisticRegression
        np.testing.assert_allclose(
            found.probabilities(embeddings)[:, classes], plain.predict_proba(embeddings), atol=1e-6
        )

    def test_shows_no_bar(self, capsys: pytest.CaptureFixture[str]) -> None:
        EmbeddingClassifier("logistic", seed=0, n_classes=2).fit(*made_data([0, 1]))
        assert capsys.readouterr().err == ""


class TestClassWeight:
    """Weighing classes equally is the same as repeating the images of the rarer ones, which is the reference here."""

    @staticmethod
    def _uneven() -> tuple[np.ndarray, np.ndarray]:
        """30 images of class 1 and 10 of class 3, in clouds that overlap."""
        targets = np.array([1] * 30 + [3] * 10)
        rng = np.random.default_rng(0)
        return (rng.normal(0, 1, (40, 3)) + targets[:, None] / 4).astype(np.float32), targets

    def test_of_a_logistic_regression_is_that_of_scikit_learn_also_in_a_pipeline(self) -> None:
        embeddings, targets = self._uneven()
        plain = LogisticRegression(class_weight="balanced", max_iter=1000).fit(embeddings, targets)
        for estimator in ("logistic", LogisticRegression(), make_pipeline(LogisticRegression())):
            classifier = EmbeddingClassifier(estimator, seed=0, n_classes=4, class_weight="balanced")
            found = classifier.fit(embeddings, targets, progress=False).probabilities(embeddings)
            np.testing.assert_allclose(found[:, [1, 3]], plain.predict_proba(embeddings), atol=1e-6)

    @pytest.mark.parametrize("estimator", ["mlp", "mlp_fast", MLPClassifier()], ids=["mlp", "mlp_fast", "own"])
    def test_of_a_network_is_as_if_images_of_rare_classes_were_repeated(self, estimator: Any) -> None:
        embeddings, targets = self._uneven()
        params = {"solver": "lbfgs", "alpha": 1.0, "hidden_layer_sizes": (), "max_iter": 2000, "tol": 1e-9}
        weighed = EmbeddingClassifier(estimator, params, seed=0, n_classes=4, class_weight="balanced")
        weighed.fit(embeddings, targets, progress=False)
        # scikit-learn divides alpha by the number of images, which is 60 then and not 40: three of each rare one.
        repeated = EmbeddingClassifier(estimator, params | {"alpha": 1.5}, seed=0, n_classes=4)
        copies = np.repeat(np.arange(40), np.where(targets == 3, 3, 1))
        repeated.fit(embeddings[copies], targets[copies], progress=False)
        even = EmbeddingClassifier(estimator, params, seed=0, n_classes=4).fit(embeddings, targets, progress=False)
        expected = repeated.probabilities(embeddings)
        np.testing.assert_allclose(weighed.probabilities(embeddings), expected, atol=2e-3)
        assert np.abs(even.probabilities(embeddings) - expected).max() > 0.1

    @pytest.mark.parametrize("estimator", ["mlp", "mlp_fast", "logistic"])
    def test_images_that_count_less_do_not_make_a_class_common(self, estimator: str) -> None:
        # Each of the 30 counts a third, and so both classes are as common: there is nothing to balance.
        embeddings, targets = self._uneven()
        weights = np.where(targets == 1, 1 / 3, 1).astype(np.float32)
        balanced, plain = (
            EmbeddingClassifier(estimator, FEW_EPOCHS, seed=0, n_classes=4, class_weight=class_weight)
            .fit(embeddings, targets, weights, progress=False)
            .probabilities(embeddings)
            for class_weight in ("balanced", None)
        )
        np.testing.assert_allclose(balanced, plain, atol=1e-5)

    def test_an_estimators_own_weights_stay(self) -> None:
        own = RandomForestClassifier(5, class_weight="balanced_subsample")
        classifier = EmbeddingClassifier(own, seed=0, n_classes=2, class_weight="balanced").fit(*made_data([0, 1]))
        assert classifier.estimator_.class_weight == "balanced_subsample"

    def test_an_estimator_that_has_none_is_an_error(self) -> None:
        with pytest.raises(ConfigError, match=r"classifier=GaussianNB, which has no setting class_weight\. Use"):
            EmbeddingClassifier(GaussianNB(), seed=0, n_classes=2, class_weight="balanced")


class TestClassIds:
    @pytest.mark.parametrize("estimator", [*CLASSIFIERS, RandomForestClassifier(5), LogisticRegression()], ids=str)
    @pytest.mark.parametrize("classes", [[1, 3], [0, 2, 4], [0, 1, 2, 3, 4]], ids=str)
    def test_columns_are_class_ids_and_classes_without_a_label_are_zero(
        self, estimator: Any, classes: list[int]
    ) -> None:
        classifier = fitted(classes, estimator)
        embeddings = made_data(classes)[0]
        found = classifier.probabilities(embeddings)
        assert (found.dtype, found.shape) == (np.float32, (60, 5))
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(found[:, classes], classifier.estimator_.predict_proba(embeddings), atol=1e-6)
        assert (np.delete(found, classes, axis=1) == 0).all()
        assert classifier.labelled_classes.tolist() == classes
        assert classifier.labelled_classes.dtype == np.int64

    @pytest.mark.parametrize("estimator", [*CLASSIFIERS, LogisticRegression()], ids=str)
    def test_one_labelled_class_is_certain_and_nothing_is_fitted(self, estimator: Any) -> None:
        classifier = fitted([3], estimator)
        assert classifier.estimator_ is None
        assert classifier.labelled_classes.tolist() == [3]
        assert classifier.probabilities(made_data([3], n=2)[0]).tolist() == [[0, 0, 0, 1, 0]] * 2

    def test_a_second_fit_forgets_the_first(self) -> None:
        classifier = fitted([0, 1, 2])
        classifier.fit(*made_data([1, 4]), progress=False)
        np.testing.assert_array_equal(
            classifier.probabilities(made_data([1, 4])[0]), fitted([1, 4]).probabilities(made_data([1, 4])[0])
        )
        classifier.fit(*made_data([2]), progress=False)
        assert classifier.estimator_ is None

    def test_it_learns(self) -> None:
        embeddings, targets = made_data([0, 1, 2], n=90)
        classifier = EmbeddingClassifier("mlp", {"learning_rate_init": 1e-2, "max_iter": 100}, seed=0, n_classes=3)
        classifier.fit(embeddings[:60], targets[:60], progress=False)
        assert (classifier.probabilities(embeddings[60:]).argmax(axis=1) == targets[60:]).mean() > 0.9

    def test_many_rows_in_parts_equal_all_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        classifier, embeddings = fitted([0, 1, 2]), made_data([0, 1, 2])[0]
        at_once = classifier.probabilities(embeddings)
        monkeypatch.setattr("camera_trap_al.classifier.ROWS_PER_PREDICTION", 7)
        np.testing.assert_allclose(classifier.probabilities(embeddings), at_once, atol=1e-6)

    def test_no_row_gives_no_probability(self) -> None:
        assert fitted([0, 1]).probabilities(np.zeros((0, 8), np.float32)).shape == (0, 5)


class TestOwnEstimator:
    def test_is_cloned_and_gets_the_seed(self) -> None:
        own = RandomForestClassifier(5)
        classifier = fitted([0, 1, 2], own)
        assert own.random_state is None
        assert not hasattr(own, "classes_")
        assert classifier.estimator_.random_state == 3

    def test_keeps_a_seed_of_its_own(self) -> None:
        assert fitted([0, 1], RandomForestClassifier(5, random_state=8)).estimator_.random_state == 8

    def test_within_a_pipeline_gets_the_seed_as_well(self) -> None:
        pipeline = make_pipeline(StandardScaler(), RandomForestClassifier(5))
        assert fitted([0, 1], pipeline).estimator_[-1].random_state == 3

    def test_is_changed_by_params(self) -> None:
        assert fitted([0, 1], LogisticRegression(), {"C": 0.25}).estimator_.C == 0.25

    def test_not_settling_is_one_info_line_too(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, logger="camera_trap_al"):
            fitted([0, 1, 2], LogisticRegression(max_iter=1))
        assert sum("reached its limit" in record.message for record in caplog.records) == 1

    def test_its_other_warnings_are_passed_on(self) -> None:
        class Warns(LogisticRegression):
            def fit(self, X: Any, y: Any) -> "Warns":
                warnings.warn("mind the gap", FutureWarning, stacklevel=2)
                return super().fit(X, y)

        with pytest.warns(FutureWarning, match="mind the gap"):
            fitted([0, 1], Warns())

    @pytest.mark.parametrize(("n", "threads"), [(1999, {1}), (2000, {2})])
    def test_few_labels_are_fitted_on_one_blas_thread(self, n: int, threads: set[int]) -> None:
        during: list[set[int]] = []

        class Watched(LogisticRegression):
            def fit(self, X: Any, y: Any) -> "Watched":
                during.append(blas_threads())
                return super().fit(X, y)

        with threadpool_limits(2, "blas"):
            EmbeddingClassifier(Watched(), seed=0, n_classes=2).fit(*made_data([0, 1], n=n))
            assert blas_threads() == {2}
        assert during == [threads]

    def test_a_refusal_of_the_data_is_an_error_that_says_what_there_was(self) -> None:
        own = CalibratedClassifierCV(LogisticRegression(), cv=40)
        with pytest.raises(ConfigError, match="CalibratedClassifierCV cannot be fitted on 60 photos of 2 classes"):
            fitted([0, 1], own)


class TestArrays:
    @pytest.mark.parametrize("class_weight", [None, "balanced"])
    @pytest.mark.parametrize("name", CLASSIFIERS)
    @pytest.mark.parametrize("classes", [[3], [1, 3], [0, 2, 4]], ids=str)
    def test_restore_a_working_classifier_through_a_file_without_pickle(
        self, tmp_path: Path, classes: list[int], name: str, class_weight: str | None
    ) -> None:
        classifier = EmbeddingClassifier(name, FEW_EPOCHS, seed=3, n_classes=5, class_weight=class_weight)
        embeddings = classifier.fit(*made_data(classes), progress=False) and made_data(classes)[0]
        np.savez(tmp_path / "classifier.npz", **(classifier.to_arrays() or {}))
        with np.load(tmp_path / "classifier.npz", allow_pickle=False) as arrays:
            restored = EmbeddingClassifier.from_arrays(arrays)
        np.testing.assert_array_equal(restored.probabilities(embeddings), classifier.probabilities(embeddings))
        np.testing.assert_array_equal(restored.labelled_classes, classifier.labelled_classes)
        assert (restored.estimator, restored.class_weight) == (name, class_weight)
        if len(classes) > 1:
            assert restored.estimator_.get_params() == classifier.estimator_.get_params()
        again = restored.fit(embeddings, made_data(classes)[1], progress=False)
        np.testing.assert_array_equal(again.probabilities(embeddings), classifier.probabilities(embeddings))

    @pytest.mark.parametrize("name", CLASSIFIERS)
    @pytest.mark.parametrize("classes", [[1, 3], [0, 2, 4]], ids=str)
    def test_a_restored_classifier_predicts_and_converts_to_onnx_like_the_fitted_one(
        self, classes: list[int], name: str
    ) -> None:
        from skl2onnx import to_onnx

        classifier, embeddings = fitted(classes, name), made_data(classes)[0]
        restored = EmbeddingClassifier.from_arrays(classifier.to_arrays() or {})
        ours, theirs = restored.estimator_, classifier.estimator_
        np.testing.assert_array_equal(ours.predict(embeddings), theirs.predict(embeddings))
        assert ours.n_iter_ == theirs.n_iter_
        one, other = (to_onnx(mlp, embeddings[:1], target_opset=15).graph for mlp in (ours, theirs))
        assert [node.op_type for node in one.node] == [node.op_type for node in other.node]
        assert [i.raw_data or i.float_data for i in one.initializer] == [
            i.raw_data or i.float_data for i in other.initializer
        ]

    @pytest.mark.parametrize("layers", [(), 7, (4, 3, 2), np.int64(5)], ids=str)
    def test_keep_settings_that_the_user_changed(self, layers: Any) -> None:
        params = {"hidden_layer_sizes": layers, "activation": "tanh", "alpha": np.float32(0.5), "max_iter": 3}
        classifier = fitted([0, 1, 2], params=params)
        restored = EmbeddingClassifier.from_arrays(classifier.to_arrays() or {})
        embeddings = made_data([0, 1, 2])[0]
        np.testing.assert_array_equal(restored.probabilities(embeddings), classifier.probabilities(embeddings))
        assert restored.estimator_.get_params() == classifier.estimator_.get_params()

    def test_there_are_none_for_an_estimator_of_the_users_own(self) -> None:
        assert fitted([0, 1], LogisticRegression()).to_arrays() is None

    def test_of_an_earlier_version_which_named_no_classifier_are_those_of_an_mlp(self) -> None:
        classifier, embeddings = fitted([0, 2, 4]), made_data([0, 2, 4])[0]
        arrays = classifier.to_arrays() or {}
        settings = json.loads(str(arrays["settings"]))
        arrays["settings"] = np.array(json.dumps({name: settings[name] for name in settings.keys() - NEWER}))
        restored = EmbeddingClassifier.from_arrays(arrays)
        np.testing.assert_array_equal(restored.probabilities(embeddings), classifier.probabilities(embeddings))

    def test_of_mlp_fast_restore_how_many_epochs_it_could_have(self) -> None:
        classifier = fitted([0, 1], "mlp_fast", {"tol": 1e9, "hidden_layer_sizes": (2,), "batch_size": 20})
        restored = EmbeddingClassifier.from_arrays(classifier.to_arrays() or {})
        assert restored.estimator_.max_iter == classifier.estimator_.max_iter == 834  # 2500 steps, 3 for 60 labels

    @pytest.mark.parametrize(
        ("estimator", "name"),
        [
            *(("mlp", name) for name in ("settings", "labelled_classes", "weights_2", "bias_0")),
            *(("logistic", name) for name in ("settings", "coefficients", "intercepts")),
        ],
    )
    def test_a_missing_array_is_an_error(self, estimator: str, name: str) -> None:
        arrays = fitted([0, 1], estimator).to_arrays() or {}
        del arrays[name]
        with pytest.raises(DataError, match=f"classifier is incomplete: '{name}' is missing"):
            EmbeddingClassifier.from_arrays(arrays)


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"estimator": "svm"}, 'must be "mlp", .*"logistic" or a scikit-learn estimator; got \'svm\''),
            ({"estimator": LogisticRegression}, r"is a class: write LogisticRegression\(\)"),
            ({"estimator": RidgeClassifier()}, "RidgeClassifier has none.*CalibratedClassifierCV"),
            ({"estimator": None}, "NoneType has none"),
            ({"params": {"max_iterations": 3}}, "MLPClassifier has no setting 'max_iterations'.*max_iter"),
            ({"params": {"alpha": -1}}, "classifier_params: The 'alpha' parameter"),
            ({"estimator": "logistic", "params": {"C": -1}}, "classifier_params: The 'C' parameter"),
            ({"estimator": "logistic", "params": {"alpha": 1}}, "LogisticRegression has no setting 'alpha'"),
            ({"estimator": "mlp_fast", "params": {"batch_size": 0}}, "classifier_params: The 'batch_size' parameter"),
            ({"estimator": "logistic", "params": {"class_weight": {0: 2.0}}}, "must hold plain numbers"),
            ({"params": {"random_state": np.random.RandomState(0)}}, "must hold plain numbers"),
            ({"estimator": LogisticRegression(), "params": {"c": 3}}, "LogisticRegression has no setting 'c'"),
            ({"seed": -1}, "seed must be from 0"),
            ({"seed": 2**32}, "seed must be from 0"),
            ({"n_classes": 0}, "n_classes must be at least 1"),
        ],
    )
    def test_arguments_are_checked_before_any_fit(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            EmbeddingClassifier(**({"seed": 0, "n_classes": 5} | arguments))

    @pytest.mark.parametrize(
        ("embeddings", "targets", "error", "message"),
        [
            (np.zeros((0, 3)), [], DataError, "no photo has a label"),
            (np.zeros((2, 3)), [0], ConfigError, "one class id per embedding"),
            (np.zeros((2, 3)), [0, 5], ConfigError, "from 0 to 4; got 0 to 5"),
            (np.zeros((2, 3)), [-1, 0], ConfigError, "got -1 to 0"),
            (np.zeros(3), [0, 1, 2], ConfigError, r"shape \(n, n_features\)"),
            (np.array([[0.0], [np.nan]]), [0, 1], DataError, "NaN"),
            (np.array([[0.0], [np.inf]]), [1, 1], DataError, "infinite"),
        ],
    )
    def test_data_that_cannot_be_learned_from_are_an_error(
        self, embeddings: np.ndarray, targets: list[int], error: type[Exception], message: str
    ) -> None:
        classifier = EmbeddingClassifier(seed=0, n_classes=5)
        with pytest.raises(error, match=message):
            classifier.fit(embeddings.astype(np.float32), np.array(targets, dtype=np.int64), progress=False)

    @pytest.mark.parametrize("classes", [[2], [0, 1]], ids=["one class", "two"])
    def test_embeddings_of_another_network_are_an_error(self, classes: list[int]) -> None:
        with pytest.raises(ConfigError, match=r"shape \(n, 8\); got \(4, 9\)"):
            fitted(classes).probabilities(np.zeros((4, 9), np.float32))

    def test_nothing_can_be_had_before_the_fit(self) -> None:
        classifier = EmbeddingClassifier(seed=0, n_classes=5)
        with pytest.raises(ConfigError, match="before fit"):
            classifier.probabilities(np.zeros((4, 9), np.float32))
        with pytest.raises(ConfigError, match="before fit"):
            classifier.to_arrays()
