"""The command ``camera-trap-al doctor``."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from camera_trap_al.doctor import examine
from camera_trap_al.exceptions import CameraTrapALError
from camera_trap_al.labelling.dialogue import say

__all__ = ["add_options", "run"]


def add_options(parser: argparse.ArgumentParser, words: Sequence[str] = ()) -> None:
    """Add what is looked at."""
    parser.add_argument(
        "--folder", type=Path, default=Path(), help="where run folders are to be (default: the working directory)"
    )
    parser.add_argument(
        "--embedding-arch",
        metavar="WORD",
        default="resnet18",
        help="the network whose weights are looked for (default: %(default)s)",
    )


def run(chosen: argparse.Namespace) -> None:
    """Say what was found, one line for each thing, and below it what to do about it.

    Raises
    ------
    CameraTrapALError
        If no run can go on like this.
    """
    n_faults = 0
    for finding in examine(chosen.folder.absolute(), chosen.embedding_arch):
        say(f"  {finding.title:<10} {finding.text}")
        if finding.advice:
            say(f"  {'FAULT' if finding.is_fault else 'to do':>10} {finding.advice}")
        n_faults += finding.is_fault
    if n_faults:
        lines = "line" if n_faults == 1 else f"{n_faults} lines"
        raise CameraTrapALError(f"no run can go on like this: see the {lines} with FAULT.")
    say("A run can begin.")
