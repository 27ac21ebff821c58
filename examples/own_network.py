"""Active learning with a PyTorch network of your own, put together from the parts of camera_trap_al.

`run_active_learning` does all of this with torchvision's networks. This file shows the loop with the parts themselves:

* `ExtendedImageFolder` knows the photos and their labels,
* `OwnEmbedder`, below, trains your network and turns photos into features with it,
* `ActiveLearningEnvironment` keeps track of what has to be trained, and chooses the photos to ask about,
* `LabelRetriever` asks a person for their species.

Start it with the folder of labelled photos (one folder per species) and that of unlabelled ones::

    python own_network.py D:/photos/labelled D:/photos/new --output "own network"

It writes ``timelapse_selector.csv`` into the output folder and waits until a CSV with the species of these photos is in
``new_labels_bin`` there, and you press Enter. ``q`` stops. Your labels are kept in ``labels.csv`` for the next start.
"""

import argparse
import copy
import csv
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from camera_trap_al.config import RunConfig, TrainingStage
from camera_trap_al.deep_learning.active_learning_manager import ActiveLearningEnvironment
from camera_trap_al.deep_learning.data_loader import ExtendedImageFolder, ShuffledBatchSampler
from camera_trap_al.deep_learning.embedder import Embedder
from camera_trap_al.deep_learning.precision import Precision
from camera_trap_al.photos.images import ImageArray
from camera_trap_al.pools import FloatArray, IndexArray
from camera_trap_al.predictions import write_predictions
from camera_trap_al.query import Answer, Query
from camera_trap_al.utils.objects import LabelRetriever

N_FEATURES = 64
SIDE = 64  # pixels of the small image that the network sees
BATCH = 32


class OwnNetwork(nn.Module):
    """Put your network here: this one has three convolutions, then the features, then a score for each species.

    It stays on the CPU; on a GPU, send network and images there, and the features back.
    """

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        sizes = ((3, 16), (16, 32), (32, N_FEATURES))
        blocks = [nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b), nn.ReLU()) for a, b in sizes]
        self.features = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.scores = nn.Linear(N_FEATURES, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Give (n, n_classes) scores of (n, 3, side, side) images."""
        scores: Tensor = self.scores(self.features(images))
        return scores


class OwnEmbedder(Embedder):
    """Trains the network to name the species, and gives its features, from which a classifier learns each round."""

    def __init__(self, n_classes: int, seed: int) -> None:
        torch.manual_seed(seed)
        self.net = OwnNetwork(n_classes)

    def fit(
        self, dataset: ExtendedImageFolder, rows: IndexArray, stage: TrainingStage, rng: np.random.Generator
    ) -> None:
        """Train on labelled rows. `stage` has the epochs and the learning rate of the settings."""
        optimizer = torch.optim.Adam(self.net.parameters(), lr=stage.lr, weight_decay=stage.weight_decay)
        sampler = ShuffledBatchSampler(rows, rng, BATCH)
        self.net.train()
        for _ in range(stage.num_epochs):
            for batch in map(np.array, sampler):
                images, is_read = dataset.cache.read(batch)  # a damaged photo is left out
                if not is_read.any():
                    continue
                targets = torch.from_numpy(dataset.targets[batch[is_read]])
                loss = functional.cross_entropy(self.net(self._prepared(images)), targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    def embed_batches(
        self, dataset: ExtendedImageFolder, rows: IndexArray, precision: Precision = "fp32"
    ) -> Iterator[FloatArray]:
        """Give the features of `rows` in their order; NaN for a photo that cannot be read."""
        self.net.eval()
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            images, is_read = dataset.cache.read(batch)
            features = np.full((len(batch), N_FEATURES), np.nan, np.float32)
            if is_read.any():
                with torch.inference_mode():
                    features[is_read] = self.net.features(self._prepared(images)).numpy()
            yield features

    def digest(self) -> str:
        """Name the present weights: other weights, another name, and the photos are embedded again."""
        checksum = hashlib.sha256()
        for tensor in self.net.state_dict().values():
            checksum.update(tensor.numpy().tobytes())
        return checksum.hexdigest()

    def snapshot(self) -> Any:
        """Copy the weights, so that a training that makes things worse can be undone."""
        return copy.deepcopy(self.net.state_dict())

    def restore(self, snapshot: Any) -> None:
        """Go back to these weights."""
        self.net.load_state_dict(snapshot)

    def _prepared(self, images: ImageArray) -> Tensor:
        """Turn (n, 256, 256, 3) bytes into what the network takes."""
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.from_numpy(values).view(3, 1, 1) for values in (self.pixel_mean, self.pixel_std))
        return (functional.interpolate(pixels, size=(SIDE, SIDE), mode="area") - mean) / std


def remember(file: Path, answer: Answer, dataset: ExtendedImageFolder) -> None:
    """Add the labels of an answer to the file."""
    is_new = not file.exists()
    with file.open("a", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened)
        if is_new:
            writer.writerow(("path", "label"))
        for row, class_id in answer.labels.items():
            writer.writerow((dataset.catalogue.paths[row], dataset.classes[class_id]))


def recall(file: Path, dataset: ExtendedImageFolder) -> None:
    """Take what earlier starts added to the file into the data set."""
    if not file.exists():
        return
    with file.open(newline="", encoding="utf-8") as opened:
        labels = {line["path"]: line["label"] for line in csv.DictReader(opened)}
    named = {row: labels.get(dataset.catalogue.paths[row]) for row in dataset.pools.unlabelled.tolist()}
    known = {row: dataset.class_to_idx[name] for row, name in named.items() if name}
    dataset.relabel(list(known), list(known.values()))
    print(f"{len(known)} photos have a label from an earlier start.")


def learn(env: ActiveLearningEnvironment) -> None:
    """Train, embed and fit what the labels outdated, and say how good the model is if there are validation photos."""
    env.read_photos()
    for update in env.stale_models():
        update()
    report = env.evaluate()
    if report is not None:
        print(f"With {len(env.pools.labelled)} labels: {report.accuracy_told}")


def label(env: ActiveLearningEnvironment, output: Path, n_rounds: int) -> None:
    """Ask for labels, round by round, until all is asked or the person stops."""
    dataset = env.dataset
    retriever = LabelRetriever([dataset.catalogue.paths[row] for row in env.pools.unlabelled], output)
    recall(output / "labels.csv", dataset)

    def commit(answer: Answer) -> None:
        remember(output / "labels.csv", answer, dataset)
        env.apply(answer)

    for round_number in range(1, n_rounds + 1):
        learn(env)
        if env.why_finished():
            return
        rows = env.choose_rows(round_number)
        paths = tuple(dataset.catalogue.paths[row] for row in rows)
        answer = retriever.request_labels(Query(round_number, rows, paths, dataset.classes), commit)
        if answer.stop or answer.look_again:  # photos that were added are found at the next start
            return
    learn(env)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Active learning with a PyTorch network of your own.")
    parser.add_argument("train", type=Path, help="labelled photos, a folder for each species")
    parser.add_argument("unlabelled", type=Path, help="unlabelled photos, in folders of any name")
    parser.add_argument("--validation", type=Path, help="labelled photos that only measure the model")
    parser.add_argument(
        "--output", type=Path, default=Path("own network"), help="folder for all results (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often to ask (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=20, help="photos per round (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=20, help="epochs of each training (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="makes it repeatable (default: %(default)s)")
    return parser.parse_args()


def main() -> None:
    """Label and learn; then save the network and name the species in the photos that nobody labelled."""
    chosen = parse_arguments()
    chosen.output.mkdir(parents=True, exist_ok=True)
    dataset = ExtendedImageFolder.from_folders(
        chosen.train, chosen.unlabelled, chosen.validation, cache_dir=chosen.output / "cache"
    )
    embedder = OwnEmbedder(len(dataset.classes), chosen.seed)
    config = RunConfig(
        seed=chosen.seed,
        active_batch=chosen.batch,
        classifier="logistic",
        embedding_train_lr=0.001,
        embedding_train_num_epochs=chosen.epochs,
        embedding_finetuning_lr=0.001,
        embedding_finetuning_num_epochs=chosen.epochs,
        embedding_finetuning_period=chosen.batch,  # train again after each round: the network is small
    )
    env = ActiveLearningEnvironment(dataset, config, embedder)
    label(env, chosen.output, chosen.rounds)
    torch.save(embedder.net.state_dict(), chosen.output / "own_network.pt")
    write_predictions(chosen.output / "predictions.csv", env.predict_pool(), dataset.catalogue.paths, dataset.classes)
    print(f"The network is in {chosen.output / 'own_network.pt'}, the species in {chosen.output / 'predictions.csv'}")


if __name__ == "__main__":
    main()
