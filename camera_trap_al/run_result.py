"""How a run ended."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from camera_trap_al.statistics.audit import Audit

__all__ = ["RunResult"]


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Attributes
    ----------
    labels_given
        Answers over the life of the run; the training folder is not counted.
    rounds
        Rounds that were answered over the life of the run.
    validation_history
        The figures of each evaluation, with the number of labels behind it as `train_set_size`, in that order.
    export_dir
        Folder with the trained model.
    ended_because
        "everything is labelled", "every photo that may be asked about is labelled", "no unlabelled photo can be read",
        "max_labels is reached", "target_accuracy is reached", "stop_when says so" or the reason that it gave,
        "only skipped photos are left" or "the expert stopped".
    audit
        What the audit photos said at last; None without any.
    """

    labels_given: int
    rounds: int
    validation_history: tuple[Mapping[str, Any], ...]
    export_dir: Path
    ended_because: str
    audit: Audit | None = None
