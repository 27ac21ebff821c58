import json
import math

import numpy as np
import pytest
from scipy.stats import binomtest

from camera_trap_al.statistics.audit import Audit, audit_photos_of_round, draw_audit, judge_audit, wilson_interval


def judge(true, predicted, groups=None, classes=("deer", "fox", "hare")):
    groups = np.arange(len(true)) if groups is None else np.array(groups)
    return judge_audit(np.array(true), np.array(predicted), groups, classes)


@pytest.mark.parametrize(("n_right", "n"), [(0, 50), (45, 50), (270, 300), (300, 300), (1, 1000)])
def test_the_interval_is_that_of_scipy(n_right, n):
    expected = binomtest(n_right, n).proportion_ci(0.95, method="wilson")
    assert wilson_interval(n_right / n, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_three_hundred_answers_give_about_three_and_a_half_points_at_ninety_per_cent():
    low, high = judge([0] * 300, [0] * 270 + [1] * 30).interval
    assert (high - low) / 2 == pytest.approx(0.035, abs=0.002)


def test_accuracy_and_prevalence_are_shares_of_the_answers():
    audit = judge([0, 0, 0, 2, 1], [0, 0, 1, 2, 2])
    assert (audit.n_answers, audit.n_groups, audit.accuracy) == (5, 5, 3 / 5)
    assert [(found.name, found.n_answers, found.share) for found in audit.prevalence] == [
        ("deer", 3, 0.6),
        ("fox", 1, 0.2),
        ("hare", 1, 0.2),
    ]


def test_no_interval_is_told_below_fifty_answers():
    few, enough = judge([0, 1] * 24 + [0], [0] * 49), judge([0, 1] * 25, [0] * 50)
    assert few.interval is None and all(found.interval is None for found in few.prevalence)
    assert "too few for an interval, which takes 50 from 10 bursts" in few.told
    assert enough.interval is not None and all(found.interval is not None for found in enough.prevalence)
    assert f"95 % interval {enough.interval[0]:.1%} to {enough.interval[1]:.1%}" in enough.told


def test_without_an_answer_there_is_no_audit():
    assert judge([], []) is None


def test_the_figures_come_back_from_json():
    for audit in (judge([0, 1] * 30, [0] * 60), judge([0], [1])):
        assert Audit.from_dict(json.loads(json.dumps(audit.to_dict()))) == audit


def pool_of_bursts(rng, n_groups, longest, share_right, likeness):
    """Photos in bursts whose share of right answers varies from burst to burst, by a beta distribution."""
    sizes = rng.integers(1, longest + 1, n_groups)
    groups = np.repeat(np.arange(n_groups), sizes)
    spread = (1 - likeness) / likeness if likeness else 1e9
    share = rng.beta(share_right * spread, (1 - share_right) * spread, n_groups)
    return groups, rng.random(len(groups)) < share[groups]


@pytest.mark.parametrize(
    ("n_groups", "longest", "likeness", "fraction", "n_asked"),
    [
        (4000, 1, 0.0, 0.25, 60),
        (4000, 1, 0.0, 0.25, 300),
        (400, 10, 0.3, 0.25, 200),
        (400, 10, 0.9, 0.25, 300),
        (50, 80, 0.3, 0.05, 100),  # larger than a burst: drawn one by one
        (50, 80, 0.99, 0.05, 100),
        (150, 20, 0.3, 0.15, 200),  # some twenty bursts
        (150, 20, 0.9, 0.15, 200),
        (4, 1000, 0.5, 0.2, 300),  # sites
    ],
)
def test_the_interval_holds_the_accuracy_of_the_whole_pool_about_as_often_as_it_says(
    n_groups, longest, likeness, fraction, n_asked
):
    # 400 audits of one pool after the other; with 95 % the count is 380, give or take 4.4 (one standard deviation).
    rng = np.random.default_rng(3)
    n_held = 0
    for _ in range(400):
        groups, is_right = pool_of_bursts(rng, n_groups, longest, 0.85, likeness)
        lots = draw_audit(groups, fraction, rng)
        asked = np.argsort(lots % 1)[: min(n_asked, np.count_nonzero(~np.isnan(lots)))]  # NaN is last
        true, predicted = np.zeros(len(asked), np.int64), np.where(is_right[asked], 0, 1)
        low, high = judge_audit(true, predicted, lots[asked].astype(int), ("a", "b")).interval
        n_held += low <= is_right.mean() <= high
    assert 362 <= n_held <= 398


def test_photos_of_sites_tell_as_much_as_they_should():
    # 300 answers at 90 % of two large sites, drawn one by one: 3.4 points, though the model is better at one of them.
    rng = np.random.default_rng(0)
    groups = np.repeat([0, 1], 5000)
    is_right = rng.random(10_000) < np.where(groups == 0, 0.98, 0.82)
    lots = draw_audit(groups, 0.1, rng)
    asked = np.argsort(lots % 1)[:300]
    audit = judge_audit(np.zeros(300, int), np.where(is_right[asked], 0, 1), lots[asked].astype(int), ("a", "b"))
    assert audit.n_groups == 300
    assert audit.interval[1] - audit.interval[0] == pytest.approx(0.068, abs=0.012)


def test_photos_of_bursts_that_are_alike_give_a_wider_interval_than_as_many_alone():
    right = [0] * 80 + [1] * 20
    alone, in_bursts = judge([0] * 100, right), judge([0] * 100, right, np.arange(100) // 5)
    assert in_bursts.accuracy == alone.accuracy
    width = {name: audit.interval[1] - audit.interval[0] for name, audit in [("alone", alone), ("bursts", in_bursts)]}
    # Within each burst all are right or all wrong: 20 bursts of 5 tell as much as 20 photos, or as 19 by the n - 1, and
    # less by Student's t with 19 degrees of freedom.
    low, high = wilson_interval(0.8, 19 * (1.959964 / 2.093024) ** 2)
    assert width["bursts"] == pytest.approx(high - low, rel=1e-5) and width["bursts"] > 2 * width["alone"]


def test_bursts_that_are_all_right_tell_as_much_as_so_many_photos():
    low, _ = judge([0] * 100, [0] * 100, np.arange(100) // 5).interval
    assert low == pytest.approx(wilson_interval(1.0, 20 * (1.959964 / 2.093024) ** 2)[0], rel=1e-5)


def test_a_few_bursts_give_no_interval():
    assert judge([0] * 90, [0] * 80 + [1] * 10, np.arange(90) // 10).interval is None


def test_whole_bursts_are_reserved():
    groups = np.repeat(np.arange(200), 5)
    lots = draw_audit(groups, 0.05, np.random.default_rng(1), first_number=7)
    reserved = ~np.isnan(lots)
    assert reserved.sum() == 50
    assert all(reserved[groups == group].all() or not reserved[groups == group].any() for group in range(200))
    assert len(np.unique(lots[reserved] % 1)) == 50
    numbers = {group: set(lots[reserved & (groups == group)].astype(int)) for group in groups[reserved]}
    assert sorted(number for of_group in numbers.values() for number in of_group) == list(range(7, 17))


def test_of_a_folder_that_is_no_burst_single_photos_are_reserved():
    groups = np.repeat([0, 1], 1000)  # two sites
    lots = draw_audit(groups, 0.05, np.random.default_rng(1))
    reserved = ~np.isnan(lots)
    assert reserved.sum() == 100
    assert 30 < reserved[:1000].sum() < 70, "of both"
    assert sorted(lots[reserved].astype(int)) == list(range(100)), "each on its own"


def test_where_ten_bursts_are_too_many_single_photos_are_reserved():
    lots = draw_audit(np.repeat(np.arange(40), 10), 0.1, np.random.default_rng(1))  # 40 photos would be 4 bursts
    assert len(np.unique(lots[~np.isnan(lots)].astype(int))) == 40


def test_each_photo_is_reserved_as_often_as_any_other():
    # Bursts of 1 to 12 photos and a site of 60: by 2,000 draws, each photo's share is the mean, to 5 standard errors.
    sizes = [*range(1, 13)] * 4 + [60]
    groups = np.repeat(np.arange(len(sizes)), sizes)
    rng, n_draws = np.random.default_rng(2), 2000
    times = sum(~np.isnan(draw_audit(groups, 0.1, rng)) for _ in range(n_draws)) / n_draws
    assert np.abs(times - times.mean()).max() < 5 * math.sqrt(times.mean() / n_draws)


@pytest.mark.parametrize("n", [1, 3, 19])
def test_a_small_pool_gives_one_photo(n):
    assert np.count_nonzero(~np.isnan(draw_audit(np.zeros(n, np.int64), 0.05, np.random.default_rng(0)))) == 1


def test_of_photos_that_come_later_the_share_is_reserved_on_average_however_few_come_at_a_time():
    # 1,000 times 3 photos: 150 are expected, give or take 12.
    rng = np.random.default_rng(0)
    counts = [np.count_nonzero(~np.isnan(draw_audit(np.arange(3), 0.05, rng, at_least=0))) for _ in range(1000)]
    assert 110 < sum(counts) < 190


def test_nothing_is_reserved_of_nothing_or_for_nothing():
    rng = np.random.default_rng(0)
    assert np.isnan(draw_audit(np.arange(5), 0.0, rng)).all()
    assert draw_audit(np.zeros(0, np.int64), 0.05, rng).shape == (0,)


def test_the_draw_is_that_of_the_generator():
    draws = [draw_audit(np.arange(100), 0.1, np.random.default_rng(seed)) for seed in (4, 4, 5)]
    assert np.array_equal(draws[0], draws[1], equal_nan=True)
    assert not np.array_equal(draws[0], draws[2], equal_nan=True)


@pytest.mark.parametrize(
    ("fraction", "n", "expected"),
    [(0.05, 100, 5), (0.05, 5, 1), (0.05, 50, 2), (0.5, 3, 2), (0.0, 100, 0), (0.05, 0, 0)],
)
def test_a_round_has_the_share_of_audit_photos_but_at_least_one(fraction, n, expected):
    assert audit_photos_of_round(fraction, n, round_number=1) == expected


def test_a_long_burst_is_in_the_audit_with_its_share_of_the_photos() -> None:
    # 1000 single photos and a burst of 110: drawn whole, it would be in one audit of twenty, and be most of that.
    groups = np.concatenate([np.arange(1000), np.full(110, 2000)])
    rng, shares = np.random.default_rng(0), []
    for _ in range(300):
        lots = draw_audit(groups, 0.05, rng, is_sequence=np.ones(len(groups), np.bool_))
        shares.append((groups[~np.isnan(lots)] == 2000).mean())
    assert np.mean(shares) == pytest.approx(110 / 1110, abs=0.01)


def test_rounds_of_one_photo_are_for_the_audit_as_seldom_as_the_share_says():
    assert [number for number in range(1, 61) if audit_photos_of_round(0.05, 1, number)] == [20, 40, 60]


def test_known_bursts_are_reserved_whole_unless_one_holds_a_tenth_of_the_photos() -> None:
    groups = np.repeat(np.arange(40), 10)  # 40 photos of 400: by their size alone, photos would be drawn singly
    known = np.ones(400, np.bool_)
    lots = draw_audit(groups, 0.1, np.random.default_rng(1), is_sequence=known)
    reserved = groups[~np.isnan(lots)]
    assert np.unique(reserved, return_counts=True)[1].tolist() == [10] * 4
    long_ones = np.repeat(np.arange(100), 60)  # longer than what may be a site, and still bursts: 600 photos are wanted
    lots = draw_audit(long_ones, 0.1, np.random.default_rng(1), is_sequence=np.ones(6000, np.bool_))
    assert np.unique(long_ones[~np.isnan(lots)], return_counts=True)[1].tolist() == [60] * 10
    few = np.repeat(np.arange(5), 10)  # added to a large pool: 5 photos alone would be a tenth of them
    lots = draw_audit(few, 0.2, np.random.default_rng(1), is_sequence=np.ones(50, np.bool_), n_others=1000)
    assert np.unique(few[~np.isnan(lots)], return_counts=True)[1].tolist() == [10]
    lots = draw_audit(np.repeat([0, 1], 20), 0.1, np.random.default_rng(1), is_sequence=known[:40])
    assert np.count_nonzero(~np.isnan(lots)) <= 5, "not one of two bursts whole"
