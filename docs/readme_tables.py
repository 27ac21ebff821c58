"""Writes the tables of README.md that say what the code says: ``python docs/readme_tables.py``.

That of the settings is made from the signature, the docstring and the rules of a run; that of the query strategies from
what their classes say of themselves.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from inspect import Parameter, cleandoc, signature
from os import PathLike
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from camera_trap_al.active_learning_methods import STRATEGIES, QueryStrategy
from camera_trap_al.cli.options import descriptions
from camera_trap_al.config import OF_ONE_START, RunConfig
from camera_trap_al.main_scripts import run_active_learning

README = Path(__file__).parents[1] / "README.md"
SETTINGS = signature(run_active_learning).parameters
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


def table_of_settings() -> str:
    """Return a Markdown table, one line per setting in the order of the signature, ending in a line break."""
    told = descriptions(run_active_learning.__doc__ or "")
    metadata = {each.name: each.metadata for each in fields(RunConfig)}
    lines = ["| setting | type | default | unit | on resume | what it is |", "|---|---|---|---|---|---|"]
    for name, setting in SETTINGS.items():
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


def table_of_strategies() -> str:
    """Return a Markdown table, one line per strategy in the order of `STRATEGIES`, ending in a line break."""
    lines = ["| name | asks about | paper | when to use it | cost |", "|---|---|---|---|---|"]
    for name, strategy in STRATEGIES.items():
        shown = f"`{name}`" + (" (default)" if name == SETTINGS["active_learning_strategy"].default else "")
        lines.append(f"| {shown} | {_idea(strategy)} | {strategy.source} | {strategy.when} | {strategy.cost} |")
    return "\n".join(lines) + "\n"


def _idea(strategy: type[QueryStrategy]) -> str:
    """First line of the docstring, without "Ask about", the paper (it has a column) and the full stop."""
    first_line = cleandoc(strategy.__doc__ or "").split("\n")[0]
    return re.sub(r"( \[[^]]*\])?\.$", "", first_line).removeprefix("Ask about ")


TABLES: Mapping[str, Callable[[], str]] = {"settings": table_of_settings, "strategies": table_of_strategies}


def with_tables(text: str) -> str:
    """Return a text with each table between the comments that name it."""
    for name, make_table in TABLES.items():
        before, found, rest = text.partition(f"<!-- {name} -->\n")
        _, end, behind = rest.partition(f"<!-- /{name} -->")
        if not (found and end):
            raise SystemExit(
                f"{README} has no comments <!-- {name} --> and <!-- /{name} -->, between which the table is."
            )
        text = before + found + make_table() + end + behind
    return text


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
