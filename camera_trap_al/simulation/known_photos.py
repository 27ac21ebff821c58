"""Photos whose labels are all known, embedded once for many simulated runs."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np

from camera_trap_al.config import RunConfig, TrainingStage
from camera_trap_al.deep_learning.active_learning_manager import ActiveLearningEnvironment
from camera_trap_al.deep_learning.data_loader import ExtendedImageFolder
from camera_trap_al.deep_learning.embedder import Embedder
from camera_trap_al.deep_learning.precision import Precision
from camera_trap_al.exceptions import ConfigError, DataError
from camera_trap_al.interchange.megadetector import read_detections
from camera_trap_al.labelling.sources import KnownLabels
from camera_trap_al.photos.catalogue import Catalogue, new_catalogue
from camera_trap_al.photos.folders import scan_data_folders
from camera_trap_al.photos.times import PhotoTime
from camera_trap_al.pools import FloatArray, IndexArray, Role
from camera_trap_al.preparation.boxes import find_boxes
from camera_trap_al.preparation.sequences import find_sequences, read_photo_times
from camera_trap_al.query import Answer, Query

__all__ = ["KnownEmbeddings", "SimulationPhotos"]

FOLDERS = ("train", "unlabelled", "validation")


class KnownEmbeddings(Embedder):
    """An embedding network that knows the embedding of every row and never learns.

    Parameters
    ----------
    embeddings
        (n_rows, n_features).
    """

    def __init__(self, embeddings: FloatArray) -> None:
        self._embeddings = embeddings

    def fit(
        self, dataset: ExtendedImageFolder, rows: IndexArray, stage: TrainingStage, rng: np.random.Generator
    ) -> None:
        """Leave everything as it is."""

    def embed_batches(
        self, dataset: ExtendedImageFolder, rows: IndexArray, precision: Precision = "fp32"
    ) -> Iterator[FloatArray]:
        """Give the known embeddings of `rows`."""
        yield self._embeddings[rows]

    def digest(self) -> str:
        """Name the weights, which are always the same."""
        return "known embeddings"


@dataclass(frozen=True, eq=False)
class SimulationPhotos:
    """All photos with their embeddings and true classes.

    Attributes
    ----------
    dataset
        The photos as a run finds them at its start; never changed.
    embeddings
        (n_rows, n_features).
    truth
        (n_rows,) true class ids.
    """

    dataset: ExtendedImageFolder
    embeddings: FloatArray
    truth: IndexArray

    @classmethod
    def prepare(
        cls,
        data: str | PathLike[str],
        truth: str | PathLike[str] | Mapping[str, str],
        config: RunConfig,
        embeddings: FloatArray | None = None,
    ) -> Self:
        """Find the photos, read their labels, train the network as a run does at its start, and embed all photos.

        Parameters
        ----------
        data
            Folder with the folders train, unlabelled and validation.
        truth
            What is on the unlabelled photos, as `simulate` takes it.
        config
            The settings of the network.
        embeddings
            (n_rows, n_features), to take instead.

        Raises
        ------
        DataError
            If the folders, or the detections, cannot be used.
        LabelFileError
            If labels are missing or unknown: all of them are listed.
        ConfigError
            If `embeddings` has another number of rows.
        """
        train, unlabelled, validation = _folders_of(Path(data).expanduser().absolute())
        catalogue = _with_boxes(new_catalogue(scan_data_folders(train, unlabelled, validation)), config)
        dataset = ExtendedImageFolder(
            catalogue, num_workers=config.num_workers, image_cache="memory", image_cache_gb=config.image_cache_gb
        )
        every = np.arange(len(dataset))
        taken_at = np.full(len(dataset), np.nan)

        def keep(found: Mapping[int, PhotoTime]) -> None:
            taken_at[list(found)] = [np.nan if time.taken_at is None else time.taken_at for time in found.values()]

        read_photo_times(catalogue, config, every, keep)
        dataset.catalogue = find_sequences(catalogue, config, taken_at)
        targets = _all_targets(dataset, truth)
        if embeddings is None:
            return cls(dataset, _embedded(dataset, config), targets)
        if embeddings.ndim != 2 or len(embeddings) != len(dataset):
            raise ConfigError(
                f"embeddings must have a row for each of the {len(dataset)} photos: those of train, then unlabelled, "
                f"then validation, each sorted by path; got the shape {embeddings.shape}."
            )
        dataset.pools.is_set_aside[~np.isfinite(embeddings).all(axis=1)] = True
        return cls(dataset, embeddings.astype(np.float32, copy=False), targets)

    @property
    def n_unlabelled(self) -> int:
        """Photos that can be asked about."""
        return len(self.dataset.pools.unlabelled)

    def environment(self, config: RunConfig, initial_per_class: int | None = None) -> ActiveLearningEnvironment:
        """Begin a run of its own on these photos, which shares nothing that changes with any other.

        Parameters
        ----------
        config
            The settings of the run; its seed draws the initial labels.
        initial_per_class
            With how many training photos of each class it begins, the others are left out; None takes all.
        """
        dataset, pools = copy.copy(self.dataset), self.dataset.pools
        changing = "targets", "is_set_aside", "propagated"
        own = replace(pools, **{name: getattr(pools, name).copy() for name in changing})
        dataset.catalogue = replace(self.dataset.catalogue, pools=own)
        if initial_per_class is not None:
            own.is_set_aside[_left_out(self.dataset, initial_per_class, config)] = True
        # The network is trained once for all runs.
        config = replace(config, embedding_finetuning_period=len(dataset) + 1)
        return ActiveLearningEnvironment(dataset, config, KnownEmbeddings(self.embeddings))


def _folders_of(data: Path) -> list[Path]:
    folders = [data / name for name in FOLDERS]
    missing = [folder.name for folder in folders if not folder.is_dir()]
    if "validation" in missing and len(missing) == 1:
        raise DataError(
            f"{data}: there is no folder validation, without which nothing can be measured. Make it, with a folder for "
            "each class, and move labelled photos of places or nights into it that are in neither train nor "
            "unlabelled.",
            data,
        )
    if missing:
        raise DataError(
            f"{data}: there is no folder {' or '.join(missing)}. A simulation needs the folders train and validation, "
            "each with a folder of photos for each class, and unlabelled, with photos whose classes truth tells.",
            data,
        )
    return folders


def _with_boxes(catalogue: Catalogue, config: RunConfig) -> Catalogue:
    """Enter what a detector saw, as a run does."""
    file = config.path_of("detections")
    if file is None:
        return catalogue
    return replace(catalogue, boxes=find_boxes(catalogue, read_detections(file), config.detection_threshold)[0])


def _all_targets(dataset: ExtendedImageFolder, truth: str | PathLike[str] | Mapping[str, str]) -> IndexArray:
    """Return (n_rows,) true class ids; photos that are called unusable, or to be skipped, are set aside."""
    rows = dataset.pools.unlabelled
    paths = tuple(dataset.catalogue.paths[row] for row in rows.tolist())
    known = KnownLabels(truth, "truth") if isinstance(truth, Mapping) else KnownLabels.from_csv(Path(truth))
    answers: list[Answer] = []
    answer = known.request_labels(Query(1, rows, paths, dataset.classes), answers.append)
    targets = dataset.targets.copy()
    targets[list(answer.labels)] = list(answer.labels.values())
    dataset.pools.is_set_aside[[*answer.unusable, *answer.skipped]] = True
    if not len(dataset.pools.unlabelled):
        raise DataError("No unlabelled photo has a class, so there is nothing to ask about.")
    return targets


def _embedded(dataset: ExtendedImageFolder, config: RunConfig) -> FloatArray:
    environment = ActiveLearningEnvironment(dataset, replace(config, candidate_pool=None))
    environment.read_photos()
    environment.fit_network()
    while len(environment.rows_to_embed()):
        environment.embed()
    dataset.cache.close()
    return environment.embeddings


def _left_out(dataset: ExtendedImageFolder, per_class: int, config: RunConfig) -> IndexArray:
    """Draw the training photos that a run does not begin with."""
    rng: Any = config.generator("initial labels", 0)
    labelled = dataset.pools.labelled
    of_class = (labelled[dataset.targets[labelled] == name] for name in range(len(dataset.classes)))
    left_out = [rng.permutation(rows)[per_class:] for rows in of_class]
    rows: IndexArray = np.concatenate(left_out)
    assert (dataset.pools.roles[rows] == Role.TRAIN).all()
    return rows
