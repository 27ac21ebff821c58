import numpy as np
import pytest

from camera_trap_al.deep_learning import pixel_statistics
from camera_trap_al.deep_learning.data_loader import ExtendedImageFolder
from camera_trap_al.deep_learning.pixel_statistics import draw_sample, measure_pixels


def test_all_photos_are_measured_up_to_20_000():
    lots = np.random.default_rng(0).random(30_000)
    rows = np.arange(20_000)
    assert draw_sample(rows, lots, at_most=100) is rows


@pytest.mark.parametrize(("at_most", "n"), [(None, 20_000), (50_000, 20_000), (300, 300)])
def test_of_more_the_lowest_lots_are_drawn(at_most, n):
    lots = np.random.default_rng(0).random(30_000)
    rows = np.arange(1000, 30_000)
    sample = draw_sample(rows, lots, at_most)
    assert len(sample) == n and (np.diff(sample) > 0).all()
    assert sorted(lots[sample]) == sorted(lots[rows])[:n]


@pytest.mark.parametrize("batch", [4, 256])
def test_mean_and_spread_are_those_of_all_readable_pixels(own_photos, monkeypatch, batch):
    monkeypatch.setattr(pixel_statistics, "BATCH", batch)
    (own_photos / "train" / "deer" / "t1.png").write_bytes(b"no picture")  # row 5
    dataset = ExtendedImageFolder.from_folders(own_photos / "train")
    mean, std = measure_pixels(dataset.cache, np.arange(9))
    pixels = dataset.cache.read(np.arange(9))[0].reshape(-1, 3) / 255
    np.testing.assert_allclose(mean, pixels.mean(axis=0))
    np.testing.assert_allclose(std, pixels.std(axis=0))
