"""Decode one photo, or parts of it, to the small squares that networks see."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from camera_trap_al.exceptions import MOST_WINDOWS_TAKES, DataError, is_too_long_for_windows

__all__ = [
    "IMAGE_BYTES",
    "IMAGE_SHAPE",
    "IMAGE_SIZE",
    "PADDING",
    "Box",
    "ImageArray",
    "Squeeze",
    "read_crops",
    "read_photo",
    "square_around",
    "squeeze",
]

IMAGE_SIZE = 256
IMAGE_SHAPE = (IMAGE_SIZE, IMAGE_SIZE, 3)
IMAGE_BYTES = IMAGE_SIZE * IMAGE_SIZE * 3
# Whatever the suffix says, only these are decoded: others, such as EPS, would start foreign programs.
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "PPM", "GIF")
JPEG_FORMATS = ("JPEG", "MPO")  # MPO: a JPEG with further pictures behind it, such as a preview
MAX_PIXELS = 178_956_970  # Pillow's own bound for a decompression bomb: twice Image.MAX_IMAGE_PIXELS
PADDING = 0.1  # how much of what lies around an animal is cut out with it
SCALES = (8, 4, 2)  # at which libjpeg decodes in less time; the steps between them take more than they save

ImageArray = NDArray[np.uint8]
Squeeze = Callable[[ImageArray], ImageArray]
"""Resizes a (height, width, 3) image to (256, 256, 3), each pixel a mean weighted by a triangle over what it covers."""
Box = Sequence[float]
"""(x, y, width, height) of a part of an upright photo, x and y of its upper left corner, in shares of its sides."""

Turn = Callable[[Any], Any]
TURNS: dict[int, Turn] = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: image[::-1].swapaxes(0, 1),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: image.swapaxes(0, 1)[::-1],
}  # by the Orientation of the EXIF standard
ON_EDGE = (5, 6, 7, 8)  # those that make a column of a row


def squeeze(image: ImageArray) -> ImageArray:
    """Resize with Pillow; `deep_learning.transforms` has a quicker way to the same pixels, give or take one level."""
    square = Image.fromarray(image).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR)
    return np.asarray(square)


def read_photo(path: Path, squeeze: Squeeze = squeeze) -> ImageArray:
    """Decode a photo to (256, 256, 3) uint8 RGB, upright.

    The whole photo is squeezed into the square, as the specification's ``Resize((256, 256))`` does. JPEGs are decoded
    at the smallest of the scales 1/1 to 1/8 that still has twice the size needed, which is several times faster and
    differs from the full decode by well under one grey level on average.

    Parameters
    ----------
    path
        The photo.
    squeeze
        How a decoded photo is resized.

    Raises
    ------
    DataError
        If the photo cannot be opened or decoded, is truncated, or has more than 178 million pixels.
    """
    pixels, turn = _decode(path, min)
    return np.ascontiguousarray(turn(squeeze(pixels)))


def read_crops(
    path: Path, boxes: Sequence[Box], *, padding: float = PADDING, squeeze: Squeeze = squeeze
) -> list[ImageArray]:
    """Decode a photo once, and cut a square around each box to (256, 256, 3) uint8 RGB, upright.

    As with `read_photo`, a JPEG is decoded at the smallest scale at which each of the squares still has twice the size
    needed, and at full size if a square is smaller than that.

    Parameters
    ----------
    path
        The photo.
    boxes
        What to cut out of the upright photo, as MegaDetector gives it.
    padding
        How much is added on each side of a box, see `square_around`.
    squeeze
        How a part of the photo is resized; what is no square after all is squeezed into one.

    Returns
    -------
    One image for each box, in their order.

    Raises
    ------
    DataError
        As `read_photo`.
    """

    def shortest_side(width: int, height: int) -> int:
        cuts = (square_around(box, width, height, padding) for box in boxes)
        sides = (side for left, top, right, bottom in cuts for side in (right - left, bottom - top))
        return min(sides, default=min(width, height))

    pixels, turn = _decode(path, shortest_side)
    upright = turn(pixels)
    height, width, _ = upright.shape
    cuts = (square_around(box, width, height, padding) for box in boxes)
    return [squeeze(np.ascontiguousarray(upright[top:bottom, left:right])) for left, top, right, bottom in cuts]


def square_around(box: Box, width: int, height: int, padding: float = PADDING) -> tuple[int, int, int, int]:
    """Give the pixels of a photo to cut out for a box: a square, as far as the photo allows, with the box in it.

    The box is enlarged, then its shorter side is made as long as the other one. What would reach beyond an edge of the
    photo is moved inside; what is longer than the photo becomes as long as the photo, and so may be no square.

    Parameters
    ----------
    box
        A box within the photo.
    width, height
        Size of the photo in pixels, upright.
    padding
        What to add on each side, as a share of the length of the box in this direction.

    Returns
    -------
    Left, top, right and bottom in pixels, right and bottom not included; at least one pixel.
    """
    x, y, box_width, box_height = box
    length = (1 + 2 * padding) * max(box_width * width, box_height * height)
    left, right = _stretch((x + box_width / 2) * width, length, width)
    top, bottom = _stretch((y + box_height / 2) * height, length, height)
    return left, top, right, bottom


def _stretch(middle: float, length: float, limit: int) -> tuple[int, int]:
    """Place a length around a middle, as far as that goes between 0 and a limit."""
    n_pixels = min(max(round(length), 1), limit)
    start = min(max(round(middle - n_pixels / 2), 0), limit - n_pixels)
    return start, start + n_pixels


def _decode(path: Path, shortest_side: Callable[[int, int], int]) -> tuple[ImageArray, Turn]:
    """Decode a photo at the smallest scale that leaves enough of it.

    Parameters
    ----------
    path
        The photo.
    shortest_side
        Tells, for the width and height of the upright photo at full size, how long the shortest side is of all that
        will be squeezed, in pixels.

    Returns
    -------
    (height, width, 3) pixels as they are stored, and what turns them, or any image made of all of them, upright.

    Raises
    ------
    DataError
        As `read_photo`.
    """
    try:
        if not path.stat().st_size:
            raise ValueError("the file is empty")
        with path.open("rb") as file, Image.open(file, formats=FORMATS) as photo:
            if photo.width * photo.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            scale = _scale(photo, shortest_side)
            pixels = _decoded_quickly(photo, file, scale)
            if pixels is None:
                pixels = _decoded(photo, scale)
            # A TIFF is turned when it is decoded and forgets its orientation, so only now may that be asked for.
            return pixels, TURNS.get(_orientation(photo), lambda image: image)
    except MemoryError:
        raise
    except Exception as error:  # at damaged bytes Pillow raises almost anything: struct.error, TypeError, IndexError
        raise DataError(f"{path}: cannot be read as a photo: {_reason(error, path)}.", path) from error


def _scale(photo: Image.Image, shortest_side: Callable[[int, int], int]) -> int:
    if photo.format not in JPEG_FORMATS:
        return 1
    size = photo.size[::-1] if _orientation(photo) in ON_EDGE else photo.size
    side = shortest_side(*size)
    return next((scale for scale in SCALES if side >= 2 * IMAGE_SIZE * scale), 1)


def _orientation(photo: Image.Image) -> int:
    try:
        return int(photo.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # of damaged data, as above: good pixels are good all the same
        return 1


def _decoded_quickly(photo: Image.Image, file: BinaryIO, scale: int) -> ImageArray | None:
    """Decode a JPEG straight into an array; None if it is none, or so odd that only Pillow can tell what it holds.

    Both decode with libjpeg-turbo, to the same pixels; only the detour over Pillow's own image is saved.
    """
    if photo.format not in JPEG_FORMATS or photo.mode not in ("RGB", "L"):
        return None
    file.seek(0)
    width, height = photo.size
    try:
        decoded: ImageArray = simplejpeg.decode_jpeg(
            file.read(),
            fastdct=False,
            fastupsample=False,
            min_height=-(-height // scale),
            min_width=-(-width // scale),
            min_factor=1,
        )
        return decoded
    except ValueError:  # what libjpeg only warns of, such as stray bytes, and what it gives up at
        file.seek(0)
        return None


def _decoded(photo: Image.Image, scale: int) -> ImageArray:
    photo.draft("RGB", (photo.width // scale, photo.height // scale))
    photo.load()
    if photo.mode.startswith("I"):  # 16 bits of grey, of which Pillow would turn all above 255 white
        grey = np.clip(np.asarray(photo) >> 8, 0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if photo.mode == "P":  # Pillow converts a palette with transparency without a warning only by way of RGBA
        return np.array(photo.convert("RGBA").convert("RGB"))
    return np.array(photo.convert("RGB"))


def _reason(error: Exception, path: Path) -> str:
    """Say what went wrong without the path, which the message around it names."""
    if isinstance(error, FileNotFoundError) and is_too_long_for_windows(path):
        return (
            f"its path has {len(str(path))} characters, and Windows opens up to {MOST_WINDOWS_TAKES} unless long paths "
            "are switched on"
        )
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {MAX_PIXELS // 10**6} million pixels"
    if isinstance(error, UnidentifiedImageError):
        return f"it is none of {', '.join(FORMATS)}"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
