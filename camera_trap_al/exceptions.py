"""Every error that the package raises on purpose.

::

    CameraTrapALError
    +- ConfigError (ValueError)         an argument is out of range or names no known option
    +- DataError (ValueError)           the image folders cannot be used
    +- LabelFileError (ValueError)      a label file cannot be accepted
    +- EmptyPoolError                   a query was asked and nothing is unlabelled
    +- CheckpointError                  a run on disk cannot be continued
    +- DiskFullError (OSError)          there is no room for a file of the run
    +- WeightsUnavailableError          pretrained weights cannot be had

Each message says what is wrong, where, and what to do; the attributes carry the same evidence for programs.
"""

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "CameraTrapALError",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "DiskFullError",
    "EmptyPoolError",
    "LabelFault",
    "LabelFileError",
    "WeightsUnavailableError",
]


class CameraTrapALError(Exception):
    """Base of every error of this package: catch it to catch them all."""


class ConfigError(CameraTrapALError, ValueError):
    """One or more arguments cannot be used.

    Attributes
    ----------
    problems
        One sentence per bad argument: its name, the rule, the value and the way out.
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        if len(self.problems) == 1:
            super().__init__(self.problems[0])
        else:
            listed = "".join(f"\n  - {problem}" for problem in self.problems)
            super().__init__(f"{len(self.problems)} settings cannot be used:{listed}")


class DataError(CameraTrapALError, ValueError):
    """A folder or photo cannot be used.

    Attributes
    ----------
    path
        The folder or file at fault, or None when several are (the message lists them).
    """

    def __init__(self, message: str, path: Path | None = None) -> None:
        super().__init__(message)
        self.path = path


@dataclass(frozen=True)
class LabelFault:
    """One thing wrong in a label file.

    Attributes
    ----------
    row
        Line in the file as a spreadsheet counts it (the header is 1), or None when the fault is that a row is missing.
    file
        The photo concerned, relative to the unlabelled folder, or "" when the fault concerns the whole file.
    problem
        What is wrong.
    advice
        What to do about it.
    """

    row: int | None
    file: str
    problem: str
    advice: str

    def __str__(self) -> str:
        where = ", ".join(part for part in (f"row {self.row}" if self.row else "", self.file) if part)
        return f"{where}: {self.problem} {self.advice}" if where else f"{self.problem} {self.advice}"


class LabelFileError(CameraTrapALError, ValueError):
    """A label file cannot be accepted as it is.

    Attributes
    ----------
    faults
        Every fault that was found, not only the first.
    """

    def __init__(self, message: str, faults: Sequence[LabelFault]) -> None:
        super().__init__("".join([message, *(f"\n  - {fault}" for fault in faults)]))
        self.faults = tuple(faults)


class EmptyPoolError(CameraTrapALError):
    """A query strategy was asked to choose, and no photo is unlabelled."""


class CheckpointError(CameraTrapALError):
    """A run on disk cannot be continued: a part is missing, damaged, newer than this package, or of other data.

    Attributes
    ----------
    path
        The file or folder at fault.
    """

    def __init__(self, message: str, path: Path) -> None:
        super().__init__(message)
        self.path = path


class DiskFullError(CameraTrapALError, OSError):
    """There is no room on the disk for a file of a run.

    Attributes
    ----------
    path
        The file that could not be written.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(errno.ENOSPC, "no room is left on the disk", str(path))
        self.path = path

    def __str__(self) -> str:
        return (
            f"{self.path}: cannot be written, since {self.strerror}. Make room there and start again with the same "
            "settings: the run goes on, and no label is lost."
        )


class WeightsUnavailableError(CameraTrapALError):
    """Pretrained weights cannot be loaded or downloaded.

    Attributes
    ----------
    path
        Where the weights file was looked for and should be put.
    url
        Where the file can be had, or "" when it is the user's own file.
    """

    def __init__(self, message: str, path: Path, url: str = "") -> None:
        super().__init__(message)
        self.path = path
        self.url = url
