"""Query strategies: which unlabelled images to ask the expert about next (numpy and scikit-learn only)."""

from camera_trap_al.active_learning_methods.base import (
    PoolView,
    ProbabilisticClassifier,
    QueryStrategy,
    ScoreSampling,
)
from camera_trap_al.active_learning_methods.clusters import InformativeDiverseSampling, MarginClusterMeanSampling
from camera_trap_al.active_learning_methods.coverage import (
    AutoSampling,
    KCenterSampling,
    MaxHerdingSampling,
    TailHerdingSampling,
    UncertaintyHerdingSampling,
)
from camera_trap_al.active_learning_methods.density import GraphDensitySampling, TypiClustSampling
from camera_trap_al.active_learning_methods.diversity import BadgeSampling, UniformSampling
from camera_trap_al.active_learning_methods.hierarchical import HierarchicalSampling
from camera_trap_al.active_learning_methods.uncertainty import (
    ConfidenceSampling,
    EntropySampling,
    MarginSampling,
    TailFirstSampling,
)

__all__ = [
    "STRATEGIES",
    "AutoSampling",
    "BadgeSampling",
    "ConfidenceSampling",
    "EntropySampling",
    "GraphDensitySampling",
    "HierarchicalSampling",
    "InformativeDiverseSampling",
    "KCenterSampling",
    "MarginClusterMeanSampling",
    "MarginSampling",
    "MaxHerdingSampling",
    "PoolView",
    "ProbabilisticClassifier",
    "QueryStrategy",
    "ScoreSampling",
    "TailFirstSampling",
    "TailHerdingSampling",
    "TypiClustSampling",
    "UncertaintyHerdingSampling",
    "UniformSampling",
]

STRATEGIES: dict[str, type[QueryStrategy]] = {
    "uniform": UniformSampling,
    "margin": MarginSampling,
    "entropy": EntropySampling,
    "confidence": ConfidenceSampling,
    "tail_first": TailFirstSampling,
    "badge": BadgeSampling,
    "informative_diverse": InformativeDiverseSampling,
    "margin_cluster_mean": MarginClusterMeanSampling,
    "hierarchical": HierarchicalSampling,
    "kcenter": KCenterSampling,
    "graph_density": GraphDensitySampling,
    "max_herding": MaxHerdingSampling,
    "uncertainty_herding": UncertaintyHerdingSampling,
    "typiclust": TypiClustSampling,
    "tail_herding": TailHerdingSampling,
    "auto": AutoSampling,
}
