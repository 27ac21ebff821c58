import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from camera_trap_al.deep_learning.transforms import (
    CROP_SIZE,
    Augmentation,
    EvaluationTransform,
    TrainingTransform,
    channel_statistics,
)
from camera_trap_al.exceptions import DataError

MEAN, STD = np.array([0.5, 0.4, 0.3]), np.array([0.2, 0.25, 0.3])

NOTHING = Augmentation(
    top=0,
    left=0,
    grayscale=False,
    steps=("rotate", "flip", "jitter"),
    flip=False,
    jitter_steps=("hue", "contrast", "brightness", "saturation"),
    brightness=1.0,
    contrast=1.0,
    saturation=1.0,
    hue=0.0,
    angle=0.0,
)


def photos(n=3, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (n, 3, 256, 256), dtype=np.uint8))


def augmented(image, **changes):
    return dataclasses.replace(NOTHING, **changes).apply(image)


def draws(n, seed=0):
    rng = np.random.default_rng(seed)
    return [Augmentation.draw(rng) for _ in range(n)]


def test_evaluation_crops_the_centre_and_normalises():
    images = photos()
    result = EvaluationTransform(MEAN, STD)(images)
    pixels = images.numpy()[:, :, 16:240, 16:240] / 255  # (256 - 224) / 2 = 16 pixels off each side
    expected = (pixels - MEAN[:, None, None]) / STD[:, None, None]
    assert result.dtype == torch.float32 and result.shape == (3, 3, CROP_SIZE, CROP_SIZE)
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-5)


def test_transforms_leave_their_input_alone():
    images = photos()
    before = images.clone()
    EvaluationTransform(MEAN, STD)(images)
    TrainingTransform(MEAN, STD)(images, np.random.default_rng(0))
    assert torch.equal(images, before)


def test_training_draws_image_by_image_in_row_order():
    images = photos()
    transform = TrainingTransform(MEAN, STD)
    batch = transform(images, np.random.default_rng(5))
    rng = np.random.default_rng(5)
    one_by_one = torch.cat([transform(images[i : i + 1], rng) for i in range(3)])
    assert batch.dtype == torch.float32 and batch.shape == (3, 3, CROP_SIZE, CROP_SIZE)
    assert torch.equal(batch, one_by_one)


def test_training_is_decided_by_its_generator_alone():
    images = photos(2)
    transform = TrainingTransform(MEAN, STD)
    state, legacy = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 (is left alone)
    one, same, other = (transform(images, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], legacy)  # noqa: NPY002 (is left alone)


def test_training_normalises_what_the_augmentation_gives():
    image = photos(1)
    result = TrainingTransform(MEAN, STD)(image, np.random.default_rng(3))
    pixels = Augmentation.draw(np.random.default_rng(3)).apply(image[0]).numpy() / 255
    np.testing.assert_allclose(result[0].numpy(), (pixels - MEAN[:, None, None]) / STD[:, None, None], atol=1e-5)


def test_no_images_give_no_images():
    assert TrainingTransform(MEAN, STD)(photos(0), np.random.default_rng(0)).shape == (0, 3, CROP_SIZE, CROP_SIZE)
    assert EvaluationTransform(MEAN, STD)(photos(0)).shape == (0, 3, CROP_SIZE, CROP_SIZE)


def test_augmentation_that_changes_nothing_is_a_crop():
    image = photos(1)[0]
    difference = augmented(image, top=7, left=30).int() - image[:, 7 : 7 + 224, 30 : 30 + 224].int()
    assert difference.abs().max() <= 1  # the way through hue and back rounds


def test_flip_exchanges_left_and_right():
    image = photos(1)[0]
    assert torch.equal(augmented(image, flip=True), augmented(image).flip(-1))


def test_greyscale_makes_the_channels_equal():
    red, green, blue = augmented(photos(1)[0], grayscale=True)
    assert torch.equal(red, green) and torch.equal(green, blue)


def test_brightness_contrast_and_saturation_are_factors():
    image = torch.full((3, 256, 256), 100, dtype=torch.uint8)
    image[0] = 120
    assert augmented(image, brightness=1.2).float().mean(dim=(1, 2)).tolist() == pytest.approx([144, 120, 120], abs=1.5)
    # An image of one colour c has mean grey g; contrast 0.5 goes half the way to g, saturation 0 the whole way.
    grey = 0.299 * 120 + 0.587 * 100 + 0.114 * 100
    half_way = [(120 + grey) / 2, (100 + grey) / 2, (100 + grey) / 2]
    assert augmented(image, contrast=0.5).float().mean(dim=(1, 2)).tolist() == pytest.approx(half_way, abs=1.5)
    assert augmented(image, saturation=0.0).float().mean(dim=(1, 2)).tolist() == pytest.approx([grey] * 3, abs=1.5)


def test_hue_moves_around_the_colour_circle():
    red = torch.zeros(3, 256, 256, dtype=torch.uint8)
    red[0] = 255
    assert augmented(red, hue=1 / 3)[:, 0, 0].tolist() == pytest.approx([0, 255, 0], abs=2)


def test_rotation_turns_about_the_centre_and_leaves_black_corners():
    image = torch.full((3, 256, 256), 200, dtype=torch.uint8)
    turned = augmented(image, angle=20.0)
    assert turned.shape == (3, CROP_SIZE, CROP_SIZE)
    assert turned[:, 0, 0].tolist() == [0, 0, 0] and turned[:, 112, 112].tolist() == [200, 200, 200]


def test_the_order_of_the_steps_matters_and_is_kept():
    image = photos(1)[0]
    first_flip = augmented(image, flip=True, angle=15.0, steps=("flip", "rotate", "jitter"))
    first_turn = augmented(image, flip=True, angle=15.0, steps=("rotate", "flip", "jitter"))
    mirrored_turn = augmented(image, flip=True, angle=-15.0, steps=("rotate", "flip", "jitter"))
    assert not torch.equal(first_flip, first_turn)
    assert (first_flip.int() - mirrored_turn.int()).abs().float().mean() < 1


def test_drawn_choices_keep_their_ranges_and_odds():
    drawn = draws(4000)
    assert {a.top for a in drawn} == {a.left for a in drawn} == set(range(33))
    # Three standard errors of a share of 4000 draws.
    assert sum(a.grayscale for a in drawn) / 4000 == pytest.approx(0.1, abs=3 * (0.1 * 0.9 / 4000) ** 0.5)
    assert sum(a.flip for a in drawn) / 4000 == pytest.approx(0.5, abs=3 * (0.5 * 0.5 / 4000) ** 0.5)
    for name, low, high in [
        ("brightness", 0.8, 1.2),
        ("contrast", 0.8, 1.2),
        ("saturation", 0.8, 1.2),
        ("hue", -0.02, 0.02),
        ("angle", -20, 20),
    ]:
        values = [getattr(a, name) for a in drawn]
        width = high - low
        assert low <= min(values) < low + 0.01 * width and high - 0.01 * width < max(values) <= high
    assert len({a.steps for a in drawn}) == 6 and len({a.jitter_steps for a in drawn}) == 24


def test_a_flat_channel_cannot_be_normalised():
    with pytest.raises(DataError, match="flat colour"):
        EvaluationTransform(MEAN, np.array([0.2, 0.0, 0.2]))
    with pytest.raises(DataError, match="flat colour"):
        TrainingTransform(MEAN, np.array([0.2, np.nan, 0.2]))


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
    images = photos(6).permute(0, 2, 3, 1).contiguous().numpy()
    images[..., 2] //= 3
    whole, split = channel_statistics([images]), channel_statistics(iter([images[:1], images[1:5], images[5:]]))
    assert np.array_equal(whole, split)
    assert whole[0][2] < 0.5 * whole[0][0]


def test_channel_statistics_of_a_flat_colour_have_no_spread():
    mean, std = channel_statistics([np.full((2, 256, 256, 3), (255, 0, 51), dtype=np.uint8)])
    assert mean.tolist() == [1.0, 0.0, 0.2] and std.tolist() == [0.0, 0.0, 0.0]


def test_channel_statistics_need_a_photo():
    with pytest.raises(DataError, match="no photo"):
        channel_statistics([])
