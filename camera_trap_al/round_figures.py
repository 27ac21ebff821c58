"""Takes stock before a question: how good the model is, whether it still changes, and what more labels may bring."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning.active_learning_manager import ActiveLearningEnvironment
from camera_trap_al.evaluation import EvaluationReport
from camera_trap_al.files import make_folder, written_aside
from camera_trap_al.progress import LABELS_AHEAD, Progress, agreement_between
from camera_trap_al.run_store import RunStore
from camera_trap_al.run_store.run_folder import results_folder
from camera_trap_al.statistics.audit import Audit, judge_audit
from camera_trap_al.statistics.forecast import Forecast, forecast

__all__ = ["audit_of", "labels_per_class", "take_stock", "why_stop"]

logger = logging.getLogger(__name__)

STOP_SET = "stop_set"  # under which the store remembers what the last model thought of the stop set


def take_stock(
    env: ActiveLearningEnvironment,
    store: RunStore,
    evaluation: EvaluationReport | None,
    seconds: Mapping[str, float],
) -> Progress:
    """Measure and record how the run stands, and write what the audit says.

    Parameters
    ----------
    env, store
        The run.
    evaluation
        The figures on the validation photos, if there are any.
    seconds
        What each stage since the last question took, by its name.
    """
    audit, history = audit_of(env), store.round_history()
    if audit is not None:
        _write_audit(env, store, audit)
    guesses = env.guesses(env.questions.stop_set)
    figures = {
        **_accuracy(evaluation, audit),
        "train_set_size": len(env.pools.labelled),
        "n_rounds": store.n_rounds(),
        "labels_per_class": labels_per_class(env),
        "n_propagated": len(env.propagation.rows),
        "agreement": _agreement(env, store, guesses, history),
        "audit": None if audit is None else audit.to_dict(),
        "seconds": _seconds(env, seconds, history),
    }
    store.record_round(env.n_answers, figures)
    store.remember(STOP_SET, {"n_answers": env.n_answers, "guesses": guesses})
    history = [past for past in history if past["n_answers"] < env.n_answers]
    return _progress(env, figures, audit, [*history, {"n_answers": env.n_answers, **figures}])


def audit_of(env: ActiveLearningEnvironment) -> Audit | None:
    """Test the model on the audit photos that have an answer by now; None if there are none."""
    guesses, dataset = env.guesses(env.pools.audit), env.dataset
    rows = np.array(list(guesses.keys()), np.int64)
    predicted = np.array(list(guesses.values()), np.int64)
    return judge_audit(dataset.targets[rows], predicted, dataset.pools.audit_groups(rows), dataset.classes)


def labels_per_class(env: ActiveLearningEnvironment) -> dict[str, int]:
    """Count the photos that the model learns from, by the name of their class."""
    counts = np.bincount(env.dataset.targets[env.pools.labelled], minlength=len(env.dataset.classes))
    return dict(zip(env.dataset.classes, counts.tolist(), strict=True))


def why_stop(progress: Progress, config: RunConfig) -> str | None:
    """Say why the run ends by its settings `target_accuracy` and `stop_when`; None if it does not."""
    if config.target_accuracy is not None and progress.reaches(config.target_accuracy):
        return "target_accuracy is reached"
    said = config.stop_when(progress) if config.stop_when is not None else None
    if not said:
        return None
    return said if isinstance(said, str) else "stop_when says so"


def _accuracy(evaluation: EvaluationReport | None, audit: Audit | None) -> dict[str, Any]:
    if evaluation is not None:
        interval = evaluation.intervals.get("accuracy")
        figures = {"accuracy": evaluation.accuracy, "interval": interval, "macro_f1": evaluation.macro_f1}
        return {"measured_on": "validation", "n_measured": evaluation.n_images, **figures}
    if audit is not None:
        figures = {"accuracy": audit.accuracy, "interval": audit.interval, "macro_f1": None}
        return {"measured_on": "audit", "n_measured": audit.n_answers, **figures}
    return {"measured_on": None, "n_measured": 0, "accuracy": None, "interval": None, "macro_f1": None}


def _agreement(
    env: ActiveLearningEnvironment,
    store: RunStore,
    guesses: Mapping[int, int],
    history: Sequence[Mapping[str, Any]],
) -> float | None:
    """Compare with the model of the round before; at a restart it stays what it was."""
    for past in history:
        if past["n_answers"] == env.n_answers:
            agreement: float | None = past["agreement"]
            return agreement
    before = store.recall(STOP_SET)
    if before is None or before["n_answers"] >= env.n_answers:
        return None
    return agreement_between(guesses, {int(row): class_id for row, class_id in before["guesses"].items()})


def _seconds(
    env: ActiveLearningEnvironment, seconds: Mapping[str, float], history: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """Add what a restart took to what the round took before it."""
    same: list[dict[str, float]] = [past["seconds"] for past in history if past["n_answers"] == env.n_answers]
    before = same[0] if same else {}
    return {name: before.get(name, 0.0) + seconds.get(name, 0.0) for name in {**before, **seconds}}


def _progress(
    env: ActiveLearningEnvironment,
    figures: Mapping[str, Any],
    audit: Audit | None,
    history: Sequence[Mapping[str, Any]],
) -> Progress:
    return Progress(
        n_answers=env.n_answers,
        n_rounds=figures["n_rounds"],
        labels_per_class=figures["labels_per_class"],
        n_propagated=figures["n_propagated"],
        measured_on=figures["measured_on"],
        n_measured=figures["n_measured"],
        accuracy=figures["accuracy"],
        interval=figures["interval"],
        macro_f1=figures["macro_f1"],
        audit=audit,
        agreements=tuple(past["agreement"] for past in history if past["agreement"] is not None),
        forecast=_forecast(env, figures["measured_on"], history),
    )


def _forecast(
    env: ActiveLearningEnvironment, measured_on: str | None, history: Sequence[Mapping[str, Any]]
) -> Forecast | None:
    """Draw the learning curve on, from the rounds that were measured on the photos that measure now."""
    measured = [past for past in history if measured_on is not None and past["measured_on"] == measured_on]
    return forecast(
        np.array([past["train_set_size"] for past in measured], np.float64),
        np.array([past["accuracy"] for past in measured], np.float64),
        np.array([_standard_error(past["accuracy"], past["n_measured"]) for past in measured], np.float64),
        ahead=LABELS_AHEAD,
        rng=env.config.generator("forecast", env.n_answers),
    )


def _standard_error(share: float, n: int) -> float:
    smoothed = (share * n + 1) / (n + 2)  # so that none is 0
    return math.sqrt(smoothed * (1 - smoothed) / n)


def _write_audit(env: ActiveLearningEnvironment, store: RunStore, audit: Audit) -> None:
    folder = results_folder(store.folder, len(env.pools.labelled))
    make_folder(folder)
    with written_aside(folder / "audit.json") as path:
        path.write_text(json.dumps(audit.to_dict(), indent=2, ensure_ascii=False), encoding="utf-8")
    logger.info("Audit with %d labels: %s", len(env.pools.labelled), audit.told)
