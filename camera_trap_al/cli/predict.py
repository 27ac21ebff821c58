"""The command ``camera-trap-al predict``: an option for each setting of `predict`."""

import argparse
import logging
from collections.abc import Sequence
from inspect import Parameter, signature
from pathlib import Path

from camera_trap_al.cli.options import FunctionOptions
from camera_trap_al.inference import predict
from camera_trap_al.inference.settings import output_folder
from camera_trap_al.labelling.dialogue import say, say_table

__all__ = ["add_options", "run"]

SETTINGS = {
    name: setting for name, setting in signature(predict).parameters.items() if setting.kind is Parameter.KEYWORD_ONLY
}
DEFAULT_FOLDER = "Predictions"
GROUPS = {
    "photos and results": "output_dir|shard",
    "detections": "detection|padding",
    "sequences": "sequence|site",
    "everything else": "",
}


def add_options(parser: argparse.ArgumentParser, words: Sequence[str] = ()) -> None:
    """Add the folder of the export, the photos, and an option for each other setting."""
    options = _options()
    parser.add_argument("export_dir", metavar="EXPORT_FOLDER", help=options.described("export_dir"))
    parser.add_argument("images", metavar="PHOTOS", nargs="+", help=options.described("images"))
    options.add_to(parser)


def run(chosen: argparse.Namespace) -> None:
    """Call `predict` with what was typed, and say how many photos of each species there are.

    Parameters
    ----------
    chosen
        What the options that `add_options` made were given.

    Raises
    ------
    CameraTrapALError
        What `predict` raised, with settings named as they are typed here.
    """
    logging.getLogger("camera_trap_al").setLevel(logging.INFO)
    options = _options()
    is_folder = len(chosen.images) == 1 and not Path(chosen.images[0]).is_file()
    images = chosen.images[0] if is_folder else chosen.images
    with options.errors_named_as_typed():
        frame = predict(chosen.export_dir, images, **options.given(chosen))
    counts = frame.loc[frame["Species"] != "", "Species"].value_counts()
    if len(counts):
        say_table(("Species", "Photos" if chosen.detections is None else "Animals"), list(counts.items()))
    folder = output_folder(chosen.output_dir, chosen.shard)
    if folder is not None:
        say(f"The results are in {folder}")


def _options() -> FunctionOptions:
    return FunctionOptions(SETTINGS, predict.__doc__, GROUPS, {"output_dir": DEFAULT_FOLDER})
