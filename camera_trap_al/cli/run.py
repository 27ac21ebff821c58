"""The command ``camera-trap-al run``: an option for each setting of `run_active_learning`."""

import argparse
import logging
from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from types import MappingProxyType
from typing import Any

from camera_trap_al.cli.options import FunctionOptions
from camera_trap_al.cli.settings_file import read_settings_file
from camera_trap_al.dry_run import show_costs
from camera_trap_al.labelling.dialogue import say
from camera_trap_al.main_scripts import run_active_learning
from camera_trap_al.report import learning_curve
from camera_trap_al.run_report import REPORT_FILE

__all__ = ["add_options", "run"]

SETTINGS = signature(run_active_learning).parameters

FILE: Mapping[str, Any] = {
    "metavar": "FILE",
    "type": Path,
    "help": "a TOML file with settings, each a line such as active_batch = 50; those that are typed count more",
}

# A setting belongs to the first group whose pattern is in its name.
GROUPS = {
    "photos and results": "_data$|output_dir|use_checkpoints|validate|predict_pool|refit|rebuild|audit|target_accuracy",
    "bursts, sites and boxes": "sequence|site|detection|group_by|propagate|photo_times",
    "questions and labels": "label|^(new_)?classes$|^class_aliases$|request_rows|active_|candidate_pool",
    "the network": "embedding|pretrained|balanced|feat_dim|batchnorm|finetuning",
    "everything else": "",
}


def add_options(parser: argparse.ArgumentParser, words: Sequence[str] = ()) -> None:
    """Add an option for each setting that can be typed: all but `stop_when`, which is a function.

    Parameters
    ----------
    parser
        That of the command.
    words
        What was typed: a file of settings that it names is read, since an option has as its default what that says.

    Raises
    ------
    ConfigError
        If the file cannot be used.
    """
    of_a_file = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    of_a_file.add_argument("--settings", **FILE)
    file = of_a_file.parse_known_args(words)[0].settings
    parser.add_argument("--dry-run", action="store_true", help="show what the run would do and cost, and stop")
    parser.add_argument("--settings", **FILE)
    _options({} if file is None else read_settings_file(file, SETTINGS)).add_to(parser)


def run(chosen: argparse.Namespace) -> None:
    """Call `run_active_learning` with what was typed, and say how it ended.

    Parameters
    ----------
    chosen
        What the options that `add_options` made were given.

    Raises
    ------
    CameraTrapALError
        What the run raised, with settings named as they are typed here.
    """
    options = _options()
    given = options.given(chosen)
    with options.errors_named_as_typed():
        if chosen.dry_run:
            say("Counting the photos and trying out how fast this computer is; nothing is kept ...")
            show_costs(**given)
            return
        logging.getLogger("camera_trap_al").setLevel(logging.INFO)
        result = run_active_learning(**given)
    if result.validation_history:
        say(f"\n{learning_curve(result.validation_history)}\n")
    say(f"How it went: {result.export_dir.parent / REPORT_FILE} (open it in a browser)")
    say(f"Labels given: {result.labels_given}. The trained model: {result.export_dir}")


def _options(of_a_file: Mapping[str, Any] = MappingProxyType({})) -> FunctionOptions:
    return FunctionOptions(SETTINGS, run_active_learning.__doc__, GROUPS, of_a_file)
