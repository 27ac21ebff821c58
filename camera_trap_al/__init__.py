"""Train an image classifier for camera-trap photos by active learning."""

__version__ = "0.1.0"
