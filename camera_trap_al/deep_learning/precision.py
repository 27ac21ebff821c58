"""In how many bits a network computes, and whether fewer are good enough."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import numpy as np
import torch

from camera_trap_al.pools import FloatArray

__all__ = [
    "SAMPLE",
    "Precision",
    "autocast",
    "choose_precision",
    "full_precision",
    "is_always_exact",
    "worst_cosine",
]

logger = logging.getLogger(__name__)

Precision = Literal["fp32", "bf16"]

LOWEST_COSINE = 0.999  # between the embeddings of one photo in both precisions
SAMPLE = 64  # photos that are compared


def choose_precision(setting: str, device: torch.device, measure: Callable[[], float]) -> Precision:
    """Decide in which precision a network is trained and embeds candidates.

    Parameters
    ----------
    setting
        ``"fp32"`` and ``"bf16"`` are what they say; bf16 gives a WARNING with the measured cosine where that is low,
        and on a CPU always. ``"auto"`` is fp32, except on a GPU that has bf16 and makes nearly the same embeddings.
    device
        Where the network computes.
    measure
        Gives the lowest cosine, over a sample of photos, between an embedding in fp32 and in bf16; called if needed.
    """
    if is_always_exact(setting, device):
        return "fp32"
    cosine = measure()
    if setting == "auto":
        chosen: Precision = "bf16" if cosine >= LOWEST_COSINE else "fp32"
        logger.info("Precision: %s (of some photos, the worst has a cosine of %.4f to fp32 in bf16)", chosen, cosine)
        return chosen
    if device.type == "cpu" or cosine < LOWEST_COSINE:
        logger.warning(
            "precision='bf16' changes the embeddings that photos are chosen by: of some photos that were tried, the "
            "worst has a cosine of %.4f between bf16 and fp32 (1 is no change). Validation, export and "
            "the predictions at the end stay in fp32.",
            cosine,
        )
    return "bf16"


def is_always_exact(setting: str, device: torch.device) -> bool:
    """Say whether a setting means fp32 on a device whatever the network is."""
    has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return setting == "fp32" or (setting == "auto" and not has_bf16)


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Compute in bf16 within the context what is good enough in it, such as convolutions; in fp32, change nothing."""
    return nullcontext() if precision == "fp32" else torch.autocast(device.type, torch.bfloat16)


def worst_cosine(some: FloatArray, others: FloatArray) -> float:
    """Return the lowest cosine between the rows of two (n, n_features) arrays; 1 if there are none."""
    lengths = np.linalg.norm(some, axis=1) * np.linalg.norm(others, axis=1)
    cosines = (some * others).sum(axis=1)[lengths > 0] / lengths[lengths > 0]
    return float(cosines.min(initial=1.0))


def full_precision() -> AbstractContextManager[None]:
    """Keep CUDA's convolutions from rounding to TF32, their default, which is good to three digits only."""
    manager: AbstractContextManager[None] = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    return manager
