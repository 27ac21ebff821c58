"""Whatever the strategy: one photo of a burst at a time, since the others of the burst show nearly the same."""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from camera_trap_al.active_learning_methods.base import PoolView, QueryStrategy
from camera_trap_al.exceptions import ConfigError
from camera_trap_al.photos.sequences import one_each
from camera_trap_al.pools import IndexArray

__all__ = ["choose_one_per_sequence"]


def choose_one_per_sequence(
    strategy: QueryStrategy, view: PoolView, n: int, rng: np.random.Generator, sequences: IndexArray
) -> IndexArray:
    """Let a strategy choose photos of different sequences, first of those without a label.

    The strategy chooses among all photos of these sequences. Of several photos of one sequence only the first that it
    chose is taken, and it chooses again among the other sequences, until there are n; each time so many photos as
    should be enough, if as many are of one sequence as the time before. When no sequence without a label is left, it
    goes on with one photo of each of the others, and then with second photos.

    Parameters
    ----------
    strategy
        Any strategy; it knows nothing of sequences.
    view
        What it sees.
    n
        How many rows, at least 1.
    rng
        Source of its random numbers.
    sequences
        (n_rows,) numbers, equal for photos of one sequence, negative for photos that are one each.

    Returns
    -------
    min(n, number of unlabelled rows) rows in the order in which they were chosen.

    Raises
    ------
    EmptyPoolError
        If nothing is unlabelled.
    ConfigError
        If the strategy chooses nothing.
    """
    numbers = one_each(sequences)
    turn = np.zeros(numbers.max(initial=-1) + 1, np.int64)  # of each sequence: the lowest comes next
    turn[numbers[view.labelled]] = 1
    chosen, left, n_asked = np.zeros(0, np.int64), view.unlabelled, n
    while True:
        turns = turn[numbers[left]]
        next_ones = left[turns == turns.min(initial=turn.max(initial=0))]
        n_asked = min(n_asked, max(n - len(chosen), len(next_ones) - 1))  # asked for all, it does not choose
        picked = strategy.select_batch(replace(view, unlabelled=next_ones), n_asked, rng)
        new = picked[_is_first_of_its_sequence(numbers[picked])][: n - len(chosen)]
        if not len(new):
            raise ConfigError(f"{type(strategy).__name__}.select_batch must choose {n_asked} photos; it chose none.")
        turn[numbers[new]] += 2
        chosen, left = np.concatenate([chosen, new]), left[~np.isin(left, new)]
        if len(chosen) == n or not len(left):
            return chosen
        n_asked = math.ceil((n - len(chosen)) * len(picked) / len(new))


def _is_first_of_its_sequence(numbers: IndexArray) -> NDArray[np.bool_]:
    is_first = np.zeros(len(numbers), np.bool_)
    is_first[np.unique(numbers, return_index=True)[1]] = True
    return is_first
