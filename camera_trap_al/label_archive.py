"""What a run keeps of every answer beside its database: the file as it came, and what was taken from it."""

import csv
import io
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from camera_trap_al.exceptions import CheckpointError
from camera_trap_al.files import from_plain_cell, plain_cell, written_aside
from camera_trap_al.pools import Role
from camera_trap_al.query import SKIP, UNUSABLE, Answer, Query
from camera_trap_al.run_folder import ARCHIVE, ARCHIVED_NAME

__all__ = ["ACCEPTED", "LABEL_COLUMNS", "keep_answer", "keep_file", "read_labels"]

ACCEPTED = f"{ARCHIVE}/accepted"
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


def keep_file(folder: Path, prefix: str, name: str, content: bytes) -> None:
    """Keep a label file, byte for byte, under the end of its name."""
    end = os.fsencode(Path(name).name)[-ARCHIVED_NAME:].decode(errors="ignore")
    kept_name = os.fsdecode(end.encode())  # where names of files are not in UTF-8, such as in the locale C
    _keep(folder / ARCHIVE, prefix, f"_{kept_name}", content)


def _keep(folder: Path, prefix: str, suffix: str, content: bytes) -> None:
    """Keep a file, under another name if there is one of this name with other content."""
    for number in count(1):
        path = folder / f"{prefix}{'' if number == 1 else f' ({number})'}{suffix}"
        if not path.exists():
            with written_aside(path) as prepared:
                prepared.write_bytes(content)
            return
        if path.read_bytes() == content:
            return


def _accepted(query: Query, answer: Answer) -> bytes:
    classes = (*query.classes, *answer.new_classes)
    paths = {label.row: path for path, label in query.known.items()}
    paths |= dict(zip(query.rows.tolist(), query.paths, strict=True))
    said = {row: classes[class_id] for row, class_id in {**answer.labels, **answer.corrections}.items()}
    said |= dict.fromkeys(answer.skipped, SKIP) | dict.fromkeys(answer.unusable, UNUSABLE)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(LABEL_COLUMNS)
    writer.writerows((f"{Role.UNLABELLED.argument}/{paths[row]}", plain_cell(name)) for row, name in said.items())
    return text.getvalue().encode()


def read_labels(file: Path) -> Iterator[tuple[Role, str, str]]:
    """Give the data set, path below its folder, and label of each photo in a file that a run wrote.

    Raises
    ------
    CheckpointError
        If it is not such a file.
    """
    roles = {role.argument: role for role in Role}
    try:
        with file.open(newline="", encoding="utf-8") as opened:
            reader = csv.reader(opened, strict=True)
            if tuple(next(reader, ())) != LABEL_COLUMNS:
                raise KeyError("its columns")
            for path, label in reader:
                data_set, _, below = path.partition("/")
                yield roles[data_set], below, from_plain_cell(label)
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise CheckpointError(
            f"{file}: the labels in it cannot be read ({error}). Put back a copy of the file as the run wrote it: "
            f"columns {' and '.join(LABEL_COLUMNS)}, UTF-8, separated by commas.",
            file,
        ) from error
