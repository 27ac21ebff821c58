"""Shorter import paths that the 2023 package documented."""
