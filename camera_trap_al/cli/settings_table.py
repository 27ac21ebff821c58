"""The README's table of settings, made from the signature, the docstring and the rules of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from inspect import Parameter, signature
from os import PathLike
from types import NoneType
from typing import Any, get_args

from camera_trap_al.cli.options import descriptions
from camera_trap_al.config import OF_ONE_START, RunConfig
from camera_trap_al.main_scripts import run_active_learning

__all__ = ["make_table"]

UNITS = {
    "active_batch": "photos",
    "extract_embedding_batch_size": "photos",
    "embedding_finetuning_period": "answers",
    "embedding_finetuning_num_epochs": "epochs",
    "embedding_train_num_epochs": "epochs",
    "feat_dim": "features",
    "balanced_loader_num_classes": "classes",
    "balanced_loader_num_samples": "photos",
    "num_workers": "threads",
    "max_labels": "answers",
    "candidate_pool": "photos",
    "image_cache_gb": "1e9 bytes",
    "accept_error": "share, 0 to 1",
    "audit_fraction": "share, 0 to 0.5",
    "target_accuracy": "share, 0 to 1",
    "detection_threshold": "confidence, 0 to 1",
    "sequence_gap": "seconds",
    "site_level": "folder, from 1",
}
WORDS = {int: "int", float: "float", str: "str", bool: "bool", NoneType: "None", Any: "object"}
WORDS |= {PathLike[str]: "path", Sequence[str]: "list", Mapping[str, str]: "dict", Mapping[str, Any]: "dict"}
FUNCTIONS = {"stop_when": "function or None", "label_source": "path, function, object or None"}


def make_table() -> str:
    """Return a Markdown table, one line per setting in the order of the signature, ending in a line break.

    ``python -c "from camera_trap_al.cli.settings_table import make_table; print(make_table())"`` shows it.
    """
    told = descriptions(run_active_learning.__doc__ or "")
    metadata = {each.name: each.metadata for each in fields(RunConfig)}
    lines = ["| setting | type | default | unit | on resume | what it is |", "|---|---|---|---|---|---|"]
    for name, setting in signature(run_active_learning).parameters.items():
        first_sentence = told[name].partition(". ")[0].rstrip(".").replace("``", "`").replace("|", "\\|")
        cells = _type(name, setting.annotation), _default(setting), UNITS.get(name, ""), _later(name, metadata[name])
        lines.append(f"| `{name}` | {' | '.join(cells)} | {first_sentence} |")
    return "\n".join(lines) + "\n"


def _type(name: str, annotation: Any) -> str:
    if name in FUNCTIONS:
        return FUNCTIONS[name]
    kinds = get_args(annotation) if annotation not in WORDS else (annotation,)
    is_path = PathLike[str] in kinds  # and a str then is one
    return " or ".join(WORDS.get(kind, "object") for kind in kinds if not (is_path and kind is str))


def _default(setting: Parameter) -> str:
    return "" if setting.default is Parameter.empty else f"`{setting.default!r}`"


def _later(name: str, metadata: Mapping[str, Any]) -> str:
    """Say what becomes of a setting when the run goes on."""
    if metadata.get("kept"):
        return "kept"
    if metadata.get("first_start"):
        return "not read"
    return "each start" if name in OF_ONE_START else "may change"
