"""What is done to the pixels before a network sees them, and the statistics that normalise them."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from camera_trap_al.exceptions import DataError
from camera_trap_al.images import IMAGE_SIZE

__all__ = ["CROP_SIZE", "Augmentation", "EvaluationTransform", "TrainingTransform", "channel_statistics"]

CROP_SIZE = 224

GRAYSCALE_PROBABILITY = 0.1
FLIP_PROBABILITY = 0.5
MAX_ROTATION = 20.0  # degrees, either way
# torchvision's ColorJitter does nothing unless it is given strengths. Light changes much between day, dusk and flash,
# so brightness, contrast and saturation vary by a fifth; hue only by 2 % of the circle, since it recolours fur.
BRIGHTNESS = 0.2
CONTRAST = 0.2
SATURATION = 0.2
HUE = 0.02

STEPS = ("flip", "jitter", "rotate")
JITTER_STEPS = ("brightness", "contrast", "saturation", "hue")


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """The random choices for one training image, drawn before anything is applied.

    Attributes
    ----------
    top, left
        Upper left corner of the crop, pixels, 0 to 32.
    grayscale
        Whether colour is removed.
    steps
        Order of ``flip``, ``jitter`` and ``rotate``.
    flip
        Whether left and right change places.
    jitter_steps
        Order of the four colour changes within ``jitter``.
    brightness, contrast, saturation
        Factors; 1 changes nothing.
    hue
        Shift as a share of the colour circle; 0 changes nothing.
    angle
        Degrees, counter-clockwise; the corners that come into view are black.
    """

    top: int
    left: int
    grayscale: bool
    steps: tuple[str, ...]
    flip: bool
    jitter_steps: tuple[str, ...]
    brightness: float
    contrast: float
    saturation: float
    hue: float
    angle: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Augmentation":
        """Draw the choices for one image; every call takes the same number of draws from `rng`."""
        top, left = (int(start) for start in rng.integers(0, IMAGE_SIZE - CROP_SIZE + 1, size=2))
        return cls(
            top=top,
            left=left,
            grayscale=bool(rng.random() < GRAYSCALE_PROBABILITY),
            steps=tuple(STEPS[i] for i in rng.permutation(len(STEPS))),
            flip=bool(rng.random() < FLIP_PROBABILITY),
            jitter_steps=tuple(JITTER_STEPS[i] for i in rng.permutation(len(JITTER_STEPS))),
            brightness=rng.uniform(1 - BRIGHTNESS, 1 + BRIGHTNESS),
            contrast=rng.uniform(1 - CONTRAST, 1 + CONTRAST),
            saturation=rng.uniform(1 - SATURATION, 1 + SATURATION),
            hue=rng.uniform(-HUE, HUE),
            angle=rng.uniform(-MAX_ROTATION, MAX_ROTATION),
        )

    def apply(self, image: Tensor) -> Tensor:
        """Turn one (3, 256, 256) uint8 image into (3, 224, 224) uint8."""
        image = F.crop(image, self.top, self.left, CROP_SIZE, CROP_SIZE)
        if self.grayscale:
            image = F.rgb_to_grayscale(image, num_output_channels=3)
        for step in self.steps:
            image = self._apply_step(step, image)
        return image

    def _apply_step(self, step: str, image: Tensor) -> Tensor:
        if step == "rotate":
            rotated: Tensor = F.rotate(image, self.angle, interpolation=InterpolationMode.BILINEAR)
            return rotated
        if step == "jitter":
            return self._jitter(image)
        return F.horizontal_flip(image) if self.flip else image

    def _jitter(self, image: Tensor) -> Tensor:
        adjust = {
            "brightness": F.adjust_brightness,
            "contrast": F.adjust_contrast,
            "saturation": F.adjust_saturation,
            "hue": F.adjust_hue,
        }
        for step in self.jitter_steps:
            image = adjust[step](image, getattr(self, step))
        return image


class EvaluationTransform:
    """Centre crop and normalisation, for everything but training.

    Parameters
    ----------
    mean, std
        (3,), per channel R, G, B, in units where white is 1.

    Raises
    ------
    DataError
        If a channel has no spread at all, so that nothing can be divided by it.
    """

    def __init__(self, mean: NDArray[np.floating], std: NDArray[np.floating]) -> None:
        self._normalise = _Normalisation(mean, std)

    def __call__(self, images: Tensor) -> Tensor:
        """Turn (n, 3, 256, 256) uint8 images into (n, 3, 224, 224) float32, on the same device."""
        return self._normalise(F.center_crop(images, [CROP_SIZE, CROP_SIZE]))


class TrainingTransform:
    """Random crop, greyscale, flip, colour jitter and rotation, then normalisation.

    Parameters
    ----------
    mean, std
        (3,), per channel R, G, B, in units where white is 1.

    Raises
    ------
    DataError
        If a channel has no spread at all, so that nothing can be divided by it.
    """

    def __init__(self, mean: NDArray[np.floating], std: NDArray[np.floating]) -> None:
        self._normalise = _Normalisation(mean, std)

    def __call__(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        """Turn (n, 3, 256, 256) uint8 images into (n, 3, 224, 224) float32, drawing from `rng` image by image."""
        if len(images) == 0:
            return self._normalise(images[:, :, :CROP_SIZE, :CROP_SIZE])
        return self._normalise(torch.stack([Augmentation.draw(rng).apply(image) for image in images]))


class _Normalisation:
    def __init__(self, mean: NDArray[np.floating], std: NDArray[np.floating]) -> None:
        if not np.all(np.asarray(std) > 0):
            raise DataError(
                f"The standard deviation of the pixels must be above 0; it is {np.asarray(std).tolist()} (red, green, "
                "blue). Are all photos of one flat colour?"
            )
        self.mean = torch.from_numpy(np.asarray(mean, dtype=np.float32).reshape(3, 1, 1).copy())
        self.std = torch.from_numpy(np.asarray(std, dtype=np.float32).reshape(3, 1, 1).copy())

    def __call__(self, images: Tensor) -> Tensor:
        pixels = images.to(torch.float32).div_(255.0)
        return pixels.sub_(self.mean.to(images.device)).div_(self.std.to(images.device))


def channel_statistics(batches: Iterable[NDArray[np.uint8]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the mean and standard deviation of each colour channel over all pixels of all images, in one pass.

    The sums are of integers and so exact: neither the order nor the size of the batches changes the result.

    Parameters
    ----------
    batches
        Arrays of shape (n, height, width, 3), RGB.

    Returns
    -------
    Mean and population standard deviation, each (3,), in units where white is 1.

    Raises
    ------
    DataError
        If there is no pixel at all.
    """
    counts = np.zeros((3, 256), dtype=np.int64)
    for images in batches:
        for image in images:  # one at a time: bincount widens its input to 8 bytes per value
            counts += [np.bincount(image[..., channel].ravel(), minlength=256) for channel in range(3)]
    # Python integers do not overflow; the square of a sum over a million photos does not fit into 64 bits.
    moments = [
        (sum(row), sum(n * v for v, n in enumerate(row)), sum(n * v * v for v, n in enumerate(row)))
        for row in counts.tolist()
    ]
    if moments[0][0] == 0:
        raise DataError("The mean and spread of the pixels cannot be computed: there is no photo.")
    mean = [total / n / 255 for n, total, _ in moments]
    std = [((n * squares - total * total) / (n * n)) ** 0.5 / 255 for n, total, squares in moments]
    return np.array(mean), np.array(std)
