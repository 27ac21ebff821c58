import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from camera_trap_al.deep_learning import augmentation
from camera_trap_al.deep_learning.augmentation import (
    BY_BRIGHTNESS,
    BY_CONTRAST,
    BY_HUE,
    BY_SATURATION,
    FLIP,
    JITTER,
    ROTATE,
    Augmentation,
)
from camera_trap_al.deep_learning.transforms import CROP_SIZE


def photos(n=3, seed=0):
    """Smooth colourful images, with some pure colours and flat parts."""
    coarse = np.random.default_rng(seed).integers(0, 256, (n, 6, 6, 3), dtype=np.uint8)
    coarse[:, 0, 0] = (255, 0, 0)
    coarse[:, 0, 1:3] = 128
    return np.stack([np.array(Image.fromarray(one).resize((256, 256), Image.Resampling.BICUBIC)) for one in coarse])


def unchanged(pixels):
    return pixels


def augmented(pixels, choices):
    return choices.apply(torch.from_numpy(choices.crop(pixels)), unchanged)


def nothing(n=1, **changes):
    """Choices that change nothing, but for those given."""
    choices = Augmentation(
        top=np.zeros(n, np.int64),
        left=np.zeros(n, np.int64),
        grayscale=np.zeros(n, np.bool_),
        steps=np.tile([ROTATE, FLIP, JITTER], (n, 1)),
        flip=np.zeros(n, np.bool_),
        jitter_steps=np.tile([BY_HUE, BY_CONTRAST, BY_BRIGHTNESS, BY_SATURATION], (n, 1)),
        brightness=np.ones(n),
        contrast=np.ones(n),
        saturation=np.ones(n),
        hue=np.zeros(n),
        angle=np.zeros(n),
    )
    return dataclasses.replace(choices, **{name: np.array([value] * n) for name, value in changes.items()})


def one_by_torchvision(image, choices):
    """The reference: torchvision's functions, one image, one step after the other."""
    (top,), (left,) = choices.top.tolist(), choices.left.tolist()
    pixels = F.crop(torch.from_numpy(image).permute(2, 0, 1).float() / 255, top, left, CROP_SIZE, CROP_SIZE)
    if choices.grayscale[0]:
        pixels = F.rgb_to_grayscale(pixels, num_output_channels=3)
    for step in choices.steps[0].tolist():
        if step == FLIP and choices.flip[0]:
            pixels = F.horizontal_flip(pixels)
        if step == ROTATE:
            pixels = F.rotate(pixels, float(choices.angle[0]), interpolation=InterpolationMode.BILINEAR)
        for jitter_step in choices.jitter_steps[0].tolist() if step == JITTER else ():
            adjust, by = {
                BY_BRIGHTNESS: (F.adjust_brightness, choices.brightness),
                BY_CONTRAST: (F.adjust_contrast, choices.contrast),
                BY_SATURATION: (F.adjust_saturation, choices.saturation),
                BY_HUE: (F.adjust_hue, choices.hue),
            }[jitter_step]
            pixels = adjust(pixels, float(by[0]))
    return pixels


@pytest.mark.parametrize("at_once", [1, 8, 1000])
def test_a_batch_is_changed_as_torchvision_changes_each_image(monkeypatch, at_once):
    monkeypatch.setattr(augmentation, "AT_ONCE_ON_CPU", at_once)
    n = 60  # of 3! x 4! orders enough to have each step before and after each other
    choices = Augmentation.draw(np.random.default_rng(3), n)
    pixels = photos(n)
    expected = torch.stack([one_by_torchvision(pixels[i], choices[i : i + 1]) for i in range(n)])
    torch.testing.assert_close(augmented(pixels, choices), expected, atol=2e-4, rtol=0)


def test_strong_changes_are_those_of_torchvision_too():
    """Factors and shifts beyond what is drawn, where pixels are clamped and colours go round the circle."""
    rng = np.random.default_rng(4)
    choices = dataclasses.replace(
        Augmentation.draw(rng, 12),
        brightness=rng.uniform(0, 3, 12),
        contrast=rng.uniform(0, 3, 12),
        saturation=rng.uniform(0, 3, 12),
        hue=rng.uniform(-0.5, 0.5, 12),
        angle=rng.uniform(-180, 180, 12),
    )
    pixels = photos(12)
    expected = torch.stack([one_by_torchvision(pixels[i], choices[i : i + 1]) for i in range(12)])
    difference = (augmented(pixels, choices) - expected).abs()
    # A rounding error in the grid lets single pixels of a rotated edge fall in or out.
    assert difference.mean() < 1e-5 and (difference > 1e-3).float().mean() < 1e-4


@pytest.mark.gpu
def test_a_gpu_makes_the_same_of_a_batch():
    choices, pixels = Augmentation.draw(np.random.default_rng(3), 30), photos(30)
    cropped = torch.from_numpy(choices.crop(pixels))
    on_gpu = choices.apply(cropped.cuda(), unchanged).cpu()
    torch.testing.assert_close(on_gpu, choices.apply(cropped, unchanged), atol=1e-3, rtol=0)


def test_the_result_is_normalised_and_lies_channels_last():
    choices, pixels = Augmentation.draw(np.random.default_rng(1), 10), photos(10)
    cropped = torch.from_numpy(choices.crop(pixels))
    result = choices.apply(cropped, lambda images: images.mul_(2).sub_(1))
    assert result.dtype == torch.float32 and result.shape == (10, 3, CROP_SIZE, CROP_SIZE)
    assert result.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(result, 2 * choices.apply(cropped, unchanged) - 1)


def test_the_bytes_are_left_alone():
    choices, pixels = Augmentation.draw(np.random.default_rng(1), 3), photos(3)
    cropped = torch.from_numpy(choices.crop(pixels))
    before = cropped.clone()
    choices.apply(cropped, unchanged)
    assert torch.equal(cropped, before)
    np.testing.assert_array_equal(pixels, photos(3))


def test_the_crop_is_where_the_choice_says():
    choices = nothing(top=7, left=30)
    np.testing.assert_array_equal(choices.crop(photos(1)), photos(1)[:, 7 : 7 + 224, 30 : 30 + 224])
    expected = torch.from_numpy(choices.crop(photos(1))).permute(0, 3, 1, 2) / 255
    torch.testing.assert_close(augmented(photos(1), choices), expected, atol=1e-4, rtol=0)


def test_flip_exchanges_left_and_right():
    torch.testing.assert_close(
        augmented(photos(1), nothing(flip=True)), augmented(photos(1), nothing()).flip(-1), atol=1e-4, rtol=0
    )


def test_greyscale_makes_the_channels_equal():
    red, green, blue = augmented(photos(1), nothing(grayscale=True))[0]
    torch.testing.assert_close(red, green)
    torch.testing.assert_close(green, blue)


def test_corners_that_come_into_view_are_black():
    white = np.full((1, 256, 256, 3), 255, np.uint8)
    turned = augmented(white, nothing(angle=20.0))[0]
    assert turned[:, [0, 0, -1, -1], [0, -1, 0, -1]].max() == 0
    assert turned[:, 112, 112].min() > 0.999


def test_no_images_give_no_images():
    choices = Augmentation.draw(np.random.default_rng(0), 0)
    assert augmented(photos(1)[:0], choices).shape == (0, 3, CROP_SIZE, CROP_SIZE)


def values_of(choices):
    return {name: value.tolist() for name, value in vars(choices).items()}


def test_choices_are_drawn_image_by_image():
    """What is drawn for an image does not depend on how many come after it, or in how many calls."""
    together = Augmentation.draw(np.random.default_rng(5), 7)
    rng = np.random.default_rng(5)
    first, others = Augmentation.draw(rng, 3), Augmentation.draw(rng, 4)
    assert values_of(together[:3]) == values_of(first)
    assert values_of(together[3:]) == values_of(others)
    assert len(together) == 7
    picked = together[np.array([True, False, False, True, False, False, False])]
    assert picked.angle.tolist() == together.angle[[0, 3]].tolist()


def test_choices_are_decided_by_the_generator_alone():
    legacy, state = np.random.get_state()[1].copy(), torch.random.get_rng_state()  # noqa: NPY002 (is left alone)
    one, same, other = (Augmentation.draw(np.random.default_rng(seed), 2) for seed in (1, 1, 2))
    assert values_of(one) == values_of(same) != values_of(other)
    assert np.array_equal(np.random.get_state()[1], legacy)  # noqa: NPY002 (is left alone)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_drawn_choices_keep_their_ranges_and_odds():
    drawn = Augmentation.draw(np.random.default_rng(0), 4000)
    assert set(drawn.top) == set(drawn.left) == set(range(33))
    # Three standard errors of a share of 4000 draws.
    assert drawn.grayscale.mean() == pytest.approx(0.1, abs=3 * (0.1 * 0.9 / 4000) ** 0.5)
    assert drawn.flip.mean() == pytest.approx(0.5, abs=3 * (0.5 * 0.5 / 4000) ** 0.5)
    for name, low, high in [
        ("brightness", 0.8, 1.2),
        ("contrast", 0.8, 1.2),
        ("saturation", 0.8, 1.2),
        ("hue", -0.02, 0.02),
        ("angle", -20, 20),
    ]:
        values = getattr(drawn, name)
        width = high - low
        assert low <= values.min() < low + 0.01 * width and high - 0.01 * width < values.max() <= high
    for orders, n in ((drawn.steps, 6), (drawn.jitter_steps, 24)):
        found, counts = np.unique(orders, axis=0, return_counts=True)
        assert len(found) == n
        assert abs(counts - 4000 / n).max() < 5 * (4000 / n) ** 0.5
