"""Train an image classifier for camera-trap photos by active learning.

>>> from camera_trap_al import run_active_learning
>>> run_active_learning("train", "unlabelled")  # doctest: +SKIP

Importing the package imports no torch: public names are looked up when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from camera_trap_al.inference import predict
    from camera_trap_al.main_scripts import run_active_learning
    from camera_trap_al.run_result import RunResult
    from camera_trap_al.simulation import SimulationResult, simulate

__all__ = ["RunResult", "SimulationResult", "__version__", "predict", "run_active_learning", "simulate"]

__version__ = "0.1.0"

_HOMES = {
    "RunResult": "run_result",
    "SimulationResult": "simulation",
    "predict": "inference",
    "run_active_learning": "main_scripts",
    "simulate": "simulation",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
