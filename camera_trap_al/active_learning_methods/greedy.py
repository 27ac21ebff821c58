"""Greedy choice of images that stand for others: the farthest from all centres, or the one that covers most."""

import logging
from collections.abc import Iterator

import numpy as np

from camera_trap_al.active_learning_methods.base import TIE_TOLERANCE
from camera_trap_al.pools import FloatArray, IndexArray

__all__ = ["choose_by_coverage", "choose_centres", "sample"]

logger = logging.getLogger(__name__)

# Squared distances are sums of products in float32: below this share of the largest squared length they are rounding.
NOISE = 16 * float(np.finfo(np.float32).eps)
# Distances are made in blocks of this many rows by this many columns, which stay in the processor's cache.
BLOCK_ROWS, BLOCK_COLUMNS = 2048, 1024
REEVALUATED_AT_ONCE = 128


def choose_centres(
    embeddings: FloatArray, labelled: IndexArray, unlabelled: IndexArray, n: int, rng: np.random.Generator
) -> IndexArray:
    """Choose, one after the other, the image farthest from all labelled and chosen ones.

    The greedy algorithm for k-center, whose largest distance is at most twice the smallest possible [Sener & Savarese,
    2018, algorithm 1]. Each new centre takes one pass over the images. If nothing is labelled, the first one is drawn
    at random. Distances are Euclidean, in float32: squares that differ by under 2e-6 of the largest squared length
    (counted from the mean) tie, and images so near to a centre, or within 1e-6 of it, count as copies of it.

    Parameters
    ----------
    embeddings
        (n_rows, n_features), of which only `labelled` and `unlabelled` are looked at.
    labelled
        (n_labelled,), the rows that are centres already.
    unlabelled
        (n_unlabelled,), the rows to choose from. One copy of their embeddings is made.
    n
        How many to choose, at most n_unlabelled.
    rng
        Breaks ties.

    Returns
    -------
    IndexArray
        (up to n,), positions in `unlabelled` in the order of choice; fewer when the others are copies of centres.
    """
    middle = _mean(embeddings, unlabelled)
    # The last column, all 1, lets one matrix product give the squared distance less the squared length of the image.
    points = np.ones((len(unlabelled), embeddings.shape[1] + 1), dtype=np.float32)
    for part in _parts(len(unlabelled), BLOCK_ROWS):
        points[part, :-1] = embeddings[unlabelled[part]] - middle
    squares = _squared_lengths(points[:, :-1])
    centres = np.ones((len(labelled), points.shape[1]), dtype=np.float32)
    centres[:, :-1] = embeddings[labelled] - middle
    largest = max(squares.max(), _squared_lengths(centres[:, :-1]).max(initial=0))
    noise = max(NOISE * largest, TIE_TOLERANCE**2)
    nearest = _nearest_centres(points, centres)
    chosen: list[int] = []
    while len(chosen) < n:
        distances = squares + nearest
        farthest = distances.max()
        if farthest <= noise:
            break
        pick = int(rng.choice(np.flatnonzero(distances >= farthest - noise)))
        np.minimum(nearest, points @ _as_centres(points[pick : pick + 1])[0], out=nearest)
        nearest[pick] = -squares[pick]
        chosen.append(pick)
    return np.array(chosen, dtype=np.int64)


def choose_by_coverage(
    embeddings: FloatArray,
    labelled: IndexArray,
    unlabelled: IndexArray,
    n: int,
    rng: np.random.Generator,
    *,
    radius: float,
    weights: FloatArray | None = None,
    max_anchors: int = 10_000,
) -> IndexArray:
    """Choose, one after the other, the image that raises the coverage of the pool most.

    An image i is covered by max over labelled and chosen j of k(i, j), with the Gaussian kernel
    k(i, j) = exp(-|x_i - x_j|^2 / (2 radius^2)); the coverage of the pool is the weighted sum of that over the
    unlabelled images: MaxHerding with equal weights [Bae et al., 2024], Uncertainty Herding with uncertainties [Bae et
    al., 2025].

    What an image adds never grows as others are chosen, so only those that may still be best are computed again (lazy
    greedy [Minoux, 1978]); the choice is the same. The exact sum takes n_unlabelled^2 kernel values. Above
    `max_anchors` images it is estimated on that many of them, drawn at random; all images remain candidates. Gains
    within 1e-6 of each other, relatively, tie; a gain below 1e-6 of the largest possible sum is rounding.

    Parameters
    ----------
    embeddings
        (n_rows, n_features), of which only `labelled` and `unlabelled` are looked at.
    labelled
        (n_labelled,), rows that cover others already.
    unlabelled
        (n_unlabelled,), the rows to cover and to choose from.
    n
        How many to choose, at most n_unlabelled.
    rng
        Draws the anchors and breaks ties.
    radius
        Standard deviation of the kernel, in units of the embeddings, above 0.
    weights
        (n_unlabelled,), what each image counts in the sum, 0 or more; None for 1.
    max_anchors
        On how many images the coverage is measured at most.

    Returns
    -------
    IndexArray
        (up to n,), positions in `unlabelled` in the order of choice; fewer when no other image adds anything.
    """
    anchors = sample(np.arange(len(unlabelled)), max_anchors, rng)
    if len(anchors) < len(unlabelled):
        logger.info("Coverage of %d images is estimated on %d of them, drawn at random", len(unlabelled), len(anchors))
    middle = _mean(embeddings, unlabelled)
    points = _kernel_rows(embeddings, unlabelled, middle, radius)
    coverage = _Coverage(points[anchors], np.ones(len(anchors), np.float32) if weights is None else weights[anchors])
    for part in _parts(len(labelled), BLOCK_COLUMNS):
        coverage.add(_kernel_rows(embeddings, labelled[part], middle, radius))
    gains = np.concatenate([coverage.gains(points[part]) for part in _parts(len(points), BLOCK_COLUMNS)])
    chosen: list[int] = []
    while len(chosen) < n:
        tied = _update_best(gains, points, coverage)
        if gains[tied].max() <= TIE_TOLERANCE * coverage.largest:
            break
        pick = int(rng.choice(tied))
        coverage.add(points[pick : pick + 1])
        gains[pick] = -np.inf
        chosen.append(pick)
    return np.array(chosen, dtype=np.int64)


class _Coverage:
    """How well each anchor is covered so far."""

    def __init__(self, anchors: FloatArray, weights: FloatArray) -> None:
        self._anchors = _as_columns(anchors)
        self._weights = weights.astype(np.float32)
        self._covered = np.zeros(len(anchors), dtype=np.float32)
        self.largest = float(self._weights.sum(dtype=np.float64))

    def add(self, points: FloatArray) -> None:
        """Let more points cover the anchors."""
        for part in _parts(len(self._covered), BLOCK_ROWS):
            by_these = _kernel(points, self._anchors[:, part]).max(axis=0)
            np.maximum(self._covered[part], by_these, out=self._covered[part])

    def gains(self, points: FloatArray) -> FloatArray:
        """Return what each point alone would add to the weighted sum."""
        total = np.zeros(len(points), dtype=np.float64)
        for part in _parts(len(self._covered), BLOCK_ROWS):
            kernel = _kernel(points, self._anchors[:, part])
            kernel -= self._covered[part]
            total += np.maximum(kernel, 0, out=kernel) @ self._weights[part]
        return total.astype(np.float32)


def _update_best(gains: FloatArray, points: FloatArray, coverage: _Coverage) -> IndexArray:
    """Bring `gains`, upper bounds on entry, up to date until the best are sure; return the positions that tie."""
    is_stale = np.isfinite(gains)
    while True:
        highest = gains.max()
        tied = np.flatnonzero(gains >= highest - TIE_TOLERANCE * abs(highest))
        if not is_stale[tied].any():
            return tied
        stale = np.flatnonzero(is_stale)
        if len(stale) > REEVALUATED_AT_ONCE:
            stale = stale[np.argpartition(-gains[stale], REEVALUATED_AT_ONCE)[:REEVALUATED_AT_ONCE]]
        gains[stale] = coverage.gains(points[stale])
        is_stale[stale] = False


def sample(rows: IndexArray, n: int, rng: np.random.Generator) -> IndexArray:
    """Draw `n` of the rows without replacement, or keep all if there are no more."""
    return rows if len(rows) <= n else rng.choice(rows, n, replace=False)


def _parts(n: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def _mean(embeddings: FloatArray, rows: IndexArray) -> FloatArray:
    total = sum(embeddings[rows[part]].sum(axis=0, dtype=np.float64) for part in _parts(len(rows), BLOCK_ROWS))
    return np.asarray(total / len(rows), dtype=np.float32)


def _squared_lengths(points: FloatArray) -> FloatArray:
    squares: FloatArray = np.einsum("ij,ij->i", points, points)
    return squares


def _as_centres(points: FloatArray) -> FloatArray:
    """Turn rows (x, 1) into rows c with (y, 1) . c = |x - y|^2 - |y|^2."""
    centres = -2 * points
    centres[:, -1] = _squared_lengths(points[:, :-1])
    return centres


def _nearest_centres(points: FloatArray, centres: FloatArray) -> FloatArray:
    """Squared distance of each point from its nearest centre, less its own squared length; infinite without centres."""
    nearest = np.full(len(points), np.inf, dtype=np.float32)
    columns = _as_centres(centres).T
    for rows in _parts(len(points), BLOCK_ROWS):
        for part in _parts(len(centres), BLOCK_COLUMNS):
            np.minimum(nearest[rows], (points[rows] @ columns[:, part]).min(axis=1), out=nearest[rows])
    return nearest


def _kernel_rows(embeddings: FloatArray, rows: IndexArray, middle: FloatArray, radius: float) -> FloatArray:
    """Rows (x, -|x|^2 / 2, 1) in units of the radius, whose product with `_as_columns` is -|x - y|^2 / 2."""
    points = np.ones((len(rows), embeddings.shape[1] + 2), dtype=np.float32)
    for part in _parts(len(rows), BLOCK_ROWS):
        points[part, :-2] = (embeddings[rows[part]] - middle) / np.float32(radius)
    points[:, -2] = -_squared_lengths(points[:, :-2]) / 2
    return points


def _as_columns(points: FloatArray) -> FloatArray:
    columns: FloatArray = points.T.copy()
    columns[[-2, -1]] = columns[[-1, -2]]
    return columns


def _kernel(points: FloatArray, columns: FloatArray) -> FloatArray:
    exponents: FloatArray = points @ columns
    np.minimum(exponents, 0, out=exponents)
    return np.exp(exponents, out=exponents)
