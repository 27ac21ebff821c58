"""An expert who tells the species by the name of the file, and the settings of runs that take a second."""

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from camera_trap_al import RunResult, run_active_learning
from camera_trap_al.query import Answer, Query


class Expert:
    """Names what the last word of a file name says, and remembers what was asked."""

    def __init__(self, stop_after: int) -> None:
        self.stop_after, self.queries = stop_after, list[Query]()

    def request_labels(self, query: Query, commit: Callable[[Answer], None]) -> Answer:
        """Answer a question, or stop after so many."""
        if len(self.queries) == self.stop_after:
            return Answer(stop=True)
        self.queries.append(query)
        names = (PurePosixPath(path).stem.rpartition(" ")[2] for path in query.paths)
        labels = {row: query.classes.index(name) for row, name in zip(query.rows.tolist(), names, strict=True)}
        answer = Answer(labels, source="expert")
        commit(answer)
        return answer

    @property
    def asked(self) -> list[list[str]]:
        """The photos of each question."""
        return [list(query.paths) for query in self.queries]


def tiny_settings(photos: Path, output_dir: Path, **changes: Any) -> dict[str, Any]:
    """Settings of a run without an audit on the folders train and unlabelled of `photos`."""
    return {
        "train_data": photos / "train",
        "unlabelled_data": photos / "unlabelled",
        "output_dir": output_dir,
        "active_batch": 3,
        "audit_fraction": 0.0,
        "embedding_train_num_epochs": 0,
        "use_pretrained": False,
        "feat_dim": 8,
        "seed": 3,
        "classifier": "logistic",
    } | changes


def tiny_run(photos: Path, output_dir: Path, *, stop_after: int = 99, **changes: Any) -> tuple[Expert, RunResult]:
    """Run with these settings until the expert stops."""
    expert = Expert(stop_after)
    return expert, run_active_learning(**tiny_settings(photos, output_dir, label_source=expert, **changes))
