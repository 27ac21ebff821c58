"""Speed and memory of `predict`: engines, the overlap of decoding and computing, and many photos.

    CAMERA_TRAP_AL_DATA=... python benchmarks/predict.py
    CAMERA_TRAP_AL_DATA=... python benchmarks/predict.py --repeats 3 --arch mobilenet_v2

The network is not trained, since that changes no speed. Full-size photos are those of the data folder, each several
times under other names. All lines of a repeat are measured one after the other; ratios are within a repeat, and their
median over the repeats is shown. The exit status is 1 if a bound is broken.

The bound of 1.5 for onnxruntime is against plain eager torch, which computes as torch does if nothing is said, and
against nothing else; the ratio to the torch engine of `predict` is shown, and has no bound.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image

from camera_trap_al.classifier import EmbeddingClassifier, EmbeddingScaler
from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning.embedding_trainer import EmbeddingTrainer
from camera_trap_al.deep_learning.fitted_classifier import FittedClassifier
from camera_trap_al.deep_learning.networks import EmbeddingNet
from camera_trap_al.deep_learning.transforms import Normalisation, crop_centre
from camera_trap_al.export import export_model
from camera_trap_al.inference.classification import Classification
from camera_trap_al.inference.networks import Network, onnxruntime_network, torch_network
from camera_trap_al.inference.photos import PhotoSet, find_photos
from camera_trap_al.model_description import ModelDescription
from camera_trap_al.parallel import decoding_threads
from camera_trap_al.photos.images import ImageArray
from camera_trap_al.pools import FloatArray

CLASSES = tuple(f"species_{number:02}" for number in range(20))
COPIES = 30  # fewer photos show how the first batch is waited for
BATCH = 32
FEW, MANY = 100, 20_000
MEMORY_PROGRAM = """
import psutil, sys, threading, time
from camera_trap_al import predict
export, photos, output = sys.argv[1:]
process, highest, ended = psutil.Process(), 0, False
def watch():
    global highest
    while not ended:
        highest = max(highest, process.memory_info().rss)
        time.sleep(0.005)
watcher = threading.Thread(target=watch, daemon=True)
watcher.start()
frame = predict(export, photos, output_dir=output)
ended = True
watcher.join()
print(len(frame), highest - int(frame.memory_usage(deep=True).sum()))
"""


def exported(folder: Path, arch: str) -> Path:
    """Export a network that is not trained, and a classifier of made embeddings."""
    config = RunConfig(embedding_arch=arch, use_pretrained=False, seed=1)
    trainer = EmbeddingTrainer(config, len(CLASSES), torch.device("cpu"))
    trainer.pixel_mean, trainer.pixel_std = np.full(3, 0.45, np.float32), np.full(3, 0.25, np.float32)
    embeddings = np.random.default_rng(0).normal(size=(200, config.feat_dim)).astype(np.float32)
    scaler = EmbeddingScaler.fit(embeddings, normalize=True)
    classifier = EmbeddingClassifier("mlp", {"max_iter": 20}, seed=0, n_classes=len(CLASSES))
    classifier.fit(scaler.transform(embeddings), np.arange(200) % len(CLASSES), progress=False)
    labels = dict.fromkeys(CLASSES, 200 // len(CLASSES))
    fitted = FittedClassifier(scaler, classifier, {"network": trainer.digest()})
    export_model(folder, trainer, fitted, CLASSES, labels_per_class=labels)
    return folder


def full_size_photos(folder: Path, copies: int) -> Path:
    """Put every full-size photo of the data folder into a folder several times."""
    data = Path(os.environ["CAMERA_TRAP_AL_DATA"]) / "camera_trap_fullsize"
    photos = sorted(path for path in data.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    for copy in range(copies):
        (folder / str(copy)).mkdir(parents=True)
        for photo in photos:
            (folder / str(copy) / photo.name).symlink_to(photo)
    return folder


def rate(photos: PhotoSet, network: Network) -> float:
    """Give the photos per second from files to answers."""
    classification = Classification(network, BATCH, decoding_threads(0), Path("export"))
    start = time.perf_counter()
    n_answers = sum(len(answers) for answers in classification.answers(photos))
    return n_answers / (time.perf_counter() - start)


def decoding_rate(photos: PhotoSet) -> float:
    """Give the photos per second if nothing has to be computed."""
    return rate(photos, lambda images: np.full((len(images), len(CLASSES)), 0.05, np.float32))


def computing_rate(n_photos: int, network: Network) -> float:
    """Give the photos per second if nothing has to be decoded."""
    images = np.random.default_rng(0).integers(0, 256, (BATCH, 256, 256, 3), np.uint8)
    network(images)
    start = time.perf_counter()
    for _ in range(-(-n_photos // BATCH)):
        network(images)
    return -(-n_photos // BATCH) * BATCH / (time.perf_counter() - start)


def sleeper(photos_per_second: float) -> Network:
    """Compute nothing, as long as something else would that leaves the CPU alone."""

    def network(images: ImageArray) -> FloatArray:
        time.sleep(len(images) / photos_per_second)
        return np.full((len(images), len(CLASSES)), 0.05, np.float32)

    return network


def eager_network(arch: str) -> Network:
    """Compute embeddings as torch does if nothing is said: images in the order (n, 3, height, width), no graph."""
    net = EmbeddingNet(arch, 256, init_weights=False).eval()
    normalise = Normalisation(np.full(3, 0.45), np.full(3, 0.25))

    def network(images: ImageArray) -> FloatArray:
        with torch.no_grad():
            net(normalise.of_bytes(torch.from_numpy(crop_centre(images))).contiguous())
        return np.full((len(images), len(CLASSES)), 0.05, np.float32)

    return network


def peak_memory(export: Path, folder: Path, n_photos: int) -> float:
    """Give the highest memory in MB of a process that predicts so many small photos, its data frame not counted."""
    photos = folder / str(n_photos)
    rng = np.random.default_rng(0)
    some = [Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)) for _ in range(10)]
    for number in range(n_photos):
        path = photos / f"site_{number % 20}" / f"IMG_{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        some[number % 10].save(path)
    command = [sys.executable, "-c", MEMORY_PROGRAM, export, photos, folder / f"out_{n_photos}"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert int(answer[0]) == n_photos
    return int(answer[1]) / 1e6


def repeat(export: Path, folder: Path, arch: str) -> dict[str, float]:
    """Measure everything about speed once."""
    photos, description = find_photos(folder), ModelDescription.read(export)
    network = onnxruntime_network(export, description, "cpu")
    decoding, computing = decoding_rate(photos), computing_rate(len(photos), network)
    together = rate(photos, network)
    asleep = {share: rate(photos, sleeper(share * decoding)) for share in (0.5, 1.0, 2.0)}
    eager, engine = rate(photos, eager_network(arch)), rate(photos, torch_network(export, description, "cpu"))
    return {
        "decoding alone, photos/s": decoding,
        "computing alone, photos/s": computing,
        "both, photos/s": together,
        "both, of 1/(1/decoding + 1/computing)": together * (1 / decoding + 1 / computing),
        **{
            f"with a sleeper {share:g} times as fast as decoding, of the slower": found / (min(share, 1) * decoding)
            for share, found in asleep.items()
        },
        "with plain eager torch, photos/s": eager,
        "with the torch engine (channels last), photos/s": engine,
        "onnxruntime : plain eager torch": together / eager,
        "onnxruntime : torch engine": together / engine,
    }


BOUNDS: dict[str, float] = {
    "onnxruntime : plain eager torch": 1.5,
    "both, of 1/(1/decoding + 1/computing)": 0.9,
    **{f"with a sleeper {share} times as fast as decoding, of the slower": 0.85 for share in ("0.5", "1", "2")},
}
MOST_GROWTH = 1.1


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; give the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="resnet18", help="network of the speeds (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="medians are of so many (default: %(default)s)")
    parser.add_argument("--copies", type=int, default=COPIES, help="of each full-size photo (default: %(default)s)")
    parser.add_argument("--many", type=int, default=MANY, help="photos of the memory (default: %(default)s)")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        export, photos = exported(folder / "export", chosen.arch), full_size_photos(folder / "photos", chosen.copies)
        repeats = [repeat(export, photos, chosen.arch) for _ in range(chosen.repeats)]
        tiny = exported(folder / "tiny", "shufflenet_v2_x0_5")
        few, many = (peak_memory(tiny, folder, n_photos) for n_photos in (FEW, chosen.many))
    print(f"{chosen.arch}, {torch.get_num_threads()} cores, {chosen.repeats} repeats\n")
    print("| what | median | must be | holds |\n|---|---|---|---|")
    broken = 0
    for name in repeats[0]:
        value, bound = median(each[name] for each in repeats), BOUNDS.get(name)
        holds = bound is None or value >= bound
        broken += not holds
        print(f"| {name} | {value:.2f} | {f'>= {bound}' if bound else ''} | {verdict(holds) if bound else ''} |")
    growth = many / few
    broken += growth > MOST_GROWTH
    print(f"| MB with {FEW} photos | {few:.0f} | | |\n| MB with {chosen.many} photos | {many:.0f} | | |")
    print(f"| ratio of these | {growth:.2f} | <= {MOST_GROWTH} | {verdict(growth <= MOST_GROWTH)} |")
    return int(broken > 0)


def verdict(holds: bool) -> str:
    """Say whether a bound holds."""
    return "yes" if holds else "NO"


if __name__ == "__main__":
    sys.exit(main())
