"""How a run is going, for people to look at: as text, as figures for notebooks, and as one page."""

from camera_trap_al.evaluation import plot_confusion_matrix
from camera_trap_al.report.data import PhotoCard, ReportData
from camera_trap_al.report.embedding_map import EmbeddingMap, map_embeddings
from camera_trap_al.report.page import render
from camera_trap_al.report.plots import plot_class_balance, plot_embedding_map, plot_learning_curve, plot_seconds
from camera_trap_al.report.suspects import doubts, suspects
from camera_trap_al.report.text import learning_curve

__all__ = [
    "EmbeddingMap",
    "PhotoCard",
    "ReportData",
    "doubts",
    "learning_curve",
    "map_embeddings",
    "plot_class_balance",
    "plot_confusion_matrix",
    "plot_embedding_map",
    "plot_learning_curve",
    "plot_seconds",
    "render",
    "suspects",
]
