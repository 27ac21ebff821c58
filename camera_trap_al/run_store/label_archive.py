"""What a run keeps beside its database of every label it was given: the file as it came, and what was taken from it."""

import csv
import io
import os
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path

from camera_trap_al.exceptions import CheckpointError
from camera_trap_al.files import from_plain_cell, plain_cell, written_aside
from camera_trap_al.pools import Role
from camera_trap_al.query import SKIP, UNUSABLE, Answer, Query
from camera_trap_al.run_store.photo_table import leaves_its_folder
from camera_trap_al.run_store.run_folder import ARCHIVE, ARCHIVED_NAME

__all__ = [
    "ACCEPTED",
    "AUDIT",
    "HELD_OUT",
    "INITIAL",
    "LABEL_COLUMNS",
    "NOT_ANSWERS",
    "keep_answer",
    "keep_audit",
    "keep_file",
    "keep_held_out",
    "keep_initial",
    "read_labels",
]

ACCEPTED = f"{ARCHIVE}/accepted"
INITIAL = f"{ACCEPTED}/initial.csv"  # labels known before the run asked anything
AUDIT = f"{ACCEPTED}/audit.csv"  # photos that only measure the model
HELD_OUT = f"{ACCEPTED}/held_out.csv"  # photos of any role that are kept out of the training
NOT_ANSWERS = (INITIAL, AUDIT, HELD_OUT)  # which an earlier start that failed may have left
LABEL_COLUMNS = ("path", "label")  # of data/labels.csv, and of what was accepted


def keep_answer(folder: Path, query: Query, answer: Answer) -> None:
    """Keep the label file of an answer, if it came in one, and the labels that were taken from it.

    Parameters
    ----------
    folder
        The run folder.
    query
        What was asked.
    answer
        What was answered.
    """
    name = f"round_{query.round:04d}"
    if answer.file_content is not None:
        keep_file(folder, name, answer.source, answer.file_content)
    _keep(folder / ACCEPTED, name, ".csv", _accepted(query, answer))


def keep_initial(folder: Path, labels: Iterable[tuple[str, str]]) -> None:
    """Keep what was known before the run asked anything: the path and label of each photo of the unlabelled folder."""
    with written_aside(folder / INITIAL) as prepared:
        prepared.write_bytes(_content(labels))


def keep_audit(folder: Path, lots: Iterable[tuple[str, float]]) -> None:
    """Keep which photos are reserved for the audit: the path of each, and its lot in the place of a label."""
    with written_aside(folder / AUDIT) as prepared:
        prepared.write_bytes(_content((path, repr(lot)) for path, lot in lots))


def keep_held_out(folder: Path, photos: Iterable[tuple[int, str]]) -> None:
    """Keep which photos are kept out of the training: the role and path of each."""
    with written_aside(folder / HELD_OUT) as prepared:
        prepared.write_bytes(_lines((f"{Role(role).argument}/{path}", "held out") for role, path in photos))


def keep_file(folder: Path, prefix: str, name: str, content: bytes) -> None:
    """Keep a label file, byte for byte, under the end of its name."""
    end = os.fsencode(Path(name).name)[-ARCHIVED_NAME:].decode(errors="ignore")
    kept_name = os.fsdecode(end.encode())  # where names of files are not in UTF-8, such as in the locale C
    _keep(folder / ARCHIVE, prefix, f"_{kept_name}", content)


def _keep(folder: Path, prefix: str, suffix: str, content: bytes) -> None:
    """Keep a file, under another name if there is one of this name, unless that holds the same.

    Only the last one is compared: what is said, changed, and said again must stand behind the change.
    """
    last = None
    for number in count(1):
        path = folder / f"{prefix}{'' if number == 1 else f' ({number})'}{suffix}"
        if not path.exists():
            break
        last = path
    if last is None or last.read_bytes() != content:
        with written_aside(path) as prepared:
            prepared.write_bytes(content)


def _accepted(query: Query, answer: Answer) -> bytes:
    classes = (*query.classes, *answer.new_classes)
    paths = {label.row: path for path, label in query.known.items()}
    paths |= dict(zip(query.rows.tolist(), query.paths, strict=True))
    said = {row: classes[class_id] for row, class_id in {**answer.labels, **answer.corrections}.items()}
    said |= dict.fromkeys(answer.skipped, SKIP) | dict.fromkeys(answer.unusable, UNUSABLE)
    return _content((paths[row], name) for row, name in said.items())


def _content(labels: Iterable[tuple[str, str]]) -> bytes:
    return _lines((f"{Role.UNLABELLED.argument}/{path}", plain_cell(name)) for path, name in labels)


def _lines(lines: Iterable[tuple[str, str]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(LABEL_COLUMNS)
    writer.writerows(lines)
    return text.getvalue().encode()


def read_labels(file: Path) -> Iterator[tuple[Role, str, str]]:
    """Give the data set, path below its folder, and label of each photo in a file that a run wrote.

    Raises
    ------
    CheckpointError
        If it is not such a file, or breaks off, or a path in it leaves its folder.
    """
    roles = {role.argument: role for role in Role}
    try:
        text = file.read_bytes().decode("utf-8-sig")  # Excel puts a signature before what it saves
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = tuple(next(reader, ()))
        if header != LABEL_COLUMNS:
            raise ValueError(f"its first line is {','.join(header)[:60]!r}")
        if not text.endswith(("\n", "\r")):
            raise ValueError("it breaks off in its last line")
        for cells in reader:
            data_set, _, below = cells[0].partition("/") if cells else ("", "", "")
            if len(cells) != len(LABEL_COLUMNS) or data_set not in roles or leaves_its_folder(below):
                raise ValueError(f"line {reader.line_num} is no photo and its label: {','.join(cells)[:200]!r}")
            yield roles[data_set], below, from_plain_cell(cells[1])
    except (OSError, ValueError, csv.Error) as error:
        raise CheckpointError(
            f"{file}: the labels in it cannot be read ({error}). Put back a copy of the file as the run wrote it: "
            f"columns {' and '.join(LABEL_COLUMNS)}, UTF-8, separated by commas. If there is none, move the file out "
            "of the run folder, and the run does without what it alone says.",
            file,
        ) from error
