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

from camera_trap_al.config import RunConfig
from camera_trap_al.files import written_aside
from camera_trap_al.simulation.known_photos import SimulationPhotos
from camera_trap_al.statistics.learning_curves import area_under_curve

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
HEADER = (
    "| strategy | asked about | labels to reach the last score by image | as a share of those by image | "
    "mean on the way, more than by image | propagated at most, wrong |"
)
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
        print(f"{HEADER}\n|{'---|' * HEADER.count(' | ')}---|")
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
    seeds = np.vstack([np.arange(len(SEEDS)), rng.integers(len(SEEDS), size=(RESAMPLES, len(SEEDS)))])
    times = np.vstack(
        [np.ones(len(names)), rng.multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)]
    )
    scores = {arm: [scores_of(each, truth, times[:, of_photo]) for each in of_arm] for arm, of_arm in curves.items()}
    by_image = scores["image"]
    for arm, of_arm in curves.items():
        ratios, gains = [], []
        for draw, drawn in enumerate(seeds):
            target = np.mean([by_image[seed][-1, draw] for seed in drawn])
            some, others = (
                [(curves[each][seed].labels, scores[each][seed][:, draw]) for seed in drawn] for each in (arm, "image")
            )
            ratios.append((labels_needed(some, target), labels_needed(others, target)))
            mine, theirs = (np.mean([area_under_curve(*each) for each in curves_of]) for curves_of in (some, others))
            gains.append(mine - theirs)
        needed = ratios[0][0]
        shares = [some / others for some, others in ratios]
        most = max(int(each.n_propagated.max()) for each in of_arm)
        n_wrong, n_propagated = (
            sum(int(getattr(each, name).sum()) for each in of_arm) for name in ("n_wrong", "n_propagated")
        )
        told = f"{most}, {n_wrong / n_propagated:.1%}" if most else ""
        found = (
            strategy,
            arm,
            f"{needed:.0f}",
            told_with_interval(shares, ".2f"),
            told_with_interval(gains, "+.3f"),
            told,
        )
        print(f"| {' | '.join(found)} |")


def told_with_interval(values: list[float], form: str) -> str:
    """Tell the first of some values, and the range of 95 % of the others."""
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return f"{values[0]:{form}} ({low:{form}} to {high:{form}})"


def scores_of(curve: Curve, truth: NDArray[np.int64], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n_rounds, n_draws) macro F1 of each round, for (n_draws, n_photos) how often each photo counts."""
    n_classes = int(max(truth.max(), curve.predicted.max())) + 1
    true = times @ np.eye(n_classes)[truth]
    return np.stack(
        [
            macro_f1(true, times @ np.eye(n_classes)[one], times @ (np.eye(n_classes)[one] * (one == truth)[:, None]))
            for one in curve.predicted
        ]
    )


def macro_f1(
    true: NDArray[np.float64], predicted: NDArray[np.float64], right: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean F1 of the classes that occur, of (n_draws, n_classes) counts; as `bootstrap.ClassCounts` has it."""
    both = true + predicted
    return (2 * right / np.maximum(both, 1)).sum(axis=1) / (both > 0).sum(axis=1)


def labels_needed(curves: list[tuple[NDArray[np.int64], NDArray[np.float64]]], target: float) -> float:
    """Read from an isotonic fit over seeds where a score is reached; at least 1, at most all labels."""
    labels, scores = (np.concatenate(each) for each in zip(*curves, strict=True))
    budgets = np.unique(labels)
    fitted = IsotonicRegression().fit(labels, scores).predict(budgets)
    reached = np.flatnonzero(fitted >= target - 1e-9)
    return float(max(1, budgets[reached[0]] if len(reached) else budgets[-1]))


if __name__ == "__main__":
    main()
