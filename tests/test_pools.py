import sys

import numpy as np
import psutil
import pytest

from camera_trap_al.pools import REFUSED, UNLABELLED, Pools, Role, empty_where_unused

# row            0           1                2                3                4                5                6
ROLES = [Role.TRAIN, Role.UNLABELLED, Role.UNLABELLED, Role.VALIDATION, Role.UNLABELLED, Role.VALIDATION, Role.TRAIN]
TARGETS = [2, UNLABELLED, 0, 1, UNLABELLED, 1, 0]
SET_ASIDE = [False, False, False, False, True, True, True]


@pytest.fixture
def pools() -> Pools:
    return Pools(np.array(ROLES, dtype=np.int8), np.array(TARGETS, dtype=np.int64), np.array(SET_ASIDE))


@pytest.mark.parametrize(
    ("name", "rows"),
    [("labelled", [0, 2]), ("unlabelled", [1]), ("validation", [3]), ("answered", [2]), ("set_aside", [4, 5, 6])],
)
def test_each_row_is_where_its_role_and_target_put_it(pools: Pools, name: str, rows: list[int]) -> None:
    found = getattr(pools, name)
    assert found.tolist() == rows
    assert found.dtype == np.int64


def test_every_row_is_in_exactly_one_pool_whatever_the_arrays() -> None:
    rng = np.random.default_rng(0)
    targets = rng.integers(-1, 3, 500)
    roles = rng.integers(0, 3, 500).astype(np.int8)
    targets[(roles != Role.UNLABELLED) & (targets == UNLABELLED)] = 0  # only the unlabelled folder lacks labels
    pools = Pools(roles, targets, rng.random(500) < 0.2)
    together = np.concatenate([pools.labelled, pools.unlabelled, pools.validation, pools.set_aside])
    assert sorted(together.tolist()) == list(range(500))
    assert set(pools.answered.tolist()) - set(pools.set_aside.tolist()) < set(pools.labelled.tolist())


def test_an_answer_counts_also_when_its_photo_is_set_aside_later(pools: Pools) -> None:
    pools.is_set_aside[2] = True
    assert pools.answered.tolist() == [2]
    assert pools.labelled.tolist() == [0]


def test_a_label_moves_a_row_from_unlabelled_to_answered(pools: Pools) -> None:
    pools.targets[1] = 2
    assert pools.unlabelled.tolist() == []
    assert pools.answered.tolist() == [1, 2]
    assert pools.labelled.tolist() == [0, 1, 2]


def test_arrays_of_different_lengths_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"got \[7, 6, 7, 7, 7, 7, 7, 7\]"):
        Pools(np.array(ROLES, dtype=np.int8), np.array(TARGETS[:-1]), np.array(SET_ASIDE))


@pytest.fixture
def audited() -> Pools:
    lots = np.full(8, np.nan)
    lots[[1, 2, 4, 5, 6]] = [7.5, 7.1, 2.9, 8.3, 8.2]  # so the order of the audit is 2, 6, 5, 1, 4
    roles = np.array([Role.TRAIN, *[Role.UNLABELLED] * 7], np.int8)
    targets = np.array([0, -1, 1, -1, -1, -1, -1, 0])
    is_set_aside = np.array([False] * 6 + [True, False])
    return Pools(roles, targets, is_set_aside, audit_lots=lots)


def test_photos_of_the_audit_are_neither_learnt_from_nor_candidates(audited: Pools) -> None:
    assert audited.audit.tolist() == [2]
    assert audited.labelled.tolist() == [0, 7]
    assert audited.answered.tolist() == [2, 7], "an answer is an answer, whatever it is for"
    assert audited.unlabelled.tolist() == [1, 3, 4, 5]
    assert audited.candidates(np.zeros(8), None).tolist() == [3]


def test_the_audit_goes_on_in_the_order_of_its_lots(audited: Pools) -> None:
    assert audited.audit_to_come().tolist() == [5, 1, 4]


def test_photos_of_the_audit_that_were_drawn_as_one_have_one_number(audited: Pools) -> None:
    assert audited.audit_groups(np.array([1, 2, 4, 5])).tolist() == [7, 7, 2, 8]


def test_without_lots_there_is_no_audit(pools: Pools) -> None:
    assert not pools.is_audit.any()
    assert not len(pools.audit) and not len(pools.audit_to_come())


def test_a_role_names_the_argument_of_its_folder() -> None:
    assert [role.argument for role in Role] == ["train_data", "unlabelled_data", "validation_data"]


def test_candidates_are_the_unlabelled_rows_with_the_lowest_lots() -> None:
    n = 50
    rng = np.random.default_rng(1)
    lots = rng.random(n)
    pools = Pools(np.full(n, Role.UNLABELLED, np.int8), np.full(n, UNLABELLED), rng.random(n) < 0.2)
    pools.targets[::5] = 0
    unlabelled = pools.unlabelled
    expected = sorted(sorted(unlabelled.tolist(), key=lambda row: lots[row])[:12])
    assert pools.candidates(lots, 12).tolist() == expected
    assert pools.candidates(lots, len(unlabelled)).tolist() == unlabelled.tolist()
    assert pools.candidates(lots, None).tolist() == unlabelled.tolist()


def test_candidates_that_are_used_up_are_replaced_by_those_next_in_line() -> None:
    n = 30
    lots = np.random.default_rng(2).random(n)
    pools = Pools(np.full(n, Role.UNLABELLED, np.int8), np.full(n, UNLABELLED), np.zeros(n, np.bool_))
    before = pools.candidates(lots, 10)
    pools.targets[before[:3]] = 0
    pools.is_set_aside[before[3]] = True
    after = pools.candidates(lots, 10)
    stayed, came = set(before[4:].tolist()), set(after.tolist()) - set(before.tolist())
    assert stayed < set(after.tolist()) and len(came) == 4
    others = set(range(n)) - set(before.tolist()) - came
    assert max(lots[list(came)]) < min(lots[list(others)])


def test_an_array_that_is_mostly_unused_is_one_of_zeros_that_can_be_written() -> None:
    array = empty_where_unused((1000, 7))
    assert array.shape == (1000, 7) and array.dtype == np.float32
    array[500] = 1
    assert array.sum() == 7
    assert empty_where_unused((0, 7)).shape == (0, 7)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how much of an array is in memory")
def test_it_takes_memory_only_where_it_is_written() -> None:
    before = psutil.Process().memory_info().rss
    array = empty_where_unused((1_000_000, 256))  # 1 GB
    array[::500] = 1  # 2,000 rows, each on a page of 4 kB of its own
    assert psutil.Process().memory_info().rss - before < 100e6


def test_rows_that_are_not_wanted_now_make_room_for_others_unless_there_are_none() -> None:
    roles, targets = np.full(6, Role.UNLABELLED, np.int8), np.array([UNLABELLED] * 5 + [0])
    pools, lots = Pools(roles, targets, np.zeros(6, np.bool_)), np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.0])
    assert pools.candidates(lots, 2).tolist() == [0, 1]
    assert pools.candidates(lots, 2, np.array([0])).tolist() == [1, 2]
    assert pools.candidates(lots, None, np.array([0, 4])).tolist() == [1, 2, 3]
    assert pools.candidates(lots, 2, np.arange(5)).tolist() == [0, 1]


def unlabelled_pools(n: int, **more: np.ndarray) -> Pools:
    return Pools(np.full(n, Role.UNLABELLED, np.int8), np.full(n, UNLABELLED), np.zeros(n, np.bool_), **more)


def test_candidates_with_one_lot_are_taken_together_or_not_at_all() -> None:
    lots = np.array([0.5, 0.1, 0.1, 0.5, 0.5, 0.9])
    pools = unlabelled_pools(6)
    assert pools.candidates(lots, 2).tolist() == [1, 2]
    assert pools.candidates(lots, 4).tolist() == [1, 2], "three have the lot 0.5, and there is room for two"
    assert pools.candidates(lots, 5).tolist() == [0, 1, 2, 3, 4]
    assert pools.candidates(np.zeros(6), 4).tolist() == [0, 1, 2, 3], "unless there would be none"


def test_what_is_held_out_is_neither_asked_about_nor_learnt_from_and_measures_once_it_has_a_label() -> None:
    pools = unlabelled_pools(4, is_held_out=np.array([True, True, False, False]))
    pools.targets[[0, 2]] = 1
    assert pools.labelled.tolist() == [2]
    assert pools.validation.tolist() == [0]
    assert pools.to_ask.tolist() == [3] and pools.candidates(np.zeros(4), None).tolist() == [3]
    assert pools.unlabelled.tolist() == [1, 3], "both are predicted"


def test_what_a_detector_decided_is_in_no_pool_unless_somebody_labels_it() -> None:
    pools = unlabelled_pools(3, is_empty=np.array([True, True, False]))
    pools.targets[1] = 0
    assert (pools.labelled.tolist(), pools.unlabelled.tolist(), pools.to_ask.tolist()) == ([1], [2], [2])
    assert pools.decided_empty.tolist() == [0]


def test_a_row_learns_with_the_label_of_another_until_it_has_its_own() -> None:
    pools = unlabelled_pools(4, propagated=np.array([2, 1, REFUSED, UNLABELLED]))
    assert pools.propagating.tolist() == [0, 1]
    pools.targets[0] = 0
    assert pools.propagating.tolist() == [1]
    assert pools.unlabelled.tolist() == [1, 2, 3]
