"""The expert's side: a request goes out, labels come back."""

from camera_trap_al.labelling.retriever import LabelRetriever
from camera_trap_al.labelling.sources import FunctionLabels, KnownLabels, Reading
from camera_trap_al.labelling.waiting import LabelsNeeded

__all__ = ["FunctionLabels", "KnownLabels", "LabelRetriever", "LabelsNeeded", "Reading"]
