import json
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camera_trap_al.exceptions import ConfigError
from camera_trap_al.statistics.thresholds import ClassThresholds, Threshold, Thresholds, find_thresholds

CLASSES = ("deer", "fox", "boar", "bear")


def made(n: int, seed: int = 0, steps: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Photos whose probabilities are true, the likeliest class in (0.25, 1], in `steps` distinct values if given."""
    rng = np.random.default_rng(seed)
    confidences = 1 - 0.75 * rng.random(n) ** 2
    if steps is not None:
        confidences = np.ceil(confidences * steps) / steps
    suggested = rng.integers(0, 4, n)
    probabilities = np.repeat((1 - confidences)[:, None] / 3, 4, axis=1)
    probabilities[np.arange(n), suggested] = confidences
    other = (suggested + rng.integers(1, 4, n)) % 4
    targets = np.where(rng.random(n) < confidences, suggested, other)
    return probabilities.astype(np.float32), targets.astype(np.int64)


def found(n: int, seed: int = 0, **options: Any) -> Thresholds:
    return find_thresholds(*made(n, seed), CLASSES, **({"source": "validation"} | options))


def lowest_by_hand(photos: list[tuple[float, bool]], most_wrong: float, fewest: int) -> tuple[float, int, int] | None:
    """Go down confidence by confidence, until too many are wrong."""
    lowest = None
    for confidence in sorted({confidence for confidence, _ in photos}, reverse=True):
        above = [is_wrong for other, is_wrong in photos if other >= confidence]
        if len(above) >= fewest:
            if sum(above) / len(above) > most_wrong:
                break
            lowest = confidence, len(above), sum(above)
    return lowest


def both_by_hand(
    photos: list[tuple[float, bool]], wanted_error: float, fewest: int = 1
) -> list[tuple[float, int, int] | None]:
    accept = lowest_by_hand(photos, wanted_error, 30)
    left = [photo for photo in photos if accept is None or photo[0] < accept[0]]
    return [accept, lowest_by_hand(left, 0.5, max(fewest, min(30, len(left))))]


def as_tuples(some: ClassThresholds) -> list[tuple[float, int, int] | None]:
    return [each and (each.confidence, each.n_photos, each.n_wrong) for each in (some.accept, some.review)]


@settings(deadline=None)
@given(
    st.integers(100, 200), st.integers(0, 2**32 - 1), st.sampled_from([None, 12, 40]), st.sampled_from([0, 0.05, 0.2])
)
def test_thresholds_equal_those_of_a_search_by_hand(n: int, seed: int, steps: int | None, wanted: float) -> None:
    probabilities, targets = made(n, seed, steps)
    thresholds = find_thresholds(probabilities, targets, CLASSES, source="audit", wanted_error=wanted)
    photos = [
        (float(row.max()), int(row.argmax()), bool(row.argmax() != target))
        for row, target in zip(probabilities, targets, strict=True)
    ]
    by_class = {
        name: [(sure, wrong) for sure, class_id, wrong in photos if CLASSES[class_id] == name] for name in CLASSES
    }
    of_rare = [photo for some in by_class.values() if len(some) < 30 for photo in some]
    assert as_tuples(thresholds.everywhere) == both_by_hand(of_rare, wanted, fewest=30)
    assert {name: as_tuples(each) for name, each in thresholds.of_class.items()} == {
        name: both_by_hand(some, wanted) for name, some in by_class.items() if len(some) >= 30 or not some
    }


@settings(deadline=None)
@given(st.integers(100, 400), st.integers(0, 2**32 - 1))
def test_the_photos_it_was_found_on_are_decided_as_the_thresholds_say(n: int, seed: int) -> None:
    probabilities, targets = made(n, seed)
    thresholds = find_thresholds(probabilities, targets, CLASSES, source="audit", wanted_error=0.1)
    suggested = probabilities.argmax(axis=1)
    decisions = thresholds.decide(probabilities.max(axis=1), suggested)
    for name, own in thresholds.of_class.items():
        is_own = suggested == CLASSES.index(name)
        for decision, threshold in (("accept", own.accept), ("review", own.review)):
            is_so = is_own & (decisions == decision)
            n_wrong = np.count_nonzero(targets[is_so] != suggested[is_so])
            told = (0, 0) if threshold is None else (threshold.n_photos, threshold.n_wrong)
            assert (np.count_nonzero(is_so), n_wrong) == told


def test_new_photos_that_are_accepted_are_wrong_about_as_often_as_wanted() -> None:
    new_probabilities, new_targets = made(20_000, seed=10_000)
    suggested, is_wrong = new_probabilities.argmax(axis=1), new_probabilities.argmax(axis=1) != new_targets
    n_accepted, n_wrong = 0, 0
    for seed in range(40):
        decisions = found(1_000, seed).decide(new_probabilities.max(axis=1), suggested)
        n_accepted += np.count_nonzero(decisions == "accept")
        n_wrong += np.count_nonzero(is_wrong[decisions == "accept"])
    # Confidence is true here, so that the best that can be done is known.
    descending = np.sort(new_probabilities.max(axis=1))[::-1]
    possible = np.count_nonzero(np.cumsum(1 - descending) / np.arange(1, 20_001) <= 0.05)
    assert 0.03 < n_wrong / n_accepted < 0.06
    assert n_accepted / 40 > 0.75 * possible


def test_a_class_that_is_often_wrong_is_not_accepted_where_others_are() -> None:
    probabilities, targets = made(2_000)
    is_fox = probabilities.argmax(axis=1) == 1
    targets[is_fox] = 0
    thresholds = find_thresholds(probabilities, targets, CLASSES, source="validation")
    assert thresholds.of_class["fox"] == ClassThresholds()
    assert thresholds.decide(np.array([1.0, 1.0], np.float32), np.array([1, 2])).tolist() == ["label", "accept"]


def test_classes_without_thresholds_of_their_own_share_those_of_their_photos() -> None:
    # 100 boars, and 20 photos each of two rare species, all named rightly but for one photo.
    suggested = np.repeat([2, 1, 3], [100, 20, 20])
    confidences = np.linspace(0.99, 0.6, 140).astype(np.float32)
    probabilities = np.repeat((1 - confidences)[:, None] / 3, 4, axis=1)
    probabilities[np.arange(140), suggested] = confidences
    targets = suggested.copy()
    targets[-1] = 0
    thresholds = find_thresholds(probabilities, targets, CLASSES, source="validation")
    assert set(thresholds.of_class) == {CLASSES[2], CLASSES[0]}  # no deer was suggested
    assert thresholds.everywhere.accept == Threshold(confidence=float(confidences[-1]), n_photos=40, n_wrong=1)
    just_enough = confidences[-1:]
    just_less = np.nextafter(just_enough, np.float32(0))
    assert thresholds.decide(just_enough, np.array([3])).tolist() == ["accept"]
    assert thresholds.decide(just_less, np.array([3])).tolist() != ["accept"]


def test_a_rare_class_that_is_always_wrong_is_not_accepted_however_good_a_common_one_is() -> None:
    suggested = np.repeat([0, 1], [971, 29])
    probabilities = np.full((1000, 2), 0.1, np.float32)
    probabilities[np.arange(1000), suggested] = 0.9
    thresholds = find_thresholds(probabilities, np.zeros(1000, np.int64), CLASSES[:2], source="validation")
    decisions = thresholds.decide(probabilities.max(axis=1), suggested)
    assert set(decisions[:971]) == {"accept"} and set(decisions[971:]) == {"label"}


@pytest.mark.parametrize(("n_rare", "decision"), [(1, "label"), (29, "label"), (30, "review")])
def test_a_review_of_rare_classes_rests_on_no_fewer_than_thirty_photos(n_rare: int, decision: str) -> None:
    """300 boars, and rare foxes and bears of which every third is wrong."""
    suggested = np.concatenate([np.full(300, 2), np.resize([1, 3], n_rare)])
    probabilities = np.full((300 + n_rare, 4), 0.05, np.float32)
    probabilities[np.arange(300 + n_rare), suggested] = 0.85
    targets = suggested.copy()
    targets[302::3] = 0
    thresholds = find_thresholds(probabilities, targets, CLASSES, source="validation")
    assert thresholds.decide(np.array([0.85], np.float32), np.array([1])).tolist() == [decision]


def test_a_class_that_was_never_suggested_is_labelled_by_hand() -> None:
    """Nothing is known of deer, however right the other classes are."""
    suggested = np.repeat([1, 2, 3], [29, 29, 100])
    probabilities = np.full((158, 4), 0.02, np.float32)
    probabilities[np.arange(158), suggested] = 0.94
    thresholds = find_thresholds(probabilities, suggested, CLASSES, source="audit")
    for again in (thresholds, Thresholds.from_dict(json.loads(json.dumps(thresholds.to_dict())), CLASSES)):
        decisions = again.decide(np.full(4, 0.99, np.float32), np.arange(4))
        assert decisions.tolist() == ["label", "accept", "accept", "accept"]


def test_two_wrong_of_the_surest_thirty_are_too_many_however_good_the_rest_is() -> None:
    confidences = np.linspace(0.99, 0.6, 200).astype(np.float32)
    probabilities = np.stack([confidences, 1 - confidences], axis=1)
    targets = np.zeros(200, np.int64)
    targets[[3, 8]] = 1
    thresholds = find_thresholds(probabilities, targets, CLASSES[:2], source="audit")
    own = thresholds.of_class[CLASSES[0]]
    assert own.accept is None
    assert own.review == Threshold(confidence=float(confidences[-1]), n_photos=200, n_wrong=2)


def test_photos_of_one_confidence_are_accepted_together_or_not_at_all() -> None:
    probabilities = np.tile(np.array([0.9, 0.1], np.float32), (150, 1))
    targets = np.zeros(150, np.int64)
    targets[-9:] = 1  # 6 %, but none of the first 141
    classes, first = CLASSES[:2], CLASSES[0]
    assert find_thresholds(probabilities, targets, classes, source="audit").of_class[first].accept is None
    accept = find_thresholds(probabilities, targets, classes, source="audit", wanted_error=0.06).of_class[first].accept
    assert accept == Threshold(confidence=float(np.float32(0.9)), n_photos=150, n_wrong=9)


def test_the_interval_is_that_of_wilson() -> None:
    low, high = Threshold(confidence=0.9, n_photos=40, n_wrong=2).error_interval
    # The ends are where the observed share is 1.96 standard errors away [Wilson, 1927].
    for end in (low, high):
        assert abs(2 / 40 - end) / np.sqrt(end * (1 - end) / 40) == pytest.approx(1.95996, rel=1e-4)
    assert low < 2 / 40 < high


@pytest.mark.parametrize(
    ("n", "source", "words"),
    [
        (99, "validation", ["99 validation photos", "at least 100"]),
        (0, "audit", ["0 audit photos", "at least 100"]),
        (500, "out of fold", ["no validation or audit photos", "no fair sample", "validation_data"]),
        (500, "nothing", ["no validation or audit photos"]),
    ],
)
def test_where_there_are_none_a_sentence_says_why_and_nothing_is_decided(n: int, source: Any, words: list[str]) -> None:
    thresholds = found(n, source=source)
    assert all(word in thresholds.why_none for word in words)
    assert (thresholds.everywhere, thresholds.of_class) == (ClassThresholds(), {})
    assert thresholds.decide(np.array([1.0, 0.1], np.float32), np.array([0, 3])).tolist() == ["", ""]


def test_if_too_many_of_the_surest_are_wrong_a_sentence_says_that_nothing_can_be_accepted() -> None:
    probabilities = np.full((200, 2), [0.9, 0.1], np.float32)
    half_wrong = find_thresholds(probabilities, np.arange(200) % 2, CLASSES[:2], source="validation")
    assert half_wrong.why_none == ""
    assert "surest validation photos more than 5% are wrong" in half_wrong.why_no_accept
    assert half_wrong.to_dict()["why_no_accept"] == half_wrong.why_no_accept
    all_right = find_thresholds(probabilities, np.zeros(200, np.int64), CLASSES[:2], source="validation")
    assert all_right.why_no_accept == ""
    assert found(99).why_no_accept == found(99).why_none


def test_a_hundred_photos_are_enough() -> None:
    assert found(100).why_none == ""


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(0, 2**32 - 1))
def test_plain_json_gives_the_same_thresholds_again(n: int, seed: int) -> None:
    thresholds = found(n, seed)
    text = json.dumps(thresholds.to_dict(), allow_nan=False)
    again = Thresholds.from_dict(json.loads(text), CLASSES)
    assert again == thresholds
    assert json.dumps(again.to_dict()) == text


def test_what_people_read_in_the_file() -> None:
    accept = next(each["accept"] for each in found(300).to_dict()["of_class"].values() if each["accept"])
    assert set(accept) == {"confidence", "n_photos", "n_wrong", "error_low", "error_high"}
    assert 0 <= accept["error_low"] <= accept["n_wrong"] / accept["n_photos"] <= accept["error_high"] <= 1


def test_a_million_photos_are_decided_within_a_second() -> None:
    rng = np.random.default_rng(0)
    confidences, class_ids = rng.random(1_000_000).astype(np.float32), rng.integers(0, 4, 1_000_000)
    thresholds = found(1_000)
    begun_at = time.process_time()  # of this process: other work on the computer does not count
    decisions = thresholds.decide(confidences, class_ids)
    assert time.process_time() - begun_at < 1
    assert set(np.unique(decisions).tolist()) == {"accept", "review", "label"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"wanted_error": 0.6}, "wanted_error must be a number from 0 to 0.5; got 0.6"),
        ({"wanted_error": -0.1}, "got -0.1"),
        ({"classes": CLASSES[:3]}, "each column of probabilities, 4; got 3 names"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], message: str) -> None:
    probabilities, targets = made(100)
    with pytest.raises(ConfigError, match=message):
        find_thresholds(probabilities, targets, **({"classes": CLASSES, "source": "audit"} | options))
