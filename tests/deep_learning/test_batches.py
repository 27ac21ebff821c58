import threading

import numpy as np
import pytest
import torch

from camera_trap_al.deep_learning.augmentation import Augmentation
from camera_trap_al.deep_learning.batches import evaluation_batches, training_batches
from camera_trap_al.deep_learning.data_loader import ExtendedImageFolder, batch_sampler
from camera_trap_al.deep_learning.transforms import crop_centre

CPU = torch.device("cpu")


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture
def with_a_bad_photo(own_photos):
    """The data set without a cache; row 5 cannot be read."""
    (own_photos / "train" / "deer" / "t1.png").write_bytes(b"no picture")
    return ExtendedImageFolder.from_folders(own_photos / "train", own_photos / "unlabelled", num_workers=2)


def test_training_batches_are_those_of_the_sampler_cropped_as_drawn(dataset):
    rows_of_batches = [[3, 1, 8], [0, 2]]
    batches = list(training_batches(dataset, rows_of_batches, rng(4), CPU))
    expected = rng(4)
    for batch, rows in zip(batches, rows_of_batches, strict=True):
        choices = Augmentation.draw(expected, len(rows))
        assert batch.rows.tolist() == rows
        assert batch.augmentation.angle.tolist() == choices.angle.tolist()
        np.testing.assert_array_equal(batch.images.numpy(), choices.crop(dataset.cache.images(np.array(rows))))


def test_sampler_and_augmentation_share_one_generator_and_are_repeatable(dataset):
    """However far the loader is ahead, batch k is drawn after batch k - 1 and its augmentation."""

    def drawn(seed):
        generator = rng(seed)
        rows = dataset.pools.labelled
        sampler = batch_sampler("balanced", rows, dataset.targets[rows], generator, 2, 2)
        batches = training_batches(dataset, sampler, generator, CPU)
        return [(batch.rows.tolist(), batch.augmentation.hue.tolist()) for batch in batches]

    generator = rng(7)
    rows = dataset.pools.labelled
    one_by_one = []
    for rows_of_batch in batch_sampler("balanced", rows, dataset.targets[rows], generator, 2, 2):
        one_by_one.append((rows_of_batch, Augmentation.draw(generator, len(rows_of_batch)).hue.tolist()))
    assert drawn(7) == one_by_one
    assert drawn(8) != one_by_one


def test_unreadable_photos_are_left_out_of_training_with_their_augmentation(with_a_bad_photo):
    (batch,) = training_batches(with_a_bad_photo, [[4, 5, 6]], rng(2), CPU)
    choices = Augmentation.draw(rng(2), 3)[np.array([0, 2])]
    assert batch.rows.tolist() == [4, 6]
    assert batch.augmentation.angle.tolist() == choices.angle.tolist()
    np.testing.assert_array_equal(batch.images.numpy(), choices.crop(with_a_bad_photo.cache.images(np.array([4, 6]))))
    assert set(with_a_bad_photo.cache.unreadable) == {5}


def test_a_batch_without_a_readable_photo_is_skipped(with_a_bad_photo):
    batches = list(training_batches(with_a_bad_photo, [[5], [0, 1]], rng(), CPU))
    assert [batch.rows.tolist() for batch in batches] == [[0, 1]]


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_evaluation_batches_are_the_centres_in_the_order_asked_for(dataset, batch_size):
    rows = np.array([16, 3, 12, 0, 3])
    batches = list(evaluation_batches(dataset, rows, batch_size, CPU))
    assert [len(batch.is_read) for batch in batches] == [
        len(rows[start : start + batch_size]) for start in range(0, 5, batch_size)
    ]
    images = np.concatenate([batch.images.numpy() for batch in batches])
    np.testing.assert_array_equal(images, crop_centre(dataset.cache.images(rows)))


def test_evaluation_says_which_photos_could_not_be_read(with_a_bad_photo):
    (batch,) = evaluation_batches(with_a_bad_photo, np.array([4, 5, 6]), 10, CPU)
    assert batch.is_read.tolist() == [True, False, True]
    assert len(batch.images) == 2


def test_the_next_batches_are_loaded_while_one_is_in_use(dataset, monkeypatch):
    loaded = threading.Semaphore(0)
    read = dataset.cache.read

    def watched(rows):
        images = read(rows)
        loaded.release()
        return images

    monkeypatch.setattr(dataset.cache, "read", watched)
    batches = evaluation_batches(dataset, np.arange(10), 1, CPU)
    next(batches)
    for _ in range(3):  # the one that was given, and two ahead
        assert loaded.acquire(timeout=10)
    batches.close()


@pytest.mark.gpu
def test_for_a_gpu_images_lie_where_it_can_fetch_them(dataset):
    (batch,) = evaluation_batches(dataset, np.arange(3), 10, torch.device("cuda"))
    assert batch.images.is_pinned()
