"""Decode one photo to the small square that networks see."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from camera_trap_al.exceptions import DataError

__all__ = ["IMAGE_BYTES", "IMAGE_SIZE", "read_photo"]

IMAGE_SIZE = 256
IMAGE_BYTES = IMAGE_SIZE * IMAGE_SIZE * 3
# Whatever the suffix says, only these are decoded: others, such as EPS, would start foreign programs.
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "PPM", "GIF")
MAX_PIXELS = 178_956_970  # Pillow's own bound for a decompression bomb: twice Image.MAX_IMAGE_PIXELS
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by the Orientation of the EXIF standard


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
        with Image.open(path, formats=FORMATS) as photo:
            if photo.width * photo.height > MAX_PIXELS:
                raise DataError(f"{path}: has {photo.width} x {photo.height} pixels, more than can be decoded.", path)
            photo.draft("RGB", (2 * IMAGE_SIZE, 2 * IMAGE_SIZE))
            photo.load()  # a TIFF is turned here and forgets its orientation, so only now may that be asked for
            square = _to_rgb(_upright(photo)).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR)
            return np.asarray(square)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # at damaged bytes Pillow raises almost anything: struct.error, TypeError, IndexError
        raise DataError(f"{path}: cannot be read as an image ({error}).", path) from error


def _upright(photo: Image.Image) -> Image.Image:
    """Turn a photo as its EXIF data says.

    `ImageOps.exif_transpose` would also write the EXIF data again, which fails on the odd data of real cameras.
    """
    turn = TURNS.get(photo.getexif().get(ExifTags.Base.Orientation, 1))
    return photo if turn is None else photo.transpose(turn)


def _to_rgb(photo: Image.Image) -> Image.Image:
    if photo.mode.startswith("I"):  # 16 bits of grey, of which Pillow would turn all above 255 white
        return Image.fromarray(np.clip(np.asarray(photo) >> 8, 0, 255).astype(np.uint8)).convert("RGB")
    if photo.mode == "P":  # Pillow converts a palette with transparency without a warning only by way of RGBA
        return photo.convert("RGBA").convert("RGB")
    return photo.convert("RGB")
