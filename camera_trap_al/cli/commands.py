"""The command line: it parses and calls, nothing else."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from camera_trap_al import __version__
from camera_trap_al.exceptions import CameraTrapALError

__all__ = ["main"]

# Each is a module beside this one, which adds its options and runs it.
COMMANDS: dict[str, dict[str, Any]] = {
    "demo": {
        "help": "run everything once on a small image set, without network or questions",
        "description": "Make a small image set, learn it by active learning with known answers, show the learning "
        "curve.",
    },
    "run": {
        "help": "train a classifier on your own photos, asking for labels",
        "usage": "%(prog)s [--settings FILE] --unlabelled-data PATH --train-data PATH [--validation-data PATH] "
        "[options]",
        "description": "Train an image classifier, asking a person to label the photos that are worth it. A run that "
        "was stopped goes on when the same command is given again.",
    },
    "predict": {
        "help": "name the species in photos with a model that a run exported",
        "description": "Name the species in photos with a model that a run exported. A call that was stopped goes on "
        "when the same command is given again.",
    },
    "simulate": {
        "help": "compare query strategies on photos whose labels are all known",
        "description": "Compare query strategies on photos whose labels are all known, and say how many labels each "
        "needs for what drawing at random reaches in the end.",
    },
    "template": {
        "help": "make the Timelapse template for labelling, or add classes to it",
        "description": "Make a Timelapse template with a choice list of the classes and a flag Selected.",
    },
    "doctor": {
        "help": "say whether this computer has what a run needs",
        "description": "Print versions, device, memory, free disk space, whether a run can write there, whether the "
        "weights of the network are in place, and what to do where something is missing. The exit status is 1 if no "
        "run can go on like this.",
    },
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``camera-trap-al``.

    Parameters
    ----------
    arguments
        The words behind the program's name; those of the command line if None.

    Returns
    -------
    Exit status: 0 done, 1 an error that the message explains, 2 nothing was typed, 130 interrupted. (argparse exits
    with 2 on wrong usage, ``run --label-source exit`` with 3 while labels are needed.)
    """
    words = sys.argv[1:] if arguments is None else arguments
    if not words:
        _parser().print_help(sys.stderr)
        return 2
    try:
        chosen = _parser(words).parse_args(words)
        chosen.call(chosen)
    except (CameraTrapALError, OSError) as error:  # OSError: a full disk, a folder that may not be written
        sys.stderr.write(f"camera-trap-al: {error}\n")
        return 1
    except KeyboardInterrupt as error:
        if not getattr(error, "__notes__", None):  # a run has told it
            sys.stderr.write("\ncamera-trap-al: interrupted. The same command goes on where it stopped.\n")
        return 130
    return 0


def _parser(words: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Make the parser for what was typed: only the command at its begin is imported, and most import torch."""
    parser = argparse.ArgumentParser(
        prog="camera-trap-al", description="Train an image classifier for camera-trap photos by active learning."
    )
    parser.add_argument("--version", action="version", version=f"camera_trap_al {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, told in COMMANDS.items():
        # No abbreviations: a setting of a later version must not make an old command ambiguous.
        command = commands.add_parser(name, allow_abbrev=False, **told)
        if name in words[:1]:
            module = import_module(f"camera_trap_al.cli.{name}")
            module.add_options(command, words[1:])
            command.set_defaults(call=module.run)
    return parser
