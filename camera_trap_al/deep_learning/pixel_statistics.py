"""Mean and standard deviation of the pixels of a run's photos."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from camera_trap_al.deep_learning.transforms import channel_statistics
from camera_trap_al.image_cache import ImageCache
from camera_trap_al.parallel import mapped_ahead
from camera_trap_al.pools import IndexArray

__all__ = ["draw_sample", "measure_pixels"]

ENOUGH_PHOTOS = 20_000
BATCH = 256


def draw_sample(rows: IndexArray, lots: NDArray[np.float64], at_most: int | None) -> IndexArray:
    """Choose the photos to measure, ascending: all of them up to 20,000, else those with the lowest lots.

    Parameters
    ----------
    rows
        (n,) rows to choose from.
    lots
        (n_rows,) a random number for each row.
    at_most
        How many are drawn when there are more than 20,000, if that is less.
    """
    if len(rows) <= ENOUGH_PHOTOS:
        return rows
    return np.sort(rows[np.argsort(lots[rows])[: min(at_most or ENOUGH_PHOTOS, ENOUGH_PHOTOS)]])


def measure_pixels(cache: ImageCache, rows: IndexArray) -> tuple[list[float], list[float]]:
    """Measure (3,) mean and standard deviation per channel, in units where white is 1, each photo weighing the same.

    Photos that cannot be read are left out.

    Raises
    ------
    DataError
        If none can be read.
    """

    def batches() -> Iterator[NDArray[np.uint8]]:
        parts = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
        for images, _ in tqdm(
            mapped_ahead(cache.read, parts, threads=1, ahead=1),
            total=len(parts),
            desc="Measuring pixels",
            unit="batch",
            delay=2,
        ):
            yield images

    mean, std = channel_statistics(batches())
    return mean.tolist(), std.tolist()
