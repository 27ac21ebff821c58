"""Train the embedding network on labelled rows, and embed rows with it."""

import copy
import hashlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from camera_trap_al.config import RunConfig, TrainingStage
from camera_trap_al.deep_learning.batch_norms import BatchNorms
from camera_trap_al.deep_learning.batches import EvaluationBatch, evaluation_batches, on_its_way, training_batches
from camera_trap_al.deep_learning.data_loader import ExtendedImageFolder, batch_sampler
from camera_trap_al.deep_learning.device import repeatable, seeded
from camera_trap_al.deep_learning.embedder import Embedder
from camera_trap_al.deep_learning.losses import build_loss
from camera_trap_al.deep_learning.network_file import load_network, network_as_dict
from camera_trap_al.deep_learning.networks import EmbeddingNet, SoftmaxNet, build_embedding_net
from camera_trap_al.deep_learning.precision import (
    SAMPLE,
    Precision,
    autocast,
    choose_precision,
    full_precision,
    is_always_exact,
    worst_cosine,
)
from camera_trap_al.deep_learning.training import EpochSummary, Training
from camera_trap_al.deep_learning.transforms import Normalisation, crop_centre
from camera_trap_al.exceptions import DataError
from camera_trap_al.photos.images import ImageArray
from camera_trap_al.pools import UNLABELLED, FloatArray, IndexArray

__all__ = ["EmbeddingTrainer"]

logger = logging.getLogger(__name__)


class EmbeddingTrainer(Embedder):
    """An embedding network with what it takes to train and apply it.

    Parameters
    ----------
    config
        The network, loss and loader settings.
    n_classes
        Classes that a softmax loss tells apart.
    device
        Where the network computes.
    checkpoint
        What `checkpoint` gave earlier, to go on from; no pretrained weights are needed then.

    Attributes
    ----------
    net
        The network; with a softmax loss it ends in a layer of `n_classes` outputs, which embedding leaves out.
    pixel_mean, pixel_std
        (3,) per channel, of pixels between 0 and 1: what photos are standardised with. To be set before training.
    loss_type
        Name of the loss that it is trained with.
    history
        One summary per epoch of the last `fit`.
    """

    def __init__(
        self, config: RunConfig, n_classes: int, device: torch.device, checkpoint: dict[str, Any] | None = None
    ) -> None:
        self._config = config
        self.device = device
        self.loss_type = config.embedding_loss_type
        embedding_net = build_embedding_net(
            config.embedding_arch,
            config.feat_dim,
            use_pretrained=config.use_pretrained and checkpoint is None,
            pretrained_weights=config.path_of("pretrained_weights") if checkpoint is None else None,
            seed=_torch_seed(config.generator("network", 0)),
        )
        self.net: EmbeddingNet | SoftmaxNet = embedding_net
        if config.embedding_loss_type == "softmax":
            self.net = SoftmaxNet(embedding_net, n_classes, seed=_torch_seed(config.generator("head", 0)))
        self.pixel_mean, self.pixel_std = np.full(3, 0.5, np.float32), np.full(3, 0.25, np.float32)
        self.optimizer_state: dict[str, Any] = {}
        self.history: tuple[EpochSummary, ...] = ()
        self._precision: Precision | None = None  # of the present weights, once it was asked for
        self._loss = build_loss(
            config.embedding_loss_type, config.embedding_loss_data_strategy, config.embedding_loss_margin
        )
        if checkpoint is not None:
            load_network(self.net, checkpoint["embedding_model_state_dict"])
            self.optimizer_state = checkpoint["optimizer_state_dict"]
        self.net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub misses it

    def fit(
        self,
        dataset: ExtendedImageFolder,
        rows: IndexArray,
        stage: TrainingStage,
        rng: np.random.Generator,
    ) -> None:
        """Train the network on labelled rows with a new Adam optimiser.

        If the embeddings fall into one point, the network goes back to what it was, with a WARNING.

        Parameters
        ----------
        dataset
            Where photos and labels come from.
        rows
            (n,) labelled rows; those whose photo cannot be read are left out.
        stage
            Rates, epochs and loader.
        rng
            Source of everything random: order, augmentation, mining, dropout. The global generators are left alone.

        Raises
        ------
        DataError
            If there is no row, a row has no label, or the weights become infinite or NaN.
        """
        if not len(rows) or (dataset.targets[rows] == UNLABELLED).any():
            raise DataError("The embedding network learns from labelled photos; got none, or one without a label.")
        before = self.snapshot()
        sampler = batch_sampler(
            stage.loader_type,
            rows,
            dataset.targets[rows],
            rng,
            self._config.balanced_loader_num_classes,
            self._config.balanced_loader_num_samples,
            groups=dataset.groups(rows),
        )
        with seeded(_torch_seed(rng), self.device), repeatable(self.device):
            training = self._new_training(dataset, rows, stage, _torch_seed(rng))
            for epoch in range(1, stage.num_epochs + 1):
                title = f"{stage.name} epoch {epoch}/{stage.num_epochs}"
                batches = training_batches(dataset, sampler, rng, self.device)
                training.run_epoch(tqdm(batches, total=len(sampler), desc=title, unit="batch"), dataset.targets)
                if training.history:
                    logger.info("%s: %s", title, training.history[-1])
                if training.has_collapsed:
                    break
        self._precision = None
        self.history = tuple(training.history)
        self.optimizer_state = training.optimizer_state()
        if training.has_collapsed:
            self.restore(before)
            _warn_of_collapse(training, stage)
        if not all(torch.isfinite(tensor).all() for tensor in self.net.state_dict().values()):
            raise DataError(
                f"The training of the embedding network went astray: its weights are not numbers any more. Choose a "
                f"smaller embedding_{stage.name}_lr than {stage.lr:g} and start again; nothing is lost."
            )

    def _new_training(
        self, dataset: ExtendedImageFolder, rows: IndexArray, stage: TrainingStage, seed: int
    ) -> Training:
        trained = (parameter for parameter in self.net.parameters() if parameter.requires_grad)
        return Training(
            self.net,
            self._loss,
            torch.optim.Adam(trained, lr=stage.lr, weight_decay=stage.weight_decay),
            self._normalisation(),
            BatchNorms(self.net, self._config.freeze_batchnorm),
            # "bf16" is obeyed here, and warned of when candidates are embedded: once per network.
            "bf16" if self._config.precision == "bf16" else self.scoring_precision(dataset, rows),
            torch.Generator(self.device).manual_seed(seed),
        )

    def embed_batches(
        self, dataset: ExtendedImageFolder, rows: IndexArray, precision: Precision = "fp32"
    ) -> Iterator[FloatArray]:
        """Give the (n, feat_dim) embeddings of `rows` in their order, in evaluation mode, some at a time.

        Photos that cannot be read have NaN. A batch is begun before the last one is given, so that a GPU does not wait
        for whoever takes them.
        """
        begun: deque[tuple[EvaluationBatch, Callable[[], FloatArray]]] = deque()
        normalise, batch_size = self._normalisation(), self._config.extract_embedding_batch_size
        for batch in evaluation_batches(dataset, rows, batch_size, self.device):
            begun.append((batch, on_its_way(self._embedded(batch.images, normalise, precision))))
            if len(begun) > 1:
                yield self._in_order(*begun.popleft())
        while begun:
            yield self._in_order(*begun.popleft())

    def _normalisation(self) -> Normalisation:
        return Normalisation(self.pixel_mean, self.pixel_std, self.device)

    def _embedded(self, images: Tensor, normalise: Normalisation, precision: Precision = "fp32") -> Tensor:
        """Embed (n, 224, 224, 3) uint8 images; the result stays on the device."""
        net = self.net.embedding if isinstance(self.net, SoftmaxNet) else self.net
        net.eval()
        with full_precision(), repeatable(self.device), torch.inference_mode(), autocast(self.device, precision):
            embeddings: Tensor = net(normalise.of_bytes(images.to(self.device, non_blocking=True)))
            return embeddings.float()

    def _in_order(self, batch: EvaluationBatch, arrived: Callable[[], FloatArray]) -> FloatArray:
        embeddings = np.full((len(batch.is_read), self._config.feat_dim), np.nan, np.float32)
        embeddings[batch.is_read] = arrived()
        return embeddings

    def embed(self, dataset: ExtendedImageFolder, rows: IndexArray, precision: Precision = "fp32") -> FloatArray:
        """Return the (n, feat_dim) embeddings of `rows`, NaN where a photo cannot be read."""
        return super().embed(dataset, rows, precision).reshape(-1, self._config.feat_dim)

    @property
    def is_always_exact(self) -> bool:
        """Whether `scoring_precision` is ``"fp32"`` for certain, whatever the weights."""
        return is_always_exact(self._config.precision, self.device)

    def scoring_precision(self, dataset: ExtendedImageFolder, rows: IndexArray) -> Precision:
        """Say in which precision the present weights are trained and embed candidates, by a trial with some of `rows`.

        See `precision.choose_precision`.
        """
        if self._precision is None:
            some = rows[:: max(1, len(rows) // SAMPLE)][:SAMPLE]
            self._precision = choose_precision(
                self._config.precision, self.device, lambda: self._worst_cosine(dataset.cache.read(some)[0])
            )
        return self._precision

    def _worst_cosine(self, images: ImageArray) -> float:
        centres = torch.from_numpy(crop_centre(images))
        exact = self._embedded(centres, self._normalisation())
        quick = self._embedded(centres, self._normalisation(), "bf16")
        return worst_cosine(exact.cpu().numpy(), quick.cpu().numpy())

    def seconds_per_photo(self, images: ImageArray) -> float:
        """Measure how long embedding takes, on (n, 256, 256, 3) images."""
        centres = torch.from_numpy(crop_centre(images))
        start = time.perf_counter()
        self._embedded(centres, self._normalisation()).cpu()
        return (time.perf_counter() - start) / len(images)

    def set_n_classes(self, n_classes: int) -> None:
        """Give a softmax network fresh outputs for new classes; those that it has stay as they are."""
        if not isinstance(self.net, SoftmaxNet) or self.net.classifier.out_features == n_classes:
            return
        seed = _torch_seed(self._config.generator("head", 0))  # as after a restart
        grown = SoftmaxNet(self.net.embedding, n_classes, seed=seed).to(self.device)
        load_network(grown, self.net.state_dict())
        self.net = grown

    def digest(self) -> str:
        """Name the network by its weights and what it standardises with: one digest, the same embeddings."""
        checksum = hashlib.sha256(np.stack([self.pixel_mean, self.pixel_std]).tobytes())
        for name, tensor in sorted(self.net.state_dict().items()):
            checksum.update(name.encode())
            checksum.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return checksum.hexdigest()

    def snapshot(self) -> dict[str, Any]:
        """Copy the weights and the optimiser's state."""
        return {"net": copy.deepcopy(self.net.state_dict()), "optimizer": self.optimizer_state}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go back to the weights and the optimiser's state of a snapshot."""
        self.net.load_state_dict(snapshot["net"])
        self.optimizer_state = snapshot["optimizer"]
        self._precision = None

    def checkpoint(self, classes: Sequence[str]) -> dict[str, Any]:
        """Give the network as the plain dict that ``embedding_model_weights.pt`` holds (see `network_as_dict`)."""
        return network_as_dict(self.net, self.optimizer_state, self._config, classes)


def _warn_of_collapse(training: Training, stage: TrainingStage) -> None:
    logger.warning(
        "The embeddings fell into one point: the mean distance between them went from %.3g to %.3g. The run goes on "
        "with the network as it was before this training. A smaller embedding_%s_lr than %g, or another "
        "embedding_loss_data_strategy, may help.",
        training.first_distance,
        training.late_distance,
        stage.name,
        stage.lr,
    )


def _torch_seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))
