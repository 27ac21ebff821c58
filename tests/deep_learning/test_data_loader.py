import shutil
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from camera_trap_al.deep_learning.data_loader import (
    BalancedBatchSampler,
    ExtendedImageFolder,
    ShuffledBatchSampler,
    batch_sampler,
)
from camera_trap_al.exceptions import DataError
from camera_trap_al.photos.catalogue import new_catalogue
from camera_trap_al.photos.folders import scan_data_folders

targets_of_rows = st.lists(st.integers(0, 6), min_size=1, max_size=60)


def rng(seed=0):
    return np.random.default_rng(seed)


def plain_pixels(path):
    """The photo as the documentation promises it: upright RGB, squeezed into 256 x 256, channels first."""
    with Image.open(path) as photo:
        square = photo.convert("RGB").resize((256, 256), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1)


def test_training_unlabelled_and_validation_photos_share_one_index_space(dataset):
    assert dataset.classes == ("badger", "deer", "fox", "wolf")  # wolf is an empty folder
    assert dataset.class_to_idx == {"badger": 0, "deer": 1, "fox": 2, "wolf": 3}
    assert len(dataset) == 18
    assert dataset.targets.tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2] + [-1] * 6 + [0, 1, 2]
    assert dataset.pools.labelled.tolist() == list(range(9))
    assert dataset.pools.unlabelled.tolist() == list(range(9, 15))
    assert dataset.pools.validation.tolist() == [15, 16, 17]


def test_samples_are_paths_and_class_ids_by_row(dataset, photos):
    assert len(dataset.samples) == len(dataset)
    assert dataset.samples[4] == (str(photos / "train" / "deer" / "t0.png"), 1)
    assert dataset.samples[9] == (str(photos / "unlabelled" / "site0" / "u_badger.png"), -1)


@pytest.mark.parametrize("kept", [False, True])
def test_indexing_gives_the_decoded_photo_and_its_class(photos, tmp_path, kept):
    dataset = ExtendedImageFolder.from_folders(photos / "train", cache_dir=str(tmp_path / "kept") if kept else None)
    image, class_id = dataset[5]
    assert image.dtype == torch.uint8 and class_id == 1 and type(class_id) is int
    torch.testing.assert_close(image, plain_pixels(photos / "train" / "deer" / "t1.png"))


def test_constructor_takes_a_catalogue(photos):
    catalogue = new_catalogue(scan_data_folders(photos / "train", None, None))
    assert len(ExtendedImageFolder(catalogue)) == 9


def test_folders_may_be_given_as_text(photos):
    assert len(ExtendedImageFolder.from_folders(str(photos / "train"), str(photos / "unlabelled"))) == 15


def test_validation_photos_do_not_need_unlabelled_ones(photos):
    dataset = ExtendedImageFolder.from_folders(photos / "train", validation_data=photos / "validation")
    assert len(dataset.pools.validation) == 3 and not len(dataset.pools.unlabelled)


def test_negative_index_counts_from_the_end(dataset):
    image, class_id = dataset[-1]
    torch.testing.assert_close(image, dataset[17][0])
    assert class_id == 2


@pytest.mark.parametrize("row", [18, -19, 10**9])
def test_row_that_does_not_exist_is_an_index_error(dataset, row):
    with pytest.raises(IndexError, match=f"{row}"):
        dataset[row]


def test_iterating_ends_after_the_last_row(dataset):
    assert [class_id for _, class_id in dataset] == dataset.targets.tolist()


def test_transform_is_applied_to_the_image_only(photos):
    dataset = ExtendedImageFolder.from_folders(photos / "train", transform=lambda image: image.float().mean())
    value, class_id = dataset[0]
    assert class_id == 0
    assert value == pytest.approx(plain_pixels(photos / "train" / "badger" / "t0.png").float().mean().item())


def test_images_come_in_the_order_asked_for(dataset):
    rows = [7, 0, 16]
    torch.testing.assert_close(dataset.images(rows), torch.stack([dataset[row][0] for row in rows]))


def test_unreadable_photo_is_a_data_error_that_names_it(own_photos):
    (own_photos / "train" / "deer" / "t1.png").write_bytes(b"no picture")
    dataset = ExtendedImageFolder.from_folders(own_photos / "train")
    with pytest.raises(DataError, match=r"t1\.png"):
        dataset[5]


def test_relabel_moves_rows_between_pools(dataset):
    dataset.relabel([9, 14], [2, 3])
    assert dataset.targets[[9, 14]].tolist() == [2, 3]
    assert dataset.pools.unlabelled.tolist() == [10, 11, 12, 13]
    assert set(dataset.pools.labelled) == {*range(9), 9, 14}
    dataset.relabel(np.array([9]), np.array([-1]))
    assert 9 in dataset.pools.unlabelled
    dataset.relabel([], [])  # nothing to do


@pytest.mark.parametrize(
    ("rows", "class_ids"),
    [
        ([9, 18], [0, 0]),
        ([9, -1], [0, 0]),
        ([9, 10], [0, 4]),
        ([9, 10], [0, -2]),
        ([9, 10], [0]),
        (9, 0),
        ([[9, 10]], [[0, 1]]),
        ([9, 10], ["badger", "deer"]),
        ([9, 10], [0, 1.5]),
        ([9.0, 10.5], [0, 1]),
        ([9, 10], [0, None]),
        ([True, False], [0, 1]),
    ],
)
def test_relabel_with_bad_input_is_a_data_error_and_changes_nothing(dataset, rows, class_ids):
    before = dataset.targets.copy()
    with pytest.raises(DataError, match="relabel"):
        dataset.relabel(rows, class_ids)
    assert (dataset.targets == before).all()


def test_new_classes_follow_the_others_and_can_be_given_as_labels(dataset):
    known = dataset.classes
    dataset.add_classes(["lynx", "owl"])
    assert dataset.classes == (*known, "lynx", "owl")
    dataset.relabel([9], [dataset.class_to_idx["owl"]])
    assert dataset[9][1] == len(known) + 1
    with pytest.raises(DataError, match="'owl' already"):
        dataset.add_classes(["owl"])


@pytest.mark.parametrize("n_processes", [0, 2])
@pytest.mark.parametrize("loader_type", ["single", "balanced"])
def test_torch_loader_takes_the_data_set_and_both_samplers(dataset, loader_type, n_processes):
    rows = dataset.pools.labelled
    sampler = batch_sampler(loader_type, rows, dataset.targets[rows], rng(), n_classes=2, n_samples=3)
    batches = list(DataLoader(dataset, batch_sampler=sampler, num_workers=n_processes))
    assert len(batches) == len(sampler)
    again = batch_sampler(loader_type, rows, dataset.targets[rows], rng(), n_classes=2, n_samples=3)
    for (images, class_ids), batch in zip(batches, again, strict=True):
        torch.testing.assert_close(images, dataset.images(batch))
        assert class_ids.tolist() == dataset.targets[batch].tolist()


def test_batch_sampler_gives_what_the_setting_names(dataset):
    rows = dataset.pools.labelled
    single = batch_sampler("single", rows, dataset.targets[rows], rng(), 2, 3)
    balanced = batch_sampler("balanced", rows, dataset.targets[rows], rng(), 2, 3)
    assert isinstance(single, ShuffledBatchSampler) and isinstance(balanced, BalancedBatchSampler)
    assert [len(batch) for batch in single] == [9]
    assert [len(batch) for batch in balanced] == [6, 6]


def test_single_loader_has_batches_of_128():
    rows = np.arange(300)
    batches = list(batch_sampler("single", rows, np.zeros(300, np.int64), rng(), 1, 1))
    assert [len(batch) for batch in batches] == [128, 128, 44]


@given(n_rows=st.integers(1, 80), batch_size=st.integers(2, 20))
def test_single_draws_each_row_once_and_never_leaves_one_alone(n_rows, batch_size):
    rows = np.arange(n_rows) * 3 + 5
    sampler = ShuffledBatchSampler(rows, rng(), batch_size)
    batches = list(sampler)
    sizes = [len(batch) for batch in batches]
    assert sorted(row for batch in batches for row in batch) == rows.tolist()
    assert len(sampler) == len(batches)
    assert set(sizes[:-1]) <= {batch_size}
    if n_rows == 1:
        assert sizes == [1]
    else:
        assert 2 <= sizes[-1] <= batch_size + 1
        assert (sizes[-1] == batch_size + 1) == (n_rows % batch_size == 1)


def test_single_has_another_order_in_each_epoch():
    sampler = ShuffledBatchSampler(np.arange(50), rng(), 20)
    assert list(sampler) != list(sampler)


@given(targets=targets_of_rows, n_classes=st.integers(1, 9), n_samples=st.integers(1, 12))
def test_balanced_batches_hold_equally_many_rows_of_each_drawn_class(targets, n_classes, n_samples):
    targets = np.array(targets)
    rows = np.arange(len(targets)) * 2 + 1
    class_of = dict(zip(rows.tolist(), targets.tolist(), strict=True))
    n_present = len(set(targets.tolist()))
    batch_size = min(n_classes, n_present) * n_samples
    sampler = BalancedBatchSampler(rows, targets, rng(), n_classes, n_samples)
    batches = list(sampler)
    assert len(sampler) == len(batches) == max(1, int(np.ceil(len(rows) / batch_size)))
    for batch in batches:
        of_class = Counter(class_of[row] for row in batch)
        assert len(of_class) == min(n_classes, n_present)
        assert set(of_class.values()) == {n_samples}
        times = Counter(batch)
        for class_id in of_class:  # reused only as often as needed: as evenly as whole numbers allow
            used = [times[row] for row in rows.tolist() if class_of[row] == class_id]
            assert max(used) - min(used) <= 1


@given(targets=targets_of_rows, seed=st.integers(0, 2**32 - 1))
def test_samplers_are_decided_by_the_generator_alone(targets, seed):
    targets = np.array(targets)
    rows = np.arange(len(targets))
    for loader_type in ("single", "balanced"):
        first, second = (batch_sampler(loader_type, rows, targets, rng(seed), 3, 2) for _ in range(2))
        assert [list(first), list(first)] == [list(second), list(second)]


def test_balanced_draws_other_rows_each_time_and_every_class_as_often():
    targets = np.repeat(np.arange(8), 10)
    sampler = BalancedBatchSampler(np.arange(80), targets, rng(), 3, 2)
    batches = [batch for _ in range(50) for batch in sampler]
    assert len({tuple(batch) for batch in batches[:14]}) == 14
    drawn = Counter(int(targets[row]) for batch in batches for row in batch[::2])
    assert len(batches) == 50 * 14
    # Each class is in a batch with probability 3/8: of 700 batches 262, with a standard deviation of 13.
    assert all(abs(drawn[class_id] - 262.5) < 4 * 13 for class_id in range(8))


@pytest.mark.parametrize("loader_type", ["single", "balanced"])
def test_without_rows_there_is_no_batch(loader_type):
    sampler = batch_sampler(loader_type, np.zeros(0, np.int64), np.zeros(0, np.int64), rng(), 3, 2)
    assert len(sampler) == 0 and list(sampler) == []


@given(
    targets=targets_of_rows,
    n_groups=st.integers(1, 8),
    n_samples=st.integers(1, 12),
    seed=st.integers(0, 2**32 - 1),
)
def test_balanced_draws_a_class_from_as_many_groups_as_possible(targets, n_groups, n_samples, seed):
    targets = np.array(targets)
    groups = rng(seed).integers(0, n_groups, len(targets))
    rows = np.arange(len(targets))
    for batch in BalancedBatchSampler(rows, targets, rng(seed), 3, n_samples, groups):
        for class_id in set(targets[batch].tolist()):
            of_class = rows[targets == class_id]
            drawn = [row for row in batch if targets[row] == class_id]
            rest = Counter(drawn)
            rest.subtract({row: n_samples // len(of_class) for row in of_class.tolist()})
            chosen = [row for row, n in rest.items() if n]
            available = Counter(groups[of_class].tolist())
            used = Counter(groups[chosen].tolist())
            # No group gives two photos while another one has a photo left that was not drawn.
            fewest = min((used[group] for group in available if used[group] < available[group]), default=len(rows))
            assert max(used.values(), default=0) <= fewest + 1
            assert len(used) == min(len(chosen), len(available))


def shares_drawn(groups, n_samples, n_batches=400):
    """How often each photo of one class is drawn, as a share of all draws."""
    sampler = BalancedBatchSampler(np.arange(len(groups)), np.zeros(len(groups), np.int64), rng(), 1, n_samples, groups)
    drawn = []
    while len(drawn) < n_batches * n_samples:
        drawn += [row for batch in sampler for row in batch]
    return np.bincount(drawn, minlength=len(groups)) / len(drawn)


def test_large_groups_are_drawn_more_often_than_small_ones_as_they_have_more_photos():
    """500 photos of one place each, and 100 of one site: in batches of 10, that site has one photo of ten at most."""
    groups = np.concatenate([np.arange(500), np.full(100, 500)])
    shares = shares_drawn(groups, 10)
    # Without groups 1/6 of the draws would be from the site. It is in a batch unless all ten draws miss it, that is
    # with probability 1 - (5/6)^10 = 0.84, give or take what was drawn before; then with one of ten photos.
    assert shares[500:].sum() == pytest.approx(0.084, abs=0.01)
    assert shares[:500].sum() == pytest.approx(0.916, abs=0.01)
    assert shares[:500].max() < 8 * shares[:500].mean(), "and no photo is preferred"


def test_photos_of_two_groups_take_turns():
    shares = shares_drawn(np.array([0, 0, 0, 0, 1, 1]), 2, n_batches=600)
    # 600 batches of one photo from each group.
    assert all(abs(1200 * share - 150) < 4 * 11 for share in shares[:4])
    assert all(abs(1200 * share - 300) < 4 * 13 for share in shares[4:])


def test_photos_of_one_folder_are_a_group_unless_it_is_that_of_their_class(own_photos):
    for name in ("a.png", "b.png"):
        (own_photos / "train" / "deer" / "site7").mkdir(exist_ok=True)
        shutil.copy(own_photos / "train" / "deer" / "t0.png", own_photos / "train" / "deer" / "site7" / name)
    dataset = ExtendedImageFolder.from_folders(own_photos / "train", own_photos / "unlabelled")
    paths = dataset.catalogue.paths
    numbers = dict(zip(paths, dataset.groups(np.arange(len(paths))).tolist(), strict=True))
    assert numbers["deer/site7/a.png"] == numbers["deer/site7/b.png"] != numbers["deer/t0.png"]
    assert numbers["deer/t0.png"] != numbers["deer/t1.png"]
    assert numbers["site0/u_deer.png"] == numbers["site0/u_fox.png"] != numbers["site1/u_fox.png"]
    assert len(set(numbers.values())) == 9 + 1 + 2


@pytest.mark.parametrize(
    ("mode", "told"),
    [("auto", "are kept in {folder}: at most "), ("memory", "are kept in memory"), ("off", "decoded again each time")],
)
def test_where_decoded_photos_are_kept_can_be_chosen(photos, tmp_path, mode, told):
    dataset = ExtendedImageFolder.from_folders(photos / "train", cache_dir=tmp_path / "kept", image_cache=mode)
    dataset.cache.fill(np.arange(9))
    assert told.format(folder=tmp_path / "kept") in dataset.cache.describe(np.arange(9))
    assert (tmp_path / "kept" / "images.u8").exists() == (mode == "auto")
    torch.testing.assert_close(dataset[5][0], plain_pixels(photos / "train" / "deer" / "t1.png"), atol=1, rtol=0)
