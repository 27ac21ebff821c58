"""A run that the last version of format 1 left goes on as if it had been today's. See format_1/make.py."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from camera_trap_al import run_active_learning
from camera_trap_al.deep_learning.embedding_trainer import EmbeddingTrainer
from camera_trap_al.deep_learning.fitted_classifier import FittedClassifier
from camera_trap_al.run_store.schema import FORMAT

pytestmark = pytest.mark.usefixtures("sixteen_pixels")


@pytest.fixture
def arguments(format_1: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """Arguments that go on with the run, whose photos lie elsewhere now, with the same names, sizes and times."""
    format_1["write_photos"](tmp_path / "photos")
    format_1["write_run"](tmp_path / "run")
    made_with: dict[str, Any] = format_1["arguments"](tmp_path / "photos", tmp_path / "run")
    return made_with


def rows_of(run: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(run / "data" / "run.sqlite")) as db:
        return db.execute(statement).fetchall()


def test_it_asks_its_open_question_before_anything_is_learnt_and_goes_on_to_its_end(
    arguments: dict[str, Any],
    format_1: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run, expert = Path(arguments["output_dir"]), format_1["Expert"]()
    assert rows_of(run, "PRAGMA user_version") == [(1,)], "or this would test nothing"
    third_question = rows_of(
        run,
        "SELECT path FROM queries JOIN query_rows USING (round) JOIN photos USING (photo_row)"
        " WHERE answered_at IS NULL ORDER BY position",
    )
    events = "SELECT event, happened_at, round, photo_row, old_class, new_class, source FROM label_events"
    given = rows_of(run, events)
    evaluations = "SELECT * FROM evaluations ORDER BY train_set_size"
    measured = rows_of(run, evaluations)

    before_it_asked: list[str] = []
    afterwards: list[str] = []

    def watched(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            (afterwards if expert.asked else before_it_asked).append(name)
            return work(*args, **options)

        return call

    monkeypatch.setattr(EmbeddingTrainer, "fit", watched("training", EmbeddingTrainer.fit))
    monkeypatch.setattr(EmbeddingTrainer, "embed_batches", watched("embedding", EmbeddingTrainer.embed_batches))
    monkeypatch.setattr(FittedClassifier, "fit", watched("classifier", FittedClassifier.fit))
    result = run_active_learning(**arguments, label_source=expert)

    assert before_it_asked == []
    assert set(afterwards) == {"training", "embedding", "classifier"}
    assert "made again" not in caplog.text
    assert expert.asked[0] == tuple(path for (path,) in third_question)
    assert rows_of(run, "PRAGMA user_version") == [(FORMAT,)]
    assert rows_of(run, events)[: len(given)] == given and len(given) == 6
    assert rows_of(run, "SELECT DISTINCT kind FROM label_events") == [("label",)]
    now = [(size, json.loads(metrics)) for size, metrics in rows_of(run, evaluations)]
    for (size, metrics), (size_then, then) in zip(now[: len(measured)], measured, strict=True):
        assert size == size_then and metrics.items() >= json.loads(then).items()  # it tells more by now
    assert len(measured) == 3
    labels = rows_of(run, "SELECT path, name FROM photos LEFT JOIN classes USING (class_id) WHERE role = 1")
    assert labels == [(path, format_1["truth_of"](path)) for path, _ in labels]
    assert (result.labels_given, result.rounds, result.ended_because) == (12, 4, "everything is labelled")
    assert [point["train_set_size"] for point in result.validation_history] == [9, 12, 15, 18, 21]
