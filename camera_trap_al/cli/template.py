"""The command ``camera-trap-al template``."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from camera_trap_al.interchange.timelapse_template import write_template
from camera_trap_al.labelling.dialogue import say
from camera_trap_al.photos.folders import scan_folder

__all__ = ["add_options", "run"]


def add_options(parser: argparse.ArgumentParser, words: Sequence[str] = ()) -> None:
    """Add the folder, and what its template is to hold."""
    parser.add_argument("folder", metavar="UNLABELLED_FOLDER", type=Path, help="the folder of unlabelled photos")
    classes = parser.add_mutually_exclusive_group(required=True)
    classes.add_argument(
        "--train-data", metavar="FOLDER", type=Path, help="the training folder, whose folders are the classes"
    )
    classes.add_argument("--classes", metavar="NAME", nargs="+", help="the classes, in the order of the list")
    parser.add_argument(
        "--add", action="store_true", help="add missing classes to a template that is there (default: leave it alone)"
    )
    parser.add_argument(
        "--column", metavar="NAME", default="Species", help="name of the choice list (default: %(default)s)"
    )


def run(chosen: argparse.Namespace) -> None:
    """Write the template, and say what became of it."""
    classes = chosen.classes or scan_folder(chosen.train_data).folders
    say(str(write_template(chosen.folder.absolute(), classes, add_classes=chosen.add, label_column=chosen.column)))
