"""Mean and standard deviation of the pixels of a run's photos: measured once, and frozen from then on."""

import logging
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning.data_loader import ExtendedImageFolder
from camera_trap_al.deep_learning.embedder import Embedder
from camera_trap_al.deep_learning.photo_reader import PhotoReader
from camera_trap_al.deep_learning.transforms import channel_statistics
from camera_trap_al.files import digest
from camera_trap_al.logs import stage
from camera_trap_al.parallel import mapped_ahead
from camera_trap_al.photos.image_cache import ImageCache
from camera_trap_al.pools import FloatArray, IndexArray
from camera_trap_al.run_store import RunStore

__all__ = ["PixelStatistics", "draw_sample", "measure_pixels"]

logger = logging.getLogger(__name__)

ENOUGH_PHOTOS = 20_000
BATCH = 256
MUCH_GROWTH = 1.2  # from here on it is told how far the photos are from what was measured

STORED_AS = "pixel_statistics"
N_MEASURED, N_TOLD = "pixel_statistics_of", "pixel_drift_told_of"  # how many photos were registered then


class PixelStatistics:
    """What the photos of a run are standardised with, and how far they have drifted from it.

    Parameters
    ----------
    dataset
        The photos.
    embedder
        The network, which is told what to standardise with.
    lots
        (n_rows,) a random number for each row, always the same: of very many photos those with the lowest are measured.
    config
        How many are measured at most, and whether they are measured anew though they are known.

    Attributes
    ----------
    is_to_be_measured
        Whether `measure` is due.
    digest
        Name of the values; "" until they are known.
    """

    def __init__(
        self, dataset: ExtendedImageFolder, embedder: Embedder, lots: NDArray[np.float64], config: RunConfig
    ) -> None:
        self._dataset = dataset
        self._embedder = embedder
        self._lots = lots
        self._config = config
        self.is_to_be_measured = True
        self.digest = ""

    def sample(self) -> IndexArray:
        """Rows to measure, ascending: drawn by the candidates' lots, so that they are in use anyway."""
        pools = self._dataset.pools
        return draw_sample(pools.usable[~pools.is_audit[pools.usable]], self._lots, self._config.candidate_pool)

    def sample_to_measure(self) -> IndexArray:
        """Give the same rows if they are to be measured, else none."""
        return self.sample() if self.is_to_be_measured else np.zeros(0, np.int64)

    def recall(self, store: RunStore) -> None:
        """Take up what a run measured, if it did."""
        known = store.recall(STORED_AS)
        if known is not None:
            self._take(known)
            # Only if photos have come since: the same call, repeated after a kill, must not do it again.
            has_grown = len(self._dataset) > (store.recall(N_MEASURED) or 0)
            self.is_to_be_measured = self._config.refit == "pixel_stats" and has_grown

    def _take(self, mean_and_std: tuple[list[float], list[float]]) -> None:
        mean, std = (np.array(each, np.float32) for each in mean_and_std)
        self._embedder.pixel_mean, self._embedder.pixel_std = mean, std
        self.digest = digest(mean, std)
        self.is_to_be_measured = False

    def measure(self, store: RunStore | None, reader: PhotoReader) -> None:
        """Measure and freeze them: all photos together, or 20,000 drawn by lot, each weighing the same.

        Parameters
        ----------
        store
            Where they are kept, if anywhere.
        reader
            Is told to set aside what cannot be read.

        Raises
        ------
        DataError
            If no photo can be read, or a data folder cannot be reached any more.
        """
        while True:  # once, and again for photos that could not be read for a while
            with stage(logger, "Measuring pixel mean and standard deviation", "reading photos"):
                try:
                    mean_and_std = measure_pixels(self._dataset.cache, self.sample())
                finally:
                    reader.set_unreadable_aside()
            if not reader.n_back:
                break
        if store is not None:
            store.remember(STORED_AS, mean_and_std)
            store.remember(N_MEASURED, len(self._dataset))  # last: without it, they are measured again
        self._take(mean_and_std)

    def tell_drift(self, store: RunStore) -> None:
        """Warn when there are over 20 % more photos than were measured, once for so many, of how different they are."""
        n_photos = len(self._dataset)
        n_measured, n_told = store.recall(N_MEASURED), store.recall(N_TOLD) or 0
        if n_measured is None:  # a run of an earlier version
            store.remember(N_MEASURED, n_photos)
        elif n_photos > MUCH_GROWTH * max(n_measured, n_told):
            with stage(logger, "Measuring how far the photos have drifted"):
                now = measure_pixels(self._dataset.cache, self.sample())
            store.remember(N_TOLD, n_photos)
            logger.warning(
                "The run has %d photos now and had %d when their pixels were measured. Mean and standard deviation of "
                "the colours are %s and would be %s now. The run keeps them; a start with refit='pixel_stats' takes "
                "the new ones, finetunes the network with them and embeds all photos again.",
                n_photos,
                n_measured,
                _told(self._embedder.pixel_mean, self._embedder.pixel_std),
                _told(*now),
            )


def _told(mean: FloatArray | list[float], std: FloatArray | list[float]) -> str:
    return " and ".join("(" + ", ".join(f"{value:.3f}" for value in each) + ")" for each in (mean, std))


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
