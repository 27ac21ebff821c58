from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning.calibrated_classifier import CalibratedClassifier
from camera_trap_al.deep_learning.data_loader import ExtendedImageFolder
from camera_trap_al.deep_learning.embedding_table import EmbeddingTable
from camera_trap_al.deep_learning.fitted_classifier import FittedClassifier
from camera_trap_al.photos.catalogue import Catalogue
from camera_trap_al.pools import UNLABELLED, Pools, Role
from camera_trap_al.statistics.calibration import (
    Calibration,
    expected_calibration_error,
    fit_temperature,
    with_temperature,
)
from camera_trap_al.statistics.sequence_predictions import calibrate_sequences, sequence_probabilities

CLASSES = ("deer", "fox", "wolf")
N_TRAIN, N_POOL, N_VALIDATION = 60, 400, 300
PARAMS = {"max_iter": 300, "learning_rate_init": 0.01}


def made(
    n_validation=N_VALIDATION,
    accept_error=0.05,
    seed=0,
    classifier="mlp",
    params=PARAMS,
    class_weight=None,
    n_audit=0,
    in_bursts=False,
):
    """Clouds that overlap, so that a network that knows 60 photos by heart is too sure of the others.

    In bursts, photos of rows that follow each other show the same animal, four at a time.
    """
    rng = np.random.default_rng(seed)
    roles = np.repeat([Role.TRAIN, Role.UNLABELLED, Role.VALIDATION], [N_TRAIN, N_POOL, n_validation]).astype(np.int8)
    sequences = np.arange(len(roles)) // 4 if in_bursts else None
    truth = rng.integers(0, 3, len(roles))
    truth = truth if sequences is None else truth[sequences]
    targets = np.where(roles == Role.UNLABELLED, UNLABELLED, truth)
    paths = [f"{CLASSES[truth[row]]}/camera_{row % 7}/{row}.jpg" for row in range(len(roles))]
    lots = np.full(len(roles), np.nan)
    audit = slice(N_TRAIN, N_TRAIN + n_audit)  # the first unlabelled photos
    lots[audit], targets[audit] = rng.random(n_audit), truth[audit]
    pools = Pools(roles, targets, np.zeros(len(roles), np.bool_), audit_lots=lots)
    dataset = ExtendedImageFolder(Catalogue({}, CLASSES, paths, pools, sequences), image_cache="off")
    embeddings = (2 * np.eye(3, 6)[truth] + rng.normal(0, 1, (len(roles), 6))).astype(np.float32)
    table = EmbeddingTable(len(roles))
    rows = np.arange(len(roles))
    table.put(rows, embeddings, np.ones(len(roles), np.uint64), "network")
    config = RunConfig(
        seed=1,
        classifier=classifier,
        classifier_params=params,
        class_weight=class_weight,
        accept_error=accept_error,
    )
    labelled, candidates = pools.labelled, pools.unlabelled
    fitted = FittedClassifier.fit(
        config, table.of(labelled), targets[labelled], table.of(candidates), len(CLASSES), {"network": "network"}
    )
    model = CalibratedClassifier.make(fitted, dataset, table, pools.validation, candidates, config)
    return model, table, truth, pools


def test_validation_photos_make_confidence_true():
    model, table, truth, pools = made()
    assert (model.calibration.source, model.calibration.n_photos) == ("validation", N_VALIDATION)
    others = pools.unlabelled  # which it was not calibrated on
    raw, calibrated = model.fitted.probabilities(table.of(others)), model.probabilities(table.of(others))
    before, after = (expected_calibration_error(each, truth[others]) for each in (raw, calibrated))
    assert before > 0.1 and after < before / 2
    np.testing.assert_array_equal(raw.argmax(axis=1), calibrated.argmax(axis=1))
    np.testing.assert_array_equal(calibrated, with_temperature(raw, model.calibration.temperature))


def test_accepted_photos_are_mostly_right_and_the_rest_is_not_accepted():
    model, table, truth, pools = made(accept_error=0.1)
    predictions = model.predict_parts(pools.unlabelled, [(pools.unlabelled, table.of(pools.unlabelled))])
    decisions = np.array(model.decide(predictions))
    is_accepted = decisions == "accept"
    assert set(decisions) >= {"accept", "review"}
    assert is_accepted.sum() > 20
    wrong = (predictions.first != truth[pools.unlabelled])[is_accepted].mean()
    assert wrong < 0.1 + 3 * np.sqrt(0.1 * 0.9 / is_accepted.sum()), "0.1 is wanted, and chance may add to it"
    assert wrong < (predictions.first != truth[pools.unlabelled]).mean()


def test_without_validation_photos_a_hundred_audit_photos_make_confidence_true_and_give_thresholds():
    model, table, truth, pools = made(0, accept_error=0.1, n_audit=150)
    assert (model.calibration.source, model.calibration.n_photos) == ("audit", 150)
    raw = model.fitted.probabilities(table.of(pools.audit))
    assert model.calibration.temperature == pytest.approx(fit_temperature(raw, truth[pools.audit]))
    assert (model.thresholds.source, model.thresholds.n_photos) == ("audit", 150)
    assert "accept" in model.decide(
        model.predict_parts(pools.unlabelled, [(pools.unlabelled, table.of(pools.unlabelled))])
    )


def test_fewer_audit_photos_give_neither():
    model, *_ = made(0, n_audit=99)
    assert (model.calibration.source, model.calibration.n_photos) == ("out of fold", N_TRAIN)
    why = "cannot be told from 99 audit photos; at least 100 are needed. Each round of labels brings more of them."
    assert why in model.thresholds.why_none


@pytest.mark.parametrize("n_validation", [0, 1])
def test_without_validation_photos_labelled_ones_are_judged_out_of_fold_and_nothing_is_decided(n_validation):
    model, table, truth, pools = made(n_validation)
    assert (model.calibration.source, model.calibration.n_photos) == ("out of fold", N_TRAIN)
    others = pools.unlabelled
    raw, calibrated = model.fitted.probabilities(table.of(others)), model.probabilities(table.of(others))
    assert expected_calibration_error(calibrated, truth[others]) < expected_calibration_error(raw, truth[others])
    why = "cannot be told from 1 validation photos" if n_validation else "no validation or audit photos"
    assert why in model.thresholds.why_none
    assert set(model.decide(model.predict_parts(others, [(others, table.of(others))]))) == {""}


@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("classifier", ["logistic", LogisticRegression()], ids=["by name", "own"])
def test_a_logistic_regression_is_judged_by_its_own_fits_out_of_fold(classifier, class_weight):
    model, table, truth, pools = made(
        0, classifier=classifier, params={"C": 30.0, "max_iter": 500}, class_weight=class_weight
    )
    rows = pools.labelled
    embeddings = model.fitted.scaler.transform(table.of(rows))
    # Seven cameras of three species are the groups, whichever folds they are dealt to.
    groups = truth[rows] * 7 + rows % 7
    probabilities = np.zeros((len(rows), 3), np.float32)
    for train, test in StratifiedGroupKFold(5, shuffle=True, random_state=0).split(rows, truth[rows], groups):
        plain = LogisticRegression(C=30.0, max_iter=500, class_weight=class_weight)
        probabilities[test] = plain.fit(embeddings[train], truth[rows][train]).predict_proba(embeddings[test])
    assert model.calibration.temperature == pytest.approx(fit_temperature(probabilities, truth[rows]), rel=0.15)


@pytest.mark.parametrize("classifier", ["mlp", "mlp_fast"])
def test_a_network_whose_classes_count_the_same_becomes_honest_without_validation_photos_too(classifier):
    model, table, truth, pools = made(0, classifier=classifier, class_weight="balanced")
    others = pools.unlabelled
    raw, calibrated = model.fitted.probabilities(table.of(others)), model.probabilities(table.of(others))
    assert expected_calibration_error(calibrated, truth[others]) < expected_calibration_error(raw, truth[others]) / 2


def test_too_few_validation_photos_calibrate_and_decide_nothing():
    model, *_ = made(99)
    assert model.calibration.source == "validation" and "at least 100 are needed" in model.thresholds.why_none


def test_what_predictions_follow_from_is_the_same_for_the_same_and_differs_with_the_wanted_error():
    assert made()[0].lineage == made()[0].lineage
    assert made()[0].lineage != made(accept_error=0.2)[0].lineage


def sequence_ece(model, table, truth, rows, temperature):
    sequences = np.arange(len(truth)) // 4
    probabilities = sequence_probabilities(model.probabilities(table.of(rows)), sequences[rows], temperature)
    return expected_calibration_error(probabilities, truth[rows][np.unique(sequences[rows], return_index=True)[1]])


@pytest.mark.parametrize(("n_validation", "n_audit", "source"), [(300, 0, "validation"), (0, 200, "audit")])
def test_sequences_are_calibrated_on_the_photos_that_calibrate_photos(n_validation, n_audit, source):
    model, table, truth, pools = made(n_validation, n_audit=n_audit, in_bursts=True)
    rows, sequences = pools.validation if n_validation else pools.audit, np.arange(len(truth)) // 4
    assert (model.calibration.source, model.of_sequences.source) == (source, source)
    assert model.of_sequences.n_photos == len(rows) / 4
    expected = calibrate_sequences(model.probabilities(table.of(rows)), truth[rows], sequences[rows], source)
    assert model.of_sequences == expected
    others = pools.unlabelled
    before, after = (sequence_ece(model, table, truth, others, t) for t in (1.0, model.of_sequences.temperature))
    assert after < before / 1.5


def test_labelled_bursts_calibrate_sequences_out_of_fold_if_they_are_enough(monkeypatch):
    assert made(0, in_bursts=True)[0].of_sequences == Calibration(), "15 sequences are too few"
    monkeypatch.setattr("camera_trap_al.statistics.sequence_predictions.FEWEST_SEQUENCES", 10)
    model, table, truth, pools = made(0, in_bursts=True)
    assert (model.of_sequences.source, model.of_sequences.n_photos) == ("out of fold", 15)
    others = pools.unlabelled
    before, after = (sequence_ece(model, table, truth, others, t) for t in (1.0, model.of_sequences.temperature))
    assert after < before


def test_without_sequences_there_is_nothing_to_calibrate():
    assert made()[0].of_sequences == Calibration()


def test_predictions_that_come_in_parts_know_their_sequences_and_leave_out_photos_that_did_not_come():
    model, table, truth, pools = made(in_bursts=True)
    sequences = np.arange(len(truth)) // 4
    sequences[pools.unlabelled[8:12]] = -1
    rows = pools.unlabelled
    came = np.delete(rows, [1, 20])
    parts = [(some, table.of(some)) for some in (came[300:], came[:100], came[100:300])]
    found = model.predict_parts(rows, iter(parts), sequences)
    np.testing.assert_array_equal(found.rows, came)
    expected = model.predict_parts(came, [(came, table.of(came))])
    np.testing.assert_array_equal(found.class_ids, expected.class_ids)
    of_sequences = found.of_sequences
    np.testing.assert_array_equal(of_sequences.numbers, sequences[came])
    probabilities = sequence_probabilities(
        model.probabilities(table.of(came)), sequences[came], model.of_sequences.temperature
    )
    order = np.unique(sequences[came][sequences[came] >= 0], return_inverse=True)[1]
    is_known = of_sequences.numbers >= 0
    np.testing.assert_allclose(of_sequences.confidence[is_known], probabilities.max(axis=1)[order], atol=1e-5)
    np.testing.assert_allclose(of_sequences.confidence[~is_known], found.confidence[~is_known], atol=1e-6)
    assert model.predict_parts(rows, iter(parts)).of_sequences is None


def test_what_predictions_follow_from_differs_with_the_sequences_and_is_as_it_was_without():
    model, _, truth, pools = made(in_bursts=True)
    rows, sequences = pools.unlabelled, np.arange(len(truth)) // 4
    assert "sequences" not in model.lineage_of(rows)
    assert model.lineage_of(rows, sequences) == model.lineage_of(rows, sequences.copy())
    assert model.lineage_of(rows, sequences) != model.lineage_of(rows, sequences // 2)
    hotter = replace(model, of_sequences=replace(model.of_sequences, temperature=9.0))
    assert model.lineage_of(rows, sequences) != hotter.lineage_of(rows, sequences)
