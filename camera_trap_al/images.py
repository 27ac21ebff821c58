"""Decode one photo to the small square that networks see."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from camera_trap_al.exceptions import DataError

__all__ = ["IMAGE_BYTES", "IMAGE_SIZE", "read_photo"]

IMAGE_SIZE = 256
IMAGE_BYTES = IMAGE_SIZE * IMAGE_SIZE * 3
MAX_PIXELS = 178_956_970  # Pillow's own bound for a decompression bomb: twice Image.MAX_IMAGE_PIXELS


def read_photo(path: Path) -> NDArray[np.uint8]:
    """Decode a photo to (256, 256, 3) uint8 RGB, upright.

    The whole photo is squeezed into the square, as the specification's ``Resize((256, 256))`` does. JPEGs are decoded
    at the smallest of the scales 1/1 to 1/8 that still has twice the size needed, which is several times faster and
    differs from the full decode by well under one grey level on average.

    Raises
    ------
    DataError
        If the photo cannot be opened or decoded, is truncated, or has more than 178 million pixels.
    """
    try:
        with Image.open(path) as photo:
            if photo.width * photo.height > MAX_PIXELS:
                raise DataError(f"{path}: has {photo.width} x {photo.height} pixels, more than can be decoded.", path)
            photo.draft("RGB", (2 * IMAGE_SIZE, 2 * IMAGE_SIZE))
            upright = ImageOps.exif_transpose(photo)
            square = upright.convert("RGB").resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR)
            return np.asarray(square)
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: cannot be read as an image ({error}).", path) from error
