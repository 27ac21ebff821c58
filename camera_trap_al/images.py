"""Decode one photo to the small square that networks see."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from camera_trap_al.exceptions import MOST_WINDOWS_TAKES, DataError, is_too_long_for_windows

__all__ = ["IMAGE_BYTES", "IMAGE_SHAPE", "IMAGE_SIZE", "ImageArray", "Squeeze", "read_photo", "squeeze"]

IMAGE_SIZE = 256
IMAGE_SHAPE = (IMAGE_SIZE, IMAGE_SIZE, 3)
IMAGE_BYTES = IMAGE_SIZE * IMAGE_SIZE * 3
# Whatever the suffix says, only these are decoded: others, such as EPS, would start foreign programs.
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "PPM", "GIF")
JPEG_FORMATS = ("JPEG", "MPO")  # MPO: a JPEG with further pictures behind it, such as a preview
MAX_PIXELS = 178_956_970  # Pillow's own bound for a decompression bomb: twice Image.MAX_IMAGE_PIXELS
SCALES = (8, 4, 2)  # at which libjpeg decodes in less time; the steps between them take more than they save
TURNS: dict[int, Callable[[Any], Any]] = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: image[::-1].swapaxes(0, 1),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: image.swapaxes(0, 1)[::-1],
}  # by the Orientation of the EXIF standard

ImageArray = NDArray[np.uint8]
Squeeze = Callable[[ImageArray], ImageArray]
"""Resizes a (height, width, 3) image to (256, 256, 3), each pixel a mean weighted by a triangle over what it covers."""


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
    try:
        if not path.stat().st_size:
            raise ValueError("the file is empty")
        with path.open("rb") as file, Image.open(file, formats=FORMATS) as photo:
            if photo.width * photo.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            pixels = _decoded_quickly(photo, file)
            if pixels is None:
                pixels = _decoded(photo)
            # A TIFF is turned when it is decoded and forgets its orientation, so only now may that be asked for.
            turn = TURNS.get(_orientation(photo), lambda image: image)
        return np.ascontiguousarray(turn(squeeze(pixels)))
    except MemoryError:
        raise
    except Exception as error:  # at damaged bytes Pillow raises almost anything: struct.error, TypeError, IndexError
        raise DataError(f"{path}: cannot be read as a photo: {_reason(error, path)}.", path) from error


def _orientation(photo: Image.Image) -> int:
    try:
        return int(photo.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # of damaged data, as above: good pixels are good all the same
        return 1


def _decoded_quickly(photo: Image.Image, file: BinaryIO) -> ImageArray | None:
    """Decode a JPEG straight into an array; None if it is none, or so odd that only Pillow can tell what it holds.

    Both decode with libjpeg-turbo, to the same pixels; only the detour over Pillow's own image is saved.
    """
    if photo.format not in JPEG_FORMATS or photo.mode not in ("RGB", "L"):
        return None
    file.seek(0)
    width, height = photo.size
    scale = next((scale for scale in SCALES if min(width, height) >= 2 * IMAGE_SIZE * scale), 1)
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


def _decoded(photo: Image.Image) -> ImageArray:
    photo.draft("RGB", (2 * IMAGE_SIZE, 2 * IMAGE_SIZE))
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
