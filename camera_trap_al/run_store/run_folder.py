"""The folder of a run: what a run leaves in it, whether it can be written to, and how an old one makes way."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from camera_trap_al.exceptions import CheckpointError, RunFileError
from camera_trap_al.files import as_run_file_error, explained
from camera_trap_al.photos.folders import RUN_DATABASE

__all__ = [
    "ARCHIVE",
    "ARCHIVED_NAME",
    "check_database",
    "faults_told",
    "has_results",
    "make",
    "move_aside",
    "results_folder",
]

logger = logging.getLogger(__name__)

ARCHIVE = "data/label_archive"
FOLDERS = (ARCHIVE, "embedding", "classifier", "export", "new_labels_bin", "test_results")
ARCHIVED_NAME = 60  # bytes kept of a label file's name: Windows takes paths of 259 characters only
LONGEST = len(f"{ARCHIVE}/round_1000000 (10)_{'x' * ARCHIVED_NAME}.new.csv")  # path that a run comes to write
# What runs of this package and of the 2023 one leave, and a new run would write over.
RESULTS = (
    *("data/labels.csv", f"{ARCHIVE}/**/*", "embedding/embedding*", "classifier/classifier*"),
    *("export/classifier.onnx", "export/dataset_mean.npy", "export/embedding_model_weights.pt", "export/model.*"),
)


def has_results(folder: Path) -> bool:
    """Say whether there is anything of a run in the folder."""
    return (folder / RUN_DATABASE).exists() or _has_files_of_a_run(folder)


def _has_files_of_a_run(folder: Path) -> bool:
    return any(path.is_file() for pattern in RESULTS for path in folder.glob(pattern))


def results_folder(folder: Path, n_labelled: int) -> Path:
    """Name the folder of the figures of the model that learnt from so many photos."""
    return folder / "test_results" / f"train_set_size_{n_labelled}"


def check_database(folder: Path) -> None:
    """Refuse a folder with results of a run and without the database that would tell what they are.

    Raises
    ------
    CheckpointError
        Saying what to do.
    """
    database = folder / RUN_DATABASE
    is_gone = not database.exists() or database.stat().st_size == 0
    if is_gone and _has_files_of_a_run(folder):
        raise CheckpointError(
            f"{folder}: this folder holds results of a run, but its database data/run.sqlite is empty or gone, or the "
            "run is one of the 2023 package, which cannot be continued. Put back a copy of the database; have it made "
            "anew from data/labels.csv and data/label_archive with rebuild=True; choose another output_dir; or set "
            "use_checkpoints=False, which moves the old run aside.",
            database,
        )


def make(folder: Path) -> None:
    """Make the folders of a run, and try out whether it can write what it will come to write.

    Raises
    ------
    CheckpointError
        If a folder cannot be made since that is not allowed there, or a file is in its place.
    RunFileError
        If folders or files cannot be written for another reason.
    """
    # One name each time, so that a kill leaves one file at most; programs that start together may share it.
    probe = folder / "test_results" / f"{'x' * (LONGEST - len('test_results/.txt'))}.txt"  # no sign of a run
    try:
        with explained(probe):
            for name in FOLDERS:
                _make_one(folder / name, folder)
            _try_out(probe)
    except RunFileError as error:
        if error.is_too_long:
            raise
        raise as_run_file_error(folder, error) from error  # nobody knows the file


def _try_out(probe: Path) -> None:
    try:
        with probe.open("wb") as file:
            file.write(b"camera_trap_al")
            file.flush()
            os.fsync(file.fileno())
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def _make_one(wanted: Path, folder: Path) -> None:
    try:
        wanted.mkdir(parents=True, exist_ok=True)
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        raise CheckpointError(
            f"{folder}: the run folder cannot be made ({error.strerror}: {error.filename}). Choose an output_dir that "
            "you may write to.",
            folder,
        ) from error


@contextmanager
def faults_told(folder: Path) -> Iterator[None]:
    """Turn what a disk says about a file in `folder` within the block into an error that tells people what to do.

    Raises
    ------
    RunFileError
        For an `OSError` about a file there that is not one already.
    """
    try:
        yield
    except RunFileError:
        raise
    except OSError as error:
        path = Path(str(error.filename or ""))
        if not path.is_relative_to(folder):
            raise
        raise as_run_file_error(path, error) from error


def move_aside(folder: Path) -> None:
    """Give the folder of an old run another name.

    Raises
    ------
    CheckpointError
        If it cannot be renamed, most often because a program has a file of it open.
    """
    old = folder.with_name(f"{folder.name} (until {datetime.now():%Y-%m-%d %H.%M.%S})")
    try:
        folder.rename(old)
    except OSError as error:
        raise CheckpointError(
            f"{folder}: the old run cannot be moved aside ({error.strerror}). Close the programs that use a file in "
            "it, or choose another output_dir.",
            folder,
        ) from error
    logger.warning("use_checkpoints=False: the run that was there has been moved to %s", old)
