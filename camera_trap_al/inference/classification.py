"""Photos in, their likeliest classes out: decoded in threads while the network works."""

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from camera_trap_al.exceptions import DataError
from camera_trap_al.inference.networks import Network
from camera_trap_al.inference.photos import PhotoToClassify
from camera_trap_al.model_description import unusable
from camera_trap_al.parallel import mapped_ahead
from camera_trap_al.photos.images import ImageArray, Squeeze, read_crops, read_photo
from camera_trap_al.predictions import Predictions

__all__ = ["Classification", "ModelAnswer", "squeeze_of_training"]

BATCHES_AHEAD = 2
NO_IMAGES: ImageArray = np.zeros((0, 0, 0, 3), np.uint8)
TRIES = 2  # of reading a photo: a network drive may miss once


def squeeze_of_training() -> Squeeze:
    """Give the function that resized the photos of the run: another one makes other pixels, and so other answers.

    Without torch, Pillow's has to do, whose pixels differ by one level in one of three thousand.
    """
    try:
        from camera_trap_al.deep_learning.transforms import squeeze
    except ImportError:
        from camera_trap_al.photos.images import squeeze
    return squeeze


@dataclass(frozen=True, eq=False)
class ModelAnswer:
    """What the model thinks of a photo; a `query.Answer` is what an expert says.

    Attributes
    ----------
    photo
        The photo that was asked about.
    predictions
        A row for the photo, or for each of its boxes in their order; no row if it could not be read.
    problem
        Why it could not be read.
    asked
        State of the photo before it was read (`PhotoToClassify.state`).
    """

    photo: PhotoToClassify
    predictions: Predictions
    problem: str | None = None
    asked: str = ""


class DecodedPhoto(NamedTuple):
    """A photo, its state before it was read, and its images or why there are none."""

    photo: PhotoToClassify
    asked: str
    images: ImageArray
    problem: str | None = None


@dataclass(frozen=True)
class Classification:
    """How photos are classified.

    Attributes
    ----------
    network
        The model.
    batch_size
        Images that it is given at once.
    threads
        How many photos are decoded side by side.
    export
        The folder that the model is from.
    padding
        By which share of its sides a box is enlarged, on each side.
    squeeze
        How a decoded photo is resized.
    """

    network: Network
    batch_size: int
    threads: int
    export: Path
    padding: float = 0.1
    squeeze: Squeeze = field(default_factory=squeeze_of_training)

    def answers(self, photos: Iterable[PhotoToClassify]) -> Generator[list[ModelAnswer]]:
        """Classify photos, about a batch at a time; the answers come in the order of the photos.

        Memory does not grow with the number of photos, but with the number of boxes in one. A photo that cannot be read
        is answered with the reason.

        Raises
        ------
        CheckpointError
            If the model answers with what are no numbers.
        """
        waiting: list[DecodedPhoto] = []
        n_images = 0
        ahead = BATCHES_AHEAD * self.batch_size
        for decoded in mapped_ahead(self._read, photos, threads=self.threads, ahead=ahead):
            waiting.append(decoded)
            n_images += len(decoded.images)
            if n_images >= self.batch_size or len(waiting) >= ahead:
                yield self._answer(waiting)
                waiting, n_images = [], 0
        if waiting:
            yield self._answer(waiting)

    def _read(self, photo: PhotoToClassify) -> DecodedPhoto:
        """Decode a photo, or say why that cannot be done."""
        problem, asked = "", photo.state()
        for _ in range(TRIES):
            try:
                return DecodedPhoto(photo, asked, self._decode(photo))
            except DataError as error:
                problem = str(error).removeprefix(f"{error.path}: ")
                if getattr(error.__cause__, "errno", None) is None:  # bad bytes stay bad
                    break
        return DecodedPhoto(photo, asked, NO_IMAGES, problem)

    def _decode(self, photo: PhotoToClassify) -> ImageArray:
        if photo.boxes is None:
            return read_photo(photo.path, self.squeeze)[np.newaxis]
        return np.stack(read_crops(photo.path, photo.boxes, padding=self.padding, squeeze=self.squeeze))

    def _answer(self, photos: list[DecodedPhoto]) -> list[ModelAnswer]:
        likeliest = self._likeliest([each.images for each in photos if each.problem is None])
        return [
            ModelAnswer(photo, Predictions.join([]) if problem is not None else next(likeliest), problem, asked)
            for photo, asked, _, problem in photos
        ]

    def _likeliest(self, images_of_photos: list[ImageArray]) -> Iterator[Predictions]:
        """Name the likeliest classes of each image, photo by photo."""
        if not images_of_photos:
            return
        images = np.concatenate(images_of_photos)
        starts = range(0, len(images), self.batch_size)
        probabilities = np.concatenate([self.network(images[start : start + self.batch_size]) for start in starts])
        if not np.isfinite(probabilities).all():
            raise unusable(
                self.export,
                "for some photos its probabilities are no numbers. Its training diverged, or an earlier version of "
                "camera_trap_al exported a classifier of trees; nothing was predicted for these photos",
            )
        end = 0
        for of_photo in images_of_photos:
            begin, end = end, end + len(of_photo)
            yield Predictions.of(np.arange(len(of_photo)), probabilities[begin:end])
