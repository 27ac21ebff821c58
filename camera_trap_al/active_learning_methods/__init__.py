"""Query strategies: which unlabelled images to ask the expert about next (numpy and scikit-learn only)."""

from camera_trap_al.active_learning_methods.base import (
    PoolView,
    ProbabilisticClassifier,
    QueryStrategy,
    ScoreSampling,
)
from camera_trap_al.active_learning_methods.diversity import UniformSampling
from camera_trap_al.active_learning_methods.uncertainty import ConfidenceSampling, EntropySampling, MarginSampling

__all__ = [
    "STRATEGIES",
    "ConfidenceSampling",
    "EntropySampling",
    "MarginSampling",
    "PoolView",
    "ProbabilisticClassifier",
    "QueryStrategy",
    "ScoreSampling",
    "UniformSampling",
]

STRATEGIES: dict[str, type[QueryStrategy]] = {
    "uniform": UniformSampling,
    "margin": MarginSampling,
    "entropy": EntropySampling,
    "confidence": ConfidenceSampling,
}
