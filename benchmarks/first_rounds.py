"""Run the real pipeline on the shared photos with known labels; print accuracy per round and time per stage.

    python benchmarks/first_rounds.py DATA crops --strategies margin uniform --seeds 1 2 3
    python benchmarks/first_rounds.py DATA cifar --strategies margin uniform --seeds 1 2 3
    python benchmarks/first_rounds.py DATA crops --strategies margin --seeds 1 --finetune

DATA holds `camera_trap_crops`, `cifar10_longtail` and `weights/mobilenet_v2_imagenet.pth`.
"""

import argparse
import logging
import os
import platform
import re
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev

import numpy
import sklearn
import torch
import torchvision

from camera_trap_al import RunResult, run_active_learning
from camera_trap_al.labelling import KnownLabels

ROUNDS = {"crops": ("camera_trap_crops", 8, 20), "cifar": ("cifar10_longtail", 10, 50)}
FINETUNING = {"embedding_finetuning_period": 60, "embedding_finetuning_num_epochs": 3}


class StageTimes(logging.Handler):
    """Adds up the seconds that the package's log gives for each stage; numbers in its name do not matter."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def emit(self, record: logging.LogRecord) -> None:
        """Take one log line."""
        found = re.fullmatch(r"(.+): done in ([\d.]+) s", record.getMessage())
        if found:
            self.seconds[re.sub(r"\d+", "N", found[1])].append(float(found[2]))


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("dataset", choices=ROUNDS)
    parser.add_argument("--strategies", nargs="+", default=["margin", "uniform"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--finetune", action="store_true", help="train again after every 60 answers, 3 epochs")
    chosen = parser.parse_args()
    times = StageTimes()
    logging.getLogger().setLevel(logging.INFO)
    logging.getLogger("camera_trap_al").addHandler(times)
    print(f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads, ", end="")
    print(
        f"torch {torch.__version__}, torchvision {torchvision.__version__}, scikit-learn {sklearn.__version__}, ",
        end="",
    )
    print(f"numpy {numpy.__version__}")
    for strategy in chosen.strategies:
        runs = [run_once(chosen.data, chosen.dataset, strategy, seed, chosen.finetune) for seed in chosen.seeds]
        print_rounds(f"{chosen.dataset}, {strategy}, seeds {chosen.seeds}", runs)
    print_stages(times, len(chosen.strategies) * len(chosen.seeds))


def run_once(data: Path, dataset: str, strategy: str, seed: int, finetune: bool) -> RunResult:
    """Make one whole run in a folder that is thrown away."""
    folder, n_rounds, batch = ROUNDS[dataset]
    with tempfile.TemporaryDirectory() as run_dir:
        return run_active_learning(
            data / folder / "train",
            data / folder / "unlabelled",
            data / folder / "validation",
            output_dir=run_dir,
            active_batch=batch,
            active_learning_strategy=strategy,
            embedding_arch="mobilenet_v2",
            pretrained_weights=data / "weights" / "mobilenet_v2_imagenet.pth",
            label_source=KnownLabels.from_csv(data / folder / "truth.csv"),
            max_labels=n_rounds * batch,
            seed=seed,
            **(FINETUNING if finetune else {}),
        )


def print_rounds(title: str, runs: list[RunResult]) -> None:
    """Print one line per round: mean over runs, and standard deviation where there are several."""
    print(f"\n{title}\n  labels  accuracy          macro F1")
    for points in zip(*(run.validation_history for run in runs), strict=True):
        accuracy, macro_f1 = ([point[name] for point in points] for name in ("accuracy", "macro_f1"))
        print(f"  {points[0]['train_set_size']:>6}  {spread(accuracy)}  {spread(macro_f1)}", flush=True)


def spread(values: list[float]) -> str:
    """Write mean and standard deviation."""
    return f"{mean(values):.3f} +- {stdev(values):.3f}" if len(values) > 1 else f"{values[0]:.3f}         "


def print_stages(times: StageTimes, n_runs: int) -> None:
    """Print how long each stage took, per run."""
    print("\nseconds per run  times per run  stage")
    for name, seconds in sorted(times.seconds.items(), key=lambda item: -sum(item[1])):
        print(f"{sum(seconds) / n_runs:>15.1f}  {len(seconds) / n_runs:>13.1f}  {name}")


if __name__ == "__main__":
    main()
