"""The command line: it parses and calls, nothing else."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from camera_trap_al import __version__
from camera_trap_al.exceptions import CameraTrapALError

__all__ = ["main"]


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
    """Make the parser for what was typed: only the command at its begin needs all its options."""
    command = words[0] if words else ""
    parser = argparse.ArgumentParser(
        prog="camera-trap-al", description="Train an image classifier for camera-trap photos by active learning."
    )
    parser.add_argument("--version", action="version", version=f"camera_trap_al {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="run everything once on a small image set, without network or questions",
        description="Make a small image set, learn it by active learning with known answers, show the learning curve.",
    )
    demo.add_argument(
        "--folder",
        type=Path,
        default=Path("camera-trap-al-demo"),
        help="where photos and the finished run go (default: %(default)s)",
    )
    demo.add_argument("--seed", type=int, default=1, help="seed of the run (default: %(default)s)")
    demo.set_defaults(call=_demo)
    _add_run(commands, words)
    _add_predict(commands, with_options=command == "predict")
    _add_simulate(commands, with_options=command == "simulate")
    _add_template(commands)
    _add_doctor(commands, with_options=command == "doctor")
    return parser


def _demo(chosen: argparse.Namespace) -> None:
    from camera_trap_al.demo import run_demo  # torch is imported only when it is needed

    run_demo(chosen.folder.absolute(), seed=chosen.seed)


def _add_run(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", words: Sequence[str]) -> None:
    run = commands.add_parser(
        "run",
        help="train a classifier on your own photos, asking for labels",
        usage="%(prog)s [--settings FILE] --unlabelled-data PATH --train-data PATH [--validation-data PATH] [options]",
        description="Train an image classifier, asking a person to label the photos that are worth it. A run that was "
        "stopped goes on when the same command is given again.",
        allow_abbrev=False,  # a setting of a later version must not make an old command ambiguous
    )
    if list(words[:1]) == ["run"]:
        from camera_trap_al.cli import run as command  # and with it torch

        command.add_options(run, words[1:])
        run.set_defaults(call=command.run)


def _add_predict(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", *, with_options: bool) -> None:
    predict = commands.add_parser(
        "predict",
        help="name the species in photos with a model that a run exported",
        description="Name the species in photos with a model that a run exported. A call that was stopped goes on when "
        "the same command is given again.",
        allow_abbrev=False,  # as above
    )
    if with_options:
        from camera_trap_al.cli import predict as command

        command.add_options(predict)
        predict.set_defaults(call=command.run)


def _add_simulate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", *, with_options: bool) -> None:
    simulate = commands.add_parser(
        "simulate",
        help="compare query strategies on photos whose labels are all known",
        description="Compare query strategies on photos whose labels are all known, and say how many labels each needs "
        "for what drawing at random reaches in the end.",
        allow_abbrev=False,  # as above
    )
    if with_options:
        from camera_trap_al.cli import simulate as command

        command.add_options(simulate)
        simulate.set_defaults(call=command.run)


def _add_template(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    template = commands.add_parser(
        "template",
        help="make the Timelapse template for labelling, or add classes to it",
        description="Make a Timelapse template with a choice list of the classes and a flag Selected.",
    )
    template.add_argument("folder", metavar="UNLABELLED_FOLDER", type=Path, help="the folder of unlabelled photos")
    classes = template.add_mutually_exclusive_group(required=True)
    classes.add_argument(
        "--train-data", metavar="FOLDER", type=Path, help="the training folder, whose folders are the classes"
    )
    classes.add_argument("--classes", metavar="NAME", nargs="+", help="the classes, in the order of the list")
    template.add_argument(
        "--add", action="store_true", help="add missing classes to a template that is there (default: leave it alone)"
    )
    template.add_argument(
        "--column", metavar="NAME", default="Species", help="name of the choice list (default: %(default)s)"
    )
    template.set_defaults(call=_template)


def _template(chosen: argparse.Namespace) -> None:
    from camera_trap_al.interchange.timelapse_template import write_template
    from camera_trap_al.labelling.dialogue import say
    from camera_trap_al.photos.folders import scan_folder

    classes = chosen.classes or scan_folder(chosen.train_data).folders
    say(str(write_template(chosen.folder.absolute(), classes, add_classes=chosen.add, label_column=chosen.column)))


def _add_doctor(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", *, with_options: bool) -> None:
    doctor = commands.add_parser(
        "doctor",
        help="say whether this computer has what a run needs",
        description="Print versions, device, memory, free disk space, whether a run can write there, whether the "
        "weights of the network are in place, and what to do where something is missing. The exit status is 1 if no "
        "run can go on like this.",
    )
    if with_options:
        from camera_trap_al.cli import doctor as command  # and with it torch

        command.add_options(doctor)
        doctor.set_defaults(call=command.run)
