"""The import path of `LabelRetriever` that the 2023 package documented."""

from camera_trap_al.labelling.retriever import LabelRetriever

__all__ = ["LabelRetriever"]
