"""The expert's side: a request goes out, labels come back."""

from camera_trap_al.labelling.retriever import LabelRetriever
from camera_trap_al.labelling.sources import KnownLabels

__all__ = ["KnownLabels", "LabelRetriever"]
