"""What a run is about to do and what it will cost, on one screen, before any work."""

import shutil
import time
from collections import Counter
from pathlib import Path

import numpy as np

from camera_trap_al.deep_learning.active_learning_manager import ActiveLearningEnvironment
from camera_trap_al.deep_learning.device import describe_device
from camera_trap_al.deep_learning.embedding_trainer import EmbeddingTrainer
from camera_trap_al.files import size_told
from camera_trap_al.photos.images import IMAGE_BYTES
from camera_trap_al.pools import UNLABELLED, Role

__all__ = ["start_screen", "synchronised_by"]

SAMPLE = 32
TRAINING_STEP = 3  # forward, and backward at about twice its cost
MODEL_COPIES = 4  # in embedding/, two in export/, and the one being written
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
SOON = "first question soon: there is little to do before it"


def start_screen(env: ActiveLearningEnvironment, run_dir: Path) -> str:
    """Describe a run: classes and counts, photos found and passed over, device, time, disk, run folder and risks."""
    lines = [
        "camera_trap_al",
        f"  Run folder   {run_dir}",
        *(f"  {title:<12} {text}" for title, text in _photo_lines(env)),
        f"  Classes      {_class_counts(env)}",
        f"  Device       {_device(env)}",
        f"  Disk         {_disk(env, run_dir)}",
        f"  Cache        {env.dataset.cache.describe(env.rows_to_decode())}",
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
    if env.config.candidate_pool is not None and len(env.pools.unlabelled) > env.config.candidate_pool:
        drawn = f"{len(env.candidates)} of the unlabelled photos, drawn by lot, are those that questions are about"
        lines.append(("Candidates", f"{drawn} (candidate_pool)"))
    n_initial = int(np.count_nonzero(env.pools.is_initial & (env.pools.targets != UNLABELLED)))
    if n_initial:
        lines.append(("Known", f"{n_initial} of the unlabelled photos have a label from initial_labels"))
    if env.dataset.catalogue.boxes:
        lines.append(("Boxes", _boxes(env)))
    if env.dataset.catalogue.sequences is not None:
        lines.append(("Bursts", _sequences(env)))
    if env.n_answers:
        lines.append(("Labels", f"{env.n_answers} answers so far, {len(env.pools.to_ask)} photos to go"))
    return lines


def _boxes(env: ActiveLearningEnvironment) -> str:
    catalogue = env.dataset.catalogue
    n_boxes = sum(seen.box is not None for seen in catalogue.boxes.values())
    told = f"of {n_boxes} of {len(catalogue)} photos the animal is cut out, of the others all is seen (detections)"
    n_empty = len(env.pools.decided_empty)
    return f"{told}; {n_empty} without any are {env.config.detections_empty}" if n_empty else told


def _sequences(env: ActiveLearningEnvironment) -> str:
    catalogue, rows = env.dataset.catalogue, env.pools.unlabelled
    sequences = np.zeros(0, np.int64) if catalogue.sequences is None else catalogue.sequences[rows]
    n_sites = len({catalogue.sites[row] for row in rows.tolist()})
    asked = "each photo is asked about on its own" if env.config.group_by == "image" else "one photo of each at a time"
    n_sequences = len(np.unique(sequences[sequences >= 0])) + np.count_nonzero(sequences < 0)
    return f"{n_sequences} in the unlabelled photos, at {n_sites} sites: {asked} (group_by)"


def _class_counts(env: ActiveLearningEnvironment) -> str:
    targets = env.dataset.targets[env.pools.labelled]
    counts = Counter(targets[targets != UNLABELLED].tolist())
    named = [f"{name} {counts[class_id]}" for name, class_id in sorted(env.dataset.class_to_idx.items())]
    more = f" and {len(named) - SHOWN_CLASSES} more" if len(named) > SHOWN_CLASSES else ""
    return f"{len(named)}: {', '.join(named[:SHOWN_CLASSES])}{more}"


def _device(env: ActiveLearningEnvironment) -> str:
    return describe_device(env.embedder.device) if isinstance(env.embedder, EmbeddingTrainer) else "that of your model"


def _disk(env: ActiveLearningEnvironment, run_dir: Path) -> str:
    return f"{size_told(_bytes_needed(env))} needed, {size_told(shutil.disk_usage(run_dir).free)} free"


def _bytes_needed(env: ActiveLearningEnvironment) -> int:
    """Count what is still to be written; each embedding is put down when it comes and again with all others."""
    embedding = env.config.feat_dim * np.float32().nbytes
    needed = (
        len(env.dataset.cache.to_keep(env.rows_to_decode())) * IMAGE_BYTES + 2 * len(env.rows_to_embed()) * embedding
    )
    if env.config.predict_pool != "never":
        needed += _n_others(env) * embedding
    if isinstance(env.embedder, EmbeddingTrainer) and not env.is_trained:
        needed += MODEL_COPIES * sum(tensor.nbytes for tensor in env.embedder.net.state_dict().values())
    return needed


def _n_others(env: ActiveLearningEnvironment) -> int:
    """Count the unlabelled photos that no question is about."""
    return len(env.pools.unlabelled) - len(env.candidates)


def _time(env: ActiveLearningEnvironment) -> str:
    """Estimate from a sample how long decoding, training and embedding take until the first question."""
    in_use, cache = env.rows_to_decode(), env.dataset.cache
    n_once, n_embedded = len(cache.to_keep(in_use)), len(env.rows_to_embed())
    n_trained = 0 if env.is_trained else len(env.pools.labelled) * env.config.training.num_epochs
    n_each_time = len(cache.missing(in_use)) - n_once
    share = n_each_time / max(1, len(in_use))  # of what is used, decoded each time: for the statistics too
    n_decoded = n_once + n_each_time + share * (n_trained + n_embedded)
    if not n_decoded and not n_embedded:
        return SOON
    sample = in_use[:: max(1, len(in_use) // SAMPLE)][:SAMPLE]
    start = time.perf_counter()
    cache.fill(sample)  # to be kept, so that the trial costs nothing
    images, _ = cache.read(sample)
    seconds_to_decode = (time.perf_counter() - start) / max(1, len(sample))
    if not isinstance(env.embedder, EmbeddingTrainer) or not len(images):
        return SOON
    seconds_to_embed = env.embedder.seconds_per_photo(images)
    seconds = n_decoded * seconds_to_decode + (n_embedded + TRAINING_STEP * n_trained) * seconds_to_embed
    told = (
        f"first question in about {_duration(seconds)}, by a trial with {len(images)} photos (fitting the classifier "
        "not counted)"
    )
    if _n_others(env) and env.config.predict_pool != "never":
        told += f"; {_duration(_n_others(env) * (seconds_to_decode + seconds_to_embed))} for all others in the end"
    return told


def _duration(seconds: float) -> str:
    if seconds < 1.5:
        return "a second"
    if seconds < 90:
        return f"{round(seconds)} seconds"
    return f"{round(seconds / 60)} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _risks(env: ActiveLearningEnvironment, run_dir: Path) -> list[str]:
    risks = []
    if len(env.dataset.class_to_idx) == 1:
        risks.append(
            "there is one class only, so that there is nothing to tell apart. Make a folder in train_data for each "
            "other species, empty if there is no photo of it yet (or name them in classes), and start again."
        )
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
