"""An exported model applied to photos; only the torch engine needs torch."""

from camera_trap_al.inference.prediction import predict

__all__ = ["predict"]
