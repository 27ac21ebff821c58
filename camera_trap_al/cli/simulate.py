"""The command ``camera-trap-al simulate``: an option for each setting of `simulate`, and the settings of a run."""

import argparse
from collections.abc import Sequence
from inspect import Parameter, signature
from typing import Any

from camera_trap_al.cli.options import FunctionOptions
from camera_trap_al.labelling.dialogue import say
from camera_trap_al.main_scripts import run_active_learning
from camera_trap_al.simulation import simulate

__all__ = ["add_options", "run"]

DEFAULT_FOLDER = "Simulation"
LISTS: dict[str, tuple[str, Any]] = {
    "strategies": ("NAME", str),
    "seeds": ("N", int),
    "candidate_shares": ("X", float),
}
SETTINGS = signature(simulate).parameters
OWN = {name: each for name, each in SETTINGS.items() if each.kind is Parameter.KEYWORD_ONLY}
OF_A_RUN = (
    "active_batch",
    "use_pretrained",
    "embedding_arch",
    "embedding_loss_type",
    "embedding_loss_margin",
    "embedding_loss_data_strategy",
    "feat_dim",
    "normalize_embedding",
    "extract_embedding_batch_size",
    "embedding_train_lr",
    "embedding_train_weight_decay",
    "embedding_train_num_epochs",
    "embedding_train_loader_type",
    "pretrained_weights",
    "classifier",
    "classifier_params",
    "class_weight",
    "detections",
    "detection_threshold",
    "num_workers",
    "device",
)


def add_options(parser: argparse.ArgumentParser, words: Sequence[str] = ()) -> None:
    """Add the folder, the labels, and an option for each other setting."""
    own, of_a_run = _own(), _of_a_run()
    parser.add_argument("data", metavar="FOLDER", help=own.described("data"))
    parser.add_argument("truth", metavar="TRUTH_CSV", help="CSV with File, RelativePath and Species of those photos")
    group = parser.add_argument_group("what is compared")
    for name, (metavar, kind) in LISTS.items():
        default = SETTINGS[name].default
        told = f"{own.described(name)} (default: {' '.join(map(str, default))})"
        option = f"--{name.replace('_', '-')}"
        group.add_argument(option, metavar=metavar, nargs="+", type=kind, default=default, help=told)
    own.add_to(parser)
    of_a_run.add_to(parser)


def run(chosen: argparse.Namespace) -> None:
    """Call `simulate` with what was typed, and show what it found.

    Parameters
    ----------
    chosen
        What the options that `add_options` made were given.

    Raises
    ------
    CameraTrapALError
        What `simulate` raised, with settings named as they are typed here.
    """
    own, of_a_run = _own(), _of_a_run()
    given = own.given(chosen) | of_a_run.given(chosen) | {name: getattr(chosen, name) for name in LISTS}
    with of_a_run.errors_named_as_typed(), own.errors_named_as_typed():
        result = simulate(chosen.data, chosen.truth, **given)
    say(f"\n{result.table()}\n")
    say(f"Curves, figures and a picture: {chosen.output_dir}")


def _own() -> FunctionOptions:
    settings = {name: each for name, each in OWN.items() if name not in ("embeddings", *LISTS)}
    return FunctionOptions(settings, simulate.__doc__, {"simulation": ""}, {"output_dir": DEFAULT_FOLDER})


def _of_a_run() -> FunctionOptions:
    known = signature(run_active_learning).parameters
    settings = {name: known[name] for name in OF_A_RUN}
    return FunctionOptions(settings, run_active_learning.__doc__, {"as in a run": ""})
