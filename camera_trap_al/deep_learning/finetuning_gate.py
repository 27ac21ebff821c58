"""Let a finetuned network replace the old one only if it is not worse on labelled photos that it never learnt from."""

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from camera_trap_al.config import TrainingStage
from camera_trap_al.deep_learning.data_loader import ExtendedImageFolder
from camera_trap_al.deep_learning.embedder import Embedder
from camera_trap_al.pools import FloatArray, IndexArray

__all__ = ["GateVerdict", "compare_networks", "finetune", "hold_out"]

logger = logging.getLogger(__name__)

SHARE_HELD_OUT = 0.2
MOST_OF_A_CLASS = 1 / 3
FEWEST_HELD_OUT = 10  # photos: below that, nothing can be told
RESAMPLES = 500


@dataclass(frozen=True)
class GateVerdict:
    """What a logistic probe makes of the embeddings of two networks, on photos that were held out.

    Attributes
    ----------
    old_macro_f1, new_macro_f1
        Macro F1 with the embeddings of each network, 0 to 1.
    standard_error
        Of their difference, from resampling whole groups.
    """

    old_macro_f1: float
    new_macro_f1: float
    standard_error: float

    @property
    def passes(self) -> bool:
        """Whether the new network is not worse by more than one standard error."""
        return self.new_macro_f1 >= self.old_macro_f1 - self.standard_error

    def __str__(self) -> str:
        return (
            f"macro F1 of a logistic probe on held-out photos {self.new_macro_f1:.3f}, {self.old_macro_f1:.3f} before "
            f"(standard error of the difference {self.standard_error:.3f})"
        )


def finetune(
    embedder: Embedder,
    dataset: ExtendedImageFolder,
    rows: IndexArray,
    stage: TrainingStage,
    rng: np.random.Generator,
    old: FloatArray,
) -> FloatArray | None:
    """Finetune a network with 80 % of the labelled photos, and undo it if it is worse on the other 20 %.

    Where too few photos could be held out, or the network cannot go back, it is finetuned with all of them.

    Parameters
    ----------
    embedder
        The network; changed in place.
    dataset
        The photos and their labels.
    rows
        (n,) labelled rows.
    stage
        How it is finetuned.
    rng
        Source of everything random.
    old
        (n, n_features) fp32 embeddings of `rows` by the network as it is, NaN where a photo cannot be read.

    Returns
    -------
    The embeddings of `rows` by the new network, if they were made and it replaced the old one.
    """
    groups = dataset.groups(rows)
    is_held_out = hold_out(dataset.targets[rows], groups, rng)
    before = embedder.snapshot()
    if before is None or np.count_nonzero(is_held_out) < FEWEST_HELD_OUT:
        logger.info("Finetuning: nothing can be held out to judge it by, so it is accepted as it comes")
        embedder.fit(dataset, rows, stage, rng)
        return None
    logger.info("Finetuning: %d of %d labelled photos are held out", np.count_nonzero(is_held_out), len(rows))
    digest = embedder.digest()
    embedder.fit(dataset, rows[~is_held_out], stage, rng)
    if embedder.digest() == digest:
        return None
    new = embedder.embed(dataset, rows)
    is_read = np.isfinite(old).all(axis=1) & np.isfinite(new).all(axis=1)
    verdict = compare_networks(
        old[is_read], new[is_read], dataset.targets[rows[is_read]], groups[is_read], is_held_out[is_read], rng
    )
    if not verdict.passes:
        embedder.restore(before)
        logger.warning("Finetuning made the network worse and is undone: %s", verdict)
        return None
    logger.info("Finetuning: the new network replaces the old one: %s", verdict)
    return new


def hold_out(targets: IndexArray, groups: IndexArray, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Choose a fifth of the photos, in whole groups, at random; of each class at least two thirds stay.

    Where whole groups do not make up half of that, as when all answers lie in one folder, single photos are chosen.

    Parameters
    ----------
    targets
        (n,) class ids.
    groups
        (n,) folder or sequence of each photo.
    rng
        Source of the choice.

    Returns
    -------
    (n,) which photos are held out.
    """
    in_groups = _held_out(targets, groups, rng)
    if np.count_nonzero(in_groups) >= SHARE_HELD_OUT * len(targets) / 2:
        return in_groups
    logger.info("Finetuning: the labelled photos lie in too few folders to hold out whole ones; single ones are")
    return _held_out(targets, np.arange(len(targets)), rng)


def _held_out(targets: IndexArray, groups: IndexArray, rng: np.random.Generator) -> NDArray[np.bool_]:
    room = round(SHARE_HELD_OUT * len(targets))
    room_of_class = (MOST_OF_A_CLASS * np.bincount(targets)).astype(np.int64)
    is_held_out = np.zeros(len(targets), np.bool_)
    by_group = np.argsort(groups, kind="stable")
    members = np.split(by_group, np.flatnonzero(np.diff(groups[by_group])) + 1)
    for group in rng.permutation(len(members)):
        taken, n_taken = np.unique(targets[members[group]], return_counts=True)
        if len(members[group]) <= room and (n_taken <= room_of_class[taken]).all():
            is_held_out[members[group]] = True
            room_of_class[taken] -= n_taken
            room -= len(members[group])
    return is_held_out


def compare_networks(
    old: FloatArray,
    new: FloatArray,
    targets: IndexArray,
    groups: IndexArray,
    is_held_out: NDArray[np.bool_],
    rng: np.random.Generator,
) -> GateVerdict:
    """Compare two networks by a logistic regression on the embeddings of each.

    Parameters
    ----------
    old, new
        (n, n_features) embeddings of the labelled photos by each network.
    targets, groups
        (n,) class ids, and folders or sequences.
    is_held_out
        (n,) what to measure with; the probes learn from the rest.
    rng
        Source of the resampling.
    """
    truth = targets[is_held_out]
    counts = [_counts(_probe(each, targets, is_held_out), truth, groups[is_held_out]) for each in (old, new)]
    n_groups = counts[0].shape[1]
    weights = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), RESAMPLES)  # the bootstrap, in one go
    resampled = [_macro_f1(np.einsum("rg,kgc->krc", weights, each)) for each in counts]
    old_f1, new_f1 = (float(_macro_f1(each.sum(axis=1)[:, None])[0]) for each in counts)
    return GateVerdict(old_f1, new_f1, float(np.std(resampled[1] - resampled[0], ddof=1)))


def _probe(embeddings: FloatArray, targets: IndexArray, is_held_out: NDArray[np.bool_]) -> IndexArray:
    """Learn from the photos that are not held out; predict the class ids of those that are."""
    known = targets[~is_held_out]
    if len(np.unique(known)) == 1:
        return np.full(np.count_nonzero(is_held_out), known[0])
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    predicted: IndexArray = probe.fit(embeddings[~is_held_out], known).predict(embeddings[is_held_out])
    return predicted


def _counts(predicted: IndexArray, truth: IndexArray, groups: IndexArray) -> IndexArray:
    """Count (3, n_groups, n_classes): rightly predicted, predicted, and true photos of each class in each group."""
    classes, numbers = np.unique(truth), np.unique(groups, return_inverse=True)[1]
    counts = np.zeros((3, numbers.max() + 1, len(classes)), np.int64)
    of_truth = np.searchsorted(classes, truth)
    is_known = np.isin(predicted, classes)  # of others there is nothing to be right about
    of_prediction = np.searchsorted(classes, predicted[is_known])
    np.add.at(counts[2], (numbers, of_truth), 1)
    np.add.at(counts[1], (numbers[is_known], of_prediction), 1)
    np.add.at(counts[0], (numbers, of_truth), predicted == truth)
    return counts


def _macro_f1(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Average F1 over classes for (3, n_samples, n_classes) counts; a class that a sample lacks does not count."""
    right, predicted, true = counts
    f1 = np.divide(2 * right, predicted + true, out=np.zeros(right.shape), where=predicted + true > 0)
    mean: NDArray[np.float64] = (f1 * (true > 0)).sum(axis=1) / np.maximum((true > 0).sum(axis=1), 1)
    return mean
