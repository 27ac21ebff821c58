"""Embeddings seen from the side that shows most of them: a flat map of photos."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from camera_trap_al.exceptions import ConfigError
from camera_trap_al.pools import FloatArray, IndexArray

__all__ = ["EmbeddingMap", "map_embeddings"]

MOST_POINTS = 5000  # on a map of some inches, more only hide each other


@dataclass(frozen=True, eq=False, kw_only=True)
class EmbeddingMap:
    """Photos as points.

    Attributes
    ----------
    points
        (n, 2), first and second principal component.
    class_ids
        (n,) class of each photo: its label, or what the model thinks.
    is_labelled
        (n,) which of the two it is.
    classes
        Class names by class id.
    shares
        Shares of the variance of all features that the two components hold, 0..1.
    n_photos
        Photos that there are, of which these are a sample.
    """

    points: FloatArray
    class_ids: IndexArray
    is_labelled: NDArray[np.bool_]
    classes: tuple[str, ...]
    shares: tuple[float, float]
    n_photos: int


def map_embeddings(
    embeddings: FloatArray,
    class_ids: IndexArray,
    is_labelled: NDArray[np.bool_],
    classes: tuple[str, ...],
    rng: np.random.Generator,
    at_most: int = MOST_POINTS,
) -> EmbeddingMap:
    """Project embeddings on their first two principal components [Pearson, 1901], and draw a sample if they are many.

    The components are those of all photos. The sample holds every labelled photo as long as there is room. The larger
    part of each component points to the positive side, so that a map does not flip from round to round.

    Parameters
    ----------
    embeddings
        (n, n_features).
    class_ids, is_labelled
        (n,) label of each photo, or what the model thinks, and which of the two it is.
    classes
        Class names by class id.
    rng
        Source of the sample.
    at_most
        Points on the map.

    Raises
    ------
    ConfigError
        If there is no embedding, or the arguments do not fit together.
    """
    n = len(embeddings)
    if not n or embeddings.ndim != 2 or class_ids.shape != (n,) or is_labelled.shape != (n,):
        raise ConfigError(
            "embeddings must have the shape (n, n_features) with n at least 1, class_ids and is_labelled (n,); got "
            f"{embeddings.shape}, {class_ids.shape} and {is_labelled.shape}."
        )
    centred = embeddings - embeddings.mean(axis=0, dtype=np.float64)
    variances, axes = np.linalg.eigh(centred.T @ centred)  # ascending
    axes = axes[:, ::-1][:, :2]
    axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])] < 0, -1, 1)
    order = np.lexsort((rng.random(n), ~is_labelled))  # labelled ones first, by lot
    kept = np.sort(order[:at_most])
    points = np.zeros((len(kept), 2), np.float32)  # of embeddings with one feature, the second stays 0
    points[:, : axes.shape[1]] = centred[kept] @ axes
    of_each = np.zeros(2)
    of_each[: axes.shape[1]] = np.maximum(variances[::-1][:2], 0) / max(float(variances.sum()), np.finfo(float).tiny)
    return EmbeddingMap(
        points=points,
        class_ids=class_ids[kept],
        is_labelled=is_labelled[kept],
        classes=classes,
        shares=(float(of_each[0]), float(of_each[1])),
        n_photos=n,
    )
