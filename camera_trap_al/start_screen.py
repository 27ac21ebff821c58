"""What a run is about to do and what it will cost, on one screen, before any work."""

import shutil
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from camera_trap_al.deep_learning.active_learning_manager import ActiveLearningEnvironment
from camera_trap_al.deep_learning.device import describe_device
from camera_trap_al.deep_learning.embedding_trainer import EmbeddingTrainer
from camera_trap_al.exceptions import DataError
from camera_trap_al.images import IMAGE_BYTES, read_photo
from camera_trap_al.pools import UNLABELLED, IndexArray, Role

__all__ = ["start_screen", "synchronised_by"]

SAMPLE = 32
TRAINING_STEP = 3  # forward, and backward at about twice its cost
MODEL_COPIES = 3  # in embedding/, in export/, and the one being written
SYNCHRONISERS = {  # a word of the folder's path, and the program that it is a sign of
    "OneDrive": "OneDrive",
    "Dropbox": "Dropbox",
    "Google Drive": "Google Drive",
    "GoogleDrive": "Google Drive",
    "iCloud": "iCloud",
    "com~apple~CloudDocs": "iCloud",  # what a Mac calls it on disk
    "Nextcloud": "Nextcloud",
    "ownCloud": "ownCloud",
    "Box Sync": "Box",
    "Box-Box": "Box",
}
SHOWN_CLASSES = 30


def start_screen(env: ActiveLearningEnvironment, run_dir: Path) -> str:
    """Describe a run: classes and counts, photos found and passed over, device, time, disk, run folder and risks."""
    lines = [
        "camera_trap_al",
        f"  Run folder   {run_dir}",
        *(f"  {title:<12} {text}" for title, text in _photo_lines(env)),
        f"  Classes      {_class_counts(env)}",
        f"  Device       {_device(env)}",
        f"  Disk         {_disk(env, run_dir)}",
        f"  Time         {_time(env)}",
    ]
    return "\n".join(lines + [f"  WARNING: {risk}" for risk in _risks(env, run_dir)])


def synchronised_by(folder: Path) -> str | None:
    """Name the program that synchronises a folder, told by the folder names above it; None if there is no sign."""
    parts = " ".join(folder.parts).casefold()
    return next((program for sign, program in SYNCHRONISERS.items() if sign.casefold() in parts), None)


def _photo_lines(env: ActiveLearningEnvironment) -> list[tuple[str, str]]:
    titles = {Role.TRAIN: "Training", Role.UNLABELLED: "Unlabelled", Role.VALIDATION: "Validation"}
    lines = []
    for role, scan in sorted(env.scans.items()):
        skipped = [f"{count} {suffix or 'without suffix'}" for suffix, count in sorted(scan.skipped.items())]
        skipped += [f"{scan.n_top_level} photos directly in the folder"] if scan.n_top_level else []
        passed_over = f" (passed over: {', '.join(skipped)})" if skipped else ""
        lines.append((titles[role], f"{len(scan.photos)} photos in {scan.root}{passed_over}"))
    if env.n_answers:
        lines.append(("Labels", f"{env.n_answers} answers so far, {len(env.pools.unlabelled)} photos to go"))
    return lines


def _class_counts(env: ActiveLearningEnvironment) -> str:
    targets = env.dataset.targets[env.pools.labelled]
    counts = Counter(targets[targets != UNLABELLED].tolist())
    named = [f"{name} {counts[class_id]}" for name, class_id in sorted(env.dataset.class_to_idx.items())]
    more = f" and {len(named) - SHOWN_CLASSES} more" if len(named) > SHOWN_CLASSES else ""
    return f"{len(named)}: {', '.join(named[:SHOWN_CLASSES])}{more}"


def _device(env: ActiveLearningEnvironment) -> str:
    return describe_device(env.embedder.device) if isinstance(env.embedder, EmbeddingTrainer) else "that of your model"


def _disk(env: ActiveLearningEnvironment, run_dir: Path) -> str:
    return f"{_bytes_needed(env) / 1e9:.1f} GB needed, {shutil.disk_usage(run_dir).free / 1e9:.1f} GB free"


def _bytes_needed(env: ActiveLearningEnvironment) -> int:
    """Count what is still to be written."""
    n_decoded = len(env.dataset.cache.missing(env.pools.usable)) if env.dataset.cache.is_kept else 0
    needed = n_decoded * IMAGE_BYTES + len(env.rows_to_embed()) * env.config.feat_dim * np.float32().nbytes
    if isinstance(env.embedder, EmbeddingTrainer) and not env.is_trained:
        needed += MODEL_COPIES * sum(tensor.nbytes for tensor in env.embedder.net.state_dict().values())
    return needed


def _time(env: ActiveLearningEnvironment) -> str:
    """Estimate from a sample how long decoding, training and embedding take until the first question."""
    n_embedded = len(env.rows_to_embed())
    n_trained = 0 if env.is_trained else len(env.pools.labelled) * env.config.training.num_epochs
    n_decoded = len(env.dataset.cache.missing(env.pools.usable))
    if not env.dataset.cache.is_kept:
        n_decoded += n_decoded + n_trained + n_embedded  # also for the pixel statistics, and each time it is used
    usable = env.pools.usable
    sample = usable[:: max(1, len(usable) // SAMPLE)][: SAMPLE if n_decoded or n_embedded else 0]
    start = time.perf_counter()
    images = _readable(env, sample)
    seconds_to_decode = (time.perf_counter() - start) / max(1, len(sample)) / env.dataset.cache.threads
    if not isinstance(env.embedder, EmbeddingTrainer) or not len(images):
        return "first question soon: there is little to do before it"
    seconds_to_embed = env.embedder.seconds_per_photo(images)
    seconds = n_decoded * seconds_to_decode + (n_embedded + TRAINING_STEP * n_trained) * seconds_to_embed
    return (
        f"first question in about {_duration(seconds)}, by a trial with {len(images)} photos (fitting the classifier "
        "not counted)"
    )


def _readable(env: ActiveLearningEnvironment, rows: IndexArray) -> torch.Tensor:
    images = []
    for row in rows:
        try:
            images.append(read_photo(env.dataset.catalogue.path(int(row))))
        except DataError:  # set aside and listed when all photos are read
            continue
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) if images else torch.empty(0, 3, 1, 1)


def _duration(seconds: float) -> str:
    if seconds < 1.5:
        return "a second"
    if seconds < 90:
        return f"{round(seconds)} seconds"
    return f"{round(seconds / 60)} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _risks(env: ActiveLearningEnvironment, run_dir: Path) -> list[str]:
    risks = []
    free = shutil.disk_usage(run_dir).free
    if _bytes_needed(env) > free:
        risks.append(f"the disk of {run_dir} has too little room. Free some, or choose an output_dir on another disk.")
    program = synchronised_by(run_dir)
    if program:
        risks.append(
            f"the run folder seems to be synchronised by {program}, which can lock or duplicate files while the run "
            "writes them. Choose an output_dir outside it."
        )
    for role, scan in env.scans.items():
        if run_dir.resolve().is_relative_to(scan.root.resolve()):
            risks.append(f"the run folder lies inside {role.argument} ({scan.root}). Choose an output_dir outside it.")
    return risks
