"""One run's data, models and pools together."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from camera_trap_al.active_learning_methods.base import PoolView
from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning.calibrated_classifier import CalibratedClassifier
from camera_trap_al.deep_learning.data_loader import ExtendedImageFolder
from camera_trap_al.deep_learning.device import choose_device
from camera_trap_al.deep_learning.embedder import Embedder
from camera_trap_al.deep_learning.embedding_trainer import EmbeddingTrainer
from camera_trap_al.deep_learning.finetuning_gate import finetune
from camera_trap_al.deep_learning.fitted_classifier import FittedClassifier
from camera_trap_al.deep_learning.network_file import network_artefact, read_network
from camera_trap_al.deep_learning.photo_embeddings import PhotoEmbeddings
from camera_trap_al.deep_learning.photo_reader import PhotoReader
from camera_trap_al.deep_learning.pixel_statistics import PixelStatistics
from camera_trap_al.deep_learning.question import Questions
from camera_trap_al.deep_learning.run_photos import register_photos, take_answer
from camera_trap_al.deep_learning.run_propagation import RunPropagation
from camera_trap_al.deep_learning.strategy_view import strategy_view
from camera_trap_al.evaluation import EvaluationReport, evaluate
from camera_trap_al.exceptions import DataError
from camera_trap_al.files import digest
from camera_trap_al.logs import stage
from camera_trap_al.photos.folders import FolderScan
from camera_trap_al.pools import FloatArray, IndexArray, Pools, Role
from camera_trap_al.predictions import Predictions
from camera_trap_al.preparation.validation_split import n_shared_sequences
from camera_trap_al.query import Answer, Query
from camera_trap_al.run_store import RunStore
from camera_trap_al.run_store.artefact import Artefact

__all__ = ["ActiveLearningEnvironment"]

logger = logging.getLogger(__name__)

PARTS_FOLDER = "embedding/parts"


class ActiveLearningEnvironment:
    """What a run knows: its photos and labels, its models, and which of these are out of date.

    A run makes it with `start`. It can be used without a run store too::

        dataset = ExtendedImageFolder.from_folders("train", "unlabelled")
        env = ActiveLearningEnvironment(dataset, RunConfig(active_batch=20, seed=1))
        while not env.why_finished():
            env.read_photos()
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
    parts_folder
        Where embeddings are put down as they come, so that a stop loses little; None: in memory only.

    Attributes
    ----------
    questions
        Which photos may be asked about next.
    propagation
        Which photos learn with the label of another one.
    scans
        What the data folders held when a run started; empty without a run.
    """

    def __init__(
        self,
        dataset: ExtendedImageFolder,
        config: RunConfig | None = None,
        embedder: Embedder | None = None,
        *,
        parts_folder: Path | None = None,
    ) -> None:
        self.dataset = dataset
        self.config = (config or RunConfig()).with_seed()
        self.embedder: Embedder = embedder or EmbeddingTrainer(
            self.config, len(dataset.classes), choose_device(self.config.device)
        )
        self.scans: dict[Role, FolderScan] = {}
        self.questions = Questions(dataset, self.config)
        self.propagation = RunPropagation(dataset, self.config)
        self._embedded = PhotoEmbeddings(dataset, self.embedder, parts_folder)
        self._fitted: FittedClassifier | None = None
        self._calibrated: CalibratedClassifier | None = None
        self._network_lineage: dict[str, Any] = {}
        self._saved: dict[str, dict[str, Any]] = {}
        self._reader = PhotoReader(dataset)
        self._pixels = PixelStatistics(dataset, self.embedder, self.questions.lots, self.config)

    @classmethod
    def start(cls, store: RunStore) -> "ActiveLearningEnvironment":
        """Bring up a run: register its photos and load the models that are still good.

        Raises
        ------
        DataError, CheckpointError
            If the data folders cannot be used, or are not those of this run.
        """
        dataset, scans = register_photos(store)
        network, checkpoint = read_network(store)
        embedder = EmbeddingTrainer(store.config, len(dataset.classes), choose_device(store.config.device), checkpoint)
        environment = cls(dataset, store.config, embedder, parts_folder=store.folder / PARTS_FOLDER)
        environment.scans = scans
        environment.questions.leave_skipped_out(store)
        environment._pixels.recall(store)
        if network is not None:
            environment._load(store, network)
        return environment

    def _load(self, store: RunStore, network: dict[str, Any]) -> None:
        """Load embeddings and classifier, each if it is what was saved and fits the one before it."""
        self._network_lineage = network
        self._embedded.load(store, network["digest"])
        self._fitted = FittedClassifier.load(store, self._embedded.table.network)
        self._saved = {artefact.file: dict(artefact.lineage) for artefact in self._artefacts()}

    @property
    def pools(self) -> Pools:
        """Which rows are labelled, unlabelled, validation or set aside, as of now."""
        return self.dataset.pools

    @property
    def candidates(self) -> IndexArray:
        """Rows that a strategy may choose from, ascending: all unlabelled ones, or `candidate_pool` drawn by lot."""
        return self.questions.candidates

    @property
    def rows_in_use(self) -> IndexArray:
        """Rows whose photos are decoded before each question, ascending."""
        in_use = self.pools.labelled, self.pools.validation, self.propagation.rows_in_use, *self.questions.to_read
        return np.unique(np.concatenate(in_use))

    @property
    def embeddings(self) -> FloatArray:
        """(n_rows, n_features) float32, a copy; NaN in rows that are not embedded, no features before the first are."""
        return self._embedded.table.all_rows()

    @property
    def unlabelled_paths(self) -> tuple[str, ...]:
        """Every photo of the unlabelled folder that is there, labelled ones included, relative to that folder."""
        return self.scans[Role.UNLABELLED].photos if Role.UNLABELLED in self.scans else ()

    @property
    def n_answers(self) -> int:
        """Labels given over the life of the run, vanished photos included; the training folder does not count."""
        return len(self.pools.answered)

    def read_photos(self, store: RunStore | None = None) -> None:
        """Decode the photos in use that are not decoded yet, and set unreadable ones aside.

        The first time, the mean and standard deviation of the pixels are measured too, and stay as they are; later it
        is told when many photos have come since.

        Raises
        ------
        DataError
            If no training photo can be read, or a data folder cannot be reached any more.
        """
        if store is not None:
            self.questions.leave_skipped_out(store)
        try:
            self._reader.decode(self.rows_to_decode)
            if self._pixels.is_to_be_measured:
                self._pixels.measure(store, self._reader)
            elif store is not None:
                self._pixels.tell_drift(store)
        finally:
            self._reader.record(store)

    def rows_to_decode(self) -> IndexArray:
        """Rows whose photos are looked at before the next question, ascending, decoded already or not."""
        if self.config.predict_pool == "rounds":
            return self.pools.usable
        return np.union1d(self.rows_in_use, self._pixels.sample_to_measure())

    def stale_models(self) -> Iterator[Callable[[], None]]:
        """Yield, one after the other, the steps that bring the models up to date with the labels.

        Each step must be called before the next is asked for, since what is stale depends on it: training the network
        outdates the embeddings, and these outdate the classifier.
        """
        if self._network_is_stale():
            yield self.fit_network
        while len(self.rows_to_embed()):  # more than once when photos turn out to be unreadable and others come in
            yield self.embed
        if self._fitted is None or self._fitted.lineage["network"] != self._embedded.table.network:
            yield self.fit_classifier
        self.propagation.update(self._embedded.table, self.fitted())
        if self.fitted().lineage != self._wanted_classifier_lineage():
            yield self.fit_classifier

    @property
    def is_trained(self) -> bool:
        """Whether the network had its first training."""
        return bool(self._network_lineage)

    def _network_is_stale(self) -> bool:
        n_new = self.n_answers - int(self._network_lineage.get("answers", 0))
        return not self.is_trained or n_new >= self.config.embedding_finetuning_period or not self._knows_these_pixels()

    def _knows_these_pixels(self) -> bool:
        """Whether the network learnt from photos standardised as they are now; a run of an earlier version did."""
        return bool(self._network_lineage.get("pixels", self._pixels.digest) == self._pixels.digest)

    def fit_network(self) -> None:
        """Train the network on the labelled photos: the training settings the first time, then those of finetuning."""
        settings = self.config.finetuning if self.is_trained else self.config.training
        rows, rng = self.pools.labelled, self.config.generator(settings.name, self.n_answers)
        new = None
        with stage(logger, f"Embedding network, {settings.name} on {len(rows)} photos", "training the network"):
            if self.is_trained and self.config.finetuning_gate and self._knows_these_pixels():
                new = finetune(self.embedder, self.dataset, rows, settings, rng, self._embedded.exact(rows))
            else:
                self.embedder.fit(self.dataset, rows, settings, rng)
        self._embedded.network = name = self.embedder.digest()
        self._network_lineage = {"digest": name, "pixels": self._pixels.digest, "answers": self.n_answers}
        self.propagation.decide_again()
        if new is not None:
            self._embedded.enter(rows, new, "fp32")
        self._reader.set_unreadable_aside()
        self._reader.refuse_gaps("Training the network")

    def rows_to_embed(self) -> IndexArray:
        """Rows of photos in use, ascending, that the present network has not embedded as they are now.

        Candidates may be embedded in less than fp32, if the network ever does so.
        """
        learnt = self._embedded.missing(self._rows_to_embed_exactly(), exactly=True)
        candidates = self._embedded.missing(self.candidates, exactly=self.embedder.is_always_exact)
        return np.union1d(learnt, candidates)

    def _rows_to_embed_exactly(self) -> IndexArray:
        return np.concatenate([self.pools.labelled, self.tested, self.pools.audit, self.propagation.rows_in_use])

    def embed(self) -> None:
        """Embed every photo in use with the present network, or only those that it has not embedded yet."""
        rows = self.rows_to_embed()
        with stage(logger, f"Embedding {len(rows)} photos", "embedding photos"):
            precision = self.embedder.scoring_precision(self.dataset, rows)
            is_exact = np.isin(rows, self._rows_to_embed_exactly()) | (precision == "fp32")
            self._embedded.make(rows[is_exact], "fp32")
            self._embedded.make(rows[~is_exact], precision)
        n_aside = self._reader.set_unreadable_aside()
        if not (n_aside or self._reader.n_back) and np.array_equal(self.rows_to_embed(), rows):
            raise DataError(f"The network gave none of {len(rows)} photos an embedding.")

    def fit_classifier(self) -> None:
        """Fit scaler and classifier from scratch: the scaler on labelled and candidate rows, never on validation."""
        rows, targets, weights = self.propagation.training_set()
        table, n_classes, lineage = self._embedded.table, len(self.dataset.classes), self._wanted_classifier_lineage()
        learnt, candidates = table.of(rows), table.of(self.candidates)
        self._fitted = FittedClassifier.fit(self.config, learnt, targets, candidates, n_classes, lineage, weights)

    def _wanted_classifier_lineage(self) -> dict[str, Any]:
        learnt, candidates = self.propagation.training_set(), self.candidates
        return {
            "network": self._embedded.table.network,
            "photos": digest(self._embedded.table.photos, self._embedded.table.is_exact),
            "labels": digest(*(each for each in learnt if each is not None)),
            "candidates": digest(candidates),
            "settings": self.config.classifier_settings,
            "n_classes": len(self.dataset.classes),
        }

    def probabilities(self, rows: IndexArray) -> FloatArray:
        """Return (n, n_classes) class probabilities of embedded `rows`, not calibrated; errors as `fitted`."""
        return self.fitted().probabilities(self._embedded.table.of(rows))

    def guesses(self, rows: IndexArray) -> dict[int, int]:
        """Give the likeliest class id of those of `rows` that are embedded, by row."""
        rows = rows[self._embedded.table.photos[rows] != 0]
        return dict(zip(rows.tolist(), self.probabilities(rows).argmax(axis=1).tolist(), strict=True))

    def fitted(self) -> FittedClassifier:
        """Give the fitted scaler and classifier.

        Raises
        ------
        DataError
            If they are not fitted yet.
        CheckpointError
            If they were fitted on embeddings of another network than the present ones.
        """
        if self._fitted is None:
            raise DataError("There is no classifier yet: call the steps of stale_models() first.")
        self._fitted.check_network(self._embedded.table.network)
        return self._fitted

    def view(self) -> PoolView:
        """Give what a query strategy sees: of the embeddings, only those of labelled and candidate rows."""
        return strategy_view(self.fitted(), self.dataset, self._embedded.table, self.candidates)

    def choose_rows(self, round_number: int = 1) -> IndexArray:
        """Choose the rows of a round: a batch, less where the pool or `max_labels` ends, those of the audit first.

        Raises
        ------
        EmptyPoolError
            If nothing is unlabelled.
        """
        return self._choose(self.view(), round_number)

    def _choose(self, view: PoolView, round_number: int) -> IndexArray:
        with stage(logger, "Choosing photos", "choosing photos"):
            return self.questions.choose(view, round_number)

    def ask(self, store: RunStore) -> Query:
        """Give the open query again, or choose the rows of the next round and store them as the open query."""
        if query := store.open_query(self.questions.n_answers_left):
            return query
        view = self.view()  # one for both, since it computes the probabilities of all candidates once
        rows = self._choose(view, store.n_rounds() + 1)
        return store.ask(rows, self.questions.reasons(rows, view))

    def apply(self, answer: Answer) -> None:
        """Take what an answer says into the data set."""
        take_answer(self.dataset, answer)
        self._calibrated = None  # the audit may have grown, with or without a label to learn from
        if answer.unusable:
            self._reader.renew_list()
        self.embedder.set_n_classes(len(self.dataset.classes))

    def why_finished(self) -> str | None:
        """Say why there is nothing more to ask, such as "max_labels is reached"; None if there is."""
        return self.questions.why_finished()

    @property
    def tested(self) -> IndexArray:
        """Rows that test the model, ascending: the validation photos, or none if `validate_model` is False."""
        return self.pools.validation if self.config.validate_model else self.pools.validation[:0]

    def evaluate(self) -> EvaluationReport | None:
        """Test the model on the validation photos; None if there are none, or they are not to be used."""
        if not len(rows := self.tested):
            return None
        data = self.dataset
        report = evaluate(data.targets[rows], self.probabilities(rows), data.classes, data.groups(rows))
        split, n_shared = self.config.validation_split or "folder", n_shared_sequences(data.catalogue, rows)
        return replace(report, split=split, n_shared_sequences=n_shared, calibration=self.calibrated.calibration)

    @property
    def calibrated(self) -> CalibratedClassifier:
        """The classifier as predictions are made with it; calibrated anew when it was fitted anew."""
        if self._calibrated is None or self._calibrated.fitted is not self.fitted():
            made_from = self.dataset, self._embedded.table, self.tested, self.candidates, self.config
            self._calibrated = CalibratedClassifier.make(self.fitted(), *made_from)
        return self._calibrated

    def predict_candidates(self) -> Predictions:
        """Predict the candidates from the embeddings that the strategy sees, which on a GPU may be in bf16."""
        parts = [(self.candidates, self._embedded.table.of(self.candidates))]
        return self.calibrated.predict_parts(self.candidates, parts, self.dataset.catalogue.sequences)

    def predict_pool(self) -> Predictions:
        """Predict every unlabelled photo, in fp32; those that turn out to be unreadable are set aside and left out."""
        model, rows = self.calibrated, self.pools.unlabelled
        with stage(logger, f"Predicting {len(rows)} unlabelled photos", "predicting"):
            while True:  # once, and again for photos that could not be read for a while
                parts = self._embedded.stream(rows)
                predictions = model.predict_parts(rows, parts, self.dataset.catalogue.sequences)
                self._reader.set_unreadable_aside()
                if not self._reader.n_back:
                    return predictions

    def prediction_lineage(self, rows: IndexArray, *, exactly: bool = True) -> dict[str, Any]:
        """Name what predictions of `rows`, in fp32 or not, follow from."""
        return self.calibrated.lineage_of(rows, self.dataset.catalogue.sequences) | {"exactly": exactly}

    def save(self, store: RunStore) -> None:
        """Save the models that changed since they were last saved, and which photos were found unreadable."""
        self.propagation.save(store)  # before the network that outdates it
        changed = [artefact for artefact in self._artefacts() if self._saved.get(artefact.file) != artefact.lineage]
        if changed:
            store.save(changed)
            self._saved |= {artefact.file: dict(artefact.lineage) for artefact in changed}
        self._reader.record(store)

    def _artefacts(self) -> Iterator[Artefact]:
        if self._network_lineage and isinstance(self.embedder, EmbeddingTrainer):
            yield network_artefact(partial(self.embedder.checkpoint, self.dataset.classes), self._network_lineage)
        yield from self._embedded.table.artefacts()
        if self._fitted is not None:
            yield from self._fitted.artefacts()
