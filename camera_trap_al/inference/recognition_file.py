"""``recognitions.json``: the answers for Timelapse and other programs that read MegaDetector's format."""

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from camera_trap_al.inference.classification import ModelAnswer
from camera_trap_al.inference.photos import PhotoSet
from camera_trap_al.inference.tables import told_if_open
from camera_trap_al.interchange.megadetector import Detection, DetectionFile
from camera_trap_al.interchange.recognitions import add_classifications, write_recognitions
from camera_trap_al.model_description import ModelDescription
from camera_trap_al.predictions import RECOGNITIONS_FILE, Predictions

__all__ = ["AnswersAnew", "Recognitions"]

TIME_FORMAT = "%Y-%m-%d %H:%M:%S"  # as MegaDetector writes it

AnswersAnew = Callable[[], Iterator[ModelAnswer]]
"""Gives the answers to all photos, from the first one on each time it is called."""


class Recognitions:
    """Writes the answers of whole photos, or adds those of detections to the file that they are from.

    Parameters
    ----------
    description
        Of the model.
    photos
        What was asked about.
    file
        The detections, if there are any.
    """

    def __init__(self, description: ModelDescription, photos: PhotoSet, file: DetectionFile | None) -> None:
        self._classes = description.classes
        made_with, architecture = description.made_with.get("camera_trap_al", ""), description.network["architecture"]
        self._info = {"classifier": f"camera_trap_al {made_with}, {architecture}"}
        self._photos = photos
        self._file = file

    def write(self, folder: Path, answers: AnswersAnew) -> None:
        """Write them, whole or not at all."""
        path = folder / RECOGNITIONS_FILE
        with told_if_open(path):
            if self._file is None:
                self._write_whole_photos(path, answers)
            else:
                self._add_to(path, self._file, answers)

    def _write_whole_photos(self, path: Path, answers: AnswersAnew) -> None:
        write_recognitions(
            path,
            (answer.photo.name for answer in answers() if answer.problem is None),
            self._classes,
            (row for predictions in _predictions(answers) for row in predictions.class_ids),
            (row for predictions in _predictions(answers) for row in predictions.probabilities),
            info=self._info,
            unreadable=((answer.photo.name, answer.problem) for answer in answers() if answer.problem is not None),
        )

    def _add_to(self, path: Path, file: DetectionFile, answers: AnswersAnew) -> None:
        add_classifications(
            path,
            file,
            self._classified(answers),
            self._classes,
            (row for predictions in _predictions(answers) for row in predictions.class_ids),
            (row for predictions in _predictions(answers) for row in predictions.probabilities),
            info={**self._info, "classification_completion_time": f"{datetime.now():{TIME_FORMAT}}"},
        )

    def _classified(self, answers: AnswersAnew) -> Iterator[Detection]:
        detections = self._photos.detections or {}
        for answer in answers():
            if answer.problem is None:
                yield from detections.get(answer.photo.name, ())


def _predictions(answers: AnswersAnew) -> Iterator[Predictions]:
    """Give what the model thinks of the photos that could be read."""
    return (answer.predictions for answer in answers() if answer.problem is None)
