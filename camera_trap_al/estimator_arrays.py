"""Fitted classifiers that have a name, taken apart into plain arrays and put together again."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import LabelBinarizer

from camera_trap_al.pools import IndexArray

__all__ = ["restore", "state_of"]


def state_of(estimator: Any) -> dict[str, NDArray[Any]]:
    """Return what a fitted `MLPClassifier` (layer by layer) or `LogisticRegression` learnt."""
    if isinstance(estimator, LogisticRegression):
        return {"coefficients": estimator.coef_, "intercepts": estimator.intercept_}
    weights = {f"weights_{layer}": array for layer, array in enumerate(estimator.coefs_)}
    biases = {f"bias_{layer}": array for layer, array in enumerate(estimator.intercepts_)}
    return weights | biases


def restore(estimator: Any, arrays: Mapping[str, NDArray[Any]], *, classes: IndexArray, n_iter: int) -> None:
    """Make an estimator what it was when `state_of` gave the arrays.

    Parameters
    ----------
    estimator
        `MLPClassifier` or `LogisticRegression` with the settings of the fitted one; changed in place.
    arrays
        What it learnt; other entries are ignored.
    classes
        Ascending class ids that it was fitted on, at least two.
    n_iter
        Number of epochs or steps that it was fitted for.

    Raises
    ------
    KeyError
        If an array is missing.
    """
    estimator.classes_ = classes
    if isinstance(estimator, LogisticRegression):
        estimator.coef_, estimator.intercept_ = arrays["coefficients"], arrays["intercepts"]
        estimator.n_features_in_, estimator.n_iter_ = estimator.coef_.shape[1], np.array([n_iter], np.int32)
    else:
        _restore_mlp(estimator, arrays, n_iter)


def _restore_mlp(mlp: Any, arrays: Mapping[str, NDArray[Any]], n_iter: int) -> None:
    n_layers = np.size(mlp.hidden_layer_sizes) + 1
    mlp.coefs_ = [arrays[f"weights_{layer}"] for layer in range(n_layers)]
    mlp.intercepts_ = [arrays[f"bias_{layer}"] for layer in range(n_layers)]
    mlp.n_layers_, mlp.n_iter_ = n_layers + 1, n_iter
    mlp.n_features_in_, mlp.n_outputs_ = len(mlp.coefs_[0]), len(mlp.intercepts_[-1])
    mlp.out_activation_ = "softmax" if len(mlp.classes_) > 2 else "logistic"
    mlp._label_binarizer = LabelBinarizer().fit(mlp.classes_)
