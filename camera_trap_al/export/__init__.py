"""The trained model as files that other programs can use."""

from camera_trap_al.export.model_files import export_model

__all__ = ["export_model"]
