"""Where an expert leaves labels: CSV files in the labels bin, or Timelapse's own data file."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from camera_trap_al.exceptions import LabelFault, LabelFileError
from camera_trap_al.interchange.timelapse import never_shown
from camera_trap_al.interchange.timelapse_data import TimelapseRecord, find_data_file, read_data_file
from camera_trap_al.labelling.csv_files import (
    LABEL_COLUMN,
    LabelEntry,
    LabelTable,
    read_file_content,
    read_label_file,
)
from camera_trap_al.query import Query

__all__ = ["FoundLabels", "LabelPlace", "LabelsBin", "NoLabelsFound", "TimelapseData"]

WORKBOOKS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")
MAX_OTHERS = 5  # files named that are no label files


class NoLabelsFound(LabelFileError):
    """Nobody has labelled anything yet that is asked about."""


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

    def nothing_found(self) -> NoLabelsFound:
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

    def nothing_found(self) -> NoLabelsFound:
        """Explain what is missing."""
        n_files = len(self._files())
        if n_files:
            some = "1 CSV file" if n_files == 1 else f"{n_files:,} CSV files"
            problem = f"Of {some} in the labels bin, none has a row for a photo that is asked about."
            advice = "Put the labels of the selected photos there; RelativePath must start in the unlabelled folder."
        else:
            problem = "There is no CSV file in the labels bin."
            advice = "Save the labels there, under a name that ends in .csv; folders in it are not searched."
            others = self._others()
            if others:
                advice += f" Other files there: {', '.join(others)}."
            if any(name.lower().endswith(WORKBOOKS) for name in others):
                advice += ' Open the workbook, and save it as CSV (in Excel: File, Save As, "CSV UTF-8").'
        return NoLabelsFound(f"No labels were found in {self.folder}.", [LabelFault(None, "", problem, advice)])

    def _others(self) -> list[str]:
        """Name what lies in the bin and is no label file: at most a few, and nothing that programs hide there."""
        try:
            names = [path.name + ("/" if path.is_dir() else "") for path in self.folder.iterdir()]
        except OSError:
            return []
        return sorted(name for name in names if not name.startswith(("~$", ".")))[:MAX_OTHERS]

    def state(self) -> object:
        """Give names, sizes and times of the files."""
        try:
            return [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in self._files()]
        except (LabelFileError, OSError):
            return None

    def _files(self) -> list[Path]:
        """List the CSV files, newest first."""
        try:
            self.folder.mkdir(exist_ok=True)  # not those above it: their drive may be gone
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
    labels_bin
        Where the labels of photos are looked for that Timelapse never shows; None looks nowhere.

    Raises
    ------
    DataError
        If the folder has no such file, or several.
    LabelFileError
        If it cannot be read, or has no such control.
    """

    prompt = "Press enter when the labels are in Timelapse"

    def __init__(self, place: Path, label_column: str = LABEL_COLUMN, labels_bin: LabelsBin | None = None) -> None:
        self.file = find_data_file(place) if place.is_dir() else place
        self._label_column = label_column
        self._bin = labels_bin
        self._untold: int | None = None  # the round of which nobody was told how many answers stood there already
        self._records()  # refused now, not after the first training

    def _records(self) -> list[TimelapseRecord]:
        return read_data_file(self.file, self._label_column)

    def instructions(self, query: Query) -> str:
        """Say where the labels are read from, and how many stand there already."""
        told = f"Nothing has to be exported: the labels are read from\n  {self.file}"
        if self._bin is not None and never_shown(query.paths):
            told += f"\nSave those of photos that Timelapse never shows as CSV into\n  {self._bin.folder}"
        try:
            already = self._told_already(query, self._records())
        except LabelFileError:  # such as a file in use: told when the answer is read
            self._untold = query.round
            return told
        return f"{told}\n{already}" if already else told

    @staticmethod
    def _told_already(query: Query, records: Sequence[TimelapseRecord]) -> str:
        asked = frozenset(query.paths)
        n_there = len({record.path for record in records if record.label and record.path in asked})
        if not n_there:
            return ""
        return (
            f"Photos of this question that have a species there already: {n_there}. They count as answered, as they "
            "are, once they are selected; change what is wrong."
        )

    def labels(self, query: Query) -> Iterator[FoundLabels]:
        """Read the data file, and the newest file in the bin for photos that Timelapse never shows.

        Raises
        ------
        LabelFileError
            If one of them cannot be read; or once if it was not told yet how many species stood there already.
        """
        records = self._records()
        is_untold, self._untold = self._untold == query.round, None
        if is_untold and (already := self._told_already(query, records)):
            fault = LabelFault(None, "", already, "Press enter again to accept them.")
            raise LabelFileError(f"{self.file.name} holds labels from before.", [fault])
        entries = [
            LabelEntry(None, path, label, is_correction, is_selected)
            for path, label, is_selected, is_correction in records
        ]
        is_hidden = self._bin is not None and bool(never_shown(query.paths))
        hidden = next(self._bin.labels(query), None) if self._bin is not None and is_hidden else None
        if hidden is None:
            yield FoundLabels(LabelTable(self.file.name, tuple(entries)), None)
            return
        entries += [entry for entry in hidden.table.entries if never_shown([entry.path])]
        yield FoundLabels(LabelTable(f"{self.file.name} and {hidden.table.name}", tuple(entries)), hidden.content)

    def nothing_found(self) -> NoLabelsFound:
        """Explain what is missing."""
        problem = f"{self.file.name} has no record of a photo that is asked about."
        advice = "Open the unlabelled folder itself in Timelapse, so that it holds all its photos."
        return NoLabelsFound(f"No labels were found in {self.file}.", [LabelFault(None, "", problem, advice)])

    def state(self) -> object:
        """Give size and time of the file, and of what SQLite may keep beside it."""
        return [_size_and_time(path) for path in (self.file, self.file.with_name(f"{self.file.name}-wal"))]


def _size_and_time(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:  # not there, as SQLite's file most of the time, or its drive is away
        return None
    return status.st_size, status.st_mtime_ns
