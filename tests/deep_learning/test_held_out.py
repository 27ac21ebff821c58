"""Which sites or sequences measure the model."""

import numpy as np
import pytest

from camera_trap_al.deep_learning.held_out import choose_held_out


def test_whole_groups_are_held_out_about_a_fifth_with_every_class_on_both_sides() -> None:
    # Ten sites of four photos, each with two classes: any two sites hold a fifth and leave every class on both sides.
    groups = np.repeat(np.arange(10), 4)
    targets = np.concatenate([[site % 3, site % 3, (site + 1) % 3, (site + 1) % 3] for site in range(10)])
    for seed in range(20):
        chosen = choose_held_out(targets, groups, seed)
        held_out = np.unique(groups[chosen])
        assert len(chosen) == 4 * len(held_out) == 8
        assert set(targets[chosen]) == set(np.delete(targets, chosen)) == {0, 1, 2}


def test_rather_no_class_loses_all_its_photos() -> None:
    # Class 1 is at site 0 only: held out, nothing could be learnt of it.
    groups = np.repeat(np.arange(6), 3)
    targets = np.where(groups == 0, 1, 0)
    for seed in range(20):
        assert 0 not in groups[choose_held_out(targets, groups, seed)]


@pytest.mark.parametrize(
    ("targets", "groups"),
    [
        ([0, 0, 1, 1], [5, 5, 5, 5]),  # one group
        ([0, 1], [0, 1]),  # a photo of each class
        ([0, 0, 0, 1, 1, 1, 2, 2, 2], [0, 0, 0, 1, 1, 1, 2, 2, 2]),  # each class in one group
    ],
)
def test_what_cannot_be_split_is_not_split(targets: list[int], groups: list[int]) -> None:
    assert choose_held_out(np.array(targets), np.array(groups), 0).tolist() == []
