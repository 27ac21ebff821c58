"""One program at a time works on a run: who that is stands in a small file, so that nothing need be kept open."""

import getpass
import json
import os
import platform
import uuid
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from camera_trap_al.exceptions import CheckpointError
from camera_trap_al.files import written_aside

__all__ = ["WRITER_FILE", "check_free", "leave", "take"]

WRITER_FILE = Path("data", "writer.json")
CLOCKS_DIFFER_BY = 5.0  # seconds: when a process began is computed from the time of the last boot


def take(folder: Path) -> None:
    """Enter this process as the one that works on the run in `folder`.

    To be called within a transaction on the run's database, so that of two programs that start together one waits.

    Raises
    ------
    CheckpointError
        If another process does already.
    RunFileError
        If the file cannot be written.
    """
    check_free(folder)
    with written_aside(folder / WRITER_FILE) as prepared:
        prepared.write_text(json.dumps(_this_process(folder)), encoding="utf-8")


def leave(folder: Path) -> None:
    """Let others work on the run in `folder`, if it is this process that does."""
    with suppress(OSError):  # what cannot be removed counts for nothing once this process has ended
        if _is_this_process(_entered(folder)):
            (folder / WRITER_FILE).unlink()


def check_free(folder: Path) -> None:
    """Refuse a run that another process works on.

    Raises
    ------
    CheckpointError
        With the name of that process, and what to do.
    """
    writer = _entered(folder)
    if not writer or _is_this_process(writer):
        return
    if not _is_on_this_computer(writer):
        advice = (
            f"If no program on {writer['computer']} works on it any more, as after a power cut, delete the file "
            f"{folder / WRITER_FILE} and start again."
        )
    elif _still_works(writer, folder):
        advice = "End it first: type q where it asks for labels, or press Ctrl-C there."
    else:
        return
    raise CheckpointError(
        f"{folder}: another program works on this run, and only one may: process {writer['process']} of "
        f"{writer['user']} on the computer {writer['computer']}, since {writer['since']}. {advice} Or choose another "
        "output_dir.",
        folder / WRITER_FILE,
    )


def _entered(folder: Path) -> Mapping[str, Any]:
    """Say who stands in the file; nobody if it is not there or was not written by `take`."""
    try:
        writer = json.loads((folder / WRITER_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    as_taken = _this_process(folder).items()
    is_complete = isinstance(writer, dict) and all(type(writer.get(name)) is type(value) for name, value in as_taken)
    return writer if is_complete else {}


def _this_process(folder: Path) -> dict[str, Any]:
    return {
        "computer": platform.node(),
        "address": uuid.getnode(),
        "user": _user(),
        "process": os.getpid(),
        "began": psutil.Process().create_time(),
        "folder": str(folder),
        "since": f"{datetime.now():%Y-%m-%d %H:%M}",
    }


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a process without an account, as in some containers
        return "an unknown user"


def _is_on_this_computer(writer: Mapping[str, Any]) -> bool:
    """Whether the name fits, or the address of its network card: a laptop may be named by the network that it is in."""
    return bool(writer["computer"] == platform.node() or writer["address"] == uuid.getnode())


def _is_this_process(writer: Mapping[str, Any]) -> bool:
    return bool(writer) and _is_on_this_computer(writer) and writer["process"] == os.getpid()


def _still_works(writer: Mapping[str, Any], folder: Path) -> bool:
    """Whether that process of this computer is alive, and works on this folder, of which there may be copies."""
    try:
        process = psutil.Process(writer["process"])
        is_the_same = abs(process.create_time() - writer["began"]) < CLOCKS_DIFFER_BY
        if process.status() == psutil.STATUS_ZOMBIE or not is_the_same:
            return False
    except (psutil.Error, ValueError):
        return False
    try:
        return folder.samefile(writer["folder"])
    except (OSError, ValueError):  # its folder has been renamed: it cannot write there any more
        return False
