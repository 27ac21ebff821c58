"""Batches of photos for a network, loaded ahead so that it never waits for the disk."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from camera_trap_al.deep_learning.augmentation import Augmentation
from camera_trap_al.deep_learning.data_loader import ExtendedImageFolder
from camera_trap_al.deep_learning.transforms import crop_centre
from camera_trap_al.parallel import mapped_ahead
from camera_trap_al.pools import FloatArray, IndexArray

__all__ = ["EvaluationBatch", "TrainingBatch", "evaluation_batches", "on_its_way", "training_batches"]

AHEAD = 2  # batches


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    """Photos to learn from. Those that cannot be read are not among them.

    Attributes
    ----------
    rows
        (n,) which photos.
    images
        (n, 224, 224, 3) uint8 RGB, cropped at random.
    augmentation
        What else is to be done to them.
    """

    rows: IndexArray
    images: Tensor
    augmentation: Augmentation


@dataclass(frozen=True, eq=False)
class EvaluationBatch:
    """Photos to embed.

    Attributes
    ----------
    is_read
        (n,) which of the photos asked for could be read, m in number.
    images
        (m, 224, 224, 3) uint8 RGB, the centres of these.
    """

    is_read: NDArray[np.bool_]
    images: Tensor


def training_batches(
    dataset: ExtendedImageFolder, rows_of_batches: Iterable[list[int]], rng: np.random.Generator, device: torch.device
) -> Iterator[TrainingBatch]:
    """Load the batches of one epoch, skipping those of which no photo can be read.

    Parameters
    ----------
    dataset
        The photos.
    rows_of_batches
        The rows of each batch; may draw from `rng` as well.
    rng
        Source of the augmentation, drawn in row order after the rows of each batch.
    device
        Where the images go next: for a GPU they are put where it can fetch them by itself.
    """
    drawn = ((np.array(rows, np.int64), Augmentation.draw(rng, len(rows))) for rows in rows_of_batches)

    def load(rows_and_choices: tuple[IndexArray, Augmentation]) -> TrainingBatch:
        rows, augmentation = rows_and_choices
        images, is_read = dataset.cache.read(rows)
        augmentation = augmentation[is_read]
        return TrainingBatch(rows[is_read], _tensor(augmentation.crop(images), device), augmentation)

    for batch in mapped_ahead(load, drawn, threads=1, ahead=AHEAD):
        if len(batch.rows):
            yield batch


def evaluation_batches(
    dataset: ExtendedImageFolder, rows: IndexArray, batch_size: int, device: torch.device
) -> Iterator[EvaluationBatch]:
    """Load (n,) rows in batches, in their order.

    Parameters
    ----------
    dataset
        The photos.
    rows
        Which of them.
    batch_size
        Photos per batch; the last one may have fewer.
    device
        Where the images go next, as for `training_batches`.
    """
    starts = range(0, len(rows), batch_size)
    parts = (rows[start : start + batch_size] for start in starts)
    return mapped_ahead(partial(_load_centres, dataset, device), parts, threads=1, ahead=AHEAD)


def on_its_way(embedded: Tensor) -> Callable[[], FloatArray]:
    """Begin to bring (n, n_features) embeddings to the CPU; what is returned waits for them, and for nothing later."""
    if embedded.device.type != "cuda":
        return lambda: embedded.cpu().numpy()
    host = torch.empty(embedded.shape, dtype=embedded.dtype, pin_memory=True).copy_(embedded, non_blocking=True)
    arrival = torch.cuda.current_stream(embedded.device).record_event()

    def arrived() -> FloatArray:
        arrival.synchronize()
        return host.numpy()

    return arrived


def _load_centres(dataset: ExtendedImageFolder, device: torch.device, rows: IndexArray) -> EvaluationBatch:
    images, is_read = dataset.cache.read(rows)
    return EvaluationBatch(is_read, _tensor(crop_centre(images), device))


def _tensor(images: NDArray[np.uint8], device: torch.device) -> Tensor:
    tensor = torch.from_numpy(images)
    return tensor.pin_memory() if device.type == "cuda" else tensor
