"""How many labels the query strategies save on real photos, beside what classifier and finetuning bring.

    python benchmarks/label_efficiency.py DATA RESULTS               the frozen ladder, on two cores under an hour
    python benchmarks/label_efficiency.py DATA RESULTS --finetuning  the network trained again on the way, slower

DATA holds `camera_trap_crops`, `cifar10_longtail` and `weights/mobilenet_v2_imagenet.pth`. Curves that are in RESULTS
already are not computed again, so that a run that was stopped goes on. The tables are Markdown.
"""

import argparse
import logging
import os
import platform
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # each process has a core of its own

import numpy as np
import pandas as pd
import sklearn
import torch
from matplotlib.figure import Figure

from camera_trap_al.active_learning_methods import STRATEGIES
from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning.active_learning_manager import ActiveLearningEnvironment
from camera_trap_al.files import written_aside
from camera_trap_al.simulation.comparison import rounds, simulate
from camera_trap_al.simulation.known_photos import SimulationPhotos
from camera_trap_al.simulation.result import SimulationResult, scores_of
from camera_trap_al.statistics.learning_curves import mean_and_interval

BEST = "auto"
SEEDS = (0, 1, 2, 3, 4)
FEW_SEEDS = (0, 1)
NETWORK = {"embedding_arch": "mobilenet_v2", "embedding_train_num_epochs": 0, "feat_dim": 256, "device": "cpu"}
BALANCED = {"classifier": "logistic", "class_weight": "balanced"}
FINETUNING = {
    "embedding_finetuning_period": 200,
    "embedding_finetuning_num_epochs": 2,
    "embedding_finetuning_loader_type": "single",
}


class Photos(NamedTuple):
    """A data set, and how runs on it go."""

    folder: str
    active_batch: int
    max_labels: int | None
    initial_per_class: int


class Rung(NamedTuple):
    """A step of the ladder: some strategies with one classifier."""

    name: str
    strategies: tuple[str, ...]
    seeds: tuple[int, ...]
    settings: dict[str, Any]
    candidate_shares: tuple[float, ...] = (1.0,)


SETS = {
    "crops": Photos("camera_trap_crops", 20, None, 3),
    "cifar": Photos("cifar10_longtail", 50, 1000, 5),
}
THREE = ("uniform", "margin", BEST)
RUNGS = (
    Rung("logistic", tuple(STRATEGIES), SEEDS, {"classifier": "logistic"}),
    Rung("candidates", ("margin", BEST), SEEDS, {"classifier": "logistic"}, (0.5, 0.25)),
    Rung("logistic, balanced", (*THREE, "uncertainty_herding", "badge"), SEEDS, BALANCED),
    Rung("mlp_fast", THREE, SEEDS, {"classifier": "mlp_fast"}),
    Rung("mlp", THREE, FEW_SEEDS, {"classifier": "mlp"}),
)
QUICK = {
    "crops": Photos("camera_trap_crops", 20, 40, 3),
}
QUICK_RUNGS = (
    Rung("logistic", THREE, FEW_SEEDS, {"classifier": "logistic"}),
    Rung("logistic, balanced", THREE, FEW_SEEDS, BALANCED),
)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--finetuning", action="store_true", help="the network trained again on the way, on the crops")
    parser.add_argument("--quick", action="store_true", help="a few rounds, to see whether everything works")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args()
    sets, ladder = (QUICK, QUICK_RUNGS) if chosen.quick else (SETS, RUNGS)
    print(f"{platform.machine()}, {chosen.processes} processes of one thread, ", end="")
    print(f"torch {torch.__version__}, scikit-learn {sklearn.__version__}", flush=True)
    chosen.results.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(chosen.processes) as pool:
        if chosen.finetuning:
            jobs = [pool.submit(finetuned, chosen.data, chosen.results, *arm) for arm in finetuning_arms(chosen.quick)]
            print_finetuning(pd.concat([job.result() for job in jobs]))
            return
        for name, photos in sets.items():
            embed(chosen.data, chosen.results, name, photos)
        jobs = [
            pool.submit(climb, chosen.data, chosen.results, name, photos, rung, seed)
            for rung in ladder
            for name, photos in sets.items()
            for seed in rung.seeds
        ]
        found = pd.concat([job.result() for job in jobs], ignore_index=True)
    for name in sets:
        print_ladder(name, found[found["set"] == name])
    draw(found, chosen.results / "label_efficiency.png")


def embed(data: Path, results: Path, name: str, photos: Photos) -> None:
    """Embed all photos of a set once, with the given weights as they are."""
    file = results / f"{name}.npy"
    if not file.exists():
        weights = data / "weights" / "mobilenet_v2_imagenet.pth"
        config = RunConfig(**NETWORK, pretrained_weights=weights, seed=0)
        folder = data / photos.folder
        embeddings = SimulationPhotos.prepare(folder, folder / "truth.csv", config).embeddings
        with written_aside(file) as path, path.open("wb") as open_file:
            np.save(open_file, embeddings)


def climb(data: Path, results: Path, name: str, photos: Photos, rung: Rung, seed: int) -> pd.DataFrame:
    """Give the curves of a rung for one seed."""
    file = results / f"{name}, {rung.name}, {seed}.csv"
    if not file.exists():
        logging.getLogger("camera_trap_al").setLevel(logging.WARNING)
        folder = data / photos.folder
        curves = simulate(
            folder,
            folder / "truth.csv",
            rung.strategies,
            (seed,),
            max_labels=photos.max_labels,
            initial_per_class=photos.initial_per_class,
            candidate_shares=rung.candidate_shares,
            embeddings=np.load(results / f"{name}.npy"),
            active_batch=photos.active_batch,
            **rung.settings,
        ).curves
        with written_aside(file) as path:
            curves.to_csv(path, index=False)
    return pd.read_csv(file).assign(set=name, rung=rung.name)


def print_ladder(name: str, found: pd.DataFrame) -> None:
    """Print each strategy against drawing at random with the same classifier, then everything against one yardstick."""
    for rung in found["rung"].unique():
        curves = found[found["rung"] == rung]
        print(f"\n### {name}: {rung}, {curves['seed'].nunique()} seeds\n")
        print(SimulationResult.of(curves.drop(columns=["set", "rung"])).table())
    yardstick = found[(found["rung"] == "logistic") & (found["strategy"] == "uniform")]
    whole = found[found["rung"] != "candidates"]
    seeds_of = {rung: tuple(sorted(of_rung["seed"].unique())) for rung, of_rung in whole.groupby("rung")}
    for seeds in sorted(set(seeds_of.values()), key=len):
        rungs = [rung for rung in seeds_of if seeds_of[rung] == seeds]
        others = whole[whole["rung"].isin(rungs) & whole["strategy"].isin(THREE)]
        others = others[~((others["rung"] == "logistic") & (others["strategy"] == "uniform"))]
        arms = others.assign(strategy=others["strategy"] + " + " + others["rung"])
        both = pd.concat([yardstick[yardstick["seed"].isin(seeds)], arms]).drop(columns=["set", "rung"])
        print(f"\n### {name}: against uniform + logistic, {len(seeds)} seeds\n")
        print(SimulationResult.of(both).table())


def draw(found: pd.DataFrame, path: Path) -> None:
    """Draw the learning curves of three strategies with two classifiers."""
    figure = Figure(figsize=(11, 4.5), dpi=90, layout="constrained")
    sets = found.groupby("set")
    for axes, (name, of_set) in zip(figure.subplots(1, len(sets), squeeze=False)[0], sets, strict=True):
        for rung, dash in (("logistic", "-"), ("logistic, balanced", "--")):
            for strategy, colour in zip(THREE, ("black", "#0072B2", "#D55E00"), strict=True):  # Okabe & Ito
                labels, scores = scores_of(of_set[of_set["rung"] == rung], strategy, 1.0, "macro_f1")
                mean, low, high = mean_and_interval(scores)
                axes.plot(labels, mean, dash, color=colour, label=f"{strategy}, {rung}")
                axes.fill_between(labels, low, high, color=colour, alpha=0.06, lw=0)
        axes.set(title=SETS[name].folder, xlabel="labels given", ylabel="macro F1 on the validation photos")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(path, format="png")


def finetuning_arms(is_quick: bool) -> Iterator[tuple[str, str, int, int | None]]:
    """Give strategy, kind of finetuning, seed, and labels at the most."""
    for seed in FEW_SEEDS[: 1 if is_quick else 2]:
        for strategy in ("uniform",) if is_quick else (BEST, "badge"):
            for kind in ("none", "gated", "always"):
                yield strategy, kind, seed, 40 if is_quick else 400


def finetuned(data: Path, results: Path, strategy: str, kind: str, seed: int, max_labels: int) -> pd.DataFrame:
    """Give the curve of a run on the crops whose network is trained again after every 200 labels, or never."""
    file = results / f"finetuning, {strategy}, {kind}, {seed}, {max_labels}.csv"
    if not file.exists():
        logging.getLogger("camera_trap_al").setLevel(logging.WARNING)
        torch.set_num_threads(1)
        photos, folder = SETS["crops"], data / SETS["crops"].folder
        config = RunConfig(
            **NETWORK,
            **{} if kind == "none" else FINETUNING,
            finetuning_gate=kind == "gated",
            pretrained_weights=data / "weights" / "mobilenet_v2_imagenet.pth",
            classifier="logistic",
            active_learning_strategy=strategy,
            active_batch=photos.active_batch,
            max_labels=max_labels,
            candidate_pool=None,
            seed=seed,
        )
        known = SimulationPhotos.prepare(folder, folder / "truth.csv", config, np.load(results / "crops.npy"))
        frozen = known.environment(config, photos.initial_per_class)
        environment = ActiveLearningEnvironment(frozen.dataset, config)
        environment.read_photos()
        curve = pd.DataFrame(rounds(environment, known.truth))
        with written_aside(file) as path:
            curve.assign(strategy=strategy, kind=kind, seed=seed).to_csv(path, index=False)
    return pd.read_csv(file)


def print_finetuning(found: pd.DataFrame) -> None:
    """Print the scores at the end and on the way, and the gain over never training again, by strategy and seed."""
    area = found.groupby(["strategy", "seed", "kind"])["macro_f1"].mean().unstack()
    final = found.sort_values("labels").groupby(["strategy", "seed", "kind"])["macro_f1"].last().unstack()
    for name, table in (("mean on the way", area), ("at the end", final)):
        print(f"\nMacro F1 {name}, by strategy and seed\n")
        print(table.round(3).to_string())
        for kind in (kind for kind in table if kind != "none"):
            gains = table[kind] - table["none"]
            print(f"{kind} less none: {gains.mean():+.3f} (each {', '.join(f'{gain:+.3f}' for gain in gains)})")


if __name__ == "__main__":
    main()
