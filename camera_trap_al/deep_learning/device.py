"""Which device the networks run on, and what to do when a GPU is there and is not used."""

import logging
import os
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from camera_trap_al.exceptions import ConfigError, reason_of

__all__ = ["choose_device", "describe_device", "gpu_advice", "repeatable", "seeded"]

logger = logging.getLogger(__name__)

NVIDIA_DRIVER_GPUS = Path("/proc/driver/nvidia/gpus")
PIP_COMMAND = "pip install --force-reinstall torch torchvision --index-url https://download.pytorch.org/whl/"
COMMON_CUDA = "cu128"  # has kernels for the GPUs of 2018 (Turing) to 2025 (Blackwell)
OLDER_CUDA = "cu126"  # runs on drivers back to 2022


def choose_device(name: str | None) -> torch.device:
    """Choose where networks run.

    Parameters
    ----------
    name
        A device as torch names it, such as ``"cpu"``, ``"cuda"`` or ``"cuda:1"``. None takes CUDA if it works, else the
        CPU; when a GPU stays idle by that, a WARNING says how to change it.

    Raises
    ------
    ConfigError
        If the named device does not exist or does not work here.
    """
    if name is not None:
        return _named_device(name)
    if torch.cuda.is_available():
        device = torch.device("cuda")
        fault = _fault_of(device)
        if fault is None:
            return device
        logger.warning("The GPU does not work with the installed torch (%s); running on the CPU.", fault)
    advice = gpu_advice()
    if advice is not None:
        logger.warning(advice)
    return torch.device("cpu")


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Have a CUDA GPU add up numbers in the same order each time, within the block; the CPU does so anyway."""
    if device.type != "cuda":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read by torch at each matrix product
    was = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*deterministic")  # what has no such way is used as it is
            yield
    finally:
        torch.use_deterministic_algorithms(was[0], warn_only=was[1])


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed torch's global generator of the CPU, and that of `device`, and put them back afterwards."""
    devices = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        # torch.manual_seed would seed every GPU, and nothing would put back those that are not in use.
        torch.default_generator.manual_seed(seed)
        for cuda_device in devices:
            with torch.cuda.device(cuda_device):
                torch.cuda.manual_seed(seed)
        yield


def gpu_advice() -> str | None:
    """Say how to make torch use the NVIDIA GPU of this computer.

    Returns
    -------
    The advice, or None when there is no GPU, when torch uses it already, or when somebody hid it by setting the
    environment variable CUDA_VISIBLE_DEVICES to nothing or -1.
    """
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1")
    if hidden or torch.cuda.is_available() or not _has_nvidia_gpu():
        return None
    if torch.version.cuda is None:
        return (
            f"This computer has an NVIDIA GPU, but the installed torch {torch.__version__} is a build for the CPU, on "
            f"which training is many times slower. To use the GPU, run:  {PIP_COMMAND}{COMMON_CUDA}  "
            "(for other GPUs, https://pytorch.org/get-started/locally/ gives the command)."
        )
    return (
        f"This computer has an NVIDIA GPU, but the installed torch {torch.__version__}, built for CUDA "
        f"{torch.version.cuda}, cannot use it; usually the graphics driver is too old. To use the GPU, update the "
        f"driver from https://www.nvidia.com/drivers, or install a build for an older CUDA:  "
        f"{PIP_COMMAND}{OLDER_CUDA}"
    )


def describe_device(device: torch.device) -> str:
    """Describe a device for people, such as "CPU, 8 threads" or "NVIDIA H200"."""
    if device.type == "cpu":
        n_threads = torch.get_num_threads()
        return f"CPU, {n_threads} {'thread' if n_threads == 1 else 'threads'}"
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device} device"


def _named_device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(
            f"device must be 'cpu', 'cuda', 'cuda:<number>', another device name of torch, or None; got {name!r}."
        ) from error
    fault = _fault_of(device)
    if fault is not None:
        advice = (gpu_advice() if device.type == "cuda" else None) or "Set device=None to use what there is."
        raise ConfigError(f"device={name!r} cannot be used here ({fault}). {advice}")
    return device


def _fault_of(device: torch.device) -> str | None:
    # A GPU may be listed and still have no kernels in this torch, so the only proof is a sum.
    try:
        torch.ones(2, device=device).sum().item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        return reason_of(error)
    return None


def _has_nvidia_gpu() -> bool:
    if NVIDIA_DRIVER_GPUS.is_dir() and any(NVIDIA_DRIVER_GPUS.iterdir()):
        return True
    program = shutil.which("nvidia-smi")
    if program is None:
        return False
    try:
        listing = subprocess.run([program, "-L"], capture_output=True, text=True, errors="replace", timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        logger.info("%s does not answer (%s): taken as no GPU.", program, error)
        return False
    return listing.returncode == 0 and "GPU " in listing.stdout
