"""The loop of a run with known labels, to compare strategies."""

from camera_trap_al.simulation.comparison import simulate
from camera_trap_al.simulation.result import SimulationResult

__all__ = ["SimulationResult", "simulate"]
