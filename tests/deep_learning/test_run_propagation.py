"""Labels that count for their burst, in a run without photos: embeddings are given."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning.embedding_table import EmbeddingTable
from camera_trap_al.deep_learning.run_propagation import RunPropagation
from camera_trap_al.photo_folders import Catalogue
from camera_trap_al.pools import REFUSED, UNLABELLED, IndexArray, Pools, Role

N_BURSTS, LENGTH = 30, 3
N = N_BURSTS * LENGTH
DEER, FOX = 0, 1


@dataclass
class DataSet:
    """What is looked at of a data set."""

    catalogue: Catalogue
    pools: Pools
    targets: IndexArray
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return N


def made(propagate: str | None = "sequence") -> tuple[Any, RunPropagation, EmbeddingTable]:
    """Thirty bursts of three photos, far apart; those of a burst lie together."""
    sequences = np.repeat(np.arange(N_BURSTS), LENGTH)
    pools = Pools(np.full(N, Role.UNLABELLED, np.int8), np.full(N, UNLABELLED), np.zeros(N, np.bool_))
    catalogue = Catalogue({Role.UNLABELLED: Path()}, ("deer", "fox"), [str(row) for row in range(N)], pools, sequences)
    dataset = DataSet(catalogue, pools, pools.targets, catalogue.classes)
    table = EmbeddingTable(N)
    rows = np.arange(N)
    values = (100 * sequences + np.array([0, 1, 3])[rows % LENGTH])[:, None].astype(np.float32)
    table.put(rows, values, np.ones(N, np.uint64), "network")
    return dataset, RunPropagation(dataset, RunConfig(propagate=propagate)), table


def test_weights_are_one_by_the_length_of_the_sequence() -> None:
    dataset, propagation, table = made()
    dataset.targets[0] = DEER
    propagation.update(table, None)
    rows, targets, weights = propagation.training_set()
    assert (rows.tolist(), targets.tolist()) == ([0, 1, 2], [DEER] * 3)
    np.testing.assert_allclose(weights, [1, 1 / 3, 1 / 3])


def test_without_the_setting_nothing_is_propagated() -> None:
    dataset, propagation, table = made(None)
    dataset.targets[0] = DEER
    propagation.update(table, None)
    assert propagation.training_set()[0].tolist() == [0] and propagation.training_set()[2] is None


def test_a_correction_takes_the_labels_of_its_burst_with_it() -> None:
    dataset, propagation, table = made()
    dataset.targets[[0, 3]] = DEER
    propagation.update(table, None)
    dataset.targets[0] = FOX
    propagation.update(table, None)
    assert dataset.pools.propagated[:6].tolist() == [UNLABELLED, FOX, FOX, UNLABELLED, DEER, DEER]


def test_what_was_labelled_and_is_set_aside_counts_for_nobody() -> None:
    dataset, propagation, table = made()
    dataset.targets[0] = DEER
    propagation.update(table, None)
    dataset.pools.is_set_aside[0] = True
    propagation.update(table, None)
    assert propagation.rows.tolist() == []


def test_a_second_label_decides_again() -> None:
    dataset, propagation, table = made()
    dataset.targets[0] = DEER
    propagation.update(table, None)
    dataset.targets[2] = FOX
    propagation.update(table, None)
    assert propagation.rows.tolist() == [1]
    assert dataset.pools.propagated[1] == DEER, "nearer to the first"


def test_photos_without_an_embedding_are_decided_about_once_they_have_one() -> None:
    dataset, propagation, table = made()
    later = EmbeddingTable(N)
    some = np.delete(np.arange(N), 1)
    later.put(some, table.of(some), np.ones(N - 1, np.uint64), "network")
    dataset.targets[0] = DEER
    propagation.update(later, None)
    assert propagation.rows.tolist() == [2]
    propagation.update(table, None)
    assert propagation.rows.tolist() == [1, 2]


def test_what_measures_the_model_never_learns() -> None:
    dataset, propagation, table = made()
    dataset.pools.audit_lots[1] = 0.5
    dataset.pools.is_held_out[2] = True
    dataset.targets[0] = DEER
    propagation.update(table, None)
    assert propagation.rows.tolist() == []
    assert REFUSED not in dataset.pools.propagated
