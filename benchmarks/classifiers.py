"""Time and held-out accuracy of the classifiers that have a name, beside a bare fit of scikit-learn's MLPClassifier.

    python benchmarks/classifiers.py             # 5,000 labels of made features, 5 seeds
    python benchmarks/classifiers.py --quick     # few of everything, to see that it runs

If the environment variable CAMERA_TRAP_AL_DATA names the folder of real photos, features of these are classified too:
those that a run begins with, of an ImageNet network whose last layer is new. Every fit has one BLAS thread, and CPU
seconds are compared, since a busy machine changes them less. All classifiers of a seed have the same data, and a line
has means over the seeds, beside "mlp" with the same ones. The bounds are those of made features; the exit status is 1
if one is broken.
"""

import argparse
import csv
import logging
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import numpy as np
import sklearn
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from camera_trap_al.classifier import EmbeddingClassifier, EmbeddingScaler
from camera_trap_al.estimators import CLASSIFIERS, MLP_PARAMS
from camera_trap_al.pools import FloatArray, IndexArray

N_FEATURES, N_CLASSES = 256, 20
N_POSES, N_CAUSES = 8, 24  # of a class, and of all features
BARE = "bare MLPClassifier"
QUICK_LABELS, QUICK_EPOCHS, QUICK_PHOTOS = 200, 20, 12
REAL = {"camera_trap_crops": 525, "cifar10_longtail": 1_000}  # labels: all there are, some


@dataclass(frozen=True, eq=False)
class Problem:
    """Scaled features and class ids, to learn from and to be asked about."""

    embeddings: FloatArray
    targets: IndexArray
    new: FloatArray
    truth: IndexArray


@dataclass(frozen=True)
class Figures:
    """What one fit took and is worth: CPU seconds, and accuracy in per cent."""

    seconds: float
    accuracy: float


@dataclass(frozen=True)
class Bound:
    """What must hold for how many times as long "mlp" takes, and for the points of accuracy less than that."""

    told: str
    holds: Callable[[float, float], bool]


BOUNDS = {
    BARE: Bound("<= 1.1 times", lambda ratio, lost: ratio <= 1.1),
    "mlp_fast": Bound(">= 8 times, <= 0.5 points", lambda ratio, lost: ratio >= 8 and lost <= 0.5),
}


def main() -> None:
    """Print a table for made features, and one for each set of real ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=int, default=5_000, help="of made features (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=5, help="how many (default: %(default)s)")
    parser.add_argument("--bare", type=int, default=1, help="seeds of the bare fit (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_LABELS} labels, {QUICK_EPOCHS} epochs, 2 seeds")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.labels, chosen.seeds = QUICK_LABELS, 2
    logging.getLogger("camera_trap_al").setLevel(logging.ERROR)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, one BLAS thread, Python {platform.python_version()}, ", end=""
    )
    print(f"numpy {np.__version__}, scikit-learn {sklearn.__version__}", flush=True)
    holds = print_table(f"made features, {chosen.labels:,} labels", made_problems(chosen.labels, chosen.seeds), chosen)
    if os.environ.get("CAMERA_TRAP_AL_DATA"):
        for name, n_labels in REAL.items():
            folder = Path(os.environ["CAMERA_TRAP_AL_DATA"], name)
            problems = real_problems(folder, n_labels, chosen.seeds, QUICK_PHOTOS if chosen.quick else None)
            print_table(f"{name}, at most {n_labels:,} labels", problems, chosen, bounds={})
    sys.exit(0 if holds else 1)


def made_problems(n_labels: int, n_seeds: int) -> Iterator[Problem]:
    """Make features that are positive mixtures of fewer causes, of classes that each come in several poses."""
    for seed in range(n_seeds):
        rng = np.random.default_rng(seed)
        centres, mixture = rng.normal(size=(N_CLASSES, N_POSES, N_CAUSES)), rng.normal(size=(N_CAUSES, N_FEATURES))
        truth = rng.integers(N_CLASSES, size=2 * n_labels)
        causes = centres[truth, rng.integers(N_POSES, size=len(truth))] + rng.normal(size=(len(truth), N_CAUSES))
        noisy = causes @ mixture + rng.normal(0, 2, (len(truth), N_FEATURES))
        yield scaled(np.maximum(noisy, 0).astype(np.float32), truth, np.arange(len(truth)) < n_labels)


def real_problems(folder: Path, n_labels: int, n_seeds: int, n_photos: int | None) -> Iterator[Problem]:
    """Embed real photos; for each seed, draw what is labelled: the training photos, and others by lot."""
    features, truth, is_train, is_validation = embedded(folder, n_photos)
    for seed in range(n_seeds):
        rng = np.random.default_rng(seed)
        others = rng.permutation(np.flatnonzero(~is_train & ~is_validation))
        labelled = np.concatenate([np.flatnonzero(is_train), others])[:n_labels]
        rows = np.concatenate([rng.permutation(labelled), np.flatnonzero(is_validation)])
        yield scaled(features[rows], truth[rows], ~is_validation[rows])


def scaled(features: FloatArray, truth: IndexArray, is_labelled: np.ndarray) -> Problem:
    """Scale features as a run does."""
    scaler = EmbeddingScaler.fit(features[is_labelled], normalize=True)
    known, new = (scaler.transform(features[each]) for each in (is_labelled, ~is_labelled))
    return Problem(known, truth[is_labelled], new, truth[~is_labelled])


def embedded(folder: Path, n_photos: int | None) -> tuple[FloatArray, IndexArray, np.ndarray, np.ndarray]:
    """Give features, class ids, and which photos train and validate; of each of the three sets the first photos."""
    import torch

    from camera_trap_al.config import RunConfig
    from camera_trap_al.deep_learning.data_loader import ExtendedImageFolder
    from camera_trap_al.deep_learning.embedding_trainer import EmbeddingTrainer

    weights = folder.parent / "weights" / "mobilenet_v2_imagenet.pth"
    config = RunConfig(embedding_arch="mobilenet_v2", pretrained_weights=weights, feat_dim=N_FEATURES, seed=0)
    sets = (folder / "train", folder / "unlabelled", folder / "validation")
    dataset = ExtendedImageFolder.from_folders(*sets, image_cache="memory")
    pools = dataset.pools
    rows = np.concatenate([each[:n_photos] for each in (pools.labelled, pools.unlabelled, pools.validation)])
    species, samples = species_by_name(folder / "truth.csv"), dataset.samples
    unlabelled = pools.unlabelled.tolist()
    truth = dataset.targets.copy()
    truth[unlabelled] = [dataset.class_to_idx[species[Path(samples[row][0]).name]] for row in unlabelled]
    trainer = EmbeddingTrainer(config, len(dataset.classes), torch.device("cpu"))
    trainer.pixel_mean, trainer.pixel_std = (
        np.array(each, np.float32) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    dataset.cache.fill(rows)
    features = trainer.embed(dataset, rows)
    return features, truth[rows], np.isin(rows, pools.labelled), np.isin(rows, pools.validation)


def species_by_name(file: Path) -> dict[str, str]:
    """Read the true species by the name of the photo, which is different for each."""
    with file.open(newline="", encoding="utf-8") as lines:
        return {row["File"]: row["Species"] for row in csv.DictReader(lines)}


def print_table(
    title: str, problems: Iterator[Problem], chosen: argparse.Namespace, bounds: Mapping[str, Bound] = BOUNDS
) -> bool:
    """Measure everything; say whether the bounds hold."""
    found: dict[str, list[Figures]] = {name: [] for name in (BARE, *CLASSIFIERS)}
    for seed, problem in enumerate(problems):
        for name, figures in found.items():
            if name != BARE or seed < chosen.bare:
                figures.append(measured(name, problem, seed, QUICK_EPOCHS if chosen.quick else None))
    print(f"\n{title}, {len(found['mlp'])} seeds, {len(found[BARE])} of them bare\n")
    print(
        "| classifier | CPU seconds | mlp takes x times as long | accuracy, % | less than mlp, points | must | holds |"
    )
    print("|---|---|---|---|---|---|---|")
    return all([print_line(name, figures, found["mlp"], bounds.get(name)) for name, figures in found.items()])


def measured(name: str, problem: Problem, seed: int, n_epochs: int | None) -> Figures:
    """Fit one classifier, timed, and ask it about photos that it does not know."""
    params = {} if n_epochs is None else {"max_iter": n_epochs}
    n_classes = 1 + int(max(problem.targets.max(), problem.truth.max()))
    begun_at = time.process_time()
    if name == BARE:
        bare = MLPClassifier(**{**MLP_PARAMS, **params}, random_state=seed)
        with threadpool_limits(1, "blas"), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            bare.fit(problem.embeddings, problem.targets)
        seconds = time.process_time() - begun_at
        predicted = bare.predict(problem.new)
    else:
        with threadpool_limits(1, "blas"):
            ours = EmbeddingClassifier(name, params, seed=seed, n_classes=n_classes)
            ours.fit(problem.embeddings, problem.targets, progress=False)
        seconds = time.process_time() - begun_at
        predicted = ours.probabilities(problem.new).argmax(axis=1)
    return Figures(seconds, 100 * float((predicted == problem.truth).mean()))


def print_line(name: str, figures: list[Figures], mlp: list[Figures], bound: Bound | None) -> bool:
    """Print the means of a classifier; say whether it holds its bounds."""
    mlp = mlp[: len(figures)]  # the same seeds
    seconds, accuracy = (mean(getattr(each, what) for each in figures) for what in ("seconds", "accuracy"))
    ratio = mean(each.seconds for each in mlp) / seconds
    lost = mean(each.accuracy for each in mlp) - accuracy
    holds = bound is None or bound.holds(ratio, lost)
    must, verdict = ("", "") if bound is None else (bound.told, "yes" if holds else "NO")
    print(f"| {name} | {seconds:.2f} | {ratio:.2f} | {accuracy:.1f} | {lost:.1f} | {must} | {verdict} |", flush=True)
    return holds


if __name__ == "__main__":
    main()
