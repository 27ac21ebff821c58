"""How many labels it saves to ask about one photo of each burst, and to let its label count for the others.

    python benchmarks/bursts.py DATA RESULTS

DATA holds `camera_trap_crops` and `weights/mobilenet_v2_imagenet.pth`. Curves that are in RESULTS already are not
computed again. The tables are Markdown. Intervals are of seeds and sequences of the validation photos drawn anew.
"""

import argparse
import logging
import os
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # each process has a core of its own

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression

from camera_trap_al.bootstrap import ClassCounts
from camera_trap_al.config import RunConfig
from camera_trap_al.files import written_aside
from camera_trap_al.simulation_photos import SimulationPhotos

SEEDS = (0, 1, 2, 3, 4)
STRATEGIES = ("uniform", "margin", "auto")
ARMS = {
    "image": {"group_by": "image"},
    "sequence": {"group_by": "sequence"},
    "sequence, propagated": {"group_by": "sequence", "propagate": "sequence"},
}
CLASSIFIERS = {
    "logistic": {"classifier": "logistic"},
    "logistic, balanced": {"classifier": "logistic", "class_weight": "balanced"},
}
COMMON = {
    **{"embedding_arch": "mobilenet_v2", "embedding_train_num_epochs": 0, "feat_dim": 256, "device": "cpu"},
    **{"active_batch": 10, "candidate_pool": None, "sequence_pattern": "SEQ[0-9]+"},
}
INITIAL_PER_CLASS = 3
RESAMPLES = 1000


class Curve(NamedTuple):
    """A simulated run: labels at each round, what was predicted then, and of how many photos a label was propagated."""

    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    n_propagated: NDArray[np.int64]
    n_wrong: NDArray[np.int64]


def main() -> None:
    """Run what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args()
    chosen.results.mkdir(parents=True, exist_ok=True)
    photos = known_photos(chosen.data, chosen.results)
    jobs = list(product(CLASSIFIERS, STRATEGIES, ARMS, SEEDS))
    with ProcessPoolExecutor(chosen.processes) as pool:
        running = {job: pool.submit(curve, chosen.data, chosen.results, *job) for job in jobs}
        found = {job: each.result() for job, each in running.items()}
    rows = photos.dataset.pools.validation
    truth, groups = photos.truth[rows], photos.dataset.groups(rows)
    for classifier in CLASSIFIERS:
        print(f"\n### {classifier}\n")
        print(
            "| strategy | asked about | labels to reach the last score by image | of those by image (95 % interval) | ",
            end="",
        )
        print("propagated at most, wrong |\n|---|---|---|---|---|")
        for strategy in STRATEGIES:
            print_strategy(
                {arm: [found[classifier, strategy, arm, seed] for seed in SEEDS] for arm in ARMS},
                strategy,
                truth,
                groups,
            )


def known_photos(data: Path, results: Path) -> SimulationPhotos:
    """Embed all photos once, with the given weights as they are."""
    logging.getLogger("camera_trap_al").setLevel(logging.WARNING)
    folder, file = data / "camera_trap_crops", results / "crops.npy"
    config = RunConfig(**COMMON, pretrained_weights=data / "weights" / "mobilenet_v2_imagenet.pth", seed=0)
    embeddings = np.load(file) if file.exists() else None
    photos = SimulationPhotos.prepare(folder, folder / "truth.csv", config, embeddings)
    if embeddings is None:
        with written_aside(file) as path, path.open("wb") as open_file:
            np.save(open_file, photos.embeddings)
    return photos


def curve(data: Path, results: Path, classifier: str, strategy: str, arm: str, seed: int) -> Curve:
    """Run to the end, answering from the truth."""
    file = results / f"bursts, {classifier}, {strategy}, {arm}, {seed}.npz"
    if not file.exists():
        photos = known_photos(data, results)
        settings = COMMON | CLASSIFIERS[classifier] | ARMS[arm]
        env = photos.environment(RunConfig(**settings, active_learning_strategy=strategy, seed=seed), INITIAL_PER_CLASS)
        rounds = []
        for round_number in range(1, len(photos.truth)):
            for update in env.stale_models():
                update()
            propagated = env.propagation.rows
            n_wrong = np.count_nonzero(env.pools.propagated[propagated] != photos.truth[propagated])
            rounds.append((env.n_answers, env.probabilities(env.tested).argmax(axis=1), len(propagated), n_wrong))
            if env.why_finished():
                break
            chosen = env.choose_rows(round_number)
            env.dataset.relabel(chosen, photos.truth[chosen])
        with written_aside(file) as path, path.open("wb") as open_file:
            np.savez(open_file, **Curve(*map(np.array, zip(*rounds, strict=True)))._asdict())
    with np.load(file) as arrays:
        return Curve(**arrays)


def print_strategy(
    curves: dict[str, list[Curve]], strategy: str, truth: NDArray[np.int64], groups: NDArray[np.int64]
) -> None:
    """Print a line for each way of asking."""
    rng = np.random.default_rng(0)
    names, of_photo = np.unique(groups, return_inverse=True)
    drawn = [
        (
            rng.integers(len(SEEDS), size=len(SEEDS)),
            np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))[of_photo],
        )
        for _ in range(RESAMPLES)
    ]
    once = np.ones(len(truth))
    everything = range(len(SEEDS))
    for arm, of_arm in curves.items():
        point = labels_needed(of_arm, curves["image"], everything, once, truth)
        by_image = labels_needed(curves["image"], curves["image"], everything, once, truth)
        ratios = [
            labels_needed(of_arm, curves["image"], seeds, times, truth)
            / labels_needed(curves["image"], curves["image"], seeds, times, truth)
            for seeds, times in drawn
        ]
        low, high = np.quantile(ratios, [0.025, 0.975])
        most = max(of_arm[0].n_propagated.tolist())
        wrong = np.mean([each.n_wrong.sum() / max(1, each.n_propagated.sum()) for each in of_arm])
        told = f"{most}, {wrong:.1%}" if most else ""
        print(f"| {strategy} | {arm} | {point:.0f} | {point / by_image:.2f} ({low:.2f} to {high:.2f}) | {told} |")


def labels_needed(
    some: list[Curve], yardstick: list[Curve], seeds, times: NDArray[np.float64], truth: NDArray[np.int64]
) -> float:
    """Read from an isotonic fit over seeds where the last score of the yardstick is reached, at least 1."""
    target = np.mean([macro_f1(truth, yardstick[seed].predicted[-1], times) for seed in seeds])
    labels = np.concatenate([some[seed].labels for seed in seeds])
    scores = [macro_f1(truth, predicted, times) for seed in seeds for predicted in some[seed].predicted]
    order = np.argsort(labels, kind="stable")
    budgets = np.unique(labels)
    fitted = IsotonicRegression().fit(labels[order], np.array(scores)[order]).predict(budgets)
    reached = np.flatnonzero(fitted >= target - 1e-9)
    return float(max(1, budgets[reached[0]] if len(reached) else budgets[-1]))


def macro_f1(truth: NDArray[np.int64], predicted: NDArray[np.int64], times: NDArray[np.float64]) -> float:
    """Score predictions of photos that count so many times each."""
    n_classes = int(max(truth.max(), predicted.max())) + 1
    counts = (np.bincount(truth, times, n_classes), np.bincount(predicted, times, n_classes))
    return ClassCounts(*counts, np.bincount(truth, times * (truth == predicted), n_classes)).macro_f1()


if __name__ == "__main__":
    main()
