"""Every error that the package raises on purpose.

::

    CameraTrapALError
    +- ConfigError (ValueError)         an argument is out of range or names no known option
    +- DataError (ValueError)           the image folders cannot be used
    +- LabelFileError (ValueError)      a label file cannot be accepted
    +- EmptyPoolError                   a query was asked and nothing is unlabelled
    +- CheckpointError                  a run, or an exported model, on disk cannot be used
    +- RunFileError (OSError)           a file of the run cannot be written or read
       +- DiskFullError                 there is no room for it
    +- WeightsUnavailableError          pretrained weights cannot be had

Each message says what is wrong, where, and what to do; the attributes carry the same evidence for programs.
"""

import errno
import os
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
    "RunFileError",
    "WeightsUnavailableError",
]

IN_THE_WAY = {errno.EEXIST, errno.EISDIR, errno.ENOTDIR}
NOT_ALLOWED = {errno.EACCES, errno.EPERM}
MOST_WINDOWS_TAKES = 259  # characters of a path, unless long paths are switched on
MOST_OF_A_REASON = 200  # characters of what another library says
LONGEST_NAME = 255  # bytes, on most drives


def is_too_long_for_windows(path: Path) -> bool:
    """Whether this is Windows, and the path one that it opens only if long paths are switched on."""
    return os.name == "nt" and len(str(path)) > MOST_WINDOWS_TAKES


def reason_of(error: BaseException) -> str:
    """Give the first line of what another library says, to be quoted in a sentence; the kind of error if it is mute."""
    return str(error).strip().partition("\n")[0].rstrip(".")[:MOST_OF_A_REASON] or type(error).__name__


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
    """A run, or an exported model, on disk cannot be used: a part is missing, damaged, of other data or too new.

    Attributes
    ----------
    path
        The file or folder at fault.
    """

    def __init__(self, message: str, path: Path) -> None:
        super().__init__(message)
        self.path = path


class RunFileError(CameraTrapALError, OSError):
    """A file of a run cannot be written or read: not allowed, too long a path, or a drive that is gone.

    Attributes
    ----------
    path
        The file.
    """

    def __init__(self, path: Path, cause: OSError) -> None:
        super().__init__(cause.errno or errno.EIO, cause.strerror or str(cause), str(path))
        self.path = path

    @property
    def is_not_allowed(self) -> bool:
        """Whether the file may not be written, as when another program holds it open on Windows."""
        return self.errno in NOT_ALLOWED

    @property
    def is_too_long(self) -> bool:
        """Whether the path is too long."""
        is_not_found = self.errno in (errno.ENOENT, errno.EINVAL)  # which is all that Windows says then
        return self.errno == errno.ENAMETOOLONG or (is_not_found and is_too_long_for_windows(self.path))

    def __str__(self) -> str:
        what, advice = self._told()
        return (
            f"{self.path}: cannot be used, since {what}. {advice}, and start again with the same settings: it goes "
            "on where it was, and nothing is lost."
        )

    def _told(self) -> tuple[str, str]:
        if self.is_too_long:
            length, name = len(str(self.path)), max(self.path.parts, key=lambda part: len(os.fsencode(part)))
            is_the_name = len(os.fsencode(name)) > LONGEST_NAME
            return (
                f'the name "{name}" is longer than the {LONGEST_NAME} bytes that a drive takes'
                if is_the_name
                else f"its path is {length} characters long, more than this computer takes",
                'Move the run folder to a place with a shorter path, such as "C:\\run", and give that as output_dir',
            )
        if self.errno == errno.EROFS:
            return (
                f"its drive can only be read ({self.strerror})",
                "See to it that the drive can be written to, such as by the lock of a memory card or by connecting it "
                "again",
            )
        if self.is_not_allowed:
            return (
                f"that is not allowed ({self.strerror})",
                "Close the programs that have it open, such as Excel, and see to it that you may write to its folder",
            )
        if self.errno in IN_THE_WAY:
            return (
                f"something of another kind is in its way ({self.strerror})",
                "Rename what lies there under this name, or under that of a folder above it",
            )
        return (
            f"its drive does not answer as it should ({self.strerror})",
            "Look whether the drive is connected, and the folder still there under this name",
        )


class DiskFullError(RunFileError):
    """There is no room on the disk for a file of a run."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, OSError(errno.ENOSPC, "no room is left on the disk"))

    def __str__(self) -> str:
        return (
            f"{self.path}: cannot be written, since {self.strerror}. Make room there and start again with the same "
            "settings: it goes on where it was, and nothing is lost."
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
