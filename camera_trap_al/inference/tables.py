"""What `predict` gives: a data frame, and the files that people and other programs read."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

from camera_trap_al.exceptions import DataError, RunFileError
from camera_trap_al.files import explained, write_csv, written_aside
from camera_trap_al.inference.classification import ModelAnswer
from camera_trap_al.inference.photos import PhotoSet
from camera_trap_al.interchange.megadetector import SkippedDetection
from camera_trap_al.interchange.timelapse import split_path
from camera_trap_al.predictions import COLUMNS, PREDICTIONS_FILE, RECOGNITIONS_FILE, prediction_lines, write_table
from camera_trap_al.statistics.sequence_predictions import SEQUENCE_COLUMNS, SequencePredictions
from camera_trap_al.statistics.thresholds import Thresholds

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "OUTPUT_FILES",
    "PARQUET_FILE",
    "SKIPPED_FILE",
    "UNREADABLE_FILE",
    "AnswerTable",
    "remove_earlier",
    "told_if_open",
    "write_skipped",
    "write_unreadable",
]

PARQUET_FILE = "predictions.parquet"
UNREADABLE_FILE = "unreadable_images.csv"
SKIPPED_FILE = "skipped_detections.csv"
OUTPUT_FILES = (PREDICTIONS_FILE, RECOGNITIONS_FILE, PARQUET_FILE, UNREADABLE_FILE, SKIPPED_FILE)
"""All files that people and other programs may read."""
DETECTION_COLUMNS = ("detection", "detection_confidence", "why_no_species")
TYPES = {
    **dict.fromkeys(("confidence", "margin", "detection_confidence", "sequence_confidence"), "float64"),
    **dict.fromkeys(("detection", "sequence"), "Int64"),
}


class AnswerTable:
    """Answers as lines for people: one a photo, or one a detection where boxes are classified.

    A photo that could not be read has no line. One in which nothing was detected has a line that says so, without a
    species.

    Parameters
    ----------
    photos
        What was asked about.
    classes
        Class names by class id.
    thresholds
        What to do with an answer.
    of_sequences
        What is thought of the sequence of each photo; None if nothing is known of sequences.
    """

    def __init__(
        self,
        photos: PhotoSet,
        classes: Sequence[str],
        thresholds: Thresholds,
        of_sequences: SequencePredictions | None = None,
    ) -> None:
        self._photos = photos
        self._detections = photos.detections
        self._classes = classes
        self._thresholds = thresholds
        self._of_sequences = of_sequences

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        of_detections = () if self._detections is None else DETECTION_COLUMNS
        return COLUMNS + of_detections + (() if self._of_sequences is None else SEQUENCE_COLUMNS)

    def lines(self, answers: Iterable[ModelAnswer]) -> Iterator[tuple[object, ...]]:
        """Give the cells of each line; `answers` are those of all photos in their order."""
        of_sequences = repeat(()) if self._of_sequences is None else self._of_sequences.cells(self._classes)
        for answer, of_sequence in zip(answers, of_sequences, strict=False):
            if answer.problem is None:
                yield from (line + of_sequence for line in self._lines_of(answer))

    def _lines_of(self, answer: ModelAnswer) -> Iterator[tuple[object, ...]]:
        predictions, name = answer.predictions, answer.photo.name
        decisions = self._thresholds.decide(predictions.confidence, predictions.first).tolist()
        lines = prediction_lines(predictions, [name] * len(predictions), self._classes, decisions)
        if self._detections is None:
            yield from lines
        elif not len(predictions):
            yield *split_path(name), "", None, "", None, "", None, None, self._photos.why_nothing(name)
        else:
            for number, (line, detection) in enumerate(zip(lines, self._detections[name], strict=True), start=1):
                yield *line, number, detection.confidence, ""

    def as_frame(self, answers: Iterable[ModelAnswer]) -> "pd.DataFrame":
        """Give the lines as a data frame."""
        import pandas as pd

        frame = pd.DataFrame.from_records(list(self.lines(answers)), columns=list(self.columns))
        return frame.astype({name: kind for name, kind in TYPES.items() if name in frame})

    def write(self, folder: Path, answers: Iterable[ModelAnswer]) -> None:
        """Write the lines into ``predictions.csv``, whole or not at all."""
        with told_if_open(folder / PREDICTIONS_FILE), written_aside(folder / PREDICTIONS_FILE) as path:
            write_table(path, self.columns, self.lines(answers))

    def write_parquet(self, folder: Path, answers: Iterable[ModelAnswer]) -> None:
        """Write the lines into ``predictions.parquet``, whole or not at all."""
        with told_if_open(folder / PARQUET_FILE), written_aside(folder / PARQUET_FILE) as path:
            self.as_frame(answers).to_parquet(path, index=False)


def write_unreadable(folder: Path, unreadable: Iterable[tuple[str, str]]) -> None:
    """List the photos that could not be read, and why."""
    with told_if_open(folder / UNREADABLE_FILE):
        write_csv(folder / UNREADABLE_FILE, ("path", "reason"), unreadable)


def write_skipped(folder: Path, skipped: Iterable[SkippedDetection]) -> None:
    """List the detections that cannot be used, and why."""
    lines = (("" if each.position is None else each.position + 1, each.file, each.reason) for each in skipped)
    with told_if_open(folder / SKIPPED_FILE):
        write_csv(folder / SKIPPED_FILE, ("detection", "path", "reason"), lines)


def remove_earlier(folder: Path, *names: str) -> None:
    """Remove tables of an earlier call, which would be taken for those of this one."""
    for path in (folder / name for name in names):
        with told_if_open(path), explained(path):
            path.unlink(missing_ok=True)


@contextmanager
def told_if_open(path: Path) -> Iterator[None]:
    """Say what to do if a file cannot be written since another program holds it open, as Excel does on Windows.

    Raises
    ------
    DataError
        If that may be so.
    """
    try:
        yield
    except RunFileError as error:
        if not error.is_not_allowed:
            raise
        raise DataError(
            f"{path}: the file cannot be written ({error.strerror}). If it is open in Excel or another program, close "
            "it there and start again: what was predicted is kept.",
            path,
        ) from error
