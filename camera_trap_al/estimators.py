"""The scikit-learn estimator behind the classifier: made, and fitted with progress."""

import json
import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.validation import has_fit_parameter
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from camera_trap_al.exceptions import ConfigError
from camera_trap_al.pools import FloatArray, IndexArray

__all__ = [
    "CLASSIFIERS",
    "CLASS_WEIGHTS",
    "MLP_PARAMS",
    "can_weigh",
    "fit_estimator",
    "new_estimator",
    "settings_as_json",
]

logger = logging.getLogger(__name__)

MLP_PARAMS: Mapping[str, Any] = {
    "hidden_layer_sizes": (230, 100),
    "alpha": 1e-4,
    "learning_rate_init": 1e-4,
    "max_iter": 2000,
    "tol": 1e-6,
}
# The same network; benchmarks/classifiers.py compares them.
MLP_FAST_PARAMS: Mapping[str, Any] = {**MLP_PARAMS, "learning_rate_init": 1e-3, "tol": 1e-4}
MLP_FAST_STEPS = 2_500  # of the optimiser, after which more of them change the training loss alone
LOGISTIC_PARAMS: Mapping[str, Any] = {"C": 1.0, "max_iter": 1000}
CLASSIFIERS: Mapping[str, tuple[Any, Mapping[str, Any]]] = {
    "mlp": (MLPClassifier, MLP_PARAMS),
    "mlp_fast": (MLPClassifier, MLP_FAST_PARAMS),
    "logistic": (LogisticRegression, LOGISTIC_PARAMS),
}
"""The classifiers that have a name: what scikit-learn calls them, and their settings."""

CLASS_WEIGHTS = ("balanced",)
USUAL_BATCH = 200  # of an MLPClassifier with batch_size="auto"
# Threads that share so small a matrix product cost more than they save. That of an MLP is small however many labels
# there are, since it learns in batches.
ONE_THREAD_BELOW = 2_000
SPECK = 1e-32  # its square root is lost beside the 1e-8 that Adam adds to it


def new_estimator(
    estimator: Any, params: Mapping[str, Any], seed: int, *, class_weight: str | None = None, n_labels: int = 1
) -> Any:
    """Make an estimator that was never fitted.

    Parameters
    ----------
    estimator
        One of `CLASSIFIERS`, or a scikit-learn estimator with `predict_proba`; it is cloned and stays as it is.
    params
        Settings to change; those of a named one must be plain values.
    seed
        What every random state that is None is set to, also within a pipeline.
    class_weight
        What every `class_weight` that is None is set to, also within a pipeline. An `MLPClassifier` has none;
        `fit_estimator` sees to it.
    n_labels
        Images that it will be fitted on: "mlp_fast" takes so many epochs that its steps are always about as many.

    Raises
    ------
    ConfigError
        If `estimator` is none, does not know a setting, or cannot weigh classes.
    """
    if isinstance(estimator, str):
        ours = _new_named(estimator, params, seed, n_labels)
    else:
        ours = _with_params(_cloned(estimator), params)
        ours.set_params(**dict.fromkeys(_unset(ours, "random_state"), seed))
    return ours if class_weight is None else _with_class_weight(ours, class_weight)


def fit_estimator(
    estimator: Any,
    embeddings: FloatArray,
    targets: IndexArray,
    *,
    class_weight: str | None = None,
    weights: FloatArray | None = None,
    progress: bool,
) -> None:
    """Fit in place, with a progress bar if it is a plain `MLPClassifier`, on one BLAS thread if matrices are small.

    Parameters
    ----------
    estimator
        From `new_estimator`, with the same `class_weight`.
    embeddings, targets
        (n, n_features) and (n,) class ids.
    class_weight
        Weighs the images of an `MLPClassifier`; others do it themselves.
    weights
        (n,) how much each image counts, above 0; None: each the same. See `can_weigh`.
    progress
        Whether to show the bar.

    Raises
    ------
    ConfigError
        If the estimator refuses the data.
    """
    is_mlp = type(estimator) is MLPClassifier
    if is_mlp and class_weight:
        by_class = compute_class_weight(class_weight, classes=np.unique(targets), y=targets, sample_weight=weights)
        by_image = by_class[np.unique(targets, return_inverse=True)[1]]
        weights = by_image if weights is None else by_image * weights
    bar = _each_epoch(estimator, show=progress) if is_mlp else nullcontext()
    threads = threadpool_limits(1, "blas") if is_mlp or len(targets) < ONE_THREAD_BELOW else nullcontext()
    try:
        with _warnings_heeded(), threads, bar:
            estimator.fit(embeddings, targets, **({} if weights is None else {"sample_weight": weights}))
    except ValueError as error:
        raise ConfigError(
            f"classifier: {type(estimator).__name__} cannot be fitted on {len(targets)} photos of "
            f"{len(np.unique(targets))} classes with its present settings: {error}"
        ) from error


def can_weigh(estimator: Any) -> bool:
    """Whether an estimator, or one of the named ones, can learn more from some images than from others."""
    return isinstance(estimator, str) or has_fit_parameter(estimator, "sample_weight")


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


def _new_named(name: str, params: Mapping[str, Any], seed: int, n_labels: int) -> Any:
    if name not in CLASSIFIERS:
        raise ConfigError(f"classifier must be {_names()} or a scikit-learn estimator; got {name!r}.")
    settings_as_json(params)
    for setting, value in params.items():
        if isinstance(value, Mapping):  # JSON would make words of its numbers
            raise ConfigError(f"classifier_params must hold plain numbers, words and tuples; {setting!r} is {value!r}.")
    kind, settings = CLASSIFIERS[name]
    ours = _with_params(kind(**settings, random_state=seed), params)
    try:
        ours._validate_params()  # private, but the only check of the values that needs no data
    except ValueError as error:
        raise ConfigError(f"classifier_params: {error}") from error
    if name == "mlp_fast" and "max_iter" not in params:
        batch = USUAL_BATCH if ours.batch_size == "auto" else ours.batch_size
        ours.set_params(max_iter=math.ceil(MLP_FAST_STEPS / math.ceil(n_labels / batch)))
    return ours


def _names() -> str:
    return ", ".join(f'"{name}"' for name in CLASSIFIERS)


def _cloned(estimator: Any) -> Any:
    name = getattr(estimator, "__name__", type(estimator).__name__)
    if isinstance(estimator, type):
        raise ConfigError(f"classifier must be {_names()} or an estimator; {name} is a class: write {name}().")
    if not all(hasattr(estimator, method) for method in ("fit", "predict_proba", "get_params", "set_params")):
        raise ConfigError(
            f"classifier must be {_names()} or a scikit-learn estimator with predict_proba; {name} has none. Some "
            "estimators need a setting for it, others can be wrapped in sklearn.calibration.CalibratedClassifierCV."
        )
    return clone(estimator)


def _with_params(estimator: Any, params: Mapping[str, Any]) -> Any:
    known = estimator.get_params()
    unknown = sorted(set(params) - set(known))
    if unknown:
        raise ConfigError(
            f"classifier_params: {type(estimator).__name__} has no setting {' or '.join(map(repr, unknown))}. "
            f"It has {', '.join(sorted(known))}."
        )
    return estimator.set_params(**params)


def _with_class_weight(estimator: Any, class_weight: str) -> Any:
    if type(estimator) is MLPClassifier:
        return estimator
    if not _settings(estimator, "class_weight"):
        raise ConfigError(
            f"class_weight={class_weight!r} cannot be used with classifier={type(estimator).__name__}, which has no "
            f"setting class_weight. Use class_weight=None, or one of {_names()} as the classifier."
        )
    return estimator.set_params(**dict.fromkeys(_unset(estimator, "class_weight"), class_weight))


def _unset(estimator: Any, setting: str) -> list[str]:
    return [name for name, value in _settings(estimator, setting).items() if value is None]


def _settings(estimator: Any, setting: str) -> dict[str, Any]:
    """Find a setting in an estimator and its parts."""
    return {name: value for name, value in estimator.get_params().items() if name.rpartition("__")[2] == setting}


@contextmanager
def _each_epoch(mlp: Any, *, show: bool) -> Iterator[None]:
    """At each epoch of ``mlp.fit``, move a progress bar by one and drop numbers that only slow it down."""
    with tqdm(total=mlp.max_iter, desc="Training the classifier", unit="epoch", disable=not show) as bar:

        def end_epoch(*args: Any, **kwargs: Any) -> None:
            MLPClassifier._update_no_improvement_count(mlp, *args, **kwargs)
            _drop_specks(mlp)
            bar.set_postfix(loss=f"{mlp.loss_:.4f}", refresh=False)
            bar.update()

        # scikit-learn has no callback. This private method is what it calls once at the end of each epoch; hiding it
        # behind an attribute keeps the object a plain MLPClassifier, which skl2onnx insists on. Should a later version
        # drop the method, the bar stands still and the fit is the same, only slower.
        mlp._update_no_improvement_count = end_epoch
        try:
            yield
        finally:
            del mlp._update_no_improvement_count
        bar.total = bar.n  # it has settled; max_iter was only the limit


def _drop_specks(mlp: Any) -> None:
    """Set what is next to nothing to 0: weights of dead units, and moments of Adam.

    They shrink at each step, and below 1e-38 a processor computes many times slower. What is learnt stays the same,
    since a float32 is not changed by adding what is smaller than a ten-millionth of it.
    """
    optimiser = getattr(mlp, "_optimizer", None)  # none with solver="lbfgs"
    moments = [*getattr(optimiser, "ms", ()), *getattr(optimiser, "vs", ())]
    for array in (*mlp.coefs_, *mlp.intercepts_, *moments):
        array[np.abs(array) < SPECK] = 0


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
