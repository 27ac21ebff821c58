"""Labels that count for their burst, in a run without photos: embeddings are given."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from camera_trap_al.classifier import EmbeddingScaler
from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning import run_propagation
from camera_trap_al.deep_learning.embedding_table import EmbeddingTable
from camera_trap_al.deep_learning.fitted_classifier import FittedClassifier
from camera_trap_al.deep_learning.run_propagation import RunPropagation
from camera_trap_al.exceptions import CheckpointError
from camera_trap_al.photos.catalogue import Catalogue
from camera_trap_al.pools import REFUSED, UNLABELLED, FloatArray, IndexArray, Pools, Role

N_BURSTS, LENGTH = 30, 3
N = N_BURSTS * LENGTH
DEER, FOX = 0, 1


class Sure:
    """A classifier that is sure of the class of some photos, by their only feature, and of no other."""

    def __init__(self, class_ids: dict[int, int]) -> None:
        self._class_ids = class_ids

    def probabilities(self, embeddings: FloatArray) -> FloatArray:
        found = np.full((len(embeddings), 2), 0.5, np.float32)
        for position, value in enumerate(embeddings[:, 0].tolist()):
            if round(value) in self._class_ids:
                found[position] = np.eye(2)[self._class_ids[round(value)]]
        return found


def fitted(class_ids: dict[int, int] | None = None, network: str = "network") -> FittedClassifier:
    unscaled = EmbeddingScaler(np.zeros(1, np.float32), np.ones(1, np.float32), identity=True)
    return FittedClassifier(unscaled, Sure(class_ids or {}), {"network": network})  # type: ignore[arg-type]


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
    propagation.update(table, fitted())
    rows, targets, weights = propagation.training_set()
    assert (rows.tolist(), targets.tolist()) == ([0, 1, 2], [DEER] * 3)
    np.testing.assert_allclose(weights, [1, 1 / 3, 1 / 3])


def test_without_the_setting_nothing_is_propagated() -> None:
    dataset, propagation, table = made(None)
    dataset.targets[0] = DEER
    propagation.update(table, fitted())
    assert propagation.training_set()[0].tolist() == [0] and propagation.training_set()[2] is None


def test_a_correction_takes_the_labels_of_its_burst_with_it() -> None:
    dataset, propagation, table = made()
    dataset.targets[[0, 3]] = DEER
    propagation.update(table, fitted())
    dataset.targets[0] = FOX
    propagation.update(table, fitted())
    assert dataset.pools.propagated[:6].tolist() == [UNLABELLED, FOX, FOX, UNLABELLED, DEER, DEER]


def test_what_was_labelled_and_is_set_aside_counts_for_nobody() -> None:
    dataset, propagation, table = made()
    dataset.targets[0] = DEER
    propagation.update(table, fitted())
    dataset.pools.is_set_aside[0] = True
    propagation.update(table, fitted())
    assert propagation.rows.tolist() == []


def test_photos_whose_sequence_is_no_longer_known_learn_with_no_label_of_another() -> None:
    """As at a start that asks for times otherwise: photos without a sequence are not mates of each other."""
    dataset, propagation, table = made()
    dataset.targets[0] = DEER
    propagation.update(table, fitted())
    dataset.catalogue.sequences[[0, 1, 2]] = -1
    again = RunPropagation(dataset, RunConfig(propagate="sequence"))
    again.update(table, fitted())
    assert again.rows.tolist() == []


def test_a_second_label_decides_again() -> None:
    dataset, propagation, table = made()
    dataset.targets[0] = DEER
    propagation.update(table, fitted())
    dataset.targets[2] = FOX
    propagation.update(table, fitted())
    assert propagation.rows.tolist() == [1]
    assert dataset.pools.propagated[1] == DEER, "nearer to the first"


def test_photos_without_an_embedding_are_decided_about_once_they_have_one() -> None:
    dataset, propagation, table = made()
    later = EmbeddingTable(N)
    some = np.delete(np.arange(N), 1)
    later.put(some, table.of(some), np.ones(N - 1, np.uint64), "network")
    dataset.targets[0] = DEER
    propagation.update(later, fitted())
    assert propagation.rows.tolist() == [2]
    propagation.update(table, fitted())
    assert propagation.rows.tolist() == [1, 2]


def test_what_measures_the_model_never_learns() -> None:
    dataset, propagation, table = made()
    dataset.pools.audit_lots[1] = 0.5
    dataset.pools.is_held_out[2] = True
    dataset.targets[0] = DEER
    propagation.update(table, fitted())
    assert propagation.rows.tolist() == []
    assert REFUSED not in dataset.pools.propagated


def test_a_photo_that_the_model_is_sure_shows_something_else_is_left_out_from_the_first_round_on() -> None:
    dataset, propagation, table = made()
    dataset.targets[0] = DEER
    propagation.update(table, fitted({3: FOX}))  # the feature of row 2
    assert dataset.pools.propagated[:3].tolist() == [UNLABELLED, DEER, REFUSED]


def test_a_model_of_another_network_decides_nothing() -> None:
    dataset, propagation, table = made()
    dataset.targets[0] = DEER
    with pytest.raises(CheckpointError, match="another network"):
        propagation.update(table, fitted(network="the one before"))


def test_a_new_network_decides_again_about_what_was_refused_too() -> None:
    dataset, propagation, table = made()
    dataset.targets[0] = DEER
    propagation.update(table, fitted({3: FOX}))
    propagation.decide_again()
    assert propagation.rows.tolist() == []
    propagation.update(table, fitted({1: FOX}))
    assert dataset.pools.propagated[:3].tolist() == [UNLABELLED, REFUSED, DEER]


def test_photos_that_it_must_be_decided_about_are_in_use_though_nobody_else_needs_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dataset, propagation, table = made()
    assert propagation.rows_in_use.tolist() == []
    dataset.targets[[0, 30]] = DEER
    assert propagation.rows_in_use.tolist() == [1, 2, 31, 32]
    propagation.update(table, fitted({3: FOX}))
    assert propagation.rows_in_use.tolist() == [1, 31, 32], "that which was refused is not needed any more"
    dataset.targets[1] = DEER
    assert propagation.rows_in_use.tolist() == [2, 31, 32], "until there is another label"
    propagation.decide_again()
    monkeypatch.setattr(run_propagation, "MOST_MATES", 1)
    assert propagation.rows_in_use.tolist() == [2, 31], "one of each burst"
    propagation.update(table, fitted())
    dataset.pools.propagated[32] = UNLABELLED
    assert 32 not in propagation.rows_in_use, "and no other one when it was decided about that"
