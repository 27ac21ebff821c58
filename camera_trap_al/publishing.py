"""What a run shows to people and other programs: labels, figures, the exported model, and what it thinks of photos."""

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from camera_trap_al import __version__
from camera_trap_al.deep_learning.active_learning_manager import ActiveLearningEnvironment
from camera_trap_al.deep_learning.embedding_trainer import EmbeddingTrainer
from camera_trap_al.deep_learning.network_graph import PhotoNetwork, keep_network_graph
from camera_trap_al.exceptions import DataError, RunFileError
from camera_trap_al.export import export_model
from camera_trap_al.files import digest, left_if_open
from camera_trap_al.interchange.megadetector import ANIMAL
from camera_trap_al.interchange.other_boxes import OtherBox, OtherBoxes
from camera_trap_al.interchange.recognitions import write_recognitions
from camera_trap_al.photos.images import PADDING
from camera_trap_al.pools import IndexArray
from camera_trap_al.predictions import PREDICTIONS_FILE, RECOGNITIONS_FILE, Predictions, write_predictions
from camera_trap_al.progress import Progress
from camera_trap_al.round_figures import labels_per_class, take_stock
from camera_trap_al.run_report import write_report
from camera_trap_al.run_store import RunStore
from camera_trap_al.run_store.artefact import Artefact
from camera_trap_al.run_store.run_folder import results_folder

__all__ = ["publish", "publish_pool"]

logger = logging.getLogger(__name__)

NO_ROWS: IndexArray = np.zeros(0, np.int64)
NO_BOX = (np.nan,) * 4
OTHER_BOXES = "other boxes"


def publish(env: ActiveLearningEnvironment, store: RunStore, seconds: Mapping[str, float] | None = None) -> Progress:
    """Bring everything up to date before a question: labels, figures, the exported model, what it thinks.

    Parameters
    ----------
    env, store
        The run.
    seconds
        What each stage since the last question took, by its name.
    """
    store.write_labels()
    evaluation = env.evaluate()
    if evaluation is not None:
        size = len(env.pools.labelled)
        photos = [env.dataset.catalogue.paths[row] for row in env.tested.tolist()]
        evaluation.save(results_folder(store.folder, size), photos)
        store.record_evaluation(size, evaluation.to_dict())
        logger.info("Validation with %d labels: %s, macro F1 %.3f", size, evaluation.accuracy_told, evaluation.macro_f1)
    progress = take_stock(env, store, evaluation, seconds or {})
    if isinstance(env.embedder, EmbeddingTrainer):
        export_model(
            store.folder / "export",
            env.embedder,
            env.fitted(),
            env.dataset.classes,
            labels_per_class=labels_per_class(env),
            graph=keep_network_graph(PhotoNetwork(env.embedder), store),
            calibration=env.calibrated.calibration.to_dict(),
            thresholds=env.calibrated.thresholds.to_dict(),
            validation=None if evaluation is None else evaluation.to_dict(),
            audit=None if progress.audit is None else progress.audit.to_dict(),
            n_propagated=progress.n_propagated,
            sequences=_sequences_described(env),
            crops=_crops_described(env),
        )
    if env.config.predict_pool == "rounds":
        publish_pool(env, store)
    elif env.config.predict_pool == "end" and len(env.candidates) and not env.why_finished():
        _publish_candidates(env, store)
    write_report(env, store, evaluation, progress)
    return progress


def _sequences_described(env: ActiveLearningEnvironment) -> dict[str, Any]:
    """Say how this run finds sequences, and how they are calibrated, as ``model.json`` does."""
    config, calibration = env.config, env.calibrated.of_sequences
    return {
        "gap": float(config.sequence_gap),
        "pattern": config.sequence_pattern,
        "site_level": None if config.site_level is None else int(config.site_level),
        "temperature": calibration.temperature,
        "source": calibration.source,
        "n_sequences": calibration.n_photos,
        "ece_before": calibration.ece_before,
        "ece_after": calibration.ece_after,
    }


def _crops_described(env: ActiveLearningEnvironment) -> dict[str, float]:
    """Say how animals are cut out of photos, as ``model.json`` does; nothing if the model learnt from whole photos."""
    catalogue = env.dataset.catalogue
    saw_crops = any(catalogue.box(row) is not None for row in env.pools.labelled.tolist())
    return {"padding": PADDING, "threshold": float(env.config.detection_threshold)} if saw_crops else {}


def _publish_candidates(env: ActiveLearningEnvironment, store: RunStore) -> None:
    """Write what the model thinks of the candidates, which are embedded already, unless all are predicted."""
    if _are_there(store, _lineage_of_pool(env)):
        return
    lineage = env.prediction_lineage(env.candidates, exactly=env.embedder.is_always_exact)
    lineage |= _lineage_of_boxes(env, env.candidates)
    with left_if_open():
        _write(env, store, env.predict_candidates, lineage)


def publish_pool(env: ActiveLearningEnvironment, store: RunStore) -> None:
    """Write what the model thinks of every unlabelled photo.

    Raises
    ------
    DataError
        If a file that people read may not be written, as when Excel holds it open.
    """
    try:
        _write(env, store, env.predict_pool, _lineage_of_pool(env), env.pools.decided_empty)
    except RunFileError as error:
        if not error.is_not_allowed:
            raise
        raise DataError(
            f"{error.path}: the file cannot be written ({error.strerror}). If it is open in Excel or another program, "
            "close it there and start again: what was predicted is kept.",
            error.path,
        ) from error


def _write(
    env: ActiveLearningEnvironment,
    store: RunStore,
    predict: Callable[[], Predictions],
    lineage: Mapping[str, Any],
    decided: IndexArray = NO_ROWS,
) -> None:
    """Predict and write the files for people and for Timelapse, unless they are there already.

    What a detector decided is written too, for the rows given.
    """
    if _are_there(store, lineage):
        return
    predictions = predict()
    env.save(store)
    writers = {PREDICTIONS_FILE: _write_table, RECOGNITIONS_FILE: _write_recognitions}
    store.save([Artefact(file, lineage, partial(write, env, predictions, decided)) for file, write in writers.items()])
    logger.info("Predictions of %d photos: %s", len(predictions), store.folder / PREDICTIONS_FILE)


def _are_there(store: RunStore, lineage: Mapping[str, Any]) -> bool:
    # At a start without the detection file, nothing is known of the other boxes: what has them is as good.
    unknown = set() if OTHER_BOXES in lineage else {OTHER_BOXES}
    stored = (store.lineage_of(file) for file in (PREDICTIONS_FILE, RECOGNITIONS_FILE))
    return all(
        each is not None and {name: value for name, value in each.items() if name not in unknown} == lineage
        for each in stored
    )


def _lineage_of_pool(env: ActiveLearningEnvironment) -> dict[str, Any]:
    unlabelled, decided = env.pools.unlabelled, env.pools.decided_empty
    lineage = env.prediction_lineage(unlabelled) | _lineage_of_boxes(env, np.concatenate([unlabelled, decided]))
    if len(decided):
        lineage |= {"decided": digest(decided), "as": str(env.config.detections_empty)}
    return lineage


def _lineage_of_boxes(env: ActiveLearningEnvironment, rows: IndexArray) -> dict[str, str]:
    """Name the boxes and confidences of a detector that the files repeat; nothing in a run without boxes."""
    boxes, others = env.dataset.catalogue.boxes, env.dataset.catalogue.other_boxes
    told = [(row, *(seen.box or NO_BOX), seen.surest) for row in rows.tolist() if (seen := boxes.get(row))]
    lineage = {"boxes": digest(np.array(told, np.float64))} if boxes else {}
    return lineage if others is None else lineage | {OTHER_BOXES: others.digest(rows.tolist())}


def _write_table(env: ActiveLearningEnvironment, predictions: Predictions, decided: IndexArray, path: Path) -> None:
    catalogue, decisions = env.dataset.catalogue, env.calibrated.decide(predictions)
    name = str(env.config.detections_empty)
    of_detector = ((catalogue.paths[row], name, 1 - catalogue.boxes[row].surest) for row in decided.tolist())
    write_predictions(path, predictions, catalogue.paths, catalogue.classes, decisions, decided=of_detector)


def _write_recognitions(
    env: ActiveLearningEnvironment, predictions: Predictions, decided: IndexArray, path: Path
) -> None:
    catalogue = env.dataset.catalogue
    photos = (catalogue.paths[row] for row in predictions.rows.tolist())
    seen = ((catalogue.paths[row], catalogue.boxes.get(row)) for row in predictions.rows.tolist())
    found = {photo: (boxes.box, boxes.surest) for photo, boxes in seen if boxes is not None and boxes.box is not None}
    others = catalogue.other_boxes or OtherBoxes()
    info = {"classifier": f"camera_trap_al {__version__}, {env.config.embedding_arch}"}
    info |= {"detector": others.detector} if others.detector else {}
    ids, probabilities = predictions.class_ids, predictions.probabilities
    write_recognitions(
        path,
        photos,
        env.dataset.classes,
        ids,
        probabilities,
        info=info,
        found=found,
        empty=(catalogue.paths[row] for row in decided.tolist()),
        others=_others_by_path(env, others, predictions.rows, decided),
        categories=others.categories,
        threshold=float(env.config.detection_threshold) if catalogue.boxes else 0.5,
    )


def _others_by_path(
    env: ActiveLearningEnvironment, others: OtherBoxes, predicted: IndexArray, decided: IndexArray
) -> Callable[[str], Iterable[OtherBox]]:
    """Find the other boxes of a photo; of one that is taken for empty none of animals, of which none is sure enough."""
    paths = env.dataset.catalogue.paths
    rows = {paths[row]: row for row in [*predicted.tolist(), *decided.tolist()] if row in others.texts}
    empty = {paths[row] for row in decided.tolist()}

    def of_photo(photo: str) -> Iterable[OtherBox]:
        boxes = others.boxes(rows[photo]) if photo in rows else []
        return (each for each in boxes if photo not in empty or each[0] != ANIMAL)

    return of_photo
