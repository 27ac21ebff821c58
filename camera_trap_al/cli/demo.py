"""The command ``camera-trap-al demo``."""

import argparse
from collections.abc import Sequence
from pathlib import Path

__all__ = ["add_options", "run"]


def add_options(parser: argparse.ArgumentParser, words: Sequence[str] = ()) -> None:
    """Add where the demo goes, and its seed."""
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("camera-trap-al-demo"),
        help="where photos and the finished run go (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of the run (default: %(default)s)")


def run(chosen: argparse.Namespace) -> None:
    """Call `run_demo`."""
    from camera_trap_al.demo import run_demo  # torch is imported only when it is needed

    run_demo(chosen.folder.absolute(), seed=chosen.seed)
