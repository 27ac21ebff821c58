from dataclasses import replace

import numpy as np
import pytest

from camera_trap_al.deep_learning import question
from camera_trap_al.deep_learning.active_learning_manager import ActiveLearningEnvironment
from camera_trap_al.deep_learning.question import Questions
from camera_trap_al.pools import UNLABELLED

AUDIT = {9: 0.8, 12: 1.2, 14: 2.5}  # of the unlabelled rows 9 to 14


@pytest.fixture
def learnt(dataset, small_config, mean_colours):
    """A run, as its settings are changed, that is about to ask; rows 12, 14 and 9 are the audit, in this order."""

    def make(**changes):
        for row, lot in AUDIT.items():
            dataset.pools.audit_lots[row] = lot
        environment = ActiveLearningEnvironment(
            dataset, small_config(embedding_train_num_epochs=0, **changes), mean_colours()
        )
        environment._network_lineage = {"digest": "colours", "pixels": environment._pixels.digest}
        environment._embedded.network = "colours"
        environment.read_photos()
        environment._network_lineage["pixels"] = environment._pixels.digest
        for update in environment.stale_models():
            update()
        return environment

    return make


def test_a_round_asks_about_the_next_of_the_audit_and_what_the_strategy_chooses(learnt):
    environment = learnt(active_batch=3, audit_fraction=0.4)
    rows = environment.choose_rows()
    assert rows[0] == 12 and set(rows[1:]) < {10, 11, 13} and len(rows) == 3


def test_where_candidates_are_few_the_audit_fills_the_round(learnt):
    environment = learnt(active_batch=5, audit_fraction=0.1)
    rows = environment.choose_rows()
    assert rows[:2].tolist() == [12, 14] and sorted(rows[2:]) == [10, 11, 13]


def test_when_only_the_audit_is_left_it_is_asked_about_alone(learnt):
    environment = learnt(active_batch=5, audit_fraction=0.1)
    environment.dataset.relabel([10, 11, 13, 14], [0, 1, 2, 0])
    for update in environment.stale_models():
        update()
    assert environment.choose_rows().tolist() == [12, 9]


def test_a_skipped_photo_of_the_audit_is_left_for_later_while_there_are_others(learnt):
    environment = learnt(active_batch=3, audit_fraction=0.4)
    environment.questions._skipped = np.array([12, 14, 9])
    assert set(environment.choose_rows()) == {10, 11, 13}
    environment.dataset.relabel([10, 11, 13], [0, 1, 2])
    for update in environment.stale_models():
        update()
    assert environment.choose_rows().tolist() == [12, 14, 9]


def test_the_strategy_sees_nothing_of_the_audit(learnt):
    environment = learnt(active_batch=3, audit_fraction=0.4)
    environment.dataset.relabel([12], [1])
    for update in environment.stale_models():
        update()
    view = environment.view()
    assert view.unlabelled.tolist() == [10, 11, 13]
    assert set(view.labelled.tolist()) == set(range(9))
    assert not view.embeddings[list(AUDIT)].any(), "no embedding"
    hidden = np.setdiff1d(np.arange(len(environment.dataset)), view.labelled)
    assert set(view.targets[hidden].tolist()) == {UNLABELLED}, "no label, nor those of validation photos"


def test_the_scaler_does_not_see_the_audit(learnt):
    # Row 9 is the darkest of the photos; the smallest feature that the scaler saw is that of another one.
    environment = learnt(active_batch=3, audit_fraction=0.4)
    seen = np.concatenate([np.arange(9), [10, 11, 13]])
    assert environment.fitted().scaler.minimum == pytest.approx(environment._embedded.table.of(seen).min(axis=0))


def test_reasons_are_what_strategy_and_model_think_of_candidates(learnt):
    environment = learnt(active_batch=3, audit_fraction=0.4)
    rows, view = environment.choose_rows(), environment.view()
    reasons = environment.questions.reasons(rows, view)
    probabilities = environment.probabilities(rows[1:])
    two = np.sort(probabilities, axis=1)[:, -2:]
    assert np.isnan(reasons.scores[0]) and np.isnan(reasons.confidences[0]) and reasons.class_ids[0] == UNLABELLED
    assert reasons.scores[1:] == pytest.approx(two[:, 0] - two[:, 1], abs=1e-6), "minus the margin"
    assert reasons.class_ids[1:].tolist() == probabilities.argmax(axis=1).tolist()
    assert reasons.confidences[1:] == pytest.approx(two[:, 1])


def test_a_strategy_without_scores_gives_none(learnt):
    environment = learnt(active_batch=3, audit_fraction=0.0, active_learning_strategy="kcenter")
    rows = environment.choose_rows()
    reasons = environment.questions.reasons(rows, environment.view())
    assert np.isnan(reasons.scores).all() and not np.isnan(reasons.confidences).any()


def test_the_next_photos_of_the_audit_are_looked_at_before_they_are_asked_about(learnt):
    environment = learnt(active_batch=3, audit_fraction=0.4)
    assert set(AUDIT) <= set(environment.rows_in_use.tolist())


def test_the_stop_set_is_the_same_whatever_gets_a_label(learnt):
    environment = learnt(active_batch=3, audit_fraction=0.4)
    before = environment.questions.stop_set.tolist()
    environment.dataset.relabel([10], [1])
    assert environment.questions.stop_set.tolist() == before == [10, 11, 13]


def in_bursts(environment, **bursts):
    """The same run with bursts, by the rows of each."""
    sequences = np.full(len(environment.dataset), -1)
    for number, rows in enumerate(bursts.values()):
        sequences[rows] = number
    dataset = environment.dataset
    dataset.catalogue = replace(dataset.catalogue, sequences=sequences)
    environment.questions = Questions(dataset, environment.config)
    return environment.questions


def test_the_audit_is_asked_about_in_random_order_so_that_long_bursts_count_for_what_they_are(learnt):
    # Asked burst by burst, the first photos would be those of as many bursts, and the figure that of short ones.
    environment = learnt(active_batch=6, audit_fraction=0.5)
    environment.dataset.pools.audit_lots[[9, 10, 11, 12]] = [0.1, 0.2, 0.3, 1.9]
    questions = in_bursts(environment, long=[9, 10, 11], short=[12])
    assert questions._audit_to_come().tolist() == [9, 10, 11, 14, 12]
    assert environment.choose_rows()[:3].tolist() == [9, 10, 11]


def test_the_stop_set_and_the_pixels_are_of_photos_that_are_candidates(learnt, monkeypatch):
    environment = learnt(active_batch=1, audit_fraction=0.0, candidate_pool=2)
    environment.dataset.pools.audit_lots[:] = np.nan
    questions = in_bursts(environment, one=[9, 12], two=[10, 13], three=[11, 14])
    monkeypatch.setattr(question, "STOP_SET_SIZE", 2)
    assert len(set(questions._numbers[questions.candidates])) == 1, "one whole burst"
    assert questions.stop_set.tolist() == questions.candidates.tolist()
    first = int(questions.candidates[0])
    assert set(questions.lots[questions.candidates]) == {questions._lots_of_photos[first]}
    environment.dataset.relabel([first], [0])
    assert questions.stop_set.tolist() != questions.candidates.tolist(), "a burst without a label comes first"


def test_what_is_held_out_is_not_in_the_stop_set(learnt):
    environment = learnt(active_batch=3, audit_fraction=0.4)
    environment.dataset.pools.is_held_out[13] = True
    assert environment.questions.stop_set.tolist() == [10, 11]


def test_candidates_are_cut_out_of_bursts_where_whole_ones_would_be_fewer_than_a_batch(learnt):
    environment = learnt(active_batch=2, audit_fraction=0.0, candidate_pool=4)
    environment.dataset.pools.audit_lots[:] = np.nan
    questions = in_bursts(environment, long=[9, 10, 11, 12], short=[13], other=[14])
    # Whole bursts would be the long one, or the two others; whichever it is, both photos are of different bursts.
    assert len(set(questions._numbers[questions.candidates])) >= 2


def test_an_end_with_photos_that_are_never_asked_about_is_not_called_everything(learnt):
    environment = learnt(active_batch=5, audit_fraction=0.4)
    environment.dataset.relabel([9, 10, 11, 12, 13], [0, 1, 2, 0, 1])
    environment.dataset.pools.is_held_out[14] = True
    assert environment.why_finished() == "every photo that may be asked about is labelled"
    environment.dataset.relabel([14], [2])
    assert environment.why_finished() == "everything is labelled"


def test_photos_that_cannot_be_read_are_not_called_labelled(learnt):
    environment = learnt(active_batch=5, audit_fraction=0.0)
    environment.dataset.pools.is_set_aside[9:15] = True
    assert environment.why_finished() == "no unlabelled photo can be read"
