"""The command line: it parses and calls, nothing else."""

from camera_trap_al.cli.commands import main

__all__ = ["main"]
