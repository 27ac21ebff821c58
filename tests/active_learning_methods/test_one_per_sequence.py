"""One photo of a burst at a time, with every strategy."""

import numpy as np
import pytest

from camera_trap_al.active_learning_methods import STRATEGIES
from camera_trap_al.active_learning_methods.base import PoolView, QueryStrategy
from camera_trap_al.active_learning_methods.one_per_sequence import choose_one_per_sequence
from camera_trap_al.exceptions import ConfigError, EmptyPoolError
from camera_trap_al.pools import UNLABELLED, FloatArray, IndexArray

N_SEQUENCES, LENGTH = 12, 5


class Softmax:
    """Probabilities that follow from the first features."""

    def probabilities(self, embeddings: FloatArray) -> FloatArray:
        scores = np.exp(embeddings[:, :3])
        return (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)


def made_view(labelled: list[int], unlabelled: list[int] | None = None) -> tuple[PoolView, IndexArray]:
    """Sixty photos in twelve bursts of five; those of a burst are nearly the same."""
    rng = np.random.default_rng(0)
    sequences = np.repeat(np.arange(N_SEQUENCES), LENGTH)
    middles = rng.normal(size=(N_SEQUENCES, 6))
    embeddings = (middles[sequences] + 0.01 * rng.normal(size=(len(sequences), 6))).astype(np.float32)
    targets = np.full(len(sequences), UNLABELLED)
    targets[labelled] = np.arange(len(labelled)) % 3
    rest = np.setdiff1d(np.arange(len(sequences)), labelled) if unlabelled is None else np.array(unlabelled)
    view = PoolView(
        embeddings=embeddings,
        targets=targets,
        labelled=np.array(labelled, np.int64),
        unlabelled=rest.astype(np.int64),
        classes=("a", "b", "c"),
        classifier=Softmax(),
    )
    return view, sequences


def choose(name: str, view: PoolView, n: int, sequences: IndexArray, seed: int = 1) -> IndexArray:
    return choose_one_per_sequence(STRATEGIES[name](), view, n, np.random.default_rng(seed), sequences)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_round_asks_about_one_photo_of_each_burst_and_none_that_has_a_label(name: str) -> None:
    view, sequences = made_view([0, 1, 2, 7])  # of the bursts 0 and 1
    chosen = choose(name, view, 10, sequences)
    assert sorted(sequences[chosen].tolist()) == list(range(2, 12))
    assert set(chosen.tolist()) <= set(view.unlabelled.tolist())
    assert np.array_equal(chosen, choose(name, view, 10, sequences)), "the same random numbers, the same photos"


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_round_is_topped_up_first_from_bursts_with_a_label_and_then_with_second_photos(name: str) -> None:
    view, sequences = made_view([0, 5, 10])  # ten bursts but one have no label
    chosen = choose(name, view, 20, sequences)
    assert len(set(chosen.tolist())) == 20
    assert set(sequences[chosen[:9]].tolist()) == set(range(3, 12)), "those without a label first"
    assert set(sequences[chosen[9:12]].tolist()) == {0, 1, 2}, "then one of each other"
    assert len(set(sequences[chosen[12:]].tolist())) == 8, "then second ones, of as many as possible"


@pytest.mark.parametrize("name", STRATEGIES)
def test_photos_that_are_one_each_are_chosen_as_the_strategy_alone_would(name: str) -> None:
    view, sequences = made_view([0, 5, 10])
    for numbers in (np.full(len(sequences), -1), np.arange(len(sequences))):
        alone = STRATEGIES[name]().select_batch(view, 8, np.random.default_rng(1))
        assert np.array_equal(choose(name, view, 8, numbers), alone)


def test_it_gives_all_there_are_and_refuses_to_choose_from_nothing() -> None:
    view, sequences = made_view([0], [1, 2, 9])
    assert sorted(choose("margin", view, 100, sequences).tolist()) == [1, 2, 9]
    view, sequences = made_view([0], [])
    with pytest.raises(EmptyPoolError):
        choose("margin", view, 5, sequences)


def test_the_photo_of_a_burst_is_the_one_that_the_strategy_wants_most() -> None:
    # By hand: of each burst, the photo whose two likeliest classes are nearest.
    view, sequences = made_view([0, 5, 10])
    probabilities = np.sort(view.probabilities(), axis=1)
    margins = probabilities[:, -1] - probabilities[:, -2]
    best = {
        sequence: int(view.unlabelled[of_sequence][margins[of_sequence].argmin()])
        for sequence in range(3, 12)
        for of_sequence in [sequences[view.unlabelled] == sequence]
    }
    assert sorted(choose("margin", view, 9, sequences).tolist()) == sorted(best.values())


class Watched(QueryStrategy):
    """Chooses the rows in their order, burst after burst, and counts how often it is asked."""

    n_calls = 0

    def choose(self, view: PoolView, n: int, rng: np.random.Generator) -> IndexArray:
        self.n_calls += 1
        return view.unlabelled[:n]


def long_bursts(n_sequences: int, length: int) -> tuple[PoolView, IndexArray]:
    sequences = np.repeat(np.arange(n_sequences), length)
    view = PoolView(
        embeddings=np.zeros((len(sequences), 1), np.float32),
        targets=np.full(len(sequences), UNLABELLED),
        labelled=np.zeros(0, np.int64),
        unlabelled=np.arange(len(sequences)),
        classes=("a", "b", "c"),
        classifier=Softmax(),
    )
    return view, sequences


def test_a_strategy_that_wants_all_photos_of_a_burst_is_not_asked_once_for_each_burst() -> None:
    view, sequences = long_bursts(200, 50)
    strategy = Watched()
    chosen = choose_one_per_sequence(strategy, view, 100, np.random.default_rng(0), sequences)
    assert sequences[chosen].tolist() == list(range(100))
    assert strategy.n_calls == 2, "100 photos are of two bursts, so that 50 times as many are of a hundred"


def test_it_is_the_strategy_that_chooses_however_few_photos_there_are_for_so_many_bursts() -> None:
    # A burst of 60 wanted most, and 400 bursts of 3 of which the last are wanted next.
    class LastFirst(QueryStrategy):
        def choose(self, view: PoolView, n: int, rng: np.random.Generator) -> IndexArray:
            return view.unlabelled[::-1][:n]

    view, _ = long_bursts(1, 1260)
    sequences = np.concatenate([np.arange(1200) // 3, np.full(60, 400)])
    chosen = choose_one_per_sequence(LastFirst(), view, 50, np.random.default_rng(0), sequences)
    assert sequences[chosen].tolist() == list(range(400, 350, -1))


@pytest.mark.parametrize(("n_given", "n_taken"), [(1000, 10), (0, None)])
def test_a_strategy_of_ones_own_that_gives_too_many_or_nothing_does_no_harm(n_given: int, n_taken: int | None) -> None:
    class Careless:
        def select_batch(self, view: PoolView, n: int, rng: np.random.Generator) -> IndexArray:
            return view.unlabelled[:n_given]

    view, sequences = long_bursts(20, 2)
    if n_taken is None:
        with pytest.raises(ConfigError, match="must choose 10 photos; it chose none"):
            choose_one_per_sequence(Careless(), view, 10, np.random.default_rng(0), sequences)  # type: ignore[arg-type]
    else:
        chosen = choose_one_per_sequence(Careless(), view, 10, np.random.default_rng(0), sequences)  # type: ignore[arg-type]
        assert sequences[chosen].tolist() == list(range(n_taken))
