"""A whole run on a small real image set, answered from known labels: no network, no person, a few minutes."""

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from camera_trap_al.labelling.dialogue import say
from camera_trap_al.labelling.sources import KnownLabels
from camera_trap_al.main_scripts import RunResult, run_active_learning
from camera_trap_al.report import learning_curve
from camera_trap_al.run_report import REPORT_FILE

__all__ = ["make_demo_data", "run_demo"]

TRAIN_PER_CLASS, VALIDATION_PER_CLASS, N_UNLABELLED = 3, 20, 300
N_SITES = 4
IMAGE_SIZE = 64


def run_demo(folder: Path, *, seed: int = 1) -> RunResult:
    """Make the demo's photos in `folder`, run active learning on them, and show the learning curve.

    Parameters
    ----------
    folder
        Where photos and run folder go; a run that is there is continued.
    seed
        Seed of the run.
    """
    say(f"The demo learns to read handwritten digits, in {folder}. Its questions are answered from known labels.")
    make_demo_data(folder)
    result = run_active_learning(
        folder / "train",
        folder / "unlabelled",
        folder / "validation",
        output_dir=folder / "Active Learning Files",
        active_batch=20,
        use_pretrained=False,
        embedding_arch="squeezenet1_1",
        embedding_train_lr=0.001,
        embedding_finetuning_period=60,
        embedding_finetuning_lr=0.0003,
        embedding_finetuning_num_epochs=3,
        balanced_loader_num_samples=6,
        feat_dim=64,
        seed=seed,
        label_source=KnownLabels.from_csv(folder / "truth.csv"),
        max_labels=100,
    )
    report = result.export_dir.parent / REPORT_FILE
    say(f"\n{learning_curve(result.validation_history)}\n\nThe page about the run: {report} (open it in a browser)")
    return result


def make_demo_data(folder: Path) -> None:
    """Write scikit-learn's handwritten digits as JPEGs: ``train``, ``unlabelled``, ``validation`` and ``truth.csv``.

    Files that are there already are left alone.
    """
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    used = np.zeros(len(order), np.bool_)
    for name, per_class in (("train", TRAIN_PER_CLASS), ("validation", VALIDATION_PER_CLASS)):
        for digit in range(10):
            chosen = [index for index in order if digits.target[index] == digit and not used[index]][:per_class]
            used[chosen] = True
            for index in chosen:
                _write_photo(folder / name / str(digit) / f"{name}_{index:04d}.jpg", digits.images[index])
    unlabelled = [index for index in order if not used[index]][:N_UNLABELLED]
    truth = []
    for position, index in enumerate(unlabelled):
        site = f"site{position % N_SITES + 1}"
        _write_photo(folder / "unlabelled" / site / f"digit_{index:04d}.jpg", digits.images[index])
        truth.append((f"digit_{index:04d}.jpg", site, str(digits.target[index])))
    _write_truth(folder / "truth.csv", truth)


def _write_photo(path: Path, pixels: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> None:
    if path.exists():  # rewriting would make the run decode it again
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = np.round(pixels * (255 / 16)).astype(np.uint8)  # scikit-learn's digits have grey levels 0 to 16
    Image.fromarray(grey).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC).convert("RGB").save(path)


def _write_truth(path: Path, rows: Iterable[tuple[str, str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("File", "RelativePath", "Species"))
        writer.writerows(rows)
