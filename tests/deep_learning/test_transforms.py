import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from camera_trap_al.deep_learning.transforms import Normalisation, channel_statistics, crop_centre, squeeze
from camera_trap_al.exceptions import DataError
from camera_trap_al.photos import images
from camera_trap_al.photos.images import read_photo

MEAN, STD = np.array([0.5, 0.4, 0.3]), np.array([0.2, 0.25, 0.3])


def photos(n=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 256, 256, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(600, 800), (300, 257), (256, 256), (40, 30), (1, 5), (37, 2000)])
def test_the_quick_squeeze_is_that_of_pillow_to_one_level(size):
    coarse = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    image = np.array(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC))
    difference = np.abs(squeeze(image).astype(int) - images.squeeze(image))
    assert squeeze(image).shape == (256, 256, 3)
    assert difference.max() <= 1 and difference.mean() < 0.01


@pytest.mark.data
def test_real_photos_squeezed_quickly_are_near_the_full_decode(data):
    """The reference is Pillow's full decode and bilinear resize; the bounds are 1 and 1.5 of 255 levels."""
    differences = []
    for path in sorted((data / "camera_trap_fullsize").glob("*.jpg")):
        with Image.open(path) as photo:
            full = np.asarray(photo.convert("RGB").resize((256, 256), Image.Resampling.BILINEAR))
        differences.append(np.abs(read_photo(path, squeeze).astype(float) - full).mean())
    assert len(differences) >= 30
    assert np.mean(differences) < 1.0
    assert max(differences) < 1.5


def test_the_centre_is_cut_out():
    cropped = crop_centre(photos())
    np.testing.assert_array_equal(cropped, photos()[:, 16:240, 16:240])  # (256 - 224) / 2 = 16 pixels off each side
    assert cropped.flags.c_contiguous


def test_bytes_are_normalised_by_channel():
    pixels = crop_centre(photos())
    result = Normalisation(MEAN, STD).of_bytes(torch.from_numpy(pixels))
    expected = np.moveaxis((pixels / 255 - MEAN) / STD, 3, 1)
    assert result.dtype == torch.float32 and result.shape == (3, 3, 224, 224)
    assert result.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-5)


def test_shares_are_normalised_in_place():
    pixels = torch.rand(2, 3, 5, 4)
    expected = (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    result = Normalisation(MEAN, STD)(pixels)
    assert result is pixels
    torch.testing.assert_close(result, expected.float())


def test_the_bytes_are_left_alone_and_may_be_none():
    pixels = torch.from_numpy(photos())
    before = pixels.clone()
    Normalisation(MEAN, STD).of_bytes(pixels)
    assert torch.equal(pixels, before)
    assert Normalisation(MEAN, STD).of_bytes(pixels[:0]).shape == (0, 3, 256, 256)


@pytest.mark.parametrize("std", [[0.2, 0.0, 0.2], [0.2, np.nan, 0.2]])
def test_a_flat_channel_cannot_be_normalised(std):
    with pytest.raises(DataError, match="flat colour"):
        Normalisation(MEAN, np.array(std))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=4), st.integers(0, 2**32 - 1))
def test_channel_statistics_are_those_of_all_pixels(batch_sizes, seed):
    rng = np.random.default_rng(seed)
    batches = [rng.integers(0, rng.integers(2, 257), (n, 8, 8, 3), dtype=np.uint8) for n in [*batch_sizes, 1]]
    pixels = np.concatenate(batches).reshape(-1, 3) / 255
    mean, std = channel_statistics(batches)
    assert mean.shape == std.shape == (3,) and mean.dtype == std.dtype == np.float64
    np.testing.assert_allclose(mean, np.mean(pixels, axis=0), rtol=1e-12)
    np.testing.assert_allclose(std, np.std(pixels, axis=0), rtol=1e-9)


def test_channel_statistics_do_not_depend_on_batches_and_keep_channels_apart():
    pixels = photos(6)
    pixels[..., 2] //= 3
    whole, split = channel_statistics([pixels]), channel_statistics(iter([pixels[:1], pixels[1:5], pixels[5:]]))
    assert np.array_equal(whole, split)
    assert whole[0][2] < 0.5 * whole[0][0]


def test_channel_statistics_of_a_flat_colour_have_no_spread():
    mean, std = channel_statistics([np.full((2, 256, 256, 3), (255, 0, 51), dtype=np.uint8)])
    assert mean.tolist() == [1.0, 0.0, 0.2] and std.tolist() == [0.0, 0.0, 0.0]


def test_channel_statistics_need_a_photo():
    with pytest.raises(DataError, match="no photo"):
        channel_statistics([])
