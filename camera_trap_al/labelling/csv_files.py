"""Reads the label CSVs that people really produce, and matches them with what was asked."""

import codecs
import csv
import io
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from camera_trap_al.exceptions import LabelFault, LabelFileError
from camera_trap_al.interchange.timelapse import join_path
from camera_trap_al.query import Query

__all__ = [
    "LABEL_COLUMNS",
    "LabelEntry",
    "LabelTable",
    "MatchedLabels",
    "match_answers",
    "read_file_content",
    "read_label_file",
]

LABEL_COLUMNS = ("File", "RelativePath", "Species")
SEPARATORS = (",", ";", "\t")
PREDICTIONS_COLUMN = "confidence"
MAX_CLASSES_LISTED = 20


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
    """

    row: int | None
    path: str
    species: str


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


@dataclass(frozen=True)
class MatchedLabels:
    """What a label table says about the photos of one query.

    Attributes
    ----------
    labels
        Class id of each row of the query that has a usable label.
    faults
        Everything that is wrong, by row in the file; photos without a row come last. Empty exactly when every photo
        of the query is in `labels`.
    n_found
        Photos of the query that the table has a row for.
    n_ignored
        Labels for photos that were not asked about.
    """

    labels: dict[int, int]
    faults: tuple[LabelFault, ...]
    n_found: int
    n_ignored: int


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


def read_label_file(source: Path | str | bytes, name: str = "the label file") -> LabelTable:
    """Read a label CSV: columns File, RelativePath and Species by name, in any order, among any others.

    Understands UTF-8 with and without BOM, UTF-16 with BOM and cp1252 (Excel's "ANSI"); comma, semicolon and tab;
    blank lines, short rows, a trailing empty column, quoted cells with separators, quotes and line breaks in them.

    Parameters
    ----------
    source
        The file, or its bytes.
    name
        What messages call the file when `source` is bytes.

    Raises
    ------
    LabelFileError
        If the file cannot be read as such a table, or has a column `confidence`: it is then a file of predictions,
        which must not become labels.
    """
    if not isinstance(source, bytes):
        name, source = Path(source).name, read_file_content(Path(source))
    text = _decode(source, name)
    records = _records(text, _find_separator(text), name)
    _, header = next(records, (1, []))
    file, relative_path, species = _locate_columns([cell.strip() for cell in header], name)
    entries = tuple(
        LabelEntry(row, join_path(_cell(cells, file), _cell(cells, relative_path)), _cell(cells, species))
        for row, cells in records
    )
    return LabelTable(name, entries)


def match_answers(table: LabelTable, query: Query, photos: Collection[str] = ()) -> MatchedLabels:
    """Find the label of every photo that a query asks about, or say what is wrong with it.

    Class names must match exactly. Paths match exactly, or else but for upper and lower case (and white space around
    a name), where that can mean one photo only. Rows that agree about a photo count as one.

    Parameters
    ----------
    table
        What was labelled; may hold other photos too.
    query
        What was asked.
    photos
        All photos of the unlabelled folder, so that a path that differs in case is not taken for another photo's.
    """
    entries_of, others = _sort_entries(table.entries, query.paths, photos)
    ids = {name: class_id for class_id, name in enumerate(query.classes)}
    labels: dict[int, int] = {}
    faults: list[LabelFault] = []
    for row, path in zip(query.rows.tolist(), query.paths, strict=True):
        entries = entries_of[path]
        found = _find_faults(path, entries, query.classes)
        if found:
            faults += found
        else:
            labels[row] = ids[entries[0].species]
    faults.sort(key=lambda fault: (fault.row is None, fault.row or 0))
    n_found = sum(bool(entries) for entries in entries_of.values())
    return MatchedLabels(labels, tuple(faults), n_found, sum(bool(entry.species) for entry in others))


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


def _find_separator(text: str) -> str:
    """Choose the separator that shows most of the columns that a label file needs, else most columns of any name."""
    # Only the start of a line: in a file that is no table, a line can be longer than the csv module accepts.
    line = next((line for line in io.StringIO(text, newline=None) if line.strip()), "")[:10_000]

    def fitness(separator: str) -> tuple[int, int]:
        cells = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
        return len({cell.strip() for cell in cells}.intersection(LABEL_COLUMNS)), len(cells)

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


def _locate_columns(header: Sequence[str], name: str) -> tuple[int, int, int]:
    if PREDICTIONS_COLUMN in header:
        raise _refusal(
            name,
            f'The file has a column "{PREDICTIONS_COLUMN}": it holds what the model predicted, not what a person saw.',
            "Predictions must not become labels. Take the file out, and put the labels that you made in its place.",
            1,
        )
    missing = [column for column in LABEL_COLUMNS if column not in header]
    if missing:
        raise _refusal(name, f"The file has no column {' and no column '.join(missing)}.", _header_advice(header), 1)
    doubled = [column for column in LABEL_COLUMNS if header.count(column) > 1]
    if doubled:
        raise _refusal(name, f"The file has several columns {doubled[0]}.", "Leave only the right one.", 1)
    file, relative_path, species = map(header.index, LABEL_COLUMNS)
    return file, relative_path, species


def _header_advice(header: Sequence[str]) -> str:
    if not header:
        return f"It is empty: it needs the columns {', '.join(LABEL_COLUMNS)} and a row for each photo."
    advice = (
        f"Its first row says: {', '.join(header)}. The names must be written exactly so: {', '.join(LABEL_COLUMNS)}."
    )
    if len(header) == 1:
        advice += " The file seems to have a single column: separate the columns by commas, semicolons or tabs."
    return advice


def _cell(cells: Sequence[str], column: int) -> str:
    return cells[column].strip() if column < len(cells) else ""


def _sort_entries(
    entries: Sequence[LabelEntry], asked: Sequence[str], photos: Collection[str]
) -> tuple[dict[str, list[LabelEntry]], list[LabelEntry]]:
    """Give each photo that is asked about its entries, and return the other entries apart."""
    found: dict[str, list[LabelEntry]] = {path: [] for path in asked}
    others: list[LabelEntry] = []
    for entry in entries:
        found.get(entry.path, others).append(entry)
    missing = {_without_case(path): path for path, own in found.items() if not own}
    if not missing:
        return found, others
    n_meant = Counter(key for key in map(_without_case, {*asked, *photos}) if key in missing)
    rest: list[LabelEntry] = []
    for entry in others:
        key = _without_case(entry.path)
        (found[missing[key]] if n_meant[key] == 1 else rest).append(entry)
    return found, rest


def _without_case(path: str) -> str:
    """Keep what Windows (case, backslash) and a spreadsheet (spaces at the ends of a cell) leave of a path."""
    composed = unicodedata.normalize("NFC", path)  # macOS stores an accent apart from its letter
    return "/".join(part.strip() for part in composed.replace("\\", "/").split("/")).casefold()


def _find_faults(path: str, entries: Sequence[LabelEntry], classes: Sequence[str]) -> list[LabelFault]:
    """Everything wrong with the entries of one photo that was asked about."""
    if not entries:
        return [LabelFault(None, path, "There is no label for this photo.", "Add its row, with its Species.")]
    first = {entry.species: entry.row for entry in reversed(entries)}
    if len(first) == 1 and "" in first:
        return [LabelFault(first[""], path, "Species is empty.", "Fill in the species.")]
    faults = [
        LabelFault(row, path, f'"{species}" is not a class.', _class_advice(species, classes))
        for species, row in first.items()
        if species and species not in classes
    ]
    if len(first) > 1:
        said = ", ".join(_quote_entry(entry) for entry in entries)
        faults.append(
            LabelFault(entries[-1].row, path, f"Its rows disagree: {said}.", "Give all its rows the same species.")
        )
    return faults


def _quote_entry(entry: LabelEntry) -> str:
    what = f'"{entry.species}"' if entry.species else "nothing"
    return what if entry.row is None else f"{what} in row {entry.row}"


def _class_advice(species: str, classes: Sequence[str]) -> str:
    names = {name.casefold(): name for name in classes}
    near = get_close_matches(species.casefold(), names, n=1)
    if near:
        return f'Did you mean "{names[near[0]]}"? Names must match exactly.'
    listed = sorted(classes)
    more = f" and {len(listed) - MAX_CLASSES_LISTED} more" if len(listed) > MAX_CLASSES_LISTED else ""
    return f"The classes are: {', '.join(listed[:MAX_CLASSES_LISTED])}{more}."
