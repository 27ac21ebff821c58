from collections.abc import Callable

import numpy as np
import pytest

from camera_trap_al.active_learning_methods import PoolView, QueryStrategy, ScoreSampling
from camera_trap_al.active_learning_methods.base import fill_at_random, order_by_falling_score
from camera_trap_al.exceptions import ConfigError, DataError
from camera_trap_al.pools import FloatArray, IndexArray

MakeView = Callable[..., PoolView]


class FixedScores(ScoreSampling):
    def __init__(self, scores: list[float]) -> None:
        self.scores = scores

    def score(self, view: PoolView) -> FloatArray:
        return np.array(self.scores, dtype=np.float32)


class Fixed(QueryStrategy):
    def __init__(self, chosen: Callable[[PoolView], object]) -> None:
        self.chosen = chosen

    def choose(self, view: PoolView, n: int, rng: np.random.Generator) -> IndexArray:
        return self.chosen(view)  # type: ignore[return-value]  # wrong answers are the point


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


class TestPoolView:
    def test_probabilities_follow_the_order_of_unlabelled_and_are_computed_once(self, make_view: MakeView) -> None:
        view = make_view()
        expected = view.classifier.probabilities(view.embeddings[view.unlabelled])
        np.testing.assert_array_equal(view.probabilities(), expected)
        assert view.probabilities() is view.probabilities()
        assert view.classifier.n_calls == 2  # once here, once by the view

    def test_probabilities_cannot_be_written_to(self, make_view: MakeView) -> None:
        with pytest.raises(ValueError, match="read-only"):
            make_view().probabilities()[0, 0] = 1

    def test_the_array_of_the_classifier_stays_writable(self, make_view: MakeView) -> None:
        kept = np.full((40, 4), 0.25, dtype=np.float32)

        class Keeps:
            def probabilities(self, embeddings: FloatArray) -> FloatArray:
                return kept

        make_view(classifier=Keeps()).probabilities()
        assert kept.flags.writeable

    def test_rows_outside_the_pool_may_be_nan(self, make_view: MakeView) -> None:
        assert np.isnan(make_view().embeddings).any()

    @pytest.mark.parametrize("pool", ["labelled", "unlabelled"])
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_a_row_of_the_pool_that_is_not_finite_is_an_error(
        self, make_view: MakeView, pool: str, value: float
    ) -> None:
        view = make_view()
        embeddings, row = view.embeddings.copy(), getattr(view, pool)[4]
        embeddings[row, 2] = value
        with pytest.raises(DataError, match=f"row {row}"):
            make_view(embeddings=embeddings)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"embeddings": np.zeros(70, np.float32)}, "embeddings must have the two dimensions"),
            ({"targets": np.zeros(3, np.int64)}, "targets must have one class id"),
            ({"targets": np.zeros(70, np.float32)}, "targets must have one class id"),
            ({"labelled": np.zeros((2, 2), np.int64)}, "labelled must be a list of row numbers"),
            ({"unlabelled": np.zeros(3)}, "unlabelled must be a list of row numbers.*float64"),
            ({"classes": ()}, "classes must name at least one class"),
            ({"unlabelled": np.array([70])}, "from 0 to 69; got 70"),
            ({"unlabelled": np.array([-1])}, "from 0 to 69; got -1"),
            ({"classes": ("a", "b")}, "class ids from 0 to 1; row .* has [23]"),
        ],
    )
    def test_arrays_that_do_not_fit_are_an_error(self, make_view: MakeView, change: dict, message: str) -> None:
        assert len(make_view().targets) == 70  # the sizes above are about this view
        with pytest.raises(ConfigError, match=message):
            make_view(**change)

    def test_all_shape_problems_are_reported_at_once(self, make_view: MakeView) -> None:
        with pytest.raises(ConfigError) as caught:
            make_view(targets=np.zeros(1, np.int64), labelled=np.zeros(1), classes=())
        assert len(caught.value.problems) == 3

    def test_a_row_that_is_there_twice_is_an_error(self, make_view: MakeView) -> None:
        view = make_view()
        row = view.labelled[0]
        with pytest.raises(ConfigError, match=f"row {row} is there more than once"):
            make_view(unlabelled=np.append(view.unlabelled, row))

    def test_a_strategy_can_never_see_the_answer(self, make_view: MakeView) -> None:
        view = make_view()
        targets, row = view.targets.copy(), view.unlabelled[0]
        targets[row] = 2
        with pytest.raises(ConfigError, match=f"row {row} has 2"):
            make_view(targets=targets)

    def test_a_classifier_with_too_few_columns_is_an_error(self, make_view: MakeView) -> None:
        view = make_view(n_classes=4)
        with pytest.raises(ConfigError, match=r"\(40, 5\); SoftmaxOfFeatures returned \(40, 4\)"):
            make_view(n_classes=5, classifier=view.classifier, labelled_classes=[0]).probabilities()

    def test_probabilities_that_are_nan_are_an_error(self, make_view: MakeView) -> None:
        class Diverged:
            def probabilities(self, embeddings: FloatArray) -> FloatArray:
                return np.full((len(embeddings), 4), np.nan, dtype=np.float32)

        with pytest.raises(DataError, match="Diverged gave probabilities that are not numbers"):
            make_view(classifier=Diverged()).probabilities()


class TestQueryStrategy:
    def test_a_subclass_needs_only_choose(self, make_view: MakeView) -> None:
        view = make_view()
        chosen = Fixed(lambda view: view.unlabelled[3:6]).select_batch(view, 3, rng())
        assert chosen.tolist() == view.unlabelled[3:6].tolist()

    @pytest.mark.parametrize(
        ("chosen", "message"),
        [
            (lambda view: view.unlabelled[:2], "3 row numbers"),
            (lambda view: view.unlabelled[:3].astype(float), "3 row numbers.* float64"),
            (lambda view: view.unlabelled[[0, 1, 1]], "3 distinct rows.* 1 are repeated"),
            (lambda view: view.labelled[:3], "3 distinct rows.* 3 are repeated or not unlabelled"),
        ],
    )
    def test_a_subclass_that_breaks_its_promise_is_an_error(
        self, make_view: MakeView, chosen: Callable[[PoolView], object], message: str
    ) -> None:
        with pytest.raises(ConfigError, match=rf"Fixed\.choose must return {message}"):
            Fixed(chosen).select_batch(make_view(), 3, rng())


class TestScoreSampling:
    def test_chooses_the_highest_scores_in_falling_order(self, make_view: MakeView) -> None:
        view = make_view(n_unlabelled=6)
        chosen = FixedScores([0.1, 0.9, 0.5, 0.7, 0.2, 0.6]).select_batch(view, 3, rng())
        assert chosen.tolist() == view.unlabelled[[1, 3, 5]].tolist()

    def test_only_scores_within_the_tolerance_of_the_last_one_tie(self, make_view: MakeView) -> None:
        view = make_view(n_unlabelled=6)
        strategy = FixedScores([0.5, 0.5 + 5e-7, 0.5 - 5e-7, 0.5 - 3e-6, 0.9, 0.5 + 3e-6])
        choices = [strategy.select_batch(view, 3, rng(seed)) for seed in range(40)]
        assert {tuple(choice[:2].tolist()) for choice in choices} == {tuple(view.unlabelled[[4, 5]].tolist())}
        assert {choice[2] for choice in choices} == set(view.unlabelled[:3].tolist())

    def test_equals_a_full_sort_on_many_scores(self, make_view: MakeView) -> None:
        view = make_view(n_unlabelled=500)
        scores = np.random.default_rng(1).permutation(500).astype(float)  # no ties
        chosen = FixedScores(scores.tolist()).select_batch(view, 100, rng())
        assert chosen.tolist() == view.unlabelled[np.argsort(-scores)[:100]].tolist()

    def test_infinite_scores_come_first_and_last(self, make_view: MakeView) -> None:
        view = make_view(n_unlabelled=4)
        strategy = FixedScores([-np.inf, 0.0, np.inf, -np.inf])
        assert strategy.select_batch(view, 1, rng()).tolist() == view.unlabelled[[2]].tolist()
        assert strategy.select_batch(view, 3, rng())[:2].tolist() == view.unlabelled[[2, 1]].tolist()

    @pytest.mark.parametrize("scores", [[0.0] * 39, [float("nan")] * 40], ids=["too few", "NaN"])
    def test_scores_that_cannot_be_used_are_an_error(self, make_view: MakeView, scores: list[float]) -> None:
        with pytest.raises(ConfigError, match=r"FixedScores.score must return one number per unlabelled image"):
            FixedScores(scores).select_batch(make_view(), 3, rng())


class TestOrderByFallingScore:
    def test_equals_a_sort_when_scores_differ(self) -> None:
        scores = np.random.default_rng(1).permutation(500) * 2e-6
        assert order_by_falling_score(scores, rng()).tolist() == np.argsort(-scores).tolist()

    def test_scores_within_the_tolerance_come_in_any_order_and_others_never(self) -> None:
        scores = np.array([0.5, 0.5 + 5e-7, 0.5 - 2e-6, 0.9])
        orders = {tuple(order_by_falling_score(scores, rng(seed)).tolist()) for seed in range(40)}
        assert orders == {(3, 0, 1, 2), (3, 1, 0, 2)}


class TestFillAtRandom:
    def test_keeps_what_is_chosen_and_adds_each_other_row_equally_often(
        self, make_view: Callable[..., PoolView], caplog: pytest.LogCaptureFixture
    ) -> None:
        view, generator, chosen = make_view(n_unlabelled=6), rng(), np.array([4, 1])
        with caplog.at_level("INFO"):
            filled = [fill_at_random(view, chosen, 3, generator).tolist() for _ in range(2000)]
        assert all(rows[:2] == view.unlabelled[chosen].tolist() for rows in filled)
        counts = np.array([[rows[2] for rows in filled].count(row) for row in view.unlabelled])
        # Expected 500 each for positions 0, 2, 3 and 5, standard deviation sqrt(2000 * 1/4 * 3/4) = 19.
        assert counts[[1, 4]].tolist() == [0, 0]
        assert abs(counts[[0, 2, 3, 5]] - 500).max() < 5 * 19
        assert "The strategy found 2 distinct useful images; the other 1 are drawn at random" in caplog.text

    def test_a_full_choice_is_left_alone(
        self, make_view: Callable[..., PoolView], caplog: pytest.LogCaptureFixture
    ) -> None:
        view = make_view(n_unlabelled=3)
        with caplog.at_level("INFO"):
            assert fill_at_random(view, np.array([2, 0]), 2, rng()).tolist() == view.unlabelled[[2, 0]].tolist()
        assert not caplog.text
