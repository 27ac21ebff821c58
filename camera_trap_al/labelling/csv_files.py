"""Reads the label CSVs that people really produce."""

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from camera_trap_al.exceptions import LabelFault, LabelFileError
from camera_trap_al.interchange.timelapse import CORRECT, join_path
from camera_trap_al.photos.folders import PHOTO_SUFFIXES

__all__ = ["LABEL_COLUMN", "LabelEntry", "LabelTable", "read_file_content", "read_label_file", "read_table"]

PATH_COLUMNS = ("File", "RelativePath")
LABEL_COLUMN = "Species"
PREDICTIONS_COLUMN = "confidence"
SEPARATORS = (",", ";", "\t")
SEPARATOR_LINE = re.compile(r"sep=(.)(?:\r\n|\r|\n)", re.IGNORECASE)  # a first line that Excel obeys and does not show
TRUE_WORDS = frozenset({"true", "1", "yes", "wahr", "vrai", "verdadero", "vero", "waar"})  # as Excel says it abroad


class LabelEntry(NamedTuple):
    """One row of a label file.

    Attributes
    ----------
    row
        Number of the row as a spreadsheet counts (the header is 1, blank lines count, a cell of several lines does
        not make several rows), or None when the label did not come from a file.
    path
        The photo, relative to the unlabelled folder, separated by ``/``.
    species
        The class name as written, without white space at its ends; "" where there is none.
    is_correction
        Whether it is to replace what was said about the photo earlier.
    is_selected
        Whether it counts as an answer; in Timelapse's own file that is so if the flag Selected is ticked.
    """

    row: int | None
    path: str
    species: str
    is_correction: bool = False
    is_selected: bool = True


@dataclass(frozen=True)
class LabelTable:
    """Labels as somebody wrote them, not yet compared with any question.

    Attributes
    ----------
    name
        What messages call the table: the name of the file.
    entries
        One entry per row that is not blank, in the order of the file.
    """

    name: str
    entries: tuple[LabelEntry, ...]


def read_file_content(path: Path) -> bytes:
    """Read a file whole, and only if nobody is writing it at this moment.

    Raises
    ------
    LabelFileError
        If the file vanished, is locked, cannot be read, or changed while it was read.
    """
    try:
        before = path.stat()
        content = path.read_bytes()
        after = path.stat()
    except OSError as error:
        raise _refusal(
            path.name,
            f"The file cannot be read: {error.strerror or error}.",
            "If it is open in another program, close it there; if it is gone, save it again.",
        ) from error
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or len(content) != after.st_size:
        raise _refusal(path.name, "The file changed while it was read.", "Wait until it is saved, then try again.")
    return content


def read_label_file(
    source: Path | str | bytes, name: str = "the label file", label_column: str = LABEL_COLUMN
) -> LabelTable:
    """Read a label CSV: columns File, RelativePath and Species by name, in any order, among any others.

    Understands UTF-8 with and without BOM, UTF-16 with BOM and cp1252 (Excel's "ANSI"); comma, semicolon and tab;
    blank lines, short rows, a trailing empty column, quoted cells with separators, quotes and line breaks in them. In
    a column ``Correct``, true marks a label that is to replace an earlier one.

    Parameters
    ----------
    source
        The file, or its bytes.
    name
        What messages call the file when `source` is bytes.
    label_column
        The column that holds the classes.

    Raises
    ------
    LabelFileError
        If the file cannot be read as such a table, or has a column `confidence`: it is then a file of predictions,
        which must not become labels.
    """
    if not isinstance(source, bytes):
        name, source = Path(source).name, read_file_content(Path(source))
    wanted = (*PATH_COLUMNS, label_column)
    header, records = read_table(source, name, wanted)
    file, relative_path, species = _locate_columns(header, wanted, name)
    correct = header.index(CORRECT) if CORRECT in header else len(header)

    def entry(row: int, cells: Sequence[str]) -> LabelEntry:
        cells = _aligned(cells, len(header), file)
        path = join_path(_cell(cells, file), _cell(cells, relative_path))
        return LabelEntry(row, path, _cell(cells, species), _cell(cells, correct).casefold() in TRUE_WORDS)

    return LabelTable(name, tuple(entry(row, cells) for row, cells in records))


def read_table(source: bytes, name: str, wanted: Sequence[str]) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """Read any CSV: its header, and the number and cells of every row that is not blank.

    Parameters
    ----------
    source
        The bytes of the file.
    name
        What messages call the file.
    wanted
        Column names to tell the separator by.

    Raises
    ------
    LabelFileError
        If it is not a table of text, at once or when the row in question is read.
    """
    text = _decode(source, name)
    named = SEPARATOR_LINE.match(text)
    text = text[named.end() :] if named else text
    records = _records(text, named[1] if named else _find_separator(text, wanted), name)
    _, first = next(records, (1, []))
    return [cell.strip() for cell in first], records


def _refusal(name: str, problem: str, advice: str, row: int | None = None) -> LabelFileError:
    return LabelFileError(f"{name} cannot be used as a label file.", [LabelFault(row, "", problem, advice)])


def _decode(content: bytes, name: str) -> str:
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    for encoding in ("utf-16",) if is_utf16 else ("utf-8-sig", "cp1252"):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise _refusal(
        name,
        "The file is not plain text.",
        'Save the table as CSV (in Excel: File, Save As, "CSV UTF-8"); another ending of the name is not enough.',
    )


def _find_separator(text: str, wanted: Sequence[str]) -> str:
    """Choose the separator that shows most of the columns that a label file needs, else most columns of any name."""
    # Only the start of a line: in a file that is no table, a line can be longer than the csv module accepts.
    line = next((line for line in io.StringIO(text, newline=None) if line.strip()), "")[:10_000]

    def fitness(separator: str) -> tuple[int, int]:
        cells = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
        return len({cell.strip() for cell in cells}.intersection(wanted)), len(cells)

    return max(SEPARATORS, key=fitness)


def _records(text: str, separator: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """Row number and cells of every record that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    row = 0
    try:
        for row, cells in enumerate(reader, start=1):
            if any(cell and not cell.isspace() for cell in cells):
                yield row, cells
    except csv.Error as error:
        advice = "Look for a quotation mark that is not closed there, or save the table again from a spreadsheet."
        raise _refusal(name, f"The table cannot be read from here on ({error}).", advice, row + 1) from error


def _locate_columns(header: Sequence[str], wanted: Sequence[str], name: str) -> tuple[int, int, int]:
    if PREDICTIONS_COLUMN in header:
        raise _refusal(
            name,
            f'The file has a column "{PREDICTIONS_COLUMN}": it holds what the model predicted, not what a person saw.',
            "Predictions must not become labels. Take the file out, and put the labels that you made in its place.",
            1,
        )
    missing = [column for column in wanted if column not in header]
    if missing:
        problem = f"The file has no column {' and no column '.join(missing)}."
        raise _refusal(name, problem, _header_advice(header, wanted), 1)
    doubled = [column for column in wanted if header.count(column) > 1]
    if doubled:
        raise _refusal(name, f"The file has several columns {doubled[0]}.", "Leave only the right one.", 1)
    file, relative_path, species = map(header.index, wanted)
    return file, relative_path, species


def _header_advice(header: Sequence[str], wanted: Sequence[str]) -> str:
    if not header:
        return f"It is empty: it needs the columns {', '.join(wanted)} and a row for each photo."
    advice = f"Its first row says: {', '.join(header)}. The names must be written exactly so: {', '.join(wanted)}."
    if len(header) == 1:
        advice += " The file seems to have a single column: separate the columns by commas, semicolons or tabs."
    return advice


def _aligned(cells: Sequence[str], n_columns: int, file: int) -> Sequence[str]:
    """Put back the cells that Timelapse leaves out at the left, for a folder that lies higher than its folder levels.

    Other programs leave out empty cells at the right. Which it was is told by where the name of the photo is.
    """
    n_left_out = n_columns - len(cells)
    if n_left_out <= 0 or _is_photo(_cell(cells, file)):
        return cells
    shifted = [""] * n_left_out + list(cells)
    return shifted if _is_photo(_cell(shifted, file)) else cells


def _is_photo(name: str) -> bool:
    return name[name.rfind(".") :].lower() in PHOTO_SUFFIXES


def _cell(cells: Sequence[str], column: int) -> str:
    return cells[column].strip() if column < len(cells) else ""
