"""One run's data, models and pools together."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from tqdm.auto import tqdm

from camera_trap_al.active_learning_methods.base import PoolView
from camera_trap_al.classifier import EmbeddingClassifier, EmbeddingScaler
from camera_trap_al.config import RunConfig, TrainingStage
from camera_trap_al.deep_learning.data_loader import ExtendedImageFolder
from camera_trap_al.deep_learning.device import choose_device
from camera_trap_al.deep_learning.embedding_table import EmbeddingTable, digest
from camera_trap_al.deep_learning.embedding_trainer import EmbeddingTrainer
from camera_trap_al.deep_learning.transforms import channel_statistics
from camera_trap_al.evaluation import EvaluationReport, evaluate
from camera_trap_al.exceptions import CheckpointError, DataError
from camera_trap_al.logs import stage
from camera_trap_al.photo_folders import FolderScan, scan_data_folders
from camera_trap_al.pools import FloatArray, IndexArray, Pools, Role
from camera_trap_al.query import Answer, Query
from camera_trap_al.run_store import Artefact, RunStore

__all__ = ["ActiveLearningEnvironment", "Embedder"]

logger = logging.getLogger(__name__)

NETWORK_FILE = "embedding/embedding_model_weights.pt"
CLASSIFIER_FILE = "classifier/classifier.npz"
STATISTICS_BATCH = 256


class Embedder(Protocol):
    """What the environment needs of an embedding network; `EmbeddingTrainer` is one, a user's own model can be."""

    pixel_mean: FloatArray
    pixel_std: FloatArray

    def fit(
        self, dataset: ExtendedImageFolder, rows: IndexArray, stage: TrainingStage, rng: np.random.Generator
    ) -> None:
        """Train on labelled rows."""

    def embed(self, dataset: ExtendedImageFolder, rows: IndexArray) -> FloatArray:
        """Return (n, n_features) embeddings of `rows`."""

    def digest(self) -> str:
        """Name the present weights."""


class ActiveLearningEnvironment:
    """What a run knows: its photos and labels, its models, and which of these are out of date.

    A run makes it with `start`. It can be used without a run store too::

        dataset = ExtendedImageFolder.from_folders("train", "unlabelled")
        env = ActiveLearningEnvironment(dataset, RunConfig(active_batch=20, seed=1))
        env.read_photos()
        while not env.why_finished():
            for update in env.stale_models():
                update()
            rows = env.choose_rows()
            dataset.relabel(rows, ask_somebody(rows))

    Parameters
    ----------
    dataset
        The photos and their labels.
    config
        The settings; a missing seed is drawn.
    embedder
        The embedding network; made from `config` if not given.

    Attributes
    ----------
    scaler, classifier
        Fitted on the embeddings; None before the first update.
    scans
        What the data folders held when a run started; empty without a run.
    """

    def __init__(
        self, dataset: ExtendedImageFolder, config: RunConfig | None = None, embedder: Embedder | None = None
    ) -> None:
        self.dataset = dataset
        self.config = (config or RunConfig()).with_seed()
        if embedder is None:
            embedder = EmbeddingTrainer(self.config, len(dataset.classes), choose_device(self.config.device))
        self.embedder: Embedder = embedder
        self._table = EmbeddingTable(len(dataset))
        self.scaler: EmbeddingScaler | None = None
        self.classifier: EmbeddingClassifier | None = None
        self.scans: dict[Role, FolderScan] = {}
        self._strategy = self.config.strategy
        self._network_lineage: dict[str, Any] = {}
        self._classifier_lineage: dict[str, Any] = {}
        self._saved: dict[str, dict[str, Any]] = {}

    @classmethod
    def start(cls, store: RunStore) -> "ActiveLearningEnvironment":
        """Bring up a run: register its photos and load the models that are still good.

        Raises
        ------
        DataError, CheckpointError
            If the data folders cannot be used, or are not those of this run.
        """
        config = store.config
        train, unlabelled = config.path_of("train_data"), config.path_of("unlabelled_data")
        if train is None:
            raise DataError("train_data is needed to start a run.")
        validation = config.path_of("validation_data") or _validation_folder_of(store)
        with stage(logger, "Looking for photos"):
            scans = scan_data_folders(train, unlabelled, validation)
            catalogue = store.register(scans)
        dataset = ExtendedImageFolder(catalogue, num_workers=config.num_workers, cache_dir=store.folder / "cache")
        network = store.lineage_of(NETWORK_FILE)
        checkpoint = None
        if network is not None:
            checkpoint = torch.load(store.folder / NETWORK_FILE, map_location="cpu", weights_only=True)
        embedder = EmbeddingTrainer(config, len(dataset.classes), choose_device(config.device), checkpoint)
        environment = cls(dataset, config, embedder)
        environment.scans = scans
        if network is not None:
            environment._network_lineage = environment._saved[NETWORK_FILE] = network
            environment._load_fitted(store)
        return environment

    @property
    def pools(self) -> Pools:
        """Which rows are labelled, unlabelled, validation or set aside, as of now."""
        return self.dataset.pools

    @property
    def embeddings(self) -> FloatArray:
        """(n_rows, n_features) float32; NaN in rows that are not embedded, without features before the first update."""
        return self._table.embeddings

    @property
    def unlabelled_paths(self) -> tuple[str, ...]:
        """Every photo of the unlabelled folder that is there, labelled ones included, relative to that folder."""
        return self.scans[Role.UNLABELLED].photos if Role.UNLABELLED in self.scans else ()

    @property
    def n_answers(self) -> int:
        """Labels given over the life of the run, vanished photos included; the training folder does not count."""
        return len(self.pools.answered)

    def read_photos(self, store: RunStore | None = None) -> None:
        """Decode every photo, set unreadable ones aside, and measure pixel mean and standard deviation.

        The statistics are of the (256, 256) pixels of all data sets, each photo weighing the same; with a store they
        are measured once and stay as they are.

        Raises
        ------
        DataError
            If no training photo can be read.
        """
        usable = self.pools.usable
        with stage(logger, f"Reading {len(usable)} photos"):
            unreadable = self.dataset.cache.fill(usable)
        if unreadable:
            logger.warning("%d photos cannot be read and are set aside; see unreadable_images.csv.", len(unreadable))
            self.pools.is_set_aside[list(unreadable)] = True
        if store is not None:
            store.set_aside(unreadable)
        if not len(self.pools.labelled):
            raise DataError("No labelled photo can be read, so there is nothing to learn from.")
        frozen = store.recall("pixel_statistics") if store is not None else None
        mean, std = frozen or self._measure_pixels()
        self.embedder.pixel_mean, self.embedder.pixel_std = np.array(mean, np.float32), np.array(std, np.float32)
        if store is not None and frozen is None:
            store.remember("pixel_statistics", [mean, std])

    def _measure_pixels(self) -> tuple[list[float], list[float]]:
        rows = self.pools.usable
        with stage(logger, "Measuring pixel mean and standard deviation"):
            batches = (
                self.dataset.cache.images(rows[start : start + STATISTICS_BATCH])
                for start in tqdm(range(0, len(rows), STATISTICS_BATCH), desc="Measuring pixels", unit="batch", delay=2)
            )
            mean, std = channel_statistics(batches)
        return mean.tolist(), std.tolist()

    def stale_models(self) -> Iterator[Callable[[], None]]:
        """Yield, one after the other, the steps that bring the models up to date with the labels.

        Each step must be called before the next is asked for, since what is stale depends on it: training the network
        outdates the embeddings, and these outdate the classifier.
        """
        if self._network_is_stale():
            yield self.fit_network
        if len(self.rows_to_embed()):
            yield self.embed
        if self._classifier_lineage != self._wanted_classifier_lineage():
            yield self.fit_classifier

    @property
    def is_trained(self) -> bool:
        """Whether the network had its first training."""
        return bool(self._network_lineage)

    def _network_is_stale(self) -> bool:
        if not self.is_trained:
            return True
        return self.n_answers - int(self._network_lineage["answers"]) >= self.config.embedding_finetuning_period

    def fit_network(self) -> None:
        """Train the network on all labelled photos: the training settings the first time, then those of finetuning."""
        settings = self.config.finetuning if self.is_trained else self.config.training
        rows = self.pools.labelled
        with stage(logger, f"Embedding network, {settings.name} on {len(rows)} photos"):
            self.embedder.fit(self.dataset, rows, settings, self.config.generator(settings.name, self.n_answers))
        self._network_lineage = {"digest": self.embedder.digest(), "answers": self.n_answers}

    def embed(self) -> None:
        """Embed every usable photo with the present network, or only those that it has not embedded yet."""
        rows = self.rows_to_embed()
        with stage(logger, f"Embedding {len(rows)} photos"):
            embedded = self.embedder.embed(self.dataset, rows)
        self._table.put(rows, embedded, self.dataset.cache.fingerprints(rows), self._network)

    def rows_to_embed(self) -> IndexArray:
        """Rows of usable photos, ascending, that the present network has not embedded as they are now."""
        usable = self.pools.usable
        return self._table.rows_to_embed(usable, self.dataset.cache.fingerprints(usable), self._network)

    @property
    def _network(self) -> str:
        return str(self._network_lineage.get("digest", "not trained"))

    def fit_classifier(self) -> None:
        """Fit scaler and classifier from scratch: the scaler on labelled and candidate rows, never on validation."""
        lineage = self._wanted_classifier_lineage()
        labelled = self.pools.labelled
        known = np.concatenate([labelled, self.pools.unlabelled])
        self.scaler = EmbeddingScaler.fit(self.embeddings[known], normalize=self.config.normalize_embedding)
        classifier = EmbeddingClassifier(
            self.config.classifier,
            self.config.classifier_params,
            seed=int(self.config.generator("classifier", 0).integers(2**31)),
            n_classes=len(self.dataset.classes),
        )
        classifier.fit(self.scaler.transform(self.embeddings[labelled]), self.dataset.targets[labelled])
        self.classifier = classifier
        self._classifier_lineage = lineage

    def _wanted_classifier_lineage(self) -> dict[str, Any]:
        labelled, unlabelled = self.pools.labelled, self.pools.unlabelled
        return {
            "network": self._table.network,
            "photos": digest(self._table.photos),
            "labels": digest(labelled, self.dataset.targets[labelled]),
            "candidates": digest(unlabelled),
            "settings": repr((self.config.classifier, self.config.classifier_params, self.config.normalize_embedding)),
            "n_classes": len(self.dataset.classes),
        }

    def probabilities(self, rows: IndexArray) -> FloatArray:
        """Return (n, n_classes) class probabilities of embedded `rows`, columns by class id.

        Raises
        ------
        DataError
            If there is no classifier yet.
        """
        scaler, classifier = self.fitted()
        return classifier.probabilities(scaler.transform(self.embeddings[rows]))

    def fitted(self) -> tuple[EmbeddingScaler, EmbeddingClassifier]:
        """Give the fitted scaler and classifier.

        Raises
        ------
        DataError
            If they are not fitted yet.
        CheckpointError
            If they were fitted on embeddings of another network than the present ones.
        """
        if self.scaler is None or self.classifier is None:
            raise DataError("There is no classifier yet: call the steps of stale_models() first.")
        if self._classifier_lineage["network"] != self._table.network:
            raise CheckpointError(
                "The classifier was fitted on embeddings of another network: call the steps of stale_models() first.",
                Path(CLASSIFIER_FILE),
            )
        return self.scaler, self.classifier

    def view(self) -> PoolView:
        """Give what a query strategy sees."""
        scaler, classifier = self.fitted()
        return PoolView(
            embeddings=scaler.transform(self.embeddings),
            targets=self.dataset.targets,
            labelled=self.pools.labelled,
            unlabelled=self.pools.unlabelled,
            classes=self.dataset.classes,
            classifier=classifier,
        )

    def choose_rows(self, round_number: int = 1) -> IndexArray:
        """Let the strategy choose the rows of a round: a batch, less where the pool or `max_labels` ends.

        Raises
        ------
        EmptyPoolError
            If nothing is unlabelled.
        """
        n = self.config.active_batch
        n = n if self.n_answers_left is None else min(n, self.n_answers_left)
        with stage(logger, "Choosing photos"):
            return self._strategy.select_batch(self.view(), n, self.config.generator("query", round_number))

    @property
    def n_answers_left(self) -> int | None:
        """Answers until `max_labels` is reached; None if there is no such limit."""
        return None if self.config.max_labels is None else max(0, self.config.max_labels - self.n_answers)

    def ask(self, store: RunStore) -> Query:
        """Give the open query again, or choose the rows of the next round and store them as the open query."""
        return store.open_query(self.n_answers_left) or store.ask(self.choose_rows(store.n_rounds() + 1))

    def apply(self, answer: Answer) -> None:
        """Take the labels of an answer into the data set."""
        self.dataset.relabel(list(answer.labels.keys()), list(answer.labels.values()))

    def why_finished(self) -> str | None:
        """Say why there is nothing more to ask: "everything is labelled", "max_labels is reached", or None."""
        if not len(self.pools.unlabelled):
            return "everything is labelled"
        if self.n_answers_left == 0:
            return "max_labels is reached"
        return None

    def evaluate(self) -> EvaluationReport | None:
        """Test the model on the validation photos; None if there are none or `validate_model` is False."""
        rows = self.pools.validation
        if not self.config.validate_model or not len(rows):
            return None
        return evaluate(self.dataset.targets[rows], self.probabilities(rows), self.dataset.classes)

    def save(self, store: RunStore) -> None:
        """Save the models that changed since they were last saved."""
        changed = [artefact for artefact in self._artefacts() if self._saved.get(artefact.file) != artefact.lineage]
        if changed:
            store.save(changed)
            self._saved |= {artefact.file: dict(artefact.lineage) for artefact in changed}

    def _artefacts(self) -> Iterator[Artefact]:
        if self._network_lineage and isinstance(self.embedder, EmbeddingTrainer):
            trainer = self.embedder
            write = lambda path: torch.save(trainer.checkpoint(self.dataset.classes), path)  # noqa: E731  only if stale
            yield Artefact(NETWORK_FILE, self._network_lineage, write)
        yield from self._table.artefacts()
        if self.classifier is not None and self.scaler is not None:
            arrays = self.classifier.to_arrays()
            if arrays is not None:
                named = _prefixed("scaler", self.scaler.to_arrays()) | _prefixed("classifier", arrays)
                yield Artefact(CLASSIFIER_FILE, self._classifier_lineage, lambda path: np.savez(path, **named))

    def _load_fitted(self, store: RunStore) -> None:
        """Load embeddings and classifier, each if it is what was saved and fits the one before it."""
        self._table = EmbeddingTable.load(store, len(self.dataset), self._network)
        self._saved |= {artefact.file: dict(artefact.lineage) for artefact in self._table.artefacts()}
        classifier = store.lineage_of(CLASSIFIER_FILE)
        if classifier is not None and classifier["network"] == self._table.network:
            with np.load(store.folder / CLASSIFIER_FILE) as arrays:
                self.scaler = EmbeddingScaler.from_arrays(_without_prefix("scaler", arrays))
                self.classifier = EmbeddingClassifier.from_arrays(_without_prefix("classifier", arrays))
            self._classifier_lineage = self._saved[CLASSIFIER_FILE] = classifier


def _validation_folder_of(store: RunStore) -> Path | None:
    """Give the folder that the run's validation photos had, if it is still there."""
    folder = store.root_of(Role.VALIDATION)
    if folder is not None and not folder.is_dir():
        logger.warning("The validation folder %s is not there: the run goes on without validation figures.", folder)
        return None
    return folder


def _prefixed(prefix: str, arrays: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}.{name}": array for name, array in arrays.items()}


def _without_prefix(prefix: str, arrays: Any) -> dict[str, Any]:
    return {name.removeprefix(f"{prefix}."): arrays[name] for name in arrays.files if name.startswith(f"{prefix}.")}
