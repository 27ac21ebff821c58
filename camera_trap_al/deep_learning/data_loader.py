"""The photos of a run as a torch data set, and which of them share a batch."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from camera_trap_al.deep_learning.transforms import squeeze
from camera_trap_al.exceptions import DataError
from camera_trap_al.parallel import decoding_threads
from camera_trap_al.photos.catalogue import Catalogue, groups_of, new_catalogue
from camera_trap_al.photos.folders import scan_data_folders
from camera_trap_al.photos.image_cache import ImageCache, open_pixel_store
from camera_trap_al.pools import IndexArray, Pools

__all__ = ["BalancedBatchSampler", "ExtendedImageFolder", "ShuffledBatchSampler", "batch_sampler", "times_before"]

SINGLE_BATCH_SIZE = 128
ENOUGH_TO_DRAW_FROM = 8  # times as many photos as are drawn


class ExtendedImageFolder(Dataset[tuple[Any, int]]):
    """Labelled, unlabelled and validation photos in one index space, whose labels can change.

    A photo's row is its index: ``dataset[row]`` gives (image, class id), with class id -1 where there is no label yet.
    The folder convention is that of torchvision's ``ImageFolder``, with these differences: empty class folders are
    allowed, folder names below `unlabelled_data` mean nothing, and hidden folders and those that Timelapse makes are
    passed over.

    Parameters
    ----------
    catalogue
        The photos by row; `from_folders` makes it.
    transform
        Called with each image, a (3, 256, 256) uint8 RGB tensor; its result is what indexing gives.
    num_workers
        How many photos are decoded side by side, in threads; 0 means one per core, at most 8.
    cache_dir
        Where decoded photos are kept with `image_cache` "auto"; None decodes each time.
    image_cache
        ``"auto"``, ``"memory"`` (kept there, whatever `cache_dir` is), or ``"off"`` (decoded each time).
    image_cache_gb
        Most that is kept, in units of 1e9 bytes; half of what is free there is a bound as well.

    Attributes
    ----------
    cache
        The decoded photos by row.

    Examples
    --------
    >>> dataset = ExtendedImageFolder.from_folders("train", "unlabelled")  # doctest: +SKIP
    >>> row = dataset.pools.unlabelled[0]  # doctest: +SKIP
    >>> dataset.relabel([row], [dataset.class_to_idx["deer"]])  # doctest: +SKIP
    """

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        transform: Callable[[Tensor], Any] | None = None,
        num_workers: int = 0,
        cache_dir: str | os.PathLike[str] | None = None,
        image_cache: str = "auto",
        image_cache_gb: float = 20.0,
    ) -> None:
        self.catalogue = catalogue
        self.transform = transform
        cache_folder = None if cache_dir is None else Path(cache_dir)
        store = open_pixel_store(image_cache, len(catalogue), cache_folder, image_cache_gb)
        self.cache = ImageCache(catalogue, store, decoding_threads(num_workers), squeeze)

    @classmethod
    def from_folders(
        cls,
        train_data: str | os.PathLike[str],
        unlabelled_data: str | os.PathLike[str] | None = None,
        validation_data: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> "ExtendedImageFolder":
        """Scan folders and give each photo a row: training, unlabelled, then validation photos, each by path.

        Parameters
        ----------
        train_data, validation_data
            Folders with one subfolder per class.
        unlabelled_data
            Folder with subfolders of any name.
        **options
            Passed to the constructor.

        Raises
        ------
        DataError
            If a folder has no photo, a validation class is unknown, or a photo lies in two data sets.
        """
        unlabelled = None if unlabelled_data is None else Path(unlabelled_data)
        validation = None if validation_data is None else Path(validation_data)
        return cls(new_catalogue(scan_data_folders(Path(train_data), unlabelled, validation)), **options)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names by class id."""
        return self.catalogue.classes

    @property
    def class_to_idx(self) -> dict[str, int]:
        """Class ids by class name."""
        return {name: class_id for class_id, name in enumerate(self.classes)}

    @property
    def pools(self) -> Pools:
        """Which rows are labelled, unlabelled, validation or set aside, as of now."""
        return self.catalogue.pools

    @property
    def targets(self) -> IndexArray:
        """(n_rows,) class ids, -1 where there is no label."""
        return self.pools.targets

    @property
    def samples(self) -> list[tuple[str, int]]:
        """Path and class id of each row, as torchvision's folders have them."""
        return [(str(self.catalogue.path(row)), int(target)) for row, target in enumerate(self.targets)]

    def __len__(self) -> int:
        return len(self.catalogue)

    def __getitem__(self, row: int) -> tuple[Any, int]:
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} is not among the {len(self)} rows")
        row = row % len(self)
        image = self.images(np.array([row]))[0]
        return (image if self.transform is None else self.transform(image)), int(self.targets[row])

    def images(self, rows: Any) -> Tensor:
        """Return the photos of `rows` as a (n, 3, 256, 256) uint8 RGB tensor.

        Raises
        ------
        DataError
            If one of them cannot be read.
        """
        return torch.from_numpy(self.cache.images(np.asarray(rows, np.int64))).permute(0, 3, 1, 2)

    def groups(self, rows: IndexArray) -> IndexArray:
        """Give (n,) numbers, equal for rows whose photos are likely to be alike (`catalogue.groups_of`)."""
        return groups_of(self.catalogue, rows)

    def add_classes(self, names: Sequence[str]) -> None:
        """Take new classes behind those that there are.

        Raises
        ------
        DataError
            If there is a class of that name already.
        """
        known = [name for name in names if name in self.classes]
        if known:
            raise DataError(f"There is a class {known[0]!r} already.")
        self.catalogue = replace(self.catalogue, classes=(*self.classes, *names))

    def relabel(self, rows: Any, class_ids: Any) -> None:
        """Give `rows` new labels.

        Parameters
        ----------
        rows
            (n,) rows.
        class_ids
            (n,) class ids, -1 to take a label away.

        Raises
        ------
        DataError
            If a row or class id is not a whole number or does not exist; then nothing is changed.
        """
        rows, class_ids = _whole_numbers("row", rows), _whole_numbers("class id", class_ids)
        if rows.shape != class_ids.shape or rows.ndim != 1:
            raise DataError(f"relabel needs one class id per row; got shapes {rows.shape} and {class_ids.shape}.")
        if len(rows) and not (0 <= rows.min() and rows.max() < len(self)):
            raise DataError(f"relabel got a row outside 0 to {len(self) - 1}.")
        if len(rows) and not (-1 <= class_ids.min() and class_ids.max() < len(self.classes)):
            raise DataError(f"relabel got a class id outside -1 to {len(self.classes) - 1}.")
        self.targets[rows] = class_ids


def _whole_numbers(what: str, values: Any) -> IndexArray:
    array = np.asarray(values)
    if array.size and array.dtype.kind not in "iu":
        raise DataError(f"relabel needs each {what} as a whole number (class_to_idx gives class ids); got {values!r}.")
    return array.astype(np.int64)


class ShuffledBatchSampler(Sampler[list[int]]):
    """Every row once, in random order: the specification's loader type ``single``.

    Parameters
    ----------
    rows
        (n,) rows to draw.
    rng
        Source of the order; each iteration goes on from where the last one left it.
    batch_size
        Rows per batch. A last batch of one row joins the one before, since batch normalisation cannot use it.
    """

    def __init__(self, rows: IndexArray, rng: np.random.Generator, batch_size: int = SINGLE_BATCH_SIZE) -> None:
        self._rows = rows
        self._rng = rng
        self._starts = list(range(0, len(rows), batch_size))
        if len(rows) > 1 and len(rows) % batch_size == 1:
            self._starts.pop()

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[list[int]]:
        shuffled = self._rng.permutation(self._rows)
        for start, stop in pairwise([*self._starts, len(shuffled)]):
            yield shuffled[start:stop].tolist()


class BalancedBatchSampler(Sampler[list[int]]):
    """Equally many rows of several classes: the specification's loader type ``balanced``.

    Parameters
    ----------
    rows
        (n,) rows to draw from.
    targets
        (n,) class id of each of `rows`.
    rng
        Source of the draws.
    n_classes
        Classes per batch, at most as many as there are among `targets`.
    n_samples
        Rows per class and batch. A class with fewer rows has some of them more than once.
    groups
        (n,) the folder or sequence of each of `rows`. The rows of a class in a batch come from as many of them as
        possible, since photos of one are alike. All rows are one group if not given.

    Notes
    -----
    An iteration has as many batches as are needed to draw as many rows as there are, and at least one.
    """

    def __init__(
        self,
        rows: IndexArray,
        targets: IndexArray,
        rng: np.random.Generator,
        n_classes: int = 20,
        n_samples: int = 10,
        groups: IndexArray | None = None,
    ) -> None:
        groups = np.zeros(len(rows), np.int64) if groups is None else groups
        self._rows_of = [(rows[of_class], groups[of_class]) for of_class in (targets == c for c in np.unique(targets))]
        self._rng = rng
        self._n_classes = min(n_classes, len(self._rows_of))
        self._n_samples = n_samples
        batch_size = self._n_classes * n_samples
        self._n_batches = max(1, -(-len(rows) // batch_size)) if batch_size else 0

    def __len__(self) -> int:
        return self._n_batches

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(self._n_batches):
            drawn = self._rng.choice(len(self._rows_of), self._n_classes, replace=False)
            yield np.concatenate([self._draw(*self._rows_of[index]) for index in drawn]).tolist()

    def _draw(self, rows: IndexArray, groups: IndexArray) -> IndexArray:
        """Draw `n_samples` of one class, each as often as any other, give or take one."""
        whole_times, rest = divmod(self._n_samples, len(rows))
        return np.concatenate([np.repeat(rows, whole_times), rows[self._spread(groups, rest)]])

    def _spread(self, groups: IndexArray, n: int) -> IndexArray:
        """Draw n positions one after the other, passing over groups that were drawn while there are others."""
        shuffled = self._rng.permutation(len(groups))
        few = shuffled[: ENOUGH_TO_DRAW_FROM * n]  # as a rule they are of enough groups
        for some in (few, shuffled):
            in_turns = some[np.argsort(times_before(groups[some]), kind="stable")]
            if len(np.unique(groups[in_turns[:n]])) == n:
                break
        return in_turns[:n]


def times_before(groups: IndexArray) -> IndexArray:
    """Count for each position how many earlier ones are of its group."""
    by_group = np.argsort(groups, kind="stable")
    _, first, sizes = np.unique(groups[by_group], return_index=True, return_counts=True)
    times = np.empty(len(groups), np.int64)
    times[by_group] = np.arange(len(groups)) - np.repeat(first, sizes)
    return times


def batch_sampler(
    loader_type: str,
    rows: IndexArray,
    targets: IndexArray,
    rng: np.random.Generator,
    n_classes: int,
    n_samples: int,
    groups: IndexArray | None = None,
) -> ShuffledBatchSampler | BalancedBatchSampler:
    """Make the sampler that a setting ``*_loader_type`` names: ``single`` or ``balanced``."""
    if loader_type == "single":
        return ShuffledBatchSampler(rows, rng)
    return BalancedBatchSampler(rows, targets, rng, n_classes, n_samples, groups)
