"""Where an expert leaves labels: CSV files in the labels bin, or Timelapse's own data file."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from camera_trap_al.exceptions import LabelFault, LabelFileError
from camera_trap_al.interchange.timelapse_data import TimelapseRecord, find_data_file, read_data_file
from camera_trap_al.labelling.csv_files import (
    LABEL_COLUMN,
    LabelEntry,
    LabelTable,
    read_file_content,
    read_label_file,
)
from camera_trap_al.query import Query

__all__ = ["FoundLabels", "LabelPlace", "LabelsBin", "TimelapseData"]


class FoundLabels(NamedTuple):
    """Labels that were found.

    Attributes
    ----------
    table
        The labels.
    content
        The file that they are from, byte for byte; None where it is not for us to keep.
    """

    table: LabelTable
    content: bytes | None


class LabelPlace(Protocol):
    """Somewhere to look for labels.

    Attributes
    ----------
    prompt
        What the expert is asked to do before pressing Enter.
    """

    prompt: str

    def instructions(self, query: Query) -> str:
        """Say where the labels of `query` go."""

    def labels(self, query: Query) -> Iterator[FoundLabels]:
        """Give all labels there are, the newest first.

        Raises
        ------
        LabelFileError
            If the place or the newest labels cannot be read.
        """

    def nothing_found(self) -> LabelFileError:
        """Explain that none of the labels is for a photo that is asked about."""

    def state(self) -> object:
        """Give something that is equal as long as nothing has changed."""


class LabelsBin:
    """A folder for label CSVs, which is only ever read, and only in its top level.

    Parameters
    ----------
    folder
        The folder; made if need be.
    label_column
        The column that holds the classes.
    """

    # Scripts that drive a run wait for this sentence: it stands as it is.
    prompt = "Press enter when you have placed the labels in the labels bin"

    def __init__(self, folder: Path, label_column: str = LABEL_COLUMN) -> None:
        self.folder = folder
        self._label_column = label_column
        folder.mkdir(parents=True, exist_ok=True)

    def instructions(self, query: Query) -> str:
        """Say where the labels go."""
        return f"Then save or export them as CSV, under any name, into the labels bin\n  {self.folder}"

    def labels(self, query: Query) -> Iterator[FoundLabels]:
        """Read the CSV files, the newest first.

        Raises
        ------
        LabelFileError
            If a file cannot be read as a label file: going on to an older one might accept labels corrected since.
        """
        for path in self._files():
            content = read_file_content(path)
            yield FoundLabels(read_label_file(content, path.name, self._label_column), content)

    def nothing_found(self) -> LabelFileError:
        """Explain what is missing."""
        n_files = len(self._files())
        if n_files:
            some = "1 CSV file" if n_files == 1 else f"{n_files:,} CSV files"
            problem = f"Of {some} in the labels bin, none has a row for a photo that is asked about."
            advice = "Put the labels of the selected photos there; RelativePath must start in the unlabelled folder."
        else:
            problem = "There is no CSV file in the labels bin."
            advice = "Save the labels there, under a name that ends in .csv; folders in it are not searched."
        return LabelFileError(f"No labels were found in {self.folder}.", [LabelFault(None, "", problem, advice)])

    def state(self) -> object:
        """Give names, sizes and times of the files."""
        try:
            return [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in self._files()]
        except (LabelFileError, OSError):
            return None

    def _files(self) -> list[Path]:
        """List the CSV files, newest first."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            dated = [(path.stat().st_mtime_ns, path.name) for path in self.folder.iterdir() if _is_label_file(path)]
        except OSError as error:
            # A file may vanish while we look; then nobody knows any more which one is the newest.
            problem = f"The labels bin cannot be read: {error.strerror or error} ({error.filename})."
            fault = LabelFault(None, "", problem, "Look whether the folder can be reached, then try again.")
            raise LabelFileError(f"No labels could be read from {self.folder}.", [fault]) from error
        return [self.folder / name for _, name in sorted(dated, reverse=True)]


def _is_label_file(path: Path) -> bool:
    # Excel keeps a lock file ~$name beside an open file, macOS one named ._name on network drives.
    return path.suffix.lower() == ".csv" and not path.name.startswith(("~$", ".")) and not path.is_dir()


class TimelapseData:
    """The file in which Timelapse itself keeps what is entered, read while Timelapse may have it open.

    A photo is answered when its flag Selected is true and its species is not empty.

    Parameters
    ----------
    place
        The image folder, or the ``.ddb`` file where there are several.
    label_column
        The control that holds the classes.

    Raises
    ------
    DataError
        If the folder has no such file, or several.
    """

    prompt = "Press enter when the labels are in Timelapse"

    def __init__(self, place: Path, label_column: str = LABEL_COLUMN) -> None:
        self.file = find_data_file(place) if place.is_dir() else place
        self._label_column = label_column

    def instructions(self, query: Query) -> str:
        """Say where the labels are read from, and how many stand there already."""
        told = f"Nothing has to be exported: the labels are read from\n  {self.file}"
        asked = frozenset(query.paths)
        n_there = len({record.path for record in self._records() if record.label and record.path in asked})
        if n_there:
            told += (
                f"\n{n_there} of these photos have a species there already, from before this question. They count as "
                "answered, as they are, once they are selected; change what is wrong."
            )
        return told

    def labels(self, query: Query) -> Iterator[FoundLabels]:
        """Read the data file.

        Raises
        ------
        LabelFileError
            If it cannot be read.
        """
        asked = frozenset(query.paths)
        entries = tuple(
            LabelEntry(None, path, label if is_selected or path not in asked else "", is_correction)
            for path, label, is_selected, is_correction in read_data_file(self.file, self._label_column)
        )
        yield FoundLabels(LabelTable(self.file.name, entries), None)

    def _records(self) -> list[TimelapseRecord]:
        try:
            return read_data_file(self.file, self._label_column)
        except LabelFileError:  # told when the answer is read
            return []

    def nothing_found(self) -> LabelFileError:
        """Explain what is missing."""
        problem = f"{self.file.name} has no record of a photo that is asked about."
        advice = "Open the unlabelled folder itself in Timelapse, so that it holds all its photos."
        return LabelFileError(f"No labels were found in {self.file}.", [LabelFault(None, "", problem, advice)])

    def state(self) -> object:
        """Give size and time of the file, and of what SQLite may keep beside it."""
        files = (self.file, self.file.with_name(f"{self.file.name}-wal"))
        found = [path.stat() for path in files if path.exists()]
        return [(status.st_size, status.st_mtime_ns) for status in found]
