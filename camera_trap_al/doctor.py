"""Whether a computer has what a run needs: versions, devices, room, rights and weights."""

import platform
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

from camera_trap_al import __version__
from camera_trap_al.deep_learning.device import choose_device, describe_device, gpu_advice
from camera_trap_al.deep_learning.networks import check_architecture, torchvision_weights_file
from camera_trap_al.exceptions import CameraTrapALError
from camera_trap_al.files import size_told, written_aside
from camera_trap_al.photos.images import IMAGE_BYTES

__all__ = ["Finding", "examine"]

LIBRARIES = ("torch", "torchvision", "numpy", "scikit-learn", "onnx", "onnxruntime", "skl2onnx", "pillow")
ENOUGH_MEMORY = 4e9  # bytes, for a run on 10,000 photos
ENOUGH_ROOM = 5e9  # bytes, for 20,000 decoded photos and the models


class Finding(NamedTuple):
    """What was found of one thing.

    Attributes
    ----------
    title
        What was looked at, in a word or two.
    text
        What was found.
    advice
        What to do about it; "" if it is well.
    is_fault
        Whether no run can go on like this.
    """

    title: str
    text: str
    advice: str = ""
    is_fault: bool = False


def examine(folder: Path, arch_name: str = "resnet18") -> Iterator[Finding]:
    """Look at this computer, one thing after the other.

    Parameters
    ----------
    folder
        Where a run folder would be made.
    arch_name
        The network whose weights are looked for.
    """
    yield Finding("Version", f"camera_trap_al {__version__}, Python {platform.python_version()}, {platform.platform()}")
    yield Finding("Libraries", ", ".join(f"{name} {version(name)}" for name in LIBRARIES))
    yield _device()
    yield _memory()
    yield _room(folder)
    yield _writing(folder)
    yield _weights(arch_name)


def _device() -> Finding:
    used = describe_device(choose_device(None))
    if used.startswith("CPU") and torch.backends.mps.is_available():
        return Finding("Device", f"{used}; the GPU of this Mac is used with device='mps' (--device mps)")
    return Finding("Device", used, gpu_advice() or "")


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    told = f"{size_told(memory.total)}, {size_told(memory.available)} of it free"
    few = memory.available < ENOUGH_MEMORY
    return Finding("Memory", told, "Close other programs: a run needs about 4 GB." if few else "")


def _room(folder: Path) -> Finding:
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding("Disk", f"{folder} cannot be looked at ({error.strerror})", "Give a folder that exists.", True)
    advice = f"20,000 photos take {size_told(20_000 * IMAGE_BYTES)} decoded. Free some room, or set image_cache='off'."
    return Finding("Disk", f"{size_told(free)} free in {folder}", advice if free < ENOUGH_ROOM else "")


def _writing(folder: Path) -> Finding:
    """Write what a run writes: a file that is put in place, and a database."""
    try:
        with tempfile.TemporaryDirectory(prefix="camera_trap_al_", dir=folder) as own:
            with written_aside(Path(own, "file")) as prepared:
                prepared.write_bytes(b"written")
            with closing(sqlite3.connect(Path(own, "run.sqlite"))) as db, db:
                db.execute("CREATE TABLE written (row INTEGER)")
    except (OSError, sqlite3.Error, CameraTrapALError) as error:
        why = getattr(error, "strerror", None) or error
        return Finding(
            "Writing", f"a run cannot write into {folder} ({why})", "Choose another folder as output_dir.", True
        )
    return Finding("Writing", "files and a database can be written there")


def _weights(arch_name: str) -> Finding:
    problem = check_architecture(arch_name, use_pretrained=True)
    if problem:
        return Finding("Weights", f"none for {arch_name}", problem, True)
    path, url = torchvision_weights_file(arch_name)
    if path.is_file():
        return Finding("Weights", f"of {arch_name} are in place: {path}")
    return Finding(
        "Weights",
        f"of {arch_name} are not there yet",
        f"The first run downloads them. Without network, download {url} elsewhere and put the file at {path}, or name "
        "it in pretrained_weights.",
    )
