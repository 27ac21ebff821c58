"""The scikit-learn estimator behind the classifier: made, fitted with progress, taken apart and put together again."""

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import LabelBinarizer
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from camera_trap_al.exceptions import ConfigError
from camera_trap_al.pools import FloatArray, IndexArray

__all__ = ["MLP_PARAMS", "fit_estimator", "new_estimator", "restored_mlp", "settings_as_json", "weights_of_mlp"]

logger = logging.getLogger(__name__)

MLP_PARAMS: Mapping[str, Any] = {
    "hidden_layer_sizes": (230, 100),
    "alpha": 1e-4,
    "learning_rate_init": 1e-4,
    "max_iter": 2000,
    "tol": 1e-6,
}
# Threads that share so small a matrix product cost more than they save: 61 s with two, 7 s with one at 300 labels.
ONE_THREAD_BELOW = 2_000


def new_estimator(estimator: Any, params: Mapping[str, Any], seed: int) -> Any:
    """Make an estimator that was never fitted.

    Parameters
    ----------
    estimator
        "mlp", or a scikit-learn estimator with `predict_proba`; it is cloned and stays as it is.
    params
        Settings to change; those of "mlp" must be plain values.
    seed
        What every random state that is None is set to, also within a pipeline.

    Raises
    ------
    ConfigError
        If `estimator` is none, or does not know a setting.
    """
    if isinstance(estimator, str):
        return _new_mlp(estimator, params, seed)
    name = getattr(estimator, "__name__", type(estimator).__name__)
    if isinstance(estimator, type):
        raise ConfigError(f'classifier must be "mlp" or an estimator; {name} is a class: write {name}().')
    if not all(hasattr(estimator, method) for method in ("fit", "predict_proba", "get_params", "set_params")):
        raise ConfigError(
            f'classifier must be "mlp" or a scikit-learn estimator with predict_proba; {name} has none. Some '
            "estimators need a setting for it, others can be wrapped in sklearn.calibration.CalibratedClassifierCV."
        )
    ours = _with_params(clone(estimator), params)
    unset = [key for key, value in ours.get_params().items() if _is_random_state(key) and value is None]
    return ours.set_params(**dict.fromkeys(unset, seed))


def fit_estimator(estimator: Any, embeddings: FloatArray, targets: IndexArray, *, progress: bool) -> None:
    """Fit in place, with a progress bar if it is a plain `MLPClassifier`, on one BLAS thread if there are few labels.

    Raises
    ------
    ConfigError
        If the estimator refuses the data.
    """
    bar = _epoch_bar(estimator, show=progress) if type(estimator) is MLPClassifier else nullcontext()
    threads = threadpool_limits(1, "blas") if len(targets) < ONE_THREAD_BELOW else nullcontext()
    try:
        with _warnings_heeded(), threads, bar:
            estimator.fit(embeddings, targets)
    except ValueError as error:
        raise ConfigError(
            f"classifier: {type(estimator).__name__} cannot be fitted on {len(targets)} images of "
            f"{len(np.unique(targets))} classes with its present settings: {error}"
        ) from error


def weights_of_mlp(mlp: Any) -> dict[str, NDArray[Any]]:
    """Return the weights and biases of a fitted `MLPClassifier`, layer by layer."""
    weights = {f"weights_{layer}": array for layer, array in enumerate(mlp.coefs_)}
    biases = {f"bias_{layer}": array for layer, array in enumerate(mlp.intercepts_)}
    return weights | biases


def restored_mlp(
    arrays: Mapping[str, NDArray[Any]], *, params: Mapping[str, Any], seed: int, classes: IndexArray, n_iter: int
) -> Any:
    """Put an `MLPClassifier` together from `weights_of_mlp`.

    Parameters
    ----------
    arrays
        The weights and biases; other entries are ignored.
    params, seed
        What it was made with.
    classes
        Ascending class ids that it was fitted on, at least two.
    n_iter
        Number of epochs that it was fitted for.

    Raises
    ------
    KeyError
        If an array is missing.
    """
    mlp = new_estimator("mlp", params, seed)
    n_layers = np.size(mlp.hidden_layer_sizes) + 1
    mlp.coefs_ = [arrays[f"weights_{layer}"] for layer in range(n_layers)]
    mlp.intercepts_ = [arrays[f"bias_{layer}"] for layer in range(n_layers)]
    mlp.n_layers_, mlp.n_iter_ = n_layers + 1, n_iter
    mlp.n_features_in_, mlp.n_outputs_ = len(mlp.coefs_[0]), len(mlp.intercepts_[-1])
    mlp.out_activation_ = "softmax" if len(classes) > 2 else "logistic"
    mlp.classes_ = classes
    mlp._label_binarizer = LabelBinarizer().fit(classes)
    return mlp


def settings_as_json(settings: Mapping[str, Any]) -> str:
    """Return settings as JSON; tuples become lists, numpy numbers plain ones.

    Raises
    ------
    ConfigError
        If one is not a plain value.
    """
    try:
        return json.dumps(settings, default=lambda value: value.item())
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"classifier_params must hold plain numbers, words and tuples, so that they can be stored: {error}"
        ) from error


def _new_mlp(name: str, params: Mapping[str, Any], seed: int) -> Any:
    if name != "mlp":
        raise ConfigError(f'classifier must be "mlp" or a scikit-learn estimator; got {name!r}.')
    settings_as_json(params)
    mlp = _with_params(MLPClassifier(**MLP_PARAMS, random_state=seed), params)
    try:
        mlp._validate_params()  # private, but the only check of the values that needs no data
    except ValueError as error:
        raise ConfigError(f"classifier_params: {error}") from error
    return mlp


def _with_params(estimator: Any, params: Mapping[str, Any]) -> Any:
    known = estimator.get_params()
    unknown = sorted(set(params) - set(known))
    if unknown:
        raise ConfigError(
            f"classifier_params: {type(estimator).__name__} has no setting {' or '.join(map(repr, unknown))}. "
            f"It has {', '.join(sorted(known))}."
        )
    return estimator.set_params(**params)


def _is_random_state(setting: str) -> bool:
    return setting.rpartition("__")[2] == "random_state"


@contextmanager
def _epoch_bar(mlp: Any, *, show: bool) -> Iterator[None]:
    """Move a progress bar by one at each epoch of ``mlp.fit``."""
    with tqdm(total=mlp.max_iter, desc="Training the classifier", unit="epoch", disable=not show) as bar:

        def end_epoch(*args: Any, **kwargs: Any) -> None:
            MLPClassifier._update_no_improvement_count(mlp, *args, **kwargs)
            bar.set_postfix(loss=f"{mlp.loss_:.4f}", refresh=False)
            bar.update()

        # scikit-learn has no callback. This private method is what it calls once at the end of each epoch; hiding it
        # behind an attribute keeps the object a plain MLPClassifier, which skl2onnx insists on. Should a later version
        # drop the method, the bar stands still and the fit is the same.
        mlp._update_no_improvement_count = end_epoch
        try:
            yield
        finally:
            del mlp._update_no_improvement_count
        bar.total = bar.n  # it has settled; max_iter was only the limit


@contextmanager
def _warnings_heeded() -> Iterator[None]:
    """Turn `ConvergenceWarning` into one log line, and an interrupted fit back into `KeyboardInterrupt`."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        # MLPClassifier swallows Ctrl-C, warns and returns half trained: the run would go on with that.
        warnings.filterwarnings("error", message="Training interrupted by user")
        try:
            yield
        except UserWarning as warning:
            if isinstance(warning.__context__, KeyboardInterrupt):
                raise warning.__context__ from None
            raise
    for record in caught:
        if not issubclass(record.category, ConvergenceWarning):
            warnings.warn_explicit(record.message, record.category, record.filename, record.lineno)
    if any(issubclass(record.category, ConvergenceWarning) for record in caught):
        logger.info(
            "Classifier: the fit reached its limit of steps before it settled, and is used as it is; "
            "classifier_params={'max_iter': ...} allows more"
        )
