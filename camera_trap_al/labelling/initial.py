"""Labels that people have already when a run begins."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from camera_trap_al.exceptions import LabelFault, LabelFileError
from camera_trap_al.files import from_plain_cell
from camera_trap_al.interchange.timelapse_data import read_data_file
from camera_trap_al.labelling.class_names import ClassNames
from camera_trap_al.labelling.csv_files import (
    LabelEntry,
    LabelTable,
    read_file_content,
    read_label_file,
    read_table,
)
from camera_trap_al.labelling.matching import entries_by_photo, judge
from camera_trap_al.pools import Role
from camera_trap_al.query import SKIP, UNUSABLE
from camera_trap_al.run_store.label_archive import LABEL_COLUMNS

__all__ = ["InitialLabels", "match_initial_labels", "new_class_names", "read_initial_labels"]


@dataclass(frozen=True)
class InitialLabels:
    """Labels of photos of the unlabelled folder that nobody asked for.

    Attributes
    ----------
    table
        The labels.
    content
        The file, byte for byte; None for Timelapse's own, which may be large.
    """

    table: LabelTable
    content: bytes | None


def read_initial_labels(path: Path, label_column: str) -> InitialLabels:
    """Read a label CSV, the ``labels.csv`` of an earlier run, or Timelapse's ``.ddb``.

    Raises
    ------
    LabelFileError
        If it cannot be read as any of these.
    """
    if path.suffix.lower() == ".ddb":
        records = read_data_file(path, label_column, needs_selected=False)
        entries = tuple(LabelEntry(None, record.path, record.label) for record in records if record.label)
        return InitialLabels(LabelTable(path.name, entries), None)
    content = read_file_content(path)
    header, records_of_run = read_table(content, path.name, LABEL_COLUMNS)
    if tuple(header) != LABEL_COLUMNS:
        return InitialLabels(read_label_file(content, path.name, label_column), content)
    prefix = f"{Role.UNLABELLED.argument}/"
    of_unlabelled = (
        LabelEntry(row, cells[0].strip().removeprefix(prefix), from_plain_cell(cells[1].strip()))
        for row, cells in records_of_run
        if len(cells) == len(header) and cells[0].strip().startswith(prefix)
    )
    labelled = tuple(entry for entry in of_unlabelled if entry.species != "unlabelled")
    return InitialLabels(LabelTable(path.name, labelled), content)


def new_class_names(table: LabelTable, names: ClassNames) -> tuple[str, ...]:
    """Give the classes that the words of a table could stand for and that are not there, sorted."""
    return tuple(names.new_classes(Counter(entry.species for entry in table.entries)))


def match_initial_labels(
    table: LabelTable, photos: Sequence[str], names: ClassNames
) -> tuple[dict[str, str | None], int]:
    """Find the class of each photo that has a label.

    Parameters
    ----------
    table
        The labels.
    photos
        All photos of the unlabelled folder, relative to it, separated by ``/``.
    names
        What words mean.

    Returns
    -------
    Class name by photo, None for one that is unusable, and how many labels are for photos that are not there.

    Raises
    ------
    LabelFileError
        If there is no label, none is for a photo that is there, a name is no class, or the rows of a photo disagree.
    """
    refusal = f"{table.name} cannot be used as initial_labels."
    labelled = [entry for entry in table.entries if entry.species]
    if not labelled:
        advice = "Fill in the species of some photos, or start without initial_labels."
        raise LabelFileError(refusal, [LabelFault(None, "", "It holds no label.", advice)])
    found, others = entries_by_photo(labelled, photos, ())
    if len(others) == len(labelled):
        example = f"such as that for {others[0].path}"
        problem = f"None of its {len(labelled)} labels, {example}, is for a photo of the unlabelled folder."
        advice = "Its paths must start in the unlabelled folder: look whether a folder is missing or too many."
        raise LabelFileError(refusal, [LabelFault(None, "", problem, advice)])
    classes: dict[str, str | None] = {}
    faults: dict[str, LabelFault] = {}
    for photo, entries in found.items():
        if entries:
            meaning, wrong = judge(photo, entries, names)
            faults |= {fault.problem: fault for fault in wrong if fault.problem not in faults}
            if meaning is not None and meaning != SKIP:
                classes[photo] = None if meaning == UNUSABLE else meaning
    if faults:
        raise LabelFileError(refusal, tuple(faults.values()))
    return classes, len(others)
