"""The random changes of training images: drawn image by image, applied to a whole batch at once.

torchvision's functions take one factor for all images of a call. Calling them image by image takes twice as long on a
CPU, and on a GPU some five thousand small steps a batch; so what they do is written here for one factor per image, and
held against them in the tests.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from camera_trap_al.deep_learning.transforms import CROP_SIZE
from camera_trap_al.photos.images import IMAGE_SIZE, ImageArray
from camera_trap_al.pools import IndexArray

__all__ = ["Augmentation"]

GRAYSCALE_PROBABILITY = 0.1
FLIP_PROBABILITY = 0.5
MAX_ROTATION = 20.0  # degrees, either way
# torchvision's ColorJitter does nothing unless it is given strengths. Light changes much between day, dusk and flash,
# so brightness, contrast and saturation vary by a fifth; hue only by 2 % of the circle, since it recolours fur.
BRIGHTNESS = 0.2
CONTRAST = 0.2
SATURATION = 0.2
HUE = 0.02

FLIP, JITTER, ROTATE = range(3)  # the steps that come in random order
BY_BRIGHTNESS, BY_CONTRAST, BY_SATURATION, BY_HUE = range(4)  # those within JITTER
GREY_WEIGHTS = (0.2989, 0.587, 0.114)  # of R, G, B, as in torchvision and ITU-R BT.601
AT_ONCE_ON_CPU = 8  # images that fit into the cache of a processor; a GPU takes the whole batch


@dataclass(frozen=True, eq=False, kw_only=True)
class Augmentation:
    """The random choices for n training images, drawn before anything is applied.

    Attributes
    ----------
    top, left
        (n,) upper left corner of the crop, pixels, 0 to 32.
    grayscale
        (n,) whether colour is removed.
    steps
        (n, 3) order of `FLIP`, `JITTER` and `ROTATE`.
    flip
        (n,) whether left and right change places.
    jitter_steps
        (n, 4) order of the four colour changes within `JITTER`.
    brightness, contrast, saturation
        (n,) factors; 1 changes nothing.
    hue
        (n,) shift as a share of the colour circle; 0 changes nothing.
    angle
        (n,) degrees, counter-clockwise; the corners that come into view are black.
    """

    top: IndexArray
    left: IndexArray
    grayscale: NDArray[np.bool_]
    steps: IndexArray
    flip: NDArray[np.bool_]
    jitter_steps: IndexArray
    brightness: NDArray[np.float64]
    contrast: NDArray[np.float64]
    saturation: NDArray[np.float64]
    hue: NDArray[np.float64]
    angle: NDArray[np.float64]

    @classmethod
    def draw(cls, rng: np.random.Generator, n: int) -> Self:
        """Draw the choices for n images, one after the other: n images are the first n of any larger number."""
        uniform = iter(rng.random((n, 16)).T)

        def between(low: float, high: float) -> NDArray[np.float64]:
            spread: NDArray[np.float64] = low + (high - low) * next(uniform)
            return spread

        def order(n_steps: int) -> IndexArray:
            return np.argsort([next(uniform) for _ in range(n_steps)], axis=0).T.astype(np.int64)

        return cls(
            top=between(0, IMAGE_SIZE - CROP_SIZE + 1).astype(np.int64),
            left=between(0, IMAGE_SIZE - CROP_SIZE + 1).astype(np.int64),
            grayscale=next(uniform) < GRAYSCALE_PROBABILITY,
            steps=order(3),
            flip=next(uniform) < FLIP_PROBABILITY,
            jitter_steps=order(4),
            brightness=between(1 - BRIGHTNESS, 1 + BRIGHTNESS),
            contrast=between(1 - CONTRAST, 1 + CONTRAST),
            saturation=between(1 - SATURATION, 1 + SATURATION),
            hue=between(-HUE, HUE),
            angle=between(-MAX_ROTATION, MAX_ROTATION),
        )

    def __len__(self) -> int:
        return len(self.top)

    def __getitem__(self, which: Any) -> Self:
        """Give the choices for some of the images: a slice, an array of positions or a mask."""
        return type(self)(**{each.name: getattr(self, each.name)[which] for each in fields(self)})

    def crop(self, images: ImageArray) -> ImageArray:
        """Cut (n, 224, 224, 3) out of (n, 256, 256, 3) images."""
        cropped = np.empty((len(images), CROP_SIZE, CROP_SIZE, 3), np.uint8)
        for target, image, top, left in zip(cropped, images, self.top, self.left, strict=True):
            target[...] = image[top : top + CROP_SIZE, left : left + CROP_SIZE]
        return cropped

    def apply(self, cropped: Tensor, normalise: Callable[[Tensor], Tensor]) -> Tensor:
        """Do all but the crop.

        Parameters
        ----------
        cropped
            (n, 224, 224, 3) uint8, on any device.
        normalise
            What is done last to some (m, 3, 224, 224) float32 images of 0 to 1; it may change them in place.

        Returns
        -------
        (n, 3, 224, 224) float32 on the same device, channels last in memory.
        """
        shape = (len(cropped), 3, CROP_SIZE, CROP_SIZE)
        changed = torch.empty(shape, device=cropped.device, memory_format=torch.channels_last)
        at_once = AT_ONCE_ON_CPU if cropped.device.type == "cpu" else max(1, len(cropped))
        for start in range(0, len(cropped), at_once):
            part = slice(start, start + at_once)
            changed[part] = normalise(_changed(cropped[part], self[part]))
        return changed


def _changed(cropped: Tensor, choices: Augmentation) -> Tensor:
    images = cropped.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    rank = np.argsort(choices.steps, axis=1)  # of each step within the order
    # The flip comes first here: mirrored, a rotation that came before it turns the other way.
    turned_first = rank[:, ROTATE] < rank[:, FLIP]
    angle = np.where(choices.flip & turned_first, -choices.angle, choices.angle)
    early = rank[:, ROTATE] < rank[:, JITTER]
    _change(images, choices.grayscale, lambda some: _grey(some).expand_as(some))
    _change(images, choices.flip, lambda some: some.flip(-1))
    _change(images, early, partial(_rotated, angle=angle[early]))
    _jitter(images, choices)
    _change(images, ~early, partial(_rotated, angle=angle[~early]))
    return images


def _change(images: Tensor, which: NDArray[np.bool_], change: Callable[[Tensor], Tensor]) -> None:
    """Replace the images that a mask names; as positions, since a mask would make the CPU wait for a GPU."""
    if which.any():
        positions = _on(images, np.flatnonzero(which))
        images.index_copy_(0, positions, change(images.index_select(0, positions)))


def _on(images: Tensor, array: NDArray[Any]) -> Tensor:
    """Bring an array to the device of the images."""
    return torch.from_numpy(array).to(images.device, non_blocking=True)


def _grey(images: Tensor) -> Tensor:
    red, green, blue = images.unbind(1)
    weights = GREY_WEIGHTS
    return (red * weights[0]).add_(green, alpha=weights[1]).add_(blue, alpha=weights[2])[:, None]


def _rotated(images: Tensor, angle: NDArray[np.float64]) -> Tensor:
    radians = np.radians(angle)
    zero, cos, sin = np.zeros_like(radians), np.cos(radians), np.sin(radians)
    # From each pixel of the result to where it comes from, so the other way round.
    backwards = np.stack([cos, -sin, zero, sin, cos, zero], axis=1).reshape(-1, 2, 3).astype(np.float32)
    grid = F.affine_grid(_on(images, backwards), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", align_corners=False)


def _jitter(images: Tensor, choices: Augmentation) -> None:
    """Change the colours of (n, 3, height, width) images in place, of each in its own order."""
    ones = np.ones(len(choices))
    factors = np.stack([choices.brightness, choices.contrast, choices.saturation, ones], axis=1)
    factor = np.take_along_axis(factors, choices.jitter_steps, axis=1)
    # Brightness, contrast and saturation all blend the image with something darker or greyer.
    of_mean = (1 - factor) * (choices.jitter_steps == BY_CONTRAST)
    of_grey = (1 - factor) * (choices.jitter_steps == BY_SATURATION)
    weights = _on(images, np.stack([factor, of_grey, of_mean]).astype(np.float32))[..., None, None, None]
    for position in range(4):
        own, grey, mean = weights[:, :, position]
        _blend(images, own, grey, mean)
        shifted = choices.jitter_steps[:, position] == BY_HUE
        _change(images, shifted, partial(_hue_shifted, shift=choices.hue[shifted]))


def _blend(images: Tensor, own: Tensor, of_grey: Tensor, of_mean: Tensor) -> None:
    """Mix each image with its grey version and with its mean grey, by (n, 1, 1, 1) weights, in place."""
    grey = _grey(images)
    mean = grey.mean(dim=(2, 3), keepdim=True)
    images.mul_(own).add_(grey.mul_(of_grey)).add_(mean.mul_(of_mean)).clamp_(0, 1)


def _hue_shifted(images: Tensor, shift: NDArray[np.float64]) -> Tensor:
    """Turn the colour circle, leaving lightest and darkest channel of each pixel as light as they are (HSV)."""
    red, green, blue = images.unbind(1)
    lightest = torch.maximum(torch.maximum(red, green), blue)
    darkest = torch.minimum(torch.minimum(red, green), blue)
    span = lightest - darkest
    in_green = (blue - red).add_(span, alpha=2)
    in_blue = (red - green).add_(span, alpha=4)
    hue = torch.where(lightest == red, green - blue, torch.where(lightest == green, in_green, in_blue))
    sixths = _on(images, (6 * shift).astype(np.float32))[:, None, None]
    hue.div_(span.clamp(min=1e-12)).add_(sixths).remainder_(6)  # 0 red, 2 green, 4 blue
    shares = ((hue - 3).abs_().sub_(1), 2 - (hue - 2).abs_(), 2 - (hue - 4).abs_())
    return torch.stack([torch.addcmul(darkest, share.clamp_(0, 1), span) for share in shares], dim=1)
